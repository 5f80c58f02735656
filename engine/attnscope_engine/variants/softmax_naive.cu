// What: the middle one of the three steps of softmax attention as it is written down: fp32 scores to weights in the dtype, row by row.
// Grid → work: x a row each; y heads, z batch.
// Block → work: 256 threads, one row, twice: its maximum and sum, then its weights.
// Shared memory: 64 bytes: maximum and sum of each warp.
// Numerics: fp32, running maximum, exponentials to base two, weights rounded to the dtype as they are stored.
// Limits: any size; rows of both arrays are `stride` elements apart, a multiple of 8; the two products are cuBLAS's.
#include "tiles.cuh"

typedef Element<DTYPE>::Stored Stored;
constexpr int THREADS = 256, WARPS = THREADS / 32, PART = 4;  // scores that a thread reads at once

// Maximum and sum of exponentials below it, both of some of a row's scores, in powers of two.
struct Running {
  float top, sum;
  // With those of other scores. Where both saw nothing the maximum is −∞, and there is no difference to take.
  __device__ __forceinline__ void add(float other_top, float other_sum) {
    const float higher = fmaxf(top, other_top);
    if (higher == NEG_INF) return;
    sum = sum * exp2_fast(top - higher) + other_sum * exp2_fast(other_top - higher);
    top = higher;
  }
};

// Scores j to j + 3 of a row of which `end` were multiplied, the others −∞: what lies behind the last was never written.
__device__ __forceinline__ float4 part_of(const float* scores, int j, int end) {
  if (j + PART <= end) return *(const float4*)(scores + j);
  return make_float4(scores[j], j + 1 < end ? scores[j + 1] : NEG_INF, j + 2 < end ? scores[j + 2] : NEG_INF, NEG_INF);
}

// Queries are cut into strips of `strip` rows; of each only the keys that its last row sees were multiplied, and will be.
// The weights of the rest of these keys are 0: a row that sees no key gets as many zeros as its strip has keys, at least one.
extern "C" __global__ void __launch_bounds__(THREADS) softmax_naive(
    const float* __restrict__ scores, Stored* __restrict__ weights, int queries, int keys, int stride, int strip) {
  constexpr float LOG2_E = 1.4426950408889634f;
  __shared__ float tops[WARPS], sums[WARPS];
  const int row = blockIdx.x;
  const i64 place = (((i64)blockIdx.z * gridDim.y + blockIdx.y) * queries + row) * stride;
  scores += place;
  weights += place;
  const int last = min(row / strip * strip + strip, queries) - 1;
  const int visible = CAUSAL ? max(0, min(row + keys - queries + 1, keys)) : keys;
  const int end = CAUSAL ? max(1, min(last + keys - queries + 1, keys)) : keys;

  Running mine = {NEG_INF, 0.f};
  for (int j = PART * threadIdx.x; j < visible; j += PART * THREADS) {
    const float4 x = part_of(scores, j, visible);
    const float s[PART] = {x.x * LOG2_E, x.y * LOG2_E, x.z * LOG2_E, x.w * LOG2_E};
    const float top = fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3]));
    if (top == NEG_INF) continue;
    mine.add(top, exp2_fast(s[0] - top) + exp2_fast(s[1] - top) + exp2_fast(s[2] - top) + exp2_fast(s[3] - top));
  }
  for (int step = 16; step > 0; step /= 2) mine.add(__shfl_xor_sync(~0u, mine.top, step), __shfl_xor_sync(~0u, mine.sum, step));
  if (lane() == 0) {
    tops[warp()] = mine.top;
    sums[warp()] = mine.sum;
  }
  __syncthreads();
  Running all = {tops[0], sums[0]};
  for (int i = 1; i < WARPS; ++i) all.add(tops[i], sums[i]);  // in the same order in every thread
  const float factor = 1.f / all.sum;

  for (int j = PART * threadIdx.x; j < end; j += PART * THREADS) {
    float w[PART] = {};
    if (j < visible) {
      const float4 x = part_of(scores, j, visible);
      const float s[PART] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int i = 0; i < PART; ++i) w[i] = exp2_fast(s[i] * LOG2_E - all.top) * factor;  // 0 of −∞
    }
    if constexpr (DTYPE == FP32)
      *(float4*)(weights + j) = make_float4(w[0], w[1], w[2], w[3]);
    else
      *(uint2*)(weights + j) = make_uint2(pack<DTYPE == FP32 ? FP16 : DTYPE>(w[0], w[1]), pack<DTYPE == FP32 ? FP16 : DTYPE>(w[2], w[3]));
  }
}
