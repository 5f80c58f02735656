"""Opening and saving: what opens, and what is said when it does not; nothing is changed by a file that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from attnscope.documents import Documents
from attnscope.state import Live, Settings
from attnscope.store import Store
from attnscope_engine.protocol import Choice, DeviceFacts, FileSource, Measured, TextSource, Workload

DEVICE = DeviceFacts("cpu", "cpu", "Test processor", 8 << 30)


@pytest.fixture
def store(qapp: object) -> Store:
    return Store(Settings(), Live(device=DEVICE))


@pytest.fixture
def opened() -> list[str]:
    return []


@pytest.fixture
def documents(store: Store, opened: list[str]) -> Documents:
    return Documents(store, opened.append)


def said(store: Store) -> str:
    return " ".join(notice.text for notice in store.state.live.notices)


def test_that_a_session_comes_back_as_it_was_saved(documents: Documents, store: Store, opened: list[str], tmp_path: Path) -> None:
    workload = Workload(seq_len=512, layers=1, dtype="fp32")
    row = Measured(workload, Choice("softmax_tiled"), "cpu", 0.1, 0.1, 0.1, 5, 1 << 20, 1.0)
    store.update_live(measurements={"key": row})
    store.update(seq_len=2048, page="memory")
    assert documents.save(tmp_path / "run")
    path = tmp_path / "run.attnscope"
    assert opened == [str(path)]
    store.update(seq_len=64, page="map")
    store.update_live(measurements={})
    assert documents.open(path)
    assert store.state.settings.workload.seq_len == 2048
    assert store.state.settings.page == "memory"
    assert row in store.state.live.measurements.values()
    assert store.state.live.session_path == str(path)


def test_that_opening_can_be_undone(documents: Documents, store: Store, tmp_path: Path) -> None:
    store.update(seq_len=2048)
    documents.save(tmp_path / "a.attnscope")
    store.update(seq_len=128)
    documents.open(tmp_path / "a.attnscope")
    store.undo()
    assert store.state.settings.workload.seq_len == 128


def test_that_a_text_becomes_the_source(documents: Documents, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader", encoding="utf-8")
    store.update(row=3)
    assert documents.open(path)
    assert store.state.settings.source == TextSource("Dear reader")
    assert store.state.settings.row == -1


def test_that_q_and_k_become_the_source(documents: Documents, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "qk.npz"
    path.write_bytes(b"PK")
    assert documents.open(path)
    assert store.state.settings.source == FileSource(str(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"\xff\xfe\xfa", "not UTF-8"),
        ("a.txt", b"  \n", "empty"),
        ("a.attnscope", b"{", "a.attnscope"),
        ("a.attnscope", b'{"format": "attnscope-session", "version": 99}', "version"),
        ("a.txt", None, "no such file"),
        ("a.attnscope", None, "no such file"),
    ],
)
def test_that_a_refused_file_is_one_sentence_and_changes_nothing(
    documents: Documents, store: Store, opened: list[str], tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    before = store.state.settings
    assert not documents.open(path)
    assert words in said(store)
    assert store.state.settings is before
    assert opened == []


def test_that_a_failed_save_says_so_and_offers_another_place(documents: Documents, store: Store, tmp_path: Path) -> None:
    assert not documents.save(tmp_path / "missing" / "a.attnscope")
    (notice,) = store.state.live.notices
    assert "a.attnscope" in notice.text
    assert notice.actions == (("Save elsewhere", "save_session_as"),)
    assert store.state.live.session_path == ""


def test_that_a_session_never_reads_a_file_unasked(documents: Documents, store: Store, tmp_path: Path) -> None:
    store.update(source=FileSource("/etc/passwd"))
    documents.save(tmp_path / "a.attnscope")
    documents.new()
    documents.open(tmp_path / "a.attnscope")
    assert not isinstance(store.state.settings.source, FileSource)
    (notice,) = store.state.live.notices
    assert notice.actions == (("Read it", "read_file:/etc/passwd"),)


def test_that_new_starts_over(documents: Documents, store: Store) -> None:
    store.update(seq_len=128)
    documents.new()
    assert store.state.settings == Settings()
