"""Of adding and removing: resumed after a cut, never another file, whole or not there, one program at a time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attnscope_engine.addons import AddonCancelled, AddonError, changing, lock
from attnscope_engine.addons.changing import Progress, add, locked, remove
from attnscope_engine.addons.fetching import fetch, trusting
from attnscope_engine.addons.folder import PARTS, installed
from attnscope_engine.addons.unpacking import place
from wheel_server import TARGET, WheelServer, entry, wheel_bytes, write_lock

FAST = 0.001
"""Before a second try."""
BIG = wheel_bytes("toybig", "1.0", {"toybig/__init__.py": b"answer = 42\n"}, size=600_000)
SMALL = wheel_bytes("toysmall", "2.0", {"toysmall.py": b"small = True\n", "toysmall-2.0.data/scripts/run": b"#!no"})
BIG_FILE = "toybig-1.0-py3-none-any.whl"


@pytest.fixture
def server() -> Iterator[WheelServer]:
    with WheelServer() as serving:
        serving.served.files = {BIG_FILE: BIG, "toysmall-2.0-py3-none-any.whl": SMALL}
        yield serving


@pytest.fixture
def root(server: WheelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of add-ons, of which `torch` is made of the two toys."""
    use_lock(tmp_path, monkeypatch, server.address)
    yield tmp_path / "addons"
    lock._all.cache_clear()


def use_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, **changes: str) -> Path:
    big, small = entry("toybig", "1.0", BIG, address), entry("toysmall", "2.0", SMALL, address)
    path = write_lock(tmp_path / "lock.json", {"torch": [{**big, **changes}, small]})
    monkeypatch.setattr(lock, "LOCK", path)
    lock._all.cache_clear()
    return path


def put(root: Path, **options: object):
    return add("torch", root=root, target=TARGET, first_wait_s=FAST, **options)


def left_over(root: Path) -> set[str]:
    """What lies in the folder of add-ons and its parts, but for the lock."""
    parts = {f"{PARTS}/{path.name}" for path in (root / PARTS).iterdir()} if (root / PARTS).exists() else set()
    return {path.name for path in root.iterdir()} - {".lock", PARTS} | parts


def test_that_an_addon_is_fetched_checked_and_unpacked_without_scripts(root):
    shown: list[Progress] = []
    made = put(root, show=shown.append)
    assert (root / "torch/toybig/__init__.py").read_bytes() == b"answer = 42\n"
    assert (root / "torch/toysmall.py").is_file()
    assert (root / "torch/toybig-1.0.dist-info/METADATA").is_file()
    assert not list((root / "torch").rglob("run"))
    assert installed(root) == {"torch": made}
    assert made.packages == ("toybig 1.0", "toysmall 2.0")
    assert left_over(root) == {"torch"}
    fetching = [progress for progress in shown if progress.doing == "fetching"]
    assert fetching[-1].done == fetching[-1].total == len(BIG) + len(SMALL)
    assert [progress.done for progress in fetching] == sorted(progress.done for progress in fetching)


def test_that_a_cut_connection_is_gone_on_with_where_it_stopped(root, server):
    server.served.cut_after = [200_000, 150_000]
    put(root)
    assert server.served.asked[:3] == ["", "bytes=200000-", "bytes=350000-"]
    assert (root / "torch/toybig/__init__.py").is_file()


def test_that_a_server_without_ranges_is_taken_from_the_beginning(root, server):
    server.served.cut_after, server.served.ranges = [200_000], False
    put(root)
    filler = (root / "torch/toybig/filler.bin").read_bytes()
    assert filler == hashlib.shake_256(b"toybig").digest(600_000)


def test_that_a_part_longer_than_its_file_is_refused_once_and_then_begun_anew(root, server):
    (root / PARTS).mkdir(parents=True)
    (root / PARTS / f"{BIG_FILE}.part").write_bytes(b"x" * (len(BIG) + 10))
    with pytest.raises(AddonError, match="another file, and was deleted"):
        put(root)
    put(root)
    assert "torch" in installed(root)


def test_that_a_server_which_stays_away_is_given_up_and_the_part_kept(root, server):
    server.served.cut_after = [200_000, 0, 0, 0, 0, 0]
    with pytest.raises(AddonError, match=r"127\.0\.0\.1:\d+ can not be reached .*What is fetched is kept"):
        put(root)
    assert left_over(root) == {f"{PARTS}/{BIG_FILE}.part"}
    server.served.asked.clear()
    put(root)
    assert server.served.asked[0] == "bytes=200000-"


def test_that_a_busy_server_is_asked_again_and_a_missing_file_is_not(root, server):
    server.served.codes = [503, 502]
    put(root)
    assert "torch" in installed(root)
    remove_toy(root)
    server.served.files.clear()
    server.served.asked.clear()
    with pytest.raises(AddonError, match="answers 404"):
        put(root)
    assert len(server.served.asked) == 1


def remove_toy(root: Path) -> bool:
    return remove("torch", root=root)


def test_that_a_file_with_another_sha_is_refused_before_anything_is_unpacked(root, server):
    server.served.files[BIG_FILE] = BIG[:-1] + bytes([BIG[-1] ^ 1])
    with pytest.raises(AddonError, match="another file, and was deleted"):
        put(root)
    assert left_over(root) == set()
    assert installed(root) == {}


def test_that_cancel_keeps_what_is_fetched_and_the_next_goes_on(root, server):
    seen: list[int] = []
    with pytest.raises(AddonCancelled):
        put(root, show=lambda progress: seen.append(progress.done), cancelled=lambda: bool(seen) and seen[-1] > 250_000)
    part = (root / PARTS / f"{BIG_FILE}.part").stat().st_size
    assert 250_000 < part < len(BIG)
    server.served.asked.clear()
    put(root)
    assert server.served.asked[0] == f"bytes={part}-"


def test_that_cancel_while_unpacking_leaves_no_addon(root):
    unpacking = threading.Event()

    def show(progress: Progress) -> None:
        if progress.doing == "unpacking":
            unpacking.set()

    with pytest.raises(AddonCancelled):
        put(root, show=show, cancelled=unpacking.is_set)
    assert installed(root) == {}
    assert {name.partition("/")[0] for name in left_over(root)} == {PARTS}


@pytest.mark.parametrize("member", ["../evil.py", "/evil.py", "a/../../evil.py", "C:/evil.py", "a\\..\\evil.py", "..\\evil.py"])
def test_that_a_member_which_would_leave_the_folder_is_refused(member):
    with pytest.raises(AddonError, match="would leave its folder"):
        place(member)


def test_that_a_wheel_with_such_a_member_leaves_nothing(root, server, tmp_path, monkeypatch):
    evil = wheel_bytes("toybig", "1.0", {"good.py": b"", "../../evil.py": b"evil"})
    server.served.files[BIG_FILE] = evil
    use_lock(tmp_path, monkeypatch, server.address, sha256=hashlib.sha256(evil).hexdigest(), bytes=len(evil))
    with pytest.raises(AddonError, match="would leave its folder"):
        put(root)
    assert installed(root) == {}
    assert not list(tmp_path.rglob("evil.py"))
    assert not list(tmp_path.rglob("good.py"))


def test_that_a_link_in_a_wheel_is_refused(root, server, tmp_path, monkeypatch):
    path = tmp_path / "link.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("toybig/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc")
    evil = path.read_bytes()
    server.served.files[BIG_FILE] = evil
    use_lock(tmp_path, monkeypatch, server.address, sha256=hashlib.sha256(evil).hexdigest(), bytes=len(evil))
    with pytest.raises(AddonError, match="holds a link"):
        put(root)
    assert installed(root) == {}


def test_that_two_programs_do_not_change_addons_at_once(root):
    script = "import sys\nfrom pathlib import Path\nfrom attnscope_engine.addons.changing import locked\n"
    script += "with locked(Path(sys.argv[1])):\n    print('has it', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(AddonError, match="Another Attnscope is changing add-ons"):
            put(root)
        with pytest.raises(AddonError, match="Another Attnscope"):
            remove_toy(root)
        other.kill()
    put(root)  # the system has taken the lock from the dead


CHILD = Path(__file__).parents[1] / "support" / "addon_child.py"


def child(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    command = [sys.executable, str(CHILD), str(tmp_path / "lock.json"), *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def lines(process: subprocess.Popen[str]) -> Iterator[dict]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


@pytest.mark.skipif(sys.platform != "linux", reason="XDG folders, signals")
@pytest.mark.parametrize("how", ["killed", "its input ends"])
def test_that_a_child_that_is_ended_in_the_middle_leaves_no_addon_and_its_parts(server, root, tmp_path, how):
    place = tmp_path / "data/attnscope/addons"
    server.served.hold = threading.Event()
    with child(tmp_path, "add", "torch") as process:
        assert next(lines(process))["progress"]["doing"] == "fetching"
        if how == "killed":
            process.send_signal(signal.SIGKILL)
        else:
            assert process.stdin is not None
            process.stdin.close()
            server.served.hold.set()  # a block comes, and with it the look at what is wanted
        process.wait(20)
    assert installed(place) == {}
    assert (place / PARTS / f"{BIG_FILE}.part").stat().st_size > 0
    server.served.hold = None
    with child(tmp_path, "add", "torch") as process:
        assert list(lines(process))[-1] == {"ended": "done"}
    assert server.served.asked[1].startswith("bytes=")
    assert list(installed(place)) == ["torch"]


@pytest.mark.parametrize("moment", ["before the manifest", "before the last step"])
def test_that_a_kill_while_unpacking_leaves_no_addon_and_is_swept_later(root, monkeypatch, moment):
    class KilledError(BaseException):
        """Stands for a kill: nothing of the program runs after it."""

    def killed(*_: object) -> None:
        raise KilledError

    target = "os.sync" if moment == "before the last step" else "msgspec.json.encode"
    with monkeypatch.context() as patch:
        patch.setattr(target, killed)
        patch.setattr(changing, "delete", lambda _: None)
        with pytest.raises(KilledError):
            put(root)
    assert installed(root) == {}
    assert [name for name in left_over(root) if name.startswith(".fresh-")]
    put(root)
    assert left_over(root) == {"torch"}


def test_that_a_folder_without_manifest_is_no_addon_and_is_swept(root):
    put(root)
    (root / "torch/addon.json").unlink()
    assert installed(root) == {}
    changing.tidy(root)
    assert left_over(root) == set()


def test_that_files_of_a_folder_are_taken_without_any_network(root, server, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    for file, data in server.served.files.items():
        (given / file).write_bytes(data)
    put(root, source=given)
    assert server.served.asked == []
    assert "torch" in installed(root)
    assert {path.name for path in given.iterdir()} == set(server.served.files)


def test_that_missing_and_wrong_files_of_a_folder_are_named(root, server, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    with pytest.raises(AddonError, match=rf"2 of 2 files are not in .*{BIG_FILE}"):
        put(root, source=given)
    (given / BIG_FILE).write_bytes(b"no")
    (given / "toysmall-2.0-py3-none-any.whl").write_bytes(SMALL)
    with pytest.raises(AddonError, match=rf"{BIG_FILE} has SHA-256 .* another file, and is not used"):
        put(root, source=given)
    assert server.served.asked == []


def test_that_a_file_of_unknown_sha_is_never_fetched_and_given_ones_must_say_what_they_are(root, server, tmp_path, monkeypatch):
    use_lock(tmp_path, monkeypatch, server.address, sha256="")
    with pytest.raises(AddonError, match="is not fetched: its check sum is not known"):
        put(root)
    assert server.served.asked == []
    given = tmp_path / "given"
    given.mkdir()
    (given / "toysmall-2.0-py3-none-any.whl").write_bytes(SMALL)
    (given / BIG_FILE).write_bytes(wheel_bytes("toybig", "1.1", {}))
    with pytest.raises(AddonError, match=r"holds toybig 1\.1, not toybig 1\.0"):
        put(root, source=given)
    (given / BIG_FILE).write_bytes(BIG)
    put(root, source=given)
    assert "torch" in installed(root)


def test_that_a_full_disk_is_told_before_anything_is_fetched(root, server, monkeypatch):
    monkeypatch.setattr(changing.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(AddonError, match=r"needs about 3 MB of disk, .* has 1 MB free"):
        put(root)
    assert server.served.asked == []


def test_that_an_addon_that_is_there_is_not_fetched_again_and_another_version_is_replaced(root, server, tmp_path, monkeypatch):
    put(root)
    server.served.asked.clear()
    put(root)
    assert server.served.asked == []
    newer = wheel_bytes("toybig", "1.1", {"toybig/__init__.py": b"answer = 43\n"})
    newer_entry = entry("toybig", "1.1", newer, server.address)
    server.served.files[str(newer_entry["file"])] = newer
    use_lock(tmp_path, monkeypatch, server.address, **newer_entry)
    made = put(root)
    assert made.packages[0] == "toybig 1.1"
    assert (root / "torch/toybig/__init__.py").read_bytes() == b"answer = 43\n"
    assert not (root / "torch/toybig/filler.bin").exists()
    assert left_over(root) == {"torch"}


def test_that_removal_leaves_nothing_and_says_whether_it_was_there(root, monkeypatch):
    monkeypatch.setattr(changing, "this_target", lambda: TARGET)
    put(root)
    (root / PARTS / f"{BIG_FILE}.part").write_bytes(b"x")
    assert remove_toy(root)
    assert left_over(root) == set()
    assert not remove_toy(root)


def test_that_what_a_program_holds_open_is_out_of_use_at_once_and_deleted_later(root, monkeypatch):
    """On Windows a folder with a loaded library can not be renamed."""

    def held(_: Path) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(changing, "this_target", lambda: TARGET)
    put(root)
    with monkeypatch.context() as patch:
        patch.setattr(changing, "_away", held)
        assert remove_toy(root)
    assert installed(root) == {}
    changing.tidy(root)
    assert left_over(root) == set()


def test_that_a_refusal_of_the_system_is_a_sentence(root, tmp_path):
    (tmp_path / "addons").write_text("a file is in the way")
    with pytest.raises(AddonError, match="Nothing was changed"):
        put(root)


def test_that_waiting_for_a_second_try_can_be_cancelled(root, server):
    server.served.codes = [503] * 9
    began = time.monotonic()
    calls: list[int] = []

    def cancelled() -> bool:
        calls.append(1)
        return len(calls) > 2

    wheel = lock.find("torch", TARGET).wheels[0]
    (root / PARTS).mkdir(parents=True)
    with pytest.raises(AddonCancelled):
        fetch(wheel, root / PARTS, lambda _: None, cancelled, first_wait_s=60)
    assert time.monotonic() - began < 30


def test_that_the_lock_file_is_given_back(root):
    for _ in range(2):
        with locked(root):
            pass


AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBcjCCARmgAwIBAgIUJut/bSVCboixOclmHbjMc8T7mUAwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDdG95MCAXDTI2MTEyNDIzMDU1MVoYDzIxMjYxMDMxMjMwNTUx
WjAOMQwwCgYDVQQDDAN0b3kwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASG7Hy9
P9aHZRsKKMmsspHr2tRFeixFGFEYhiRXFRP+6+CMGHhsyzj7JtLnHPf9Tg6HIfY7
xfL/JPFlIEsoHa4Do1MwUTAdBgNVHQ4EFgQUMPqA9dMNxNBZzJ240uOm5a7vDWQw
HwYDVR0jBBgwFoAUMPqA9dMNxNBZzJ240uOm5a7vDWQwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNHADBEAiBGTrEPCZqTOW/9ep1qlMPMMNkboO2gt+GBMMlO
Ra6PmwIgCPypg/25a/GYkHlbYZXolXL4BN2P7FNnqlU0GU8CJpQ=
-----END CERTIFICATE-----
"""


def test_that_whom_the_system_trusts_is_found_where_other_systems_keep_it(tmp_path, monkeypatch):
    """A frozen program's OpenSSL looks only where the system keeps it that it was made on."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    place = tmp_path / "ca-bundle.crt"
    place.write_text(AUTHORITY)
    assert trusting((str(tmp_path / "neither"),)).cert_store_stats()["x509_ca"] == 0
    assert trusting((str(tmp_path / "neither"), str(place))).cert_store_stats()["x509_ca"] == 1


def test_that_a_place_that_openssl_knows_is_kept_to(tmp_path, monkeypatch):
    known, other = tmp_path / "known.pem", tmp_path / "other.pem"
    known.write_text(AUTHORITY)
    other.write_text("no certificate: reading it would raise")
    monkeypatch.setenv("SSL_CERT_FILE", str(known))
    assert trusting((str(other), "")).cert_store_stats()["x509_ca"] == 1
