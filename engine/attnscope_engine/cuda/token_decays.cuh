// Decays and time steps of keys, by the formulas of `gates.py`: x = Σ_c s_c·k_c / ‖k‖ with signs s hashed from key head and channel.
//
// Grid: blocks of 8 keys, key heads, batch; a warp a key. Constants: DTYPE, and GATES: which of the kernels below is wanted.
#include "ptx.cuh"

#if DTYPE == 0
typedef float Stored;
#else
typedef u16 Stored;
#endif

enum Gates { DECAYS = 1, STEPS = 2 };
enum Purpose { OF_DECAY = 0, OF_WRITE = 1 };
constexpr int KEYS_OF_BLOCK = 8;

__device__ __forceinline__ int lane_of_warp() { return threadIdx.x & 31; }

__device__ __forceinline__ float read(const Stored* from) {
#if DTYPE == 0
  return *from;
#else
  return unpacked<DTYPE>(*from);
#endif
}

// Two elements that lie next to each other.
__device__ __forceinline__ void write(Stored* to, float x, float y) {
#if DTYPE == 0
  to[0] = x;
  to[1] = y;
#else
  *(u32*)to = pack<DTYPE>(x, y);
#endif
}

__device__ __forceinline__ float with_sign(float x, u32 purpose, u32 head, u32 channel) {
  u32 mixed = channel + (head << 10) + ((purpose + 1) << 24);
  mixed ^= mixed >> 16;
  mixed *= 0x7feb352du;
  mixed ^= mixed >> 15;
  mixed *= 0x846ca68bu;
  mixed ^= mixed >> 16;
  return __uint_as_float(__float_as_uint(x) ^ mixed << 31);
}

__device__ __forceinline__ float sum_of_warp(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
}

// x of one key, the same in all lanes; 0 for a key of zeros.
__device__ __forceinline__ float along(const Stored* key, int width, u32 purpose, u32 head) {
  float sum = 0.f, squares = 0.f;
  for (int column = 2 * lane_of_warp(); column < width; column += 64) {
    const float x = read(key + column), y = read(key + column + 1);
    sum += with_sign(x, purpose, head, column) + with_sign(y, purpose, head, column + 1);
    squares += x * x + y * y;
  }
  sum = sum_of_warp(sum);
  squares = sum_of_warp(squares);
  return squares == 0.f ? 0.f : sum / sqrtf(squares);
}

// |x| ≤ √width: the exponential is far from any limit.
__device__ __forceinline__ float softplus(float x) { return log1pf(expf(x)); }

// log α (B, G, keys), natural: −softplus(x)·rate. With STEPS also the values times Δ = softplus(x).
extern "C" __global__ void __launch_bounds__(32 * KEYS_OF_BLOCK) decays_of_tokens(
    const Stored* __restrict__ k, const Stored* __restrict__ v, float* __restrict__ log_decay, Stored* __restrict__ scaled,
    int keys, int width, float rate) {
  const int key = blockIdx.x * KEYS_OF_BLOCK + (threadIdx.x >> 5);
  if (key >= keys) return;
  const i64 row = ((i64)blockIdx.z * gridDim.y + blockIdx.y) * keys + key;
  const float step = softplus(along(k + row * width, width, OF_DECAY, blockIdx.y));
  if (lane_of_warp() == 0) log_decay[row] = -step * rate;
  if constexpr (GATES == STEPS)
    for (int column = 2 * lane_of_warp(); column < width; column += 64) {
      const Stored* pair = v + row * width + column;
      write(scaled + row * width + column, step * read(pair), step * read(pair + 1));
    }
}

// out (B, H, queries, width) += the value of each query's own token. Grid: blocks of 256 pairs of a head's elements, heads, batch.
extern "C" __global__ void __launch_bounds__(256) add_own_values(
    const Stored* __restrict__ v, Stored* __restrict__ out, int queries, int keys, int width, int heads_per_key_head) {
  const i64 i = 2 * ((i64)blockIdx.x * 256 + threadIdx.x);
  const int key = (int)(i / width) + keys - queries;
  if (key < 0 || key >= keys) return;
  const i64 head = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  const Stored* own = v + ((head / heads_per_key_head) * keys + key) * width + i % width;
  Stored* pair = out + head * queries * width + i;
  write(pair, read(pair) + read(own), read(pair + 1) + read(own + 1));
}
