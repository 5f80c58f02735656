// The loop over tiles for 16-bit elements, part of `softmax_tiles.cuh`.
//
// Queries stay in registers. While a warp turns the scores of one chunk of keys into exponentials, its tensor cores make the scores
// of the next chunk, across the border of two tiles as well: there are three buffers, for the tile before, this one and the next,
// and one barrier a tile.
// Exponentials are optimistic: they are taken from the maximum known so far, which needs neither the chunk's own maximum nor a
// rescaling. Only when a lane's sum of them passes MOST (or is no number) the warp makes the scores once more and takes the new
// maximum. The result is exact for any input: what exponentials are taken from cancels when the sums are divided.
constexpr int MATRICES = WARP_ROWS / 16, STEPS = WIDTH / 16, CHUNKS = BLOCK_K / CHUNK / KEY_WARPS, BUFFERS = 3;
constexpr float MOST = 1024.f;  // fp16 holds 2¹⁶ and sums lose nothing

typedef Tile<DTYPE, WIDTH> Keys;
constexpr int TILE_BYTES = BLOCK_K * Keys::ROW_BYTES, CHUNK_BYTES = CHUNK * Keys::ROW_BYTES;
typedef float Scores[MATRICES][CHUNK / 8][4];

// One tile, as a warp sees it: addresses of its first chunk, and of the first of the next tile.
template <class Visible>
struct Step {
  u32 keys, next_keys, values;
  int first_key, first_row;
  const Rows<Visible>& rows;
  float scale_log2;
};

__device__ __forceinline__ void copy_scores(Scores& to, const Scores& from) {
#pragma unroll
  for (int m = 0; m < MATRICES; ++m)
#pragma unroll
    for (int j = 0; j < CHUNK / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) to[m][j][e] = from[m][j][e];
}

// The exponentials of a chunk: packed, and what they add to each row's sum in this lane.
struct Exponentials {
  static constexpr int PAIRS = MATRICES * CHUNK / 4;
  u32 weights[MATRICES][CHUNK / 16][4];
  float added[MATRICES][2];

  __device__ __forceinline__ Exponentials() {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) added[m][0] = added[m][1] = 0.f;
  }
  // Those of two neighbouring scores of a row, `from` being what each row's are taken from.
  __device__ __forceinline__ void take(int pair, const Scores& scores, const float (&from)[MATRICES][2], float scale_log2) {
    const int m = pair / (CHUNK / 4), j = pair % (CHUNK / 4) / 2, half = pair % 2;
    const float x = exp2_fast(fmaf(scores[m][j][2 * half], scale_log2, -from[m][half]));
    const float y = exp2_fast(fmaf(scores[m][j][2 * half + 1], scale_log2, -from[m][half]));
    added[m][half] += x + y;
    weights[m][j / 2][j % 2 * 2 + half] = pack<DTYPE>(x, y);
  }
  __device__ __forceinline__ float all() const {
    float sum = 0.f;
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) sum += added[m][0] + added[m][1];
    return sum;
  }
};

// Everything that a warp knows of its rows.
struct WarpRows {
  u32 queries[MATRICES][STEPS][4];
  float sums[MATRICES][WIDTH / 8][4];
  float base[MATRICES][2];   // of each row: what exponentials are taken from, in units of log2; −inf before the first
  float total[MATRICES][2];  // of each row: this lane's share of the sum of exponentials

  // scores = queries · a chunk of keys transposed; calls `meanwhile` for each of the STEPS, with work for the other units.
  template <class Work>
  __device__ __forceinline__ void multiply_keys(Scores& scores, u32 keys, const Work& meanwhile) const {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int j = 0; j < CHUNK / 8; ++j) scores[m][j][0] = scores[m][j][1] = scores[m][j][2] = scores[m][j][3] = 0.f;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
#pragma unroll
      for (int j = 0; j < CHUNK / 16; ++j) {
        u32 b[4];
        load_matrices(b, Keys::moved(keys, 2 * step) + 16 * j * Keys::ROW_BYTES);
#pragma unroll
        for (int m = 0; m < MATRICES; ++m) {
          multiply<DTYPE>(scores[m][2 * j], queries[m][step], b[0], b[1]);
          multiply<DTYPE>(scores[m][2 * j + 1], queries[m][step], b[2], b[3]);
        }
      }
      meanwhile(step);
    }
  }

  // sums += weights · a chunk of values.
  __device__ __forceinline__ void add_values(const u32 (&weights)[MATRICES][CHUNK / 16][4], u32 values) {
#pragma unroll
    for (int step = 0; step < CHUNK / 16; ++step)
#pragma unroll
      for (int i = 0; i < WIDTH / 16; ++i) {
        u32 b[4];
        load_matrices_transposed(b, Keys::moved(values, 2 * i) + 16 * step * Keys::ROW_BYTES);
#pragma unroll
        for (int m = 0; m < MATRICES; ++m) {
          multiply<DTYPE>(sums[m][2 * i], weights[m][step], b[0], b[1]);
          multiply<DTYPE>(sums[m][2 * i + 1], weights[m][step], b[2], b[3]);
        }
      }
  }

  // Moves each row's base up to its maximum over these scores too, and everything summed so far with it; `from` is the base, or 0
  // where it is still −inf.
  __device__ __forceinline__ void settle(float (&from)[MATRICES][2], const Scores& scores, float scale_log2) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float top = NEG_INF;
#pragma unroll
        for (int j = 0; j < CHUNK / 8; ++j) top = fmaxf(top, fmaxf(scores[m][j][2 * half], scores[m][j][2 * half + 1]));
        top = fmaxf(base[m][half], maximum_of_row(top) * scale_log2);
        from[m][half] = top == NEG_INF ? 0.f : top;
        const float correction = exp2_fast(base[m][half] - from[m][half]);
        base[m][half] = top;
        total[m][half] *= correction;
#pragma unroll
        for (int i = 0; i < WIDTH / 8; ++i) {
          sums[m][i][2 * half] *= correction;
          sums[m][i][2 * half + 1] *= correction;
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

  // Takes in chunk C of a tile, whose scores are `now`, and makes those of the next.
  template <bool MASKED, int C, class Visible>
  __device__ __forceinline__ void absorb(Scores& now, Scores& next, const Step<Visible>& step) {
    const u32 keys = step.keys + C * CHUNK_BYTES;
    const int first_key = step.first_key + C * CHUNK;
    const u32 next_keys = C + 1 < CHUNKS ? keys + CHUNK_BYTES : step.next_keys;
    if (MASKED) {
      const bool beyond = first_key >= step.rows.high(step.first_row + WARP_ROWS - 1);
      if (beyond || (first_key + CHUNK <= step.rows.low(step.first_row) && first_key >= step.rows.sinks())) {  // all hidden
        multiply_keys(next, next_keys, [](int) {});
        return;
      }
      mask(now, first_key, step.first_row, step.rows);
    }
    Exponentials found;
    multiply_keys(next, next_keys, [&](int part) {
#pragma unroll
      for (int pair = 0; pair < found.PAIRS; ++pair)
        if (pair * STEPS / found.PAIRS == part) found.take(pair, now, base, step.scale_log2);
    });
    if (!__all_sync(~0u, found.all() <= MOST)) {
      multiply_keys(now, keys, [](int) {});
      if (MASKED) mask(now, first_key, step.first_row, step.rows);
      float from[MATRICES][2];
      settle(from, now, step.scale_log2);
      found = Exponentials();
#pragma unroll
      for (int pair = 0; pair < found.PAIRS; ++pair) found.take(pair, now, from, step.scale_log2);
    }
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
      total[m][0] += found.added[m][0];
      total[m][1] += found.added[m][1];
    }
    add_values(found.weights, step.values + C * CHUNK_BYTES);
  }

  // All chunks of a tile that this warp takes but the last, or the last.
  template <bool MASKED, bool LAST, int C = LAST ? CHUNKS - 1 : 0, class Visible>
  __device__ __forceinline__ void absorb_chunks(Scores& even, Scores& odd, const Step<Visible>& step) {
    if constexpr (C < CHUNKS - !LAST) {
      absorb<MASKED, C>(C % 2 ? odd : even, C % 2 ? even : odd, step);
      absorb_chunks<MASKED, LAST, C + 1>(even, odd, step);
    }
  }
};

// Adds what the second half of the warps found to what the first found of the same rows; false in the second half.
__device__ __forceinline__ bool join_halves(WarpRows& mine, float* memory) {
  const bool second = warp() >= QUERY_WARPS;
  memory += warp() % QUERY_WARPS * MATRICES * (WIDTH / 2 + 4) * 32 + lane();
  if (second) {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
#pragma unroll
      for (int i = 0; i < WIDTH / 2; ++i) memory[(m * (WIDTH / 2 + 4) + i) * 32] = mine.sums[m][i / 4][i % 4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        memory[(m * (WIDTH / 2 + 4) + WIDTH / 2 + half) * 32] = mine.base[m][half];
        memory[(m * (WIDTH / 2 + 4) + WIDTH / 2 + 2 + half) * 32] = mine.total[m][half];
      }
    }
  }
  __syncthreads();
  if (second) return false;
#pragma unroll
  for (int m = 0; m < MATRICES; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float base = memory[(m * (WIDTH / 2 + 4) + WIDTH / 2 + half) * 32];
      const float top = fmaxf(base, mine.base[m][half]), from = top == NEG_INF ? 0.f : top;
      const float own = exp2_fast(mine.base[m][half] - from), other = exp2_fast(base - from);
      mine.base[m][half] = top;
      mine.total[m][half] = mine.total[m][half] * own + memory[(m * (WIDTH / 2 + 4) + WIDTH / 2 + 2 + half) * 32] * other;
#pragma unroll
      for (int i = 0; i < WIDTH / 8; ++i)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e)
          mine.sums[m][i][e] = mine.sums[m][i][e] * own + memory[(m * (WIDTH / 2 + 4) + 4 * i + e) * 32] * other;
    }
  return true;
}

template <class Visible>
__device__ __forceinline__ void softmax_over_tiles(const Tensors& tensors, const Shape& shape, const Visible& visible) {
  SHARED_MEMORY(memory);
  const Place block(tensors, shape);
  const Rows<Visible> rows = {visible, shape.queries, shape.heads_per_key_head};
  const int last_row = min(block.first_row + BLOCK_Q, rows.count()) - 1;
  const Walk walk = walk_of(rows, block.first_row, last_row, block.split, shape.splits);
  unsigned char* const all_values = memory + BUFFERS * TILE_BYTES;
  const auto load = [&](unsigned char* buffer, const Stored* matrix, int tile) {
    Keys{buffer}.template load<BLOCK_K, THREADS>(matrix, walk.first_key(tile), shape.keys, shape.width, shape.width);
  };
  int before = 2 * TILE_BYTES, now = 0, next = TILE_BYTES;  // the buffers of three tiles, which change places

  // Queries pass through the memory behind the first tile of keys.
  const Keys queries = {memory + TILE_BYTES};
  queries.template load_scattered<BLOCK_Q, THREADS>(block.q, block.first_row, rows.count(), shape.width,
                                                    [&](int row) { return rows.place(row); });
  if (walk.begin < walk.end) load(memory, block.k, walk.begin);
  wait_for_copies();
  __syncthreads();
  const int row0 = warp() % QUERY_WARPS * WARP_ROWS, first_row = block.first_row + row0;
  WarpRows mine;
#pragma unroll
  for (int m = 0; m < MATRICES; ++m) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step) queries.left(mine.queries[m][step], row0 + 16 * m, step);
#pragma unroll
    for (int i = 0; i < WIDTH / 8; ++i) mine.sums[m][i][0] = mine.sums[m][i][1] = mine.sums[m][i][2] = mine.sums[m][i][3] = 0.f;
    mine.base[m][0] = mine.base[m][1] = NEG_INF;
    mine.total[m][0] = mine.total[m][1] = 0.f;
  }
  __syncthreads();
  if (walk.begin < walk.end) load(all_values, block.v, walk.begin);
  if (walk.begin + 1 < walk.end) {
    load(memory + next, block.k, walk.begin + 1);
    load(all_values + next, block.v, walk.begin + 1);
  }

  // Addresses of what this lane names to load_matrices: of the first chunk that its warp takes of a tile.
  const int share = warp() / QUERY_WARPS * CHUNKS * CHUNK;
  const u32 keys = Keys{memory}.part(share + (lane() & 7) + (lane() >> 4 << 3), lane() >> 3 & 1);
  const u32 values = Keys{all_values}.part(share + (lane() & 15), lane() >> 4);
  const int whole_begin = rows.low(min(first_row + WARP_ROWS - 1, last_row)), whole_end = rows.high(first_row);
  Scores even, odd;
  mine.multiply_keys(even, keys, [](int) {});
  wait_for_copies();
  __syncthreads();
#pragma unroll 1
  for (int tile = walk.begin; tile < walk.end; ++tile) {
    const int key0 = walk.first_key(tile);
    const bool whole = key0 >= whole_begin && key0 + BLOCK_K <= whole_end;
    const Step<Visible> step = {keys + now, keys + next, values + now, key0 + share, first_row, rows, shape.scale_log2};
    if (whole)
      mine.absorb_chunks<false, false>(even, odd, step);
    else
      mine.absorb_chunks<true, false>(even, odd, step);
    wait_for_copies();
    __syncthreads();  // the next tile is here, and nobody needs the one before any more
    if (tile + 2 < walk.end) {
      load(memory + before, block.k, tile + 2);
      load(all_values + before, block.v, tile + 2);
    }
    if (whole)
      mine.absorb_chunks<false, true>(even, odd, step);
    else
      mine.absorb_chunks<true, true>(even, odd, step);
    const int spare = before;
    before = now;
    now = next;
    next = spare;
    if (CHUNKS % 2) copy_scores(even, odd);
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
