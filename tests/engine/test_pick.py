"""Of the choice of a device: a GPU where one can be used, else the processor with the reason and what to do."""

import ctypes
import shutil
import subprocess
import sys
import textwrap

import pytest
from attnscope_engine.addons import fitting
from attnscope_engine.devices import DeviceFault, pick
from attnscope_engine.devices.cpu import CpuDevice


class Driver:
    """libcuda.so.1 as a test wants it."""

    def __init__(
        self, init: int = 0, count_code: int = 0, count: int = 1, version: int = 13000, capability: tuple[int, int] = (9, 0)
    ) -> None:
        self.init, self.count_code, self.count, self.version = init, count_code, count, version
        self.capability = capability

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, into) -> int:
        into._obj.value = self.count
        return self.count_code

    def cuDeviceGetAttribute(self, into, attribute: int, device: int) -> int:
        into._obj.value = self.capability[{75: 0, 76: 1}[attribute]]
        return 0

    def cuDriverGetVersion(self, into) -> int:
        into._obj.value = self.version
        return 0


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(driver, cupy)`: what `pick` finds here."""

    def made(driver: Driver | None, cupy: str = "", release: str = "") -> None:
        def load(name: str) -> Driver:
            assert name == "libcuda.so.1"
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        version = tmp_path / "version"
        if release:
            version.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {release}  Wed Dec  6 14:37:29 UTC 2023\n")
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(pick, "DRIVER_VERSION_FILE", version)
        monkeypatch.setattr(pick, "_installed_cupy", lambda: cupy)
        monkeypatch.setattr(pick, "this_target", lambda: "cp311-linux_x86_64")

    return made


@pytest.mark.parametrize(
    ("driver", "cupy", "release", "words"),
    [
        (None, "", "", "No NVIDIA driver found: everything runs on the CPU."),
        (
            Driver(init=100),
            "cupy-cuda13x",
            "",
            "No CUDA device found (code 100): switch the GPU on, or unset CUDA_VISIBLE_DEVICES",
        ),
        (Driver(count=0), "cupy-cuda13x", "", "No CUDA device found (code 100)"),
        (Driver(init=803), "cupy-cuda13x", "", "(code 803): restart this machine"),
        (Driver(init=804), "cupy-cuda13x", "", "(code 804): remove it, or update the driver"),
        (Driver(init=999), "cupy-cuda13x", "", "(code 999): restart this machine, or reload the nvidia_uvm module."),
        (Driver(init=802), "cupy-cuda13x", "", "(code 802)"),
        (Driver(init=34), "cupy-cuda13x", "", "install the NVIDIA driver"),
        (Driver(count_code=46), "cupy-cuda13x", "", "(code 46)"),
        (Driver(init=12345), "cupy-cuda13x", "", "error 12345"),
        (Driver(init=35), "cupy-cuda12x", "470.57.02", "Driver 470 is older than 525: update it, or use the CPU."),
        (
            Driver(version=12020),
            "cupy-cuda13x",
            "535.104.05",
            "Driver 535 is older than 580: the CUDA 12 parts can be used (230 MB).",
        ),
        (Driver(version=12020), "cupy-cuda13x", "", "The NVIDIA driver is older than 580"),
        (Driver(version=11080), "cupy-cuda12x", "520.61.05", "Driver 520 is older than 525: update it, or use the CPU."),
        (Driver(version=13000), "", "", "A GPU is there, but the CUDA 13 parts (131 MB) are not: add them, or use the CPU."),
        (Driver(version=12020), "", "", "A GPU is there, but the CUDA 12 parts (230 MB) are not: add them, or use the CPU."),
        (Driver(capability=(6, 1)), "", "", "the CUDA 12 parts (230 MB) are not"),
        (Driver(capability=(3, 5)), "", "", "It needs compute capability 5.0; this GPU has 3.5. Everything runs on the CPU."),
        (Driver(capability=(6, 1)), "cupy-cuda13x", "", "6.1 is older than 7.5: the CUDA 12 parts can be used (230 MB)."),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_that_each_reason_is_a_sentence_with_what_to_do(machine, driver, cupy, release, words, wanted):
    machine(driver, cupy, release)
    device, why = pick.pick(wanted)
    assert isinstance(device, CpuDevice)
    assert words in why
    assert fitting.is_offer(why) == ("(230 MB)" in why or "(131 MB)" in why)
    assert why.endswith(".")
    assert "\n" not in why


def test_that_the_cpu_asked_for_needs_no_reason_and_no_driver(machine, monkeypatch):
    def never(name: str) -> None:
        raise AssertionError("the driver was asked")

    monkeypatch.setattr(ctypes, "CDLL", never)
    device, why = pick.pick("cpu")
    assert isinstance(device, CpuDevice)
    assert why == ""


def test_that_a_gpu_that_can_be_used_is_used(machine, monkeypatch):
    machine(Driver(), "cupy-cuda13x")
    gpu = object()
    monkeypatch.setattr(pick, "_cuda_device", lambda: gpu)
    assert pick.pick("auto") == (gpu, "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DeviceFault("NVRTC was not found: install nvidia-cuda-nvrtc"), "NVRTC was not found: install nvidia-cuda-nvrtc."),
        (ImportError("libnvrtc.so.13: cannot open"), "libnvrtc.so.13: cannot open."),
        (RuntimeError("cudaErrorUnknown\nsecond line"), "cudaErrorUnknown."),
        (OSError(), "OSError."),
    ],
)
def test_that_a_gpu_that_does_not_start_leaves_the_cpu_and_says_why(machine, monkeypatch, error, words):
    def broken() -> None:
        raise error

    machine(Driver(), "cupy-cuda13x")
    monkeypatch.setattr(pick, "_cuda_device", broken)
    device, why = pick.pick("cuda")
    assert isinstance(device, CpuDevice)
    assert why == f"The GPU could not be used: {words}"


def test_that_a_system_without_cuda_says_so(machine, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pick.why_no_gpu() == "CUDA does not exist on this system: everything runs on the CPU."


def test_that_the_real_driver_interface_is_called_as_it_is_declared(tmp_path):
    """A shared library built here, with the driver's own signatures, that has one device but an unknown error."""
    source = tmp_path / "cuda.c"
    source.write_text(
        textwrap.dedent("""
        int cuInit(unsigned flags) { return flags == 0 ? 0 : 1; }
        int cuDeviceGetCount(int *count) { *count = 1; return 999; }
        int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
        """)
    )
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    script = "from attnscope_engine.devices.pick import why_no_gpu; print(why_no_gpu())"
    done = subprocess.run([sys.executable, "-c", script], env={"LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True)
    assert "(code 999)" in done.stdout, done.stderr
