"""The command line with the real engine on the processor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attnscope.__main__ import main
from attnscope_engine.model.location import find_model

QUICK = ["--seq-len", "64:128", "--heads", "2", "--head-dim", "32", "--budget", "0.05", "--device", "cpu"]


def test_that_a_comparison_measures_every_point_and_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures"
    assert main(["compare", *QUICK, "--variants", "softmax_naive,softmax_tiled,linear", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Naive time" in said
    assert {path.name for path in out.iterdir()} == {
        f"{stem}.{end}" for stem in ("scaling", "memory") for end in ("png", "svg", "csv")
    }
    rows = (out / "scaling.csv").read_text().splitlines()
    assert sum(",measured," in row and row.startswith("time,") for row in rows) == 6


def test_that_json_holds_the_rows_with_their_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *QUICK, "--variants", "chunked", "--param", "chunked.chunk_size=16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["workload"]["seq_len"] for row in document["measured"]] == [64, 128]
    assert all(row["choice"]["params"] == {"chunk_size": 16} and row["provenance"]["library"] for row in document["measured"])
    assert all(0 < row["p20_s"] <= row["time_s"] <= row["p80_s"] for row in document["measured"])


def test_that_what_does_not_fit_is_refused_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--seq-len", "1M", "--heads", "64", "--variants", "softmax_naive", "--budget", "0.05", "--device", "cpu"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "does not fit at n = 1,048,576" in said
    assert "largest n that fits" in said


def test_that_own_q_and_k_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((2, 40, 16)).astype(np.float32) for _ in range(2))
    np.savez(tmp_path / "qk.npz", q=q, k=k)
    out = tmp_path / "map.csv"
    assert main(["map", "--qk", str(tmp_path / "qk.npz"), "--head", "1", "--variants", "softmax_tiled", "--out", str(out)]) == 0
    assert "softmax_tiled" in out.read_text()
    assert main(["map", "--qk", str(tmp_path / "qk.npz"), "--head", "7", "--out", str(out)]) == 1
    assert "7" in capsys.readouterr().out


def test_that_synthetic_maps_need_no_model(tmp_path: Path) -> None:
    out = tmp_path / "map.svg"
    words = [
        "map",
        "--synthetic",
        "needle",
        "--seq-len",
        "128",
        "--variants",
        "softmax_tiled,linear",
        "--difference",
        "--out",
        str(out),
    ]
    assert main([*words, "--out", str(out)]) == 0
    assert "score (signed)" in out.read_text()


@pytest.mark.model
@pytest.mark.skipif(find_model() is None, reason="the language model is not there")
def test_that_the_program_finds_the_link_of_the_sample_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "--out", str(tmp_path / "map.png"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["head"] == "layer 13, head 8"
    assert said["link"] == "L13H8: she → CEO 0.427 (Flash), masked (Chunked)"


def test_that_the_report_is_a_page_with_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["report", *QUICK, "--text", "<b>hello</b> world", "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "scaling.svg" in page
    assert "<b>hello" not in page
    assert str(out / "report.html") in capsys.readouterr().out


def test_that_the_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["Python"]["ok"]
    assert "GPU" in checks
    assert checks["NVRTC"]["ok"]
    assert main(["doctor"]) in (0, 1)
    assert "Python" in capsys.readouterr().out


def test_that_the_version_needs_no_heavy_import() -> None:
    heavy = "{'numpy', 'PySide6', 'msgspec'}"
    code = f"import sys; from attnscope.__main__ import main; main(['--version']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_that_the_doctor_compiles_for_cards_that_are_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json", "--compile", "sm_80,sm_90a,sm_12"])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert found["Kernel, sm_80"]["ok"]
    assert found["Kernel, sm_90a"]["ok"]
    assert not found["Kernel, sm_12"]["ok"]
    assert "CUDA 13" in found["Kernel, sm_12"]["advice"]
