// What may be done to scores before their softmax. Where SOFTCAP and ALIBI are 0 there is nothing here.
//
// SOFTCAP: s becomes c·tanh(s / c), s being scaled already (Gemma Team 2024, "Gemma 2", section 2, arXiv 2408.00118).
// ALIBI: then slope·distance is taken away, with a slope of each query head (Press et al. 2021, section 3, arXiv 2108.12409).
// FORGETS: then what a table says of the key is added, less what it says of a key near the query's own (Lin et al. 2025, arXiv
// 2503.02130: of its own; the same to all scores of a row cancels in the output, and stays in the log-sum-exp, which is not read).
// A changed score is in units of log2 and has its scale: the exponentials after it are taken with a scale of 1.
// All of it is left to the preprocessor, not to `if constexpr`: kernels without it are the same machine code to the last instruction.
#include "ptx.cuh"

#define CHANGES_SCORES (SOFTCAP || ALIBI || FORGETS)  // a constant that is not defined is 0
#if CHANGES_SCORES

// The instruction is off by up to 2^-11 of what it gives: an eighth of what bf16 rounds a score by, but as much as fp16 does.
__device__ __forceinline__ float tanh_of_score(float x) {
  if constexpr (DTYPE == BF16) return tanh_fast(x);
  if constexpr (DTYPE == FP16) return 1.f - 2.f * reciprocal(1.f + exp2_fast(2.8853900817779268f * x));
  return tanhf(x);
}

#if FORGETS
// Of a head the table of its keys, in log2, with MARGIN places before and behind them, and where in it are this thread's first column and
// the key of its first row: places, not pointers, which would take two registers each.
typedef const float* OfHead;
struct Bias {
  OfHead keys;
  int column, own;
};
#else
typedef float OfHead;
// ALiBi's part of a row's scores, in log2: slope·column + start, columns being counted from this thread's first on.
struct Bias {
  float slope, start;
};
#endif

#if FORGETS
struct ScoreChange {
  const float* table;  // (B, G, stride)
  int stride, heads_per_key_head, offset;
  float scale;
  static constexpr int MARGIN = 256;

  // `head` is counted over all sequences.
  __device__ __forceinline__ OfHead of_head(int head) const { return table + (i64)(head / heads_per_key_head) * stride + MARGIN; }
  __device__ __forceinline__ Bias bias(OfHead keys, int row, int first_key) const {
    return {keys, first_key + 2 * (int)(threadIdx.x & 3), max(row + offset, -MARGIN)};
  }
  template <int COUNT>
  __device__ __forceinline__ void apply(float* scores, const Bias& upper, int, const Bias&, int) const {
    const float own = load_number(upper.keys + upper.own);
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
      const float2 added = load_numbers(upper.keys + upper.column + 2 * i);
      scores[i] = fmaf(scores[i], scale, added.x - own);
      scores[i + 1] = fmaf(scores[i + 1], scale, added.y - own);
      scores[i + 2] = fmaf(scores[i + 2], scale, added.x - own);
      scores[i + 3] = fmaf(scores[i + 3], scale, added.y - own);
    }
  }
  template <int COUNT>
  __device__ __forceinline__ void apply(float* scores, const Bias& bias, int behind = 0) const {
    apply<COUNT>(scores, bias, behind, bias, behind + 8);
  }
};
#else
struct ScoreChange {
  float scale, cap;   // SOFTCAP: from a product to tanh's argument, and from tanh to log2; else from a product to log2
  int heads, offset;  // H; query `row` stands at key row + offset

  __device__ __forceinline__ ScoreChange(int softcap, int heads_, int offset_, float scale_log2) : heads(heads_), offset(offset_) {
    cap = 1.4426950408889634f * softcap;
    scale = SOFTCAP ? scale_log2 / cap : scale_log2;
  }

  // 2^(-8/P), its square, its cube … of P heads, where P is a power of two; heads past the last such take every second of 2·P.
  __device__ __forceinline__ float slope(int head) const {
    if (!ALIBI) return 0.f;
    const int power = 1 << (31 - __clz(heads));
    const int step = head < power ? 2 * (head + 1) : 2 * (head - power) + 1;
    return 1.4426950408889634f * exp2_fast(-4.f * step / power);
  }
  // Of a query `row` and a thread's part of keys from first_key on.
  __device__ __forceinline__ Bias bias(float slope, int row, int first_key) const {
    return {slope, slope * (first_key + 2 * (int)(threadIdx.x & 3) - row - offset)};
  }

  // Changes COUNT accumulators of a thread, which in all tensor cores' layouts are scores of two rows. Each row lies as many rows
  // behind that of its bias as said: where the slope is the same, two rows and more have one bias, and no register each.
  template <int COUNT>
  __device__ __forceinline__ void apply(float* scores, const Bias& upper, int upper_behind, const Bias& lower, int lower_behind) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const bool below = i & 2;
      const int column = 8 * (i >> 2) + (i & 1) - (below ? lower_behind : upper_behind);
      const float score = SOFTCAP ? cap * tanh_of_score(scores[i] * scale) : scores[i] * scale;
      const float ahead = fmaf(below ? lower.slope : upper.slope, (float)column, below ? lower.start : upper.start);
      scores[i] = ALIBI ? score + (CAUSAL ? ahead : -fabsf(ahead)) : score;
    }
  }
  // The same of the rows `behind` and behind + 8.
  template <int COUNT>
  __device__ __forceinline__ void apply(float* scores, const Bias& bias, int behind = 0) const {
    apply<COUNT>(scores, bias, behind, bias, behind + 8);
  }
};
#endif
#endif
