// Every instruction that only Hopper has, one small function each, and nothing else: the kernels run on a CPU in the tests by
// putting another file in this one's place. The products themselves are in `wgmma.cuh`, whose text `wgmma.py` writes.
#include "ptx.cuh"

// Where a tensor lies and how its tiles are cut: made by the driver, passed by value.
struct alignas(64) TensorMap {
  u64 opaque[16];
};

#define SWIZZLED_MEMORY(name) extern __shared__ __align__(1024) unsigned char name[]

// ---- barriers in shared memory: `count` arrivals and all announced bytes end a phase; waiting for a parity means waiting until
// the phase with that parity is over, so a fresh barrier lets the parity 1 through.
__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}
__device__ __forceinline__ void barriers_are_made() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrier_expect(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nTRY_%=:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra OVER_%=;\nbra TRY_%=;\n"
      "OVER_%=:\n}" ::"r"(barrier), "r"(parity) : "memory");
}

// ---- the hardware's sixteen barriers between groups of `threads` threads.
__device__ __forceinline__ void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- the copy engine: one box of the map, from element (column, row, matrix) on; zeros outside the tensor.
__device__ __forceinline__ void copy_box(u32 destination, const TensorMap& map, u32 barrier, int column, int row, int matrix) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
                   destination), "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(matrix) : "memory");
}

// The same back: what lies outside the tensor is left out. Written by ordinary stores, a box must be made seen by the copy engine (and
// by products) first, by each thread that wrote, before they meet.
__device__ __forceinline__ void make_seen() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void store_box(const TensorMap& map, u32 source, int column, int row, int matrix) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map), "r"(source), "r"(column),
               "r"(row), "r"(matrix) : "memory");
}
__device__ __forceinline__ void stores_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int LEFT>  // groups of this thread whose source may still be read
__device__ __forceinline__ void stores_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(LEFT) : "memory");
}
__device__ __forceinline__ void stores_wait_all() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// Four 8×8 matrices of 16-bit elements, as `load_matrices` has them, to shared memory.
__device__ __forceinline__ void store_matrices(u32 address, u32 r0, u32 r1, u32 r2, u32 r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}
__device__ __forceinline__ void store_matrices_transposed(u32 address, u32 r0, u32 r1, u32 r2, u32 r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}

// ---- products in the background, of a warpgroup.
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT>  // groups that may still run
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
// Low word of an operand's descriptor, in units of 16 bytes; `stride`: from one panel of 64 columns to the next, where that matters.
__device__ __forceinline__ u32 operand(u32 address, u32 stride) { return (address & 0x3ffffu) >> 4 | (stride >> 4) << 16; }

// ---- registers of a thread, moved from one warpgroup to another.
template <int REGISTERS>
__device__ __forceinline__ void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// ---- two 16-bit numbers at once; NaN stays NaN.
#define OF_PAIRS(name, instruction)                                             \
  template <int DTYPE_>                                                         \
  __device__ __forceinline__ u32 name(u32 a, u32 b) {                           \
    u32 c;                                                                      \
    if constexpr (DTYPE_ == BF16)                                               \
      asm(instruction ".bf16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));        \
    else                                                                        \
      asm(instruction ".f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));         \
    return c;                                                                   \
  }
OF_PAIRS(sum_of_pairs, "add.rn")
OF_PAIRS(lower_of_pairs, "min.NaN")
OF_PAIRS(upper_of_pairs, "max.NaN")

// A number that is the same in all lanes: tells the compiler so.
__device__ __forceinline__ int uniform(int x) { return __shfl_sync(~0u, x, 0); }
// Products of two bf16 numbers each, the low ones and the high ones.
__device__ __forceinline__ u32 product_of_pairs(u32 a, u32 b) {
  u32 y;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
// The same number; but what is computed from it is computed where it is used, not kept in registers over a loop.
__device__ __forceinline__ int again(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
