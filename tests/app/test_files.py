"""Of files: the old one or the new one, whole, and nothing left beside it."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from attnscope import files
from attnscope.files import (
    atomic_write,
    config_folder,
    data_folder,
    megabytes,
    move_aside,
    read_limited,
    save_failure,
    state_folder,
)


def test_that_a_file_is_replaced_whole_and_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(0o600)
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_that_a_link_stays_a_link_to_the_replaced_file(tmp_path):
    target, link = tmp_path / "real.json", tmp_path / "link.json"
    target.write_bytes(b"old")
    link.symlink_to(target)
    atomic_write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["write", "flush", "fsync", "chmod", "replace"])
def test_that_whatever_call_fails_the_old_file_is_untouched(tmp_path, monkeypatch, call):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail(*_args, **_keywords):
        raise OSError(errno.EIO, "Input/output error")

    if call == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    elif call in ("chmod", "replace"):
        monkeypatch.setattr(Path, call, fail)
    else:
        real = os.fdopen

        def fdopen(*args):
            file = real(*args)
            return FailingFile(file, call, fail)

        monkeypatch.setattr(files.os, "fdopen", fdopen)
    with pytest.raises(OSError, match="Input/output"):
        atomic_write(path, b"new" * 1000)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


class FailingFile:
    def __init__(self, file, call, fail):
        self._file = file
        setattr(self, call, fail)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def limited(path: Path, limit: int, data: int) -> str:
    """Save in a child whose files may not grow past `limit` bytes: what a full disk looks like to a program."""
    code = f"""
        import resource, signal, sys
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from attnscope.files import atomic_write, save_failure
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        path = Path(sys.argv[1])
        try:
            atomic_write(path, b"x" * {data})
            print("saved")
        except OSError as error:
            print(save_failure(path, error, {data}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=False, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
@pytest.mark.parametrize("limit", [0, 1, 4096, 999_999])
def test_that_a_full_disk_leaves_the_old_file_and_says_how_much_is_needed(tmp_path, limit):
    path = tmp_path / "run.attnscope"
    path.write_bytes(b"old")
    said = limited(path, limit, 1_000_000)
    assert said.startswith("Could not save run.attnscope: no space left (needs 1 MB, has ")
    assert said.endswith("Your previous file is untouched.")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.attnscope"]
    assert limited(path, 2_000_000, 1_000_000) == "saved"


def test_that_a_folder_that_is_gone_is_a_sentence(tmp_path):
    path = tmp_path / "gone" / "a.json"
    with pytest.raises(FileNotFoundError) as caught:
        atomic_write(path, b"new")
    assert save_failure(path, caught.value, 3) == "Could not save a.json: no such file or directory."


def test_that_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"x" * 2001)
    with pytest.raises(ValueError, match="big is 2 kB long; files up to 2 kB are read"):
        read_limited(path, 2000)
    assert read_limited(path, 2001) == b"x" * 2001


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_that_a_file_without_end_is_refused_too():
    with pytest.raises(ValueError, match="long; files up to"):
        read_limited(Path("/dev/zero"), 10_000)


def test_that_a_damaged_file_never_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "p.json"
    names = []
    for content in (b"1", b"2"):
        path.write_bytes(content)
        names.append(move_aside(path).name)
    assert names == ["p.json.damaged-1", "p.json.damaged-2"]
    assert (tmp_path / names[0]).read_bytes() == b"1"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (12_000_000, "12 MB"), (3e9, "3 GB")]
)
def test_that_sizes_are_decimal(size, text):
    assert megabytes(size) == text


def test_that_folders_are_the_systems_own():
    assert all("attnscope" in str(folder()) for folder in (data_folder, config_folder, state_folder))
