// A mask whose rows have their bounds in a table, as `Visible` of `softmax_tiles.cuh`: of each row the first key, and the first behind
// the last, that it sees, for MARGIN rows more than there are: rows past the last are asked for too, in the last block.
// REORDERED: rows are queries in another order, q lies in it already, and `order` says which query a row is. Else it is never read.
template <bool REORDERED>
struct RowTable {
  int queries;
  const int *bounds, *order;
  static constexpr int sinks = 0, MARGIN = 256;
  static constexpr bool MAPPED = REORDERED;
  __device__ __forceinline__ int low(int row) const { return load_index(bounds + 2 * max(row, 0)); }
  __device__ __forceinline__ int high(int row) const { return load_index(bounds + 2 * max(row, 0) + 1); }
  __device__ __forceinline__ int rows() const { return queries; }
  __device__ __forceinline__ int from(int row) const { return row; }
  __device__ __forceinline__ int to(int row) const { return load_index(order + row); }
};
static_assert(BLOCK_Q <= RowTable<true>::MARGIN, "a block of rows may begin at the last");
