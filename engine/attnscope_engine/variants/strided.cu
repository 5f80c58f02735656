// What: exact softmax over two sets of keys, one launch each, near ones and every stride-th (or the last of every stretch); then merged.
// Grid → work: x the blocks of BLOCK_Q queries, last first; y the H heads; z the batch (few queries: see `softmax_tiles.cuh`).
// Block → work: WARP_ROWS queries a warp; all walk over the visible tiles of BLOCK_K keys. reorder: 64 rows of a head; merge: 256 parts.
// Shared memory: two buffers of BLOCK_K keys and as many values, (4·BLOCK_K) · WIDTH · 2; fp32 (BLOCK_Q + 2·BLOCK_K) · WIDTH · 4.
// Numerics: tensor cores (fp32 as 3×TF32, before sm_80 as fp32 FMA), fp32 sums; both outputs are rounded to the dtype before they merge.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any stride.
// On Hopper, 16-bit types run on its own instructions: `softmax_hopper.cuh` says how.
// Constants: ORDERED, whether rows are queries by their remainder, or as they are; REORDER and MERGE: the kernels beside attention.
#include "ptx.cuh"
#if REORDER
#include "row_order.cuh"
#elif MERGE

// a·x + b·y of one 32-bit word: a number, or two of 16 bits.
__device__ __forceinline__ u32 merged(u32 x, float a, u32 y, float b) {
  if constexpr (DTYPE == FP32) {
    return __float_as_uint(fmaf(__uint_as_float(x), a, __uint_as_float(y) * b));
  } else {
    constexpr int SIXTEEN = DTYPE == FP32 ? FP16 : DTYPE;
    const auto of = [&](int shift) {
      return fmaf(unpacked<SIXTEEN>((u16)(x >> shift)), a, unpacked<SIXTEEN>((u16)(y >> shift)) * b);
    };
    return pack<SIXTEEN>(of(0), of(16));
  }
}

// out = softmax over both sets of keys, from the softmax over each and its log-sum-exp. out, far: (B, H, rows, parts of 16 bytes).
extern "C" __global__ void __launch_bounds__(256) merge(uint4* __restrict__ out, const float* __restrict__ lse,
                                                        const uint4* __restrict__ far, const float* __restrict__ far_lse, int rows,
                                                        int parts) {
  const int place = blockIdx.x * 256 + threadIdx.x;
  if (place / parts >= rows) return;
  const i64 first = ((i64)blockIdx.z * gridDim.y + blockIdx.y) * rows, row = first + place / parts, part = first * parts + place;
  const float top = fmaxf(lse[row], far_lse[row]), shift = top == NEG_INF ? 0.f : top;
  float a = exp2_fast((lse[row] - shift) * 1.4426950408889634f), b = exp2_fast((far_lse[row] - shift) * 1.4426950408889634f);
  const float total = a + b, factor = total == 0.f ? 0.f : 1.f / total;
  a *= factor;
  b *= factor;
  const uint4 x = out[part], y = far[part];
  out[part] = make_uint4(merged(x.x, a, y.x, b), merged(x.y, a, y.y, b), merged(x.z, a, y.z, b), merged(x.w, a, y.w, b));
}

#else
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif
#include "row_table.cuh"

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) strided_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    const int* __restrict__ bounds, const int* __restrict__ order) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, RowTable<ORDERED>{queries, bounds, order});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) strided(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits,
    float scale_log2, const int* __restrict__ bounds, const int* __restrict__ order) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, RowTable<ORDERED>{queries, bounds, order});
}
#endif
#endif
