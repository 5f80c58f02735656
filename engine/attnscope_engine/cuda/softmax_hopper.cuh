// Softmax attention on Hopper: a producer thread lets the copy engine bring tiles, warpgroups of 64 queries multiply them in the
// background (wgmma), and blocks stay on their multiprocessor and walk over the call's blocks of queries.
//
// Sources: Dao 2023, "FlashAttention-2", arXiv 2307.08691; Shah et al. 2024, "FlashAttention-3", section 3, arXiv 2407.08608
// (warp specialisation, warpgroups that take turns); Milakov and Gimelshein 2018, arXiv 1805.02867 (the running maximum).
// One step of a warpgroup is one batch of products: out += weights · values of the previous tile, and the scores of this one; its
// exponentials then run beside the other warpgroups' products. The last step of a block of queries holds the first of the next.
// Optimistic maximum: exponentials are taken against a reference that some score of the row had, and only when the sum of a
// thread passes MOST does the reference move, and everything so far with it: bf16 weights are multiplied by a power of two, fp16's,
// which may have overflowed, taken again. The reference cancels in out = Σ w·v / Σ w and in LSE = reference + log Σ w, so the result
// is exact for any input.
// `Visible` says which keys a query sees, as in `softmax_tiles.cuh`. Where it says `MAPPED`, the 64 rows of a warpgroup are queries that
// lie side by side. Where it says `LISTED`, tiles are counted by their place in its list.
// Constants: DTYPE (16-bit), WIDTH (head_dim rounded up to a multiple of 32), BLOCK_K, WARPGROUPS, STAGES, TAKE_TURNS, LONGEST_FIRST,
// ASCENDING.
#include "wgmma.cuh"

constexpr int ROWS = 64, BLOCK_Q = ROWS * WARPGROUPS, PANELS = (WIDTH + 63) / 64;  // a panel: 64 columns, 128 bytes a row
constexpr int WORKERS = 128 * WARPGROUPS, THREADS = WORKERS + 128;
constexpr int SCORES = BLOCK_K / 2, SUMS = WIDTH / 2;  // accumulators of a thread
constexpr u32 QUERY_PANEL = ROWS * 128, QUERY_BYTES = PANELS * QUERY_PANEL;
constexpr u32 KEY_PANEL = BLOCK_K * 128, TILE_BYTES = PANELS * KEY_PANEL;
// How far (log2) a thread's sum of weights in one tile may pass 1 before the reference moves. A weight must stay a number of its type,
// and its product with a value a number of fp32; how far a reference lies below the maximum costs no digit.
constexpr float PASSES = DTYPE == FP16 ? 15.f : 40.f, MOST = DTYPE == FP16 ? 32768.f : 1.0995116e12f;  // MOST: 2^PASSES
// A maximum that has grown is likely to grow on: references move so far (log2) above it, those of all rows of the warp at once.
// Bf16 keeps the digits of small weights. Fp16's smallest are then exact to 2^-18 of the largest. With PASSES it stays 30 under the
// exponents of fp32, so that what a factor of less than 2^-126 drops is nothing beside the new maximum.
constexpr float HEADROOM = DTYPE == FP16 ? 6.f : 56.f;
// After a growth that this would not have held, so many tiles have their maxima looked for before they are weighed.
constexpr int CAREFUL_TILES = 8;
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

#include "softmax_work.cuh"
#include "softmax_producers.cuh"

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

// True if a row of the warp has a sum (its thread's, in this tile) above `most`, or NaN, which a reference of −∞ makes.
__device__ __forceinline__ bool passes(const float (&sum)[2], float most) {
  return __any_sync(~0u, !(sum[0] <= most && sum[1] <= most));
}

// Where a row has outgrown its reference and bf16 still holds the weights: references move by what the sums say, and what was weighed
// moves along. Nothing is weighed twice; all factors are powers of two, so nothing is rounded.
__device__ __forceinline__ void move_references(u32 (&weights)[SCORES / 2], float (&sum)[2], Rows& rows, float (&sums)[SUMS]) {
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float x = fmaxf(sum[half], __shfl_xor_sync(~0u, sum[half], 1));
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 2));
    const int grown = (int)(__float_as_uint(x) >> 23) - 127, steps = min(max(grown + (int)HEADROOM, 0), 126);
    factor[half] = __uint_as_float((u32)(127 - steps) << 23);
    rows.reference[half] += (float)steps;
    rows.sum[half] *= factor[half];
    sum[half] *= factor[half];
  }
#pragma unroll
  for (int i = 0; i < SUMS; ++i) sums[i] *= factor[(i >> 1) & 1];
  const u32 pairs[2] = {pack<DTYPE>(factor[0], factor[0]), pack<DTYPE>(factor[1], factor[1])};
#pragma unroll
  for (int i = 0; i < SCORES / 2; ++i) weights[i] = product_of_pairs(weights[i], pairs[i & 1]);
}

// The usual way: against the reference that the rows have. False, with nothing changed, when that can not be.
template <bool FIRST>
__device__ __forceinline__ bool absorb_quickly(u32 (&weights)[SCORES / 2], const float (&scores)[SCORES], Rows& rows, float (&sums)[SUMS],
                                               float scale) {
  float sum[2];
  weigh(weights, sum, scores, rows.reference, scale);
  if (passes(sum, MOST)) {
    if (FIRST || DTYPE == FP16 || passes(sum, 8.5070592e37f)) return false;  // 2^126
    move_references(weights, sum, rows, sums);
  }
  rows.sum[0] += sum[0];
  rows.sum[1] += sum[1];
  return true;
}

// The sure way: maxima first, and where one has grown more than `slack` past its reference, new references for all rows of the warp,
// and everything so far rescaled to them. True if a row has grown steeply.
template <bool FIRST>
__device__ __forceinline__ bool absorb_surely(u32 (&weights)[SCORES / 2], const float (&scores)[SCORES], Rows& rows,
                                              float (&sums)[SUMS], float scale, float slack) {
  float top[2], shift[2], sum[2];
  bool steep = false;
  largest<1>(top, scores, scale);
  if (FIRST) {
    rows.reference[0] = top[0], rows.reference[1] = top[1];
    rows.sum[0] = rows.sum[1] = 0.f;
  } else if (__any_sync(~0u, top[0] > rows.reference[0] + slack || top[1] > rows.reference[1] + slack)) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float before = rows.reference[half], wanted = top[half] + (before == NEG_INF ? 0.f : HEADROOM);
      steep |= before != NEG_INF && top[half] > before + (HEADROOM + PASSES);
      factor[half] = wanted > before ? exp2_fast(before - wanted) : 1.f;
      rows.reference[half] = fmaxf(before, wanted);
      rows.sum[half] *= factor[half];
    }
#pragma unroll
    for (int i = 0; i < SUMS; ++i) sums[i] *= factor[(i >> 1) & 1];
    steep = __any_sync(~0u, steep);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) shift[half] = rows.reference[half] == NEG_INF ? 0.f : rows.reference[half];
  weigh(weights, sum, scores, shift, scale);
  rows.sum[0] += sum[0];
  rows.sum[1] += sum[1];
  return steep;
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
template <class Visible>
__device__ __forceinline__ void store(u16* out, float* lse, float (&sums)[SUMS], const Rows& rows, const Call& call, const Visible& visible,
                                      int head, int row) {
  const int lane = threadIdx.x & 3;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = rows.sum[half];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    const float factor = sum == 0.f ? 0.f : reciprocal(sum);
    i64 place = (i64)head * call.queries + row + 8 * half;
    bool inside = row + 8 * half >= 0;
    if constexpr (is_mapped<Visible>(0)) {
      const int query = inside ? visible.to(row + 8 * half) : -1;
      place = (i64)head * call.queries + query;
      inside = query >= 0;
    }
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
  const int all = blocks_of_a_head(call, visible) * call.heads;
  float sums[SUMS], scores[SCORES];
  u32 weights[SCORES / 2];
  Rows rows;
  Use use;  // of the next tile
  u32 blocks = 0;  // of queries that are through
  // What the last block of queries left to do: nothing, its store, or its last product with values and then its store.
  enum { NOTHING, STORE, PRODUCT } pending = NOTHING;
  int pending_row = 0, pending_head = 0;
  Use worked_on;      // the last tile that was no skipped one
  int skipped = 0;    // tiles since

  const auto wait_for = [&](u32 full, Use tile) { barrier_wait(memory + full + 8 * tile.stage(), tile.parity()); };
  const auto free = [&](u32 barrier, Use tile) { release(memory + barrier + 8 * tile.stage()); };
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
                    uniform(operand(memory + KEYS_AT + use.stage() * TILE_BYTES, 16)));
  };
  const auto start_values = [&](Use tile, int add) {
    products_begin();
    add_values(sums, weights, uniform(operand(memory + VALUES_AT + tile.stage() * TILE_BYTES, KEY_PANEL)), add);
  };
  // With two stages a product is not kept while tiles are skipped.
  const auto pending_tile = [&] { return STAGES > 2 ? worked_on : use.last(); };
  const auto finish_product = [&](int add) {
    wait_for(VALUES_FULL, pending_tile());
    start_values(pending_tile(), add);
    products_commit();
    products_wait<0>();
    free(VALUES_FREE, pending_tile());
  };
  const auto store_pending = [&] { store(out, lse, sums, rows, call, visible, pending_head, pending_row + row_of_thread); };
  const auto skip_tile = [&] {
    begin_turn();
    end_turn();
    wait_for(KEYS_FULL, use);
    free(KEYS_FREE, use);
    wait_for(VALUES_FULL, use);
    free(VALUES_FREE, use);
    use = use.next();
    ++skipped;
  };
  int add = 0;  // whether `sums` holds something of this block already

  if (TAKE_TURNS && group == 0) named_arrive(1, 256);
#pragma unroll 1
  for (int number = blockIdx.x;; ++blocks) {
    const bool valid = number < all;
    Work work = {};
    int row = 0, ahead = 0, left = 0, behind = 0;  // tiles of the block to skip, to work on, and to skip again
    if (valid) {
      work = work_of(call, visible, number);
      row = work.row_of(group);
      const int last = row + ROWS - 1, all_tiles = work.tiles();
      if constexpr (!is_listed<Visible>(0)) {
        const int above = uniform(last >= 0 ? work.end - tiles_below(visible.high(last)) : all_tiles);
        const int below = uniform(visible.sinks || last < 0 ? 0 : min(visible.low(max(row, 0)) / BLOCK_K, work.end) - work.first);
        ahead = ASCENDING ? below : above;
        behind = ASCENDING ? above : below;
      }
      left = all_tiles - ahead - behind;
      if (left <= 0) {
        ahead = all_tiles;
        left = behind = 0;
      }
    }
    // The product waits for the first step of this block, if there is one before the ring comes round to the tile that it holds.
    const bool joins = left > 0 && skipped + ahead <= STAGES - 2;
    if (pending == STORE || (pending == PRODUCT && !joins)) {
      if (pending == PRODUCT) finish_product(add);
      store_pending();
      pending = NOTHING;
    }
    if (!valid) break;

#pragma unroll 1
    for (int i = 0; i < ahead; ++i) skip_tile();
    const auto wait_for_queries = [&] { barrier_wait(memory + QUERIES_FULL + 8 * group, blocks & 1); };
    const auto free_queries = [&] { release(memory + QUERIES_FREE + 8 * group); };
    if (left > 0) {
      int tile = work.tile(ahead);
#if CHANGES_SCORES
#if FORGETS
      const OfHead slope = visible.change.of_head(work.head);
#else
      const OfHead slope = visible.change.slope(work.head % visible.change.heads);
#endif
#endif
      const auto mask = [&] {
        int first_key = tile * BLOCK_K;
        if constexpr (is_listed<Visible>(0)) first_key = visible.tile(tile) * BLOCK_K;
        static_assert(!ASCENDING || !is_listed<Visible>(0), "only the first tile of a list is masked");
#if CHANGES_SCORES
        visible.change.template apply<SCORES>(scores, visible.change.bias(slope, row + row_of_thread, first_key));
#endif
        const bool early = first_key < visible.low(row + ROWS - 1) && first_key + BLOCK_K > visible.sinks;
        const bool late = first_key + BLOCK_K > visible.high(max(row, 0));
        if (early || late) mask_scores(scores, first_key, row + row_of_thread, visible, early, late);
      };
      wait_for(KEYS_FULL, use);
      if (pending == PRODUCT) {
        // Queries are still on their way, perhaps: what does not need them goes first, and is stored beside the scores' product.
        wait_for(VALUES_FULL, pending_tile());
        begin_turn();
        start_values(pending_tile(), add);
        products_commit();
        wait_for_queries();
        start_scores();
        products_commit();
        end_turn();
        products_wait<1>();
        free(VALUES_FREE, pending_tile());
        store_pending();
        products_wait<0>();
        free(KEYS_FREE, use);
        if (left == 1) free_queries();
      } else {
        wait_for_queries();
        begin_turn();
        start_scores();
        products_commit();
        end_turn();
        products_wait<0>();
        free(KEYS_FREE, use);
        if (left == 1) free_queries();
      }
      use = use.next();
      mask();
      largest<4>(rows.reference, scores, call.scale_log2);  // a quarter of the scores is a good guess
      rows.sum[0] = rows.sum[1] = 0.f;
      if (!absorb_quickly<true>(weights, scores, rows, sums, call.scale_log2)) absorb_surely<true>(weights, scores, rows, sums, call.scale_log2, 0.f);
      add = 0;
      int careful = 0;  // tiles left that are taken the sure way at once
#pragma unroll 1
      while (--left > 0) {
        tile = work.after(tile);
        const Use last = use.last();
        wait_for(VALUES_FULL, last);
        wait_for(KEYS_FULL, use);
        begin_turn();
        start_values(last, add);
        start_scores();
        products_commit();
        end_turn();
        products_wait<0>();
        free(VALUES_FREE, last);
        free(KEYS_FREE, use);
        if (left == 1) free_queries();
        use = use.next();
        if constexpr (!is_listed<Visible>(0)) mask();
        else if (BLOCK_K < Visible::BLOCK) mask();  // else only the first tile of a list is seen in part
        add = 1;
        if (careful > 0 || !absorb_quickly<false>(weights, scores, rows, sums, call.scale_log2)) {
          const bool steep = absorb_surely<false>(weights, scores, rows, sums, call.scale_log2, careful > 0 ? PASSES : 0.f);
          careful = steep ? CAREFUL_TILES : max(careful - 1, 0);
        }
      }
      pending = PRODUCT;
      worked_on = use.last();
      skipped = 0;
      if (behind > STAGES - 2) {
        finish_product(add);
        pending = STORE;
      }
#pragma unroll 1
      for (int i = 0; i < behind; ++i) skip_tile();
    } else {  // no key in sight of these rows
      wait_for_queries();
      free_queries();
#pragma unroll
      for (int i = 0; i < SUMS; ++i) sums[i] = 0.f;
      rows.reference[0] = rows.reference[1] = rows.sum[0] = rows.sum[1] = 0.f;
      pending = STORE;
    }
    pending_row = row;
    pending_head = work.head;
    if (LONGEST_FIRST) {
      number = uniform(announced(memory, next_number, blocks));
      release(memory + NEXT_FREE + 8 * (blocks % 2));
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
      barrier_init(memory + NEXT_FREE + 8 * i, 4 * WARPGROUPS + WARPGROUPS);  // warps that work, threads that bring queries
    }
    barriers_are_made();
  }
  __syncthreads();
  if (uniform(threadIdx.x >> 7) == WARPGROUPS) {
    registers_shrink<REGISTERS_LEFT>();
    const int warp = uniform(threadIdx.x >> 5) - WORKERS / 32;
    if ((threadIdx.x & 31) == 0) {
      if (warp == 0)
        bring_tiles(memory, next_number, k, v, call, visible);
      else if (warp <= WARPGROUPS)
        bring_queries(memory, next_number, q, call, visible, warp - 1);
    }
  } else {
    registers_grow<REGISTERS_TAKEN>();
    attend(memory, next_number, out, lse, call, visible);
  }
}
