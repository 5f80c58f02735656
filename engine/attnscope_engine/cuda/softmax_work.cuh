// Which block of queries is worked on, and which tiles it sees: part of `softmax_hopper.cuh`.
struct Call {
  int queries, keys, width;  // rows of q and of k; head_dim itself
  int heads, heads_per_key_head, heads_together;  // B·H; heads whose blocks are worked on in turn
  int short_blocks;  // of a head: so many blocks have one warpgroup's rows less, and come last (unless LONGEST_FIRST)
  float scale_log2;  // scale · log2(e): exponentials are taken to base two
};

// A block of queries of `groups` warpgroups and the tiles that it sees: those of the sinks, from 0 to sink_tiles − 1, and from `first`
// to end − 1. ASCENDING, in this order; else in the opposite one.
struct Work {
  int first_row, head, groups, end, first, sink_tiles;
  __device__ __forceinline__ int tiles() const { return end - first + sink_tiles; }
  // The tile behind `passed` others. Descending, sinks follow the others without a gap only for who passes none of them.
  __device__ __forceinline__ int tile(int passed) const {
    if (ASCENDING) return passed < sink_tiles ? passed : first + passed - sink_tiles;
    return end - first > passed ? end - 1 - passed : sink_tiles - 1 - (passed - (end - first));
  }
  // The tile after `tile`, which is not the last.
  __device__ __forceinline__ int after(int tile) const {
    if (ASCENDING) return tile == sink_tiles - 1 ? first : tile + 1;
    return sink_tiles && tile == first ? sink_tiles - 1 : tile - 1;
  }
  // First row of a warpgroup; one that has none stands where nothing is seen and nothing stored.
  __device__ __forceinline__ int row_of(int group) const { return group < groups ? first_row + ROWS * group : -(1 << 20); }
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
  const int rows = rows_of_a_head(call, visible);
  if (LONGEST_FIRST) return (rows + BLOCK_Q - 1) / BLOCK_Q;
  return call.short_blocks + (max(rows - call.short_blocks * (BLOCK_Q - ROWS), 0) + BLOCK_Q - 1) / BLOCK_Q;
}

// The `number`-th block. LONGEST_FIRST: heads in groups of heads_together, in each group the longest rows of all heads first. Else head
// by head, short blocks behind all others. Blocks are counted from the last row back, so that it is the first, which sees the least,
// that may be short of rows: it then begins at a row below zero.
template <class Visible>
__device__ __forceinline__ Work work_of(const Call& call, const Visible& visible, int number) {
  const int blocks = blocks_of_a_head(call, visible), rows = rows_of_a_head(call, visible);
  Work work;
  work.groups = WARPGROUPS;
  if constexpr (LONGEST_FIRST) {
    const int of_group = call.heads_together * blocks, group = number / of_group;
    const int first_head = group * call.heads_together, heads = min(call.heads_together, call.heads - first_head);
    const int inside = number - group * of_group, place = inside / heads;
    work.head = first_head + inside - place * heads;
    work.first_row = rows - (place + 1) * BLOCK_Q;
  } else {
    const int whole = blocks - call.short_blocks, behind = number - whole * call.heads;
    if (behind < 0) {
      work.head = number / whole;
      work.first_row = rows - (whole - (number - work.head * whole)) * BLOCK_Q;
    } else {
      work.head = behind / call.short_blocks;
      work.groups = WARPGROUPS - 1;
      work.first_row = rows - whole * BLOCK_Q - (behind - work.head * call.short_blocks + 1) * (BLOCK_Q - ROWS);
    }
  }
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
  work.end = tiles_below(visible.high(work.first_row + ROWS * work.groups - 1));
  work.first = min(visible.low(max(work.first_row, 0)) / BLOCK_K, work.end);
  work.sink_tiles = visible.sinks ? min(tiles_below(visible.sinks), work.first) : 0;
  return work;
}
