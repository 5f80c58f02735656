// What: exact softmax inside documents that lie one after the other and do not see each other; `bounds` says where each one is.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the tiles of BLOCK_K keys of their documents.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any documents; a block of queries may lie across them.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

// bounds: of each position the first of its document; not causal, behind these the first behind each document. Both are MARGIN longer
// than the keys: rows past the last are asked for too, in the last block of queries.
struct Visible {
  int offset, keys;
  const int* bounds;
  static constexpr int sinks = 0, MARGIN = 256;
  __device__ __forceinline__ int low(int row) const { return load_index(bounds + max(row + offset, 0)); }
  __device__ __forceinline__ int high(int row) const {
    if (CAUSAL) return max(0, min(row + offset + 1, keys));
    return row + offset < 0 ? 0 : load_index(bounds + keys + MARGIN + row + offset);
  }
};
static_assert(BLOCK_Q <= Visible::MARGIN, "a block of queries may begin at the last");

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) document_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2, const int* __restrict__ bounds) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys, bounds});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) document(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, const int* __restrict__ bounds) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys, bounds});
}
#endif
