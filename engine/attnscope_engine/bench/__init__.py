"""What every benchmark against others shares: one process, one GPU, contenders in turns, ratios.

`race` takes the turns, `contenders` makes calls of ours and theirs into what is raced, `machine` is the GPU with its limits and
watch, `results` what comes out, `printing` how it reads, `program` the command. Only `contenders`, `machine` and `peers` touch
torch, which is given to them.
"""
