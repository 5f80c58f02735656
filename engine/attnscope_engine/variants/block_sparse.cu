// What: exact softmax over the blocks of 128 keys that are listed for each block of 128 queries.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the listed tiles of BLOCK_K keys.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any lists.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

// Rows are queries with `front` empty ones before them, so that a block of rows lies within a block of positions. `lists`: where the
// list of each of `blocks` blocks begins, and the last one ends; then the lists, each ascending and causal up to the block itself. The
// first `dense` blocks see all others.
struct Visible {
  int offset, keys, queries, blocks, front, dense;
  const int* lists;
  static constexpr int sinks = 0, BLOCK = 128, TILES = BLOCK / BLOCK_K;  // tiles of a block
  static constexpr bool MAPPED = true, LISTED = true;
  __device__ __forceinline__ int position(int row) const { return row - front + offset; }
  __device__ __forceinline__ int list(int row, int further) const {
    const int block = position(row) >> 7;
    return block < 0 || block >= blocks ? 0 : load_index(lists + block + further) * TILES;
  }
  __device__ __forceinline__ int list_begin(int row) const { return list(row, 0); }
  __device__ __forceinline__ int list_end(int row) const { return list(row, 1); }
  __device__ __forceinline__ int tile(int i) const { return load_index(lists + i / TILES) * TILES + i % TILES; }
  __device__ __forceinline__ int low(int) const { return 0; }
  __device__ __forceinline__ int high(int row) const { return position(row) < 0 ? 0 : CAUSAL ? min(position(row) + 1, keys) : keys; }
#if HOPPER
  // Blocks are counted from the last row back. A box of queries may begin before the first.
  __device__ __forceinline__ int rows() const { return (front + queries + BLOCK_Q - 1) / BLOCK_Q * BLOCK_Q; }
  __device__ __forceinline__ int from(int row) const { return row - front; }
#else
  __device__ __forceinline__ int rows() const { return front + queries; }
  __device__ __forceinline__ int from(int row) const { return max(row - front, 0); }
#endif
  __device__ __forceinline__ int to(int row) const { return row >= front && row < front + queries ? row - front : -1; }
};
static_assert(Visible::BLOCK % BLOCK_Q == 0 && Visible::BLOCK % BLOCK_K == 0, "a block of rows has one list, and it is of whole tiles");

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) block_sparse_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    const int* __restrict__ lists, int blocks, int front, int dense) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys, queries, blocks, front, dense, lists});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) block_sparse(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, const int* __restrict__ lists, int blocks, int front, int dense) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys, queries, blocks, front, dense, lists});
}
#endif
