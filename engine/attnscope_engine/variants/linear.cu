// What: linear attention, φ = elu + 1, normalised: a running state of fixed size instead of the n×n map, chunk by chunk.
// Grid → work: x segments of a head's tokens (one where heads alone fill the card); y heads; z batch. First the state that each segment
// Block → work: adds and their running sums, where there are several; then outputs. Hopper: a warpgroup for each 64 columns of the
// Shared memory: values and two that feed them; elsewhere a warp for each 16 columns. Tiles of 2 or 3 chunks, as `linear.py` sizes them.
// Numerics: tensor cores (fp32 as 3×TF32), state and normaliser fp32; φ, weights and a copy of the state are rounded to the dtype.
// Limits: head_dim ≤ 128 and a multiple of 8; any n, any n_keys (causal is aligned bottom-right).
#include "linear.cuh"
#if HOPPER
#include "linear_hopper.cuh"
#else
#include "linear_portable.cuh"
#endif
