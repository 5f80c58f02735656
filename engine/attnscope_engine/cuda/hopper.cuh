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

// A number that is the same in all lanes: tells the compiler so.
__device__ __forceinline__ int uniform(int x) { return __shfl_sync(~0u, x, 0); }
