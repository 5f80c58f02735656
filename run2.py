from bench_lin import *
dev = CudaDevice(cubins.CubinCache(None))
BIG, BIG64 = (1, 8192, 96, 128), (1, 8192, 96, 64)
jobs = {}
def want(*a):
    d = defines_of(*a); jobs[str(sorted(d.items()))] = ("linear", d)
plain_plan = linear.hopper_plan
def with_stages(n, m=None):
    def plan(o):
        p = plain_plan(o)
        return linear.HopperPlan(o, n or p.stages, m or p.state_stages)
    return plan
ALL = ("linear", "elu", "norm", "normid", "retnet", "gate", "gatenorm")
work = []
for n in (2, 3): work += [(n, None, BIG, True, o) for o in ALL]
for n in (2, 3, 4, 6): work += [(n, None, BIG64, True, o) for o in ("linear", "elu", "norm", "gate", "gatenorm")]
for n in (3, 6): work += [(n, n, BIG, False, o) for o in ("linear", "norm")]
for n in (2, 3): work += [(n, None, (8,2048,16,128), True, o) for o in ("linear", "norm", "retnet", "gate")]
for n in (2, 4): work += [(n, None, (8,2048,16,64), True, o) for o in ("norm", "retnet", "gate")]
for n, m in ((2, 3), (2, 6), (3, 6)): work += [(n, m, (1,131072,16,128), True, o) for o in ("linear", "norm", "retnet", "gate")]
for n, m, s, c, o in work:
    linear.hopper_plan = with_stages(n, m); want("bf16", s[3], c, o)
linear.hopper_plan = plain_plan
for opt in OPT:
    for D in (64, 128): want("bf16", D, True, opt)
for D in (64, 128):
    for dt in ("bf16", "fp16"): want(dt, D, False, "norm"); want(dt, D, True, "norm"); want(dt, D, True, "gatenorm")
    want("bf16", D, False, "linear")
precompile(dev, list(jobs.values()))
cases = []
for opt in OPT:
    for n in (1, 63, 65, 1000): cases.append(("bf16", 1, 2, 2, n, n, 128, True, opt)); cases.append(("bf16", 1, 2, 1, n, n, 64, True, opt))
for D in (64, 128):
    for dt in ("bf16", "fp16"):
        cases += [(dt, 1, 1, 1, 4097, 4097, D, True, "norm"), (dt, 2, 2, 1, 500, 1300, D, True, "gatenorm"), (dt, 1, 2, 1, 700, 300, D, True, "norm"), (dt, 1, 2, 1, 700, 300, D, False, "norm")]
    cases += [("bf16", 1, 1, 1, 2000, 2000, D, False, "linear"), ("bf16", 1, 1, 1, 1, 3000, D, True, "linear")]
right(dev, cases)
c = copy_rate(dev); say(f"copy {c/1e12:.3f} TB/s")
for n, m, s, causal, o in work:
    linear.hopper_plan = with_stages(n, m)
    timed(dev, "bf16", *s, causal, o, c, f"{n} {m or ''}", calls=3 if s[1] > 1e5 else 8)
