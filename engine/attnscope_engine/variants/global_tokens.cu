// What: exact softmax over a window and the first `tokens` keys; not causal, as many queries see all keys.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any window, any number of global tokens.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

// Rows 0 to `queries` are the queries and their windows. Not causal, the `dense` global queries, from `first` on, lie behind them once
// more, in blocks of their own, which see all keys: what their windows gave is dropped.
struct Visible {
  int offset, keys, window, sinks, queries, first, dense;
  static constexpr bool MAPPED = !CAUSAL;
  __device__ __forceinline__ int dense_from() const { return (queries + BLOCK_Q - 1) / BLOCK_Q * BLOCK_Q; }
  __device__ __forceinline__ bool sees_all(int row) const { return MAPPED && row >= dense_from(); }
  // A query stands at key row + offset and sees fewer than `window` keys away from it: back, or to both sides.
  __device__ __forceinline__ int low(int row) const { return sees_all(row) ? 0 : max(0, row + offset - window + 1); }
  __device__ __forceinline__ int high(int row) const {
    if (CAUSAL) return max(0, min(row + offset + 1, keys));
    return sees_all(row) ? keys : max(max(0, min(row + offset + window, keys)), min(sinks, keys));
  }
  __device__ __forceinline__ int rows() const {
    return dense ? dense_from() + (dense + BLOCK_Q - 1) / BLOCK_Q * BLOCK_Q : queries;
  }
  __device__ __forceinline__ int from(int row) const { return min(sees_all(row) ? first + row - dense_from() : row, queries - 1); }
  __device__ __forceinline__ int to(int row) const {
    if (sees_all(row)) return row - dense_from() < dense ? from(row) : -1;
    return row < queries && (row < first || row >= first + dense) ? row : -1;
  }
};

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) global_tokens_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    int window, int tokens, int first, int dense) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys, window, tokens, queries, first, dense});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) global_tokens(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, int window, int tokens, int first, int dense) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys, window, tokens, queries, first, dense});
}
#endif
