// The loop over tiles for fp32, part of `softmax_tiles.cuh`: 16 rows a warp, queries in shared memory.
//
// One tile of keys and one of values: the values arrive while the scores are made, the next keys while those are used.

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
};

template <class Visible>
__device__ __forceinline__ void softmax_over_tiles(const Tensors& tensors, const Shape& shape, const Visible& visible) {
  static_assert(WARP_ROWS == 16 && KEY_WARPS == 1, "a warp has 16 rows and all keys");
  constexpr int STEP = Element<DTYPE>::STEP;
  SHARED_MEMORY(memory);
  const Tile<DTYPE, WIDTH> queries = {memory}, keys = {memory + BLOCK_Q * queries.ROW_BYTES};
  const Tile<DTYPE, WIDTH> values = {keys.base + BLOCK_K * keys.ROW_BYTES};
  const Place block(tensors, shape);
  const Rows<Visible> rows = {visible, shape.queries, shape.heads_per_key_head};
  const int last_row = min(block.first_row + BLOCK_Q, rows.count()) - 1;
  const auto walk = walk_of(rows, block.first_row, last_row, block.split, shape.splits);

  queries.load_scattered<BLOCK_Q, THREADS>(block.q, block.first_row, rows.count(), HEAD_DIM, [&](int row) { return rows.from(row); });
  if (walk.begin < walk.end) keys.load<BLOCK_K, THREADS>(block.k, walk.first_key(walk.begin), shape.keys, HEAD_DIM, HEAD_DIM);
  wait_for_copies();
  __syncthreads();

  const int row0 = 16 * warp(), upper = block.first_row + row0 + (lane() >> 2);
  float sums[WIDTH / 8][4] = {};
  RunningRow above = {NEG_INF, 0.f}, below = {NEG_INF, 0.f};
#if CHANGES_SCORES
  const OfHead slope_above = rows.of_head(upper), slope_below = rows.of_head(upper + 8);
#endif
#pragma unroll 1
  for (int tile = walk.begin; tile < walk.end; ++tile) {
    const int key0 = walk.first_key(tile);
    values.load<BLOCK_K, THREADS>(block.v, key0, shape.keys, HEAD_DIM, HEAD_DIM);
    float scores[BLOCK_K / 8][4];
    multiply_rows<DTYPE, WIDTH, BLOCK_K>(scores, queries, row0, keys);
    wait_for_copies();
    __syncthreads();
    if (tile + 1 < walk.end) keys.load<BLOCK_K, THREADS>(block.k, walk.first_key(tile + 1), shape.keys, HEAD_DIM, HEAD_DIM);

#if CHANGES_SCORES
    visible.change.template apply<BLOCK_K / 2>(scores[0], visible.change.bias(slope_above, rows.query(upper), key0), 0,
                                               visible.change.bias(slope_below, rows.query(upper + 8), key0), 0);
#endif
    if (key0 < rows.low(last_row) || key0 + BLOCK_K > rows.high(block.first_row)) {
      mask_row<0, BLOCK_K>(scores, key0, upper, rows);
      mask_row<1, BLOCK_K>(scores, key0, upper + 8, rows);
    }
    const float correct_above = above.absorb<0>(scores, shape.scale_log2), correct_below = below.absorb<1>(scores, shape.scale_log2);
    u32 exponentials[BLOCK_K / STEP][4];
#pragma unroll
    for (int step = 0; step < BLOCK_K / STEP; ++step) left_of<DTYPE, BLOCK_K>(exponentials[step], scores, step);
    add_product<DTYPE, WIDTH, BLOCK_K, ACCUMULATED>(sums, exponentials, values, correct_above, correct_below);
    wait_for_copies();
    __syncthreads();
  }
  finish_row<0>(tensors, shape, block, rows, sums, upper, above.maximum * shape.scale_log2, sum_of_row(above.sum));
  finish_row<1>(tensors, shape, block, rows, sums, upper + 8, below.maximum * shape.scale_log2, sum_of_row(below.sum));
}
