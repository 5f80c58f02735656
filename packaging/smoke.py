"""Installs a .deb on a bare Debian 12 and uses it as a person would: `python packaging/smoke.py dist/attnscope_0.1.0_amd64.deb`.

Needs root, debootstrap, Xvfb, xdotool, and Pillow (an environment that `run.py` made has it). The bare system is made once, kept
in `build/`, and copied for each run. Tried are version, doctor, a comparison without a display, the window on a real X server
with its slider dragged and every page opened, whether anything runs on after it was closed, and what a purge leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import product
from PIL import Image, ImageChops, ImageGrab

SUITE = "bookworm"
SIZE = (1280, 800)
LEFT_PANEL = 300
"""Pixels from the left that show no measurement: the same in every start."""
ALIKE = 0.97
"""Of that panel's pixels, installed and from source."""


class Failed(Exception):
    """What was not as it must be."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deb", type=Path)
    parser.add_argument("--grabs", type=Path, help="folder for the pictures of the window")
    options = parser.parse_args()
    name = subprocess.run(["dpkg-deb", "-f", options.deb, "Package"], capture_output=True, text=True, check=True).stdout.strip()
    bare = bare_system()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=bare.parent, prefix="smoke-") as folder:
        system = System(Path(folder) / "root", bare)
        grabs = options.grabs or Path(folder)
        grabs.mkdir(parents=True, exist_ok=True)
        try:
            with system.mounted():
                use(system, options.deb, name, grabs)
        except Failed as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
    print(f"passed in {time.monotonic() - began:.0f} s")
    return 0


def use(system: System, deb: Path, name: str, grabs: Path) -> None:
    """All steps. Raises: Failed."""
    before = system.files()
    with step("install"):
        shutil.copy(deb, system.root / "tmp" / "x.deb")
        system.run("apt-get", "install", "-y", "-q", "--no-install-recommends", "/tmp/x.deb")
    with step("version"):
        system.run("attnscope", "--version")
        started = time.monotonic()
        said = system.run("attnscope", "--version")
        print(f"  {said.strip()}, in {time.monotonic() - started:.2f} s")
        need(product.version() in said, f"--version said {said!r}")
    with step("doctor"):
        gpu = name == product.COMMAND  # the flavour with a compiler
        checks = json.loads(system.run("attnscope", "doctor", "--json", *(["--compile", "sm_80,sm_90a"] if gpu else [])))
        found = {check["name"]: check for check in checks}
        need(found["Language model"]["ok"], f"no model: {found['Language model']}")
        for arch in ("sm_80", "sm_90a") if gpu else ():
            need(found[f"Kernel, {arch}"]["ok"], f"{found[f'Kernel, {arch}']}")
            print(f"  {arch}: {found[f'Kernel, {arch}']['text']}")
    with step("compare, without a display"):
        words = (
            "--seq-len 128:512 --heads 2 --head-dim 32 --budget 0.05 --device cpu --variants softmax_naive,softmax_tiled,linear"
        )
        system.run("attnscope", "compare", *words.split(), "--out", "/tmp/out")
        made = sorted(path.name for path in (system.root / "tmp" / "out").iterdir())
        need(len(made) == 6 and "scaling.svg" in made, f"compare made {made}")
    with step("map of a text"):
        system.run("attnscope", "map", "--text", "The CEO announced the merger, and she resigned.", "--out", "/tmp/map.png")
        need(Image.open(system.root / "tmp" / "map.png").size[0] > 500, "the map is small")
    with step("window"):
        window(system, grabs)
    with step("purge"):
        system.run("apt-get", "purge", "-y", "-q", name)
        left = sorted(path for path in system.files() - before if product.COMMAND in path.lower())
        need(not left, f"{len(left)} files left, such as {left[:3]}")


# ---------------------------------------------------------------- the window


def window(system: System, grabs: Path) -> None:
    """Start, drag, open every page, close. Raises: Failed."""
    with x_server() as display:
        os.environ["DISPLAY"] = display
        started = time.monotonic()
        program = system.start("attnscope", DISPLAY=display)
        try:
            handle = until(lambda: window_of(program), "a window", 20)
            xdotool("windowsize", handle, *map(str, SIZE), "windowmove", handle, "0", "0")
            until(lambda: colours(grab(display)) > 100, "something drawn", 20)
            print(f"  drawn {time.monotonic() - started:.1f} s after the start")
            time.sleep(3)  # the engine greets, maps come
            first = grab(display)
            first.save(grabs / "map.png")
            need(first.size == SIZE, f"the window is {first.size}")
            source, (x, y, width, height) = from_source(grabs)
            panel = (0, 40, LEFT_PANEL, SIZE[1] - 40)
            same = alike(first.crop(panel), source.crop(panel))
            print(f"  left panel as from source: {same:.1%} of its pixels")
            need(same >= ALIKE, f"only {same:.1%} of the left panel is as from source")
            drag(x + width * 0.3, x + width * 0.75, y + height / 2)
            time.sleep(2)
            moved = grab(display)
            moved.save(grabs / "dragged.png")
            field = (0, int(y) - 40, LEFT_PANEL, int(y + height) + 10)
            need(alike(first.crop(field), moved.crop(field)) < 0.999, "the slider and its number did not move")
            pages = {"map": moved}
            for key, page in (("ctrl+2", "scaling"), ("ctrl+3", "memory")):
                xdotool("key", "--window", handle, key)
                time.sleep(2)
                pages[page] = grab(display)
                pages[page].save(grabs / f"{page}.png")
                need(
                    all(alike(pages[page], other) < 0.95 for name, other in pages.items() if name != page),
                    f"{page} looks as before",
                )
            xdotool("key", "--window", handle, "ctrl+q")
            code = program.wait(20)
            need(code == 0, f"the window ended with {code}")
            until(lambda: not system.processes(), "all processes to end", 10)
        finally:
            if program.poll() is None:
                print("  still running:", system.processes())
                for pid in system.processes():
                    os.kill(pid, 9)
                program.wait(10)


def window_of(program: subprocess.Popen[bytes]) -> str:
    need(program.poll() is None, f"it ended with {program.returncode}")
    done = subprocess.run(
        ["xdotool", "search", "--onlyvisible", "--name", product.NAME], capture_output=True, text=True, check=False
    )
    return done.stdout.split()[-1] if done.stdout.split() else ""


def xdotool(*words: str) -> None:
    subprocess.run(["xdotool", *words], check=True)


def drag(start: float, end: float, y: float) -> None:
    """The left button goes down at `start` and up at `end`, with movements between."""
    xdotool("mousemove", str(int(start)), str(int(y)), "mousedown", "1")
    for i in range(1, 21):
        xdotool("mousemove", str(int(start + (end - start) * i / 20)), str(int(y)))
        time.sleep(0.02)
    xdotool("mouseup", "1")


SOURCE = """
import sys, time
from PySide6.QtWidgets import QApplication
from PySide6.QtCore import QPoint
from attnscope.application import build
from attnscope.panels.log_slider import LogSlider
app = QApplication([])
window = build()
window.resize({width}, {height})
window.show()
window.client.start()
until = time.monotonic() + 4
while time.monotonic() < until:
    app.processEvents()
    time.sleep(0.01)
slider = window.findChild(LogSlider)
at = slider.mapTo(window, QPoint(0, 0))
print(at.x(), at.y(), slider.width(), slider.height())
window.grab().save(sys.argv[1])
window.close()
"""


def from_source(grabs: Path) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """The same window of this checkout, and where its slider of n is: x, y, width, height."""
    with tempfile.TemporaryDirectory() as home:
        told = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
        code, picture = SOURCE.format(width=SIZE[0], height=SIZE[1]), grabs / "source.png"
        done = subprocess.run([sys.executable, "-c", code, picture], env=told, capture_output=True, text=True, check=True)
        x, y, width, height = (float(word) for word in done.stdout.split()[-4:])
        return Image.open(picture).convert("RGB"), (x, y, width, height)


def grab(display: str) -> Image.Image:
    return ImageGrab.grab(xdisplay=display).crop((0, 0, *SIZE)).convert("RGB")


def colours(image: Image.Image) -> int:
    return len(image.getcolors(maxcolors=1 << 24) or [])


def alike(one: Image.Image, other: Image.Image) -> float:
    """Share of the pixels that differ by less than 24 of 255 in every channel."""
    need(one.size == other.size, f"{one.size} and {other.size} pixels")
    worst = ImageChops.difference(one, other).split()
    most = ImageChops.lighter(ImageChops.lighter(worst[0], worst[1]), worst[2])
    return sum(most.histogram()[:24]) / (one.size[0] * one.size[1])


@contextmanager
def x_server() -> Iterator[str]:
    """The display of an Xvfb of its own."""
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-nolisten", "unix"]
    server = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        yield f":{os.read(read, 16).decode().strip()}"
    finally:
        server.terminate()
        server.wait()


# ---------------------------------------------------------------- the system


class System:
    """A bare Debian in a folder."""

    def __init__(self, root: Path, bare: Path) -> None:
        subprocess.run(["cp", "-a", bare, root], check=True)
        self.root = root

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """With /proc, /dev and the names of hosts; nothing of it is left mounted."""
        shutil.copy("/etc/resolv.conf", self.root / "etc" / "resolv.conf")
        subprocess.run(["mount", "-t", "proc", "proc", self.root / "proc"], check=True)
        subprocess.run(["mount", "--rbind", "--make-rslave", "/dev", self.root / "dev"], check=True)
        try:
            yield
        finally:
            for name in ("proc", "dev"):
                subprocess.run(["umount", "-R", "-l", self.root / name], check=False)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return {**base, **proxies, **more}

    def run(self, *words: str) -> str:
        """What it printed. Raises: Failed."""
        done = subprocess.run(
            ["chroot", self.root, *words], env=self.environment({}), capture_output=True, text=True, check=False
        )
        need(done.returncode == 0, f"{' '.join(words)}: code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["chroot", self.root, *words], env=self.environment(environment))

    def processes(self) -> list[int]:
        """Of programs that lie in this system."""
        found = []
        for path in Path("/proc").glob("[0-9]*/exe"):
            try:
                if path.readlink().is_relative_to(self.root):
                    found.append(int(path.parent.name))
            except OSError:  # it ended meanwhile
                continue
        return found

    def files(self) -> set[str]:
        """All but what the package manager keeps for itself, and what belongs to a user."""
        outside = ("proc", "dev", "sys", "tmp", "root", "var/lib/dpkg", "var/lib/apt", "var/cache", "var/log")
        words: Sequence[str] = [word for folder in outside for word in ("-path", f"./{folder}", "-prune", "-o")]
        done = subprocess.run(["find", ".", *words, "-print"], cwd=self.root, capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines())


def bare_system() -> Path:
    """Debian's smallest installation with a list of its packages, made on the first call."""
    root = product.ROOT / "build" / f"debian-{SUITE}"
    if not (root / "var/lib/apt/lists").exists() or not any((root / "var/lib/apt/lists").glob("*Packages*")):
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, root, "http://deb.debian.org/debian"], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        subprocess.run(["chroot", root, "apt-get", "update", "-q"], check=True)
    return root


# ---------------------------------------------------------------- words


def need(true: bool, otherwise: str) -> None:
    """Raises: Failed."""
    if not true:
        raise Failed(otherwise)


def until(ready: Callable[[], object], what: str, seconds: float) -> str:
    """What `ready` returns once that is true. Raises: Failed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return str(found)
        time.sleep(0.1)
    raise Failed(f"waited {seconds:.0f} s for {what}")


@contextmanager
def step(name: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"{name} …", flush=True)
    yield
    print(f"  {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    (product.ROOT / "build").mkdir(exist_ok=True)
    sys.exit(main())
