// What: Mamba-2's state: decays and values times Δ are derived from the key first, then chunk by chunk; the D skip last.
// Grid → work: segments or blocks of queries, heads, batch: see the included text. decays_of_tokens: 8 keys a block; add_own_values: 256 pairs.
// Block → work: 64 tokens at a time, the state in registers.
// Shared memory: some chunks of q, k and v.
// Numerics: tensor cores, state fp32, decays as exponents that are never positive.
// Limits: head_dim ≤ 128 and a multiple of 8; causal only, aligned bottom-right; any n, any n_keys.
#include "ptx.cuh"
#if GATES
#include "token_decays.cuh"
#else
#include "linear.cuh"
#if HOPPER
#include "linear_hopper.cuh"
#else
#include "linear_portable.cuh"
#endif
#endif
