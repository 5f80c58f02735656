from bench_lin import *
dev = CudaDevice(cubins.CubinCache(None))
BIG = (1, 8192, 96, 128)
SHAPES = [(1,8192,96,128), (8,2048,16,128), (1,8192,96,64), (8,2048,16,64), (1,131072,16,128)]
jobs = {}
def want(*a):
    d = defines_of(*a); jobs[str(sorted(d.items()))] = ("linear", d)
for opt in OPT:
    for D in (64, 128): want("bf16", D, True, opt)
for D in (64, 128):
    for dt in ("bf16", "fp16"):
        want(dt, D, False, "norm"); want(dt, D, True, "norm"); want(dt, D, True, "gatenorm")
    want("bf16", D, False, "linear")
plain_plan = linear.hopper_plan
def with_stages(n, m=None):
    def plan(o):
        p = plain_plan(o)
        return linear.HopperPlan(o, n or p.stages, m or p.state_stages)
    return plan
for n in (2,):
    linear.hopper_plan = with_stages(n); [want("bf16", D, True, o) for o in ("linear", "norm", "gate") for D in (128,)]
linear.hopper_plan = plain_plan
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
for opt in ("linear", "elu", "norm", "retnet", "gate", "gatenorm"):
    timed(dev, "bf16", *BIG, True, opt, c)
timed(dev, "bf16", *BIG, False, "linear", c); timed(dev, "bf16", *BIG, False, "norm", c)
for s in SHAPES[1:]:
    for opt in ("linear", "norm", "retnet", "gate", "gatenorm"):
        timed(dev, "bf16", *s, True, opt, c, calls=3 if s[1] > 1e5 else 8)
timed(dev, "bf16", 1, 131072, 16, 128, False, "norm", c, calls=3)
timed(dev, "fp16", *BIG, True, "norm", c)
for n in (2,):
    linear.hopper_plan = with_stages(n); [timed(dev, "bf16", *BIG, True, o, c, f"stages {n}") for o in ("linear", "norm", "gate")]
linear.hopper_plan = plain_plan
timed(dev, "bf16", *BIG, True, "linear", c, "again")
