"""`attnscope bench exact`: our exact attention beside every other that this machine has, in one process, with a GPU.

`cells` says what is timed, `peers` against what, `tensors` on which numbers, `contenders` as which calls, `results` what it says,
`printing` how it reads, `session` does it; the rest is `bench`. Only `peers`, `tensors`, `contenders` and `session` touch torch.
"""
