"""Words of the command line: what is understood, and the sentence when it is not."""

from __future__ import annotations

import argparse
import json

import pytest
from attnscope.__main__ import main
from attnscope.cli import shape
from attnscope.cli.shape import UsageError
from attnscope.cli.terminal import ProgressBar, table
from attnscope_engine.protocol import Workload


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    shape.add_shape_options(parser)
    shape.add_variant_options(parser, shape.DEFAULT_VARIANTS)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "value"),
    [("65536", 65536), ("٦٤", 64), ("65,536", 65536), ("64k", 65536), ("2^16", 65536), ("1M", 1 << 20), (" 7 ", 7)],
)
def test_that_every_way_to_write_a_number_is_read(text: str, value: int) -> None:
    assert shape.number(text, "--n", 1, 1 << 20) == value


@pytest.mark.parametrize("text", ["", "x", "1.5", "-3", "2^", "2^99", "1e9", "9" * 40])
def test_that_a_bad_number_names_the_option_and_the_value(text: str) -> None:
    with pytest.raises(UsageError, match="--n must be"):
        shape.number(text, "--n", 1, 1 << 20)


def test_that_a_range_is_the_powers_of_two_and_its_end() -> None:
    assert shape.seq_lens("512:4k") == (512, 1024, 2048, 4096)
    assert shape.seq_lens("100:350") == (100, 200, 350)
    assert shape.seq_lens("2k,64,2048") == (64, 2048)
    assert shape.seq_lens("65,536") == (65536,)
    assert shape.seq_lens("1,024") == (1024,)
    assert shape.seq_lens("256,512") == (256, 512)
    with pytest.raises(UsageError, match="upwards"):
        shape.seq_lens("4096:512")
    with pytest.raises(UsageError, match="1 to 1,048,576"):
        shape.seq_lens("512:2M")


def test_that_the_shape_is_checked_as_a_whole() -> None:
    assert shape.workload_of(arguments("--heads", "8"), 512, "fp32") == Workload(1, 512, 8, 8, 64, 1, "fp32", True)
    assert not shape.workload_of(arguments("--full"), 512, "fp32").causal
    with pytest.raises(UsageError, match=r"--kv-heads must divide --heads \(8\)"):
        shape.workload_of(arguments("--heads", "8", "--kv-heads", "3"), 512, "fp32")


def test_that_the_dtype_is_one_that_the_device_has() -> None:
    assert shape.dtype_of(arguments(), "cuda", ("fp32", "bf16")) == "bf16"
    assert shape.dtype_of(arguments(), "cpu", ("fp32",)) == "fp32"
    with pytest.raises(UsageError, match="which has fp32"):
        shape.dtype_of(arguments("--dtype", "bf16"), "cpu", ("fp32",))
    with pytest.raises(UsageError, match="fp8"):
        shape.dtype_of(arguments("--dtype", "fp8"), "cpu", ("fp32",))


def test_that_parameters_reach_their_variant() -> None:
    chosen = shape.choices_of(arguments("--variants", "softmax_tiled,chunked", "--param", "chunked.chunk_size=8"))
    assert [choice.variant for choice in chosen] == ["softmax_tiled", "chunked"]
    assert chosen[1].params["chunk_size"] == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--variants", "nope"), "No variant named 'nope'"),
        (("--variants", ","), "empty"),
        (("--param", "chunked"), "must look like"),
        (("--variants", "linear", "--param", "chunked.chunk_size=8"), "not among"),
        (("--param", "chunked.chunk_size=0"), "chunk_size"),
        (("--param", "chunked.bogus=3"), "bogus"),
    ],
)
def test_that_a_wrong_variant_or_parameter_is_named(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shape.choices_of(arguments(*words))


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--seq-len", "banana"],
        ["compare", "--budget", "0"],
        ["compare", "--budget", "x"],
        ["compare", "--heads", "0"],
        ["map", "--out", "map.exe"],
        ["map", "--text", "  "],
        ["map", "--qk", "/nowhere/qk.npz"],
        ["report", "--nonsense"],
        ["bench", "nothing"],
        ["--nonsense"],
        ["one", "two"],
        ["/nowhere/file.attnscope"],
    ],
)
def test_that_a_wrong_option_is_one_sentence_and_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("attnscope: ")
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error


def test_that_without_a_display_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main([]) == 3
    assert "attnscope report" in capsys.readouterr().err


def test_that_variants_are_listed_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variants"]) == 0
    assert "window_size" in capsys.readouterr().out
    assert main(["variants", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed} >= {"softmax_naive", "softmax_tiled", "sliding_window", "linear", "chunked"}


def test_that_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["compare", "--help"], ["map", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    assert "--synthetic" in capsys.readouterr().out


def test_that_a_table_aligns_numbers_right() -> None:
    text = table(["n", "time"], [["512", "1.2 ms"], ["4,096", "120 ms"]])
    assert text.splitlines()[2] == "512    1.2 ms"
    assert text.splitlines()[3] == "4,096  120 ms"


def test_that_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(3) as bar:
        bar.show(1, "Flash")
        bar.say("a line")
    assert capsys.readouterr().err == "a line\n"
