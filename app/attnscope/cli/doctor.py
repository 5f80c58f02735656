"""`attnscope doctor`: what this machine has of what Attnscope can use, and what to do about what is missing."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from attnscope import programs
from attnscope.build_facts import build_facts
from attnscope.files import data_folder

PROBE_LIMIT_S = 30


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor", help="examine GPU, driver, CUDA, NVRTC, Qt, versions; say what to do", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument(
        "--compile", metavar="ARCHS", default="", help="compile a kernel for these, such as sm_80,sm_90a; needs no such card"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 when everything that is needed is there, else 1."""
    checks = examine([arch for arch in arguments.compile.split(",") if arch])
    if arguments.json:
        print(json.dumps(checks, indent=1, ensure_ascii=False))
    else:
        width = max(len(str(check["name"])) for check in checks)
        for check in checks:
            mark = "ok " if check["ok"] else "NO " if check["needed"] else "–  "
            print(f"{mark} {check['name']:<{width}}  {check['text']}")
            if check["advice"] and not check["ok"]:
                print(f"    {'':<{width}}  {check['advice']}")
    return 0 if all(check["ok"] or not check["needed"] for check in checks) else 1


def examine(architectures: Sequence[str] = ()) -> list[dict[str, object]]:
    return [*product_checks(), *engine_checks(architectures), *qt_checks()]


def product_checks() -> list[dict[str, object]]:
    """Which Attnscope this is and where it keeps what it keeps."""
    facts = build_facts()
    build = finding("Attnscope", True, False, f"{facts.version}, {facts.build()}") | {"facts": asdict(facts)}
    return [build, finding("Data", True, False, str(data_folder()))]


def engine_checks(architectures: Sequence[str] = ()) -> list[dict[str, object]]:
    """The engine's own findings, from a process that may die of them."""
    command = programs.command("engine-doctor", *architectures)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            found: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
            return found
        why = (
            f"ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no message'}"
        )
    except subprocess.TimeoutExpired:
        why = "gave no answer in 120 s: the driver may hang, and a reboot then helps"
    return [finding("Engine", False, True, why, f"Run `{' '.join(command)}` to see all of its output.")]


def qt_checks() -> list[dict[str, object]]:
    """Whether a window can open: Qt aborts on a missing library, so a child tries."""
    display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or sys.platform in {"win32", "darwin"}
    environment = {**os.environ} if display else {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    if display and sys.platform.startswith("linux"):
        environment.setdefault("QT_QPA_PLATFORM", "wayland;xcb")
    command = programs.command("qt-probe")
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROBE_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return [finding("Qt", False, False, f"gave no answer in {PROBE_LIMIT_S} s")]
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return [finding("Qt", False, False, f"can not start: {lines[-1] if lines else done.returncode}", QT_ADVICE)]
    said = [finding("Qt", True, False, f"platform {done.stdout.strip()}")]
    if not display:
        said.append(
            finding(
                "Display",
                False,
                False,
                "none (neither DISPLAY nor WAYLAND_DISPLAY is set)",
                "The command line does the same job: attnscope report",
            )
        )
    return said


QT_ADVICE = (
    "On Debian or Ubuntu: apt-get install libgl1 libegl1 libfontconfig1 libxkbcommon0 libdbus-1-3 libglib2.0-0 libxcb-cursor0 "
    "libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libxcb-xkb1 libxkbcommon-x11-0"
)


def finding(name: str, ok: bool, needed: bool, text: str, advice: str = "") -> dict[str, object]:
    return {"name": name, "ok": ok, "needed": needed, "text": text, "advice": advice}
