// What: the delta rule with a gate: the state fades, then each key takes out what it answers to it and writes its value.
// Grid → work: x the segments of a head, y the H heads, z the batch.
// Block → work: one segment of one head, chunk by chunk.
// Shared memory: chunks of 64 tokens on their way, and what they take from each other: `delta.py` counts it.
// Numerics: tensor cores, fp32 state and sums; what the keys of a chunk take from each other is solved in fp32 and fp16.
// Limits: head_dim ≤ 128 and a multiple of 8; causal; any n, any n_keys.
// On Hopper, 16-bit types run chunk by chunk; on other cards, and in fp32, all runs token by token in fp32: `recurrent_portable.cuh`.
#include "ptx.cuh"
#if GATES_ONLY
#include "gates.cuh"
#else
#include "state_scans.cuh"
#if HOPPER
#include "delta_hopper.cuh"
#else
#include "recurrent_portable.cuh"
#endif
#endif
