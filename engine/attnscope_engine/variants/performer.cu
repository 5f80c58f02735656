// What: linear attention on positive random features of q and k, which estimate the softmax (FAVOR+): features, then `linear.cuh`.
// Grid → work: x blocks of 64 tokens (highest: a share of a head's keys; reduce: one), y the heads, z the batch; then as `linear.cu`.
// Block → work: 64 tokens times up to 128 directions, 4 tokens and 8 directions a thread; then as `linear.cu`.
// Shared memory: 32 channels of the tokens and of the directions, 25 KiB; then as `linear.cu`.
// Numerics: exponents in fp32 from fp32 directions; features rounded to the dtype; state, sums and normaliser as `linear.cu`.
// Limits: 128 features; head_dim ≤ 128 and a multiple of 8; any n, any n_keys (causal is aligned bottom-right).
#include "ptx.cuh"
#if MAKES_FEATURES

// φ(x)_r = exp(ω_r·x̃ − ‖x̃‖²/2 − c), x̃ = x·D^-¼. Of keys c is h_r, the largest exponent that any key of the head has in direction r, and
// it goes to the queries: exp(ω_r·q̃ + h_r − the largest of these of the query). Both cancel in the division. So each feature of keys
// is at most TOP, each query has one that is TOP, and without a mask no row's sum is below TOP².
// What is lost: a feature of fewer than 2^-24/TOP of the largest is 0 in fp16 (in bf16 and fp32 of fewer than e^-87). A causal row all
// of whose keys are so far below later ones in every direction that its query has gives 0 where the processor, whose h_r is that of the
// keys so far, keeps it. With normal numbers of unit size a feature lies e^-11 below the largest (D 64), e^-13 (D 128).
// bf16 rounds each feature to 2^-9 of it, which is of the size of what it does to the weights of any linear attention.

constexpr int TOKENS = 64, CHANNELS = 32, FEATURES = 128, PER_THREAD = 8, THREADS = 256;
// TOP² · 128 features stays a number of fp16, and so does a state, kept as one of about a thousand keys, of values up to 4.
constexpr float TOP_LOG2 = DTYPE == FP16 ? 4.f : 0.f;
constexpr float LOG2_E = 1.4426950408889634f;

#if DTYPE == 0
typedef float Stored;
#else
typedef u16 Stored;
#endif

struct __align__(16) Slices {
  float tokens[CHANNELS][TOKENS + 4], directions[CHANNELS][FEATURES];
};

// This thread's tokens and directions of a block's.
__device__ __forceinline__ int own_token() { return threadIdx.x / 16 * 4; }
__device__ __forceinline__ int own_feature() { return threadIdx.x % 16 * PER_THREAD; }

// Eight channels of a token, in fp32.
__device__ __forceinline__ void read_channels(float (&x)[8], const Stored* from) {
#if DTYPE == 0
  const float4 low = *(const float4*)from, high = *(const float4*)(from + 4);
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w, x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
#else
  const uint4 of = *(const uint4*)from;
  const u32 pairs[4] = {of.x, of.y, of.z, of.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = unpacked<DTYPE>((u16)(pairs[i / 2] >> i % 2 * 16));
#endif
}

// The exponents ω_r·x̃ of this thread's 4 tokens and 8 directions, less `half_square`·‖x‖². Directions: (width, FEATURES), D^-¼ in them.
__device__ __forceinline__ void exponents(float (&found)[4][PER_THREAD], Slices& slices, const Stored* tokens, const float* directions,
                                          int first, int count, int width, float half_square) {
  float squares[4] = {};
#pragma unroll
  for (int t = 0; t < 4; ++t)
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r) found[t][r] = 0.f;
#pragma unroll 1
  for (int channel0 = 0; channel0 < width; channel0 += CHANNELS) {
    const int row = threadIdx.x / 4, part = threadIdx.x % 4 * 8;  // a thread brings 8 channels of a token
    float x[8] = {};
    if (first + row < count && channel0 + part < width) read_channels(x, tokens + (i64)(first + row) * width + channel0 + part);
    __syncthreads();  // nobody needs the slices before any more
#pragma unroll
    for (int i = 0; i < 8; ++i) slices.tokens[part + i][row] = x[i];
#pragma unroll
    for (int i = threadIdx.x * 4; i < CHANNELS * FEATURES; i += THREADS * 4) {
      const bool there = channel0 + i / FEATURES < width;
      *(float4*)&slices.directions[i / FEATURES][i % FEATURES] =
          there ? *(const float4*)(directions + (i64)channel0 * FEATURES + i) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    __syncthreads();
#pragma unroll 4
    for (int channel = 0; channel < CHANNELS; ++channel) {
      const float4 of = *(const float4*)&slices.tokens[channel][own_token()];
      const float4 low = *(const float4*)&slices.directions[channel][own_feature()];
      const float4 high = *(const float4*)&slices.directions[channel][own_feature() + 4];
      const float token[4] = {of.x, of.y, of.z, of.w}, along[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        squares[t] = fmaf(token[t], token[t], squares[t]);
#pragma unroll
        for (int r = 0; r < PER_THREAD; ++r) found[t][r] = fmaf(token[t], along[r], found[t][r]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < 4; ++t)
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r) found[t][r] -= half_square * squares[t];
}

__device__ __forceinline__ i64 head_of_block() { return (i64)blockIdx.z * gridDim.y + blockIdx.y; }

// The largest exponent of each direction over a share of one head's keys: parts (B, G, gridDim.x, FEATURES).
extern "C" __global__ void __launch_bounds__(THREADS) performer_highest(const Stored* __restrict__ k, const float* __restrict__ directions,
                                                                        float* __restrict__ parts, int keys, int width,
                                                                        float half_square) {
  __shared__ Slices slices;
  const Stored* const of_head = k + head_of_block() * keys * width;
  float highest[PER_THREAD], found[4][PER_THREAD];
#pragma unroll
  for (int r = 0; r < PER_THREAD; ++r) highest[r] = NEG_INF;
#pragma unroll 1
  for (int first = blockIdx.x * TOKENS; first < keys; first += gridDim.x * TOKENS) {
    exponents(found, slices, of_head, directions, first, keys, width, half_square);
#pragma unroll
    for (int t = 0; t < 4; ++t)
#pragma unroll
      for (int r = 0; r < PER_THREAD; ++r)
        if (first + own_token() + t < keys) highest[r] = fmaxf(highest[r], found[t][r]);
  }
  __syncthreads();
  float* const of_block = &slices.directions[0][0];  // (16 threads with the same directions, FEATURES)
#pragma unroll
  for (int r = 0; r < PER_THREAD; ++r) of_block[threadIdx.x / 16 * FEATURES + own_feature() + r] = highest[r];
  __syncthreads();
  if (threadIdx.x >= FEATURES) return;
  float top = NEG_INF;
  for (int i = 0; i < 16; ++i) top = fmaxf(top, of_block[i * FEATURES + threadIdx.x]);
  parts[(head_of_block() * gridDim.x + blockIdx.x) * FEATURES + threadIdx.x] = top;
}

// The largest of the `count` parts of each head, at the place of its first. A thread a direction.
extern "C" __global__ void __launch_bounds__(FEATURES) performer_reduce(float* parts, int count) {
  float* const of_head = parts + head_of_block() * count * FEATURES + threadIdx.x;
  float top = of_head[0];
  for (int i = 1; i < count; ++i) top = fmaxf(top, of_head[(i64)i * FEATURES]);
  of_head[0] = top;
}

// Features (…, columns) of the queries or keys of a head, the first `features` of them; zeros behind. `parts`: as reduced, `count` a head.
extern "C" __global__ void __launch_bounds__(THREADS) performer_features(
    const Stored* __restrict__ x, const float* __restrict__ directions, const float* __restrict__ parts, Stored* __restrict__ out,
    int tokens, int width, int count, int features, int columns, int heads_per_key_head, int of_queries, float half_square) {
  __shared__ Slices slices;
  const int first = blockIdx.x * TOKENS;
  const float* const highest = parts + head_of_block() / heads_per_key_head * count * FEATURES + own_feature();
  float found[4][PER_THREAD];
  exponents(found, slices, x + head_of_block() * tokens * width, directions, first, tokens, width, half_square);
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    float largest = NEG_INF;
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r) {
      const bool there = own_feature() + r < features;
      found[t][r] += of_queries ? highest[r] : -highest[r];
      if (there) largest = fmaxf(largest, found[t][r]);
    }
#pragma unroll
    for (int distance = 1; distance < 16; distance *= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, distance));
    const float least = of_queries ? largest : 0.f;
    const int token = first + own_token() + t;
    if (token >= tokens || own_feature() >= columns) continue;
    Stored* const to = out + (head_of_block() * tokens + token) * columns + own_feature();
#pragma unroll
    for (int r = 0; r < PER_THREAD; r += 2) {
      const float a = own_feature() + r < features ? exp2_fast((found[t][r] - least) * LOG2_E + TOP_LOG2) : 0.f;
      const float b = own_feature() + r + 1 < features ? exp2_fast((found[t][r + 1] - least) * LOG2_E + TOP_LOG2) : 0.f;
#if DTYPE == 0
      to[r] = a, to[r + 1] = b;
#else
      *(u32*)(to + r) = pack<DTYPE>(a, b);
#endif
    }
  }
}
#else
#include "linear.cuh"
#if HOPPER
#include "linear_hopper.cuh"
#else
#include "linear_portable.cuh"
#endif
#endif
