// The loop over tiles for 16-bit elements, part of `softmax_tiles.cuh`.
//
// Queries stay in registers and keys and values are double-buffered, with one barrier a tile. Two blocks share a multiprocessor:
// while the warps of one take exponentials, those of the other keep the tensor cores busy.
// Exponentials are optimistic: they are taken from the maximum known so far, which needs neither the chunk's own maximum nor a
// rescaling. Only when a lane's sum of them passes MOST (or is no number) the warp makes the scores once more and takes the new
// maximum. In the first tile, where keys are hidden and after a tile whose maximum rose STEEPLY, it takes the maximum first. The
// result is exact for any input: what exponentials are taken from cancels when the sums are divided.
constexpr int MATRICES = WARP_ROWS / 16, STEPS = WIDTH / 16, CHUNKS = BLOCK_K / CHUNK / KEY_WARPS;
constexpr float MOST = 1024.f;  // fp16 holds 2¹⁶
constexpr float STEEPLY = 8.f;  // in units of log2: so much in one chunk, and the next is likely to pass MOST
constexpr float LOWEST = -3e38f;  // where a row has seen no key: its exponentials of any score are infinite, of a hidden one 0

typedef Tile<DTYPE, WIDTH> Keys;
constexpr int TILE_BYTES = BLOCK_K * Keys::ROW_BYTES, CHUNK_BYTES = CHUNK * Keys::ROW_BYTES;
typedef float Scores[MATRICES][CHUNK / 8][4];

// The exponentials of a chunk, packed, and each row's sum of them in this lane.
struct Exponentials {
  u32 weights[MATRICES][CHUNK / 16][4];
  float sums[MATRICES][2];

  // `from` is what each row's are taken from.
  __device__ __forceinline__ void take(const Scores& scores, const float (&from)[MATRICES][2], float scale_log2) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int j = 0; j < CHUNK / 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float x = exp2_fast(fmaf(scores[m][j][2 * half], scale_log2, -from[m][half]));
          const float y = exp2_fast(fmaf(scores[m][j][2 * half + 1], scale_log2, -from[m][half]));
          sums[m][half] = j ? sums[m][half] + (x + y) : x + y;
          weights[m][j / 2][j % 2 * 2 + half] = pack<DTYPE>(x, y);
        }
  }
  __device__ __forceinline__ bool in_range() const {
    float all = 0.f;
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) all += sums[m][0] + sums[m][1];
    return all <= MOST;
  }
};

// One tile, as a warp sees it: addresses and key of its first chunk.
template <class Visible>
struct Step {
  u32 keys, values;
  int first_key, first_row;
  const Rows<Visible>& rows;
  float scale_log2;
};

// Everything that a warp knows of its rows.
struct WarpRows {
  u32 queries[MATRICES][STEPS][4];
  float sums[MATRICES][WIDTH / 8][4];
  float base[MATRICES][2];   // of each row: what exponentials are taken from, in units of log2
  float total[MATRICES][2];  // of each row: this lane's share of the sum of exponentials
  bool careful;              // take the next tile's maximum first
#if CHANGES_SCORES
  OfHead slopes[DECODE ? 2 * MATRICES : 1];  // of each row, of which two are eight apart, or of all
#endif

  __device__ __forceinline__ WarpRows(const Keys& from, int row0) : careful(true) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
#pragma unroll
      for (int step = 0; step < STEPS; ++step) from.left(queries[m][step], row0 + 16 * m, step);
#pragma unroll
      for (int i = 0; i < WIDTH / 8; ++i) sums[m][i][0] = sums[m][i][1] = sums[m][i][2] = sums[m][i][3] = 0.f;
      base[m][0] = base[m][1] = LOWEST;
      total[m][0] = total[m][1] = 0.f;
    }
  }

  // scores = queries · a chunk of keys transposed.
  __device__ __forceinline__ void multiply_keys(Scores& scores, u32 keys) const {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int j = 0; j < CHUNK / 8; ++j) scores[m][j][0] = scores[m][j][1] = scores[m][j][2] = scores[m][j][3] = 0.f;
#pragma unroll
    for (int j = 0; j < CHUNK / 16; ++j)
#pragma unroll
      for (int step = 0; step < STEPS; ++step) {
        u32 b[4];
        load_matrices(b, Keys::moved(keys, 2 * step) + 16 * j * Keys::ROW_BYTES);
#pragma unroll
        for (int m = 0; m < MATRICES; ++m) {
          multiply<DTYPE>(scores[m][2 * j], queries[m][step], b[0], b[1]);
          multiply<DTYPE>(scores[m][2 * j + 1], queries[m][step], b[2], b[3]);
        }
      }
  }

  // The scores of chunk C of a tile.
  template <int C, class Visible>
  __device__ __forceinline__ void make(Scores& scores, const Step<Visible>& step) const {
    multiply_keys(scores, step.keys + C * CHUNK_BYTES);
#if CHANGES_SCORES
    const ScoreChange& change = step.rows.visible.change;
    const int upper = step.first_row + (lane() >> 2), first_key = step.first_key + C * CHUNK;
    const auto bias = [&](int i) { return change.bias(slopes[DECODE ? i : 0], step.rows.query(upper + 8 * i), first_key); };
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
      if (DECODE)
        change.template apply<CHUNK / 2>(scores[m][0], bias(2 * m), 0, bias(2 * m + 1), 0);
      else
        change.template apply<CHUNK / 2>(scores[m][0], bias(0), 16 * m);
#endif
  }

  // sums += weights · a chunk of values.
  __device__ __forceinline__ void add_values(const u32 (&weights)[MATRICES][CHUNK / 16][4], u32 values) {
#pragma unroll
    for (int j = 0; j < CHUNK / 16; ++j)
#pragma unroll
      for (int i = 0; i < WIDTH / 16; ++i) {
        u32 b[4];
        load_matrices_transposed(b, Keys::moved(values, 2 * i) + 16 * j * Keys::ROW_BYTES);
#pragma unroll
        for (int m = 0; m < MATRICES; ++m) {
          multiply<DTYPE>(sums[m][2 * i], weights[m][j], b[0], b[1]);
          multiply<DTYPE>(sums[m][2 * i + 1], weights[m][j], b[2], b[3]);
        }
      }
  }

  // Moves each row's base up to its maximum over these scores too, and everything summed so far with it.
  __device__ __forceinline__ void settle(const Scores& scores, float scale_log2) {
    float correction[MATRICES][2], largest_move = 0.f;
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float old = base[m][half];
        float top = NEG_INF;
#pragma unroll
        for (int j = 0; j < CHUNK / 8; ++j) top = fmaxf(top, fmaxf(scores[m][j][2 * half], scores[m][j][2 * half + 1]));
        top = fmaxf(old, maximum_of_row(top) * scale_log2);
        largest_move = fmaxf(largest_move, top - old);
        if (old > LOWEST && top - old > STEEPLY) careful = true;
        correction[m][half] = exp2_fast(old - top);
        base[m][half] = top;
      }
    careful = !__all_sync(~0u, !careful);
    if (__all_sync(~0u, largest_move == 0.f)) return;
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        total[m][half] *= correction[m][half];
#pragma unroll
        for (int i = 0; i < WIDTH / 8; ++i) {
          sums[m][i][2 * half] *= correction[m][half];
          sums[m][i][2 * half + 1] *= correction[m][half];
        }
      }
  }

  template <class Visible>
  __device__ __forceinline__ static void mask(Scores& scores, int first_key, int first_row, const Rows<Visible>& rows) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
      mask_row<0, CHUNK>(scores[m], first_key, first_row + 16 * m + (lane() >> 2), rows);
      mask_row<1, CHUNK>(scores[m], first_key, first_row + 16 * m + 8 + (lane() >> 2), rows);
    }
  }

  // Takes in chunk C of a tile, of which each row sees all.
  template <int C, class Visible>
  __device__ __forceinline__ void absorb(const Step<Visible>& step) {
    Scores scores;
    Exponentials found;
    make<C>(scores, step);
    found.take(scores, base, step.scale_log2);
    if (!__all_sync(~0u, found.in_range())) {
      make<C>(scores, step);
      settle(scores, step.scale_log2);
      found.take(scores, base, step.scale_log2);
    }
    add(found, step.values + C * CHUNK_BYTES);
  }
  // The same of any chunk, maximum first.
  template <int C, class Visible>
  __device__ __forceinline__ void absorb_carefully(const Step<Visible>& step) {
    const int first_key = step.first_key + C * CHUNK;
    const bool before = first_key + CHUNK <= step.rows.low(step.first_row) && first_key >= step.rows.sinks();
    if (before || first_key >= step.rows.high(step.first_row + WARP_ROWS - 1)) return;  // no row sees any of it
    Scores scores;
    Exponentials found;
    make<C>(scores, step);
    mask(scores, first_key, step.first_row, step.rows);
    settle(scores, step.scale_log2);
    found.take(scores, base, step.scale_log2);
    add(found, step.values + C * CHUNK_BYTES);
  }
  __device__ __forceinline__ void add(const Exponentials& found, u32 values) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
      total[m][0] += found.sums[m][0];
      total[m][1] += found.sums[m][1];
    }
    add_values(found.weights, values);
  }

  template <bool CAREFULLY, int C = 0, class Visible>
  __device__ __forceinline__ void absorb_tile(const Step<Visible>& step) {
    if (C == 0) careful = false;
    if constexpr (C < CHUNKS) {
      if constexpr (CAREFULLY)
        absorb_carefully<C>(step);
      else
        absorb<C>(step);
      absorb_tile<CAREFULLY, C + 1>(step);
    }
  }
};

// Adds what the second half of the warps found to what the first found of the same rows; false in the second half.
__device__ __forceinline__ bool join_halves(WarpRows& mine, float* memory) {
  constexpr int ROW = 32, BASE = WIDTH / 2 * ROW, TOTAL = BASE + 2 * ROW, MATRIX = TOTAL + 2 * ROW;  // a place for each lane
  const bool second = warp() >= QUERY_WARPS;
  memory += warp() % QUERY_WARPS * MATRICES * MATRIX + lane();
  if (second) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
#pragma unroll
      for (int i = 0; i < WIDTH / 2; ++i) memory[m * MATRIX + i * ROW] = mine.sums[m][i / 4][i % 4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        memory[m * MATRIX + BASE + half * ROW] = mine.base[m][half];
        memory[m * MATRIX + TOTAL + half * ROW] = mine.total[m][half];
      }
    }
  }
  __syncthreads();
  if (second) return false;
#pragma unroll
  for (int m = 0; m < MATRICES; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float base = memory[m * MATRIX + BASE + half * ROW];
      const float top = fmaxf(base, mine.base[m][half]);
      const float own = exp2_fast(mine.base[m][half] - top), other = exp2_fast(base - top);
      mine.base[m][half] = top;
      mine.total[m][half] = mine.total[m][half] * own + memory[m * MATRIX + TOTAL + half * ROW] * other;
#pragma unroll
      for (int i = 0; i < WIDTH / 8; ++i)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e)
          mine.sums[m][i][e] = mine.sums[m][i][e] * own + memory[m * MATRIX + (4 * i + e) * ROW] * other;
    }
  return true;
}

template <class Visible>
__device__ __forceinline__ void softmax_over_tiles(const Tensors& tensors, const Shape& shape, const Visible& visible) {
  SHARED_MEMORY(memory);
  const Place block(tensors, shape);
  const Rows<Visible> rows = {visible, shape.queries, shape.heads_per_key_head};
  const int last_row = min(block.first_row + BLOCK_Q, rows.count()) - 1;
  const auto walk = walk_of(rows, block.first_row, last_row, block.split, shape.splits);
  const auto load = [&](int buffer, int tile) {
    const int key0 = walk.first_key(tile);
    Keys{memory + buffer}.template load<BLOCK_K, THREADS>(block.k, key0, shape.keys, HEAD_DIM, HEAD_DIM);
    Keys{memory + buffer + TILE_BYTES}.template load<BLOCK_K, THREADS>(block.v, key0, shape.keys, HEAD_DIM, HEAD_DIM);
  };

  // Two buffers of a tile of keys and one of values. Queries pass through the second, and may need more than it.
  const Keys queries = {memory + 2 * TILE_BYTES};
  queries.template load_scattered<BLOCK_Q, THREADS>(block.q, block.first_row, rows.count(), HEAD_DIM,
                                                    [&](int row) { return rows.from(row); });
  if (walk.begin < walk.end) load(0, walk.begin);
  wait_for_copies();
  __syncthreads();
  const int row0 = warp() % QUERY_WARPS * WARP_ROWS, first_row = block.first_row + row0;
  WarpRows mine(queries, row0);
#if CHANGES_SCORES
#pragma unroll
  for (int i = 0; i < (DECODE ? 2 * MATRICES : 1); ++i) mine.slopes[i] = rows.of_head(first_row + 8 * i + (lane() >> 2));
#endif

  // Addresses of what this lane names to load_matrices: of the first chunk that its warp takes of a tile.
  const int share = warp() / QUERY_WARPS * CHUNKS * CHUNK;
  const u32 keys = Keys{memory}.part(share + (lane() & 7) + (lane() >> 4 << 3), lane() >> 3 & 1);
  const u32 values = Keys{memory + TILE_BYTES}.part(share + (lane() & 15), lane() >> 4);
  const int whole_begin = rows.low(min(first_row + WARP_ROWS - 1, last_row)), whole_end = rows.high(first_row);
  int buffer = 0;
#pragma unroll 1
  for (int tile = walk.begin; tile < walk.end; ++tile) {
    wait_for_copies();
    __syncthreads();  // this tile is here, and nobody needs the one before any more
    if (tile + 1 < walk.end) load(2 * TILE_BYTES - buffer, tile + 1);
    const int key0 = walk.first_key(tile);
    const Step<Visible> step = {keys + buffer, values + buffer, key0 + share, first_row, rows, shape.scale_log2};
    if (!mine.careful && key0 >= whole_begin && key0 + BLOCK_K <= whole_end)
      mine.absorb_tile<false>(step);
    else
      mine.absorb_tile<true>(step);
    buffer = 2 * TILE_BYTES - buffer;
  }

  if (KEY_WARPS > 1) {
    __syncthreads();
    if (!join_halves(mine, (float*)memory)) return;
  }
#pragma unroll
  for (int m = 0; m < MATRICES; ++m) {
    const int upper = first_row + 16 * m + (lane() >> 2);
    finish_row<0>(tensors, shape, block, rows, mine.sums[m], upper, mine.base[m][0], sum_of_row(mine.total[m][0]));
    finish_row<1>(tensors, shape, block, rows, mine.sums[m], upper + 8, mine.base[m][1], sum_of_row(mine.total[m][1]));
  }
}
