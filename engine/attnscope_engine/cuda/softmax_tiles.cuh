// Softmax attention of one block of queries over tiles of keys: no row of scores is ever stored.
//
// Source: Dao 2023, "FlashAttention-2", section 3.1, arXiv 2307.08691; the running maximum is Milakov and Gimelshein 2018, arXiv 1805.02867;
// keys split over blocks: Dao et al. 2023, "Flash-Decoding".
// `Visible` says which keys a query sees: [low(query), high(query)) and the first `sinks` of those below high(query); low and high
// never decrease with the query. Tiles that no row of the block sees are not visited.
// Where it says `MAPPED`, what is counted here are its own rows, `rows()` of them: row r is query `from(r)`, and its results are those
// of query `to(r)`, or are dropped where that is negative. Low and high must then not decrease within a block of rows.
// Where it says `LISTED`, a row sees only some tiles below high(row): the `tile(i)`, ascending, with i from list_begin(row) to
// list_end(row), which are the same for all rows of a block.
// Constants: DTYPE, HEAD_DIM, WIDTH (it rounded up to a multiple of 32), BLOCK_Q rows and BLOCK_K keys, WARP_ROWS rows of a warp,
// KEY_WARPS warps that share rows and halve the keys of a tile, CHUNK keys that a warp takes at a time; DECODE: few queries, so
// the rows of a block are those of all heads of a key head, and the keys may be cut into `splits` parts.
#include "tiles.cuh"

typedef Element<DTYPE>::Stored Stored;
constexpr int QUERY_WARPS = BLOCK_Q / WARP_ROWS, THREADS = 32 * QUERY_WARPS * KEY_WARPS;

struct Shape {
  int queries, keys;  // rows of q and of k
  int heads_per_key_head;
  int splits;                // 1, or DECODE how many blocks share the keys of a row
  float scale_log2;          // scale · log2(e): exponentials are taken to base two
};

// q, out: (B, H, queries, HEAD_DIM); k, v: (B, G, keys, HEAD_DIM); lse: (B, H, queries). With more than one split, `parts` holds what each
// split found: (splits, B, H, queries, HEAD_DIM), then its log-sum-exps (splits, B, H, queries).
struct Tensors {
  const Stored *q, *k, *v;
  Stored* out;
  float *lse, *parts;
};

template <class Visible>
__device__ constexpr auto is_mapped(int) -> decltype(Visible::MAPPED) {
  return Visible::MAPPED;
}
template <class Visible>
__device__ constexpr bool is_mapped(long) {
  return false;
}

template <class Visible>
__device__ constexpr auto is_listed(int) -> decltype(Visible::LISTED) {
  return Visible::LISTED;
}
template <class Visible>
__device__ constexpr bool is_listed(long) {
  return false;
}

// The rows that a block takes its own from, and the keys that they see. A row is a query; DECODE it is a query of one of the heads
// of a key head, and those of one query lie side by side, so that what is seen still never decreases.
template <class Visible>
struct Rows {
  Visible visible;
  int queries, heads;
  static constexpr bool MAPPED = is_mapped<Visible>(0);
  __device__ __forceinline__ int count() const {
    int rows = queries;
    if constexpr (MAPPED) rows = visible.rows();
    return DECODE ? rows * heads : rows;
  }
  __device__ __forceinline__ int query(int row) const { return DECODE ? row / heads : row; }
  // Row of q, and of out, from the first of the (first) head on; of out it is negative where nothing is to be stored.
  __device__ __forceinline__ i64 from(int row) const {
    int query = this->query(row);
    if constexpr (MAPPED) query = visible.from(query);
    return DECODE ? (i64)(row % heads) * queries + query : query;
  }
  __device__ __forceinline__ i64 to(int row) const {
    int query = this->query(row);
    if constexpr (MAPPED) query = visible.to(query);
    return DECODE ? (i64)(row % heads) * queries + query : query;
  }
  __device__ __forceinline__ int low(int row) const { return visible.low(query(row)); }
  __device__ __forceinline__ int high(int row) const { return visible.high(query(row)); }
  __device__ __forceinline__ int sinks() const { return visible.sinks; }
#if CHANGES_SCORES
  __device__ __forceinline__ OfHead of_head(int row) const {
#if FORGETS
    return visible.change.of_head(blockIdx.z * gridDim.y * (DECODE ? heads : 1) + (DECODE ? blockIdx.y * heads + row % heads : blockIdx.y));
#else
    return visible.change.slope(DECODE ? blockIdx.y * heads + row % heads : blockIdx.y);
#endif
  }
#endif
};

// The tiles of keys that a block visits: number `begin` to `end` of those that any of its rows sees.
struct Walk {
  int first_tile, sink_tiles, begin, end;
#if ALIBI || FORGETS  // from the last on: where nothing of the future is seen those are the nearest keys, above which no maximum rises far
  int last;
  __device__ __forceinline__ int first_key(int i) const { return place(last - i); }
#else
  __device__ __forceinline__ int first_key(int i) const { return place(i); }
#endif
  __device__ __forceinline__ int place(int i) const { return (i < sink_tiles ? i : first_tile + i - sink_tiles) * BLOCK_K; }
};
template <class Visible>
__device__ __forceinline__ Walk walk_between(const Rows<Visible>& rows, int first_row, int last_row, int split, int splits) {
  Walk walk;
  const int end_tile = (rows.high(last_row) + BLOCK_K - 1) / BLOCK_K;
  walk.first_tile = rows.low(first_row) / BLOCK_K;
  walk.sink_tiles = min((rows.sinks() + BLOCK_K - 1) / BLOCK_K, min(walk.first_tile, end_tile));
  const int tiles = walk.sink_tiles + max(end_tile - walk.first_tile, 0);
#if ALIBI || FORGETS
  walk.last = tiles - 1;
#endif
  walk.begin = DECODE ? (int)((i64)tiles * split / splits) : 0;
  walk.end = DECODE ? (int)((i64)tiles * (split + 1) / splits) : tiles;
  return walk;
}
template <class Visible>
struct ListedWalk {
  const Visible& visible;
  int list, begin, end;
  __device__ __forceinline__ int first_key(int i) const { return visible.tile(list + i) * BLOCK_K; }
};
template <class Visible>
__device__ __forceinline__ auto walk_of(const Rows<Visible>& rows, int first_row, int last_row, int split, int splits) {
  if constexpr (is_listed<Visible>(0)) {
    const int list = rows.visible.list_begin(rows.query(first_row)), tiles = rows.visible.list_end(rows.query(first_row)) - list;
    return ListedWalk<Visible>{rows.visible, list, DECODE ? (int)((i64)tiles * split / splits) : 0,
                               DECODE ? (int)((i64)tiles * (split + 1) / splits) : tiles};
  } else {
    return walk_between(rows, first_row, last_row, split, splits);
  }
}

// What is the same in all threads of a block: its place in the grid, and its tensors from the first of its rows and keys on.
// Grid: x the blocks of rows, last first since the longest rows of a causal call start first, and DECODE the splits of each;
// y the heads, DECODE the key heads; z the batch.
struct Place {
  int first_row, split;
  i64 first_place;  // row of the whole of q and of out at which the first of this block's heads begins
  const Stored *q, *k, *v;
  __device__ __forceinline__ Place(const Tensors& tensors, const Shape& shape) {
    const int splits = DECODE ? shape.splits : 1, heads = DECODE ? 1 : shape.heads_per_key_head;
    split = DECODE ? blockIdx.x % splits : 0;
    first_row = (gridDim.x / splits - 1 - blockIdx.x / splits) * BLOCK_Q;
    const i64 matrix = (i64)blockIdx.z * gridDim.y + blockIdx.y, key_matrix = matrix / heads;
    first_place = matrix * (DECODE ? shape.heads_per_key_head : 1) * shape.queries;
    q = tensors.q + first_place * HEAD_DIM;
    k = tensors.k + key_matrix * shape.keys * HEAD_DIM;
    v = tensors.v + key_matrix * shape.keys * HEAD_DIM;
  }
};

// Hides the scores of keys first_key … that one row does not see: of an accumulator's row in half HALF.
template <int HALF, int KEYS, class Visible>
__device__ __forceinline__ void mask_row(float (&scores)[KEYS / 8][4], int first_key, int row, const Rows<Visible>& rows) {
  const int low = rows.low(row), high = rows.high(row), sinks = rows.sinks();
#pragma unroll
  for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int key = first_key + 8 * j + 2 * (lane() & 3) + e;
      if (key >= high || (key < low && key >= sinks)) scores[j][2 * HALF + e] = NEG_INF;
    }
}

// Ends one row, which lies in half HALF of an accumulator: `total` is the sum of all its exponentials, taken from `base`.
template <int HALF, class Visible>
__device__ __forceinline__ void finish_row(const Tensors& tensors, const Shape& shape, const Place& block, const Rows<Visible>& rows,
                                           const float (&sums)[WIDTH / 8][4], int row, float base, float total) {
  if (row >= rows.count()) return;
  const float factor = total == 0.f ? 0.f : 1.f / total;
  const float log_sum = total == 0.f ? NEG_INF : 0.6931471805599453f * (base + log2_fast(total));
  const bool partial = DECODE && shape.splits > 1;
  const i64 to = rows.to(row);
  if (Rows<Visible>::MAPPED && to < 0) return;
  const i64 all_rows = (i64)gridDim.z * gridDim.y * rows.count(), place = block.first_place + to;
  const i64 part = block.split * all_rows + place;
  if ((lane() & 3) == 0) *(partial ? tensors.parts + shape.splits * all_rows * HEAD_DIM + part : tensors.lse + place) = log_sum;
#pragma unroll
  for (int i = 0; i < WIDTH / 8; ++i) {
    const int column = 8 * i + 2 * (lane() & 3);
    const float x = sums[i][2 * HALF] * factor, y = sums[i][2 * HALF + 1] * factor;
    if (column >= HEAD_DIM) continue;
    if (partial)
      store_pair<FP32>(tensors.parts + part * HEAD_DIM + column, x, y);
    else
      store_pair<DTYPE>(tensors.out + place * HEAD_DIM + column, x, y);
  }
}

#if DTYPE == 0
#include "softmax_single.cuh"
#else
#include "softmax_pipeline.cuh"
#endif

#if DECODE
// out and lse of a row from those of its splits. A warp a row: 4 rows a block of 128 threads, x the blocks.
extern "C" __global__ void __launch_bounds__(128) merge_splits(const float* __restrict__ parts, Stored* __restrict__ out,
                                                               float* __restrict__ lse, i64 rows, int splits) {
  const i64 row = (i64)blockIdx.x * 4 + warp();
  if (row >= rows) return;
  const float* logs = parts + splits * rows * HEAD_DIM + row;
  float top = NEG_INF, total = 0.f;
  for (int split = 0; split < splits; ++split) top = fmaxf(top, logs[split * rows]);
  const float shift = top == NEG_INF ? 0.f : top;
  for (int split = 0; split < splits; ++split) total += exp2_fast((logs[split * rows] - shift) * 1.4426950408889634f);
  const float factor = total == 0.f ? 0.f : 1.f / total;
  for (int column = 2 * lane(); column < HEAD_DIM; column += 64) {
    float x = 0.f, y = 0.f;
#pragma unroll 4
    for (int split = 0; split < splits; ++split) {
      const float weight = exp2_fast((logs[split * rows] - shift) * 1.4426950408889634f) * factor;
      const float2 part = *(const float2*)(parts + (split * rows + row) * HEAD_DIM + column);
      x = fmaf(weight, part.x, x);
      y = fmaf(weight, part.y, y);
    }
    store_pair<DTYPE>(out + row * HEAD_DIM + column, x, y);
  }
  if (lane() == 0) lse[row] = total == 0.f ? NEG_INF : top + 0.6931471805599453f * log2_fast(total);
}
#endif
