// Linear attention on Hopper: how chunks come into shared memory, the features of what came, and the sums that are the normaliser.
//
// The first warpgroup of a block brings: its first warp asks the copy engine for tiles and writes the decays of their tokens, its
// other warps put φ(x) in the place of x. A tile is a chunk's 64 tokens, in panels of 64 columns (128 bytes a row, swizzled).
#include "linear.cuh"
#include "wgmma.cuh"

constexpr int PANELS = WIDTH / 64, KEEPERS = PANELS;  // warpgroups that keep 64 columns of the values each
constexpr u32 PANEL = CHUNK * 128, TILE = PANELS * PANEL;
constexpr bool MAPS = FEATURE != IDENTITY;
constexpr int FEATURE_WARPS = 3;

// Bytes in shared memory: stages of (queries, keys, values); what warpgroups hand each other; per stage the decays of its tokens.
template <bool QUERIES_, bool KEYS_, int DEPTH_>
struct Memory {
  static constexpr bool QUERIES = QUERIES_, KEYS = KEYS_;
  static constexpr int DEPTH = DEPTH_;  // stages
  static constexpr u32 KEYS_AT = QUERIES ? TILE : 0, VALUES_AT = KEYS_AT + TILE, STAGE = (QUERIES + 2 * KEYS) * TILE;
  static constexpr u32 WEIGHTS_AT = DEPTH * STAGE, OUT_AT = WEIGHTS_AT + (QUERIES && KEYS ? 2 * PANEL : 0);
  static constexpr u32 FACTORS_AT = OUT_AT + (QUERIES ? 2 * TILE : 0), NORMALISERS_AT = FACTORS_AT + (QUERIES ? 2 * CHUNK * 4 : 0);
  static constexpr u32 DECAYS_AT = NORMALISERS_AT + (QUERIES ? 2 * WIDTH * 4 : 0), DECAYS = (2 * CHUNK + 4) * 4;
  static constexpr u32 LOADED = DECAYS_AT + DEPTH * DECAYS, FULL = LOADED + 8 * DEPTH, FREE = FULL + 8 * DEPTH;
  static constexpr u32 WEIGHTS_FULL = FREE + 8 * DEPTH, WEIGHTS_FREE = WEIGHTS_FULL + 16, END = WEIGHTS_FREE + 16;

  // Bytes that arrive at FULL by themselves: what no warp has to put features into.
  static constexpr u32 MAPPED = (QUERIES + KEYS) * TILE, DIRECT = KEYS * TILE + (MAPS ? 0 : MAPPED);

  unsigned char* base;
  u32 address;

  __device__ __forceinline__ u32 stage(int i) const { return address + i % DEPTH * STAGE; }
  __device__ __forceinline__ u32 barrier(u32 of, int i) const { return address + of + 8 * (i % DEPTH); }
  __device__ __forceinline__ static u32 parity(int i) { return i / DEPTH & 1; }
  __device__ __forceinline__ float* floats(u32 at) const { return (float*)(base + at); }
  // 64 times b_i, 64 times how much is left of token j at the end, how much is left of what came before the chunk.
  __device__ __forceinline__ float* decays(int i) const { return floats(DECAYS_AT + i % DEPTH * DECAYS); }

  __device__ __forceinline__ void make_barriers(int readers) const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < DEPTH; ++i) {
        barrier_init(barrier(LOADED, i), 1);
        barrier_init(barrier(FULL, i), (DIRECT ? 1 : 0) + (MAPS ? FEATURE_WARPS : 0) + (DECAY ? 1 : 0));
        barrier_init(barrier(FREE, i), readers);
      }
      for (int i = 0; i < 2; ++i) {
        barrier_init(address + WEIGHTS_FULL + 8 * i, 4);
        barrier_init(address + WEIGHTS_FREE + 8 * i, 4 * KEEPERS);
      }
      barriers_are_made();
    }
    __syncthreads();
  }
};
constexpr int STILL = 0, LEFT_AT = CHUNK, WHOLE_AT = 2 * CHUNK;  // places in `decays`

// Tells a barrier that all lanes of this warp are through.
__device__ __forceinline__ void release(u32 barrier) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) barrier_arrive(barrier);
}

// Address of eight columns (`part`) of a row of a tile.
__device__ __forceinline__ u32 part_of(u32 tile, int row, int part) {
  return tile + (part >> 3) * PANEL + row * 128 + (((part ^ row) & 7) << 4);
}

// ---------------------------------------------------------------- what is brought

// One warp. `after`: what this segment forgets after a chunk counts too, for a state that is summed from the last chunk to the first.
template <bool AFTER, class M>
__device__ __forceinline__ float bring_chunks(const M& memory, const TensorMap& q, const TensorMap& k, const TensorMap& v, int matrix,
                                              int key_matrix, const Walk& walk, const Forgetting& forgetting) {
  const int lane = threadIdx.x & 31;
  float after = 0.f, next[2] = {};
  if (DECAY && walk.count > 0) forgetting.read(next, walk.token(0) + 2 * lane);
#pragma unroll 1
  for (int i = 0; i < walk.count; ++i) {
    const u32 full = memory.barrier(M::FULL, i), mapped = MAPS ? memory.barrier(M::LOADED, i) : full;
    barrier_wait(memory.barrier(M::FREE, i), M::parity(i) ^ 1);
    if (lane == 0) {
      if (MAPS) barrier_expect(mapped, M::MAPPED);
      if (M::DIRECT) barrier_expect(full, M::DIRECT);
#pragma unroll
      for (int panel = 0; panel < PANELS; ++panel) {
        const u32 to = memory.stage(i) + panel * PANEL;
        if (M::QUERIES) copy_box(to, q, mapped, 64 * panel, walk.chunk(i) * CHUNK, matrix);
        if (M::KEYS) copy_box(to + M::KEYS_AT, k, mapped, 64 * panel, walk.token(i), key_matrix);
        if (M::KEYS) copy_box(to + M::VALUES_AT, v, full, 64 * panel, walk.token(i), key_matrix);
      }
    }
    if (DECAY) {
      const Forgotten forgotten(next);
      if (i + 1 < walk.count) forgetting.read(next, walk.token(i + 1) + 2 * lane);
      float* const decays = memory.decays(i);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        decays[STILL + 2 * lane + e] = forgotten.until[e];
        decays[LEFT_AT + 2 * lane + e] = exp2_fast(after + (forgotten.all - forgotten.until[e]));
      }
      if (lane == 0) decays[WHOLE_AT] = exp2_fast(forgotten.all);
      if (AFTER) after += forgotten.all;
      release(full);
    }
  }
  return after;
}

__device__ __forceinline__ u32 feature_of_pair(u32 pair) {
  if constexpr (FEATURE == ELU) {
    // e^min(x, 0) + max(x, 0), of which one is 1 or 0, so that the sum rounds once.
    const u32 low = lower_of_pairs<DTYPE>(pair, 0);
    const float x = LOG2_E * unpacked<DTYPE>((u16)low), y = LOG2_E * unpacked<DTYPE>((u16)(low >> 16));
    return sum_of_pairs<DTYPE>(pack<DTYPE>(exp2_fast(x), exp2_fast(y)), upper_of_pairs<DTYPE>(pair, 0));
  } else {
    return pack<DTYPE>(feature(unpacked<DTYPE>((u16)pair)), feature(unpacked<DTYPE>((u16)(pair >> 16))));
  }
}

// φ of tiles in place. A warp takes a batch, so many 16-byte parts a lane, at once: exponentials are slow to come, and many must be
// under way.
constexpr int LANE_PARTS = 4, BATCH = 32 * LANE_PARTS, BATCHES = TILE / 16 / BATCH;

__device__ __forceinline__ void map_batch(uint4* parts) {
  uint4 x[LANE_PARTS];
#pragma unroll
  for (int j = 0; j < LANE_PARTS; ++j) x[j] = parts[32 * j];
#pragma unroll
  for (int j = 0; j < LANE_PARTS; ++j)
    parts[32 * j] =
        make_uint4(feature_of_pair(x[j].x), feature_of_pair(x[j].y), feature_of_pair(x[j].z), feature_of_pair(x[j].w));
}

// Keys that are not there, and columns past head_dim, must add nothing, and φ(0) may be 1. `first`: part of the tile.
__device__ __forceinline__ void clear_outside(uint4* parts, int first, int low, int high, int width) {
#pragma unroll 1
  for (int j = 0; j < LANE_PARTS; ++j) {
    const int part = first + 32 * j, row = part >> 3 & 63, column = (part >> 9) * 64 + ((part ^ row) & 7) * 8;
    if (row < low || row >= high || column >= width) parts[32 * j] = make_uint4(0, 0, 0, 0);
  }
}

template <class M>
__device__ __forceinline__ void map_chunks(const M& memory, const Walk& walk, const Shape& shape) {
  const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) - 1;
#pragma unroll 1
  for (int i = 0; i < walk.count; ++i) {
    uint4* const parts = (uint4*)(memory.base + i % M::DEPTH * M::STAGE) + lane;
    const int low = -walk.token(i), high = shape.keys - walk.token(i);
    const bool edge = M::KEYS && (low > 0 || high < CHUNK || shape.width < WIDTH);
    barrier_wait(memory.barrier(M::LOADED, i), M::parity(i));
#pragma unroll 1
    for (int batch = (warp + i) % FEATURE_WARPS; batch < (M::QUERIES + M::KEYS) * BATCHES; batch += FEATURE_WARPS) {
      map_batch(parts + batch * BATCH);
      if (edge && batch >= M::QUERIES * BATCHES)
        clear_outside(parts + batch * BATCH, (batch - M::QUERIES * BATCHES) * BATCH + lane, low, high, shape.width);
    }
    make_seen();
    release(memory.barrier(M::FULL, i));
  }
}

// ---------------------------------------------------------------- operands

// Weights of 16 tokens as a left operand (16 × 16) whose first two rows are the weights, rounded, and what rounding took; the others 0.
__device__ __forceinline__ void left_of_weights(u32 (&a)[4], const float* weights) {
  const int row = (threadIdx.x & 31) >> 2, column = 2 * (threadIdx.x & 3);
  a[0] = a[1] = a[2] = a[3] = 0;
  if (row > 1) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float x = weights[column + 8 * half], y = weights[column + 8 * half + 1];
    u32 packed = pack<DTYPE>(x, y);
    if (row == 1) packed = pack<DTYPE>(x - unpacked<DTYPE>((u16)packed), y - unpacked<DTYPE>((u16)(packed >> 16)));
    a[2 * half] = packed;
  }
}

// Sums over the tokens of a chunk of 16 columns of the keys, as two rows whose sum they are.
struct KeySums {
  float rows[2][4] = {};

  // `left`: how much of each token is left at the end.
  __device__ __forceinline__ void add(u32 keys, int column, const float* left) {
    const int lane = threadIdx.x & 31;
    constexpr int AT_ONCE = 2;
#pragma unroll
    for (int first = 0; first < CHUNK / 16; first += AT_ONCE) {
      u32 b[AT_ONCE][4];
#pragma unroll
      for (int j = 0; j < AT_ONCE; ++j)  // before the first product, so that none waits for its own
        load_matrices_transposed(b[j], part_of(keys, 16 * (first + j) + (lane & 15), column / 8 + (lane >> 4)));
#pragma unroll
      for (int j = 0; j < AT_ONCE; ++j) {
        u32 a[4] = {0, 0, 0, 0};
        if (DECAY)
          left_of_weights(a, left + 16 * (first + j));
        else if (lane < 4)
          a[0] = a[2] = pack<DTYPE>(1.f, 1.f);
        mma_16bit<DTYPE>(rows[0], a, b[j][0], b[j][1]);
        mma_16bit<DTYPE>(rows[1], a, b[j][2], b[j][3]);
      }
    }
  }
  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      rows[0][e] *= factor;
      rows[1][e] *= factor;
    }
  }
  // Lanes 0 to 3 hold two columns each of the first eight and of the second; `to` is the first of the sixteen.
  __device__ __forceinline__ void store(float* to) const {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float sum = rows[half][e] + __shfl_down_sync(~0u, rows[half][e], 4);
        if (lane < 4) to[8 * half + 2 * lane + e] = sum;
      }
  }
  __device__ __forceinline__ void load(const float* from) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int e = 0; e < 2; ++e) rows[half][e] = lane < 4 ? from[8 * half + 2 * lane + e] : 0.f;
  }
};

// 64 columns of a chunk's values, turned, as left operands for its four times 16 tokens.
__device__ __forceinline__ void load_values(u32 (&values)[16], u32 panel) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
#pragma unroll
  for (int step = 0; step < CHUNK / 16; ++step) {
    u32 a[4];
    load_matrices_transposed(a, part_of(panel, 16 * step + (lane >> 4) * 8 + (lane & 7), 2 * warp + (lane >> 3 & 1)));
#pragma unroll
    for (int i = 0; i < 4; ++i) values[4 * step + i] = a[i];
  }
}
__device__ __forceinline__ void scale_values(u32 (&values)[16], const float* left) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const float2 of = *(const float2*)(left + 16 * (i >> 2) + 8 * (i >> 1 & 1) + 2 * (threadIdx.x & 3));
    values[i] = pack<DTYPE>(unpacked<DTYPE>((u16)values[i]) * of.x, unpacked<DTYPE>((u16)(values[i] >> 16)) * of.y);
  }
}

// 64 rows (columns of the values) × WIDTH columns of a state, turned, as a warpgroup's accumulators, from and to memory.
__device__ __forceinline__ void load_state(float (&state)[WIDTH / 2], const float* from) {
  const float4* at = (const float4*)from + (threadIdx.x & 127);
#pragma unroll
  for (int i = 0; i < WIDTH / 8; ++i) {
    const float4 x = at[128 * i];
    state[4 * i] = x.x;
    state[4 * i + 1] = x.y;
    state[4 * i + 2] = x.z;
    state[4 * i + 3] = x.w;
  }
}
__device__ __forceinline__ void store_state(float* to, const float (&state)[WIDTH / 2]) {
  float4* at = (float4*)to + (threadIdx.x & 127);
#pragma unroll
  for (int i = 0; i < WIDTH / 8; ++i) at[128 * i] = make_float4(state[4 * i], state[4 * i + 1], state[4 * i + 2], state[4 * i + 3]);
}

// state += values (turned, 64 × 64 tokens) · keys (64 tokens × WIDTH), begun in the background.
__device__ __forceinline__ void add_chunk(float (&state)[WIDTH / 2], const u32 (&values)[16], u32 keys) {
#pragma unroll
  for (int step = 0; step < CHUNK / 16; ++step)
    Wgmma<WIDTH>::registers(state, values[4 * step], values[4 * step + 1], values[4 * step + 2], values[4 * step + 3],
                            operand(keys, PANEL) + step * (16 * 128 / 16), 1);
}
