// One block of CUDA threads on one core of a CPU: a fiber a thread, in an order drawn from a seed, so that a missing barrier shows
// as a wrong number or as a deadlock that is told. What the kernels' own text needs of CUDA C++, without a single instruction.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;
using std::max;
using std::min;

struct uint4 { u32 x, y, z, w; };
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
struct alignas(8) float2 { float x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
struct alignas(16) float4 { float x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int load_index(const int* from) { return *from; }
inline float load_number(const float* from) { return *from; }
inline float2 load_numbers(const float* from) { return {from[0], from[1]}; }
struct Index { unsigned x, y, z; };

inline float float_of(u32 bits) { float f; memcpy(&f, &bits, 4); return f; }
inline u32 bits_of(float f) { u32 u; memcpy(&u, &f, 4); return u; }
inline float __int_as_float(u32 bits) { return float_of(bits); }
inline u32 __float_as_uint(float f) { return bits_of(f); }
inline float __uint_as_float(u32 bits) { return float_of(bits); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }

// A fault ends the run with a sentence, never the process: tests read it.
struct Fault { std::string text; };
static std::string fault_text;

struct Fiber {
  ucontext_t start;
  jmp_buf here;
  char* stack;
  bool begun, done;
};
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current, threads_of_block;
static Index blockIdx, gridDim;
static bool failed;
static u64 progress;  // grows whenever a thread got past something that it may have to wait for
static std::mt19937 dice;

struct ThreadIndex {
  struct { operator unsigned() const { return current; } } x;
};
static ThreadIndex threadIdx;

inline void yield() {
  if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}
inline void fail(const std::string& text) {
  if (!failed) fault_text = "thread " + std::to_string(current) + " of block " + std::to_string(blockIdx.x) + ": " + text;
  failed = true;
  for (;;) yield();
}
template <class Ready>
inline void wait_until(Ready ready) {
  while (!ready()) yield();
  ++progress;
}

// ---- shared memory: NaN in both 16-bit types until written. Addresses begin at 1024, so that 0 is an error.
constexpr u32 SHARED_BYTES = 232448, SHARED_START = 1024;
alignas(1024) static unsigned char shared_bytes[SHARED_BYTES];
#define SHARED_MEMORY(name) unsigned char* const name = shared_bytes
inline u32 shared_address(const void* pointer) { return SHARED_START + (u32)((const unsigned char*)pointer - shared_bytes); }
inline unsigned char* shared_at(u32 address) {
  if (address < SHARED_START || address >= SHARED_START + SHARED_BYTES) fail("no shared memory at " + std::to_string(address));
  return shared_bytes + (address - SHARED_START);
}

// ---- what 32 or 128 threads do together: the last to come does it for all.
struct Meeting {
  int arrived = 0;
  u64 round = 0, in[128], out[128];
};
static std::map<int, Meeting> meetings;
template <class All>
inline u64 meet(int key, int place, int size, u64 in, All all) {
  Meeting& meeting = meetings[key];
  meeting.in[place] = in;
  const u64 round = meeting.round;
  if (++meeting.arrived == size) {
    all(meeting);
    meeting.arrived = 0;
    ++meeting.round;
    ++progress;
  } else {
    wait_until([&] { return meeting.round != round; });
  }
  return meeting.out[place];
}
template <class All>
inline u64 with_warp(u64 in, All all) { return meet(current >> 5, current & 31, 32, in, all); }

inline void __syncwarp() { with_warp(0, [](Meeting&) {}); }
template <class Source>
inline u32 shuffle(u32 value, Source source) {
  return (u32)with_warp(value, [&](Meeting& m) { for (int l = 0; l < 32; ++l) m.out[l] = m.in[source(l)]; });
}
inline u32 __shfl_xor_sync(unsigned, u32 value, int distance) { return shuffle(value, [=](int lane) { return lane ^ distance; }); }
inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
  return float_of(__shfl_xor_sync(mask, bits_of(value), distance));
}
// Each lane names the lane that it reads; one outside the warp gives the lane its own value back.
inline u32 shuffle_each(u32 value, int from) {
  return (u32)with_warp(value | (u64)(u32)from << 32, [](Meeting& m) {
    for (int l = 0; l < 32; ++l) {
      const int source = (int)(m.in[l] >> 32);
      m.out[l] = (u32)m.in[source >= 0 && source < 32 ? source : l];
    }
  });
}
inline int __shfl_sync(unsigned, int value, int from) { return (int)shuffle_each((u32)value, from); }
inline float __shfl_sync(unsigned, float value, int from) { return float_of(shuffle_each(bits_of(value), from)); }
inline float __shfl_up_sync(unsigned, float value, int distance) {
  return float_of(shuffle_each(bits_of(value), (current & 31) - distance));
}
inline float __shfl_down_sync(unsigned, float value, int distance) {
  return float_of(shuffle_each(bits_of(value), (current & 31) + distance));
}
inline bool __any_sync(unsigned, bool value) {
  return with_warp(value, [](Meeting& m) {
    u64 any = 0;
    for (int l = 0; l < 32; ++l) any |= m.in[l];
    for (int l = 0; l < 32; ++l) m.out[l] = any;
  });
}
inline int uniform(int value) {
  return (int)with_warp((u32)value, [](Meeting& m) {
    for (int l = 0; l < 32; ++l) {
      if (m.in[l] != m.in[0]) fail("a number that must be the same in all lanes is not");
      m.out[l] = m.in[l];
    }
  });
}

struct NamedBarrier {
  int arrived = 0;
  u64 round = 0;
};
static std::map<int, NamedBarrier> named;
inline u64 named_arrive(int id, int threads) {
  NamedBarrier& barrier = named[id];
  const u64 round = barrier.round;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.round;
    ++progress;
  }
  return round;
}
inline void named_sync(int id, int threads) {
  const u64 round = named_arrive(id, threads);
  wait_until([&] { return named[id].round != round; });
}
inline void __syncthreads() { named_sync(0, threads_of_block); }
inline int atomicAdd(int* at, int value) { const int old = *at; *at += value; return old; }

// ---- numbers
inline float exp2_fast(float x) { return exp2f(x); }
inline float log2_fast(float x) { return log2f(x); }
// As far off as the instruction may be, to either side.
inline float tanh_fast(float x) { return tanhf(x) * (1.f + (bits_of(x) * 2654435761u >> 31 ? 1 : -1) * ldexpf(1, -11)); }
inline float reciprocal(float x) { return 1.f / x; }
enum Dtype { FP32 = 0, BF16 = 1, FP16 = 2 };
template <int DTYPE_>
inline u16 rounded_bits(float x) {
  if (DTYPE_ == FP16) {
    const _Float16 half = (_Float16)x;
    u16 bits;
    memcpy(&bits, &half, 2);
    return bits;
  }
  const u32 bits = bits_of(x);
  return x != x ? 0x7fff : (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <int DTYPE_>
inline float unpacked(u16 bits) {
  if (DTYPE_ == BF16) return float_of((u32)bits << 16);
  _Float16 half;
  memcpy(&half, &bits, 2);
  return (float)half;
}
template <int DTYPE_>
inline u32 pack(float low, float high) { return rounded_bits<DTYPE_>(low) | (u32)rounded_bits<DTYPE_>(high) << 16; }
#define NEG_INF float_of(0xff800000)

// ---- matrices of a warp, in shared memory and in registers
inline u16& element_of_row(u32 address, int column) {
  if (address % 16) fail("a row of a matrix is not aligned");
  return ((u16*)shared_at(address))[column];
}
template <class Each>  // each(lane, matrix, row, column, place in the lane's register)
inline void each_element(Each each) {
  for (int matrix = 0; matrix < 4; ++matrix)
    for (int lane = 0; lane < 32; ++lane)
      for (int half = 0; half < 2; ++half) each(lane, matrix, lane / 4, lane % 4 * 2 + half, half);
}
struct Matrices {
  u32 address[32], registers[32][4];
};
static std::map<int, Matrices> matrices;
template <class All>
inline void with_matrices(u32 address, u32 (&r)[4], All all) {
  Matrices& mine = matrices[current >> 5];
  mine.address[current & 31] = address;
  memcpy(mine.registers[current & 31], r, sizeof r);
  with_warp(0, [&](Meeting&) { all(mine); });
  memcpy(r, mine.registers[current & 31], sizeof r);
  with_warp(0, [](Meeting&) {});
}
template <bool LOADS, bool TRANSPOSED>
inline void move_matrices(u32 (&r)[4], u32 address) {
  with_matrices(address, r, [](Matrices& m) {
    each_element([&](int lane, int matrix, int row, int column, int half) {
      if (TRANSPOSED) std::swap(row, column);
      u16& in_memory = element_of_row(m.address[8 * matrix + row], column);
      u16& in_register = ((u16*)&m.registers[lane][matrix])[half];
      if (LOADS)
        in_register = in_memory;
      else
        in_memory = in_register;
    });
  });
}
inline void load_matrices(u32 (&r)[4], u32 address) { move_matrices<true, false>(r, address); }
inline void load_matrices_transposed(u32 (&r)[4], u32 address) { move_matrices<true, true>(r, address); }

template <int DTYPE_>
inline void mma_16bit(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  struct Operands {
    u32 a[32][4], b[32][2];
    float sums[32][4];
  };
  static std::map<int, Operands> of_warps;
  Operands& mine = of_warps[current >> 5];
  memcpy(mine.a[current & 31], a, sizeof a);
  mine.b[current & 31][0] = b0;
  mine.b[current & 31][1] = b1;
  const auto half = [](u32 word, int k) { return unpacked<DTYPE_>((u16)(word >> k % 2 * 16)); };
  with_warp(0, [&](Meeting&) {
    for (int lane = 0; lane < 32; ++lane)
      for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        float sum = 0;
        for (int k = 0; k < 16; ++k)
          sum += half(mine.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k) * half(mine.b[column * 4 + k % 8 / 2][k / 8], k);
        mine.sums[lane][e] = sum;
      }
  });
  for (int e = 0; e < 4; ++e) c[e] += mine.sums[current & 31][e];
  with_warp(0, [](Meeting&) {});
}

// ---- the scheduler: rounds over all warps in an order of its own; `background` moves what runs beside the threads, and says whether
// something is still on its way.
static std::function<void()> kernel_of_thread;
inline void fiber_main() {
  kernel_of_thread();
  fibers[current].done = true;
  ++progress;
  _longjmp(scheduler, 1);
}
template <class Background>
inline bool run_block(Index block, int threads, unsigned seed, std::function<void()> kernel, Background background) {
  constexpr int STACK = 256 * 1024;
  blockIdx = block;
  threads_of_block = threads;
  kernel_of_thread = kernel;
  dice.seed(seed);
  failed = false;
  meetings.clear();
  named.clear();
  for (u32 i = 0; i < SHARED_BYTES; ++i) shared_bytes[i] = i & 1 ? 0x7f : 0xff;
  while ((int)fibers.size() < threads) {
    fibers.push_back({});
    fibers.back().stack = (char*)malloc(STACK);
  }
  for (int i = 0; i < threads; ++i) fibers[i].begun = fibers[i].done = false;
  std::vector<int> order(threads / 32);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (int left = threads; left > 0 && !failed;) {
    const u64 before = progress;
    std::shuffle(order.begin(), order.end(), dice);
    for (int warp : order)
      for (int lane = 0; lane < 32; ++lane) {
        Fiber& fiber = fibers[current = 32 * warp + lane];
        if (fiber.done) continue;
        if (!_setjmp(scheduler)) {
          if (fiber.begun) _longjmp(fiber.here, 1);
          fiber.begun = true;
          getcontext(&fiber.start);
          fiber.start.uc_stack.ss_sp = fiber.stack;
          fiber.start.uc_stack.ss_size = STACK;
          makecontext(&fiber.start, fiber_main, 0);
          setcontext(&fiber.start);
        }
        if (fibers[current].done) --left;
      }
    if (!background() && progress == before) {
      fault_text = "deadlock: " + std::to_string(left) + " threads of block " + std::to_string(block.x) + " wait for ever";
      failed = true;
    }
  }
  return !failed;
}
