// Gated linear attention on Hopper, chunk by chunk: a block walks over a segment of one head's tokens, the state never leaves its registers.
//
//   S_t = diag(e^(g_t))·S_(t−1) + k_t·v_tᵀ,   out_t = scale·S_tᵀ·q_t,   g_t ≤ 0, one for each channel of the keys.
// Source: Yang et al. 2024, section 4, arXiv 2312.06635. A chunk is four blocks of 16 tokens; p_a is what the gates of block a leave of a
// channel, all together. Each channel of each token is multiplied by what some tokens leave:
//   near queries: the tokens from the first of their block to their own; near keys: those after their own to the last of their block;
//   a score of block a with block c is the product of such, times p_(c+1)…p_(a−1);
//   far queries: near ones times all p before; far keys: near ones times all p after.
// All are at most 1, so nothing overflows however strong the gates are. Only inside a block a factor above 1 is needed, 1/p_a; where
// that is large, the scores of the block are made one by one (`score_exactly`).
// Warpgroups of a block: one brings tiles and takes outputs away; one for each 64 channels gates: far queries and keys in place, near ones
// and the scores beside them; one keeps the state of each 64 columns of the values.
// Constants: those of `chunk_tiles.cuh`, GATE_FLOATS (gates are fp32, else bf16), STAGES, VALUE_STAGES, GATE_STAGES.
#include "chunk_tiles.cuh"
#include "state_scans.cuh"

constexpr int GATERS = PANELS, THREADS = 128 * (1 + GATERS + KEEPERS);
constexpr int BLOCK = 16, BLOCKS = CHUNK / BLOCK, UNROLLED = GATE_FLOATS ? 8 : 16;
constexpr u32 GATE_TILE = (GATE_FLOATS ? 2 : 1) * TILE;
// Registers that warpgroups give away and take.
constexpr int OF_BRINGERS = GATERS == 2 ? 24 : 40, OF_GATERS = GATERS == 2 ? 80 : 152, OF_KEEPERS = GATERS == 2 ? 160 : 208;
// 1/p up to which scores inside a block are made of near queries and keys: what is multiplied by it must keep its digits.
constexpr float MOST_INVERSE = DTYPE == FP16 ? 256.f : 1.2676506e30f;  // 2^8, 2^100

// ---------------------------------------------------------------- shared memory

// Bytes in this order. Outputs go out where their values came in. `STRENGTHS`: p and 1/p of each block, (4 + 4) × WIDTH floats, and
// what a chunk leaves of each channel, WIDTH floats, all of two chunks.
template <bool OUTPUTS_>
struct Memory {
  static constexpr bool OUTPUTS = OUTPUTS_;
  static constexpr u32 STAGE = (OUTPUTS ? 2 : 1) * TILE, VALUES_AT = STAGES * STAGE, GATES_AT = VALUES_AT + VALUE_STAGES * TILE;
  static constexpr u32 NEAR_AT = GATES_AT + GATE_STAGES * GATE_TILE, SCORES_AT = NEAR_AT + (OUTPUTS ? 2 * TILE : 0);
  static constexpr u32 STRENGTHS_AT = SCORES_AT + (OUTPUTS ? 2 * PANEL : 0);
  static constexpr u32 TILES_FULL = STRENGTHS_AT + 2 * 9 * WIDTH * 4, TILES_FREE = TILES_FULL + 8 * STAGES;
  static constexpr u32 VALUES_FULL = TILES_FREE + 8 * STAGES, VALUES_FREE = VALUES_FULL + 8 * VALUE_STAGES;
  static constexpr u32 GATES_FULL = VALUES_FREE + 8 * VALUE_STAGES, GATES_FREE = GATES_FULL + 8 * GATE_STAGES;
  static constexpr u32 GATED_FULL = GATES_FREE + 8 * GATE_STAGES, GATED_FREE = GATED_FULL + 16;
  static constexpr u32 OUTPUTS_FULL = GATED_FREE + 16, END = OUTPUTS_FULL + (OUTPUTS ? 8 * VALUE_STAGES * KEEPERS : 0);

  unsigned char* base;
  u32 address;

  __device__ __forceinline__ u32 keys_at(int i) const { return i % STAGES * STAGE; }
  __device__ __forceinline__ u32 keys(int i) const { return address + keys_at(i); }
  __device__ __forceinline__ u32 queries(int i) const { return keys(i) + TILE; }
  __device__ __forceinline__ u32 values(int i) const { return address + VALUES_AT + i % VALUE_STAGES * TILE; }
  __device__ __forceinline__ u32 gates_at(int i) const { return GATES_AT + i % GATE_STAGES * GATE_TILE; }
  __device__ __forceinline__ u32 scores_at(int i) const { return SCORES_AT + i % 2 * PANEL; }
  __device__ __forceinline__ float* strengths(int i) const { return (float*)(base + STRENGTHS_AT) + i % 2 * 9 * WIDTH; }
  __device__ __forceinline__ float* inverses(int i) const { return strengths(i) + BLOCKS * WIDTH; }
  __device__ __forceinline__ float* whole(int i) const { return strengths(i) + 2 * BLOCKS * WIDTH; }
  __device__ __forceinline__ u32 outputs_full(int keeper) const { return address + OUTPUTS_FULL + 8 * VALUE_STAGES * keeper; }

  __device__ __forceinline__ void make_barriers() const {
    if (threadIdx.x == 0) {
      make_ring(address + TILES_FULL, STAGES, 1);
      make_ring(address + TILES_FREE, STAGES, 4 * KEEPERS);
      make_ring(address + VALUES_FULL, VALUE_STAGES, 1);
      make_ring(address + VALUES_FREE, VALUE_STAGES, OUTPUTS ? KEEPERS : 4 * KEEPERS);
      make_ring(address + GATES_FULL, GATE_STAGES, 1);
      make_ring(address + GATES_FREE, GATE_STAGES, 4 * GATERS);
      make_ring(address + GATED_FULL, 2, 4 * GATERS);
      make_ring(address + GATED_FREE, 2, 4 * KEEPERS);
      if (OUTPUTS) make_ring(address + OUTPUTS_FULL, VALUE_STAGES * KEEPERS, 4);
      barriers_are_made();
    }
    __syncthreads();
  }
};

// ---------------------------------------------------------------- the warpgroup that brings

// One thread.
template <class M>
__device__ __forceinline__ void bring_tiles(const M& memory, const TensorMap& q, const TensorMap& k, const TensorMap& v,
                                            const TensorMap& gates, int matrix, int key_matrix, const Walk& walk) {
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const u32 gates_full = barrier_of<GATE_STAGES>(memory.address + M::GATES_FULL, i);
    wait_until_free<GATE_STAGES>(memory.address + M::GATES_FREE, i);
    barrier_expect(gates_full, GATE_TILE);
    bring_tile<GATE_TILE / PANEL>(memory.address + memory.gates_at(i), gates, gates_full, walk.token(i), key_matrix);
    const u32 tiles_full = barrier_of<STAGES>(memory.address + M::TILES_FULL, i);
    wait_until_free<STAGES>(memory.address + M::TILES_FREE, i);
    barrier_expect(tiles_full, M::STAGE);
    bring_tile<PANELS>(memory.keys(i), k, tiles_full, walk.token(i), key_matrix);
    if (M::OUTPUTS) bring_tile<PANELS>(memory.queries(i), q, tiles_full, walk.row(i), matrix);
    const u32 values_full = barrier_of<VALUE_STAGES>(memory.address + M::VALUES_FULL, i);
    wait_until_free<VALUE_STAGES>(memory.address + M::VALUES_FREE, i);
    barrier_expect(values_full, TILE);
    bring_tile<PANELS>(memory.values(i), v, values_full, walk.token(i), key_matrix);
  }
}

// One thread for each keeper.
__device__ __forceinline__ void take_outputs(const Memory<true>& memory, const TensorMap& out, int keeper, int matrix, const Walk& walk) {
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    wait_for<VALUE_STAGES>(memory.outputs_full(keeper), i);
    if (walk.row(i) + CHUNK > 0) {  // not a chunk of keys that come before all queries
      store_box(out, memory.values(i) + keeper * PANEL, 64 * keeper, walk.row(i), matrix);
      stores_commit();
      stores_wait_read<0>();
    }
    barrier_arrive(barrier_of<VALUE_STAGES>(memory.address + Memory<true>::VALUES_FREE, i));
  }
  stores_wait_all();
}

// ---------------------------------------------------------------- the warpgroups that gate

__device__ __forceinline__ float log2_kept(float gate) { return fmaxf(gate * LOG2_E, MOST_FORGOTTEN); }

// A pair of channels: two neighbouring 16-bit numbers, or gates.
template <int DTYPE_>
__device__ __forceinline__ float2 unpacked_pair(u32 pair) {
  return make_float2(unpacked<DTYPE_>((u16)pair), unpacked<DTYPE_>((u16)(pair >> 16)));
}
__device__ __forceinline__ u32 place_of_pair(int row, int pair) { return part_of(0, row, pair >> 2) + (pair & 3) * 4; }
__device__ __forceinline__ float2 log2_kept_of_pair(const unsigned char* tile, int row, int pair) {
  float2 gates;
  if constexpr (GATE_FLOATS)
    gates = *(const float2*)(tile + part_of(0, row, pair >> 1) + (pair & 1) * 8);
  else
    gates = unpacked_pair<BF16>(*(const u32*)(tile + place_of_pair(row, pair)));
  return make_float2(log2_kept(gates.x), log2_kept(gates.y));
}

__device__ __forceinline__ float2 operator*(float2 a, float2 b) { return make_float2(a.x * b.x, a.y * b.y); }
__device__ __forceinline__ float2 operator+(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ __forceinline__ float2 exp2_of_pair(float2 x) { return make_float2(exp2_fast(x.x), exp2_fast(x.y)); }

// Of one thread: two channels of one block of tokens. What tokens leave is computed again where it is needed: kept, it would take
// the registers that the state needs.
struct OfPair {
  int pair, block;

  __device__ __forceinline__ float2 log2_kept_by(const unsigned char* gates, int i) const {
    return log2_kept_of_pair(gates, BLOCK * block + i, pair);
  }
  // p and 1/p of the block, into the table.
  __device__ __forceinline__ void read_strength(const unsigned char* gates, float* strengths) const {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int i = 0; i < BLOCK; ++i) sum = sum + log2_kept_by(gates, i);
    float2* const at = (float2*)(strengths + block * WIDTH + 2 * pair);
    at[0] = exp2_of_pair(sum);
    at[BLOCKS * WIDTH / 2] = exp2_of_pair(make_float2(-sum.x, -sum.y));
  }
  // p of all blocks before this one, of all after it, and of the chunk.
  __device__ __forceinline__ void around(const float* strengths, float2& before, float2& after, float2& whole) const {
    before = after = whole = make_float2(1.f, 1.f);
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
      const float2 of = *(const float2*)(strengths + b * WIDTH + 2 * pair);
      whole = whole * of;
      if (b < block) before = before * of;
      if (b > block) after = after * of;
    }
  }
  // `far`: the tile as it came, to be gated in place; `near`: where what is near goes, unless null.
  __device__ __forceinline__ void gate_queries(const unsigned char* gates, unsigned char* far, unsigned char* near, float2 before) const {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll UNROLLED
    for (int i = 0; i < BLOCK; ++i) {
      sum = sum + log2_kept_by(gates, i);
      gate_token(far, near, i, exp2_of_pair(sum), before);
    }
  }
  __device__ __forceinline__ void gate_keys(const unsigned char* gates, unsigned char* far, unsigned char* near, float2 after) const {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll UNROLLED
    for (int i = BLOCK - 1; i >= 0; --i) {
      gate_token(far, near, i, exp2_of_pair(sum), after);
      sum = sum + log2_kept_by(gates, i);
    }
  }
  __device__ __forceinline__ void gate_token(unsigned char* far, unsigned char* near, int i, float2 inside, float2 outside) const {
    const u32 at = place_of_pair(BLOCK * block + i, pair);
    const float2 x = unpacked_pair<DTYPE>(*(const u32*)(far + at)) * inside, y = x * outside;
    if (near) *(u32*)(near + at) = pack<DTYPE>(x.x, x.y);
    *(u32*)(far + at) = pack<DTYPE>(y.x, y.y);
  }
};

// Tensors in memory, of one head, for scores that are made one by one.
struct InMemory {
  const u16 *q, *k;  // the row of the chunk's first token, which may lie outside
  const void* gates;
  int width, row, rows, token, tokens;

  // Four channels of a token (or of a query: `in_q`) of the chunk; zeros outside.
  __device__ __forceinline__ void read(float (&x)[4], const u16* from, int i, bool in_q, int channel) const {
    const bool there = channel < width && (in_q ? row + i >= 0 && row + i < rows : token + i >= 0 && token + i < tokens);
#pragma unroll
    for (int e = 0; e < 4; ++e) x[e] = there ? unpacked<DTYPE>(from[(i64)i * width + channel + e]) : 0.f;
  }
  __device__ __forceinline__ void fade(float (&x)[4], int i, int channel) const {
    if (channel >= width || token + i < 0 || token + i >= tokens) return;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const i64 at = (i64)i * width + channel + e;
      x[e] *= exp2_fast(log2_kept(GATE_FLOATS ? ((const float*)gates)[at] : unpacked<BF16>(((const u16*)gates)[at])));
    }
  }
};

// The scores of a block with itself, of a warp: each key fades from token to token as it does in the state. Lanes share the channels.
__device__ __noinline__ void score_exactly(unsigned char* scores, const InMemory& of, int block, float shrink) {
  const int lane = threadIdx.x & 31, channel = 4 * lane;
#pragma unroll 1
  for (int j = BLOCK * block; j < BLOCK * (block + 1); ++j) {
    float key[4], query[4];
    of.read(key, of.k, j, false, channel);
#pragma unroll 1
    for (int i = BLOCK * block; i < BLOCK * (block + 1); ++i) {
      float sum = 0.f;
      if (i >= j) {
        if (i > j) of.fade(key, i, channel);
        of.read(query, of.q, i, true, channel);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum = fmaf(query[e], key[e], sum);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
      }
      if (lane == 0) *(u16*)(scores + part_of(0, i, j >> 3) + 2 * (j & 7)) = (u16)pack<DTYPE>(sum * shrink, 0.f);
    }
  }
}

// A left operand times a factor for each of its 16 columns.
__device__ __forceinline__ void scale_columns(u32 (&to)[4], const u32 (&from)[4], float2 first, float2 last) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 x = unpacked_pair<DTYPE>(from[i]) * (i < 2 ? first : last);
    to[i] = pack<DTYPE>(x.x, x.y);
  }
}

// The blocks of scores of one warp: block row `block`, and of its columns every COLUMNS that begin at `first`.
struct ScoreBlocks {
  static constexpr int COLUMNS = BLOCKS / GATERS;
  int block, first;

  __device__ __forceinline__ ScoreBlocks(int warp) : block(BLOCKS - 1 - warp / GATERS), first(warp % GATERS * COLUMNS) {}

  __device__ __forceinline__ void make(const Memory<true>& memory, int i, const InMemory& of, float shrink) const {
    if (first > block) return;
    const int lane = again(threadIdx.x & 31), channel = 2 * (lane & 3);
    const u32 queries = memory.address + Memory<true>::NEAR_AT, keys = queries + TILE;
    const float *const strengths = memory.strengths(i) + channel, *const inverses = memory.inverses(i) + block * WIDTH + channel;
    float scores[COLUMNS][2][4] = {}, largest = 0.f;
#pragma unroll 2
    for (int step = 0; step < WIDTH / 16; ++step) {
      u32 near[4];
      load_matrices(near, part_of(queries, BLOCK * block + (lane & 15), 2 * step + (lane >> 4)));
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        const int column = first + j;
        if (column > block) continue;
        u32 a[4] = {near[0], near[1], near[2], near[3]}, b[4];
        if (column != block - 1) {
          const float* const from = (column == block ? inverses : strengths + (column + 1) * WIDTH) + 16 * step;
          float2 low = *(const float2*)from, high = *(const float2*)(from + 8);
          if (column == block) largest = fmaxf(largest, fmaxf(fmaxf(low.x, low.y), fmaxf(high.x, high.y)));
          if (column == block - 3) {
            low = low * *(const float2*)(from + WIDTH);
            high = high * *(const float2*)(from + WIDTH + 8);
          }
          scale_columns(a, near, low, high);
        }
        load_matrices(b, part_of(keys, BLOCK * column + (lane & 7) + (lane >> 4) * 8, 2 * step + (lane >> 3 & 1)));
        mma_16bit<DTYPE>(scores[j][0], a, b[0], b[1]);
        mma_16bit<DTYPE>(scores[j][1], a, b[2], b[3]);
      }
    }
    const bool too_strong = __any_sync(~0u, !(largest <= MOST_INVERSE));
    const int row = lane >> 2;
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      const int column = first + j;
      if (column > block) continue;
      if (column == block) {
        if (too_strong) {
          score_exactly(memory.base + memory.scores_at(i), of, block, shrink);
          continue;
        }
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (8 * (e >> 2) + channel + (e & 1) > row + 8 * (e >> 1 & 1)) scores[j][e >> 2][e & 3] = 0.f;
      }
      u32 packed[4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        packed[e] = pack<DTYPE>(scores[j][e >> 1][2 * (e & 1)] * shrink, scores[j][e >> 1][2 * (e & 1) + 1] * shrink);
      store_matrices(part_of(memory.address + memory.scores_at(i), BLOCK * block + (lane & 15), 2 * column + (lane >> 4)), packed[0],
                     packed[1], packed[2], packed[3]);
    }
  }
};

// A sum over many keys leaves the range of fp16: it is multiplied as a sum over about a thousand, nearly, by a power of two.
__device__ __forceinline__ float shrink_after(int keys) {
  if (DTYPE != FP16) return 1.f;
  return __uint_as_float((u32)(127 - max(22 - __clz(max(keys, 1)), 0)) << 23);
}

// `decay`, of a segment: what it leaves of each channel, WIDTH floats, unless null. `of`: at the first chunk.
template <class M>
__device__ __forceinline__ void gate(const M& memory, const Walk& walk, InMemory of, float* decay) {
  const int thread = threadIdx.x - 128, warp = thread >> 5;
  OfPair mine;
  mine.pair = thread % (WIDTH / 2);
  mine.block = thread / (WIDTH / 2);
  float2 left = make_float2(1.f, 1.f);
  if (M::OUTPUTS)  // blocks above the diagonal are never written
    for (u32 i = thread; i < 2 * PANEL / 16; i += 128 * GATERS) *(uint4*)(memory.base + M::SCORES_AT + 16 * i) = make_uint4(0, 0, 0, 0);
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    wait_for<GATE_STAGES>(memory.address + M::GATES_FULL, i);
    const unsigned char* const gates = memory.base + memory.gates_at(i);
    mine.read_strength(gates, memory.strengths(i));
    // Strengths are there; and all warps are through with what was near in the last chunk.
    named_sync(1, 128 * GATERS);
    float2 before, after, whole;
    mine.around(memory.strengths(i), before, after, whole);
    wait_until_free<2>(memory.address + M::GATED_FREE, i);
    if (mine.block == 0) *(float2*)(memory.whole(i) + 2 * mine.pair) = whole;
    left = left * whole;
    unsigned char *const keys = memory.base + memory.keys_at(i), *const near = memory.base + M::NEAR_AT;
    wait_for<STAGES>(memory.address + M::TILES_FULL, i);
    if (M::OUTPUTS) mine.gate_queries(gates, keys + TILE, near, before);
    mine.gate_keys(gates, keys, M::OUTPUTS ? near + TILE : nullptr, after);
    release(barrier_of<GATE_STAGES>(memory.address + M::GATES_FREE, i));
    if constexpr (M::OUTPUTS) {
      named_sync(1, 128 * GATERS);  // all of what is near is there
      of.row = walk.row(i);
      of.token = walk.token(i);
      InMemory here = of;
      here.q += (i64)of.row * of.width;
      here.k += (i64)of.token * of.width;
      here.gates = GATE_FLOATS ? (const void*)((const float*)of.gates + (i64)of.token * of.width)
                               : (const void*)((const u16*)of.gates + (i64)of.token * of.width);
      ScoreBlocks(warp).make(memory, i, here, shrink_after(of.token));
    }
    make_seen();
    release(barrier_of<2>(memory.address + M::GATED_FULL, i));
  }
  if (decay && mine.block == 0) *(float2*)(decay + 2 * mine.pair) = left;
}

// ---------------------------------------------------------------- the warpgroups that keep the state

template <class M>
__device__ __forceinline__ void keep(const M& memory, const Walk& walk, int keeper, float (&state)[WIDTH / 2], float scale) {
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const float* const whole = memory.whole(i) + 2 * (threadIdx.x & 3);
    const u32 values_at = memory.values(i) + keeper * PANEL;
    const float shrink = shrink_after(walk.token(i));
    float out[CHUNK / 2];
    u32 values[CHUNK / 4];
    u32 rounded[WIDTH / 4];
    if (M::OUTPUTS) {
#pragma unroll
      for (int j = 0; j < WIDTH / 4; ++j) rounded[j] = pack<DTYPE>(state[2 * j] * shrink, state[2 * j + 1] * shrink);
    }
    wait_for<2>(memory.address + M::GATED_FULL, i);
#pragma unroll
    for (int j = 0; j < WIDTH / 2; j += 2) {
      const float2 left = *(const float2*)(whole + 8 * (j >> 2));
      state[j] *= left.x;
      state[j + 1] *= left.y;
    }
    if (M::OUTPUTS) {
      products_begin();
      ask_state(out, rounded, memory.queries(i));
      products_commit();
      products_wait<0>();  // waiting here, the values can have the registers of `rounded`
    }
    wait_for<VALUE_STAGES>(memory.address + M::VALUES_FULL, i);
    load_values(values, values_at);
    if (!M::OUTPUTS) release(barrier_of<VALUE_STAGES>(memory.address + M::VALUES_FREE, i));
    products_begin();
    if (M::OUTPUTS) {
      mix_tokens(out, values, memory.address + memory.scores_at(i), 1);
      products_commit();
    }
    write_state(state, values, memory.keys(i));
    products_commit();
    if constexpr (M::OUTPUTS) {
      products_wait<1>();
      const float factor = scale / shrink;
#pragma unroll
      for (int j = 0; j < CHUNK / 2; ++j) out[j] *= factor;
      store_outputs(values_at, out);
      make_seen();
      release(barrier_of<VALUE_STAGES>(memory.outputs_full(keeper), i));
    }
    products_wait<0>();
    release(barrier_of<STAGES>(memory.address + M::TILES_FREE, i));
    release(barrier_of<2>(memory.address + M::GATED_FREE, i));
  }
}

// ---------------------------------------------------------------- kernels

// out of one segment. `states`: what each segment of each key head begins with, not read by a head's first. Grid: segments, heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS, 1) gla_outputs(
    const __grid_constant__ TensorMap q_tiles, const __grid_constant__ TensorMap k_tiles, const __grid_constant__ TensorMap v_tiles,
    const __grid_constant__ TensorMap gate_tiles, const __grid_constant__ TensorMap out_tiles, const u16* __restrict__ q,
    const u16* __restrict__ k, const void* __restrict__ gates, const float* __restrict__ states, int queries, int keys, int start,
    int all, int chunks, int segments, int width, int heads_per_key_head, float scale) {
  typedef Memory<true> M;
  SWIZZLED_MEMORY(bytes);
  const M memory = {bytes, shared_address(bytes)};
  const Shape shape = {queries, keys, start, all, chunks, segments, heads_per_key_head};
  const int matrix = blockIdx.z * gridDim.y + blockIdx.y, key_matrix = matrix / heads_per_key_head, segment = blockIdx.x;
  const Walk walk = {shape, segment * chunks};
  const int group = uniform(threadIdx.x >> 7), warp = threadIdx.x >> 5 & 3;
  memory.make_barriers();
  if (group == 0) {
    registers_shrink<OF_BRINGERS>();
    if (threadIdx.x == 0) bring_tiles(memory, q_tiles, k_tiles, v_tiles, gate_tiles, matrix, key_matrix, walk);
    if (warp >= 2 && warp < 2 + KEEPERS && (threadIdx.x & 31) == 0) take_outputs(memory, out_tiles, warp - 2, matrix, walk);
  } else if (group <= GATERS) {
    registers_shrink<OF_GATERS>();
    const i64 first = (i64)key_matrix * keys * width;
    const void* of_gates = GATE_FLOATS ? (const void*)((const float*)gates + first) : (const void*)((const u16*)gates + first);
    gate(memory, walk, {q + (i64)matrix * queries * width, k + first, of_gates, width, 0, queries, 0, keys}, nullptr);
  } else {
    registers_grow<OF_KEEPERS>();
    const int keeper = group - 1 - GATERS;
    float state[WIDTH / 2];
    if (segment == 0)
      clear(state);
    else
      load_state(state, states + ((i64)key_matrix * segments + segment) * FADED_FLOATS, keeper);
    keep(memory, walk, keeper, state, scale);
  }
}

// What one segment adds to the state, and what it leaves of each channel. Grid: segments but the last, key heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS, 1) gla_states(
    const __grid_constant__ TensorMap k_tiles, const __grid_constant__ TensorMap v_tiles, const __grid_constant__ TensorMap gate_tiles,
    float* __restrict__ states, int queries, int keys, int start, int all, int chunks, int segments) {
  typedef Memory<false> M;
  SWIZZLED_MEMORY(bytes);
  const M memory = {bytes, shared_address(bytes)};
  const Shape shape = {queries, keys, start, all, chunks, segments, 1};
  const int key_matrix = blockIdx.z * gridDim.y + blockIdx.y;
  const Walk walk = {shape, (int)blockIdx.x * chunks};
  float* const mine = states + ((i64)key_matrix * segments + blockIdx.x) * FADED_FLOATS;
  const int group = uniform(threadIdx.x >> 7);
  memory.make_barriers();
  if (group == 0) {
    registers_shrink<OF_BRINGERS>();
    if (threadIdx.x == 0) bring_tiles(memory, k_tiles, k_tiles, v_tiles, gate_tiles, 0, key_matrix, walk);
  } else if (group <= GATERS) {
    registers_shrink<OF_GATERS>();
    gate(memory, walk, {}, mine + STATE_FLOATS);
  } else {
    registers_grow<OF_KEEPERS>();
    float state[WIDTH / 2];
    clear(state);
    keep(memory, walk, group - 1 - GATERS, state, 1.f);
    store_state(mine, state, group - 1 - GATERS);
  }
}
