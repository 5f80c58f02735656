// From what segments do to a state to what they begin with. Shared by the kernels of Hopper and those of every card.
//
// A state in memory is turned: WIDTH rows, one a column of the values, of WIDTH fp32. Constants: WIDTH.
#include "ptx.cuh"

constexpr int STATE_FLOATS = WIDTH * WIDTH;
// A segment where channels fade apart: what it adds, then what it leaves of each channel. Under the delta rule: what it adds, Z, then
// what it makes of a state, P.
constexpr int FADED_FLOATS = STATE_FLOATS + WIDTH, TRANSITION_FLOATS = 2 * STATE_FLOATS;

// Z of each segment becomes the state that the segment begins with. Rows of a turned state go their own way, Sᵀ ↦ Sᵀ·Pᵀ + Zᵀ: a block
// has SCAN_ROWS of them and walks over the segments, a thread a column. Grid: blocks of rows, key heads, batch.
constexpr int SCAN_ROWS = 16;
extern "C" __global__ void __launch_bounds__(WIDTH) delta_scan(float* states, int segments) {
  SHARED_MEMORY(carried);
  float(*const rows)[SCAN_ROWS] = (float(*)[SCAN_ROWS])carried;  // of what the segment begins with, turned once more
  const int column = threadIdx.x, first = blockIdx.x * SCAN_ROWS;
  float* const of_head = states + (i64)(blockIdx.z * gridDim.y + blockIdx.y) * segments * TRANSITION_FLOATS;
  float row[SCAN_ROWS];
#pragma unroll
  for (int r = 0; r < SCAN_ROWS; ++r) row[r] = of_head[(first + r) * WIDTH + column];
#pragma unroll 1
  for (int segment = 1; segment < segments; ++segment) {
    float* const own = of_head + (i64)segment * TRANSITION_FLOATS;
    const float* const transition = own + STATE_FLOATS + column;
    float next[SCAN_ROWS];
    __syncthreads();
#pragma unroll
    for (int r = 0; r < SCAN_ROWS; ++r) {
      rows[column][r] = row[r];
      next[r] = segment + 1 < segments ? own[(first + r) * WIDTH + column] : 0.f;
      own[(first + r) * WIDTH + column] = row[r];
    }
    if (segment + 1 == segments) break;
    __syncthreads();
#pragma unroll 4
    for (int i = 0; i < WIDTH; ++i) {
      const float factor = transition[i * WIDTH];
#pragma unroll
      for (int r = 0; r < SCAN_ROWS; ++r) next[r] = fmaf(rows[i][r], factor, next[r]);
    }
#pragma unroll
    for (int r = 0; r < SCAN_ROWS; ++r) row[r] = next[r];
  }
}

// What each segment adds becomes what it begins with, where channels fade apart. Grid: blocks of 256 numbers of a state, key heads, batch.
extern "C" __global__ void __launch_bounds__(256) gla_scan(float* states, int segments) {
  const int place = blockIdx.x * 256 + threadIdx.x, channel = place % WIDTH;
  float* const of_head = states + (i64)(blockIdx.z * gridDim.y + blockIdx.y) * segments * FADED_FLOATS;
  float sum = 0.f;
#pragma unroll 4
  for (int segment = 0; segment < segments; ++segment) {
    float* const mine = of_head + (i64)segment * FADED_FLOATS;
    const bool made = segment + 1 < segments;  // nothing begins after the last
    const float own = made ? mine[place] : 0.f, left = made ? mine[STATE_FLOATS + channel] : 0.f;
    mine[place] = sum;
    sum = fmaf(sum, left, own);
  }
}
