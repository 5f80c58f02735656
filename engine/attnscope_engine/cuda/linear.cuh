// What the kernels of linear attention share: features, decays of a chunk, how a state lies in memory, the scan over segments.
//
// One head is S_t = e^(g_t)·S_(t−1) + φ(k_t)·v_tᵀ, out_t = scale·φ(q_t)·S_t, or divided by φ(q_t)·z_t with z_t = e^(g_t)·z_(t−1) + φ(k_t).
// Chunks of CHUNK tokens: with b_i the decay (log2) from the chunk's start to after its token i, Λ that of the whole chunk,
//   out_i = 2^(b_i)·φ(q_i)·S + Σ_(j≤i) 2^(b_i − b_j)·(φ(q_i)·φ(k_j))·v_j,   S ← 2^Λ·S + Σ_j 2^(Λ − b_j)·φ(k_j)·v_jᵀ.
// No exponent is positive, so nothing overflows however strong the decay is.
// Constants: DTYPE, WIDTH (head_dim rounded up to 64 or 128), TOKENS (of a chunk), FEATURE, DECAY, NORMALISED, CAUSAL; VALUES_APART where
// v and out have other columns than q and k: a constant, since where they have not one number less is kept in a register.
#include "ptx.cuh"

#ifndef VALUES_APART
#define VALUES_APART 0
#endif

enum FeatureKind { IDENTITY = 0, ELU = 1, RELU = 2, RELU_SQUARED = 3, EXPONENTIAL = 4 };
enum DecayKind { NO_DECAY = 0, PER_HEAD = 1, PER_TOKEN = 2 };

constexpr int CHUNK = TOKENS;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float MOST_FORGOTTEN = -127.f;  // log2, of one token: what is left then is nothing beside any number

// A state in memory, in fp32: WIDTH rows of values in whatever order its kernels like, the normaliser, log2 of its segment's decay.
constexpr int NORMALISER_AT = WIDTH * WIDTH, FORGOTTEN_AT = NORMALISER_AT + WIDTH, STATE_FLOATS = FORGOTTEN_AT + 4;

#if DECAY == 1
struct Decays {
  float of_head[256];  // natural logarithms
};
#else
typedef const float* Decays;  // natural logarithms, (heads, tokens); not read without decay
#endif

// NaN stays NaN. elu(x) + 1 = e^min(x, 0) + max(x, 0) without a comparison, from which the compiler would make exponentials under a
// condition, each waiting for the one before.
__device__ __forceinline__ float feature(float x) {
  if constexpr (FEATURE == ELU)
    return fmaf(0.5f, x + fabsf(x), exp2_fast(0.5f * LOG2_E * (x - fabsf(x))));
  else if constexpr (FEATURE == RELU)
    return x <= 0.f ? 0.f : x;
  else if constexpr (FEATURE == RELU_SQUARED)
    return x <= 0.f ? 0.f : x * x;
  else if constexpr (FEATURE == EXPONENTIAL)
    return exp2_fast(x * LOG2_E);
  else
    return x;
}

// ---- decay of the tokens of one head, log2
struct Forgetting {
  const float* of_tokens;  // natural logarithms of the head's tokens, or
  float of_head;           // the one of all of them
  int tokens;              // those outside 0 … tokens do not decay: they are not there

  __device__ __forceinline__ Forgetting(const Decays& decays, int head, i64 first, int tokens) : of_tokens(nullptr), of_head(0.f), tokens(tokens) {
#if DECAY == 1
    of_head = decays.of_head[head];
#elif DECAY == 2
    of_tokens = decays + first;
#endif
  }
  // Of the tokens `position` and `position` + 1.
  __device__ __forceinline__ void read(float (&g)[2], int position) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool there = position + i >= 0 && position + i < tokens;
      g[i] = !there ? 0.f : fmaxf(LOG2_E * (DECAY == PER_HEAD ? of_head : of_tokens[position + i]), MOST_FORGOTTEN);
    }
  }
};

// b of the two tokens of a chunk that this lane has, and Λ: running sums over a warp.
struct Forgotten {
  float until[2], all;

  __device__ __forceinline__ Forgotten(const float (&g)[2]) {
    const int lane = threadIdx.x & 31;
    float sum = 2 * lane < CHUNK ? g[0] + g[1] : 0.f;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const float before = __shfl_up_sync(~0u, sum, distance);
      if (lane >= distance) sum += before;
    }
    until[0] = sum - g[1];
    until[1] = sum;
    all = __shfl_sync(~0u, sum, 31);
  }
};

// A sum over many keys leaves the range of fp16: it is multiplied as a sum over about a thousand, nearly, by a power of two.
__device__ __forceinline__ float shrink_after(int keys) {
  if (DTYPE != FP16) return 1.f;
  const int bits = 32 - __clz(keys > 0 ? keys : 1);
  return __uint_as_float((u32)(127 - max(bits - 10, 0)) << 23);
}

struct Shape {
  int queries, keys;       // rows of q and of k
  int width, value_width;  // columns of q and k (head_dim itself), of v and out
  int chunks, before;        // chunks of a segment; segments of keys before the first query
  int states;                // kept of each head
  int heads_per_key_head, heads_per_decay, heads_per_state;

  // Key at which the first query stands.
  __device__ __forceinline__ int offset() const { return CAUSAL ? keys - queries : 0; }
};

__device__ __forceinline__ int chunks_of(int tokens) { return (tokens + CHUNK - 1) / CHUNK; }

// The chunks that a block walks over: `count` of them from `first` on, each `step` (1 or −1) after the one before.
struct Walk {
  int first, count, step, position;  // position: token of k at which chunk 0 begins

  __device__ __forceinline__ int chunk(int i) const { return first + i * step; }
  __device__ __forceinline__ int token(int i) const { return position + chunk(i) * CHUNK; }
};
// Of the keys that are a segment's: every segment but a sequence's last is whole.
__device__ __forceinline__ Walk walk_of_state(const Shape& shape, bool backward) {
  const int first = ((int)blockIdx.x - shape.before) * shape.chunks;
  const int count = CAUSAL ? shape.chunks : min(shape.chunks, chunks_of(shape.keys) - first);
  return {backward ? first + count - 1 : first, count, backward ? -1 : 1, shape.offset()};
}
// Of the queries that are a segment's. Without a mask, `position` is only how many keys the state holds.
__device__ __forceinline__ Walk walk_of_outputs(const Shape& shape) {
  const int first = blockIdx.x * shape.chunks;
  return {first, min(shape.chunks, chunks_of(shape.queries) - first), 1, CAUSAL ? shape.offset() : shape.keys};
}

// What belongs to the head of this block.
struct Place {
  int matrix, key_matrix;  // of q, of k
  i64 state;               // in floats, of the head's first
  Forgetting forgetting;

  __device__ __forceinline__ Place(const Shape& shape, const Decays& decays)
      : matrix(blockIdx.z * gridDim.y + blockIdx.y),
        key_matrix(matrix / shape.heads_per_key_head),
        state((i64)(matrix / shape.heads_per_state) * shape.states * STATE_FLOATS),
        forgetting(decays, blockIdx.y, (i64)(matrix / shape.heads_per_decay) * shape.keys, shape.keys) {}
  // What a segment of queries begins with; nothing where there is no other segment.
  __device__ __forceinline__ const float* beginning(const Shape& shape, const float* states) const {
    return shape.states ? states + state + (i64)(CAUSAL ? shape.before + blockIdx.x : 0) * STATE_FLOATS : nullptr;
  }
};

// Each state becomes what its segment begins with: the sum of all segments before, decayed by those between. With `total` the first
// becomes the sum of all instead. Grid: blocks of 256 values of a state, heads, batch.
extern "C" __global__ void __launch_bounds__(256) linear_scan(float* states, int segments, int total) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= FORGOTTEN_AT) return;
  float* const of_head = states + ((i64)blockIdx.z * gridDim.y + blockIdx.y) * segments * STATE_FLOATS;
  float sum = 0.f;
  constexpr int AT_ONCE = 8;  // reads that do not wait for each other
#pragma unroll 1
  for (int first = 0; first < segments; first += AT_ONCE) {
    float own[AT_ONCE], left[AT_ONCE];
#pragma unroll
    for (int s = 0; s < AT_ONCE; ++s) {
      // The last segment's own state is not wanted, and was not made.
      const bool made = first + s < segments - (total ? 0 : 1);
      const float* state = of_head + (i64)(first + s) * STATE_FLOATS;
      own[s] = made ? state[i] : 0.f;
      left[s] = DECAY != NO_DECAY && made ? exp2_fast(state[FORGOTTEN_AT]) : 1.f;
    }
#pragma unroll
    for (int s = 0; s < AT_ONCE; ++s) {
      if (!total && first + s < segments) of_head[(i64)(first + s) * STATE_FLOATS + i] = sum;
      sum = sum * left[s] + own[s];
    }
  }
  if (total) of_head[i] = sum;
}
