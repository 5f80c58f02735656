"""scratch: right and fast? not committed"""
import sys, time, itertools, re, json
sys.path.insert(0, "tests/support")
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from attnscope_engine import cuda
from attnscope_engine.cuda import linear
from attnscope_engine.devices import cubins, nvrtc
from attnscope_engine.devices.cuda import CudaDevice, Scratch, from_bits, to_bits
from attnscope_engine.protocol import Workload
from linear_truth import linear_truth
t00 = time.time()
def say(*a): print(f"[{time.time()-t00:5.1f}]", *a, flush=True)
class Poisoned:
    def restart(self): pass
    def take(self, shape, dtype, make):
        a = make(shape, dtype); a.set(np.full(shape, np.nan if dtype == "float32" else 0x7FFF, dtype)); return a
OPT = {
 "linear": dict(scale=0.088),
 "elu": dict(feature="elu", scale=0.088),
 "norm": dict(feature="elu", normalised=True),
 "normid": dict(feature="relu", normalised=True),
 "retnet": dict(decay="head", scale=0.088),
 "gate": dict(decay="token", scale=0.088),
 "gatenorm": dict(decay="token", feature="elu", normalised=True),
}
def decay_array(kind, B, H, N, rng):
    if kind is None: return None
    if kind == "head": return np.log(1 - 2.0 ** -(5 + np.arange(H) % 8)).astype(np.float32)
    return (-np.log1p(np.exp(-rng.standard_normal((B, H, N), np.float32))) / 16).astype(np.float32)
def precompile(dev, jobs):
    def one(job):
        stem, defines = job
        src = cubins.source_of(stem); arch = cubins.architecture(dev.capability, src)
        c, log = nvrtc.compile_cubin(src, f"{stem}.cu", arch, cubins.flags(defines))
        sp = [int(x) for x in re.findall(r"(\d+) bytes spill", log)]
        return ("C75" in log, sum(sp), dev._cache.get(stem, arch, defines).seconds)
    with ThreadPoolExecutor(16) as p: res = list(p.map(one, jobs))
    bad = [(j[1], r) for j, r in zip(jobs, res) if r[0] or r[1]]
    say("compiled", len(jobs), "nvrtc", nvrtc.version(), "spilled/serialised:", bad)
def defines_of(dtype, D, causal, opt, portable=False):
    o = OPT[opt]
    kind = {None: 0, "head": 1, "token": 2}[o.get("decay")]
    opts = linear.Options(dtype, linear.width_of(D), o.get("feature", "identity"), kind, o.get("normalised", False), causal)
    return (linear.portable_plan(opts) if portable else linear.hopper_plan(opts)).defines()
def right(dev, cases):
    worst = {}
    for dtype, B, H, G, N, M, D, causal, opt in cases:
        rng = np.random.default_rng(N + M)
        q, k, v = (from_bits(to_bits(rng.standard_normal(s).astype(np.float32), dtype), dtype) for s in ((B,H,N,D),(B,G,M,D),(B,G,M,D)))
        o = dict(OPT[opt]); dec = decay_array(o.pop("decay", None), B, H, M, rng)
        w = Workload(B, max(N, 1), H, G, D, 1, dtype, causal)
        got = []
        with dev.stream:
            bits = [dev.upload(x, dtype) for x in (q, k, v)]
            d2 = dec if dec is None or dec.ndim == 1 else dev.upload(dec, "fp32")
            for _ in range(2):
                out = dev.upload(np.full(q.shape, np.nan, np.float32), dtype)
                with dev.holding(Poisoned()): linear.attend(dev, "linear", "L", (*bits, out), w, decay=d2, **o)
                got.append(from_bits(out.get(), dtype))
        ref = linear_truth(q, k, v, causal=causal, decay=dec, **o)
        e = float(np.linalg.norm(got[0] - ref) / max(np.linalg.norm(ref), 1e-30))
        same = np.array_equal(got[0].view(np.uint32), got[1].view(np.uint32))
        flag = "" if e < 5e-3 and same else "   <<<<<< BAD"
        worst[(opt, dtype)] = max(worst.get((opt, dtype), 0), e)
        if flag: say("case", dtype, B, H, G, N, M, D, "causal" if causal else "full", opt, f"{e:.2e}", "same" if same else "DIFFERS", flag)
    say("right:", len(cases), "cases; worst", {f"{a}/{b}": f"{x:.1e}" for (a, b), x in worst.items()})
def copy_rate(dev):
    cp = dev.cupy; n = 1 << 30
    with dev.stream:
        a, b = cp.empty(n, "uint8"), cp.empty(n, "uint8"); a.fill(1); b[...] = a
        s, e = cp.cuda.Event(), cp.cuda.Event(); ts = []
        for _ in range(7):
            s.record(dev.stream); cp.copyto(b, a); e.record(dev.stream); e.synchronize(); ts.append(cp.cuda.get_elapsed_time(s, e))
    return 2 * n / (sorted(ts)[3] * 1e-3)
def timed(dev, dtype, B, N, H, D, causal, opt, copy, label="", sets=2, calls=8, reps=5):
    o = dict(OPT[opt]); rng = np.random.default_rng(1); cp = dev.cupy
    w = Workload(B, N, H, H, D, 1, dtype, causal)
    kind = o.pop("decay", None)
    with dev.stream:
        inputs = []
        dec = decay_array(kind, B, H, N, rng)
        if dec is not None and dec.ndim == 3: dec = dev.upload(dec, "fp32")
        for s in range(sets):
            x = [cp.empty((B, H, N, D), cuda.STORED[dtype]) for _ in range(4)]
            for i in range(3): dev.fill_normal(x[i], dtype, 4 * s + i)
            inputs.append(x)
        scratch = Scratch()
        def call(i):
            with dev.holding(scratch): linear.attend(dev, "linear", "L", tuple(inputs[i % sets]), w, decay=dec, **o)
        for i in range(sets): call(i)
        dev.stream.synchronize()
        dev.stream.begin_capture()
        for i in range(calls): call(i)
        g = dev.stream.end_capture()
        s, e = cp.cuda.Event(), cp.cuda.Event(); ts = []
        for _ in range(reps + 1):
            s.record(dev.stream); g.launch(dev.stream); e.record(dev.stream); e.synchronize(); ts.append(cp.cuda.get_elapsed_time(s, e) / calls)
    ms = sorted(ts[1:])[reps // 2]
    floor = 4 * B * H * N * D * cuda.ITEM_BYTES[dtype] / copy * 1e3
    say(f"{dtype} B{B} N{N} H{H} D{D} {'causal' if causal else 'full':6s} {opt:9s} {label:12s} {ms:.4f} ms  {ms/floor:.3f} x floor {floor:.4f}")
    del inputs, g, scratch; dev.release()
    return ms
