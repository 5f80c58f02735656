// Columns of rows moved between arrays, and rotated by position: see `columns.py`. Constants: DTYPE.
#include "ptx.cuh"

// Where a column of 32-bit words begins, and how far it is to the same one of the next sequence, head and row.
struct Columns {
  i64 first, batch, head, row;
  __device__ __forceinline__ i64 at(int row_) const { return first + blockIdx.z * batch + blockIdx.y * head + row_ * row; }
};

// to = from, or 0 where `there` is 0: `words` words of each of `rows` rows.
extern "C" __global__ void __launch_bounds__(256) copy_columns(u32* __restrict__ to, i64 to_first, i64 to_batch, i64 to_head, i64 to_row,
                                                               const u32* __restrict__ from, i64 from_first, i64 from_batch,
                                                               i64 from_head, i64 from_row, int there, int rows, int words) {
  const i64 place = (i64)blockIdx.x * 256 + threadIdx.x;
  const int row = place / words, word = place % words;
  if (row >= rows) return;
  const Columns into = {to_first, to_batch, to_head, to_row}, out_of = {from_first, from_batch, from_head, from_row};
  to[into.at(row) + word] = there ? from[out_of.at(row) + word] : 0;
}

// Turns pair i of a row by its position's angle times the i-th frequency, and multiplies it by `factor`. The angle is that of a multiple
// of 256 positions and of the rest: cosines and sines of both, (…, pairs, 2). Neighbouring numbers are a pair.
extern "C" __global__ void __launch_bounds__(256) rotate(u32* __restrict__ x, i64 first, i64 batch, i64 head, i64 row_words,
                                                         const float2* __restrict__ coarse, const float2* __restrict__ fine, float factor,
                                                         int position, int rows, int pairs) {
  const i64 place = (i64)blockIdx.x * 256 + threadIdx.x;
  const int row = place / pairs, pair = place % pairs;
  if (row >= rows) return;
  const float2 far = coarse[(i64)((position + row) >> 8) * pairs + pair], near = fine[((position + row) & 255) * pairs + pair];
  const float cosine = (far.x * near.x - far.y * near.y) * factor, sine = (far.y * near.x + far.x * near.y) * factor;
  u32* const words = x + Columns{first, batch, head, row_words}.at(row);
  if constexpr (DTYPE == FP32) {
    const float even = __uint_as_float(words[2 * pair]), odd = __uint_as_float(words[2 * pair + 1]);
    words[2 * pair] = __float_as_uint(even * cosine - odd * sine);
    words[2 * pair + 1] = __float_as_uint(even * sine + odd * cosine);
  } else {
    constexpr int SIXTEEN = DTYPE == FP32 ? FP16 : DTYPE;
    const float even = unpacked<SIXTEEN>((u16)words[pair]), odd = unpacked<SIXTEEN>((u16)(words[pair] >> 16));
    words[pair] = pack<SIXTEEN>(even * cosine - odd * sine, even * sine + odd * cosine);
  }
}
