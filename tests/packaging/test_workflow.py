"""The workflow of the installers: what can be said of it without running it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import product
import yaml
from attnscope.cli.arguments import parser

FILE = product.ROOT / ".github" / "workflows" / "installers.yml"


def workflow() -> dict[Any, Any]:
    loaded = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def steps() -> list[dict[str, Any]]:
    return [step for job in workflow()["jobs"].values() for step in job["steps"]]


def test_that_it_runs_on_tags_and_by_hand_and_may_only_read() -> None:
    found = workflow()
    assert found[True] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}  # YAML 1.1 reads the key `on` as true
    assert found["permissions"] == {"contents": "read"}


def test_that_every_action_is_pinned_to_a_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", action) for action in used)


def test_that_jobs_wait_for_jobs_that_there_are() -> None:
    jobs = workflow()["jobs"]
    for job in jobs.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)


def test_that_every_script_that_it_starts_is_there() -> None:
    commands = "\n".join(step.get("run", "") for step in steps())
    named = set(re.findall(r"packaging/[\w/]+\.(?:py|sh|plist)", commands))
    assert {
        "packaging/bundle.py",
        "packaging/linux/package.py",
        "packaging/windows/installer.py",
        "packaging/macos/dmg.py",
    } <= named
    assert [name for name in sorted(named) if not (product.ROOT / name).is_file()] == []


def test_that_its_smoke_test_is_a_call_that_the_command_line_takes() -> None:
    words = shlex.split(workflow()["env"]["SMOKE"])
    told = parser().parse_args(["compare", *words])
    assert told.device == "cpu"
