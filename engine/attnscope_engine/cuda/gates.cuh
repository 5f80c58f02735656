// Gates, write strengths and lengths of keys, each a fixed function of one key: the formulas of `attnscope_engine/gates.py`, which says
// where they come from.
//
// Lanes share a key, four channels each; a warp has as many keys at a time as have room. Signs are a hash of purpose, head and channel.
// Constants: DTYPE.
#include "ptx.cuh"

enum Purpose { DECAY_SIGNS = 1, WRITE_SIGNS = 2 };

__device__ __forceinline__ float sign_of(Purpose purpose, u32 head, u32 channel) {
  u32 mixed = channel + (head << 10) + ((u32)purpose << 24);
  mixed = (mixed ^ (mixed >> 16)) * 0x7feb352du;
  mixed = (mixed ^ (mixed >> 15)) * 0x846ca68bu;
  return (mixed ^ (mixed >> 16)) & 1 ? -1.f : 1.f;
}
__device__ __forceinline__ float softplus(float x) { return log1pf(expf(x)); }  // x is within ±√D
// Rounded to nearest, ties to even; numbers only. Before sm_80 no instruction does it.
__device__ __forceinline__ u16 bf16_of(float x) {
  const u32 bits = __float_as_uint(x);
  return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The keys of one head: the warp takes some at `first`, and again every `step`; this lane has four channels of the one that is `place`
// further on.
struct OwnKeys {
  int width, lanes, channel, place, first, step;  // lanes of a key, a power of two

  __device__ __forceinline__ OwnKeys(int width_) : width(width_) {
    const int lane = threadIdx.x & 31, warps = 256 / 32;
    for (lanes = 1; 4 * lanes < width; lanes *= 2) {
    }
    channel = 4 * (lane & (lanes - 1));
    place = lane / lanes;
    first = (blockIdx.x * warps + threadIdx.x / 32) * (32 / lanes);
    step = gridDim.x * warps * (32 / lanes);
  }
  __device__ __forceinline__ void read(float (&x)[4], const void* keys, i64 token, bool there) const {
    x[0] = x[1] = x[2] = x[3] = 0.f;
    if (!there || channel >= width) return;
    if constexpr (DTYPE == FP32) {
      const float4 of = *(const float4*)((const float*)keys + token * width + channel);
      x[0] = of.x;
      x[1] = of.y;
      x[2] = of.z;
      x[3] = of.w;
    } else {
      constexpr int SIXTEEN = DTYPE == FP32 ? FP16 : DTYPE;
      const float2 of = *(const float2*)((const u16*)keys + token * width + channel);
      const u32 bits[2] = {__float_as_uint(of.x), __float_as_uint(of.y)};
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = unpacked<SIXTEEN>((u16)(bits[i / 2] >> i % 2 * 16));
    }
  }
  __device__ __forceinline__ float sum(float x) const {
    for (int distance = lanes / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
  }
};
// 1/length of a key by its square; 1 for a key of zeros.
__device__ __forceinline__ float inverse_length(float square) { return square == 0.f ? 1.f : 1.f / sqrtf(square); }

// β and 1/length, and with `gated` log α, of each key. `rate`: 1/half-life. Grid: blocks of 256 threads, key heads, batch.
extern "C" __global__ void __launch_bounds__(256) token_gates(const void* __restrict__ k, float* __restrict__ beta,
                                                              float* __restrict__ gates, float* __restrict__ lengths, int keys,
                                                              int width, int gated, float rate) {
  const OwnKeys own(width);
  const i64 of_head = (i64)(blockIdx.z * gridDim.y + blockIdx.y) * keys;
  float decay_signs[4], write_signs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    decay_signs[i] = sign_of(DECAY_SIGNS, blockIdx.y, own.channel + i);
    write_signs[i] = sign_of(WRITE_SIGNS, blockIdx.y, own.channel + i);
  }
  for (int first = own.first; first < keys; first += own.step) {
    const int token = first + own.place;
    float x[4], square = 0.f, decay = 0.f, write = 0.f;
    own.read(x, k, of_head + token, token < keys);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      square = fmaf(x[i], x[i], square);
      decay = fmaf(x[i], decay_signs[i], decay);
      write = fmaf(x[i], write_signs[i], write);
    }
    const float length = inverse_length(own.sum(square));
    decay = own.sum(decay) * length;
    write = own.sum(write) * length;
    if (own.channel || token >= keys) continue;
    lengths[of_head + token] = length;
    beta[of_head + token] = 1.f / (1.f + expf(-write));
    if (gated) gates[of_head + token] = -rate * softplus(decay);
  }
}

// log α of each channel of each key, of the channel that is half of all further on: fp32, or bf16 where keys are 16-bit.
extern "C" __global__ void __launch_bounds__(256) channel_gates(const void* __restrict__ k, void* __restrict__ gates, int keys, int width,
                                                                float root, float rate) {
  const OwnKeys own(width);
  const i64 of_head = (i64)(blockIdx.z * gridDim.y + blockIdx.y) * keys;
  const int turned = (own.channel + width / 2) % width;  // a multiple of four, as half of the channels are
  float signs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) signs[i] = sign_of(DECAY_SIGNS, blockIdx.y, turned + i);
  for (int first = own.first; first < keys; first += own.step) {
    const int token = first + own.place;
    float x[4], square = 0.f, gate[4];
    own.read(x, k, of_head + token, token < keys);
#pragma unroll
    for (int i = 0; i < 4; ++i) square = fmaf(x[i], x[i], square);
    const float length = inverse_length(own.sum(square)) * root;
    if (token >= keys || own.channel >= width) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) gate[i] = -rate * softplus(x[i] * length * signs[i]);
    const i64 at = (of_head + token) * width + turned;
    if constexpr (DTYPE == FP32)
      *(float4*)((float*)gates + at) = make_float4(gate[0], gate[1], gate[2], gate[3]);
    else
#pragma unroll
      for (int i = 0; i < 4; ++i) ((u16*)gates)[at + i] = bf16_of(gate[i]);
  }
}
