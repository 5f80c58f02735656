// What the kernels of linear attention share: features, decays of a chunk, how a state lies in memory, the scan over segments.
//
// One head is S_t = e^(g_t)·S_(t−1) + φ(k_t)·v_tᵀ, out_t = scale·φ(q_t)·S_t, or divided by φ(q_t)·z_t with z_t = e^(g_t)·z_(t−1) + φ(k_t).
// Chunks of CHUNK tokens: with b_i the decay (log2) from the chunk's start to after its token i, Λ that of the whole chunk,
//   out_i = 2^(b_i)·φ(q_i)·S + Σ_(j≤i) 2^(b_i − b_j)·(φ(q_i)·φ(k_j))·v_j,   S ← 2^Λ·S + Σ_j 2^(Λ − b_j)·φ(k_j)·v_jᵀ.
// No exponent is positive, so nothing overflows however strong the decay is.
// Constants: DTYPE, WIDTH (head_dim rounded up to 64 or 128), FEATURE, DECAY, NORMALISED, CAUSAL.
#include "ptx.cuh"

enum FeatureKind { IDENTITY = 0, ELU = 1, RELU = 2, RELU_SQUARED = 3, EXPONENTIAL = 4 };
enum DecayKind { NO_DECAY = 0, PER_HEAD = 1, PER_TOKEN = 2 };

constexpr int CHUNK = 64;
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

// Comparisons are written so that NaN stays NaN.
__device__ __forceinline__ float feature(float x) {
  if constexpr (FEATURE == ELU)
    return x > 0.f ? x + 1.f : exp2_fast(x * LOG2_E);
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
  Decays decays;
  i64 first;   // of the head's tokens, or the head itself
  int tokens;  // those outside 0 … tokens do not decay: they are not there

  // Of the tokens `position` and `position` + 1.
  __device__ __forceinline__ void read(float (&g)[2], int position) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      g[i] = 0.f;
      if (position + i < 0 || position + i >= tokens) continue;
#if DECAY == 1
      g[i] = decays.of_head[first];
#elif DECAY == 2
      g[i] = decays[first + position + i];
#endif
      g[i] = fmaxf(g[i] * LOG2_E, MOST_FORGOTTEN);
    }
  }
};

// b of the two tokens that this lane has of a chunk's 64, and Λ: running sums over a warp.
struct Forgotten {
  float until[2], all;

  __device__ __forceinline__ Forgotten(const float (&g)[2]) {
    float sum = g[0] + g[1];
    const int lane = threadIdx.x & 31;
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
