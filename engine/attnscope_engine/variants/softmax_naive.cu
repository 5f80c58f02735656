// What: softmax attention as it is written down, in three passes over n×n arrays: scores in fp32, weights in the dtype, weights · v.
// Grid → work: scores: x tiles of BLOCK_Q × BLOCK_K; weights: x blocks of 8 rows; out: x blocks of BLOCK_Q rows; y heads, z batch.
// Block → work: scores and out 2·BLOCK_Q threads, 16 rows a warp; weights 256 threads, a row a warp.
// Shared memory: scores (BLOCK_Q + BLOCK_K) · WIDTH · bytes of an element; out (BLOCK_Q · BLOCK_K + BLOCK_K · WIDTH) · the same.
// Numerics: tensor cores (fp32 as 3×TF32), fp32 accumulation, maximum subtracted, weights rounded to the dtype as it is stored.
// Limits: head_dim ≤ 256 and a multiple of 8; rows of the n×n arrays are `stride` apart, the keys rounded up to a multiple of 8.
#include "tiles.cuh"

typedef Element<DTYPE>::Stored Stored;
constexpr int STEP = Element<DTYPE>::STEP, THREADS = 2 * BLOCK_Q;

// Keys that a query sees: what lies past them is neither computed nor read.
__device__ __forceinline__ int visible_keys(int row, int queries, int keys) {
  return CAUSAL ? max(0, min(row + keys - queries + 1, keys)) : keys;
}
__device__ __forceinline__ i64 matrix() { return (i64)blockIdx.z * gridDim.y + blockIdx.y; }

extern "C" __global__ void __launch_bounds__(THREADS) softmax_naive_scores(
    const Stored* __restrict__ q, const Stored* __restrict__ k, float* __restrict__ scores, int queries, int keys, int width,
    int heads_per_key_head, int stride, float scale) {
  SHARED_MEMORY(memory);
  const Tile<DTYPE, WIDTH> rows = {memory}, columns = {memory + BLOCK_Q * rows.ROW_BYTES};
  const int key_tiles = (keys + BLOCK_K - 1) / BLOCK_K;
  const int first_row = blockIdx.x / key_tiles * BLOCK_Q, first_key = blockIdx.x % key_tiles * BLOCK_K;
  if (first_key >= visible_keys(min(first_row + BLOCK_Q, queries) - 1, queries, keys)) return;

  rows.load<BLOCK_Q, THREADS>(q + matrix() * queries * width, first_row, queries, width, width);
  columns.load<BLOCK_K, THREADS>(k + matrix() / heads_per_key_head * keys * width, first_key, keys, width, width);
  wait_for_copies();
  __syncthreads();
  float products[BLOCK_K / 8][4];
  multiply_rows<DTYPE, WIDTH, BLOCK_K>(products, rows, 16 * warp(), columns);
  float* tile = scores + matrix() * queries * stride + first_key;
  store_rows<FP32, BLOCK_K>(tile, products, first_row + 16 * warp(), queries, stride - first_key, stride, scale, scale);
}

extern "C" __global__ void __launch_bounds__(256) softmax_naive_weights(
    const float* __restrict__ scores, Stored* __restrict__ weights, int queries, int keys, int stride) {
  constexpr float LOG2_E = 1.4426950408889634f;
  const int row = blockIdx.x * 8 + warp();
  if (row >= queries) return;
  scores += (matrix() * queries + row) * stride;
  weights += (matrix() * queries + row) * stride;
  const int visible = visible_keys(row, queries, keys);

  float top = NEG_INF, sum = 0.f;
  for (int j = lane(); j < visible; j += 32) top = fmaxf(top, scores[j]);
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
  for (int j = lane(); j < visible; j += 32) sum += exp2_fast((scores[j] - top) * LOG2_E);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  const float factor = 1.f / sum;

  // The last pass reads whole tiles: zeros up to the end of the last one that this row's block reads.
  const int last_row = min(row / BLOCK_Q * BLOCK_Q + BLOCK_Q, queries) - 1;
  const int end = min(stride, (visible_keys(last_row, queries, keys) + BLOCK_K - 1) / BLOCK_K * BLOCK_K);
  for (int j = 2 * lane(); j < end; j += 64) {
    const float even = j < visible ? exp2_fast((scores[j] - top) * LOG2_E) * factor : 0.f;
    const float odd = j + 1 < visible ? exp2_fast((scores[j + 1] - top) * LOG2_E) * factor : 0.f;
    store_pair<DTYPE>(weights + j, even, odd);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax_naive_out(
    const Stored* __restrict__ weights, const Stored* __restrict__ v, Stored* __restrict__ out, int queries, int keys, int width,
    int heads_per_key_head, int stride) {
  SHARED_MEMORY(memory);
  const Tile<DTYPE, BLOCK_K> rows = {memory};
  const Tile<DTYPE, WIDTH> values = {memory + BLOCK_Q * rows.ROW_BYTES};
  const int first_row = (gridDim.x - 1 - blockIdx.x) * BLOCK_Q;
  const int end = visible_keys(min(first_row + BLOCK_Q, queries) - 1, queries, keys);
  weights += matrix() * queries * stride;
  v += matrix() / heads_per_key_head * keys * width;

  float sums[WIDTH / 8][4] = {};
#pragma unroll 1
  for (int key0 = 0; key0 < end; key0 += BLOCK_K) {
    rows.load<BLOCK_Q, THREADS>(weights + key0, first_row, queries, min(BLOCK_K, stride - key0), stride);
    values.load<BLOCK_K, THREADS>(v, key0, keys, width, width);
    wait_for_copies();
    __syncthreads();
    u32 a[BLOCK_K / STEP][4];
#pragma unroll
    for (int step = 0; step < BLOCK_K / STEP; ++step) rows.left(a[step], 16 * warp(), step);
    add_product<DTYPE, WIDTH, BLOCK_K, STORED>(sums, a, values, 1.f, 1.f);
    __syncthreads();
  }
  store_rows<DTYPE, WIDTH>(out + matrix() * queries * width, sums, first_row + 16 * warp(), queries, width, width, 1.f, 1.f);
}
