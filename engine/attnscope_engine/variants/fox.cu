// What: exact softmax attention whose scores lose what gates between key and query take away, one tile of keys at a time.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch. Gates: 8 keys a block; their sums: a block a head.
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys, the nearest first.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores, fp32 sums; a bias is the difference of two fp32 sums of gates: exact to 2^-24 of the larger.
// Limits: head_dim ≤ 256 and a multiple of 8; causal only, aligned bottom-right; any n, any n_keys.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if GATES
#include "token_decays.cuh"
#elif SUMS
#include "forget_table.cuh"
#else
#include "scores.cuh"
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

struct Visible {
  int offset, keys;
  ScoreChange change;
  static constexpr int sinks = 0;
  __device__ __forceinline__ int low(int) const { return 0; }
  __device__ __forceinline__ int high(int row) const { return max(0, min(row + offset + 1, keys)); }
};

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) fox_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    const float* __restrict__ table, int stride) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, 1.f};
  const ScoreChange change = {table, stride, heads_per_key_head, keys - queries, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys, change});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) fox(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, const float* __restrict__ table, int stride) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, 1.f};
  const ScoreChange change = {table, stride, heads_per_key_head, keys - queries, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys, change});
}
#endif
#endif
