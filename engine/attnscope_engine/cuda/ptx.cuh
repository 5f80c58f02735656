// Every instruction that CUDA C++ has no word for, one small function each, and nothing else: the kernels run on a CPU in the
// tests by putting another file in this one's place. Needs no header.
typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

enum Dtype { FP32 = 0, BF16 = 1, FP16 = 2 };

#define NEG_INF __int_as_float(0xff800000)
#define SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]

__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// A number of a table that nobody writes to: read where it is needed, not before, and so not kept in a register.
__device__ __forceinline__ int load_index(const int* from) {
  int index;
  asm volatile("ld.global.nc.s32 %0, [%1];" : "=r"(index) : "l"(from));
  return index;
}
__device__ __forceinline__ float load_number(const float* from) {
  float number;
  asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(number) : "l"(from));
  return number;
}
// Two that lie next to each other, the first at an even place.
__device__ __forceinline__ float2 load_numbers(const float* from) {
  float2 numbers;
  asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];" : "=f"(numbers.x), "=f"(numbers.y) : "l"(from));
  return numbers;
}

// Four 8×8 matrices of 16-bit elements (or 8×4 of 32-bit ones): lane 8m+r gives the address of row r of matrix m.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// c (16×8) += a (16×16) · b (16×8), 16-bit operands, fp32 accumulation.
template <int DTYPE_>
__device__ __forceinline__ void mma_16bit(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
  if constexpr (DTYPE_ == BF16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  static_assert(DTYPE_ == FP16, "tensor cores before sm_80 multiply fp16 only");
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

// c (16×8) += a (16×8) · b (8×8), TF32 operands: the unit ignores the low 13 bits of each.
#if __CUDA_ARCH__ >= 800
#define HAS_TF32 1
__device__ __forceinline__ void mma_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
#define HAS_TF32 0
#endif

// Two floats rounded to nearest, `low` in the low half.
template <int DTYPE_>
__device__ __forceinline__ u32 pack(float low, float high) {
  u32 packed;
#if __CUDA_ARCH__ >= 800
  if constexpr (DTYPE_ == BF16)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
#else
  asm("{.reg .f16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}" : "=r"(packed) : "f"(low), "f"(high));
#endif
  return packed;
}
template <int DTYPE_>
__device__ __forceinline__ float unpacked(u16 bits) {
  if constexpr (DTYPE_ == BF16) return __uint_as_float((u32)bits << 16);
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1/x to the last bit but one.
__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 16 bytes from device to shared memory, in the background where the card can; zeros where `wanted` is false.
__device__ __forceinline__ void copy_16(u32 destination, const void* source, bool wanted) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(destination), "l"(source), "r"(wanted ? 16 : 0) : "memory");
#else
  uint4 v = make_uint4(0, 0, 0, 0);
  if (wanted) v = *(const uint4*)source;
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(destination), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
