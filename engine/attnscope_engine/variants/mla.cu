// What: what surrounds the softmax kernel of latent attention: columns moved between arrays, and the rotation of rope columns by position.
// Grid → work: x the words (copy_columns) or pairs (rotate) of the rows of one matrix; y its heads; z the batch.
// Block → work: 256 words or pairs.
// Shared memory: none.
// Numerics: copies are exact; rotations are products of two angles from tables in fp32, and rounded to the dtype once.
// Limits: any n; columns in whole 32-bit words.
#include "columns.cuh"
