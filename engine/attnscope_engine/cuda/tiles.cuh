// Tiles of rows in shared memory, and the operands that tensor cores take from them.
//
// All dtypes share one geometry: a row is cut into 16-byte parts, and one step of a product eats 32 bytes of each row, which is
// 16 elements of fp16 or bf16, or 8 of fp32. An accumulator c[4] of lane l holds rows l/4 and l/4+8, columns 2(l%4) and +1.
// fp32 is split in two TF32 parts, three products each (3×TF32, error about 2⁻²¹ of a product); before sm_80 it runs on fp32 FMA.
#include "ptx.cuh"

template <int DTYPE_>
struct Element {
  typedef u16 Stored;
  static constexpr int STEP = 16;
};
template <>
struct Element<FP32> {
  typedef float Stored;
  static constexpr int STEP = 8;
};

// Whether a second product's operand holds keys as they lie in memory, or as an accumulator of the first product left them.
enum Order { STORED, ACCUMULATED };

__device__ __forceinline__ int lane() { return threadIdx.x & 31; }
__device__ __forceinline__ int warp() { return threadIdx.x >> 5; }

// The largest power of two that is at most `n` and `most`.
constexpr int power_of_two_below(int n, int most) { return n < 1 ? 0 : n == 1 || most == 1 ? 1 : 2 * power_of_two_below(n / 2, most / 2); }

// ROW_ELEMENTS is a multiple of 32. Parts are permuted inside each row so that the eight rows of a matrix lie in different banks.
template <int DTYPE_, int ROW_ELEMENTS>
struct Tile {
  typedef typename Element<DTYPE_>::Stored Stored;
  static constexpr int STEP = Element<DTYPE_>::STEP;
  static constexpr int PER_PART = 16 / (int)sizeof(Stored);
  static constexpr int PARTS = ROW_ELEMENTS / PER_PART;
  static constexpr int ROW_BYTES = ROW_ELEMENTS * (int)sizeof(Stored);
  unsigned char* base;

  __device__ __forceinline__ static int offset_of_part(int row, int part) {
    return row * ROW_BYTES + (part ^ (PARTS % 8 == 0 ? row & 7 : (row >> 1) & 3)) * 16;
  }
  __device__ __forceinline__ u32 part(int row, int part) const { return shared_address(base + offset_of_part(row, part)); }
  __device__ __forceinline__ Stored* at(int row, int column) const {
    return (Stored*)(base + offset_of_part(row, column / PER_PART)) + column % PER_PART;
  }
  __device__ __forceinline__ u32 bits(int row, int column) const { return *(const u32*)at(row, column); }

  // The address of the part `parts` (even) after the one at `address`, in the same row.
  __device__ __forceinline__ static u32 moved(u32 address, int parts) {
    constexpr int PERMUTED = PARTS % 8 == 0 ? 8 : 4;
    return (address ^ parts % PERMUTED * 16) + parts / PERMUTED * PERMUTED * 16;
  }

  // Rows first … first+ROWS of a matrix of `rows` rows, each `width` elements (a multiple of PER_PART) `stride` elements apart;
  // zeros outside.
  template <int ROWS, int THREADS>
  __device__ __forceinline__ void load(const Stored* matrix, int first, int rows, int width, i64 stride) const {
    constexpr int UNROLL = DTYPE_ == FP32 ? 1 : 8;  // fp32 kernels have no register to spare
    constexpr int AT_ONCE = power_of_two_below(THREADS / PARTS, ROWS);  // rows
    static_assert(AT_ONCE > 0 && ROWS % AT_ONCE == 0, "whole rounds of rows");
    if (AT_ONCE * PARTS < THREADS && threadIdx.x >= AT_ONCE * PARTS) return;
    const int row = threadIdx.x / PARTS, place = threadIdx.x % PARTS, column = place * PER_PART;
    const Stored* from = matrix + (first + row) * stride + column;
    if (first + ROWS <= rows) {
#pragma unroll UNROLL
      for (int i = 0; i < ROWS; i += AT_ONCE) copy_16(part(row + i, place), from + i * stride, column < width);
    } else {
#pragma unroll UNROLL
      for (int i = 0; i < ROWS; i += AT_ONCE)
        copy_16(part(row + i, place), from + i * stride, first + row + i < rows && column < width);
    }
  }
  // The same of rows that do not lie one behind the other: number i is `place(i)` rows of `width` elements away.
  template <int ROWS, int THREADS, class Place>
  __device__ __forceinline__ void load_scattered(const Stored* matrix, int first, int rows, int width, const Place& place) const {
#pragma unroll 4
    for (int i = threadIdx.x; i < ROWS * PARTS; i += THREADS) {
      const int row = first + i / PARTS, column = i % PARTS * PER_PART;
      const bool inside = row < rows && column < width;
      copy_16(part(i / PARTS, i % PARTS), matrix + (inside ? place(row) * width + column : 0), inside);
    }
  }

  // Left operand (16 rows × STEP): rows `row0`…, elements step·STEP….
  __device__ __forceinline__ void left(u32 (&a)[4], int row0, int step) const {
    load_matrices(a, part(row0 + (lane() & 15), 2 * step + (lane() >> 4)));
  }
  // Two right operands (STEP × 8 each) of a product with this tile transposed: b[0..1] for rows row0 … +7, b[2..3] for the next 8.
  __device__ __forceinline__ void right_rows(u32 (&b)[4], int row0, int step) const {
    load_matrices(b, part(row0 + (lane() & 7) + ((lane() >> 4) << 3), 2 * step + ((lane() >> 3) & 1)));
  }
  // Two right operands of a product with this tile as it is: rows row0 … row0+STEP, b[0..1] for columns column0 … +7, b[2..3] the next 8.
  template <Order ORDER>
  __device__ __forceinline__ void right_columns(u32 (&b)[4], int row0, int column0) const {
    if constexpr (DTYPE_ == FP32) {
      const int group = lane() >> 2, place = lane() & 3;
      const int even = row0 + (ORDER == ACCUMULATED ? 2 * place : place);
      const int odd = row0 + (ORDER == ACCUMULATED ? 2 * place + 1 : place + 4);
      b[0] = bits(even, column0 + group);
      b[1] = bits(odd, column0 + group);
      b[2] = bits(even, column0 + 8 + group);
      b[3] = bits(odd, column0 + 8 + group);
    } else {
      load_matrices_transposed(b, part(row0 + (lane() & 15), column0 / 8 + (lane() >> 4)));
    }
  }
  // Left operand of a product with this tile transposed: its rows are columns column0 … +15, its elements rows row0 … row0+STEP.
  __device__ __forceinline__ void left_columns(u32 (&a)[4], int row0, int column0) const {
    if constexpr (DTYPE_ == FP32) {
      const int group = lane() >> 2, place = lane() & 3;
      a[0] = bits(row0 + place, column0 + group);
      a[1] = bits(row0 + place, column0 + 8 + group);
      a[2] = bits(row0 + place + 4, column0 + group);
      a[3] = bits(row0 + place + 4, column0 + 8 + group);
    } else {
      load_matrices_transposed(a, part(row0 + (lane() & 7) + ((lane() >> 4) << 3), column0 / 8 + ((lane() >> 3) & 1)));
    }
  }
};

// An fp32 number as the sum of a TF32 part and a rest.
__device__ __forceinline__ void split_tf32(u32 bits, u32& high, u32& rest) {
  high = (bits + 0x1000u) & 0xffffe000u;
  rest = __float_as_uint(__uint_as_float(bits) - __uint_as_float(high));
}

#if !HAS_TF32
// c (16×8) += a (16×8) · b (8×8) in fp32, each operand fetched from the lane that holds it. Not inlined: there are hundreds of calls.
__device__ __noinline__ float4 multiply_fp32(float4 c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  const int rows = lane() & ~3, columns = 8 * (lane() & 3);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const float upper = __uint_as_float(__shfl_sync(~0u, k < 4 ? a0 : a2, rows + k % 4));
    const float lower = __uint_as_float(__shfl_sync(~0u, k < 4 ? a1 : a3, rows + k % 4));
    const float even = __uint_as_float(__shfl_sync(~0u, k < 4 ? b0 : b1, columns + k % 4));
    const float odd = __uint_as_float(__shfl_sync(~0u, k < 4 ? b0 : b1, columns + 4 + k % 4));
    c = make_float4(fmaf(upper, even, c.x), fmaf(upper, odd, c.y), fmaf(lower, even, c.z), fmaf(lower, odd, c.w));
  }
  return c;
}
#endif

// c (16×8) += a (16×STEP) · b (STEP×8).
template <int DTYPE_>
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  if constexpr (DTYPE_ != FP32) {
    mma_16bit<DTYPE_>(c, a, b0, b1);
  } else {
#if HAS_TF32
    u32 a_high[4], a_rest[4], b_high[2], b_rest[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) split_tf32(a[i], a_high[i], a_rest[i]);
    split_tf32(b0, b_high[0], b_rest[0]);
    split_tf32(b1, b_high[1], b_rest[1]);
    mma_tf32(c, a_rest, b_high[0], b_high[1]);
    mma_tf32(c, a_high, b_rest[0], b_rest[1]);
    mma_tf32(c, a_high, b_high[0], b_high[1]);
#else
    const float4 sum = multiply_fp32(make_float4(c[0], c[1], c[2], c[3]), a[0], a[1], a[2], a[3], b0, b1);
    c[0] = sum.x;
    c[1] = sum.y;
    c[2] = sum.z;
    c[3] = sum.w;
#endif
  }
}

// The left operand of a second product from the accumulators of the first: columns step·STEP … of c, in ACCUMULATED order.
template <int DTYPE_, int COLUMNS>
__device__ __forceinline__ void left_of(u32 (&a)[4], const float (&c)[COLUMNS / 8][4], int step) {
  if constexpr (DTYPE_ == FP32) {
    a[0] = __float_as_uint(c[step][0]);
    a[1] = __float_as_uint(c[step][2]);
    a[2] = __float_as_uint(c[step][1]);
    a[3] = __float_as_uint(c[step][3]);
  } else {
    a[0] = pack<DTYPE_>(c[2 * step][0], c[2 * step][1]);
    a[1] = pack<DTYPE_>(c[2 * step][2], c[2 * step][3]);
    a[2] = pack<DTYPE_>(c[2 * step + 1][0], c[2 * step + 1][1]);
    a[3] = pack<DTYPE_>(c[2 * step + 1][2], c[2 * step + 1][3]);
  }
}

// scores (16 × KEYS) = 16 rows of `queries` from row0 on · the KEYS rows of `keys` transposed.
template <int DTYPE_, int WIDTH_, int KEYS>
__device__ __forceinline__ void multiply_rows(float (&scores)[KEYS / 8][4], const Tile<DTYPE_, WIDTH_>& queries, int row0,
                                              const Tile<DTYPE_, WIDTH_>& keys) {
  constexpr int UNROLL = DTYPE_ == FP32 ? 1 : 4;  // more would only keep addresses in registers
#pragma unroll
  for (int j = 0; j < KEYS / 8; ++j) scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0.f;
#pragma unroll UNROLL
  for (int step = 0; step < WIDTH_ / Element<DTYPE_>::STEP; ++step) {
    u32 a[4];
    queries.left(a, row0, step);
#pragma unroll
    for (int j = 0; j < KEYS / 16; ++j) {
      u32 b[4];
      keys.right_rows(b, 16 * j, step);
      multiply<DTYPE_>(scores[2 * j], a, b[0], b[1]);
      multiply<DTYPE_>(scores[2 * j + 1], a, b[2], b[3]);
    }
  }
}

// out = out · (the row's factor) + a (16 × KEYS) · values. The product is summed apart and added once, since tensor cores truncate
// what they add to: a long sum kept in their accumulator drifts.
template <int DTYPE_, int WIDTH_, int KEYS, Order ORDER>
__device__ __forceinline__ void add_product(float (&out)[WIDTH_ / 8][4], const u32 (&a)[KEYS / Element<DTYPE_>::STEP][4],
                                            const Tile<DTYPE_, WIDTH_>& values, float upper, float lower) {
  constexpr int STEP = Element<DTYPE_>::STEP;
#pragma unroll
  for (int i = 0; i < WIDTH_ / 16; ++i) {
    float part[2][4] = {};
#pragma unroll
    for (int step = 0; step < KEYS / STEP; ++step) {
      u32 b[4];
      values.template right_columns<ORDER>(b, STEP * step, 16 * i);
      multiply<DTYPE_>(part[0], a[step], b[0], b[1]);
      multiply<DTYPE_>(part[1], a[step], b[2], b[3]);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      out[2 * i][e] = fmaf(out[2 * i][e], e < 2 ? upper : lower, part[0][e]);
      out[2 * i + 1][e] = fmaf(out[2 * i + 1][e], e < 2 ? upper : lower, part[1][e]);
    }
  }
}

__device__ __forceinline__ float maximum_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// Two neighbouring values, as two fp32 or packed into 32 bits.
template <int DTYPE_>
__device__ __forceinline__ void store_pair(typename Element<DTYPE_>::Stored* to, float x, float y) {
  if constexpr (DTYPE_ == FP32)
    *(float2*)to = make_float2(x, y);
  else
    *(u32*)to = pack<DTYPE_>(x, y);
}
template <int DTYPE_>
__device__ __forceinline__ float as_float(typename Element<DTYPE_>::Stored stored) {
  if constexpr (DTYPE_ == FP32)
    return stored;
  else
    return unpacked<DTYPE_>(stored);
}

// The nearest value that the dtype can store.
template <int DTYPE_>
__device__ __forceinline__ float rounded(float x) {
  if constexpr (DTYPE_ == FP32)
    return x;
  else
    return unpacked<DTYPE_>((u16)pack<DTYPE_>(x, 0.f));
}

// Stores an accumulator (16 × WIDTH_), each row times its factor, to rows row0 … of `out`: rows of `width` elements, `stride` apart.
template <int DTYPE_, int WIDTH_>
__device__ __forceinline__ void store_rows(typename Element<DTYPE_>::Stored* out, const float (&c)[WIDTH_ / 8][4], int row0, int rows,
                                           int width, i64 stride, float factor_upper, float factor_lower) {
  const int upper = row0 + (lane() >> 2), lower = upper + 8;
#pragma unroll
  for (int i = 0; i < WIDTH_ / 8; ++i) {
    const int column = 8 * i + 2 * (lane() & 3);
    if (column >= width) continue;
    if (upper < rows) store_pair<DTYPE_>(out + upper * stride + column, c[i][0] * factor_upper, c[i][1] * factor_upper);
    if (lower < rows) store_pair<DTYPE_>(out + lower * stride + column, c[i][2] * factor_lower, c[i][3] * factor_lower);
  }
}
