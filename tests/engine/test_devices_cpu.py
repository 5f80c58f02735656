"""The processor as a device: cheap to ask, measured by its allocator, one refusal for what it can not do."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from attnscope_engine import catalogue
from attnscope_engine.devices import DeviceFault, processor
from attnscope_engine.devices.cpu import PERIOD, CpuDevice, normal_inputs
from attnscope_engine.devices.torch_memory import peak_of_torch
from attnscope_engine.measure import measure
from attnscope_engine.protocol import Choice, Measure, Workload
from attnscope_engine.variant import Interrupted, Unsupported

torch = pytest.importorskip("torch")
LIBRARIES = ["torch", "numpy"]
SMALL = Workload(seq_len=128, num_heads=4, num_kv_heads=2, head_dim=32, dtype="fp32")


def quiet() -> None:
    """A tick that never interrupts."""


def test_that_facts_and_vitals_import_no_array_library_but_numpy() -> None:
    code = (
        "import sys; from attnscope_engine.devices.cpu import CpuDevice; d = CpuDevice(); d.facts; d.vitals();"
        "print(d.facts.library.split()[0], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch", "False"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_that_the_key_is_stable_and_tells_the_libraries_apart(library: str) -> None:
    facts = CpuDevice(library).facts
    assert facts == CpuDevice(library).facts
    assert library in facts.key
    assert facts.name in facts.key
    assert facts.threads >= 1
    assert facts.total_bytes > 1 << 28


def test_that_numpy_refuses_bf16_with_a_way_out() -> None:
    device = CpuDevice("numpy")
    assert device.facts.dtypes == ("fp32", "fp16")
    with pytest.raises(Unsupported, match="numpy has no bf16: choose fp32 or fp16"):
        device.prepare(Measure(Workload(seq_len=64, dtype="bf16"), Choice("softmax_tiled")))


def test_that_vitals_are_of_this_machine() -> None:
    vitals = CpuDevice().vitals()
    assert 0 < vitals.free_bytes <= vitals.total_bytes == CpuDevice().facts.total_bytes


@pytest.mark.parametrize("library", LIBRARIES)
def test_that_ceilings_are_above_what_any_variant_can_need_to_be_divided_by(library: str) -> None:
    device = CpuDevice(library)
    found = device.calibrate(quiet)
    assert set(found.flops_per_s) == set(device.facts.dtypes)
    assert min(found.flops_per_s.values()) > 1e8
    assert found.bytes_per_s > 1e8
    assert found.exps_per_s > 1e6
    assert 1e-7 < found.launch_s < 0.1
    assert found.device == device.facts.key


def test_that_calibrating_can_be_interrupted() -> None:
    def tick() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        CpuDevice("numpy").calibrate(tick)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_that_inputs_are_normal_and_follow_the_seed(library: str, dtype: str) -> None:
    xp = CpuDevice(library).xp
    job = Measure(Workload(seq_len=512, num_heads=4, num_kv_heads=2, dtype=dtype), Choice("linear"), seed=5)
    q, k, v = (np.asarray(x, dtype=np.float64) for x in normal_inputs(job, xp))
    assert q.shape == (1, 4, 512, 64)
    assert k.shape == v.shape == (1, 2, 512, 64)
    again = [np.asarray(x, dtype=np.float64) for x in normal_inputs(job, xp)]
    assert all((one == other).all() for one, other in zip((q, k, v), again, strict=True))
    other = normal_inputs(Measure(job.workload, job.choice, seed=6), xp)[0]
    assert (np.asarray(other, dtype=np.float64) != q).mean() > 0.99
    assert abs(q.mean()) < 0.01
    assert abs(q.std() - 1) < 0.01
    assert (k != v).mean() > 0.99


def test_that_long_inputs_repeat_their_numbers_without_a_gap() -> None:
    w = Workload(seq_len=PERIOD // 64 + 1000, num_heads=1, num_kv_heads=1, dtype="fp16")
    q, k, v = normal_inputs(Measure(w, Choice("linear")), np)
    stream = np.concatenate([x.ravel() for x in (q, k, v)])
    assert (stream[PERIOD:] == stream[:-PERIOD]).all()
    assert abs(float(v.astype(np.float32).std()) - 1) < 0.01


@pytest.mark.parametrize("library", LIBRARIES)
def test_that_the_output_of_a_prepared_call_is_the_reference(library: str) -> None:
    device = CpuDevice(library)
    prepared = device.prepare(Measure(SMALL, Choice("sliding_window", {"window_size": 30}), seed=2))
    variant, params = catalogue.resolved(Choice("sliding_window", {"window_size": 30}), SMALL)
    q, k, v = (np.asarray(x, dtype=np.float64) for x in normal_inputs(Measure(SMALL, Choice("linear"), seed=2), device.xp))
    out = np.asarray(prepared.output(quiet), dtype=np.float64)
    assert np.abs(out - variant.reference(q, k, v, SMALL, params)).max() < 1e-5


@pytest.mark.parametrize("library", LIBRARIES)
def test_that_the_peak_is_counted_exactly(library: str) -> None:
    """A variant whose arrays are known: naive holds scores and weights, 4 bytes each, whole."""
    w = Workload(seq_len=1024, num_heads=2, num_kv_heads=2, head_dim=8, dtype="fp32", causal=False)
    prepared = CpuDevice(library).prepare(Measure(w, Choice("softmax_naive")))
    arrays = 2 * 1024**2 * 8 + 4 * 2 * 1024 * 8 * 4
    peak = prepared.peak_bytes(quiet)
    assert arrays < peak < arrays + 2.2 * 2 * 256 * 1024 * 4


def test_that_torch_is_asked_for_every_allocation() -> None:
    def call() -> None:
        one = torch.empty(1000, dtype=torch.float32)
        two = torch.empty(500, dtype=torch.float32)
        del one
        three = torch.empty(700, dtype=torch.float32)
        del two, three

    assert peak_of_torch(call, torch) == 6000


def test_that_an_interrupted_call_leaves_the_recorder_usable() -> None:
    def tick() -> None:
        raise Interrupted

    prepared = CpuDevice("torch").prepare(Measure(SMALL, Choice("softmax_tiled")))
    with pytest.raises(Interrupted):
        prepared.peak_bytes(tick)
    assert prepared.peak_bytes(quiet) > 0


def test_that_memory_that_ends_is_a_fault_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = CpuDevice("torch").prepare(Measure(SMALL, Choice("softmax_naive")))

    def no_memory(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        )

    monkeypatch.setattr(torch, "empty", no_memory)
    with pytest.raises(DeviceFault) as caught:
        prepared.time_once(quiet)
    assert caught.value.kind == "memory"
    assert not caught.value.sticky


@pytest.mark.parametrize("library", LIBRARIES)
def test_that_a_measurement_of_the_processor_is_complete(library: str) -> None:
    job = Measure(SMALL, Choice("chunked", {"chunk_size": 32}), budget_s=0.05)
    start = time.perf_counter()
    found = measure(CpuDevice(library), job, quiet, lambda done, text="": None)
    assert found.samples >= 3
    assert 0 < found.p20_s <= found.time_s <= found.p80_s < time.perf_counter() - start
    assert found.peak_bytes > 0
    assert found.provenance["library"].startswith(library)
    assert found.provenance["inputs"] == "normal, seed 0"


def test_that_a_processor_is_named_by_the_system(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: AMD  Ryzen 7 5800X   8-Core Processor\nflags\t: fpu\n")
    monkeypatch.setattr(processor, "CPUINFO", file)
    monkeypatch.setattr(sys, "platform", "linux")
    assert processor.processor_name() == "AMD Ryzen 7 5800X 8-Core Processor"
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "absent")
    assert processor.processor_name()


def test_that_torch_that_does_not_load_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("attnscope_engine.devices.cpu.importlib.import_module", broken)
    with pytest.raises(DeviceFault, match=r"torch is installed but does not load \(libgomp"):
        _ = CpuDevice("torch").xp
