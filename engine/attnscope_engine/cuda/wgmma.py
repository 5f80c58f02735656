"""Text of `wgmma.cuh`: Hopper's product of a warpgroup, one wrapper for each width.

Inline assembly names every accumulator register by its number, up to 128 of them, and C++ can not count them up: this can.
"""

from __future__ import annotations

NAME = "wgmma.cuh"

WIDTHS = range(32, 257, 16)
"""Columns of a product. Scores have as many as a tile has keys, outputs as head_dim."""

HEAD = """\
// Written by wgmma.py. d (64 × N) += a (64 × 16) · b (16 × N), fp32 += 16-bit · 16-bit, in the background; `add` 0: d = a · b.
// Thread t of the warpgroup holds rows 16·(t/32) + t%32/4 and +8, columns 2·(t%4) + {0, 1} of each 8: d[4j + 2·half + column].
// Operands in shared memory lie in panels of 64 columns (128 bytes a row, swizzled by 128), given by descriptors' low words.
#include "hopper.cuh"
#if DTYPE == 1
#define WGMMA_TYPES "f32.bf16.bf16"
#else
#define WGMMA_TYPES "f32.f16.f16"
#endif
#define DESCRIPTOR_HIGH "0x40000040"  // 1024 bytes from 8 rows to the next 8; swizzle of 128 bytes

template <int N>
struct Wgmma;
"""


def text() -> str:
    """All of the file."""
    return HEAD + "".join(_struct(width) for width in WIDTHS)


TURNED_WIDTH = 64
"""Columns of the two products that only linear attention makes, whose columns are the tokens of a chunk."""


def _struct(width: int) -> str:
    count = width // 2
    numbers = ", ".join(f"%{i}" for i in range(count))
    registers = ", ".join(f'"+f"(d[{i}])' for i in range(count))

    def product(signature: str, inputs: str, number: int, descriptors: str, left: str, order: str) -> str:
        return f"""
  __device__ __forceinline__ static void {signature} {{
    asm volatile("{{\\n.reg .pred p;\\n.reg .b64 a, b;\\n{descriptors}setp.ne.b32 p, %{count + number}, 0;\\n"
                 "wgmma.mma_async.sync.aligned.m64n{width}k16." WGMMA_TYPES " {{{numbers}}}, {left}, b, p, 1, 1, {order};\\n}}"
                 : {registers} : {inputs}, "r"(b), "r"(add));
  }}"""

    def descriptor(name: str, number: int) -> str:
        return f'mov.b64 {name}, {{%{count + number}, " DESCRIPTOR_HIGH "}};\\n'

    left_registers = "{" + ", ".join(f"%{count + i}" for i in range(4)) + "}"
    turned = f"""
  // a from registers, b stored with its N as rows: a state, turned, times queries.{
        product(
            f"registers_rows(float (&d)[{count}], u32 a0, u32 a1, u32 a2, u32 a3, u32 b, int add)",
            '"r"(a0), "r"(a1), "r"(a2), "r"(a3)',
            5,
            descriptor("b", 4),
            left_registers,
            "0",
        )
    }
  // Both from shared memory, a stored with its 16 as rows, b with its N: values, turned, times weights.{
        product(
            f"turned(float (&d)[{count}], u32 a, u32 b, int add)",
            '"r"(a)',
            2,
            descriptor("a", 0) + descriptor("b", 1),
            "a",
            "1, 0",
        )
    }"""
    return f"""
template <>
struct Wgmma<{width}> {{
  // Both from shared memory, b stored with its N as rows: scores of queries and keys.{
        product(
            f"shared(float (&d)[{count}], u32 a, u32 b, int add)",
            '"r"(a)',
            2,
            descriptor("a", 0) + descriptor("b", 1),
            "a",
            "0, 0",
        )
    }
  // a from registers (an accumulator's layout, packed), b stored with its 16 as rows: weights times values.{
        product(
            f"registers(float (&d)[{count}], u32 a0, u32 a1, u32 a2, u32 a3, u32 b, int add)",
            '"r"(a0), "r"(a1), "r"(a2), "r"(a3)',
            5,
            descriptor("b", 4),
            left_registers,
            "1",
        )
    }{turned if width == TURNED_WIDTH else ""}
}};
"""
