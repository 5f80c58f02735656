"""Of the engine's log: the last lines in memory, the rest in a file that stays small."""

from attnscope.engine_log import MAX_FILE, MAX_LINES, EngineLog


def test_that_lines_cut_anywhere_are_put_together():
    log = EngineLog(None)
    for part in (b"Trace", b"back\nValueE", "rror: n > ∞".encode()[:-1], b"\n"):
        log.feed(part)
    assert log.text().startswith("Traceback\nValueError: n > ")
    assert log.last_words().startswith("ValueError")


def test_that_our_own_lines_are_not_its_last_words():
    log = EngineLog(None)
    log.feed(b"out of memory\n")
    log.note("engine: ready")
    assert log.last_words() == "out of memory"
    assert "engine: ready" in log.text()


def test_that_memory_and_file_stay_small(tmp_path):
    log = EngineLog(tmp_path / "logs" / "engine.log")
    for _ in range(3 * MAX_FILE // 1000):
        log.feed(b"x" * 999 + b"\n")
    log.feed(b"y" * 1_000_000)
    log.close()
    assert len(log.text().splitlines()) <= MAX_LINES + 1
    assert sum(file.stat().st_size for file in (tmp_path / "logs").iterdir()) < 2.2 * MAX_FILE


def test_that_a_log_that_can_not_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    log = EngineLog(tmp_path / "file" / "engine.log")
    log.feed(b"hello\n")
    assert log.text() == "hello"
    log.close()
