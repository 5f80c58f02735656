// Linear attention on Hopper, chunk by chunk: a block walks over a segment of one head's tokens, the state never leaves its registers.
//
// Sources: Katharopoulos et al. 2020, arXiv 2006.16236; chunks: Yang et al. 2024, section 4, arXiv 2312.06635, and Dao and Gu 2024,
// section 6, arXiv 2405.21060.
// Warpgroups of a block of `linear_outputs`: one brings tiles (`linear_hopper_tiles.cuh`); one weighs: the products q·k of a chunk,
// masked, decayed, divided, to shared memory, a chunk or two ahead; one keeps the state of each 64 columns of the values. The state is
// kept turned, as (values × keys) accumulators: rounded to 16 bits they are, register by register, the left operand of
// outᵀ = Sᵀ·φ(q)ᵀ, so that nothing of the state passes through shared memory. What a segment's later chunks forget is part of the
// weights in `linear_states`, which walks from the last chunk to the first: the chunks that `linear_outputs` reads first are warm.
#include "linear_hopper_tiles.cuh"

typedef Memory<false, true, STATE_STAGES> StateMemory;
typedef Memory<true, bool(CAUSAL), STAGES> OutputMemory;
constexpr int STATE_THREADS = 128 * (1 + KEEPERS), OUTPUT_THREADS = 128 * (2 + KEEPERS);
constexpr int WEIGHTS = CHUNK / 2, OUTPUTS = CHUNK / 2;  // accumulators of a thread
// Registers that warpgroups give away and take; blocks of three have enough without. Features come the faster the more of them are
// under way, in registers that weighing leaves.
constexpr bool MOVE_REGISTERS = KEEPERS == 2;
constexpr int FOR_FEATURES = !MAPS || (NORMALISED && DECAY) ? 0 : NORMALISED && CAUSAL ? 8 : 16;
constexpr int OF_BRINGERS = 40 + FOR_FEATURES, OF_WEIGHERS = 120 - FOR_FEATURES, OF_KEEPERS = 176;

// ---------------------------------------------------------------- what a segment adds to the state

// The state of one segment. Grid: segments, heads with a state of their own, batch.
extern "C" __global__ void __launch_bounds__(STATE_THREADS, 1) linear_states(
    const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ Decays decays,
    float* __restrict__ states, int queries, int keys, int width, int value_width, int chunks, int before, int kept,
    int heads_per_key_head, int heads_per_decay) {
  SWIZZLED_MEMORY(bytes);
  const Shape shape = {queries, keys, width, value_width, chunks, before, kept, heads_per_key_head, heads_per_decay, 1};
  const StateMemory memory = {bytes, shared_address(bytes)};
  const Place place(shape, decays);
  const Walk walk = walk_of_state(shape, true);
  float* const mine = states + place.state + (i64)blockIdx.x * STATE_FLOATS;
  const int group = threadIdx.x >> 7, warp = threadIdx.x >> 5 & 3;
  memory.make_barriers(4 * KEEPERS);

  if (group == 0) {
    if (warp == 0) {
      const float all = bring_chunks<true>(memory, k, k, v, 0, place.key_matrix, walk, place.forgetting);
      if (DECAY && (threadIdx.x & 31) == 0) mine[FORGOTTEN_AT] = all;
    } else if (MAPS) {
      map_chunks(memory, walk, shape);
    }
    return;
  }
  const int keeper = group - 1, column = 16 * (4 * keeper + warp);
  float state[WIDTH / 2];
#pragma unroll
  for (int i = 0; i < WIDTH / 2; ++i) state[i] = 0.f;
  KeySums sums;
#pragma unroll 1
  for (int i = 0; i < walk.count; ++i) {
    const u32 stage = memory.stage(i), of_keys = stage + StateMemory::KEYS_AT;
    const float* left = memory.decays(i) + LEFT_AT;
    u32 values[16];
    barrier_wait(memory.barrier(StateMemory::FULL, i), StateMemory::parity(i));
    load_values(values, stage + StateMemory::VALUES_AT + keeper * PANEL);
    if (DECAY) scale_values(values, left);
    products_begin();
    add_chunk(state, values, of_keys);
    products_commit();
    if (NORMALISED) sums.add(of_keys, column, left);
    products_wait<0>();
    release(memory.barrier(StateMemory::FREE, i));
  }
  store_state(mine + keeper * 64 * WIDTH, state);
  if (NORMALISED) sums.store(mine + NORMALISER_AT + column);
}

// ---------------------------------------------------------------- the warpgroup that weighs

// z of 16 columns as a right operand: rounded, and what rounding took, its columns 0 and 1.
__device__ __forceinline__ void right_of_normaliser(u32 (&b)[2], const float* z, float shrink) {
  const int lane = threadIdx.x & 31;
  b[0] = b[1] = 0;
  if (lane >= 8) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* pair = z + 8 * half + 2 * (lane & 3);
    const float x = pair[0] * shrink, y = pair[1] * shrink;
    b[half] = pack<DTYPE>(x, y);
    if (lane >= 4) b[half] = pack<DTYPE>(x - unpacked<DTYPE>((u16)b[half]), y - unpacked<DTYPE>((u16)(b[half] >> 16)));
  }
}
// φ(q)·z of a thread's two rows, q from a tile. What two products read is asked for before the first of them, and neighbours sum apart:
// nobody waits for one number after the other.
__device__ __forceinline__ void multiply_normaliser(float (&divisor)[2], u32 queries, const float* z, float shrink) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
  constexpr int AT_ONCE = 2;
  float sums[2][4] = {};
#pragma unroll
  for (int first = 0; first < WIDTH / 16; first += AT_ONCE) {
    u32 a[AT_ONCE][4], b[AT_ONCE][2];
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j) {
      load_matrices(a[j], part_of(queries, 16 * warp + (lane & 15), 2 * (first + j) + (lane >> 4)));
      right_of_normaliser(b[j], z + 16 * (first + j), shrink);
    }
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j) mma_16bit<DTYPE>(sums[j & 1], a[j], b[j][0], b[j][1]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = sums[0][2 * half] + sums[0][2 * half + 1] + (sums[1][2 * half] + sums[1][2 * half + 1]);
    divisor[half] = __shfl_sync(~0u, sum, lane & ~3) * (1.f / shrink);
  }
}

// Hides what is after the query and lets the rest fade; rows `row` and row + 8 of the chunk.
__device__ __forceinline__ void mask_and_decay(float (&weights)[WEIGHTS], int row, const float* still) {
  const int first = 2 * (threadIdx.x & 3);
#pragma unroll
  for (int i = 0; i < WEIGHTS; ++i) {
    const int column = first + 8 * (i >> 2) + (i & 1), of = row + 8 * (i >> 1 & 1);
    if (column > of)
      weights[i] = 0.f;
    else if (DECAY)
      weights[i] *= exp2_fast(still[of] - still[column]);
  }
}

__device__ __forceinline__ void store_weights(u32 panel, const float (&weights)[WEIGHTS]) {
  const int lane = threadIdx.x & 31, row = 16 * (threadIdx.x >> 5 & 3) + (lane & 15);
#pragma unroll
  for (int i = 0; i < WEIGHTS; i += 8)
    store_matrices(part_of(panel, row, i / 4 + (lane >> 4)), pack<DTYPE>(weights[i], weights[i + 1]),
                   pack<DTYPE>(weights[i + 2], weights[i + 3]), pack<DTYPE>(weights[i + 4], weights[i + 5]),
                   pack<DTYPE>(weights[i + 6], weights[i + 7]));
}

__device__ __forceinline__ void weigh(const OutputMemory& memory, const Walk& walk, const float* begin, float scale) {
  typedef OutputMemory M;
  constexpr int COLUMNS = WIDTH / 4;  // of the normaliser, that a warp sums
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3, row = 16 * warp + (lane >> 2);
  KeySums sums[COLUMNS / 16];
  const auto normaliser = [&](int i) { return memory.floats(M::NORMALISERS_AT) + (CAUSAL ? i & 1 : 0) * WIDTH; };
  if (NORMALISED) {
#pragma unroll
    for (int j = 0; j < COLUMNS / 16; ++j) {
      if (begin) sums[j].load(begin + NORMALISER_AT + COLUMNS * warp + 16 * j);
      sums[j].store(normaliser(0) + COLUMNS * warp + 16 * j);
    }
    named_sync(1, 128);
  }
#pragma unroll 1
  for (int i = 0; i < walk.count; ++i) {
    const u32 queries = memory.stage(i), keys = queries + M::KEYS_AT, place = i & 1;
    const float* decays = memory.decays(i);
    const float shrink = shrink_after(CAUSAL ? walk.token(i) : walk.position);
    float weights[WEIGHTS], divisor[2] = {}, factor[2] = {1.f, 1.f};
    barrier_wait(memory.barrier(M::FULL, i), M::parity(i));
    if (CAUSAL) {
      products_begin();
#pragma unroll
      for (int step = 0; step < WIDTH / 16; ++step) {
        const u32 at = (step / 4 * PANEL + step % 4 * 32) / 16;
        Wgmma<CHUNK>::shared(weights, operand(queries, 0) + at, operand(keys, 0) + at, step != 0);
      }
      products_commit();
    }
    if (NORMALISED) multiply_normaliser(divisor, queries, normaliser(i), shrink);
    if (DECAY && CAUSAL) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        factor[half] = exp2_fast(decays[STILL + row + 8 * half]);
        divisor[half] *= factor[half];
      }
    }
    if (CAUSAL) {
      products_wait<0>();
      mask_and_decay(weights, row, decays + STILL);
    }
    if (!(NORMALISED && CAUSAL)) release(memory.barrier(M::FREE, i));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float of_row = scale;
      if (NORMALISED) {
        float sum = 0.f;
        if (CAUSAL) {
#pragma unroll
          for (int j = 2 * half; j < WEIGHTS; j += 4) sum += weights[j] + weights[j + 1];
          sum += __shfl_xor_sync(~0u, sum, 1);
          sum += __shfl_xor_sync(~0u, sum, 2);
        }
        sum += divisor[half];
        of_row = sum == 0.f ? 0.f : reciprocal(sum);
      }
      factor[half] *= of_row * (1.f / shrink);
      if (CAUSAL) {
#pragma unroll
        for (int j = 2 * half; j < WEIGHTS; j += 4) {
          weights[j] *= of_row;
          weights[j + 1] *= of_row;
        }
      }
    }
    barrier_wait(memory.address + M::WEIGHTS_FREE + 8 * place, (i >> 1 & 1) ^ 1);
    if (CAUSAL) store_weights(memory.address + M::WEIGHTS_AT + place * PANEL, weights);
    float* const factors = memory.floats(M::FACTORS_AT) + place * CHUNK;
    if ((lane & 3) == 0) {
      factors[row] = factor[0];
      factors[row + 8] = factor[1];
    }
    make_seen();
    release(memory.address + M::WEIGHTS_FULL + 8 * place);
    if (NORMALISED && CAUSAL) {  // behind the weights, which others wait for
      const u32 again_keys = memory.stage(again(i)) + M::KEYS_AT;  // a register less until here
#pragma unroll
      for (int j = 0; j < COLUMNS / 16; ++j) {
        if (DECAY) sums[j].scale(decays[WHOLE_AT]);
        sums[j].add(again_keys, COLUMNS * again(warp) + 16 * j, decays + LEFT_AT);
        sums[j].store(normaliser(i + 1) + COLUMNS * warp + 16 * j);
      }
      release(memory.barrier(M::FREE, i));
      named_sync(1, 128);  // the next normaliser is complete, and nobody reads this one any more
    }
  }
}

// ---------------------------------------------------------------- a warpgroup that keeps 64 columns of the state

// Rounded: the left operand of the next products.
__device__ __forceinline__ void round_state(u32 (&left)[WIDTH / 4], const float (&state)[WIDTH / 2], float shrink) {
#pragma unroll
  for (int i = 0; i < WIDTH / 4; ++i) {
    const float x = state[2 * i], y = state[2 * i + 1];
    left[i] = DTYPE == FP16 ? pack<DTYPE>(x * shrink, y * shrink) : pack<DTYPE>(x, y);
  }
}

// 64 columns of a chunk's output, turned back, to shared memory and from there by the copy engine: one of two places in turn.
__device__ __forceinline__ void store_outputs(const TensorMap& to, u32 panel, const float (&out)[OUTPUTS], int keeper, int row, int matrix) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3, thread = threadIdx.x & 127;
  if (thread == 0) stores_wait_read<1>();
  named_sync(2 + keeper, 128);
#pragma unroll
  for (int i = 0; i < OUTPUTS; i += 8)
    store_matrices_transposed(part_of(panel, 2 * i + (lane >> 4) * 8 + (lane & 7), 2 * warp + (lane >> 3 & 1)),
                              pack<DTYPE>(out[i], out[i + 1]), pack<DTYPE>(out[i + 2], out[i + 3]),
                              pack<DTYPE>(out[i + 4], out[i + 5]), pack<DTYPE>(out[i + 6], out[i + 7]));
  make_seen();
  named_sync(2 + keeper, 128);
  if (thread == 0) {
    store_box(to, panel, 64 * keeper, row, matrix);
    stores_commit();
  }
}

// What rounding took.
__device__ __forceinline__ void rest_of_state(u32 (&rest)[WIDTH / 4], const u32 (&left)[WIDTH / 4], const float (&state)[WIDTH / 2],
                                              float shrink) {
#pragma unroll
  for (int i = 0; i < WIDTH / 4; ++i)
    rest[i] = pack<DTYPE>(state[2 * i] * shrink - unpacked<DTYPE>((u16)left[i]),
                          state[2 * i + 1] * shrink - unpacked<DTYPE>((u16)(left[i] >> 16)));
}

// out = state, turned, times queries, begun in the background.
template <bool ADD>
__device__ __forceinline__ void read_state(float (&out)[OUTPUTS], const u32 (&left)[WIDTH / 4], u32 queries) {
#pragma unroll
  for (int step = 0; step < WIDTH / 16; ++step)
    Wgmma<CHUNK>::registers_rows(out, left[4 * step], left[4 * step + 1], left[4 * step + 2], left[4 * step + 3],
                                 operand(queries, 0) + (step / 4 * PANEL + step % 4 * 32) / 16, ADD || step != 0);
}

__device__ __forceinline__ void keep(const OutputMemory& memory, const Walk& walk, const float* begin, const TensorMap& to, int keeper,
                                     int matrix) {
  typedef OutputMemory M;
  const auto shrink = [&](int i) { return shrink_after(CAUSAL ? walk.token(i) : walk.position); };
  float state[WIDTH / 2], out[OUTPUTS];
  u32 left[WIDTH / 4], rest[WIDTH / 4];  // without a mask all keys are in one state, which then is worth both
  if (begin) {
    load_state(state, begin + keeper * 64 * WIDTH);
  } else {
#pragma unroll
    for (int i = 0; i < WIDTH / 2; ++i) state[i] = 0.f;
  }
  round_state(left, state, shrink(0));
  if (!CAUSAL) rest_of_state(rest, left, state, shrink(0));
#pragma unroll 1
  for (int i = 0; i < walk.count; ++i) {
    const u32 queries = memory.stage(i), keys = queries + M::KEYS_AT, of_values = queries + M::VALUES_AT + keeper * PANEL;
    const u32 place = i & 1;
    barrier_wait(memory.barrier(M::FULL, i), M::parity(i));
    products_begin();
    read_state<false>(out, left, queries);
    if (!CAUSAL) read_state<true>(out, rest, queries);
    products_commit();
    if (CAUSAL) {
      u32 values[16];
      load_values(values, of_values);
      if (DECAY) {
        const float whole = memory.decays(i)[WHOLE_AT];
        scale_values(values, memory.decays(i) + LEFT_AT);
#pragma unroll
        for (int j = 0; j < WIDTH / 2; ++j) state[j] *= whole;
      }
      products_begin();
      add_chunk(state, values, keys);
      products_commit();
    }
    barrier_wait(memory.address + M::WEIGHTS_FULL + 8 * place, i >> 1 & 1);
    products_wait<CAUSAL ? 1 : 0>();
    const float* factors = memory.floats(M::FACTORS_AT) + place * CHUNK + 2 * (threadIdx.x & 3);
#pragma unroll
    for (int j = 0; j < OUTPUTS; ++j) out[j] *= factors[8 * (j >> 2) + (j & 1)];
    if (CAUSAL) {
      products_begin();
#pragma unroll
      for (int step = 0; step < CHUNK / 16; ++step)
        Wgmma<CHUNK>::turned(out, operand(of_values, 0) + step * (16 * 128 / 16),
                             operand(memory.address + M::WEIGHTS_AT + place * PANEL, 0) + step * (32 / 16), 1);
      products_commit();
      products_wait<1>();
      if (i + 1 < walk.count) round_state(left, state, shrink(i + 1));
      products_wait<0>();
    }
    release(memory.barrier(M::FREE, i));
    release(memory.address + M::WEIGHTS_FREE + 8 * place);
    store_outputs(to, memory.address + M::OUT_AT + (2 * keeper + place) * PANEL, out, keeper, walk.chunk(i) * CHUNK, matrix);
  }
  if ((threadIdx.x & 127) == 0) stores_wait_all();
}

// Outputs of one segment. Grid: segments, heads, batch.
extern "C" __global__ void __launch_bounds__(OUTPUT_THREADS, 1) linear_outputs(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
    const __grid_constant__ TensorMap out, const __grid_constant__ Decays decays, const float* __restrict__ states, int queries, int keys,
    int width, int value_width, int chunks, int before, int kept, int heads_per_key_head, int heads_per_decay, int heads_per_state,
    float scale) {
  SWIZZLED_MEMORY(bytes);
  const Shape shape = {queries, keys, width, value_width, chunks, before, kept, heads_per_key_head, heads_per_decay, heads_per_state};
  const OutputMemory memory = {bytes, shared_address(bytes)};
  const Place place(shape, decays);
  const Walk walk = walk_of_outputs(shape);
  const float* const begin = place.beginning(shape, states);
  const int group = threadIdx.x >> 7, warp = threadIdx.x >> 5 & 3;
  memory.make_barriers(4 * KEEPERS + 4);

  if (group == 0) {
    if (MOVE_REGISTERS) registers_shrink<OF_BRINGERS>();
    if (warp == 0)
      bring_chunks<false>(memory, q, k, v, place.matrix, place.key_matrix, walk, place.forgetting);
    else if (MAPS)
      map_chunks(memory, walk, shape);
  } else if (group == 1) {
    if (MOVE_REGISTERS) registers_shrink<OF_WEIGHERS>();
    weigh(memory, walk, begin, scale);
  } else {
    if (MOVE_REGISTERS) registers_grow<OF_KEEPERS>();
    keep(memory, walk, begin, out, group - 2, place.matrix);
  }
}
