// What: linear attention, φ = elu + 1, normalised: sums of φ(k)ᵀv a segment of keys, running sums of those, then outputs.
// Grid → work: states: x segments of SEGMENT keys; sums: x blocks of 256 values of a state; outputs: x blocks of BLOCK_Q queries; y heads, z batch.
// Block → work: states 2·WIDTH threads, 16 rows of the state a warp; outputs 2·BLOCK_Q threads, 16 queries a warp.
// Shared memory: states 2·BLOCK_K · WIDTH · bytes of an element; outputs (BLOCK_Q + 2·BLOCK_K) · the same.
// Numerics: tensor cores (fp32 as 3×TF32), state and normaliser fp32, the state enters products as a rounded part and its rest.
// Limits: head_dim ≤ 128 and a multiple of 8; any n, any n_keys (causal is aligned bottom-right).
//
// Source: Katharopoulos et al. 2020, sections 3.2 to 3.4, arXiv 2006.16236.
// A causal query takes whole segments before it from the running sum and the keys after those one by one, so a segment is never
// walked in order and all queries run at once. A state is width rows of width values, then the width values of the normaliser.
#if HOPPER
#include "linear_hopper.cuh"
#else
#include "tiles.cuh"

typedef Element<DTYPE>::Stored Stored;
constexpr int STEP = Element<DTYPE>::STEP, SLAB = 32;

// φ of the first `rows` rows and `width` columns of a tile, in place; the rest of the tile becomes 0.
template <int ROWS, int THREADS>
__device__ __forceinline__ void apply_feature(const Tile<DTYPE, WIDTH>& tile, int rows, int width) {
#pragma unroll 2
  for (int i = threadIdx.x; i < ROWS * WIDTH / 2; i += THREADS) {
    const int row = i / (WIDTH / 2), column = i % (WIDTH / 2) * 2;
    Stored* pair = tile.at(row, column);
    float x = as_float<DTYPE>(pair[0]), y = as_float<DTYPE>(pair[1]);
    x = x > 0.f ? x + 1.f : expf(x);
    y = y > 0.f ? y + 1.f : expf(y);
    if (row >= rows || column >= width) x = y = 0.f;
    store_pair<DTYPE>(pair, x, y);
  }
}

extern "C" __global__ void __launch_bounds__(2 * WIDTH) linear_states(
    const Stored* __restrict__ k, const Stored* __restrict__ v, float* __restrict__ states, int keys, int width) {
  constexpr int THREADS = 2 * WIDTH;
  SHARED_MEMORY(memory);
  const Tile<DTYPE, WIDTH> features = {memory}, values = {memory + BLOCK_K * features.ROW_BYTES};
  const i64 matrix = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  k += matrix * keys * width;
  v += matrix * keys * width;
  const int first_key = blockIdx.x * SEGMENT, end = min(first_key + SEGMENT, keys);

  float state[WIDTH / 8][4] = {}, normaliser = 0.f;
#pragma unroll 1
  for (int key0 = first_key; key0 < end; key0 += BLOCK_K) {
    features.load<BLOCK_K, THREADS>(k, key0, end, width, width);
    values.load<BLOCK_K, THREADS>(v, key0, end, width, width);
    wait_for_copies();
    __syncthreads();
    apply_feature<BLOCK_K, THREADS>(features, end - key0, width);
    __syncthreads();
    if (threadIdx.x < WIDTH)
      for (int row = 0; row < BLOCK_K; ++row) normaliser += as_float<DTYPE>(*features.at(row, threadIdx.x));
    u32 a[BLOCK_K / STEP][4];
#pragma unroll
    for (int step = 0; step < BLOCK_K / STEP; ++step) features.left_columns(a[step], STEP * step, 16 * warp());
    add_product<DTYPE, WIDTH, BLOCK_K, STORED>(state, a, values, 1.f, 1.f);
    __syncthreads();
  }
  states += (matrix * gridDim.x + blockIdx.x) * width * (width + 1);
  store_rows<FP32, WIDTH>(states, state, 16 * warp(), width, width, width, 1.f, 1.f);
  if (threadIdx.x < width) states[width * width + threadIdx.x] = normaliser;
}

// Each segment's state becomes the sum of its own and all before it.
extern "C" __global__ void __launch_bounds__(256) linear_sums(float* states, int segments, int size) {
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= size) return;
  states += ((i64)blockIdx.z * gridDim.y + blockIdx.y) * segments * size + i;
  float sum = 0.f;
#pragma unroll 8
  for (int segment = 0; segment < segments; ++segment) states[(i64)segment * size] = sum += states[(i64)segment * size];
}

// sums += φ(q) · state, and returns through `upper`, `lower` this lane's share of φ(q) · normaliser of its two rows.
__device__ __forceinline__ void add_state(float (&sums)[WIDTH / 8][4], float& upper, float& lower, const Tile<DTYPE, WIDTH>& queries,
                                          const Tile<DTYPE, WIDTH>& high, const Tile<DTYPE, WIDTH>& rest, const float* state,
                                          int width, int keys_summed) {
  // A long sum leaves the range of fp16: it is multiplied as a mean over its keys, nearly, by a power of two.
  const float shrink = __uint_as_float((u32)(127 - (32 - __clz(keys_summed))) << 23);
#pragma unroll 1
  for (int row0 = 0; row0 < WIDTH; row0 += SLAB) {
    __syncthreads();
    for (int i = threadIdx.x; i < SLAB * WIDTH / 2; i += 2 * BLOCK_Q) {
      const int row = i / (WIDTH / 2), column = i % (WIDTH / 2) * 2;
      const bool inside = row0 + row < width && column < width;
      const float x = inside ? state[(row0 + row) * width + column] * shrink : 0.f;
      const float y = inside ? state[(row0 + row) * width + column + 1] * shrink : 0.f;
      Stored* stored = high.at(row, column);
      store_pair<DTYPE>(stored, x, y);
      if (DTYPE != FP32) store_pair<DTYPE>(rest.at(row, column), x - as_float<DTYPE>(stored[0]), y - as_float<DTYPE>(stored[1]));
    }
    __syncthreads();
    u32 a[SLAB / STEP][4];
#pragma unroll
    for (int step = 0; step < SLAB / STEP; ++step) queries.left(a[step], 16 * warp(), row0 / STEP + step);
    add_product<DTYPE, WIDTH, SLAB, STORED>(sums, a, high, 1.f, 1.f);
    if (DTYPE != FP32) add_product<DTYPE, WIDTH, SLAB, STORED>(sums, a, rest, 1.f, 1.f);
  }
#pragma unroll
  for (int i = 0; i < WIDTH / 8; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[i][e] *= 1.f / shrink;

  const float* normaliser = state + width * width;
  const int row = 16 * warp() + (lane() >> 2);
  for (int column = lane() & 3; column < width; column += 4) {
    upper += as_float<DTYPE>(*queries.at(row, column)) * normaliser[column];
    lower += as_float<DTYPE>(*queries.at(row + 8, column)) * normaliser[column];
  }
}

extern "C" __global__ void __launch_bounds__(2 * BLOCK_Q) linear_outputs(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    const float* __restrict__ states, int queries, int keys, int width, int heads_per_key_head) {
  constexpr int THREADS = 2 * BLOCK_Q;
  SHARED_MEMORY(memory);
  const Tile<DTYPE, WIDTH> rows = {memory}, features = {memory + BLOCK_Q * rows.ROW_BYTES};
  const Tile<DTYPE, WIDTH> values = {features.base + BLOCK_K * features.ROW_BYTES};
  const i64 query_matrix = (i64)blockIdx.z * gridDim.y + blockIdx.y, key_matrix = query_matrix / heads_per_key_head;
  q += query_matrix * queries * width;
  k += key_matrix * keys * width;
  v += key_matrix * keys * width;

  const int segments = (keys + SEGMENT - 1) / SEGMENT, first_row = blockIdx.x * BLOCK_Q;
  const auto visible = [&](int row) { return CAUSAL ? max(0, min(row + keys - queries + 1, keys)) : keys; };
  const int whole = CAUSAL ? visible(first_row) / SEGMENT : segments;
  const int end = visible(min(first_row + BLOCK_Q, queries) - 1);

  rows.load<BLOCK_Q, THREADS>(q, first_row, queries, width, width);
  wait_for_copies();
  __syncthreads();
  apply_feature<BLOCK_Q, THREADS>(rows, BLOCK_Q, width);
  __syncthreads();

  const int row0 = 16 * warp(), upper = first_row + row0 + (lane() >> 2);
  float sums[WIDTH / 8][4] = {}, sum_upper = 0.f, sum_lower = 0.f;
  if (whole > 0) {
    const float* state = states + (key_matrix * segments + whole - 1) * width * (width + 1);
    add_state(sums, sum_upper, sum_lower, rows, features, values, state, width, min(whole * SEGMENT, keys));
    __syncthreads();
  }
#pragma unroll 1
  for (int key0 = whole * SEGMENT; key0 < end; key0 += BLOCK_K) {
    features.load<BLOCK_K, THREADS>(k, key0, keys, width, width);
    values.load<BLOCK_K, THREADS>(v, key0, keys, width, width);
    wait_for_copies();
    __syncthreads();
    apply_feature<BLOCK_K, THREADS>(features, keys - key0, width);
    __syncthreads();
    float products[BLOCK_K / 8][4];
    multiply_rows<DTYPE, WIDTH, BLOCK_K>(products, rows, row0, features);
#pragma unroll
    for (int j = 0; j < BLOCK_K / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = key0 + 8 * j + 2 * (lane() & 3) + (e & 1);
        // The sum is of what will be multiplied: a query with one key returns exactly that key's value.
        products[j][e] = key < visible(upper + (e < 2 ? 0 : 8)) ? rounded<DTYPE>(products[j][e]) : 0.f;
        (e < 2 ? sum_upper : sum_lower) += products[j][e];
      }
    u32 a[BLOCK_K / STEP][4];
#pragma unroll
    for (int step = 0; step < BLOCK_K / STEP; ++step) left_of<DTYPE, BLOCK_K>(a[step], products, step);
    add_product<DTYPE, WIDTH, BLOCK_K, ACCUMULATED>(sums, a, values, 1.f, 1.f);
    __syncthreads();
  }
  sum_upper = sum_of_row(sum_upper);
  sum_lower = sum_of_row(sum_lower);
  store_rows<DTYPE, WIDTH>(out + query_matrix * queries * width, sums, first_row + row0, queries, width, width,
                           sum_upper == 0.f ? 0.f : 1.f / sum_upper, sum_lower == 0.f ? 0.f : 1.f / sum_lower);
}
#endif
