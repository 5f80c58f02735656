// What: exact softmax over a window with gaps: queries see keys of their own remainder by `dilation` only, which lie side by side here.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys. reorder: 64 rows of one head.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any window, any dilation.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if REORDER

// Row i of the result is row order[i]: x (B, H, rows, parts of 16 bytes) → the same shape.
extern "C" __global__ void __launch_bounds__(256) reorder(const uint4* __restrict__ x, uint4* __restrict__ ordered,
                                                          const int* __restrict__ order, int rows, int parts) {
  const i64 head = ((i64)blockIdx.z * gridDim.y + blockIdx.y) * rows;
  const int first = blockIdx.x * 64, count = min(64, rows - first);
  for (int i = threadIdx.x; i < count * parts; i += 256) {
    const int row = first + i / parts, part = i % parts;
    ordered[(head + row) * parts + part] = x[(head + order[row]) * parts + part];
  }
}

#else
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

// Rows are queries in another order, and so are keys. `bounds`: of each row the first key, and the first behind the last, that it sees,
// for MARGIN rows more than there are: rows past the last are asked for too, in the last block. `order`: which query a row is.
struct Visible {
  int queries;
  const int *bounds, *order;
  static constexpr int sinks = 0, MARGIN = 256;
  static constexpr bool MAPPED = true;
  __device__ __forceinline__ int low(int row) const { return load_index(bounds + 2 * max(row, 0)); }
  __device__ __forceinline__ int high(int row) const { return load_index(bounds + 2 * max(row, 0) + 1); }
  __device__ __forceinline__ int rows() const { return queries; }
  __device__ __forceinline__ int from(int row) const { return row; }
  __device__ __forceinline__ int to(int row) const { return load_index(order + row); }
};
static_assert(BLOCK_Q <= Visible::MARGIN, "a block of rows may begin at the last");

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) dilated_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    const int* __restrict__ bounds, const int* __restrict__ order) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{queries, bounds, order});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) dilated(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, const int* __restrict__ bounds, const int* __restrict__ order) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{queries, bounds, order});
}
#endif
#endif
