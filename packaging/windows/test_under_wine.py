"""Installs, upgrades and removes a stand-in for the program under wine, and looks at files, registry and Start menu after each.

python packaging/windows/test_under_wine.py

Needs makensis, wine64 and MinGW (apt-get install nsis wine wine64 gcc-mingw-w64-x86-64).
It takes minutes, so the test suite leaves it out. The payload is small, the installer is the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import installer
import product

STAND_IN = r"""
#include <stdio.h>
#include <string.h>
#include <windows.h>
/* Writes its arguments to C:\started.txt; "wait" makes it stay until C:\go.txt is there. */
int main(int count, char **words) {
    FILE *file = fopen("C:\\started.txt", "w");
    for (int index = 1; index < count; index++) fprintf(file, "[%s]", words[index]);
    fclose(file);
    if (count > 1 && !strcmp(words[1], "wait"))
        while (GetFileAttributesA("C:\\go.txt") == INVALID_FILE_ATTRIBUTES) Sleep(50);
    return 0;
}
"""
CLASSES = r"HKCU\Software\Classes"
UNINSTALL = rf"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\{product.ID}"
APP_PATHS = r"HKCU\Software\Microsoft\Windows\CurrentVersion\App Paths"


class Wine:
    """A Windows of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        quiet = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml=", "WINEARCH": "win64"}
        self.environment = {**os.environ, **quiet, "WINEPREFIX": str(folder)}
        self.run("wineboot", "--init")
        self.wait()
        self.drive = folder / "drive_c"
        self.local = next(self.drive.glob("users/*/AppData/Local"))
        self.home = self.local / "Programs" / product.NAME
        self.link = self.local.parent / f"Roaming/Microsoft/Windows/Start Menu/Programs/{product.NAME}.lnk"
        self.data = self.local / product.COMMAND

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["wine", *map(str, words)], env=self.environment, capture_output=True, text=True, errors="replace", timeout=120
        )

    def start(self, *words: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["wine", *map(str, words)], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def become(self, version: str) -> None:
        """`version`: of Windows, as wine names it."""
        self.run("reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", version, "/f")
        self.wait()

    def wait(self) -> None:
        """Until no program of this Windows runs: an uninstaller goes on in a copy of itself."""
        subprocess.run(["wineserver", "-w"], env=self.environment, check=True, timeout=120)

    def value(self, key: str, name: str = "") -> str | None:
        """Of the registry; `name` "" is the key's default. None: there is none."""
        answer = self.run("reg", "query", key, *(["/v", name] if name else ["/ve"]))
        for line in answer.stdout.splitlines():
            cells = line.split("    ")
            if len(cells) >= 4 and cells[2].startswith("REG_"):
                return "    ".join(cells[3:]).strip()
        return None

    def has_key(self, key: str) -> bool:
        return self.run("reg", "query", key).returncode == 0

    def windows_path(self, path: Path) -> str:
        return "C:\\" + "\\".join(path.relative_to(self.drive).parts)


def check(what: str, holds: bool) -> None:
    """Raises: SystemExit: it does not hold."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        raise SystemExit(1)


def write_payload(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    source = folder / "stand_in.c"
    source.write_text(STAND_IN, encoding="utf-8")
    for name in installer.PROGRAMS:
        subprocess.run(["x86_64-w64-mingw32-gcc", "-O1", "-s", "-o", str(folder / name), str(source)], check=True)
    source.unlink()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_installed(wine: Wine, payload: Path, version: str) -> None:
    there, wanted = tree(wine.home), tree(payload)
    check("every file of the payload is there, to the byte", all(there.get(name) == data for name, data in wanted.items()))
    extra = sorted(set(there) - set(wanted))
    check(f"beside it {', '.join(extra)}", {"uninstall.exe", "attnscope.ico", "LICENSE.txt"} <= set(extra))
    program = wine.windows_path(wine.home / installer.PROGRAMS[0])
    link = wine.link.read_bytes().decode("utf-16-le", "ignore") if wine.link.is_file() else ""
    link += wine.link.read_bytes()[1:].decode("utf-16-le", "ignore") if link else ""  # its texts begin at even and at odd places
    check("the Start menu has the program", installer.PROGRAMS[0] in link and wine.windows_path(wine.home) in link)
    check("the suffix names the type", wine.value(rf"{CLASSES}\{product.SUFFIX}") == product.ID)
    check("its media type is known", wine.value(rf"{CLASSES}\{product.SUFFIX}", "Content Type") == product.MIME)
    check("the type opens with the program", wine.value(rf"{CLASSES}\{product.ID}\shell\open\command") == f'"{program}" "%1"')
    icon = wine.windows_path(wine.home / "attnscope.ico")
    check("the type has an icon", wine.value(rf"{CLASSES}\{product.ID}\DefaultIcon") == f'"{icon}",0')
    for name in installer.PROGRAMS:
        check(f"Run… finds {name}", wine.value(rf"{APP_PATHS}\{name}") == wine.windows_path(wine.home / name))
    check(f"Settings say version {version}", wine.value(UNINSTALL, "DisplayVersion") == version)
    check("and who made it", wine.value(UNINSTALL, "Publisher") == product.DEVELOPER)
    check("and its icon", wine.value(UNINSTALL, "DisplayIcon") == icon)
    remover = wine.windows_path(wine.home / "uninstall.exe")
    check("and how it is removed", wine.value(UNINSTALL, "UninstallString") == f'"{remover}"')
    check("also without questions", wine.value(UNINSTALL, "QuietUninstallString") == f'"{remover}" /S')
    size = int(wine.value(UNINSTALL, "EstimatedSize") or "0", 16)
    check(f"and its size, {size} KiB", abs(size - sum(map(len, wanted.values())) // 1024) < 64)


def check_gone(wine: Wine) -> None:
    check("no file is left", not wine.home.exists())
    check("no link is left in the Start menu", not wine.link.exists())
    keys = [rf"{CLASSES}\{product.SUFFIX}", rf"{CLASSES}\{product.ID}", UNINSTALL, rf"HKCU\Software\{product.NAME}"]
    keys += [rf"{APP_PATHS}\{name}" for name in installer.PROGRAMS]
    check("no key is left in the registry", not any(wine.has_key(key) for key in keys))


def check_double_click(wine: Wine) -> None:
    """With the command of the registry: wine (8) looks for types of files in the machine's half of it only."""
    session = "C:\\my session.attnscope"
    command = wine.value(rf"{CLASSES}\{product.ID}\shell\open\command") or ""
    program, argument = (word for word in command.split('"') if word.strip())
    wine.run(program, argument.replace("%1", session))
    wine.wait()
    text = (wine.drive / "started.txt").read_text(encoding="utf-8")
    check(f"a double-click opens the program with the file: {text}", text == f"[{session}]")


def check_refuses_while_running(wine: Wine, setup: Path) -> None:
    (wine.drive / "started.txt").unlink()
    program = wine.start(wine.home / installer.PROGRAMS[0], "wait")
    until = time.monotonic() + 30
    while not (wine.drive / "started.txt").exists() and time.monotonic() < until:
        time.sleep(0.1)
    before = tree(wine.home)
    check("while the program runs, setup ends with code 2", wine.run(setup, "/S").returncode == 2)
    home = wine.windows_path(wine.home)
    check("so does the uninstaller", wine.run(wine.home / "uninstall.exe", "/S", f"_?={home}").returncode == 2)
    check("and nothing has changed", tree(wine.home) == before and wine.link.exists())
    (wine.drive / "go.txt").touch()
    program.wait(timeout=30)
    wine.wait()


def run(folder: Path) -> None:
    old = write_payload(
        folder / "old", {"_internal/data.txt": "1", "_internal/only before/x.txt": "1", "_internal/größe $0.txt": "1"}
    )
    new = write_payload(folder / "new", {"_internal/data.txt": "2", "_internal/only after/y.txt": "2"})
    first, second = folder / "first-setup.exe", folder / "second-setup.exe"
    installer.make(old, first, "0.0.1")
    installer.make(new, second, "0.0.2")
    wine = Wine(folder / "prefix")

    wine.become("win7")
    check("on Windows 7 setup ends with code 1", wine.run(first, "/S").returncode == 1)
    check("and installs nothing", not wine.home.exists() and not wine.has_key(UNINSTALL))
    wine.become("win10")
    check("setup /S ends with code 0", wine.run(first, "/S").returncode == 0)
    check_installed(wine, old, "0.0.1")
    check_double_click(wine)
    check_refuses_while_running(wine, second)

    own = wine.home / "_internal" / "only before" / "of the person.txt"
    own.write_text("mine", encoding="utf-8")
    check("the newer setup /S ends with code 0", wine.run(second, "/S").returncode == 0)
    wine.wait()
    check_installed(wine, new, "0.0.2")
    check("what only the older version had is gone", "_internal/only before/x.txt" not in tree(wine.home))
    check("what the person put there is not", own.read_text(encoding="utf-8") == "mine")
    shutil.rmtree(own.parent)

    wine.data.mkdir()
    (wine.data / "results.sqlite").touch()
    check("uninstall /S ends with code 0", wine.run(wine.home / "uninstall.exe", "/S").returncode == 0)
    wine.wait()
    check_gone(wine)
    check("results and settings stay", (wine.data / "results.sqlite").exists())

    check("setup /S into a folder of one's own ends with code 0", wine.run(first, "/S", "/D=C:\\Mine\\Own").returncode == 0)
    elsewhere = wine.drive / "Mine" / "Own"
    check("the program lies there", (elsewhere / installer.PROGRAMS[0]).is_file() and not wine.home.exists())
    check("uninstall /S /PURGE ends with code 0", wine.run(elsewhere / "uninstall.exe", "/S", "/PURGE").returncode == 0)
    wine.wait()
    check_gone(wine)
    check("nor is anything left there, nor results and settings", not elsewhere.exists() and not wine.data.exists())


def main() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
    print(f"all passed in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
