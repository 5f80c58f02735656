"""`attnscope bench family`: our linear, recurrent and masked attention beside others', in one process, with a GPU.

`cells` says what is timed, `tensors` on which numbers, `ours` and `peers` as which calls, `masks` which masks, the same for both,
`results` what comes out, `printing` how it reads, `session` does it; the rest is `bench`. Nobody's library is imported by name.
"""
