// The loop over tiles for 16-bit elements, part of `softmax_tiles.cuh`.
//
// Queries stay in registers. Work is staggered by one chunk of keys: a warp multiplies the weights of a chunk by its values after the
// scores of the next chunk are made and while their exponentials are taken, so that tensor cores and the unit for exponentials
// have something to do at the same time, across the border of two tiles as well. One barrier a tile.
// Exponentials are optimistic: they are taken from the maximum known so far, which needs neither the chunk's own maximum nor a
// rescaling. Only when a lane's sum of them passes MOST (or is no number) the warp makes the scores once more and takes the new
// maximum. The result is exact for any input: what exponentials are taken from cancels when the sums are divided.
constexpr int MATRICES = WARP_ROWS / 16, STEPS = WIDTH / 16, CHUNKS = BLOCK_K / CHUNK / KEY_WARPS;
constexpr int KEY_BUFFERS = 2, VALUE_BUFFERS = 3;  // the values of the tile before are still needed while the next arrive
constexpr float MOST = 1024.f;  // fp16 holds 2¹⁶ and sums lose nothing

typedef Tile<DTYPE, WIDTH> Keys;
constexpr int TILE_BYTES = BLOCK_K * Keys::ROW_BYTES, CHUNK_BYTES = CHUNK * Keys::ROW_BYTES;
typedef float Scores[MATRICES][CHUNK / 8][4];

// One tile, as a warp sees it: addresses of its first chunk, and of the values of its last of the tile before.
template <class Visible>
struct Step {
  u32 keys, values, last_values;
  int first_key, first_row;
  const Rows<Visible>& rows;
  float scale_log2;
};

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
  __device__ __forceinline__ void take_all(const Scores& scores, const float (&from)[MATRICES][2], float scale_log2) {
#pragma unroll
    for (int pair = 0; pair < PAIRS; ++pair) take(pair, scores, from, scale_log2);
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
  u32 weights[MATRICES][CHUNK / 16][4];  // of the last chunk, whose values are still to be added if `pending`
  bool pending;
  float sums[MATRICES][WIDTH / 8][4];
  float base[MATRICES][2];   // of each row: what exponentials are taken from, in units of log2; −inf before the first
  float total[MATRICES][2];  // of each row: this lane's share of the sum of exponentials

  // scores = queries · a chunk of keys transposed.
  __device__ __forceinline__ void multiply_keys(Scores& scores, u32 keys) const {
#pragma unroll
    for (int m = 0; m < MATRICES; ++m)
#pragma unroll
      for (int j = 0; j < CHUNK / 8; ++j) scores[m][j][0] = scores[m][j][1] = scores[m][j][2] = scores[m][j][3] = 0.f;
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
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
  }

  // sums += weights · the chunk of values before; calls `meanwhile` for each of PARTS parts, with work for the other units.
  static constexpr int PARTS = CHUNK / 16 * WIDTH / 16;
  template <class Work>
  __device__ __forceinline__ void add_values(u32 values, const Work& meanwhile) {
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
        meanwhile(step * (WIDTH / 16) + i);
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

  // Takes in chunk C of a tile, and adds the values of the one before.
  template <bool WHOLE, int C, class Visible>
  __device__ __forceinline__ void absorb(const Step<Visible>& step) {
    const u32 keys = step.keys + C * CHUNK_BYTES, values = C ? step.values + (C - 1) * CHUNK_BYTES : step.last_values;
    const int first_key = step.first_key + C * CHUNK;
    Scores scores;
    Exponentials found;
    if (WHOLE) {
      multiply_keys(scores, keys);
      add_values(values, [&](int part) {
#pragma unroll
        for (int pair = 0; pair < found.PAIRS; ++pair)
          if (pair * PARTS / found.PAIRS == part) found.take(pair, scores, base, step.scale_log2);
      });
    } else {
      if (pending) add_values(values, [](int) {});
      const bool beyond = first_key >= step.rows.high(step.first_row + WARP_ROWS - 1);
      pending = !beyond && (first_key + CHUNK > step.rows.low(step.first_row) || first_key < step.rows.sinks());
      if (!pending) return;  // no row sees any of it
      multiply_keys(scores, keys);
      mask(scores, first_key, step.first_row, step.rows);
      found.take_all(scores, base, step.scale_log2);
    }
    if (!__all_sync(~0u, found.all() <= MOST)) {
      multiply_keys(scores, keys);
      if (!WHOLE) mask(scores, first_key, step.first_row, step.rows);
      float from[MATRICES][2];
      settle(from, scores, step.scale_log2);
      found = Exponentials();
      found.take_all(scores, from, step.scale_log2);
    }
#pragma unroll
    for (int m = 0; m < MATRICES; ++m) {
      total[m][0] += found.added[m][0];
      total[m][1] += found.added[m][1];
#pragma unroll
      for (int i = 0; i < CHUNK / 16; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) weights[m][i][e] = found.weights[m][i][e];
    }
  }

  template <bool WHOLE, int C = 0, class Visible>
  __device__ __forceinline__ void absorb_tile(const Step<Visible>& step) {
    if constexpr (C < CHUNKS) {
      absorb<WHOLE, C>(step);
      absorb_tile<WHOLE, C + 1>(step);
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
  unsigned char* const all_values = memory + KEY_BUFFERS * TILE_BYTES;
  const auto load = [&](unsigned char* buffer, const Stored* matrix, int tile) {
    Keys{buffer}.template load<BLOCK_K, THREADS>(matrix, walk.first_key(tile), shape.keys, shape.width, shape.width);
  };

  // Queries pass through the memory behind the first tile of keys.
  const Keys queries = {memory + TILE_BYTES};
  queries.template load_scattered<BLOCK_Q, THREADS>(block.q, block.first_row, rows.count(), shape.width,
                                                    [&](int row) { return rows.place(row); });
  if (walk.begin < walk.end) load(memory, block.k, walk.begin);
  wait_for_copies();
  __syncthreads();
  const int row0 = warp() % QUERY_WARPS * WARP_ROWS, first_row = block.first_row + row0;
  WarpRows mine;
  mine.pending = false;
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

  // Addresses of what this lane names to load_matrices: of the first chunk that its warp takes of a tile.
  const int share = warp() / QUERY_WARPS * CHUNKS * CHUNK;
  const u32 keys = Keys{memory}.part(share + (lane() & 7) + (lane() >> 4 << 3), lane() >> 3 & 1);
  const u32 values = Keys{all_values}.part(share + (lane() & 15), lane() >> 4);
  const int whole_begin = rows.low(min(first_row + WARP_ROWS - 1, last_row)), whole_end = rows.high(first_row);
  int before = 2 * TILE_BYTES, now = 0, next = TILE_BYTES, key_buffer = 0;  // the buffers of three tiles change places
#pragma unroll 1
  for (int tile = walk.begin; tile < walk.end; ++tile) {
    wait_for_copies();
    __syncthreads();  // this tile is here, and nobody needs the one before the last any more
    if (tile + 1 < walk.end) {
      load(memory + (TILE_BYTES - key_buffer), block.k, tile + 1);
      load(all_values + next, block.v, tile + 1);
    }
    const int key0 = walk.first_key(tile);
    const u32 last_values = values + before + (CHUNKS - 1) * CHUNK_BYTES;
    const Step<Visible> step = {keys + key_buffer, values + now, last_values, key0 + share, first_row, rows, shape.scale_log2};
    if (mine.pending && key0 >= whole_begin && key0 + BLOCK_K <= whole_end)
      mine.absorb_tile<true>(step);
    else
      mine.absorb_tile<false>(step);
    const int spare = before;
    before = now;
    now = next;
    next = spare;
    key_buffer = TILE_BYTES - key_buffer;
  }
  if (mine.pending) mine.add_values(values + before + (CHUNKS - 1) * CHUNK_BYTES, [](int) {});

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
