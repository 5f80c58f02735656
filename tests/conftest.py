"""What holds for every test: no display, folders of its own, nothing left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, preferences, logs and caches of a test are its own; the model that this machine has stays visible."""
    from attnscope_engine.model.location import VARIABLE, find_model

    model = find_model()
    if model is not None and VARIABLE not in os.environ:
        monkeypatch.setenv(VARIABLE, str(model))
    folder: Path = tmp_path_factory.mktemp("home")
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder / name))


@pytest.fixture(autouse=True)
def undressed_application() -> Iterator[None]:
    """A theme's style sheet names files that go with the theme: the next test begins without."""
    yield
    widgets = sys.modules.get("PySide6.QtWidgets")
    app = widgets.QApplication.instance() if widgets else None
    if app is not None and app.styleSheet():
        app.setStyleSheet("")
