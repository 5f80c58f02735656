// The delta rule on Hopper, chunk by chunk: a block walks over a segment of one head's tokens, the state never leaves its registers.
//
//   S_t = e^(g_t)·(I − β_t·k_t·k_tᵀ)·S_(t−1) + β_t·k_t·v_tᵀ,   out_t = scale·S_tᵀ·q_t,   keys of length 1.
// Sources: Yang et al. 2024, section 3, arXiv 2406.06484; with gates: Yang et al. 2024, section 3, arXiv 2412.06464. With b_i the decay
// (log2) from a chunk's start to after its token i, Λ that of the whole chunk:
//   L_ij = β_i·2^(b_i − b_j)·k_i·k_j below the diagonal,   T = (I + L)⁻¹·diag(β),   R_i = v_i − 2^(b_i)·Sᵀ·k_i  (what S lacks of v_i),
//   U = T·R,   out_i = scale·(2^(b_i)·Sᵀ·q_i + Σ_(j≤i) 2^(b_i − b_j)·(q_i·k_j)·u_j),   S ← 2^Λ·S + Σ_j 2^(Λ − b_j)·k_j·u_jᵀ.
// No exponent of a pair that is seen is positive, so nothing overflows however strong the gates are. Keys need not have length 1: their
// lengths are in the factors of tokens, where they cost nothing.
// Warpgroups of a block: one brings tiles, the factors of tokens, and takes outputs away; one solves: T and the scores of a chunk, a
// chunk or two ahead, in `delta_solver.cuh`; one keeps the state of each 64 columns of the values.
// Constants: those of `chunk_tiles.cuh`, GATED, STAGES (of keys and queries), VALUE_STAGES.
#include "chunk_tiles.cuh"
#include "delta_solver.cuh"
#include "state_scans.cuh"

constexpr int THREADS = 128 * (2 + KEEPERS);
constexpr int OF_BRINGERS = KEEPERS == 2 ? 32 : 40;  // registers that warpgroups give away and take, see `Memory` too

// ---------------------------------------------------------------- shared memory

// Bytes in this order. Outputs go out where their values came in.
template <bool OUTPUTS_>
struct Memory {
  static constexpr bool OUTPUTS = OUTPUTS_;
  static constexpr u32 STAGE = (OUTPUTS ? 2 : 1) * TILE, VALUES_AT = STAGES * STAGE, SOLVED_AT = VALUES_AT + VALUE_STAGES * TILE;
  static constexpr u32 SCORES_AT = SOLVED_AT + 2 * PANEL, LOWER_AT = SCORES_AT + (OUTPUTS ? 2 * PANEL : 0);
  static constexpr u32 DIAGONAL_AT = LOWER_AT + 2 * PANEL, FACTORS_AT = DIAGONAL_AT + BLOCKS * 16 * DIAGONAL_STRIDE * 4;
  static constexpr u32 KEYS_FULL = FACTORS_AT + STAGES * FACTORS * 4, KEYS_FREE = KEYS_FULL + 8 * STAGES;
  static constexpr u32 VALUES_FULL = KEYS_FREE + 8 * STAGES, VALUES_FREE = VALUES_FULL + 8 * VALUE_STAGES;
  static constexpr u32 SOLVED_FULL = VALUES_FREE + 8 * VALUE_STAGES, SOLVED_FREE = SOLVED_FULL + 16;
  static constexpr u32 OUTPUTS_FULL = SOLVED_FREE + 16, END = OUTPUTS_FULL + (OUTPUTS ? 8 * VALUE_STAGES * KEEPERS : 0);

  static constexpr int OF_SOLVERS = KEEPERS == 1 ? 152 : OUTPUTS ? 96 : 128, OF_KEEPERS = KEEPERS == 1 ? 208 : OUTPUTS ? 192 : 176;

  unsigned char* base;
  u32 address;

  __device__ __forceinline__ u32 keys(int i) const { return address + i % STAGES * STAGE; }
  __device__ __forceinline__ u32 queries(int i) const { return keys(i) + TILE; }
  __device__ __forceinline__ u32 values(int i) const { return address + VALUES_AT + i % VALUE_STAGES * TILE; }
  __device__ __forceinline__ u32 solved(int i) const { return address + SOLVED_AT + i % 2 * PANEL; }
  __device__ __forceinline__ u32 scores(int i) const { return address + SCORES_AT + i % 2 * PANEL; }
  __device__ __forceinline__ float* factors(int i) const { return (float*)(base + FACTORS_AT) + i % STAGES * FACTORS; }
  __device__ __forceinline__ u32 outputs_full(int keeper) const { return address + OUTPUTS_FULL + 8 * VALUE_STAGES * keeper; }

  __device__ __forceinline__ void make_barriers() const {
    if (threadIdx.x == 0) {
      make_ring(address + KEYS_FULL, STAGES, 2);  // the copy engine and the warp that makes factors
      make_ring(address + KEYS_FREE, STAGES, 4 + 4 * KEEPERS);
      make_ring(address + VALUES_FULL, VALUE_STAGES, 1);
      make_ring(address + VALUES_FREE, VALUE_STAGES, OUTPUTS ? KEEPERS : 4 * KEEPERS);
      make_ring(address + SOLVED_FULL, 2, 4);
      make_ring(address + SOLVED_FREE, 2, 4 * KEEPERS);
      if (OUTPUTS) make_ring(address + OUTPUTS_FULL, VALUE_STAGES * KEEPERS, 4);
      barriers_are_made();
    }
    __syncthreads();
  }
};

// ---------------------------------------------------------------- the warpgroup that brings

// One thread. Without `v` (a segment's transition) no values are brought.
template <class M>
__device__ __forceinline__ void bring_tiles(const M& memory, const TensorMap& q, const TensorMap& k, const TensorMap* v, int matrix,
                                            int key_matrix, const Walk& walk) {
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const u32 keys_full = barrier_of<STAGES>(memory.address + M::KEYS_FULL, i);
    wait_until_free<STAGES>(memory.address + M::KEYS_FREE, i);
    barrier_expect(keys_full, M::STAGE);
    bring_tile<PANELS>(memory.keys(i), k, keys_full, walk.token(i), key_matrix);
    if (M::OUTPUTS) bring_tile<PANELS>(memory.queries(i), q, keys_full, walk.row(i), matrix);
    if (!v) continue;
    const u32 values_full = barrier_of<VALUE_STAGES>(memory.address + M::VALUES_FULL, i);
    wait_until_free<VALUE_STAGES>(memory.address + M::VALUES_FREE, i);
    barrier_expect(values_full, TILE);
    bring_tile<PANELS>(memory.values(i), *v, values_full, walk.token(i), key_matrix);
  }
}

// Of one head's tokens; `gates` is not read without GATED, `lengths` may be null.
struct OfTokens {
  const float *beta, *gates, *lengths;
  int tokens;
};
// Of two neighbouring tokens; one that is not there neither writes nor decays.
struct Pair {
  float beta[2], gate[2], length[2];

  __device__ __forceinline__ void read(const OfTokens& of, int token) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const bool there = token + e >= 0 && token + e < of.tokens;
      beta[e] = there ? of.beta[token + e] : 0.f;
      gate[e] = GATED && there ? fmaxf(of.gates[token + e] * LOG2_E, MOST_FORGOTTEN) : 0.f;
      length[e] = there && of.lengths ? of.lengths[token + e] : 1.f;
    }
  }
};

// One warp: a lane has two tokens of a chunk, and reads those of the next chunk before it waits.
template <class M>
__device__ __forceinline__ void bring_factors(const M& memory, const OfTokens& of, const Walk& walk, float scale) {
  const int lane = threadIdx.x & 31;
  Pair next;
  if (walk.has(0)) next.read(of, walk.token(0) + 2 * lane);
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const Pair pair = next;
    if (walk.has(i + 1)) next.read(of, walk.token(i + 1) + 2 * lane);
    float until = pair.gate[0] + pair.gate[1];
#pragma unroll
    for (int distance = 1; GATED && distance < 32; distance *= 2) {
      const float before = __shfl_up_sync(~0u, until, distance);
      if (lane >= distance) until += before;
    }
    const float whole = GATED ? __shfl_sync(~0u, until, 31) : 0.f;
    float* const factors = memory.factors(i) + 2 * lane;
    wait_until_free<STAGES>(memory.address + M::KEYS_FREE, i);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float still = e ? until : until - pair.gate[1], kept = GATED ? exp2_fast(still) : 1.f;
      factors[STILL + e] = still;
      factors[SEEN + e] = GATED ? still - log2_fast(pair.length[e]) : pair.length[e];
      factors[GAIN + e] = pair.beta[e] * pair.length[e];
      factors[WRITE + e] = pair.beta[e];
      factors[LENGTH + e] = pair.length[e];
      factors[TAKEN + e] = pair.length[e] * kept;
      factors[LATE + e] = GATED ? exp2_fast(whole - still) : 1.f;
      factors[READ + e] = scale * kept;
    }
    if (lane == 0) factors[WHOLE] = exp2_fast(whole);
    release(barrier_of<STAGES>(memory.address + M::KEYS_FULL, i));
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

// ---------------------------------------------------------------- the warpgroups that keep the state

template <class M>
__device__ __forceinline__ void keep(const M& memory, const Walk& walk, int keeper, float (&state)[WIDTH / 2], bool with_values) {
  u32 rounded[WIDTH / 4];
  round_all(rounded, state);
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const float* const factors = memory.factors(i);
    const u32 values_at = memory.values(i) + keeper * PANEL;
    float answers[CHUNK / 2];
    u32 values[CHUNK / 4], late[CHUNK / 4];
    wait_for<STAGES>(memory.address + M::KEYS_FULL, i);
    products_begin();
    ask_state(answers, rounded, memory.keys(i));
    products_commit();
    if (with_values) {
      wait_for<VALUE_STAGES>(memory.address + M::VALUES_FULL, i);
      load_values(values, values_at);
      if (!M::OUTPUTS) release(barrier_of<VALUE_STAGES>(memory.address + M::VALUES_FREE, i));
    } else {
#pragma unroll
      for (int j = 0; j < CHUNK / 4; ++j) values[j] = 0;
    }
    products_wait<0>();
#pragma unroll
    for (int j = 0; j < CHUNK / 4; ++j) {  // what the state lacks of the values
      const float2 taken = at_tokens(factors + TAKEN, j);
      values[j] = pack<DTYPE>(fmaf(-taken.x, answers[2 * j], unpacked<DTYPE>((u16)values[j])),
                              fmaf(-taken.y, answers[2 * j + 1], unpacked<DTYPE>((u16)(values[j] >> 16))));
    }
    wait_for<2>(memory.address + M::SOLVED_FULL, i);
    products_begin();
    mix_tokens(answers, values, memory.solved(i), 0);
    products_commit();
    if (GATED) {
      const float whole = factors[WHOLE];
#pragma unroll
      for (int j = 0; j < WIDTH / 2; ++j) state[j] *= whole;
    }
    products_wait<0>();
    round_all(values, answers);
    float out[CHUNK / 2];
    if (M::OUTPUTS) {
      products_begin();
      ask_state(out, rounded, memory.queries(i));
      products_commit();
      products_wait<0>();
#pragma unroll
      for (int j = 0; j < CHUNK / 4; ++j) {
        const float2 read = at_tokens(factors + READ, j);
        out[2 * j] *= read.x;
        out[2 * j + 1] *= read.y;
      }
    }
    products_begin();
    if (M::OUTPUTS) {
      mix_tokens(out, values, memory.scores(i), 1);
      products_commit();
    }
    if (GATED) {
#pragma unroll
      for (int j = 0; j < CHUNK / 4; ++j) {
        const float2 left = at_tokens(factors + LATE, j);
        late[j] = pack<DTYPE>(unpacked<DTYPE>((u16)values[j]) * left.x, unpacked<DTYPE>((u16)(values[j] >> 16)) * left.y);
      }
      products_begin();
    }
    write_state(state, GATED ? late : values, memory.keys(i));
    products_commit();
    if (M::OUTPUTS) {
      products_wait<1>();
      store_outputs(values_at, out);
      make_seen();
      release(barrier_of<VALUE_STAGES>(memory.outputs_full(keeper), i));
    }
    products_wait<0>();
    round_all(rounded, state);
    release(barrier_of<STAGES>(memory.address + M::KEYS_FREE, i));
    release(barrier_of<2>(memory.address + M::SOLVED_FREE, i));
  }
}

// ---------------------------------------------------------------- kernels

__device__ __forceinline__ OfTokens of_head(const float* beta, const float* gates, const float* lengths, int keys, int key_matrix) {
  const i64 first = (i64)key_matrix * keys;
  return {beta + first, GATED ? gates + first : gates, lengths ? lengths + first : lengths, keys};
}

// out of one segment. `states`: what each segment of each key head begins with, not read by a head's first. Grid: segments, heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS, 1) delta_outputs(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
    const __grid_constant__ TensorMap out, const float* __restrict__ beta, const float* __restrict__ gates,
    const float* __restrict__ lengths, const float* __restrict__ states, int queries, int keys, int start, int all, int chunks,
    int segments, int heads_per_key_head, int with_lengths, float scale) {
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
    if (threadIdx.x == 0) bring_tiles(memory, q, k, &v, matrix, key_matrix, walk);
    if (warp == 1) bring_factors(memory, of_head(beta, gates, with_lengths ? lengths : nullptr, keys, key_matrix), walk, scale);
    if (warp >= 2 && warp < 2 + KEEPERS && (threadIdx.x & 31) == 0) take_outputs(memory, out, warp - 2, matrix, walk);
  } else if (group == 1) {
    registers_shrink<M::OF_SOLVERS>();
    solve(memory, walk, scale);
  } else {
    registers_grow<M::OF_KEEPERS>();
    float state[WIDTH / 2];
    if (segment == 0)
      clear(state);
    else
      load_state(state, states + ((i64)key_matrix * segments + segment) * TRANSITION_FLOATS, group - 2);
    keep(memory, walk, group - 2, state, true);
  }
}

// What one segment does to a state, S ↦ P·S + Z: the even blocks of x find Z, its own writes beginning with nothing, the odd ones P, which
// is what becomes of the identity when nothing is written. A head's last segment needs neither, its first no P, but an odd block of it
// is idle only. Grid: two a segment, key heads, batch.
extern "C" __global__ void __launch_bounds__(THREADS, 1) delta_transitions(
    const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const float* __restrict__ beta,
    const float* __restrict__ gates, const float* __restrict__ lengths, float* __restrict__ states, int queries, int keys, int start,
    int all, int chunks, int segments, int with_lengths) {
  typedef Memory<false> M;
  SWIZZLED_MEMORY(bytes);
  const M memory = {bytes, shared_address(bytes)};
  const Shape shape = {queries, keys, start, all, chunks, segments, 1};
  const int key_matrix = blockIdx.z * gridDim.y + blockIdx.y, segment = blockIdx.x >> 1;
  const bool of_identity = blockIdx.x & 1;
  if (of_identity && segment == 0) return;
  const Walk walk = {shape, segment * chunks};
  const int group = uniform(threadIdx.x >> 7), warp = threadIdx.x >> 5 & 3;
  memory.make_barriers();
  if (group == 0) {
    registers_shrink<OF_BRINGERS>();
    if (threadIdx.x == 0) bring_tiles(memory, k, k, of_identity ? nullptr : &v, 0, key_matrix, walk);
    if (warp == 1) bring_factors(memory, of_head(beta, gates, with_lengths ? lengths : nullptr, keys, key_matrix), walk, 1.f);
  } else if (group == 1) {
    registers_shrink<M::OF_SOLVERS>();
    solve(memory, walk, 1.f);
  } else {
    registers_grow<M::OF_KEEPERS>();
    const int keeper = group - 2, thread = threadIdx.x & 127;
    const int row = 64 * keeper + 16 * (thread >> 5) + (thread >> 2 & 7), column = 2 * (thread & 3);
    float state[WIDTH / 2];
#pragma unroll
    for (int i = 0; i < WIDTH / 2; ++i)
      state[i] = of_identity && row + 8 * (i >> 1 & 1) == column + 8 * (i >> 2) + (i & 1) ? 1.f : 0.f;
    keep(memory, walk, keeper, state, !of_identity);
    store_state(states + (((i64)key_matrix * segments + segment) * 2 + of_identity) * STATE_FLOATS, state, keeper);
  }
}
