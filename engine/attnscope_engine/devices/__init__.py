"""Where a variant runs: the processor, or a CUDA GPU."""
