// Stands in for `cuda/ptx.cuh`, so that a kernel's own text runs on a CPU: each thread of a block is a fiber, warps take turns in
// random order, and what a warp does together (matrices, shuffles, votes) happens when its 32nd lane arrives.
// Hard on the kernel where a GPU may be kind: shared memory starts as NaN, and each copy to it lands at random at once or only when
// its thread waits. Not modelled: speed, banks, and the truncation of sums in tensor cores.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__
#define __align__(n) alignas(n)
#define HAS_TF32 1
using std::max;
using std::min;

enum Dtype { FP32 = 0, BF16 = 1, FP16 = 2 };

struct float2 { float x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
struct alignas(16) float4 { float x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
#define __shared__ static  // blocks run one after the other
inline u32 __float_as_uint(float x) { u32 bits; memcpy(&bits, &x, 4); return bits; }
inline float __uint_as_float(u32 bits) { float x; memcpy(&x, &bits, 4); return x; }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int load_index(const int* from) { return *from; }
inline float load_number(const float* from) { return *from; }
inline float2 load_numbers(const float* from) { return {from[0], from[1]}; }
#define NEG_INF __uint_as_float(0xff800000u)

// ---- fibers

constexpr int SHARED_BYTES = 163 * 1024, STACK_BYTES = 256 * 1024;
struct Index { u32 x, y, z; };
struct Copy { u32 to; const void* from; bool wanted; };
struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  std::vector<Copy> copies;
  Index thread;
  bool ended;
};
struct Warp {  // what the lanes bring to a collective operation, and what they take from it
  u32 in[32][8], out[32][4];
  int arrived = 0;
  i64 done = 0;
};

alignas(128) static unsigned char shared_memory[SHARED_BYTES];
#define SHARED_MEMORY(name) unsigned char* const name = shared_memory
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static ucontext_t scheduler;
static int running, block_arrived;
static i64 block_done, progress;
static std::function<void()> kernel_call;
static Index blockIdx, gridDim;
#define threadIdx (fibers[running].thread)

inline void fail(const char* why) {
  fprintf(stderr, "emulator: %s\n", why);
  abort();
}
inline void rest() {
  Fiber& fiber = fibers[running];
  swapcontext(&fiber.context, &scheduler);
}
inline void enter() {
  kernel_call();
  fibers[running].ended = true;
  ++progress;
  rest();
}

template <int IN, int OUT, class Work>
inline void together(const u32 (&in)[IN], u32 (&out)[OUT], const Work& work) {
  Warp& warp = warps[running / 32];
  const int lane = running % 32;
  memcpy(warp.in[lane], in, sizeof in);
  const i64 turn = warp.done;
  if (++warp.arrived == 32) {
    work(warp);
    warp.arrived = 0;
    ++warp.done;
    ++progress;
  } else {
    while (warp.done == turn) rest();
  }
  memcpy(out, warp.out[lane], sizeof out);
}

inline void __syncthreads() {
  const i64 turn = block_done;
  if (++block_arrived == (int)fibers.size()) {
    block_arrived = 0;
    ++block_done;
    ++progress;
  } else {
    while (block_done == turn) rest();
  }
}

inline void run_block(int threads, u32 seed) {
  srand(seed);
  fibers.resize(threads);
  warps.assign(threads / 32, Warp());
  block_arrived = 0;
  memset(shared_memory, 0xff, sizeof shared_memory);
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.stack.resize(STACK_BYTES);
    fiber.copies.clear();
    fiber.thread = {(u32)i, 0, 0};
    fiber.ended = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  int left = threads, idle = 0;
  while (left) {
    const i64 before = progress;
    const int warp = rand() % (threads / 32), turns = 1 + rand() % 64;
    for (int turn = 0; turn < turns; ++turn)
      for (int i = 32 * warp; i < 32 * warp + 32; ++i) {
        if (fibers[i].ended) continue;
        running = i;
        swapcontext(&scheduler, &fibers[i].context);
        left -= fibers[i].ended;
      }
    idle = progress == before ? idle + 1 : 0;
    if (idle > 2000) fail("threads wait for each other for ever");
  }
}

// ---- what ptx.cuh has

inline u32 shared_address(const void* pointer) { return (u32)((const unsigned char*)pointer - shared_memory); }
inline unsigned char* shared_bytes(u32 address, int size) {
  if (address + size > SHARED_BYTES || address % size) fail("a bad address in shared memory");
  return shared_memory + address;
}

inline void load_matrices(u32 (&r)[4], u32 address) {
  const u32 in[1] = {address};
  together(in, r, [](Warp& w) {
    for (int lane = 0; lane < 32; ++lane)
      for (int m = 0; m < 4; ++m) memcpy(&w.out[lane][m], shared_bytes(w.in[8 * m + lane / 4][0], 16) + lane % 4 * 4, 4);
  });
}
inline void load_matrices_transposed(u32 (&r)[4], u32 address) {
  const u32 in[1] = {address};
  together(in, r, [](Warp& w) {
    for (int lane = 0; lane < 32; ++lane)
      for (int m = 0; m < 4; ++m) {
        u16 pair[2];
        for (int e = 0; e < 2; ++e) memcpy(&pair[e], shared_bytes(w.in[8 * m + lane % 4 * 2 + e][0], 16) + lane / 4 * 2, 2);
        w.out[lane][m] = pair[0] | (u32)pair[1] << 16;
      }
  });
}

inline float from_fp16(u16 bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                    : exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24);
  return bits >> 15 ? -size : size;
}
inline u16 to_fp16(float x) {
  const u16 sign = __float_as_uint(x) >> 16 & 0x8000;
  const float size = fabsf(x);
  if (size != size) return 0x7fff;
  if (size >= 65520.f) return sign | 0x7c00;
  if (size < ldexpf(1, -14)) return sign | (u16)lrintf(ldexpf(size, 24));
  const u32 bits = __float_as_uint(size);
  return sign | (u16)((bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13);
}
inline u16 to_bf16(float x) {
  const u32 bits = __float_as_uint(x);
  return x != x ? 0x7fff : (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <int DTYPE_>
inline float unpacked(u16 bits) { return DTYPE_ == BF16 ? __uint_as_float((u32)bits << 16) : from_fp16(bits); }
template <int DTYPE_>
inline u32 pack(float low, float high) {
  return DTYPE_ == BF16 ? to_bf16(low) | (u32)to_bf16(high) << 16 : to_fp16(low) | (u32)to_fp16(high) << 16;
}

// c (16×8) += a (16×K) · b (K×8), whose elements are given as functions of row and k, k and column.
template <int K, class Left, class Right>
inline void multiply_matrices(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, const Left& left, const Right& right) {
  const u32 in[6] = {a[0], a[1], a[2], a[3], b0, b1};
  u32 sums[4];
  together(in, sums, [&](Warp& w) {
    float x[16][K], y[8][K];
    for (int k = 0; k < K; ++k) {
      for (int row = 0; row < 16; ++row) x[row][k] = left(w, row, k);
      for (int column = 0; column < 8; ++column) y[column][k] = right(w, k, column);
    }
    for (int lane = 0; lane < 32; ++lane)
      for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        float sum = 0.f;
        for (int k = 0; k < K; ++k) sum += x[row][k] * y[column][k];
        w.out[lane][e] = __float_as_uint(sum);
      }
  });
  for (int e = 0; e < 4; ++e) c[e] += __uint_as_float(sums[e]);
}
template <int DTYPE_>
inline void mma_16bit(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  const auto half = [](u32 bits, int k) { return unpacked<DTYPE_>((u16)(k % 2 ? bits >> 16 : bits)); };
  multiply_matrices<16>(c, a, b0, b1,
      [&](Warp& w, int row, int k) { return half(w.in[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k); },
      [&](Warp& w, int k, int column) { return half(w.in[column * 4 + k % 8 / 2][4 + k / 8], k); });
}
inline void mma_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  const auto tf32 = [](u32 bits) { return __uint_as_float(bits & 0xffffe000u); };
  multiply_matrices<8>(c, a, b0, b1,
      [&](Warp& w, int row, int k) { return tf32(w.in[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]); },
      [&](Warp& w, int k, int column) { return tf32(w.in[column * 4 + k % 4][4 + k / 4]); });
}

inline float __shfl_xor_sync(u32, float x, int distance) {
  const u32 in[1] = {__float_as_uint(x)};
  u32 out[1];
  together(in, out, [&](Warp& w) { for (int lane = 0; lane < 32; ++lane) w.out[lane][0] = w.in[lane ^ distance][0]; });
  return __uint_as_float(out[0]);
}
inline float __shfl_sync(u32, float x, int from) {
  const u32 in[2] = {__float_as_uint(x), (u32)from};
  u32 out[1];
  together(in, out, [](Warp& w) { for (int lane = 0; lane < 32; ++lane) w.out[lane][0] = w.in[w.in[lane][1] % 32][0]; });
  return __uint_as_float(out[0]);
}
inline float __shfl_up_sync(u32 mask, float x, int distance) {
  const int lane = running % 32;
  return __shfl_sync(mask, x, lane < distance ? lane : lane - distance);
}
inline bool __all_sync(u32, bool x) {
  const u32 in[1] = {x};
  u32 out[1];
  together(in, out, [](Warp& w) {
    u32 all = 1;
    for (int lane = 0; lane < 32; ++lane) all &= w.in[lane][0];
    for (int lane = 0; lane < 32; ++lane) w.out[lane][0] = all;
  });
  return out[0];
}

inline float exp2_fast(float x) { return exp2f(x); }
inline float log2_fast(float x) { return log2f(x); }
inline float reciprocal(float x) { return 1.f / x; }
// As far off as the instruction may be, to either side.
inline float tanh_fast(float x) { return tanhf(x) * (1.f + (__float_as_uint(x) * 2654435761u >> 31 ? 1 : -1) * ldexpf(1, -11)); }

inline void land(const Copy& copy) {
  if (copy.wanted)
    memcpy(shared_bytes(copy.to, 16), copy.from, 16);
  else
    memset(shared_bytes(copy.to, 16), 0, 16);
}
inline void copy_16(u32 destination, const void* source, bool wanted) {
  const Copy copy = {destination, source, wanted};
  if (rand() % 2)
    land(copy);
  else
    fibers[running].copies.push_back(copy);
}
inline void wait_for_copies() {
  for (const Copy& copy : fibers[running].copies) land(copy);
  fibers[running].copies.clear();
}
