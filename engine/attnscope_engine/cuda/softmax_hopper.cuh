// Softmax attention on Hopper: a producer thread lets the copy engine bring tiles, warpgroups of 64 queries multiply them in the
// background (wgmma), and blocks stay on their multiprocessor and walk over the call's blocks of queries.
//
// Sources: Dao 2023, "FlashAttention-2", arXiv 2307.08691; Shah et al. 2024, "FlashAttention-3", section 3, arXiv 2407.08608
// (warp specialisation, warpgroups that take turns); Milakov and Gimelshein 2018, arXiv 1805.02867 (the running maximum).
// One step of a warpgroup is one batch of products: out += weights · values of the previous tile, and the scores of this one; its
// exponentials then run beside the other warpgroups' products. The last step of a block of queries holds the first of the next.
// Optimistic maximum: exponentials are taken against a reference that some score of the row had, and only when the sum of a
// thread passes MOST are they taken again against the new maximum and everything before rescaled. The reference cancels in
// out = Σ w·v / Σ w and in LSE = reference + log Σ w, so the result is exact for any input.
// `Visible` says which keys a query sees, as in `softmax_tiles.cuh`.
// Constants: DTYPE (16-bit), WIDTH (head_dim rounded up to a multiple of 32), BLOCK_K, WARPGROUPS, STAGES, TAKE_TURNS, LONGEST_FIRST.
#include "wgmma.cuh"

constexpr int ROWS = 64, BLOCK_Q = ROWS * WARPGROUPS, PANELS = (WIDTH + 63) / 64;  // a panel: 64 columns, 128 bytes a row
constexpr int WORKERS = 128 * WARPGROUPS, THREADS = WORKERS + 128;
constexpr int SCORES = BLOCK_K / 2, SUMS = WIDTH / 2;  // accumulators of a thread
constexpr u32 QUERY_PANEL = ROWS * 128, QUERY_BYTES = PANELS * QUERY_PANEL;
constexpr u32 KEY_PANEL = BLOCK_K * 128, TILE_BYTES = PANELS * KEY_PANEL;
// Sum of a thread's weights in one tile, above which they are taken again. A weight must stay a number of its type, and its product
// with a value a number of fp32; how far a reference lies below the maximum costs no digit.
constexpr float MOST = DTYPE == FP16 ? 32768.f : 1.0995116e12f;  // 2^15, 2^40
// A maximum that has grown is likely to grow on: the new reference lies so far (log2) above it. Weights keep their digits, but for
// fp16's smallest, which then are exact to 2^-18 of the largest.
constexpr float HEADROOM = DTYPE == FP16 ? 6.f : 32.f;
// Growth of a maximum within a tile (log2) that is dearer to follow afterwards than to look for beforehand.
constexpr float FAST_GROWTH = DTYPE == FP16 ? 4.f : 12.f;
constexpr int REGISTERS_LEFT = WARPGROUPS == 3 ? 32 : 40, REGISTERS_TAKEN = WARPGROUPS == 3 ? 160 : 232;

// Bytes in shared memory, in this order; tiles are aligned to 1024 for the swizzle.
constexpr u32 KEYS_AT = WARPGROUPS * QUERY_BYTES, VALUES_AT = KEYS_AT + STAGES * TILE_BYTES, BARRIERS_AT = VALUES_AT + STAGES * TILE_BYTES;
constexpr u32 QUERIES_FULL = BARRIERS_AT, QUERIES_FREE = QUERIES_FULL + 8 * WARPGROUPS;
constexpr u32 KEYS_FULL = QUERIES_FREE + 8 * WARPGROUPS, KEYS_FREE = KEYS_FULL + 8 * STAGES;
constexpr u32 VALUES_FULL = KEYS_FREE + 8 * STAGES, VALUES_FREE = VALUES_FULL + 8 * STAGES;
constexpr u32 NEXT_FULL = VALUES_FREE + 8 * STAGES, NEXT_FREE = NEXT_FULL + 16, NEXT_AT = NEXT_FREE + 16;

// Blocks of queries handed out and blocks of threads that are through, for LONGEST_FIRST; zero between launches, so two launches
// of one kernel must not run at the same time.
__device__ int handed_out[2];

struct Call {
  int queries, keys, width;  // rows of q and of k; head_dim itself
  int heads, heads_per_key_head, heads_together;  // B·H; heads whose blocks are worked on in turn, so that their keys stay in the cache
  float scale_log2;  // scale · log2(e): exponentials are taken to base two
};

// A block of BLOCK_Q queries and the tiles that it sees: from end − 1 down to `first`, then those of the sinks down to 0.
struct Work {
  int first_row, head, end, first, sink_tiles;
  __device__ __forceinline__ int tiles() const { return end - first + sink_tiles; }
  // The tile after `tile`, which is not the last.
  __device__ __forceinline__ int after(int tile) const { return sink_tiles && tile == first ? sink_tiles - 1 : tile - 1; }
};

// Place and phase of the `count`-th use of a ring.
template <int STAGES_>
__device__ __forceinline__ u32 stage_of(u32 count) {
  return count % STAGES_;
}
template <int STAGES_>
__device__ __forceinline__ u32 parity_of(u32 count) {
  return count / STAGES_ & 1;
}

__device__ __forceinline__ int tiles_below(int key) { return (key + BLOCK_K - 1) / BLOCK_K; }
__device__ __forceinline__ int blocks_of_a_head(const Call& call) { return (call.queries + BLOCK_Q - 1) / BLOCK_Q; }

// The `number`-th block: heads in groups of heads_together, in each group the longest rows of all heads first.
template <class Visible>
__device__ __forceinline__ Work work_of(const Call& call, const Visible& visible, int number) {
  const int blocks = blocks_of_a_head(call), of_group = call.heads_together * blocks, group = number / of_group;
  const int first_head = group * call.heads_together, heads = min(call.heads_together, call.heads - first_head);
  const int inside = number - group * of_group, place = inside / heads;
  Work work;
  work.head = first_head + inside - place * heads;
  // Blocks are counted from the last row back, so that it is the first, which sees the least, that may be short: it then begins at
  // a row below zero.
  work.first_row = call.queries - (LONGEST_FIRST ? place + 1 : blocks - place) * BLOCK_Q;
  work.end = tiles_below(visible.high(work.first_row + BLOCK_Q - 1));
  work.first = min(visible.low(max(work.first_row, 0)) / BLOCK_K, work.end);
  work.sink_tiles = visible.sinks ? min(tiles_below(visible.sinks), work.first) : 0;
  return work;
}

// Lets the producer have what all lanes of this warp are through with.
__device__ __forceinline__ void release(u32 barrier) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) barrier_arrive(barrier);
}

// ---------------------------------------------------------------- the producer: one thread

template <class Visible>
__device__ __forceinline__ void bring_tiles(u32 memory, volatile int* next_number, const TensorMap& q, const TensorMap& k,
                                            const TensorMap& v, const Call& call, const Visible& visible) {
  const int all = blocks_of_a_head(call) * call.heads;
  u32 tiles = 0, blocks = 0;  // brought so far
  const auto bring = [&](const TensorMap& map, u32 to, u32 full, u32 free, int tile, int matrix) {
    const u32 stage = stage_of<STAGES>(tiles);
    barrier_wait(memory + free + 8 * stage, parity_of<STAGES>(tiles) ^ 1);
    barrier_expect(memory + full + 8 * stage, TILE_BYTES);
#pragma unroll
    for (int panel = 0; panel < PANELS; ++panel)
      copy_box(memory + to + stage * TILE_BYTES + panel * KEY_PANEL, map, memory + full + 8 * stage, 64 * panel, tile * BLOCK_K, matrix);
  };
  const auto bring_queries = [&](const Work& work) {
#pragma unroll 1
    for (int group = 0; group < WARPGROUPS; ++group) {
      barrier_wait(memory + QUERIES_FREE + 8 * group, (blocks & 1) ^ 1);
      barrier_expect(memory + QUERIES_FULL + 8 * group, QUERY_BYTES);
#pragma unroll
      for (int panel = 0; panel < PANELS; ++panel)
        copy_box(memory + group * QUERY_BYTES + panel * QUERY_PANEL, q, memory + QUERIES_FULL + 8 * group, 64 * panel,
                 work.first_row + ROWS * group, work.head);
    }
  };

#pragma unroll 1
  for (int number = blockIdx.x; number < all; ++blocks) {
    const Work work = work_of(call, visible, number);
    number = gridDim.x + (LONGEST_FIRST ? atomicAdd(handed_out, 1) : number);
    const int key_head = work.head / call.heads_per_key_head, count = work.tiles();
    int tile = work.end == work.first ? work.sink_tiles - 1 : work.end - 1;
    if (count == 0) bring_queries(work);
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      bring(k, KEYS_AT, KEYS_FULL, KEYS_FREE, tile, key_head);
      if (i == 0) bring_queries(work);
      bring(v, VALUES_AT, VALUES_FULL, VALUES_FREE, tile, key_head);
      tile = work.after(tile);
      ++tiles;
    }
    if (LONGEST_FIRST) {
      const u32 stage = stage_of<2>(blocks);
      barrier_wait(memory + NEXT_FREE + 8 * stage, parity_of<2>(blocks) ^ 1);
      next_number[stage] = number;
      barrier_arrive(memory + NEXT_FULL + 8 * stage);
    }
  }
  if (LONGEST_FIRST && atomicAdd(handed_out + 1, 1) == (int)gridDim.x - 1) handed_out[0] = handed_out[1] = 0;
}

// ---------------------------------------------------------------- a warpgroup: 64 queries, two rows a thread

struct Rows {
  float reference[2], sum[2];  // log2, that is, of scores times scale_log2; the sum is this thread's own share until the end
};

// Scores of a tile that a row does not see become −∞. Few tiles need it, and most of them from one side only.
template <class Visible>
__device__ __forceinline__ void mask_scores(float (&scores)[SCORES], int first_key, int row, const Visible& visible, bool early,
                                            bool late) {
  const int key = first_key + 2 * (threadIdx.x & 3);
  if (late) {
    const int high[2] = {visible.high(row) - key, visible.high(row + 8) - key};
#pragma unroll
    for (int i = 0; i < SCORES; ++i)
      if (8 * (i >> 2) + (i & 1) >= high[(i >> 1) & 1]) scores[i] = NEG_INF;
  }
  if (early) {
    const int low[2] = {visible.low(row) - key, visible.low(row + 8) - key}, sinks = visible.sinks - key;
#pragma unroll
    for (int i = 0; i < SCORES; ++i)
      if (8 * (i >> 2) + (i & 1) < low[(i >> 1) & 1] && 8 * (i >> 2) + (i & 1) >= sinks) scores[i] = NEG_INF;
  }
}

// Largest score of each of the two rows, of every EVERY-th 8 columns, in log2.
template <int EVERY>
__device__ __forceinline__ void largest(float (&top)[2], const float (&scores)[SCORES], float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float x = NEG_INF;
#pragma unroll
    for (int j = 0; j < SCORES; j += 4 * EVERY) x = fmaxf(x, fmaxf(scores[j + 2 * half], scores[j + 2 * half + 1]));
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    top[half] = scale * fmaxf(x, __shfl_xor_sync(~0u, x, 2));
  }
}

// Weights 2^(score·scale − shift) of a tile, packed, and their sums.
__device__ __forceinline__ void weigh(u32 (&weights)[SCORES / 2], float (&sum)[2], const float (&scores)[SCORES],
                                      const float (&shift)[2], float scale) {
  sum[0] = sum[1] = 0.f;
#pragma unroll
  for (int i = 0; i < SCORES; i += 2) {
    const int half = (i >> 1) & 1;
    const float x = exp2_fast(fmaf(scores[i], scale, -shift[half])), y = exp2_fast(fmaf(scores[i + 1], scale, -shift[half]));
    sum[half] += x + y;
    weights[i / 2] = pack<DTYPE>(x, y);
  }
}

// The usual way: against the reference that the rows have. False, with nothing changed, when a row of the warp has outgrown it.
__device__ __forceinline__ bool absorb_quickly(u32 (&weights)[SCORES / 2], const float (&scores)[SCORES], Rows& rows, float scale) {
  float sum[2];
  weigh(weights, sum, scores, rows.reference, scale);
  if (__any_sync(~0u, !(sum[0] <= MOST && sum[1] <= MOST))) return false;  // NaN, of a reference of −∞, is more than MOST too
  rows.sum[0] += sum[0];
  rows.sum[1] += sum[1];
  return true;
}

// The sure way: a new reference, and everything so far rescaled to it. True if no row of the warp grew fast.
template <bool FIRST>
__device__ __forceinline__ bool absorb_surely(u32 (&weights)[SCORES / 2], const float (&scores)[SCORES], Rows& rows,
                                              float (&sums)[SUMS], float scale) {
  float top[2], shift[2], correction[2], sum[2];
  bool grew = false, grew_fast = false;
  largest<1>(top, scores, scale);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float before = rows.reference[half];
    if (FIRST) {
      rows.reference[half] = top[half];
      rows.sum[half] = 0.f;
    } else {
      if (top[half] > before) rows.reference[half] = top[half] + HEADROOM;
      correction[half] = top[half] > before ? exp2_fast(before - rows.reference[half]) : 1.f;
      rows.sum[half] *= correction[half];
      grew |= top[half] > before;
      grew_fast |= top[half] > before + FAST_GROWTH;
    }
    shift[half] = rows.reference[half] == NEG_INF ? 0.f : rows.reference[half];
  }
  if (!FIRST && __any_sync(~0u, grew)) {
#pragma unroll
    for (int i = 0; i < SUMS; ++i) sums[i] *= correction[(i >> 1) & 1];
  }
  weigh(weights, sum, scores, shift, scale);
  rows.sum[0] += sum[0];
  rows.sum[1] += sum[1];
  return FIRST || !__any_sync(~0u, grew_fast);
}

__device__ __forceinline__ void multiply_scores(float (&scores)[SCORES], u32 queries, u32 keys) {
#pragma unroll
  for (int step = 0; step < WIDTH / 16; ++step)
    Wgmma<BLOCK_K>::shared(scores, queries + (step / 4 * QUERY_PANEL + step % 4 * 32) / 16,
                           keys + (step / 4 * KEY_PANEL + step % 4 * 32) / 16, step != 0);
}
__device__ __forceinline__ void add_values(float (&sums)[SUMS], const u32 (&weights)[SCORES / 2], u32 values, int add) {
#pragma unroll
  for (int step = 0; step < BLOCK_K / 16; ++step)
    Wgmma<WIDTH>::registers(sums, weights[4 * step], weights[4 * step + 1], weights[4 * step + 2], weights[4 * step + 3],
                            values + step * (16 * 128 / 16), step == 0 ? add : 1);
}

// out and LSE of the thread's rows `row` and row + 8, straight from the registers: four lanes that share a row exchange what they
// hold, a 4×4 transposition, so that each stores 8 neighbouring columns at once.
__device__ __forceinline__ void store(u16* out, float* lse, float (&sums)[SUMS], const Rows& rows, const Call& call, int head, int row) {
  const int lane = threadIdx.x & 3;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = rows.sum[half];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    const float factor = sum == 0.f ? 0.f : reciprocal(sum);
    const i64 place = (i64)head * call.queries + row + 8 * half;
    const bool inside = row + 8 * half >= 0;
#pragma unroll
    for (int group = 0; group < WIDTH / 32; ++group) {
      u32 packed[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = &sums[16 * group + 4 * i + 2 * half];
        packed[i] = pack<DTYPE>(pair[0] * factor, pair[1] * factor);
      }
#pragma unroll
      for (int distance = 1; distance <= 2; distance *= 2)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (!(i & distance)) {
            const bool upper = lane & distance;
            const u32 got = __shfl_xor_sync(~0u, upper ? packed[i] : packed[i | distance], distance);
            if (upper)
              packed[i] = got;
            else
              packed[i | distance] = got;
          }
      const int column = 32 * group + 8 * lane;
      if (inside && column < call.width)
        *(uint4*)(out + place * call.width + column) = make_uint4(packed[0], packed[1], packed[2], packed[3]);
    }
    if (inside && lane == 0)
      lse[place] = sum == 0.f ? NEG_INF : 0.6931471805599453f * (rows.reference[half] + log2_fast(sum));
  }
}

template <class Visible>
__device__ __forceinline__ void attend(u32 memory, const volatile int* next_number, u16* out, float* lse, const Call& call,
                                       const Visible& visible) {
  const int group = uniform(threadIdx.x >> 7), thread = threadIdx.x & 127, row_of_thread = 16 * (thread >> 5) + ((thread & 31) >> 2);
  const int all = blocks_of_a_head(call) * call.heads;
  float sums[SUMS], scores[SCORES];
  u32 weights[SCORES / 2];
  Rows rows;
  u32 tiles = 0, blocks = 0;  // tiles of keys, and blocks of queries, that are through
  // What the last block of queries left to do: nothing, its store, or its last product with values and then its store.
  enum { NOTHING, STORE, PRODUCT } pending = NOTHING;
  int pending_row = 0, pending_head = 0;

  const auto wait_for = [&](u32 full, u32 tile) { barrier_wait(memory + full + 8 * stage_of<STAGES>(tile), parity_of<STAGES>(tile)); };
  const auto free = [&](u32 barrier, u32 tile) { release(memory + barrier + 8 * stage_of<STAGES>(tile)); };
  // Warpgroups that take turns: one issues its products while the other makes exponentials.
  const auto begin_turn = [&] {
    if (TAKE_TURNS) named_sync(1 + group, 256);
  };
  const auto end_turn = [&] {
    if (TAKE_TURNS) named_arrive(1 + (group + 1) % WARPGROUPS, 256);
  };
  const auto start_scores = [&] {
    products_begin();
    multiply_scores(scores, uniform(operand(memory + group * QUERY_BYTES, 16)),
                    uniform(operand(memory + KEYS_AT + stage_of<STAGES>(tiles) * TILE_BYTES, 16)));
  };
  const auto start_values = [&](int add) {  // of the tile before
    products_begin();
    add_values(sums, weights, uniform(operand(memory + VALUES_AT + stage_of<STAGES>(tiles - 1) * TILE_BYTES, KEY_PANEL)), add);
  };
  const auto finish_product = [&](int add) {
    wait_for(VALUES_FULL, tiles - 1);
    start_values(add);
    products_commit();
    products_wait<0>();
    free(VALUES_FREE, tiles - 1);
  };
  const auto store_pending = [&] { store(out, lse, sums, rows, call, pending_head, pending_row + row_of_thread); };
  const auto skip_tile = [&] {
    begin_turn();
    end_turn();
    wait_for(KEYS_FULL, tiles);
    free(KEYS_FREE, tiles);
    wait_for(VALUES_FULL, tiles);
    free(VALUES_FREE, tiles);
    ++tiles;
  };
  int add = 0;  // whether `sums` holds something of this block already

  if (TAKE_TURNS && group == 0) named_arrive(1, 256);
#pragma unroll 1
  for (int number = blockIdx.x;; ++blocks) {
    const bool valid = number < all;
    Work work = {0, 0, 0, 0, 0};
    int row = 0, before = 0, left = 0, behind = 0;  // tiles of the block to skip, to work on, and to skip again
    if (valid) {
      work = work_of(call, visible, number);
      row = work.first_row + ROWS * group;
      const int last = row + ROWS - 1, all_tiles = work.tiles();
      before = uniform(last >= 0 ? work.end - tiles_below(visible.high(last)) : all_tiles);
      behind = uniform(visible.sinks || last < 0 ? 0 : min(visible.low(max(row, 0)) / BLOCK_K, work.end) - work.first);
      left = all_tiles - before - behind;
      if (left <= 0) {
        before = all_tiles;
        left = behind = 0;
      }
    }
    if (pending == STORE || (pending == PRODUCT && (before > 0 || left == 0))) {  // no step here to join it with
      if (pending == PRODUCT) finish_product(add);
      store_pending();
      pending = NOTHING;
    }
    if (!valid) break;

#pragma unroll 1
    for (int i = 0; i < before; ++i) skip_tile();
    barrier_wait(memory + QUERIES_FULL + 8 * group, blocks & 1);
    const auto free_queries = [&] { release(memory + QUERIES_FREE + 8 * group); };
    if (left > 0) {
      int tile = work.end - 1 - before;
      if (visible.sinks && tile < work.first) tile += work.sink_tiles - work.first;  // only sinks are seen
#if CHANGES_SCORES
      const float slope = visible.change.slope(work.head % visible.change.heads);
#endif
      const auto mask = [&] {
        const int first_key = tile * BLOCK_K;
#if CHANGES_SCORES
        visible.change.template apply<SCORES>(scores, visible.change.bias(slope, row + row_of_thread, first_key));
#endif
        const bool early = first_key < visible.low(row + ROWS - 1) && first_key + BLOCK_K > visible.sinks;
        const bool late = first_key + BLOCK_K > visible.high(max(row, 0));
        if (early || late) mask_scores(scores, first_key, row + row_of_thread, visible, early, late);
      };
      wait_for(KEYS_FULL, tiles);
      if (pending == PRODUCT) {
        wait_for(VALUES_FULL, tiles - 1);
        begin_turn();
        start_values(add);
        start_scores();
        products_commit();
        end_turn();
        products_wait<0>();
        free(VALUES_FREE, tiles - 1);
        free(KEYS_FREE, tiles);
        if (left == 1) free_queries();
        store_pending();
      } else {
        begin_turn();
        start_scores();
        products_commit();
        end_turn();
        products_wait<0>();
        free(KEYS_FREE, tiles);
        if (left == 1) free_queries();
      }
      ++tiles;
      mask();
      largest<4>(rows.reference, scores, call.scale_log2);  // a quarter of the scores is a good guess
      rows.sum[0] = rows.sum[1] = 0.f;
      if (!absorb_quickly(weights, scores, rows, call.scale_log2)) absorb_surely<true>(weights, scores, rows, sums, call.scale_log2);
      add = 0;
      int alarm = 0;  // 1: the last tile was taken again; 2: maxima grow so fast that tiles are taken the sure way at once
#pragma unroll 1
      while (--left > 0) {
        tile = work.after(tile);
        wait_for(VALUES_FULL, tiles - 1);
        wait_for(KEYS_FULL, tiles);
        begin_turn();
        start_values(add);
        start_scores();
        products_commit();
        end_turn();
        products_wait<0>();
        free(VALUES_FREE, tiles - 1);
        free(KEYS_FREE, tiles);
        if (left == 1) free_queries();
        ++tiles;
        mask();
        add = 1;
        if (alarm < 2 && absorb_quickly(weights, scores, rows, call.scale_log2)) {
          alarm = 0;
        } else {
          const bool slow = absorb_surely<false>(weights, scores, rows, sums, call.scale_log2);
          alarm = alarm < 2 ? alarm + 1 : slow ? 0 : 2;
        }
      }
      pending = PRODUCT;
      if (behind > 0) {
        finish_product(add);
        pending = STORE;
#pragma unroll 1
        for (int i = 0; i < behind; ++i) skip_tile();
      }
    } else {  // no key in sight of these rows
      free_queries();
#pragma unroll
      for (int i = 0; i < SUMS; ++i) sums[i] = 0.f;
      rows.reference[0] = rows.reference[1] = rows.sum[0] = rows.sum[1] = 0.f;
      pending = STORE;
    }
    pending_row = row;
    pending_head = work.head;
    if (LONGEST_FIRST) {
      const u32 stage = stage_of<2>(blocks);
      barrier_wait(memory + NEXT_FULL + 8 * stage, parity_of<2>(blocks));
      number = uniform(next_number[stage]);
      release(memory + NEXT_FREE + 8 * stage);
    } else {
      number += gridDim.x;
    }
  }
}

// q, out: (B, H, queries, width); k, v: (B, G, keys, width); lse: (B, H, queries). Blocks of threads: as many as the card runs at
// once, or fewer. A query that sees no key gives 0, and −∞ as its log-sum-exp.
template <class Visible>
__device__ __forceinline__ void softmax_on_hopper(const TensorMap& q, const TensorMap& k, const TensorMap& v, u16* out, float* lse,
                                                  const Call& call, const Visible& visible) {
  SWIZZLED_MEMORY(bytes);
  const u32 memory = shared_address(bytes);
  volatile int* const next_number = (volatile int*)(bytes + NEXT_AT);
  if (threadIdx.x == 0) {
    for (int i = 0; i < WARPGROUPS; ++i) {
      barrier_init(memory + QUERIES_FULL + 8 * i, 1);
      barrier_init(memory + QUERIES_FREE + 8 * i, 4);
    }
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(memory + KEYS_FULL + 8 * i, 1);
      barrier_init(memory + KEYS_FREE + 8 * i, 4 * WARPGROUPS);
      barrier_init(memory + VALUES_FULL + 8 * i, 1);
      barrier_init(memory + VALUES_FREE + 8 * i, 4 * WARPGROUPS);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(memory + NEXT_FULL + 8 * i, 1);
      barrier_init(memory + NEXT_FREE + 8 * i, 4 * WARPGROUPS);
    }
    barriers_are_made();
  }
  __syncthreads();
  if (uniform(threadIdx.x >> 7) == WARPGROUPS) {
    registers_shrink<REGISTERS_LEFT>();
    if (threadIdx.x == WORKERS) bring_tiles(memory, next_number, q, k, v, call, visible);
  } else {
    registers_grow<REGISTERS_TAKEN>();
    attend(memory, next_number, out, lse, call, visible);
  }
}
