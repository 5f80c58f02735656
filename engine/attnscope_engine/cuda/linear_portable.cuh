// Linear attention on every card, chunk by chunk: a block walks over a segment of one head's tokens, the state stays in registers.
//
// Sources: Katharopoulos et al. 2020, arXiv 2006.16236; chunks: Yang et al. 2024, section 4, arXiv 2312.06635.
// A warp keeps 16 columns of the values: their state turned, as (16 values × WIDTH keys) accumulators, which packed are at once the
// right operand of out = φ(q)·S; so each warp stores 16 columns of the outputs and never waits for another's state. One warp more has
// the normaliser as a value that is 1 for every token: what it finds in the place of outputs is what they are divided by.
// Constants beside those of `linear.cuh`: STAGES, chunks in shared memory, 1 or 2.
#include "tiles.cuh"
#include "linear.cuh"

typedef Element<DTYPE>::Stored Stored;
typedef Tile<DTYPE, WIDTH> Rows;
typedef Tile<DTYPE, CHUNK> Weights;
constexpr int STEP = Element<DTYPE>::STEP, STEPS = CHUNK / STEP, GROUPS = CHUNK / 16;  // steps of a product; 16 tokens each
constexpr int VALUE_WARPS = WIDTH / 16, WARPS = VALUE_WARPS + (NORMALISED ? 1 : 0), THREADS = 32 * WARPS;
constexpr int TILE_BYTES = CHUNK * Rows::ROW_BYTES;
// Warps that share 16 rows of the weights: each has so many columns.
constexpr int SHARERS = VALUE_WARPS / GROUPS < GROUPS ? VALUE_WARPS / GROUPS : GROUPS, SHARE = CHUNK / SHARERS;

// Decays of the tokens of a chunk, two chunks in turn; divisors of its outputs.
struct Vectors {
  float until[2][CHUNK], left[2][CHUNK], whole[2], divisors[CHUNK];
};

// Shared memory: stages of those of (queries, keys, values) that a kernel reads, weights, vectors.
template <bool QUERIES_, bool KEYS_>
struct Memory {
  static constexpr bool QUERIES = QUERIES_, KEYS = KEYS_;
  static constexpr int STAGE = (QUERIES + 2 * KEYS) * TILE_BYTES, WEIGHTS_AT = STAGES * STAGE;
  static constexpr int VECTORS_AT = WEIGHTS_AT + (QUERIES && KEYS ? CHUNK * Weights::ROW_BYTES : 0);
  unsigned char* base;

  __device__ __forceinline__ Rows queries(int i) const { return {base + i % STAGES * STAGE}; }
  __device__ __forceinline__ Rows keys(int i) const { return {queries(i).base + (QUERIES ? TILE_BYTES : 0)}; }
  __device__ __forceinline__ Rows values(int i) const { return {keys(i).base + TILE_BYTES}; }
  __device__ __forceinline__ Weights weights() const { return {base + WEIGHTS_AT}; }
  __device__ __forceinline__ Vectors& vectors() const { return *(Vectors*)(base + VECTORS_AT); }
};

// ---------------------------------------------------------------- what comes into shared memory

// Tokens first … first+CHUNK of a matrix; zeros for those that are not there.
__device__ __forceinline__ void load_tokens(const Rows& tile, const Stored* matrix, int first, int tokens, int width) {
#pragma unroll 4
  for (int i = threadIdx.x; i < CHUNK * Rows::PARTS; i += THREADS) {
    const int row = i / Rows::PARTS, part = i % Rows::PARTS, token = first + row, column = part * Rows::PER_PART;
    const bool there = token >= 0 && token < tokens && column < width;
    copy_16(tile.part(row, part), matrix + (there ? (i64)token * width + column : 0), there);
  }
}

__device__ __forceinline__ u32 feature_of_word(u32 word) {
  if constexpr (DTYPE == FP32)
    return __float_as_uint(feature(__uint_as_float(word)));
  else
    return pack<DTYPE>(feature(unpacked<DTYPE>((u16)word)), feature(unpacked<DTYPE>((u16)(word >> 16))));
}

// φ in place. Keys that are not there, and columns past head_dim, must add nothing, and φ(0) may be 1.
__device__ __forceinline__ void map_tile(const Rows& tile, int low, int high, int width) {
#pragma unroll 4
  for (int i = threadIdx.x; i < CHUNK * Rows::PARTS; i += THREADS) {
    const int row = i / Rows::PARTS, column = i % Rows::PARTS * Rows::PER_PART;
    uint4* const part = (uint4*)tile.at(row, column);
    const uint4 x = *part;
    const bool there = row >= low && row < high && column < width;
    *part = there ? make_uint4(feature_of_word(x.x), feature_of_word(x.y), feature_of_word(x.z), feature_of_word(x.w))
                  : make_uint4(0, 0, 0, 0);
  }
}

// One warp: decays of the chunk at `position`, into place `which`. Returns log2 of the whole chunk's.
__device__ __forceinline__ float write_decays(Vectors& vectors, int which, const Forgetting& forgetting, int position) {
  float g[2] = {0.f, 0.f};
  if (2 * lane() < CHUNK) forgetting.read(g, position + 2 * lane());
  const Forgotten forgotten(g);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    if (2 * lane() >= CHUNK) continue;
    vectors.until[which][2 * lane() + e] = forgotten.until[e];
    vectors.left[which][2 * lane() + e] = exp2_fast(forgotten.all - forgotten.until[e]);
  }
  if (lane() == 0) vectors.whole[which] = exp2_fast(forgotten.all);
  return forgotten.all;
}

// ---------------------------------------------------------------- operands

// 16 rows of queries as a left operand whose elements are ordered as an accumulator has its columns.
__device__ __forceinline__ void left_for_state(u32 (&a)[4], const Rows& queries, int row0, int step) {
  if constexpr (DTYPE == FP32) {
    const int row = row0 + (lane() >> 2), column = STEP * step + 2 * (lane() & 3);
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = queries.bits(row + i % 2 * 8, column + i / 2);
  } else {
    queries.left(a, row0, step);
  }
}
// Rows of the state as two right operands, 8 values each, of products with queries; of 16-bit types also what rounding took.
__device__ __forceinline__ void right_of_state(u32 (&b)[4], u32 (&rest)[4], const float (&state)[WIDTH / 8][4], int step,
                                               float shrink) {
  if constexpr (DTYPE == FP32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i] = __float_as_uint(state[step][i]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* pair = &state[2 * step + i % 2][i / 2 * 2];
      const float x = pair[0] * shrink, y = pair[1] * shrink;
      b[i] = pack<DTYPE>(x, y);
      rest[i] = pack<DTYPE>(x - unpacked<DTYPE>((u16)b[i]), y - unpacked<DTYPE>((u16)(b[i] >> 16)));
    }
  }
}

__device__ __forceinline__ u32 one_of(float x) { return DTYPE == FP32 ? __float_as_uint(x) : pack<DTYPE == FP32 ? FP16 : DTYPE>(x, x); }

// The columns of values that a warp keeps, or its ones.
struct OwnValues {
  Rows values;
  int column0;
  bool ones;

  // As right operands of a product with weights.
  __device__ __forceinline__ void right(u32 (&b)[4], int step) const {
    if (ones) {
      b[0] = b[1] = (lane() >> 2) == 0 ? one_of(1.f) : 0;
      b[2] = b[3] = 0;
    } else {
      values.template right_columns<STORED>(b, STEP * step, column0);
    }
  }
  // Turned, as left operands of products with keys, each token times what is left of it at the end.
  __device__ __forceinline__ void left(u32 (&a)[STEPS][4], const float* left_at_end) const {
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      if (ones) {
        a[step][0] = a[step][2] = (lane() >> 2) == 0 ? one_of(1.f) : 0;
        a[step][1] = a[step][3] = 0;
      } else {
        values.left_columns(a[step], STEP * step, column0);
      }
      if (DECAY) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if constexpr (DTYPE == FP32) {
            a[step][i] = __float_as_uint(__uint_as_float(a[step][i]) * left_at_end[STEP * step + (lane() & 3) + i / 2 * 4]);
          } else {
            const float* of = left_at_end + STEP * step + 2 * (lane() & 3) + i / 2 * 8;
            a[step][i] = pack<DTYPE>(unpacked<DTYPE>((u16)a[step][i]) * of[0], unpacked<DTYPE>((u16)(a[step][i] >> 16)) * of[1]);
          }
        }
      }
    }
  }
};

// ---------------------------------------------------------------- a state in registers and in memory

__device__ __forceinline__ void load_state(float (&state)[WIDTH / 8][4], const float* from) {
  if (warp() < VALUE_WARPS) {
    const float4* at = (const float4*)from + warp() * (WIDTH / 8) * 32 + lane();
#pragma unroll
    for (int i = 0; i < WIDTH / 8; ++i) {
      const float4 x = at[32 * i];
      state[i][0] = x.x;
      state[i][1] = x.y;
      state[i][2] = x.z;
      state[i][3] = x.w;
    }
  } else if (lane() < 4) {
#pragma unroll
    for (int i = 0; i < WIDTH / 8; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) state[i][e] = from[NORMALISER_AT + 8 * i + 2 * lane() + e];
  }
}
__device__ __forceinline__ void store_state(float* to, const float (&state)[WIDTH / 8][4]) {
  if (warp() < VALUE_WARPS) {
    float4* at = (float4*)to + warp() * (WIDTH / 8) * 32 + lane();
#pragma unroll
    for (int i = 0; i < WIDTH / 8; ++i) at[32 * i] = make_float4(state[i][0], state[i][1], state[i][2], state[i][3]);
  } else if (lane() < 4) {
#pragma unroll
    for (int i = 0; i < WIDTH / 8; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) to[NORMALISER_AT + 8 * i + 2 * lane() + e] = state[i][e];
  }
}

// ---------------------------------------------------------------- what a chunk does

// Products of queries and keys, masked, decayed and scaled, to shared memory: 16 rows and SHARE columns a warp.
__device__ __forceinline__ void weigh(const Weights& weights, const Rows& queries, const Rows& keys, const float* until, float scale) {
  if (warp() >= GROUPS * SHARERS) return;
  const int row0 = warp() / SHARERS * 16, column0 = warp() % SHARERS * SHARE;
  float products[SHARE / 8][4] = {};
#pragma unroll 2
  for (int step = 0; step < WIDTH / STEP; ++step) {
    u32 a[4];
    queries.left(a, row0, step);
#pragma unroll
    for (int j = 0; j < SHARE / 16; ++j) {
      if (column0 + 16 * j > row0) continue;  // nothing of it is seen
      u32 b[4];
      keys.right_rows(b, column0 + 16 * j, step);
      multiply<DTYPE>(products[2 * j], a, b[0], b[1]);
      multiply<DTYPE>(products[2 * j + 1], a, b[2], b[3]);
    }
  }
#pragma unroll
  for (int j = 0; j < SHARE / 8; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + (lane() >> 2) + 8 * half, column = column0 + 8 * j + 2 * (lane() & 3);
      float x[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        x[e] = column + e <= row ? products[j][2 * half + e] * scale : 0.f;
        if (DECAY) x[e] *= exp2_fast(fminf(until[row] - until[column + e], 0.f));
      }
      store_pair<DTYPE>(weights.at(row, column), x[0], x[1]);
    }
}

typedef float Outputs[GROUPS][2][4];  // 16 tokens, 8 columns of the values each

// outputs = queries · state, each row times how much of the state is left when it comes.
__device__ __forceinline__ void read_state(Outputs& outputs, const Rows& queries, const float (&state)[WIDTH / 8][4], const float* until,
                                           float scale, float shrink) {
#pragma unroll
  for (int m = 0; m < GROUPS; ++m)
#pragma unroll
    for (int e = 0; e < 4; ++e) outputs[m][0][e] = outputs[m][1][e] = 0.f;
#pragma unroll
  for (int step = 0; step < WIDTH / STEP; ++step) {
    u32 b[4], rest[4];
    right_of_state(b, rest, state, step, shrink);
#pragma unroll
    for (int m = 0; m < GROUPS; ++m) {
      u32 a[4];
      left_for_state(a, queries, 16 * m, step);
      multiply<DTYPE>(outputs[m][0], a, b[0], b[1]);
      multiply<DTYPE>(outputs[m][1], a, b[2], b[3]);
      if (DTYPE != FP32 && !CAUSAL) {  // without a mask all keys are in one state, which then is worth it
        multiply<DTYPE>(outputs[m][0], a, rest[0], rest[1]);
        multiply<DTYPE>(outputs[m][1], a, rest[2], rest[3]);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < GROUPS; ++m)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float factor = scale * (1.f / shrink) * (DECAY && CAUSAL ? exp2_fast(until[16 * m + (lane() >> 2) + e / 2 * 8]) : 1.f);
      outputs[m][0][e] *= factor;
      outputs[m][1][e] *= factor;
    }
}

// outputs += weights · values.
__device__ __forceinline__ void read_chunk(Outputs& outputs, const Weights& weights, const OwnValues& own) {
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    u32 b[4];
    own.right(b, step);
#pragma unroll
    for (int m = 0; m < GROUPS; ++m) {
      if (STEP * step > 16 * m + 15) continue;  // after all of these queries
      u32 a[4];
      weights.left(a, 16 * m, step);
      multiply<DTYPE>(outputs[m][0], a, b[0], b[1]);
      multiply<DTYPE>(outputs[m][1], a, b[2], b[3]);
    }
  }
}

// Divides, where that is wanted, by what the warp of ones found, and stores the rows that there are.
__device__ __forceinline__ void store_outputs(Stored* out, const Outputs& outputs, float* divisors, int first, int queries, int width) {
  if (NORMALISED) {
    if (warp() == VALUE_WARPS && (lane() & 3) == 0) {
#pragma unroll
      for (int m = 0; m < GROUPS; ++m) {
        divisors[16 * m + (lane() >> 2)] = outputs[m][0][0];
        divisors[16 * m + (lane() >> 2) + 8] = outputs[m][0][2];
      }
    }
    __syncthreads();
    if (warp() == VALUE_WARPS) return;
  }
#pragma unroll
  for (int m = 0; m < GROUPS; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 16 * m + (lane() >> 2) + 8 * half;
      const float divisor = NORMALISED ? divisors[row] : 1.f, factor = divisor == 0.f ? 0.f : 1.f / divisor;
      Stored* const to = out + (i64)(first + row) * width + 16 * warp();
      if constexpr (DTYPE == FP32) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int column = 8 * j + 2 * (lane() & 3);
          if (first + row < queries && 16 * warp() + column < width)
            store_pair<DTYPE>(to + column, outputs[m][j][2 * half] * factor, outputs[m][j][2 * half + 1] * factor);
        }
      } else {
        // Pairs of lanes exchange what they have, so that each has four neighbouring columns, and a row of 32 bytes is stored at once.
        u32 pairs[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) pairs[j] = pack<DTYPE>(outputs[m][j][2 * half] * factor, outputs[m][j][2 * half + 1] * factor);
        const bool odd = lane() & 1;
        const u32 got = __float_as_uint(__shfl_xor_sync(~0u, __uint_as_float(odd ? pairs[0] : pairs[1]), 1));
        const int column = (odd ? 8 : 0) + 2 * (lane() & 2);
        if (first + row < queries && 16 * warp() + column < width)
          *(uint2*)(to + column) = odd ? make_uint2(got, pairs[1]) : make_uint2(pairs[0], got);
      }
    }
}

// Walks over the chunks. Returns log2 of all that was forgotten (in warp 0).
template <class M>
__device__ __forceinline__ float walk_over(const M& memory, float (&state)[WIDTH / 8][4], const Stored* q, const Stored* k,
                                           const Stored* v, Stored* out, const Walk& walk, const Forgetting& forgetting,
                                           const Shape& shape, float scale) {
  Vectors& vectors = memory.vectors();
  const auto load = [&](int i) {
    if (M::QUERIES) load_tokens(memory.queries(i), q, walk.chunk(i) * CHUNK, shape.queries, shape.width);
    if (M::KEYS) load_tokens(memory.keys(i), k, walk.token(i), shape.keys, shape.width);
    if (M::KEYS) load_tokens(memory.values(i), v, walk.token(i), shape.keys, shape.value_width);
  };
  float forgotten = 0.f;
  if (STAGES == 2) load(0);
  if (DECAY && warp() == 0) forgotten += write_decays(vectors, 0, forgetting, walk.token(0));
#pragma unroll 1
  for (int i = 0; i < walk.count; ++i) {
    const Rows queries = memory.queries(i), keys = memory.keys(i);
    const OwnValues own = {memory.values(i), 16 * warp(), warp() == VALUE_WARPS};
    const float *until = vectors.until[i & 1], *left = vectors.left[i & 1];
    const float shrink = shrink_after(CAUSAL ? walk.token(i) : walk.position);
    if (STAGES == 1) {
      __syncthreads();  // nobody needs the last chunk any more
      load(i);
    }
    wait_for_copies();
    __syncthreads();  // this chunk is here, and nobody needs the one before
    if (STAGES == 2 && i + 1 < walk.count) load(i + 1);
    if (DECAY && warp() == 0 && i + 1 < walk.count) forgotten += write_decays(vectors, (i + 1) & 1, forgetting, walk.token(i + 1));
    if (FEATURE != IDENTITY) {
      if (M::QUERIES) map_tile(queries, 0, CHUNK, WIDTH);
      if (M::KEYS) map_tile(keys, -walk.token(i), shape.keys - walk.token(i), shape.width);
      __syncthreads();
    }
    if (M::QUERIES) {
      Outputs outputs;
      if (M::KEYS) weigh(memory.weights(), queries, keys, until, scale);
      read_state(outputs, queries, state, until, scale, shrink);
      if (M::KEYS) {
        __syncthreads();
        read_chunk(outputs, memory.weights(), own);
      }
      store_outputs(out, outputs, vectors.divisors, walk.chunk(i) * CHUNK, shape.queries, shape.value_width);
    }
    if (M::KEYS) {
      const float whole = DECAY ? vectors.whole[i & 1] : 1.f;
      u32 values[STEPS][4];
      own.left(values, left);
      add_product<DTYPE, WIDTH, CHUNK, STORED>(state, values, keys, whole, whole);
    }
  }
  return forgotten;
}

// The state of one segment. Grid: segments, heads with a state of their own, batch.
extern "C" __global__ void __launch_bounds__(THREADS) linear_states(
    const Stored* __restrict__ k, const Stored* __restrict__ v, const __grid_constant__ Decays decays, float* __restrict__ states,
    int queries, int keys, int width, int value_width, int chunks, int before, int kept, int heads_per_key_head, int heads_per_decay) {
  SHARED_MEMORY(bytes);
  if (!VALUES_APART) value_width = width;
  const Shape shape = {queries, keys, width, value_width, chunks, before, kept, heads_per_key_head, heads_per_decay, 1};
  const Place place(shape, decays);
  const i64 first = (i64)place.key_matrix * keys;
  float state[WIDTH / 8][4] = {};
  const Memory<false, true> memory = {bytes};
  const float forgotten = walk_over(memory, state, nullptr, k + first * width, v + first * value_width, nullptr, walk_of_state(shape, false),
                                    place.forgetting, shape, 1.f);
  float* const mine = states + place.state + (i64)blockIdx.x * STATE_FLOATS;
  store_state(mine, state);
  if (DECAY && threadIdx.x == 0) mine[FORGOTTEN_AT] = forgotten;
}

// Outputs of one segment. Grid: segments, heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS) linear_outputs(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    const __grid_constant__ Decays decays, const float* __restrict__ states, int queries, int keys, int width, int value_width,
    int chunks, int before, int kept, int heads_per_key_head, int heads_per_decay, int heads_per_state, float scale) {
  SHARED_MEMORY(bytes);
  if (!VALUES_APART) value_width = width;
  const Shape shape = {queries, keys, width, value_width, chunks, before, kept, heads_per_key_head, heads_per_decay, heads_per_state};
  const Place place(shape, decays);
  const i64 first = (i64)place.matrix * queries, first_key = (i64)place.key_matrix * keys;
  float state[WIDTH / 8][4] = {};
  if (const float* begin = place.beginning(shape, states)) load_state(state, begin);
  const Memory<true, bool(CAUSAL)> memory = {bytes};
  walk_over(memory, state, q + first * width, k + first_key * width, v + first_key * value_width, out + first * value_width,
            walk_of_outputs(shape), place.forgetting, shape, NORMALISED ? 1.f : scale);
}
