// What: what a device needs beside the variants: random inputs, and the loops whose speed is a ceiling.
// Grid → work: normal: pairs of elements, in strides of the whole grid; the ceilings: as many blocks as the card holds.
// Block → work: 256 threads.
// Shared memory: none.
// Numerics: normal: Box-Muller from a hash of seed and place, so that the same seed gives the same numbers on every card.
// Limits: any size.
#include "tiles.cuh"

typedef Element<DTYPE>::Stored Stored;

// splitmix64 (Steele, Lea, Flood 2014), one round: uniform bits from a counter.
__device__ __forceinline__ u64 mixed(u64 x) {
  x = (x + 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

extern "C" __global__ void __launch_bounds__(256) normal(Stored* to, i64 pairs, i64 seed) {
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < pairs; i += (i64)gridDim.x * 256) {
    const u64 bits = mixed(mixed((u64)seed) + (u64)i);
    const float uniform = ((u32)bits + 1.f) * 2.3283064e-10f, turn = (u32)(bits >> 32) * 2.3283064e-10f;
    const float radius = sqrtf(-1.3862944f * log2_fast(fminf(uniform, 1.f)));  // -2·ln 2·log2(u)
    store_pair<DTYPE>(to + 2 * i, radius * cospif(2.f * turn), radius * sinpif(2.f * turn));
  }
}

// Products of operands that stay in registers: what the tensor cores reach when nothing has to be fetched.
extern "C" __global__ void __launch_bounds__(256) products(float* out, int rounds) {
  const u64 bits = mixed(blockIdx.x * 256ull + threadIdx.x);
  u32 a[4], b[2];
  for (int i = 0; i < 6; ++i) {
    const float x = (float)(u32)(mixed(bits + i) >> 40) * 1.2e-7f - 1.f, y = (float)(u32)(mixed(bits + i + 6) >> 40) * 1.2e-7f - 1.f;
    (i < 4 ? a[i & 3] : b[i & 1]) = DTYPE == FP32 ? __float_as_uint(x) : pack<DTYPE == FP32 ? FP16 : DTYPE>(x, y);
  }
  float c[8][4] = {};
#pragma unroll 1
  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int i = 0; i < 8; ++i) multiply<DTYPE>(c[i], a, b[0], b[1]);
  float sum = 0.f;
  for (int i = 0; i < 8; ++i) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
  if (sum == 12345.f) out[0] = sum;  // never, but the compiler can not know
}

extern "C" __global__ void __launch_bounds__(256) exponentials(float* out, int rounds) {
  float x[8];
  for (int i = 0; i < 8; ++i) x[i] = threadIdx.x * 1e-3f + i;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = exp2_fast(-x[i]);
  float sum = 0.f;
  for (int i = 0; i < 8; ++i) sum += x[i];
  if (sum == 12345.f) out[0] = sum;
}

extern "C" __global__ void nothing(float*) {}
