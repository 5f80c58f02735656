// What: exact softmax where the first `prefix` tokens see each other and every later one what is not after it (a prefix LM).
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any prefix; not causal it is full attention.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

struct Visible {
  int offset, keys, prefix;
  static constexpr int sinks = 0;
  __device__ __forceinline__ int low(int) const { return 0; }
  __device__ __forceinline__ int high(int row) const { return CAUSAL ? min(max(row + offset + 1, prefix), keys) : keys; }
};

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) prefix_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2, int prefix) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys, prefix});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) prefix(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, int prefix) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys, prefix});
}
#endif
