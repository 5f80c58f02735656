"""Of which add-ons exist, which fit, and how the engine comes to use them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from attnscope_engine.addons import AddonError, fitting, lock
from attnscope_engine.addons.fitting import Machine
from attnscope_engine.addons.folder import MANIFEST, Manifest, default_root, why_not_used
from attnscope_engine.addons.lock import addons, find, this_target
from attnscope_engine.addons.rows import rows
from attnscope_engine.addons.using import cupy_package, is_contested, order, use
from attnscope_engine.devices import cuda_products, nvrtc
from attnscope_engine.doctor import check_addons

ROOT = Path(__file__).resolve().parents[2]
LINUX = "cp311-linux_x86_64"
TARGETS = [f"{python}-{system}" for python in ("cp311", "cp312") for system in ("linux_x86_64", "win_amd64", "macosx_arm64")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ---------------------------------------------------------------- the lock


def test_that_every_wheel_of_the_lock_is_pinned_as_the_constraints_say():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {canonical(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)}
    for name, wheels in lock._all().items():
        assert wheels, name
        for wheel in wheels:
            assert pinned[canonical(wheel.name)] == wheel.version
            stem, version, *_ = wheel.file.split("-")
            assert (canonical(stem), version.partition("+")[0]) == (canonical(wheel.name), wheel.version)


@pytest.mark.parametrize("target", TARGETS)
def test_that_every_addon_is_complete_for_its_targets_and_its_files_run_there(target):
    python, _, system = target.partition("-")
    found = addons(target)
    assert set(found) == ({"torch"} if system == "macosx_arm64" else set(lock.ABOUT))
    for addon in found.values():
        names = [wheel.name for wheel in addon.wheels]
        assert len(names) == len(set(names))
        assert {canonical(name) for name in names} >= {
            "gpu13": {"cupy-cuda13x", "cuda-pathfinder", "nvidia-cuda-nvrtc"},
            "gpu12": {"cupy-cuda12x", "cuda-pathfinder", "nvidia-cuda-nvrtc-cu12"},
            "torch": {"torch", "sympy", "filelock", "typing-extensions"},
        }.get(addon.name, set())
        for wheel in addon.wheels:
            _, _, its_python, _, its_platform = wheel.file.removesuffix(".whl").split("-")
            assert its_python in {python, "py3", "py2.py3"}
            words = {"linux_x86_64": "x86_64", "win_amd64": "win_amd64", "macosx_arm64": "arm64"}
            assert its_platform == "any" or words[system] in its_platform
            assert wheel.bytes > 0


def test_that_files_are_fetched_by_their_public_address_and_only_with_a_sha():
    for wheels in lock._all().values():
        for wheel in wheels:
            assert wheel.url.startswith(("https://files.pythonhosted.org/packages/", "https://download.pytorch.org/whl/cpu/"))
            assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256) or "download.pytorch.org" in wheel.url


def test_that_linux_gets_the_torch_of_processors_and_not_the_one_of_cuda():
    torch = next(wheel for wheel in find("torch", LINUX).wheels if wheel.name == "torch")
    assert "+cpu" in torch.file
    assert find("torch", LINUX).bytes < 300e6


def test_that_an_addon_that_does_not_exist_is_a_sentence():
    with pytest.raises(AddonError, match="There is no add-on 'gpu14'; there are: gpu13"):
        find("gpu14", LINUX)
    with pytest.raises(AddonError, match="GPU parts, CUDA 13 does not exist for this system"):
        find("gpu13", "cp311-macosx_arm64")


# ---------------------------------------------------------------- what fits


@pytest.mark.parametrize(
    ("driver", "capability", "fits"),
    [
        (13000, (9, 0), "gpu13"),
        (13020, (7, 5), "gpu13"),
        (13000, (7, 0), "gpu12"),
        (13000, (6, 1), "gpu12"),
        (12080, (9, 0), "gpu12"),
        (12000, (5, 0), "gpu12"),
        (11080, (8, 0), ""),
        (12080, (3, 7), ""),
        (13000, None, ""),
        (0, None, ""),
    ],
)
def test_that_the_gpu_parts_follow_from_driver_and_compute_capability(driver, capability, fits):
    assert fitting.fitting(driver, capability) == fits


def test_that_what_does_not_fit_says_why():
    assert "No NVIDIA driver" in fitting.why_unfit("gpu13", 0, None)
    assert "needs driver 580 or newer; this one knows CUDA 12.4" in fitting.why_unfit("gpu13", 12040, (9, 0))
    assert "needs compute capability 7.5; this GPU has 6.1" in fitting.why_unfit("cublas13", 13000, (6, 1))
    assert fitting.why_unfit("torch", 0, None) == ""


def test_that_rows_tell_what_is_here_what_fits_and_what_the_program_has(tmp_path, monkeypatch):
    monkeypatch.setattr("attnscope_engine.addons.rows.cupy_package", lambda _: "")
    monkeypatch.setattr("attnscope_engine.addons.rows.provided", lambda package, _: "here" if package == "torch" else "")
    install_toy(tmp_path, "cublas13", LINUX)
    part = tmp_path / ".parts" / f"{find('gpu13', LINUX).wheels[0].file}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    found = {row.name: row for row in rows(Machine(13000, (9, 0)), tmp_path, LINUX)}
    assert {name: row.standing for name, row in found.items()} == {
        "gpu13": "absent",
        "gpu12": "unfit",
        "cublas13": "installed",
        "cublas12": "unfit",
        "torch": "own",
    }
    assert found["gpu13"].parts_bytes == 1000
    assert found["gpu13"].fits
    assert not found["gpu12"].fits
    assert found["gpu12"].reason == "The parts for CUDA 13 fit this GPU."
    assert found["gpu13"].host == "files.pythonhosted.org"


def test_that_a_file_of_unknown_sha_makes_an_addon_come_from_files_only(tmp_path, monkeypatch):
    monkeypatch.setattr("attnscope_engine.addons.rows.provided", lambda *_: "")
    torch = {row.name: row for row in rows(Machine(), tmp_path, LINUX)}["torch"]
    assert torch.fetchable == (not find("torch", LINUX).unchecked)
    assert bool(torch.reason) != torch.fetchable


# ---------------------------------------------------------------- on the path


def install_toy(root: Path, name: str, target: str, identity: str = "", **modules: str) -> Path:
    """An add-on of these modules, as if it had been added."""
    folder = root / name
    folder.mkdir(parents=True)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    made = Manifest(name, identity or addons(target)[name].identity, target, 1, ("toy 1.0",))
    (folder / MANIFEST).write_bytes(msgspec.json.encode(made))
    return folder


def give_distribution(folder: Path, package: str) -> None:
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")


@pytest.fixture
def own_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("CUDA_PATH", raising=False)
    yield sys.path
    os.environ.pop("CUDA_PATH", None)


needs_target = pytest.mark.skipif(not this_target() or this_target() not in TARGETS, reason="no add-on exists for this Python")

PROBE = """
import os, sys
from attnscope_engine import __main__ as engine

def run(options, requests, replies):
    try:
        import toy_of_addon
        said = f"{toy_of_addon.answer} {sys.path[-1]}"
    except ImportError as error:
        said = str(error)
    os.write(replies, said.encode())
    os._exit(0)

engine.run = run
sys.argv = ["attnscope-engine", "--device", "cpu"]
engine.main()
"""


def engine_says() -> str:
    """What the engine's process finds, started as it is, at the moment when it would look for a device."""
    done = subprocess.run([sys.executable, "-c", PROBE], input=b"", capture_output=True, timeout=60, check=False)
    return done.stdout.decode()


@needs_target
def test_that_an_installed_addon_is_importable_in_the_engine_and_comes_last():
    folder = install_toy(default_root(), "torch", this_target(), toy_of_addon="answer = 42")
    assert engine_says() == f"42 {folder}"


@needs_target
@pytest.mark.parametrize(
    ("target", "identity", "why"),
    [("cp310-linux_x86_64", "0123", "made for Python 3.10 on linux_x86_64"), (this_target(), "0123", "holds other versions")],
    ids=["another Python", "another release"],
)
def test_that_an_addon_of_another_python_or_release_is_not_used_and_the_doctor_says_so(target, identity, why):
    install_toy(default_root(), "torch", target, identity, toy_of_addon="answer = 42")
    assert engine_says() == "No module named 'toy_of_addon'"
    check = check_addons()
    assert not check.ok
    assert "torch is not used" in check.text
    assert why in check.advice
    assert "add it again" in check.advice


@needs_target
def test_that_the_doctor_names_what_is_used():
    assert check_addons().text == "none"
    install_toy(default_root(), "torch", this_target())
    check = check_addons()
    assert check.ok
    assert check.text == "torch (toy 1.0)"


def test_that_the_target_is_part_of_what_an_addon_fits():
    made = Manifest("torch", find("torch", LINUX).identity, LINUX, 1, ("torch 2.13.0",))
    assert why_not_used(made, LINUX) == ""
    assert "this program is Python 3.12 on win_amd64" in why_not_used(made, "cp312-win_amd64")


@pytest.mark.parametrize(
    ("names", "own", "fits", "first", "last"),
    [
        (("torch",), "", "", (), ("torch",)),
        (("gpu13", "torch"), "", "gpu13", (), ("gpu13", "torch")),
        (("gpu13", "gpu12"), "", "gpu12", (), ("gpu12", "gpu13")),
        (("gpu12", "cublas12", "torch"), "cupy-cuda13x", "gpu12", ("gpu12", "cublas12"), ("torch",)),
        (("gpu12",), "cupy-cuda13x", "gpu13", (), ("gpu12",)),
        (("cublas13",), "cupy-cuda13x", "gpu13", (), ("cublas13",)),
        (("gpu13", "gpu12"), "cupy-cuda12x", "gpu12", (), ("gpu12", "gpu13")),
    ],
)
def test_that_addons_come_behind_the_program_unless_only_they_fit_this_driver(names, own, fits, first, last):
    assert order(names, own, fits) == (first, last)


def test_that_the_driver_is_asked_only_when_two_kinds_of_gpu_parts_are_there():
    assert not is_contested(("gpu13", "torch", "cublas13"), "")
    assert not is_contested(("gpu13",), "cupy-cuda13x")
    assert is_contested(("gpu12",), "cupy-cuda13x")
    assert is_contested(("gpu12", "gpu13"), "")


@needs_target
@pytest.mark.skipif(sys.platform == "darwin", reason="no GPU parts")
@pytest.mark.parametrize(
    ("name", "package", "below"), [("gpu13", "cupy-cuda13x", "cu13"), ("gpu12", "cupy-cuda12x", "cuda_nvrtc")]
)
def test_that_cupy_of_an_addon_is_told_where_its_libraries_are(own_path, tmp_path, name, package, below):
    own_path[:] = [entry for entry in own_path if "site-packages" not in entry]  # a machine with a GPU has CuPy there
    folder = install_toy(tmp_path, name, this_target())
    give_distribution(folder, package)
    assert use(tmp_path) == (name,)
    assert own_path[-1] == str(folder)
    assert cupy_package(own_path) == package
    assert os.environ["CUDA_PATH"] == str(folder / "nvidia" / below)


@needs_target
@pytest.mark.skipif(sys.platform == "darwin", reason="no GPU parts")
def test_that_a_cupy_of_the_programs_own_keeps_its_libraries(own_path, tmp_path):
    own = tmp_path / "own"
    give_distribution(own, "cupy-cuda13x")
    own_path.insert(0, str(own))
    give_distribution(install_toy(tmp_path / "addons", "gpu13", this_target()), "cupy-cuda13x")
    assert use(tmp_path / "addons") == ("gpu13",)
    assert "CUDA_PATH" not in os.environ


@needs_target
@pytest.mark.skipif(sys.platform == "darwin", reason="no GPU parts")
def test_that_parts_for_an_older_driver_come_before_a_cupy_that_this_driver_can_not_run(own_path, tmp_path, monkeypatch):
    monkeypatch.setattr("attnscope_engine.addons.using.read_machine", lambda: Machine(12040, (8, 0)))
    own = tmp_path / "own"
    give_distribution(own, "cupy-cuda13x")
    own_path.insert(0, str(own))
    folder = install_toy(tmp_path / "addons", "gpu12", this_target())
    give_distribution(folder, "cupy-cuda12x")
    file = folder / "nvidia/cuda_nvrtc/lib" / nvrtc._names(12)[0]
    file.parent.mkdir(parents=True)
    file.touch()
    use(tmp_path / "addons")
    assert own_path[0] == str(folder)
    assert cupy_package(own_path) == "cupy-cuda12x"
    assert next(iter(nvrtc._candidates())) == str(file)


def test_that_cublas_of_an_addon_is_found_for_the_cupy_that_is_there(own_path, tmp_path):
    for major, below in ((13, "cu13/lib"), (12, "cublas/lib")):
        folder = install_toy(tmp_path, f"cublas{major}", LINUX)
        for stem in ("cublasLt", "cublas"):
            file = folder / "nvidia" / below / cuda_products.library_name(stem, major)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        own_path.append(str(folder))
    own = tmp_path / "own"
    give_distribution(own, "cupy-cuda12x")
    own_path.insert(0, str(own))
    found = cuda_products.addon_libraries("cublasLt", "cublas")
    assert [Path(path).parent for path in found] == [tmp_path / "cublas12/nvidia/cublas/lib"] * 2
    own_path.remove(str(tmp_path / "cublas12"))
    assert cuda_products.addon_libraries("cublasLt", "cublas") == ()
