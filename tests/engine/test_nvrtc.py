"""The compiler and the cache of what it made."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from attnscope_engine.devices import DeviceFault, cubins, cuda_faults, nvrtc
from attnscope_engine.devices.cubins import CubinCache
from attnscope_engine.devices.cuda_launch import packed
from attnscope_engine.variant import Interrupted

GOOD = 'extern "C" __global__ void f(float* x) { x[threadIdx.x] *= 2.f; }'
DEFINES = {"DTYPE": 2}


def test_that_nvrtc_tells_version_and_cards() -> None:
    major, minor = map(int, nvrtc.version().split("."))
    assert major >= 12
    assert minor >= 0
    assert {"sm_75", "sm_80", "sm_90"} <= set(nvrtc.architectures())


def test_that_machine_code_and_a_log_of_registers_come_back() -> None:
    cubin, log = nvrtc.compile_cubin(GOOD, "f.cu", "sm_80")
    assert cubin.startswith(b"\x7fELF")
    assert "registers" in log


def test_that_a_wrong_line_is_named_by_file_and_number() -> None:
    with pytest.raises(nvrtc.CompileError, match=r"bad\.cu does not compile for sm_80") as caught:
        nvrtc.compile_cubin('#line 7 "shared.cuh"\nint x = y;', "bad.cu", "sm_80")
    assert "shared.cuh(7): error" in caught.value.log
    fault = cuda_faults.fault_of(caught.value)
    assert fault is not None
    assert fault.kind == "compile"
    assert "shared.cuh(7)" in str(fault)


def test_that_an_architecture_that_does_not_exist_is_refused() -> None:
    with pytest.raises(nvrtc.CompileError, match="sm_1"):
        nvrtc.compile_cubin(GOOD, "f.cu", "sm_1")


def test_that_errors_keep_the_line_numbers_of_the_file_they_are_in() -> None:
    texts = {
        "a.cu": '// one\n#include "b.cuh"\nint three = wrong_in_a;\n',
        "b.cuh": '#include "c.cuh"\n#include "c.cuh"\n',
        "c.cuh": "int c;\n",
    }
    with pytest.raises(nvrtc.CompileError) as caught:
        nvrtc.compile_cubin(cubins.source_of("a", texts.__getitem__), "a.cu", "sm_80")
    assert "a.cu(3): error" in caught.value.log


def test_that_a_change_of_shared_text_changes_the_key() -> None:
    before = cubins.source_of("softmax_tiled")
    after = cubins.source_of("softmax_tiled", lambda name: cubins.file_text(name) + ("\n" if name == "ptx.cuh" else ""))
    assert before != after
    assert cubins.key_of(before, "sm_80", ()) != cubins.key_of(after, "sm_80", ())


def test_that_architecture_and_constants_are_part_of_the_key() -> None:
    keys = {cubins.key_of("x", arch, options) for arch in ("sm_80", "sm_90") for options in ((), ("-DA=1",), ("-DA=2",))}
    assert len(keys) == 6


@pytest.mark.parametrize(("name", "other"), [("version", lambda: "99.0"), ("OPTIONS", (*nvrtc.OPTIONS, "-G"))])
def test_that_compiler_and_its_options_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch, name: str, other: object) -> None:
    before = cubins.key_of("x", "sm_80", ())
    monkeypatch.setattr(nvrtc, name, other)
    assert cubins.key_of("x", "sm_80", ()) != before


@pytest.mark.parametrize(
    ("capability", "source", "target"),
    [
        ((7, 5), "", "sm_75"),
        ((9, 0), "", "sm_90"),
        ((9, 0), "wgmma", "sm_90a"),
        ((10, 0), "wgmma", "sm_100"),
        ((12, 0), "", "sm_120"),
    ],
)
def test_that_only_hopper_instructions_ask_for_hoppers_own_target(capability: tuple[int, int], source: str, target: str) -> None:
    assert cubins.architecture(capability, source) == target


def test_that_a_kernel_is_compiled_once_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = CubinCache(tmp_path).get("device", "sm_80", DEFINES)
    assert first.seconds > 0
    monkeypatch.setattr(nvrtc, "compile_cubin", lambda *_: pytest.fail("compiled again"))
    again = CubinCache(tmp_path).get("device", "sm_80", DEFINES)
    assert (again.key, again.code, again.seconds) == (first.key, first.code, 0)


@pytest.mark.parametrize("spoil", [lambda data: data[:100], lambda data: data[:-1] + b"?", lambda data: b""])
def test_that_a_spoilt_file_is_compiled_again(tmp_path: Path, spoil: object) -> None:
    first = CubinCache(tmp_path).get("device", "sm_80", DEFINES)
    path = tmp_path / f"{first.key}.cubin"
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    assert CubinCache(tmp_path).get("device", "sm_80", DEFINES).code == first.code
    assert CubinCache(tmp_path).get("device", "sm_80", DEFINES).seconds == 0


def test_that_several_writers_leave_one_whole_file(tmp_path: Path) -> None:
    caches, found = [CubinCache(tmp_path) for _ in range(4)], []
    threads = [threading.Thread(target=lambda c=c: found.append(c.get("device", "sm_80", DEFINES))) for c in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({cubin.code for cubin in found}) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{found[0].key}.cubin"]


TWO_ENGINES = """
import sys
from pathlib import Path
from attnscope_engine.devices.cubins import CubinCache
print(CubinCache(Path(sys.argv[1])).get("device", "sm_80", {"DTYPE": 2}).key)
"""


def test_that_two_engines_at_once_share_a_folder(tmp_path: Path) -> None:
    engines = [subprocess.Popen([sys.executable, "-c", TWO_ENGINES, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    keys = {engine.communicate(timeout=60)[0].decode().strip() for engine in engines}
    assert [engine.returncode for engine in engines] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [f"{key}.cubin" for key in keys]
    assert CubinCache(tmp_path).get("device", "sm_80", DEFINES).seconds == 0


def test_that_a_kernel_is_compiled_behind_the_caller_who_can_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map under the hand does not wait for the compiler, and what it makes meanwhile is there afterwards."""
    go_on, threads, ticks, compiled = threading.Event(), [], [], nvrtc.compile_cubin

    def slow(*arguments: object) -> object:
        threads.append(threading.current_thread())
        assert go_on.wait(30)
        return compiled(*arguments)

    def leave() -> None:
        ticks.append(threading.current_thread())
        raise Interrupted

    monkeypatch.setattr(nvrtc, "compile_cubin", slow)
    cache = CubinCache(tmp_path)
    for _ in range(2):
        with pytest.raises(Interrupted):
            cache.get("device", "sm_80", DEFINES, leave)
    assert ticks == [threading.current_thread()] * 2
    go_on.set()
    assert cache.get("device", "sm_80", DEFINES).seconds > 0
    assert len(threads) == 1, "compiled twice"
    assert threads[0] is not threading.current_thread()


def test_that_what_does_not_compile_is_told_to_each_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubins, "source_of", lambda stem: "int x = y;")
    cache = CubinCache(tmp_path)
    for _ in range(2):
        with pytest.raises(nvrtc.CompileError, match="does not compile") as caught:
            cache.get("device", "sm_80", DEFINES)
        assert "error" in caught.value.log
    assert list(tmp_path.iterdir()) == []


def test_that_a_folder_that_can_not_be_made_only_means_that_nothing_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = CubinCache(tmp_path / "file" / "cubins")
    first = cache.get("device", "sm_80", DEFINES)
    assert cache.get("device", "sm_80", DEFINES) is first
    cache.get("device", "sm_86", DEFINES)
    assert [record.message for record in caplog.records if "not kept" in record.message] == [caplog.records[0].message]


def test_that_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert CubinCache(tmp_path).get("device", "sm_80", DEFINES).code
    assert list(tmp_path.iterdir()) == []


class FakeCudaError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError {status}")
        self.status = status


@pytest.mark.parametrize("code", sorted(cuda_faults.STICKY))
def test_that_codes_that_break_the_process_are_sticky(code: int) -> None:
    fault = cuda_faults.fault_of(FakeCudaError(code))
    assert isinstance(fault, DeviceFault)
    assert (fault.code, fault.sticky, fault.kind) == (code, True, "device")


def test_that_memory_and_launch_errors_are_not_sticky_and_a_bug_is_no_fault() -> None:
    memory, launch = cuda_faults.fault_of(FakeCudaError(2)), cuda_faults.fault_of(FakeCudaError(701))
    assert memory is not None
    assert launch is not None
    assert (memory.kind, memory.sticky) == ("memory", False)
    assert (launch.kind, launch.sticky) == ("device", False)
    assert cuda_faults.fault_of(RuntimeError("a bug of ours")) is None
    pool = cuda_faults.fault_of(MemoryError("out of memory"))
    assert pool is not None
    assert pool.kind == "memory"


@pytest.mark.parametrize("value", [1, 1.5, True, None, "x"])
def test_that_a_python_number_is_no_kernel_argument(value: object) -> None:
    import numpy as np

    with pytest.raises(TypeError, match="argument 1 is"):
        packed((np.int32(1), value), np.ndarray)
    assert packed((np.int32(1), np.int64(2), np.float32(3)), np.ndarray)
