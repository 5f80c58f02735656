// Running sums of what gates take away, as a table of what each key adds to all scores with it: see `forget_table.py`.
// Grid: one block of 1024 threads a key head; it goes over its keys 1024 at a time. Sums are kept in fp64: a difference of two that are
// near each other is then as exact as the table's own numbers.
#include "ptx.cuh"

constexpr int SUMMED = 1024, TABLE_MARGIN = 256;

// log α (B, G, keys) → −log2(e) · (its sum so far) (B, G, stride): zeros before the first and the last value behind the last.
extern "C" __global__ void __launch_bounds__(SUMMED) sum_of_decays(const float* __restrict__ log_decay, float* __restrict__ table,
                                                                   int keys, int stride) {
  __shared__ double sums[2][SUMMED];
  const i64 head = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  const float* const from = log_decay + head * keys;
  float* const to = table + head * stride;
  const int thread = threadIdx.x;
  double before = 0;
  if (thread < TABLE_MARGIN) to[thread] = 0.f;
  for (int first = 0; first < keys; first += SUMMED) {
    int side = 0;
    sums[0][thread] = first + thread < keys ? (double)from[first + thread] : 0.0;
    __syncthreads();
    for (int reach = 1; reach < SUMMED; reach *= 2) {
      sums[side ^ 1][thread] = sums[side][thread] + (thread >= reach ? sums[side][thread - reach] : 0.0);
      side ^= 1;
      __syncthreads();
    }
    if (first + thread < keys) to[TABLE_MARGIN + first + thread] = (float)(-1.4426950408889634 * (before + sums[side][thread]));
    before += sums[side][SUMMED - 1];
    __syncthreads();
  }
  for (int place = TABLE_MARGIN + keys + thread; place < stride; place += SUMMED) to[place] = (float)(-1.4426950408889634 * before);
}
