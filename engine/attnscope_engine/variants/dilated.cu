// What: exact softmax over a window with gaps: queries see keys of their own remainder by `dilation` only, which lie side by side here.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys. reorder: 64 rows of one head.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums, exponentials to base two of score − maximum so far.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any window, any dilation.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
#include "ptx.cuh"
#if REORDER

// Rows sorted by (row − shift) % dilation, and among equals as they were: x (B, H, rows, parts of 16 bytes) → the same shape.
extern "C" __global__ void __launch_bounds__(256) reorder(const uint4* __restrict__ x, uint4* __restrict__ ordered, int rows, int parts,
                                                          int dilation, int shift) {
  const i64 head = ((i64)blockIdx.z * gridDim.y + blockIdx.y) * rows;
  const int each = rows / dilation, more = rows % dilation, first = blockIdx.x * 64, count = min(64, rows - first);
  for (int i = threadIdx.x; i < count * parts; i += 256) {
    const int row = first + i / parts, part = i % parts;
    const int remainder = row % dilation, turn = remainder - shift + (remainder < shift ? dilation : 0);
    // Rows of the remainders that come before: shift … dilation − 1, then 0 …; the first `more` remainders have one row more.
    const int longer = min(remainder, more) - min(shift, more) + (remainder < shift ? more : 0);
    ordered[(head + turn * each + longer + row / dilation) * parts + part] = x[(head + row) * parts + part];
  }
}

#else
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

// Rows are queries sorted by row % dilation, keys are sorted to match: by (key − shift) % dilation, with `shift` keys − queries. Each
// remainder has queries_each or one more, the first `queries_more` of them, and so for keys, counted from remainder −shift on.
struct Visible {
  int keys, window, dilation, queries, queries_each, queries_more, keys_each, keys_more, shift;
  static constexpr int sinks = 0;
  static constexpr bool MAPPED = true;
  // Which remainder a row is of, counted as they lie here.
  __device__ __forceinline__ int turn_of(int row) const {
    const int longer = queries_more * (queries_each + 1);
    return row < longer ? row / (queries_each + 1) : queries_more + (row - longer) / max(queries_each, 1);
  }
  __device__ __forceinline__ int queries_before(int turn) const { return turn * queries_each + min(turn, queries_more); }
  __device__ __forceinline__ int keys_before(int turn) const {
    const int end = shift + turn, wrapped = end - dilation;
    return turn * keys_each + min(end, keys_more) - min(shift, keys_more) + (wrapped > 0 ? min(wrapped, keys_more) : 0);
  }
  // The key that lies `further` keys behind the row's own, or the nearest of its remainder.
  __device__ __forceinline__ int key(int row, int further) const {
    row = max(0, min(row, queries - 1));
    const int turn = turn_of(row), first = keys_before(turn), end = keys_before(turn + 1);
    return max(first, min(end - queries_before(turn + 1) + row + further, end));  // the last query stands at the last key
  }
  __device__ __forceinline__ int low(int row) const { return key(row, 1 - window); }
  __device__ __forceinline__ int high(int row) const { return key(row, CAUSAL ? 1 : window); }
  __device__ __forceinline__ int rows() const { return queries; }
  __device__ __forceinline__ int from(int row) const { return row; }
  __device__ __forceinline__ int to(int row) const {
    const int turn = turn_of(row);
    return turn + (row - queries_before(turn)) * dilation;
  }
};

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) dilated_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, float scale_log2,
    int window, int dilation, int queries_each, int queries_more, int keys_each, int keys_more, int shift) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call,
                    Visible{keys, window, dilation, queries, queries_each, queries_more, keys_each, keys_more, shift});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) dilated(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, int window, int dilation, int queries_each, int queries_more, int keys_each, int keys_more, int shift) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape,
                     Visible{keys, window, dilation, queries, queries_each, queries_more, keys_each, keys_more, shift});
}
#endif
#endif
