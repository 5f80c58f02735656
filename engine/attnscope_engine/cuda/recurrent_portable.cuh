// Methods with a state on every card, token by token, in fp32: S ← decay·S, with the delta rule w = β·(v − Sᵀ·k), else w = v;
// S ← S + k·wᵀ, out = scale·Sᵀ·q.
//
// Sources: Yang et al. 2024, section 2, arXiv 2406.06484, arXiv 2412.06464 and arXiv 2312.06635.
// A thread keeps a quarter of the channels of one column of the state; four lanes add up what they find. Columns never meet, so a
// block has COLUMNS of them, and others of the same head are other blocks. Inputs of TOKENS tokens at a time pass through shared memory.
// Constants: DTYPE, WIDTH (64 or 128), DELTA, GATES (0 none, 1 a token, 2 a channel), GATE_FLOATS (else those of channels are bf16).
#include "ptx.cuh"
#include "state_scans.cuh"

constexpr int TOKENS = 16, COLUMNS = 32, THREADS = 4 * COLUMNS, CHANNELS = WIDTH / 4;
constexpr float LOG2_E = 1.4426950408889634f;

template <int DTYPE_>
struct StoredAs {
  typedef u16 Type;
};
template <>
struct StoredAs<FP32> {
  typedef float Type;
};
typedef StoredAs<DTYPE>::Type Stored;
typedef StoredAs<GATES == 2 && !GATE_FLOATS ? BF16 : FP32>::Type StoredGate;

__device__ __forceinline__ float widened(float x) { return x; }
template <int DTYPE_>
__device__ __forceinline__ float widened(typename StoredAs<DTYPE_>::Type x) {
  if constexpr (DTYPE_ == FP32)
    return x;
  else
    return unpacked<DTYPE_>(x);
}

// Of one head. `beta`, `lengths` and gates of tokens: a number a token; `lengths` may be null.
struct Inputs {
  const Stored *q, *k, *v;
  const StoredGate* gates;
  const float *beta, *lengths;
  int queries, keys, width;
};

struct Buffers {
  float q[TOKENS][WIDTH], k[TOKENS][WIDTH], decay[TOKENS][GATES == 2 ? WIDTH : 1], v[TOKENS][COLUMNS], beta[TOKENS];
};

// Tokens from `token` on; what is not there is 0, and leaves the state as it is. Without `with_values` nothing is written.
__device__ __forceinline__ void load(Buffers& to, const Inputs& from, int token, int column0, bool with_queries, bool with_values) {
  const int shift = from.queries - from.keys;
  for (int i = threadIdx.x; i < TOKENS * WIDTH; i += THREADS) {
    const int t = i / WIDTH, channel = i % WIDTH, at = token + t;
    const bool key = at >= 0 && at < from.keys && channel < from.width;
    const bool query = with_queries && at + shift >= 0 && at + shift < from.queries && channel < from.width;
    const float length = DELTA && key && from.lengths ? from.lengths[at] : 1.f;
    to.k[t][channel] = key ? widened<DTYPE>(from.k[(i64)at * from.width + channel]) * length : 0.f;
    to.q[t][channel] = query ? widened<DTYPE>(from.q[(i64)(at + shift) * from.width + channel]) : 0.f;
    if (GATES == 2) {
      float gate = 0.f;
      if (key) gate = widened<GATE_FLOATS ? FP32 : BF16>(from.gates[(i64)at * from.width + channel]);
      to.decay[t][channel] = exp2_fast(gate * LOG2_E);
    }
  }
  for (int i = threadIdx.x; i < TOKENS * COLUMNS; i += THREADS) {
    const int t = i / COLUMNS, column = column0 + i % COLUMNS, at = token + t;
    const bool there = with_values && at >= 0 && at < from.keys && column < from.width;
    to.v[t][i % COLUMNS] = there ? widened<DTYPE>(from.v[(i64)at * from.width + column]) : 0.f;
  }
  if (threadIdx.x < TOKENS) {
    const int at = token + threadIdx.x;
    const bool there = at >= 0 && at < from.keys;
    if (DELTA) to.beta[threadIdx.x] = there ? from.beta[at] : 0.f;
    if (GATES != 2) to.decay[threadIdx.x][0] = GATES == 1 && there ? exp2_fast(widened<FP32>(((const float*)from.gates)[at]) * LOG2_E) : 1.f;
  }
}

__device__ __forceinline__ float sum_of_four(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// The thread's column of the state, channels 4·(4·i + part) … +3 for each i.
struct OwnState {
  float s[CHANNELS];

  __device__ __forceinline__ static int channel(int i) { return i / 4 * 16 + 4 * (threadIdx.x & 3) + i % 4; }
  __device__ __forceinline__ static int column() { return threadIdx.x >> 2; }

  // `vectors`: of all channels of a token.
  __device__ __forceinline__ float times(const float* vector) const {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < CHANNELS; i += 4) {
      const float4 x = *(const float4*)(vector + channel(i));
      sum = fmaf(x.x, s[i], sum);
      sum = fmaf(x.y, s[i + 1], sum);
      sum = fmaf(x.z, s[i + 2], sum);
      sum = fmaf(x.w, s[i + 3], sum);
    }
    return sum_of_four(sum);
  }
  __device__ __forceinline__ void fade(const float* decay) {
#pragma unroll
    for (int i = 0; i < CHANNELS; ++i) s[i] *= GATES == 2 ? decay[channel(i)] : decay[0];
  }
  __device__ __forceinline__ void write(const float* key, float value) {
#pragma unroll
    for (int i = 0; i < CHANNELS; i += 4) {
      const float4 x = *(const float4*)(key + channel(i));
      s[i] = fmaf(x.x, value, s[i]);
      s[i + 1] = fmaf(x.y, value, s[i + 1]);
      s[i + 2] = fmaf(x.z, value, s[i + 2]);
      s[i + 3] = fmaf(x.w, value, s[i + 3]);
    }
  }
};

// Which tokens: chunks of 64 from the `first` of a head on, `count` of them or what is left of `all`.
struct Span {
  int start, first, count, all;

  __device__ __forceinline__ int begin() const { return start + 64 * first; }
  __device__ __forceinline__ int end() const { return start + 64 * min(first + count, all); }
};

// `out`: of the head, null to write none. `left`: what is left of each of the thread's channels, null if nobody asks.
__device__ __forceinline__ void walk(OwnState& state, float* left, const Inputs& inputs, const Span& span, Stored* out, int column0,
                                     bool with_values, float scale) {
  SHARED_MEMORY(bytes);
  Buffers& buffers = *(Buffers*)bytes;
  const int column = column0 + OwnState::column(), shift = inputs.queries - inputs.keys;
#pragma unroll 1
  for (int token = span.begin(); token < span.end(); token += TOKENS) {
    __syncthreads();
    load(buffers, inputs, token, column0, out != nullptr, with_values);
    __syncthreads();
#pragma unroll 1
    for (int t = 0; t < TOKENS; ++t) {
      const float* const key = buffers.k[t];
      if (GATES) state.fade(buffers.decay[t]);
      if (left) {
#pragma unroll
        for (int i = 0; i < CHANNELS; ++i) left[i] *= buffers.decay[t][GATES == 2 ? OwnState::channel(i) : 0];
      }
      float value = buffers.v[t][OwnState::column()];
      if (DELTA) value = buffers.beta[t] * (value - state.times(key));
      state.write(key, value);
      if (!out) continue;
      const float answer = scale * state.times(buffers.q[t]);
      const int row = token + t + shift;
      if ((threadIdx.x & 3) || row < 0 || row >= inputs.queries || column >= inputs.width) continue;
      if constexpr (DTYPE == FP32)
        out[(i64)row * inputs.width + column] = answer;
      else
        out[(i64)row * inputs.width + column] = (u16)pack<DTYPE>(answer, 0.f);
    }
  }
}

__device__ __forceinline__ Inputs inputs_of(const Stored* q, const Stored* k, const Stored* v, const void* gates, const float* beta,
                                            const float* lengths, int queries, int keys, int width, int matrix, int key_matrix) {
  const i64 tokens = (i64)key_matrix * keys, first = tokens * width;
  const StoredGate* const of_gates = GATES ? (const StoredGate*)gates + (GATES == 2 ? first : tokens) : nullptr;
  return {q + (i64)matrix * queries * width, k + first, v + first, of_gates, beta + tokens, lengths ? lengths + tokens : nullptr,
          queries, keys, width};
}

// out of one segment of some columns. `states`: what each segment of each key head begins with, not read by a head's first.
// Grid: segments × blocks of columns, heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS) recurrent_outputs(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    const void* __restrict__ gates, const float* __restrict__ beta, const float* __restrict__ lengths, const float* __restrict__ states,
    int queries, int keys, int width, int start, int all, int chunks, int segments, int heads_per_key_head, int with_lengths,
    float scale) {
  constexpr int BLOCKS = WIDTH / COLUMNS;
  const int matrix = blockIdx.z * gridDim.y + blockIdx.y, key_matrix = matrix / heads_per_key_head;
  const int segment = blockIdx.x / BLOCKS, column0 = blockIdx.x % BLOCKS * COLUMNS;
  const float* const begin = states + ((i64)key_matrix * segments + segment) * (DELTA ? TRANSITION_FLOATS : FADED_FLOATS);
  OwnState state;
#pragma unroll
  for (int i = 0; i < CHANNELS; ++i)
    state.s[i] = segment == 0 ? 0.f : begin[(column0 + OwnState::column()) * WIDTH + OwnState::channel(i)];
  const Inputs inputs =
      inputs_of(q, k, v, gates, beta, with_lengths ? lengths : nullptr, queries, keys, width, matrix, key_matrix);
  walk(state, nullptr, inputs, {start, segment * chunks, chunks, all}, out + (i64)matrix * queries * width, column0, true, scale);
}

// What one segment does to a state: the even blocks find what it adds; the odd ones, under the delta rule, what it makes of the identity.
// Without it the even ones of the first columns find what is left of each channel too. Grid: 2 × segments but the last × blocks of
// columns, key heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS) recurrent_states(
    const Stored* __restrict__ k, const Stored* __restrict__ v, const void* __restrict__ gates, const float* __restrict__ beta,
    const float* __restrict__ lengths, float* __restrict__ states, int queries, int keys, int width, int start, int all, int chunks,
    int segments, int with_lengths) {
  constexpr int BLOCKS = WIDTH / COLUMNS;
  const int key_matrix = blockIdx.z * gridDim.y + blockIdx.y, segment = blockIdx.x / (2 * BLOCKS);
  const int column0 = blockIdx.x / 2 % BLOCKS * COLUMNS, column = column0 + OwnState::column();
  const bool of_identity = blockIdx.x & 1;
  if (of_identity && (!DELTA || segment == 0)) return;
  float* const mine = states + ((i64)key_matrix * segments + segment) * (DELTA ? TRANSITION_FLOATS : FADED_FLOATS);
  OwnState state;
  float left[CHANNELS];
#pragma unroll
  for (int i = 0; i < CHANNELS; ++i) {
    state.s[i] = of_identity && OwnState::channel(i) == column ? 1.f : 0.f;
    left[i] = 1.f;
  }
  const Inputs inputs = inputs_of(k, k, v, gates, beta, with_lengths ? lengths : nullptr, queries, keys, width, 0, key_matrix);
  walk(state, DELTA ? nullptr : left, inputs, {start, segment * chunks, chunks, all}, nullptr, column0, !of_identity, 1.f);
#pragma unroll
  for (int i = 0; i < CHANNELS; ++i) {
    mine[(of_identity ? STATE_FLOATS : 0) + column * WIDTH + OwnState::channel(i)] = state.s[i];
    if (!DELTA && column == 0) mine[STATE_FLOATS + OwnState::channel(i)] = left[i];
  }
}
