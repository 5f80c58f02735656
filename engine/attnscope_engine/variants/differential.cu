// What: exact softmax attention as `softmax_tiled.cu`, of keys half of whose channels are 0, and what comes before and after it.
// Grid → work: as `softmax_tiled.cu`; halves and subtract: x blocks of 256 pairs of a head's elements, y the heads, z the batch.
// Block → work: as `softmax_tiled.cu`; halves and subtract: a pair of elements a thread.
// Shared memory: as `softmax_tiled.cu`.
// Numerics: as `softmax_tiled.cu`; each softmax's output is rounded to the dtype, then their difference, taken in fp32.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any n_keys (causal is aligned bottom-right).
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if HALVES

#if DTYPE == 0
typedef float2 Pair;
__device__ __forceinline__ Pair no_pair() { return make_float2(0.f, 0.f); }
__device__ __forceinline__ Pair difference(Pair x, Pair y, float times) { return make_float2(x.x - times * y.x, x.y - times * y.y); }
#else
typedef u32 Pair;
__device__ __forceinline__ Pair no_pair() { return 0; }
__device__ __forceinline__ Pair difference(Pair x, Pair y, float times) {
  return pack<DTYPE>(unpacked<DTYPE>((u16)x) - times * unpacked<DTYPE>((u16)y),
                     unpacked<DTYPE>((u16)(x >> 16)) - times * unpacked<DTYPE>((u16)(y >> 16)));
}
#endif

// The pair of elements of a (tokens, width) matrix of this thread, −1 past the end; its place in all of them.
__device__ __forceinline__ i64 own_pair(int tokens, int width) {
  const i64 pair = (i64)blockIdx.x * 256 + threadIdx.x;
  return pair < (i64)tokens * (width / 2) ? pair : -1;
}
__device__ __forceinline__ i64 before_head(int tokens, int width) {
  return ((i64)blockIdx.z * gridDim.y + blockIdx.y) * tokens * (width / 2);
}

// Keys (B, G, tokens, width) to those with the channels of the second half 0, and those with the first half's 0. No pair has
// an element of each: width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(256) differential_halves(const Pair* __restrict__ k, Pair* __restrict__ first,
                                                                      Pair* __restrict__ second, int tokens, int width) {
  const i64 pair = own_pair(tokens, width);
  if (pair < 0) return;
  const i64 place = before_head(tokens, width) + pair;
  const bool early = (int)(pair % (width / 2)) < width / 4;
  first[place] = early ? k[place] : no_pair();
  second[place] = early ? no_pair() : k[place];
}

// out −= times · other.
extern "C" __global__ void __launch_bounds__(256) differential_subtract(const Pair* __restrict__ other, Pair* __restrict__ out,
                                                                        float times, int tokens, int width) {
  const i64 pair = own_pair(tokens, width);
  if (pair < 0) return;
  const i64 place = before_head(tokens, width) + pair;
  out[place] = difference(out[place], other[place], times);
}
#else
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

constexpr float OF_HALF = 1.4142135623730951f;  // (D/2)^-½ over D^-½: a product has D/2 channels that are not 0

struct Visible {
  int offset, keys;
  static constexpr int sinks = 0;
  __device__ __forceinline__ int low(int) const { return 0; }
  __device__ __forceinline__ int high(int row) const { return CAUSAL ? max(0, min(row + offset + 1, keys)) : keys; }
};

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) differential_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2 * OF_HALF};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) differential(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2 * OF_HALF};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys});
}
#endif
#endif
