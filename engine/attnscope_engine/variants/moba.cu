// What: exact softmax over a query's own block up to itself, and over the past blocks that it chose by their mean keys, merged.
// Grid → work: own blocks as `chunked.cu`. Means, counts, places: x the blocks of keys. Choice: x 64 queries. Chosen: x the blocks of
// Block → work: BLOCK_Q rows, each a query that chose the block of keys that all of them attend to. Merge: x 8 queries. y heads, z batch.
// Shared memory: as `softmax_tiles.cuh`; the choice: 32 channels of 64 queries and of 32 means, their scores, what is best so far, 38 KiB.
// Numerics: means and their scores in fp32; as `softmax_tiles.cuh`; what own block and choices found is rounded to the dtype, then merged.
// Limits: head_dim ≤ 256 and a multiple of 8; any n, any n_keys, any block size; causal; 32 chosen.
// On Hopper, own blocks run on its own instructions in 16-bit types; rows that are gathered run as on every card.
#include "ptx.cuh"
#if CHOOSES

#if DTYPE == 0
typedef float Stored;
#else
typedef u16 Stored;
#endif

constexpr int GROUP = 128;  // rows that attend to the same block of keys; as in `moba.py`
constexpr int MOST_CHOSEN = 32, MOST_CHANNELS = 256, THREADS = 256;

__device__ __forceinline__ i64 head_of_block() { return (i64)blockIdx.z * gridDim.y + blockIdx.y; }
// The head of this block, of arrays in which key heads are counted.
__device__ __forceinline__ i64 key_head_of_block(int heads_per_key_head) { return head_of_block() / heads_per_key_head; }

// Eight channels of a token, in fp32.
__device__ __forceinline__ void read_channels(float (&x)[8], const Stored* from) {
#if DTYPE == 0
  const float4 low = *(const float4*)from, high = *(const float4*)(from + 4);
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w, x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
#else
  const uint4 of = *(const uint4*)from;
  const u32 pairs[4] = {of.x, of.y, of.z, of.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = unpacked<DTYPE>((u16)(pairs[i / 2] >> i % 2 * 16));
#endif
}

// ---------------------------------------------------------------- what is chosen

// The mean key of each whole block: means (B, G, blocks, width). A warp has every eighth key, a lane eight channels.
extern "C" __global__ void __launch_bounds__(THREADS) moba_means(const Stored* __restrict__ k, float* __restrict__ means, int keys,
                                                                 int width, int block_size) {
  __shared__ float sums[8][MOST_CHANNELS];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const Stored* const block = k + (head_of_block() * keys + (i64)blockIdx.x * block_size) * width;
  if (8 * lane < width) {
    float sum[8] = {};
    for (int key = warp; key < block_size; key += 8) {
      float x[8];
      read_channels(x, block + (i64)key * width + 8 * lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += x[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[warp][8 * lane + i] = sum[i];
  }
  __syncthreads();
  const int channel = threadIdx.x;
  if (channel >= width) return;
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += sums[i][channel];
  means[(head_of_block() * gridDim.x + blockIdx.x) * width + channel] = sum / (float)block_size;
}

// The best past blocks of a query so far, best first; of equals the earlier.
struct Best {
  float scores[64][MOST_CHOSEN];
  int blocks[64][MOST_CHOSEN];

  __device__ __forceinline__ void insert(int query, int count, int wanted, float score, int block) {
    if (count == wanted && !(score > scores[query][wanted - 1])) return;
    int place = count < wanted ? count : wanted - 1;
    for (; place > 0 && score > scores[query][place - 1]; --place) {
      scores[query][place] = scores[query][place - 1];
      blocks[query][place] = blocks[query][place - 1];
    }
    scores[query][place] = score;
    blocks[query][place] = block;
  }
};

// Past blocks that each query likes best: picks (B, H, queries, wanted), −1 behind them where there are fewer.
extern "C" __global__ void __launch_bounds__(THREADS) moba_choose(
    const Stored* __restrict__ q, const float* __restrict__ means, int* __restrict__ picks, int queries, int width, int blocks,
    int heads_per_key_head, int wanted, int offset, int block_size) {
  constexpr int QUERIES = 64, BLOCKS = 32, CHANNELS = 32;
  __shared__ float tokens[CHANNELS][QUERIES + 1], of_blocks[BLOCKS][CHANNELS], scores[QUERIES][BLOCKS + 1];
  __shared__ Best best;
  const int first = blockIdx.x * QUERIES, last_position = min(first + QUERIES, queries) - 1 + offset;
  const int past = last_position < 0 ? 0 : min(last_position / block_size, blocks);  // blocks before that of the last query
  const int query = threadIdx.x % QUERIES, block0 = threadIdx.x / QUERIES * 8;       // a thread scores 8 blocks for a query
  const int position = first + query + offset, own = position < 0 ? 0 : position / block_size;
  const Stored* const of_head = q + head_of_block() * queries * width;
  const float* const of_keys = means + key_head_of_block(heads_per_key_head) * blocks * width;
#pragma unroll 1
  for (int begin = 0; begin < past; begin += BLOCKS) {
    float sums[8] = {};
#pragma unroll 1
    for (int channel0 = 0; channel0 < width; channel0 += CHANNELS) {
      const int row = threadIdx.x / 4, part = threadIdx.x % 4 * 8;  // a thread brings 8 channels of a query
      float x[8] = {};
      if (first + row < queries && channel0 + part < width) read_channels(x, of_head + (i64)(first + row) * width + channel0 + part);
      __syncthreads();  // nobody needs what was there any more
#pragma unroll
      for (int i = 0; i < 8; ++i) tokens[part + i][row] = x[i];
      for (int i = threadIdx.x; i < BLOCKS * CHANNELS; i += THREADS) {
        const int block = i / CHANNELS, channel = channel0 + i % CHANNELS;
        of_blocks[block][i % CHANNELS] = begin + block < past && channel < width ? of_keys[(i64)(begin + block) * width + channel] : 0.f;
      }
      __syncthreads();
#pragma unroll 4
      for (int channel = 0; channel < CHANNELS; ++channel) {
        const float of_token = tokens[channel][query];
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[i] = fmaf(of_token, of_blocks[block0 + i][channel], sums[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) scores[query][block0 + i] = sums[i];
    __syncthreads();
    if (threadIdx.x < QUERIES)
      for (int i = 0; i < BLOCKS && begin + i < min(own, past); ++i)
        best.insert(query, min(begin + i, wanted), wanted, scores[query][i], begin + i);
  }
  if (threadIdx.x >= QUERIES || first + query >= queries) return;
  int* const mine = picks + (head_of_block() * queries + first + query) * wanted;
  for (int i = 0; i < wanted; ++i) mine[i] = i < min(own, past) ? best.blocks[query][i] : -1;
}

// ---------------------------------------------------------------- rows that chose the same block, side by side

// Whether choice number `i` of a head is this block of threads' block of keys; choices of one query lie side by side.
__device__ __forceinline__ bool chooses(const int* of_head, i64 i, i64 end) { return i < end && of_head[i] == (int)blockIdx.x; }
// The first choice of a query that stands behind the block of keys.
__device__ __forceinline__ i64 first_choice(int offset, int block_size, int wanted) {
  const i64 query = ((i64)blockIdx.x + 1) * block_size - offset;
  return query > 0 ? query * wanted : 0;
}

// Inclusive sum over the threads of the block up to this one, and over all of them. Up to 2^24.
struct Summed {
  float until, all;
  __device__ __forceinline__ Summed(float x, float* of_warps) : until(x) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const float before = __shfl_up_sync(~0u, until, distance);
      if (lane >= distance) until += before;
    }
    __syncthreads();  // nobody needs the sums before any more
    if (lane == 31) of_warps[warp] = until;
    __syncthreads();
    all = 0.f;
#pragma unroll
    for (int i = 0; i < THREADS / 32; ++i) {
      if (i < warp) until += of_warps[i];
      all += of_warps[i];
    }
  }
};

// How many rows chose each block: counts (B, H, blocks).
extern "C" __global__ void __launch_bounds__(THREADS) moba_count(const int* __restrict__ picks, int* __restrict__ counts, int queries,
                                                                 int wanted, int offset, int block_size) {
  __shared__ float of_warps[THREADS / 32];
  const i64 end = (i64)queries * wanted;
  const int* const of_head = picks + head_of_block() * end;
  int found = 0;
  for (i64 i = first_choice(offset, block_size, wanted) + threadIdx.x; i < end; i += THREADS) found += chooses(of_head, i, end);
  const Summed sum((float)found, of_warps);
  if (threadIdx.x == 0) counts[head_of_block() * gridDim.x + blockIdx.x] = (int)sum.all;
}

// Rows of each block in groups of GROUP that only it has: rows (B, H, groups · GROUP), which is slot · queries + query, −1 in the rest of a
// group; of_groups (B, H, groups), the block of each group, −1 behind the last.
extern "C" __global__ void __launch_bounds__(THREADS) moba_place(const int* __restrict__ picks, const int* __restrict__ counts,
                                                                 int* __restrict__ rows, int* __restrict__ of_groups, int queries,
                                                                 int wanted, int offset, int block_size, int groups) {
  __shared__ float of_warps[THREADS / 32];
  const int block = blockIdx.x;
  const int* const of_blocks = counts + head_of_block() * gridDim.x;
  int before = 0;
  for (int i = threadIdx.x; i < block; i += THREADS) before += (of_blocks[i] + GROUP - 1) / GROUP;
  const int first_group = (int)Summed((float)before, of_warps).all, own_groups = (of_blocks[block] + GROUP - 1) / GROUP;
  int* const to = rows + (head_of_block() * groups + first_group) * GROUP;

  const i64 end = (i64)queries * wanted;
  const int* const of_head = picks + head_of_block() * end;
  int placed = 0;
#pragma unroll 1
  for (i64 begin = first_choice(offset, block_size, wanted); begin < end; begin += THREADS) {
    const i64 i = begin + threadIdx.x;
    const bool chosen = chooses(of_head, i, end);
    const Summed sum(chosen ? 1.f : 0.f, of_warps);
    if (chosen) to[placed + (int)sum.until - 1] = (int)(i % wanted) * queries + (int)(i / wanted);
    placed += (int)sum.all;
  }
  for (int i = placed + threadIdx.x; i < own_groups * GROUP; i += THREADS) to[i] = -1;
  int* const groups_of_head = of_groups + head_of_block() * groups;
  for (int i = threadIdx.x; i < own_groups; i += THREADS) groups_of_head[first_group + i] = block;
  if (block == (int)gridDim.x - 1)
    for (int i = first_group + own_groups + threadIdx.x; i < groups; i += THREADS) groups_of_head[i] = -1;
}

// ---------------------------------------------------------------- what own block and choices found, together

__device__ __forceinline__ float read(const Stored* from) {
#if DTYPE == 0
  return *from;
#else
  return unpacked<DTYPE>(*from);
#endif
}

// out (B, H, queries, width) and its log-sum-exps lse: of own blocks before, of all after. parts (B, H, wanted, queries, width), logs the same.
// A warp a query.
extern "C" __global__ void __launch_bounds__(THREADS) moba_merge(
    Stored* __restrict__ out, const float* __restrict__ lse, const Stored* __restrict__ parts, const float* __restrict__ logs,
    int queries, int width, int wanted, int offset, int block_size) {
  const int lane = threadIdx.x & 31, query = blockIdx.x * 8 + (threadIdx.x >> 5), position = query + offset;
  if (query >= queries || position < block_size) return;
  const int chosen = min(position / block_size, wanted);
  const i64 row = head_of_block() * queries + query, first = head_of_block() * wanted * queries + query;
  float top = lse[row], total = 0.f;
  for (int i = 0; i < chosen; ++i) top = fmaxf(top, logs[first + (i64)i * queries]);
  constexpr float LOG2_E = 1.4426950408889634f;
  const float own = exp2_fast((lse[row] - top) * LOG2_E);
  total = own;
  for (int i = 0; i < chosen; ++i) total += exp2_fast((logs[first + (i64)i * queries] - top) * LOG2_E);
  for (int column = 2 * lane; column < width; column += 64) {
    Stored* const pair = out + row * width + column;
    float x = own * read(pair), y = own * read(pair + 1);
    for (int i = 0; i < chosen; ++i) {
      const i64 at = first + (i64)i * queries;
      const float weight = exp2_fast((logs[at] - top) * LOG2_E);
      x = fmaf(weight, read(parts + at * width + column), x);
      y = fmaf(weight, read(parts + at * width + column + 1), y);
    }
#if DTYPE == 0
    pair[0] = x / total, pair[1] = y / total;
#else
    *(u32*)pair = pack<DTYPE>(x / total, y / total);
#endif
  }
}
#else
#if HOPPER
#include "softmax_hopper.cuh"
#else
#include "softmax_tiles.cuh"
#endif

#if GATHERS
// Rows are queries that chose the same block, in groups of 128: see `moba_place`. Their results lie in slots, one a choice of a query: a
// head has `wanted` times as many results as queries, by which its first result is counted, and `further` is how far that is from it.
struct Visible {
  int queries, count, further, first_key, end_key;  // keys of this block of threads' block
  const int* row_of;
  static constexpr int sinks = 0;
  static constexpr bool MAPPED = true;
  __device__ __forceinline__ int rows() const { return count; }
  __device__ __forceinline__ int choice(int row) const { return load_index(row_of + row); }
  __device__ __forceinline__ int from(int row) const { return max(choice(row), 0) % queries; }
  __device__ __forceinline__ int to(int row) const {
    const int chosen = choice(row);
    return chosen < 0 ? -1 : further + chosen;
  }
  __device__ __forceinline__ int low(int) const { return first_key; }
  __device__ __forceinline__ int high(int) const { return end_key; }
};

extern "C" __global__ void __launch_bounds__(THREADS) moba_chosen(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int heads_per_key_head, float scale_log2, const int* __restrict__ row_of,
    const int* __restrict__ block_of, int block_size, int groups, int wanted) {
  static_assert(128 % BLOCK_Q == 0, "a block of rows lies in one group");
  const int head = blockIdx.z * gridDim.y + blockIdx.y, first_row = (gridDim.x - 1 - blockIdx.x) * BLOCK_Q;
  const int block = load_index(block_of + (i64)head * groups + first_row / 128);
  if (block < 0) return;
  const Shape shape = {queries, keys, heads_per_key_head, 1, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, nullptr}, shape,
                     Visible{queries, groups * 128, head * (wanted - 1) * queries, block * block_size, (block + 1) * block_size,
                             row_of + (i64)head * groups * 128});
}
#else
struct Visible {
  int offset, keys, block_size;
  static constexpr int sinks = 0;
  __device__ __forceinline__ int low(int row) const { return max(0, row + offset) / block_size * block_size; }
  __device__ __forceinline__ int high(int row) const { return row + offset < 0 ? 0 : min(row + offset + 1, keys); }
};

#if HOPPER
extern "C" __global__ void __launch_bounds__(THREADS, 1) moba_on_hopper(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, u16* __restrict__ out,
    float* __restrict__ lse, int queries, int keys, int width, int heads, int heads_per_key_head, int heads_together, int short_blocks, float scale_log2,
    int block_size) {
  const Call call = {queries, keys, width, heads, heads_per_key_head, heads_together, short_blocks, scale_log2};
  softmax_on_hopper(q, k, v, out, lse, call, Visible{keys - queries, keys, block_size});
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) moba(
    const Stored* __restrict__ q, const Stored* __restrict__ k, const Stored* __restrict__ v, Stored* __restrict__ out,
    float* __restrict__ lse, float* __restrict__ parts, int queries, int keys, int heads_per_key_head, int splits, float scale_log2,
    int block_size) {
  const Shape shape = {queries, keys, heads_per_key_head, splits, scale_log2};
  softmax_over_tiles({q, k, v, out, lse, parts}, shape, Visible{keys - queries, keys, block_size});
}
#endif
#endif
#endif
