"""Of sessions: what is saved comes back, and what anybody wrote is refused with line, field, value and range, or taken."""

import contextlib
import os
import random
import time
import tracemalloc

import msgspec
import pytest
from app_states import measured, wild_settings
from attnscope.resolve import resolve
from attnscope.session import MAX_BYTES, SessionError, load_session, parse_session, save_session, to_bytes
from attnscope.state import SAMPLE_TEXT, Settings
from attnscope_engine import protocol as p
from hypothesis import given

PLAIN = to_bytes(Settings(), [measured("linear", 64), measured("chunked", 128)], "0.1.0")


def refused(data: bytes) -> str:
    with pytest.raises(SessionError) as caught:
        parse_session(data, "run.attnscope")
    return str(caught.value)


def with_(old: str, new: str) -> bytes:
    assert old.encode() in PLAIN
    return PLAIN.replace(old.encode(), new.encode(), 1)


def test_that_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "run.attnscope"
    settings = Settings(page="scaling", checked=("linear",), view=(1, 2, 3, 4))
    save_session(path, settings, [measured()], "0.1.0")
    session = load_session(path)
    assert session.settings == settings
    assert session.measurements == (measured(),)
    assert session.asks_for == ""


@given(wild_settings.map(resolve))
def test_that_any_settings_survive_saving(settings):
    session = parse_session(to_bytes(settings, [], ""))
    assert session.with_file() == settings


def test_that_opening_a_session_reads_no_file_that_it_names():
    session = parse_session(to_bytes(Settings(source=p.FileSource("//server/share/qk.npz")), [], ""))
    assert session.settings.source == p.TextSource(SAMPLE_TEXT)
    assert session.asks_for == "//server/share/qk.npz"
    assert session.with_file().source == p.FileSource("//server/share/qk.npz")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (with_("4096", "-5"), "run.attnscope line 8: settings.workload.seq_len must be 1 to 1,048,576 (was -5)."),
        (with_('"bf16"', '"fp8"'), 'run.attnscope line 13: settings.workload.dtype must be one of bf16, fp16, fp32 (was "fp8").'),
        (with_('"num_kv_heads": 3', '"num_kv_heads": 2'), "line 6: settings.workload: num_kv_heads must divide num_heads (9)"),
        (with_('"page": "map"', '"pages": "map"'), "run.attnscope line 5: settings has no field 'pages'."),
        (with_('"samples": 5', '"samples": "many"'), 'must be a whole number (was "many").'),
        (with_('"show_fit": false', '"show_fit": 0'), "settings.show_fit must be true or false (was 0)."),
        (with_('"version": 1', '"version": 2'), "was written by a newer release (version 2; this one reads up to 1)."),
        (with_("attnscope-session", "something-else"), "is not a session: its format is 'something-else'"),
        (b"", "run.attnscope is not complete JSON (Input data was truncated)."),
        (b"[1, 2]", "run.attnscope is not what it should be: Expected `object`, got `array`."),
        (PLAIN[: len(PLAIN) // 2], "run.attnscope is not complete JSON (Input data was truncated)."),
        (with_('"layer": -1,', '"layer": -1'), "not JSON (expected ',' or '}')."),
        (PLAIN.replace(b"CEO", b"\xff\xfe"), ": not UTF-8 text."),
        (with_('"time_s": 0.001', '"time_s": -1.0'), "run.attnscope measurements.0.time_s must be over 0 (was -1)."),
        (with_('"time_s": 0.001', '"time_s": NaN'), "not JSON"),
        (b"{" * 100_000, "not JSON"),
        (b"[" * 300_000, "holds more values than a file of ours does."),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"format": "attnscope-session", "version": 1, "extra": ' + b"[" * 100_000, "is nested too deeply."),
    ],
)  # fmt: skip
def test_that_a_wrong_session_is_refused_in_one_sentence(data, sentence):
    assert sentence in refused(data)


def test_that_the_line_is_that_of_the_value_and_not_of_its_twin():
    text = PLAIN.decode().replace('"head_dim": 64,', '"head_dim": 7,')  # all four of them; the settings' is met first
    assert "settings.workload.head_dim must be 8 to 512 (was 7)" in refused(text.encode())
    lines = text.splitlines()
    said = refused(text.encode())
    number = int(said.split("line ")[1].split(":")[0])
    assert lines[number - 1].strip() == '"head_dim": 7,'
    last = PLAIN.decode().rsplit('"head_dim": 64', 1)
    said = refused('"head_dim": 7'.join(last).encode())
    assert "measurements.1.workload.head_dim must be 8 to 512 (was 7)" in said
    number = int(said.split("line ")[1].split(":")[0])
    assert number == '"head_dim": 7'.join(last)[: len(last[0])].count("\n") + 1


def test_that_a_value_as_long_as_the_file_is_shortened():
    assert len(refused(with_("4096", "9" * 5000))) < 300
    assert len(refused(with_('"page": "map"', '"page": "' + "x" * 5000 + '"'))) < 300


def test_that_unreadable_and_oversized_files_are_sentences(tmp_path):
    with pytest.raises(SessionError, match=r"Could not open no\.attnscope: no such file or directory\."):
        load_session(tmp_path / "no.attnscope")
    with pytest.raises(SessionError, match=r"Could not open .*: is a directory"):
        load_session(tmp_path)
    big = tmp_path / "big.attnscope"
    with big.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SessionError, match=r"Could not open big\.attnscope is 16\.8 MB long; files up to 16\.8 MB are read"):
        load_session(big)


def test_that_saving_into_a_missing_folder_is_a_sentence(tmp_path):
    with pytest.raises(SessionError, match=r"Could not save run\.attnscope: no such file or directory\."):
        save_session(tmp_path / "gone" / "run.attnscope", Settings(), [], "")


BOMBS = {
    "empty objects in params": b'"params": {' + b",".join(b'"%d": {}' % i for i in range(200_000)) + b"}",
    "strings in checked": b'"checked": [' + b",".join(b'"%d"' % i for i in range(800_000)) + b"]",
    "a long text": b'"source": {"type": "text", "text": "' + b"x" * (15 << 20) + b'"}',
    "numbers in view": b'"view": [' + b"1," * (7 << 20) + b"1]",
    "provenance": b'"view": null}, "measurements": [' + b",".join([b"{}"] * 200_000) + b"]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_that_a_file_made_to_be_expensive_is_decided_quickly_and_small(name):
    data = b'{"format": "attnscope-session", "version": 1, "app": "", "settings": {' + BOMBS[name]
    data += b"}" if name == "provenance" else b"}}"
    assert len(data) <= MAX_BYTES
    tracemalloc.start()
    begin = time.process_time()
    with contextlib.suppress(SessionError):
        parse_session(data)
    seconds = time.process_time() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 128 << 20
    assert seconds < 25  # a quarter of a second without tracemalloc, on a quiet machine


ROUNDS = int(os.environ.get("ATTNSCOPE_FUZZ", "20000"))
TOKENS = [b"null", b"true", b"-1", b"1e999", b"9" * 400, b'"\\ud800"', b"{}", b"[]", b'""', b"0.5", b'"x"']
TOKENS += [b"\xff", b"\x00", b",", b":"]


def mutated(random_: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 5))):
        at = random_.randrange(len(out)) if out else 0
        match random_.randrange(6):
            case 0 if out:
                out[at] = random_.randrange(256)
            case 1:
                del out[at : at + random_.randrange(1, 60)]
            case 2:
                out[at:at] = random_.choice(TOKENS)
            case 3:
                end = at + random_.randrange(1, 200)
                out[at:at] = out[at:end]
            case 4:
                del out[at:]
            case 5:
                where = out.find(b": ", at)
                if where > 0:
                    end = min(index for index in (out.find(b",", where), out.find(b"\n", where), len(out)) if index > 0)
                    out[where + 2 : end] = random_.choice(TOKENS)
    return bytes(out)


@pytest.mark.timeout(900)
def test_that_no_mutated_session_does_more_than_be_refused():
    """Every outcome is a resolved session or one sentence; anything else is raised and fails."""
    random_ = random.Random(5)
    seeds = [PLAIN, msgspec.json.encode(msgspec.json.decode(PLAIN)), to_bytes(Settings(source=p.SyntheticSource()), [], "")]
    taken, sentences = 0, []
    for _ in range(ROUNDS):
        try:
            session = parse_session(mutated(random_, random_.choice(seeds)))
        except SessionError as error:
            sentences.append(str(error))
        else:
            taken += 1
            assert resolve(session.settings) == session.settings
    refused_ = len(sentences)
    assert all(len(sentence) < 1000 and "\n" not in sentence for sentence in sentences)
    print(f"{ROUNDS} mutated sessions: {taken} taken, {refused_} refused with a sentence, 0 else")
    assert taken
    assert refused_
