// What: exact softmax attention, one tile of keys at a time (FlashAttention-2), with each query's log-sum-exp.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any n_keys (causal is aligned bottom-right).
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#include "scores.cuh"
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

struct Visible {
  int offset, keys;
#if CHANGES_SCORES
  ScoreChange change;
#endif
  static constexpr int sinks = 0;
  __device__ __forceinline__ int low(int) const { return 0; }
  __device__ __forceinline__ int high(int row) const { return CAUSAL ? max(0, min(row + offset + 1, keys)) : keys; }
};
#if CHANGES_SCORES  // and the scale is in them then
#define VISIBLE Visible{keys - queries, keys, {softcap, num_heads, keys - queries, scale_log2}}
#define SCALE 1.f
#else
#define VISIBLE Visible{keys - queries, keys}
#define SCALE scale_log2
#endif

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) softmax_tiled_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    int softcap, int num_heads) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, SCALE};
  softmax_on_hopper(q, k, v, out, lse, call, VISIBLE);
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) softmax_tiled(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, int softcap, int num_heads) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, SCALE};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, VISIBLE);
}
#endif
