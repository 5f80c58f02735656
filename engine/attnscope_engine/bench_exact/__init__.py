"""`attnscope bench exact`: our exact attention beside every other that this machine has, in one process, with a GPU.

`cells` says what is timed, `peers` against what, `tensors` on which numbers, `race` how, `results` what comes out, `printing` how
it reads, `session` does it. Only `peers`, `tensors`, `contenders` and `session` touch torch, which is given to them.
"""
