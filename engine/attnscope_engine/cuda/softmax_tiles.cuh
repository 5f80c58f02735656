// Softmax attention of one block of queries over tiles of keys with a running maximum: no row of scores is ever stored.
//
// Source: Dao 2023, "FlashAttention-2", section 3.1, arXiv 2307.08691; the running maximum is Milakov and Gimelshein 2018, arXiv 1805.02867.
// `Visible` says which keys a query sees: [low(row), high(row)) and the first `sinks` of those below high(row); low and high never
// decrease with the row. Tiles that no row of the block sees are not visited.
// Constants: DTYPE, WIDTH (head_dim rounded up to a multiple of 32), BLOCK_Q = 16 rows a warp, BLOCK_K.
#include "tiles.cuh"

typedef Element<DTYPE>::Stored Stored;

struct Shape {
  int queries, keys, width;  // rows of q and of k; head_dim itself
  int heads_per_key_head;
  float scale_log2;  // scale · log2(e): exponentials are taken to base two
};

template <class Visible>
__device__ __forceinline__ void mask_scores(float (&scores)[BLOCK_K / 8][4], int first_key, int upper, const Visible& visible) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = upper + 8 * half, low = visible.low(row), high = visible.high(row), sinks = visible.sinks;
#pragma unroll
    for (int j = 0; j < BLOCK_K / 8; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = first_key + 8 * j + 2 * (lane() & 3) + e;
        if (key >= high || (key < low && key >= sinks)) scores[j][2 * half + e] = NEG_INF;
      }
  }
}

// Maximum and sum of one row so far. The sum is this lane's own share until the end.
struct RunningRow {
  float maximum, sum;

  // Turns the scores of a tile into exponentials and returns what everything summed so far must be multiplied by.
  template <int HALF>
  __device__ __forceinline__ float absorb(float (&scores)[BLOCK_K / 8][4], float scale_log2) {
    float top = maximum;
#pragma unroll
    for (int j = 0; j < BLOCK_K / 8; ++j) top = fmaxf(top, fmaxf(scores[j][2 * HALF], scores[j][2 * HALF + 1]));
    top = maximum_of_row(top);
    const float shift = top == NEG_INF ? 0.f : top * scale_log2;
    const float correction = exp2_fast(maximum * scale_log2 - shift);
    maximum = top;
    sum *= correction;
#pragma unroll
    for (int j = 0; j < BLOCK_K / 8; ++j)
#pragma unroll
      for (int e = 2 * HALF; e < 2 * HALF + 2; ++e) {
        scores[j][e] = exp2_fast(fmaf(scores[j][e], scale_log2, -shift));
        sum += scores[j][e];
      }
    return correction;
  }
  // Once `sum` is the whole row's.
  __device__ __forceinline__ float factor() const { return sum == 0.f ? 0.f : 1.f / sum; }
  __device__ __forceinline__ float log_sum(float scale_log2) const {
    return sum == 0.f ? NEG_INF : 0.6931471805599453f * (maximum * scale_log2 + log2_fast(sum));
  }
};

// q, out: (B, H, queries, width); k, v: (B, G, keys, width); lse: (B, H, queries). One block of the grid: BLOCK_Q queries of head
// blockIdx.y of batch blockIdx.z. A query that sees no key gives 0, and −inf as its log-sum-exp.
template <class Visible>
__device__ __forceinline__ void softmax_over_tiles(const Stored* q, const Stored* k, const Stored* v, Stored* out, float* lse,
                                                   const Shape& shape, const Visible& visible) {
  constexpr int THREADS = 2 * BLOCK_Q, STEP = Element<DTYPE>::STEP;
  SHARED_MEMORY(memory);
  const Tile<DTYPE, WIDTH> queries = {memory}, keys = {memory + BLOCK_Q * queries.ROW_BYTES};
  const Tile<DTYPE, WIDTH> values = {keys.base + BLOCK_K * keys.ROW_BYTES};

  const i64 query_matrix = (i64)blockIdx.z * gridDim.y + blockIdx.y, key_matrix = query_matrix / shape.heads_per_key_head;
  q += query_matrix * shape.queries * shape.width;
  out += query_matrix * shape.queries * shape.width;
  k += key_matrix * shape.keys * shape.width;
  v += key_matrix * shape.keys * shape.width;

  const int first_row = (gridDim.x - 1 - blockIdx.x) * BLOCK_Q;  // the longest rows of a causal call start first
  const int last_row = min(first_row + BLOCK_Q, shape.queries) - 1;
  const int first_tile = visible.low(first_row) / BLOCK_K, end_tile = (visible.high(last_row) + BLOCK_K - 1) / BLOCK_K;
  const int sink_tiles = min((visible.sinks + BLOCK_K - 1) / BLOCK_K, min(first_tile, end_tile));
  const int tiles = sink_tiles + max(end_tile - first_tile, 0);
  const auto first_key = [&](int tile) { return (tile < sink_tiles ? tile : first_tile + tile - sink_tiles) * BLOCK_K; };

  queries.load<BLOCK_Q, THREADS>(q, first_row, shape.queries, shape.width, shape.width);
  if (tiles > 0) keys.load<BLOCK_K, THREADS>(k, first_key(0), shape.keys, shape.width, shape.width);
  wait_for_copies();
  __syncthreads();

  const int row0 = 16 * warp(), upper = first_row + row0 + (lane() >> 2);
  float sums[WIDTH / 8][4] = {};
  RunningRow above = {NEG_INF, 0.f}, below = {NEG_INF, 0.f};
#pragma unroll 1
  for (int tile = 0; tile < tiles; ++tile) {
    const int key0 = first_key(tile);
    values.load<BLOCK_K, THREADS>(v, key0, shape.keys, shape.width, shape.width);  // arrives while the scores are made
    float scores[BLOCK_K / 8][4];
    multiply_rows<DTYPE, WIDTH, BLOCK_K>(scores, queries, row0, keys);
    wait_for_copies();
    __syncthreads();
    if (tile + 1 < tiles) keys.load<BLOCK_K, THREADS>(k, first_key(tile + 1), shape.keys, shape.width, shape.width);

    const bool all_visible = key0 >= visible.low(last_row) && key0 + BLOCK_K <= visible.high(first_row);
    if (!all_visible) mask_scores(scores, key0, upper, visible);
    const float correct_above = above.absorb<0>(scores, shape.scale_log2), correct_below = below.absorb<1>(scores, shape.scale_log2);
    u32 exponentials[BLOCK_K / STEP][4];
#pragma unroll
    for (int step = 0; step < BLOCK_K / STEP; ++step) left_of<DTYPE, BLOCK_K>(exponentials[step], scores, step);
    add_product<DTYPE, WIDTH, BLOCK_K, ACCUMULATED>(sums, exponentials, values, correct_above, correct_below);
    wait_for_copies();
    __syncthreads();
  }

  above.sum = sum_of_row(above.sum);
  below.sum = sum_of_row(below.sum);
  store_rows<DTYPE, WIDTH>(out, sums, first_row + row0, shape.queries, shape.width, shape.width, above.factor(), below.factor());
  if ((lane() & 3) == 0) {
    lse += query_matrix * shape.queries;
    if (upper < shape.queries) lse[upper] = above.log_sum(shape.scale_log2);
    if (upper + 8 < shape.queries) lse[upper + 8] = below.log_sum(shape.scale_log2);
  }
}
