"""What holds for tests of whole processes."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unobserved_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are killed or timed run as they do for a person: collecting coverage would slow their start and their end."""
    if "command_line" not in request.node.nodeid:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
