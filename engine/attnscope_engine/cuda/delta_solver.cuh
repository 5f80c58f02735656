// The warpgroup that solves, of the delta rule on Hopper: T = (I + L)⁻¹·diag(β) of a chunk, and its scores; `delta_hopper.cuh` has the
// formulas. L is cut into 16 × 16 blocks. Those on the diagonal are inverted by substitution in fp32; what is below is joined from them by
// products in fp16, each warp one block column.
// Constants: those of `chunk_tiles.cuh`, GATED, STAGES.
#include "chunk_tiles.cuh"

constexpr int BLOCKS = CHUNK / 16;

// Factors of a chunk's tokens, each 64 floats: b; what a key weighs as seen from b by another key (log2 with gates, else itself); β by
// length; β; length; what an answer to the key itself counts; what is left of the token at the end; what an answer to the query counts.
// Then 2^Λ. (Lengths: of what a key is multiplied by. That of the key of a write is part of the write, so nothing else sees it.)
enum Factor { STILL = 0, SEEN = 64, GAIN = 128, WRITE = 192, LENGTH = 256, TAKEN = 320, LATE = 384, READ = 448, WHOLE = 512, FACTORS = 516 };

// What token i of a pair makes of token j: products of keys become L, those of queries and keys the scores. 16 columns; `row` and row + 8
// are the thread's rows of the chunk, `still` and `own` their factors; ON_DIAGONAL: pairs that are not seen become 0.
template <bool OF_QUERIES, bool ON_DIAGONAL>
__device__ __forceinline__ void weigh_block(float* products, const float* factors, int block, int row, const float (&still)[2],
                                            const float (&own)[2]) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    const int half = i >> 1 & 1, of = row + 8 * half + int(OF_QUERIES), column = 16 * block + 8 * (i >> 2) + 2 * (threadIdx.x & 3);
    const float2 seen = *(const float2*)(factors + (OF_QUERIES ? STILL : SEEN) + column);
    const float x = GATED ? exp2_fast(still[half] - seen.x) : OF_QUERIES ? 1.f : seen.x;
    const float y = GATED ? exp2_fast(still[half] - seen.y) : OF_QUERIES ? 1.f : seen.y;
    products[i] = !ON_DIAGONAL || column < of ? products[i] * (x * own[half]) : 0.f;
    products[i + 1] = !ON_DIAGONAL || column + 1 < of ? products[i + 1] * (y * own[half]) : 0.f;
  }
}
// All that a warp's 16 rows see; what is right of the diagonal stays as it is, and nobody reads it.
template <bool OF_QUERIES>
__device__ __forceinline__ void weigh(float (&products)[CHUNK / 2], const float* factors, int warp, int row, const float (&own)[2]) {
  const float still[2] = {factors[STILL + row], factors[STILL + row + 8]};
#pragma unroll
  for (int block = 0; block < BLOCKS; ++block)
    if (block < warp)
      weigh_block<OF_QUERIES, false>(products + 8 * block, factors, block, row, still, own);
    else if (block == warp)
      weigh_block<OF_QUERIES, true>(products + 8 * block, factors, block, row, still, own);
}

// The 16 × 16 blocks on the diagonal of L, in fp32, turned: each warp stores its own.
constexpr int DIAGONAL_STRIDE = 20;
__device__ __forceinline__ void store_diagonal(float* to, const float* lower) {
  const int lane = threadIdx.x & 31, row = lane >> 2, column = 2 * (lane & 3);
#pragma unroll
  for (int i = 0; i < 8; ++i) to[(column + 8 * (i >> 2) + (i & 1)) * DIAGONAL_STRIDE + row + 8 * (i >> 1 & 1)] = lower[i];
}
// A warp's rows of L: its block on the diagonal to `diagonal`, those left of it to a panel, in fp16: L and T of keys of length 1 are of
// its range, and have three bits more there than in bf16.
__device__ __forceinline__ void store_lower(u32 panel, float* diagonal, const float (&lower)[CHUNK / 2], int warp) {
#pragma unroll
  for (int block = 0; block < BLOCKS; ++block)
    if (block < warp)
      store_columns<FP16>(panel, lower, block);
    else if (block == warp)
      store_diagonal(diagonal, lower + 8 * block);
}

// Column `column` of the inverse of I + block, by substitution in fp32: exact where keys repeat, as products of powers would not be.
__device__ __forceinline__ void invert_diagonal(float (&x)[16], const float* block, int column) {
#pragma unroll
  for (int i = 0; i < 16; ++i) x[i] = i == column ? 1.f : 0.f;
#pragma unroll
  for (int j = 0; j < 15; ++j)
#pragma unroll
    for (int first = (j + 1) / 4 * 4; first < 16; first += 4) {
      const float4 below = *(const float4*)(block + j * DIAGONAL_STRIDE + first);
      if (first > j) x[first] = fmaf(-below.x, x[j], x[first]);
      if (first + 1 > j) x[first + 1] = fmaf(-below.y, x[j], x[first + 1]);
      if (first + 2 > j) x[first + 2] = fmaf(-below.z, x[j], x[first + 2]);
      if (first + 3 > j) x[first + 3] = fmaf(-below.w, x[j], x[first + 3]);
    }
}
// A column of T's block `warp` on the diagonal, as a row: such blocks lie turned where L has its own.
__device__ __forceinline__ void store_turned(unsigned char* panel, const float (&x)[16], int warp, int column) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* const rows = x + 8 * half;
    *(uint4*)(panel + part_of(0, 16 * warp + column, 2 * warp + half)) =
        make_uint4(pack<FP16>(rows[0], rows[1]), pack<FP16>(rows[2], rows[3]), pack<FP16>(rows[4], rows[5]), pack<FP16>(rows[6], rows[7]));
  }
}

// Blocks of a panel as right operands: turned, or as they lie.
__device__ __forceinline__ void load_block_turned(u32 (&b)[4], u32 panel, int row, int column) {
  const int lane = again(threadIdx.x & 31);
  load_matrices(b, part_of(panel, 16 * row + (lane & 7) + (lane >> 4) * 8, 2 * column + (lane >> 3 & 1)));
}
__device__ __forceinline__ void load_block(u32 (&b)[4], u32 panel, int row, int column) {
  const int lane = again(threadIdx.x & 31);
  load_matrices_transposed(b, part_of(panel, 16 * row + (lane & 15), 2 * column + (lane >> 4)));
}
// x (16 × 16) += a · b.
__device__ __forceinline__ void multiply_block(float (&x)[2][4], const u32 (&a)[4], const u32 (&b)[4]) {
  mma_16bit<FP16>(x[0], a, b[0], b[1]);
  mma_16bit<FP16>(x[1], a, b[2], b[3]);
}
__device__ __forceinline__ void round_block(u32 (&a)[4], const float (&x)[2][4], float sign) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = pack<FP16>(sign * x[i >> 1][2 * (i & 1)], sign * x[i >> 1][2 * (i & 1) + 1]);
}

// A block of T, given turned, by β of its columns and the lengths of its rows.
__device__ __forceinline__ void store_solved(u32 solved, const float (&x)[2][4], int row, int column, const float (&beta)[2],
                                             const float* lengths) {
  const int lane = again(threadIdx.x & 31);
  u32 packed[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float2 length = *(const float2*)(lengths + 16 * row + 8 * (j >> 1) + 2 * (lane & 3));
    const float* const pair = &x[j >> 1][2 * (j & 1)];
    packed[j] = pack<DTYPE>(pair[0] * (beta[j & 1] * length.x), pair[1] * (beta[j & 1] * length.y));
  }
  store_matrices_transposed(part_of(solved, 16 * row + (lane >> 4) * 8 + (lane & 7), 2 * column + (lane >> 3 & 1)), packed[0], packed[1],
                            packed[2], packed[3]);
}

// Block column `warp` of T, turned, so that each result is the left operand of what follows: T_cᵀ(i) = −(Σ_k T_cᵀ(k)·L_ikᵀ)·T_iiᵀ. A
// block that is known is multiplied at once by what lies below it, in `sums`: in order of when they are wanted, so that hardly a product
// waits for another. `lower`: L, with the diagonal blocks of T, turned, in the place of its own. β: of the columns; `lengths`: of all rows.
__device__ __forceinline__ void solve_column(u32 solved, u32 lower, int warp, const float (&beta)[2], const float* lengths) {
  const int lane = threadIdx.x & 31;
  u32 known[4], below[4], inverse[4];
  float sums[BLOCKS][2][4] = {}, x[2][4];
  load_matrices(known, part_of(lower, 16 * warp + (lane & 15), 2 * warp + (lane >> 4)));
  if (warp + 1 < BLOCKS) {
    load_block_turned(below, lower, warp + 1, warp);
    load_block(inverse, lower, warp + 1, warp + 1);
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) x[e >> 2][e & 3] = unpacked<FP16>((u16)(known[e >> 1] >> 16 * (e & 1)));
#pragma unroll
  for (int k = 0; k + 1 < BLOCKS; ++k) {
    if (k < warp) continue;
    u32 next[4];
    multiply_block(sums[k + 1], known, below);
    if (k + 2 < BLOCKS) {
      load_block_turned(below, lower, k + 2, k);
      multiply_block(sums[k + 2], known, below);
    }
    store_solved(solved, x, k, warp, beta, lengths);
    round_block(next, sums[k + 1], -1.f);
#pragma unroll
    for (int e = 0; e < 8; ++e) x[e >> 2][e & 3] = 0.f;
    multiply_block(x, next, inverse);
    if (k + 3 < BLOCKS) {
      load_block_turned(below, lower, k + 3, k);
      multiply_block(sums[k + 3], known, below);
    }
    if (k + 2 < BLOCKS) {
      load_block_turned(below, lower, k + 2, k + 1);
      load_block(inverse, lower, k + 2, k + 2);
    }
    round_block(known, x, 1.f);
  }
  store_solved(solved, x, BLOCKS - 1, warp, beta, lengths);
}

template <class M>
__device__ __forceinline__ void solve(const M& memory, const Walk& walk, float scale) {
  const int thread = threadIdx.x & 127, lane = threadIdx.x & 31, warp = uniform(thread >> 5), row = 16 * warp + (lane >> 2);
  float* const diagonal = (float*)(memory.base + M::DIAGONAL_AT) + warp * 16 * DIAGONAL_STRIDE;
  for (u32 i = thread; i < (M::LOWER_AT - M::SOLVED_AT) / 16; i += 128)  // T and scores are never written right of their diagonal
    *(uint4*)(memory.base + M::SOLVED_AT + 16 * i) = make_uint4(0, 0, 0, 0);
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const float* const factors = memory.factors(i);
    const u32 lower_at = M::LOWER_AT + i % 2 * PANEL;  // two, so that a warp may begin while others still read the last chunk's
    float lower[CHUNK / 2], scores[CHUNK / 2], x[16];
    wait_for<STAGES>(memory.address + M::KEYS_FULL, i);
    products_begin();
    multiply_tiles(lower, memory.keys(i), memory.keys(i));
    products_commit();
    products_wait<0>();
    weigh<false>(lower, factors, warp, row, {factors[GAIN + row], factors[GAIN + row + 8]});
    store_lower(memory.address + lower_at, diagonal, lower, warp);
    __syncwarp();
    invert_diagonal(x, diagonal, lane & 15);
    if (lane < 16) store_turned(memory.base + lower_at, x, warp, again(lane));
    if (M::OUTPUTS) {  // behind what is left to solve
      products_begin();
      multiply_tiles(scores, memory.queries(i), memory.keys(i));
      products_commit();
    }
    wait_until_free<2>(memory.address + M::SOLVED_FREE, i);
    named_sync(1, 128);  // L and the inverses of its diagonal blocks are there
    solve_column(memory.solved(i), memory.address + lower_at, warp, {factors[WRITE + row], factors[WRITE + row + 8]}, factors + LENGTH);
    if (M::OUTPUTS) {
      products_wait<0>();
      weigh<true>(scores, factors, warp, row, {scale, scale});
#pragma unroll
      for (int block = 0; block < BLOCKS; ++block)
        if (block <= warp) store_columns<DTYPE>(memory.scores(i), scores, block);
    }
    release(barrier_of<STAGES>(memory.address + M::KEYS_FREE, i));
    make_seen();
    release(barrier_of<2>(memory.address + M::SOLVED_FULL, i));
  }
}
