// Rows of keys, values or queries in another order, some of them or some more than once: 64 rows of one head a block.
#include "ptx.cuh"

// Row i of the result is row order[i]: x (B, H, rows_of_x, parts of 16 bytes) → (B, H, rows, parts).
extern "C" __global__ void __launch_bounds__(256) reorder(const uint4* __restrict__ x, uint4* __restrict__ ordered,
                                                          const int* __restrict__ order, int rows_of_x, int rows, int parts) {
  const i64 head = (i64)blockIdx.z * gridDim.y + blockIdx.y;
  const int first = blockIdx.x * 64, count = min(64, rows - first);
  for (int i = threadIdx.x; i < count * parts; i += 256) {
    const int row = first + i / parts, part = i % parts;
    ordered[(head * rows + row) * parts + part] = x[(head * rows_of_x + order[row]) * parts + part];
  }
}
