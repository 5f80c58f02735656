// Which block of queries is worked on, and which tiles it sees: part of `softmax_hopper.cuh`.
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

template <class Visible>
__device__ __forceinline__ int rows_of_a_head(const Call& call, const Visible& visible) {
  if constexpr (is_mapped<Visible>(0)) return visible.rows();
  else return call.queries;
}
__device__ __forceinline__ int tiles_below(int key) { return (key + BLOCK_K - 1) / BLOCK_K; }
template <class Visible>
__device__ __forceinline__ int blocks_of_a_head(const Call& call, const Visible& visible) {
  return (rows_of_a_head(call, visible) + BLOCK_Q - 1) / BLOCK_Q;
}

// The `number`-th block: heads in groups of heads_together, in each group the longest rows of all heads first.
template <class Visible>
__device__ __forceinline__ Work work_of(const Call& call, const Visible& visible, int number) {
  const int blocks = blocks_of_a_head(call, visible), of_group = call.heads_together * blocks, group = number / of_group;
  const int first_head = group * call.heads_together, heads = min(call.heads_together, call.heads - first_head);
  const int inside = number - group * of_group, place = inside / heads;
  Work work;
  work.head = first_head + inside - place * heads;
  // Blocks are counted from the last row back, so that it is the first, which sees the least, that may be short: it then begins at
  // a row below zero.
  work.first_row = rows_of_a_head(call, visible) - (LONGEST_FIRST ? place + 1 : blocks - place) * BLOCK_Q;
  if constexpr (is_listed<Visible>(0)) {
    if (!CAUSAL) {  // lists that are long whatever the row, those of the first `dense` blocks of all heads, come first
      const int dense = min(visible.dense, blocks), others = number - dense * call.heads;
      const int rest = others < 0 ? number : others, per_head = others < 0 ? dense : blocks - dense;
      work.head = rest / per_head;
      work.first_row = (rest % per_head + (others < 0 ? 0 : dense)) * BLOCK_Q;
    }
    work.end = visible.list_end(work.first_row);
    work.first = visible.list_begin(work.first_row);
    work.sink_tiles = 0;
    return work;
  }
  work.end = tiles_below(visible.high(work.first_row + BLOCK_Q - 1));
  work.first = min(visible.low(max(work.first_row, 0)) / BLOCK_K, work.end);
  work.sink_tiles = visible.sinks ? min(tiles_below(visible.sinks), work.first) : 0;
  return work;
}
