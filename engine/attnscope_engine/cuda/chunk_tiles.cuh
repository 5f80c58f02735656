// Chunks of 64 tokens on Hopper: how their tiles lie in shared memory, which chunks a block walks over, and a head's state as the
// accumulators of warpgroups. What the kernels of the delta rule and of gated linear attention share.
// A state S (keys × values) is kept turned, each warpgroup 64 columns of the values: rounded to 16 bits its accumulators are, register
// by register, the left operand of Sᵀ·kᵀ and Sᵀ·qᵀ, so that nothing of the state passes through shared memory.
// Constants: DTYPE (16-bit), WIDTH (head_dim rounded up to 64 or 128).
#include "wgmma.cuh"

constexpr int CHUNK = 64, PANELS = WIDTH / 64;  // a panel: 64 columns, 128 bytes a row
constexpr int KEEPERS = PANELS;                 // warpgroups that keep the state
constexpr u32 PANEL = CHUNK * 128, TILE = PANELS * PANEL;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float MOST_FORGOTTEN = -127.f;  // log2, of one token: what is left then is nothing beside any number

// Tokens are counted along the keys. The first chunk of a head begins at or before its first key and its first query, so that one chunk
// begins with the first query; rows outside of a tensor are read as zeros.
struct Shape {
  int queries, keys;    // rows of q and of k
  int start, all;       // the first chunk's token, and how many chunks a head has
  int chunks, segments; // of a segment; of a head
  int heads_per_key_head;
};

// The chunks of one segment. All of it is the same for all threads and stays in uniform registers and constants.
struct Walk {
  const Shape& shape;
  int first;  // chunk

  __device__ __forceinline__ bool has(int i) const { return i < shape.chunks && first + i < shape.all; }
  __device__ __forceinline__ int token(int i) const { return shape.start + (first + i) * CHUNK; }  // of k and v
  __device__ __forceinline__ int row(int i) const { return token(i) + shape.queries - shape.keys; }  // of q and out
};

// Tells a barrier that all lanes of this warp are through.
__device__ __forceinline__ void release(u32 barrier) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) barrier_arrive(barrier);
}

// The i-th use of a ring of barriers.
template <int DEPTH>
__device__ __forceinline__ u32 barrier_of(u32 ring, int i) {
  return ring + 8 * (i % DEPTH);
}
template <int DEPTH>
__device__ __forceinline__ u32 parity_of(int i) {
  return i / DEPTH & 1;
}
template <int DEPTH>
__device__ __forceinline__ void wait_for(u32 ring, int i) {
  barrier_wait(barrier_of<DEPTH>(ring, i), parity_of<DEPTH>(i));
}
template <int DEPTH>
__device__ __forceinline__ void wait_until_free(u32 ring, int i) {
  barrier_wait(barrier_of<DEPTH>(ring, i), parity_of<DEPTH>(i) ^ 1);
}
__device__ __forceinline__ void make_ring(u32 ring, int depth, u32 count) {
  for (int i = 0; i < depth; ++i) barrier_init(ring + 8 * i, count);
}

// A tile of 64 rows, of one panel or several, through the copy engine.
template <int PANELS_>
__device__ __forceinline__ void bring_tile(u32 to, const TensorMap& map, u32 full, int row, int matrix) {
#pragma unroll
  for (int panel = 0; panel < PANELS_; ++panel) copy_box(to + panel * PANEL, map, full, 64 * panel, row, matrix);
}

// Address of eight columns (`part`) of a row of a tile.
__device__ __forceinline__ u32 part_of(u32 tile, int row, int part) {
  return tile + (part >> 3) * PANEL + row * 128 + (((part ^ row) & 7) << 4);
}

// ---------------------------------------------------------------- products of a warpgroup, begun in the background

// scores (64 × 64) = rows of one tile · rows of another.
__device__ __forceinline__ void multiply_tiles(float (&scores)[CHUNK / 2], u32 left, u32 right) {
#pragma unroll
  for (int step = 0; step < WIDTH / 16; ++step) {
    const u32 at = (step / 4 * PANEL + step % 4 * 32) / 16;
    Wgmma<CHUNK>::shared(scores, operand(left, 16) + at, operand(right, 16) + at, step != 0);
  }
}
// answers (64 values × 64 tokens) = the state, rounded and turned · rows of a tile turned.
__device__ __forceinline__ void ask_state(float (&answers)[CHUNK / 2], const u32 (&state)[WIDTH / 4], u32 tile) {
#pragma unroll
  for (int step = 0; step < WIDTH / 16; ++step)
    Wgmma<CHUNK>::registers_rows(answers, state[4 * step], state[4 * step + 1], state[4 * step + 2], state[4 * step + 3],
                                 operand(tile, 16) + (step / 4 * PANEL + step % 4 * 32) / 16, step != 0);
}
// sums (64 values × 64 tokens) = or += values, turned · a 64 × 64 panel turned, whose rows are the tokens of the sums.
__device__ __forceinline__ void mix_tokens(float (&sums)[CHUNK / 2], const u32 (&values)[CHUNK / 4], u32 panel, int add) {
#pragma unroll
  for (int step = 0; step < CHUNK / 16; ++step)
    Wgmma<CHUNK>::registers_rows(sums, values[4 * step], values[4 * step + 1], values[4 * step + 2], values[4 * step + 3],
                                 operand(panel, 16) + step * 32 / 16, step == 0 ? add : 1);
}
// state += values, turned · keys.
__device__ __forceinline__ void write_state(float (&state)[WIDTH / 2], const u32 (&values)[CHUNK / 4], u32 keys) {
#pragma unroll
  for (int step = 0; step < CHUNK / 16; ++step)
    Wgmma<WIDTH>::registers(state, values[4 * step], values[4 * step + 1], values[4 * step + 2], values[4 * step + 3],
                            operand(keys, PANEL) + step * (16 * 128 / 16), 1);
}

// ---------------------------------------------------------------- accumulators and operands

// Number i of a left operand of 64 tokens holds the accumulators 2i and 2i + 1, of the token `token_of(i)` and the next.
__device__ __forceinline__ int token_of(int i) { return 16 * (i >> 2) + 8 * (i >> 1 & 1) + 2 * (threadIdx.x & 3); }
__device__ __forceinline__ float2 at_tokens(const float* of_tokens, int i) { return *(const float2*)(of_tokens + token_of(i)); }

template <int COUNT>
__device__ __forceinline__ void round_all(u32 (&to)[COUNT], const float (&from)[2 * COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) to[i] = pack<DTYPE>(from[2 * i], from[2 * i + 1]);
}

// 64 columns of a chunk's values, turned, as left operands. Each warp reads 16 columns of all rows.
__device__ __forceinline__ void load_values(u32 (&values)[CHUNK / 4], u32 panel) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
#pragma unroll
  for (int step = 0; step < CHUNK / 16; ++step) {
    u32 a[4];
    load_matrices_transposed(a, part_of(panel, 16 * step + (lane >> 4) * 8 + (lane & 7), 2 * warp + (lane >> 3 & 1)));
#pragma unroll
    for (int i = 0; i < 4; ++i) values[4 * step + i] = a[i];
  }
}
// Outputs (values × tokens) to a panel, a row a token. Each warp writes the 16 columns that `load_values` lets it read.
__device__ __forceinline__ void store_outputs(u32 panel, const float (&out)[CHUNK / 2]) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
#pragma unroll
  for (int i = 0; i < CHUNK / 2; i += 8)
    store_matrices_transposed(part_of(panel, 2 * i + (lane >> 4) * 8 + (lane & 7), 2 * warp + (lane >> 3 & 1)),
                              pack<DTYPE>(out[i], out[i + 1]), pack<DTYPE>(out[i + 2], out[i + 3]),
                              pack<DTYPE>(out[i + 4], out[i + 5]), pack<DTYPE>(out[i + 6], out[i + 7]));
}
// 16 columns of 64 × 64 accumulators, a row a token, to a panel. Each warp writes 16 rows.
template <int DTYPE_>
__device__ __forceinline__ void store_columns(u32 panel, const float (&scores)[CHUNK / 2], int block) {
  const int lane = threadIdx.x & 31, row = 16 * (threadIdx.x >> 5 & 3) + (lane & 15);
  const float* const own = scores + 8 * block;
  store_matrices(part_of(panel, row, 2 * block + (lane >> 4)), pack<DTYPE_>(own[0], own[1]), pack<DTYPE_>(own[2], own[3]),
                 pack<DTYPE_>(own[4], own[5]), pack<DTYPE_>(own[6], own[7]));
}
template <int DTYPE_>
__device__ __forceinline__ void store_scores(u32 panel, const float (&scores)[CHUNK / 2]) {
#pragma unroll
  for (int block = 0; block < CHUNK / 16; ++block) store_columns<DTYPE_>(panel, scores, block);
}

// A state in memory, turned: WIDTH rows, one a column of the values, of WIDTH fp32.
__device__ __forceinline__ int state_place(int keeper) {  // of the thread's first number
  const int thread = threadIdx.x & 127;
  return (64 * keeper + 16 * (thread >> 5) + (thread >> 2 & 7)) * WIDTH + 2 * (thread & 3);
}
__device__ __forceinline__ void load_state(float (&state)[WIDTH / 2], const float* from, int keeper) {
  from += state_place(keeper);
#pragma unroll
  for (int i = 0; i < WIDTH / 2; i += 2) {
    const float2 pair = *(const float2*)(from + (i >> 1 & 1) * 8 * WIDTH + (i >> 2) * 8);
    state[i] = pair.x;
    state[i + 1] = pair.y;
  }
}
__device__ __forceinline__ void store_state(float* to, const float (&state)[WIDTH / 2], int keeper) {
  to += state_place(keeper);
#pragma unroll
  for (int i = 0; i < WIDTH / 2; i += 2)
    *(float2*)(to + (i >> 1 & 1) * 8 * WIDTH + (i >> 2) * 8) = make_float2(state[i], state[i + 1]);
}
__device__ __forceinline__ void clear(float (&state)[WIDTH / 2]) {
#pragma unroll
  for (int i = 0; i < WIDTH / 2; ++i) state[i] = 0.f;
}
