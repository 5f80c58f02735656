// What: the delta rule on a state whose channels fade apart: each by a gate of its own, then a key takes out what the state answers to it.
// Grid → work: x the segments of a head and blocks of 32 columns of the values, y the H heads, z the batch.
// Block → work: 32 columns of one segment of one head, token by token, a quarter of a column a thread.
// Shared memory: 16 tokens of queries, keys, gates and values as fp32: `recurrent.py` counts it.
// Numerics: fp32 throughout.
// Limits: head_dim ≤ 128 and a multiple of 8; causal; any n, any n_keys.
#include "ptx.cuh"
#if GATES_ONLY
#include "gates.cuh"
#else
#include "state_scans.cuh"
#include "recurrent_portable.cuh"
#endif
