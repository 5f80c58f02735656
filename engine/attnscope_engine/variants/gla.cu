// What: gated linear attention: each channel of the state fades by a gate of its own, then a key writes its value.
// Grid → work: x the segments of a head, y the H heads, z the batch.
// Block → work: one segment of one head, chunk by chunk.
// Shared memory: chunks of 64 tokens on their way, their gates, and queries and keys as gated inside a block: `gla.py` counts it.
// Numerics: tensor cores, fp32 state, gates and sums; scores of a strongly gated block one by one in fp32.
// Limits: head_dim ≤ 128 and a multiple of 8; causal; any n, any n_keys.
// On Hopper, 16-bit types run chunk by chunk; on other cards, and in fp32, all runs token by token in fp32: `recurrent_portable.cuh`.
#include "ptx.cuh"
#if GATES_ONLY
#include "gates.cuh"
#else
#include "state_scans.cuh"
#if HOPPER
#include "gla_hopper.cuh"
#else
#include "recurrent_portable.cuh"
#endif
#endif
