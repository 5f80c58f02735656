// The producers, one thread for tiles and one for each warpgroup's queries, and what warpgroups say to them: part of `softmax_hopper.cuh`.
// A use of the ring of STAGES tiles. It counts to two rounds and begins again: with a count that goes on, and divisions, the compiler
// no longer sees that it is the same in all lanes, and makes a third more instructions.
struct Use {
  u32 count = 0;
  __device__ __forceinline__ u32 stage() const { return count < STAGES ? count : count - STAGES; }
  __device__ __forceinline__ u32 parity() const { return count >= STAGES; }
  __device__ __forceinline__ Use next() const { return {count == 2 * STAGES - 1 ? 0 : count + 1}; }
  __device__ __forceinline__ Use last() const { return {count == 0 ? 2 * STAGES - 1 : count - 1}; }
};

// Lets the producer have what all lanes of this warp are through with.
__device__ __forceinline__ void release(u32 barrier) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) barrier_arrive(barrier);
}

// Number of the block after the `blocks`-th of this block of threads, as the producer of tiles says it.
__device__ __forceinline__ int announced(u32 memory, const volatile int* next_number, u32 blocks) {
  const u32 stage = blocks % 2;
  barrier_wait(memory + NEXT_FULL + 8 * stage, blocks / 2 % 2);
  return next_number[stage];
}

// Tiles in the order in which they are worked on; and who works on which block next.
template <class Visible>
__device__ __forceinline__ void bring_tiles(u32 memory, volatile int* next_number, const TensorMap& k, const TensorMap& v,
                                            const Call& call, const Visible& visible) {
  const int all = blocks_of_a_head(call, visible) * call.heads;
  Use use;
  u32 blocks = 0;  // brought so far
  const auto bring = [&](const TensorMap& map, u32 to, u32 full, u32 free, int tile, int matrix) {
    const u32 stage = use.stage();
    barrier_wait(memory + free + 8 * stage, use.parity() ^ 1);
    barrier_expect(memory + full + 8 * stage, TILE_BYTES);
#pragma unroll
    for (int panel = 0; panel < PANELS; ++panel)
      copy_box(memory + to + stage * TILE_BYTES + panel * KEY_PANEL, map, memory + full + 8 * stage, 64 * panel, tile * BLOCK_K, matrix);
  };

#pragma unroll 1
  for (int number = blockIdx.x; number < all; ++blocks) {
    const Work work = work_of(call, visible, number);
    number = gridDim.x + (LONGEST_FIRST ? atomicAdd(handed_out, 1) : number);
    const int key_head = work.head / call.heads_per_key_head, count = work.tiles();
    int tile = work.tile(0);
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      int key_tile = tile;
      if constexpr (is_listed<Visible>(0)) key_tile = visible.tile(tile);
      bring(k, KEYS_AT, KEYS_FULL, KEYS_FREE, key_tile, key_head);
      bring(v, VALUES_AT, VALUES_FULL, VALUES_FREE, key_tile, key_head);
      tile = work.after(tile);
      use = use.next();
    }
    if (LONGEST_FIRST) {
      const u32 stage = blocks % 2;
      barrier_wait(memory + NEXT_FREE + 8 * stage, blocks / 2 % 2 ^ 1);
      next_number[stage] = number;
      barrier_arrive(memory + NEXT_FULL + 8 * stage);
    }
  }
  if (LONGEST_FIRST && atomicAdd(handed_out + 1, 1) == (int)gridDim.x - 1) handed_out[0] = handed_out[1] = 0;
}

// The queries of one warpgroup as soon as it is through with those before: warpgroups that see other keys finish at other times, and
// the tiles of a next block do not wait for the last of them.
template <class Visible>
__device__ __forceinline__ void bring_queries(u32 memory, const volatile int* next_number, const TensorMap& q, const Call& call,
                                              const Visible& visible, int group) {
  const int all = blocks_of_a_head(call, visible) * call.heads;
  u32 blocks = 0;
#pragma unroll 1
  for (int number = blockIdx.x; number < all; ++blocks) {
    const Work work = work_of(call, visible, number);
    barrier_wait(memory + QUERIES_FREE + 8 * group, (blocks & 1) ^ 1);
    barrier_expect(memory + QUERIES_FULL + 8 * group, QUERY_BYTES);
#pragma unroll
    for (int panel = 0; panel < PANELS; ++panel)
      if constexpr (is_mapped<Visible>(0))
        copy_box(memory + group * QUERY_BYTES + panel * QUERY_PANEL, q, memory + QUERIES_FULL + 8 * group, 64 * panel,
                 visible.from(work.row_of(group)), work.head);
      else
        copy_box(memory + group * QUERY_BYTES + panel * QUERY_PANEL, q, memory + QUERIES_FULL + 8 * group, 64 * panel,
                 work.row_of(group), work.head);
    if (LONGEST_FIRST) {
      number = announced(memory, next_number, blocks);
      barrier_arrive(memory + NEXT_FREE + 8 * (blocks % 2));
    } else {
      number += gridDim.x;
    }
  }
}
