"""Of the results file: written once, found again, and never the reason that a window does not open."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from app_states import key_of, measured
from attnscope.results import SCHEMA, Results
from attnscope_engine import protocol as p

POINTS = [measured("linear", n, taken_at=float(n)) for n in (64, 128, 256)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "results.sqlite3"


def test_that_what_was_kept_is_there_at_the_next_start(path):
    with Results(path) as results:
        for point in POINTS:
            results.add(point)
        assert results.problem == ""
    with Results(path) as results:
        assert results.load("fake") == {key_of(point): point for point in POINTS}
        assert results.all_points() == POINTS


def test_that_a_point_written_twice_is_one(path):
    with Results(path) as first, Results(path) as second:
        for results in (first, second, first):
            results.add(POINTS[0])
        assert first.all_points() == second.all_points() == [POINTS[0]]


def test_that_the_newest_of_a_key_is_shown_and_the_older_kept(path):
    old, new = measured("linear", 64, 1e-3, taken_at=5.0), measured("linear", 64, 2e-3, taken_at=9.0)
    with Results(path) as results:
        results.add(new)
        results.add(old)
        assert results.load("fake") == {key_of(new): new}
        assert len(results.all_points()) == 2


def test_that_devices_do_not_see_each_others_points(path):
    with Results(path) as results:
        results.add(measured(device="a"))
        assert results.load("b") == {}


def test_that_the_last_ceilings_of_a_device_replace_its_earlier_ones(path):
    with Results(path) as results:
        for speed in (1.0, 2.0):
            results.add_ceilings(p.Ceilings("fake", {"fp32": speed}, 1.0, 1.0, 1.0, speed))
    with Results(path) as results:
        assert results.ceilings("fake").flops_per_s == {"fp32": 2.0}
        assert results.ceilings("other") is None


def test_that_a_window_killed_outright_has_lost_nothing(path):
    script = """
        import os, sys
        from pathlib import Path
        sys.path[:0] = %r
        from attnscope.results import Results
        from app_states import measured
        results = Results(Path(sys.argv[1]))
        for n in range(64, 164):
            results.add(measured("linear", n, taken_at=float(n)))
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script) % sys.path, str(path)], check=False)
    assert done.returncode == -9
    with Results(path) as results:
        assert len(results.load("fake")) == 100


def test_that_a_damaged_file_is_kept_aside_and_a_new_one_begun(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 500)
    with Results(path) as results:
        assert results.problem == "results.sqlite3 was damaged. It is kept as results.sqlite3.damaged-1, and a new one was begun."
        results.add(POINTS[0])
    assert path.with_name("results.sqlite3.damaged-1").read_bytes().startswith(b"not a database")
    with Results(path) as results:
        assert results.load("fake") == {key_of(POINTS[0]): POINTS[0]}


def test_that_a_file_damaged_in_the_middle_is_seen(path):
    with Results(path) as results:
        for n in range(64, 1064):
            results.add(measured("linear", n, taken_at=float(n)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = os.urandom(8192)
    path.write_bytes(bytes(data))
    with Results(path) as results:
        assert "was damaged" in results.problem


def test_that_a_locked_file_is_written_as_soon_as_it_is_free(path):
    with Results(path) as results:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        results.add(POINTS[0])
        assert "could not be written (database is locked)" in results.problem
        assert results.load("fake") == {key_of(POINTS[0]): POINTS[0]}
        other.rollback()
        other.close()
        results.add(POINTS[1])
        assert results.problem == ""
    with Results(path) as results:
        assert results.all_points() == POINTS[:2]


def test_that_closing_writes_what_a_lock_had_held_up(path):
    results = Results(path)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    results.add(POINTS[0])
    other.rollback()
    other.close()
    results.close()
    with Results(path) as results:
        assert results.all_points() == POINTS[:1]


def test_that_a_file_of_a_newer_release_is_left_alone(path):
    with Results(path) as results:
        results.add(POINTS[0])
    file = sqlite3.connect(path)
    file.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    file.commit()
    file.close()
    before = path.read_bytes()
    with Results(path) as results:
        assert "newer release" in results.problem
        results.add(POINTS[1])
        assert results.load("fake") == {key_of(POINTS[1]): POINTS[1]}
    assert path.read_bytes() == before


def test_that_a_row_that_this_release_can_not_read_hides_only_itself(path):
    with Results(path) as results:
        results.add(POINTS[0])
    file = sqlite3.connect(path)
    file.execute("INSERT INTO measured VALUES ('x', 'fake', 99.0, '{\"from\": \"the future\"}')")
    file.commit()
    file.close()
    with Results(path) as results:
        assert results.load("fake") == {key_of(POINTS[0]): POINTS[0]}


def test_that_a_folder_in_place_of_the_file_is_a_sentence(path):
    path.mkdir(parents=True)
    with Results(path) as results:
        assert "can not be written" in results.problem
        results.add(POINTS[0])
        assert len(results.load("fake")) == 1


def as_nobody(path, script):
    """Run as a user who may not write there, since a test run by root may write anywhere."""
    code = "import os, sys\nfrom pathlib import Path\n" + f"sys.path[:0] = {sys.path!r}\n"
    code += "import msgspec, attnscope.results, app_states\napp_states.measured()\n"
    code += "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n" + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of another kind")
def test_that_a_file_that_may_only_be_read_is_read(tmp_path):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        path = Path(folder) / "results.sqlite3"
        with Results(path) as results:
            results.add(POINTS[0])
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        script = """
            results = attnscope.results.Results(Path(sys.argv[1]))
            results.add(app_states.measured("linear", 512))
            print(len(results.load("fake")), results.problem)
        """
        done = as_nobody(path, script)
        Path(folder).chmod(0o755)
    assert done.stdout.startswith("2 results.sqlite3 can not be written ("), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_that_a_full_disk_loses_nothing_of_what_was_written_and_says_so(path):
    with Results(path) as results:
        results.add(POINTS[0])
    script = """
        import resource, signal, sys
        from pathlib import Path
        sys.path[:0] = %r
        from attnscope.results import Results
        from app_states import measured
        results = Results(Path(sys.argv[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (%d, %d))
        for n in range(1000, 1400):
            results.add(measured("linear", n, taken_at=float(n)))
        print(len(results.load("fake")))
        print(results.problem)
    """
    limit = path.stat().st_size + 40_000
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script) % (sys.path, limit, limit), str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    count, problem = done.stdout.splitlines()
    assert int(count) == 401
    assert problem.startswith("results.sqlite3 could not be written (")
    with Results(path) as results:
        kept = results.all_points()
        assert results.problem == ""
    assert POINTS[0] in kept
    assert 1 < len(kept) < 401
