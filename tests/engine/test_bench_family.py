"""The benchmark of linear, recurrent and masked attention: what it times, makes of times, and prints. GPU: tests/gpu."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attnscope_engine import catalogue
from attnscope_engine.bench import program, results
from attnscope_engine.bench.results import OURS, Absent, Limits, Timing, encoded, write
from attnscope_engine.bench_family import printing, session
from attnscope_engine.bench_family.__main__ import BENCHMARK
from attnscope_engine.bench_family.cells import GROUPS, RECURRENT, SHAPES, Cell, cells
from attnscope_engine.bench_family.peers import PEERS
from attnscope_engine.bench_family.results import ALLOWED, DENSE_NAME, Report, Row, decoded, multiple, with_dense
from attnscope_engine.bench_family.tensors import Inputs, Tensors, retention_decays
from attnscope_engine.devices.pick import why_no_gpu
from attnscope_engine.protocol import Choice

WIDE = Cell("D128", "linear", 1, 8192, 96, 128)
SPARSE = Cell("masks", "block-sparse", 1, 16_384, 16, 128, 0.25)


def cell_of(method: Any, **sizes: Any) -> Cell:
    return msgspec.structs.replace(WIDE, method=method, **sizes)


def timing(name: str, time_s: float, clock_mhz: int = 1755, extra_bytes: int = 0) -> Timing:
    return Timing(name, time_s, time_s * 0.99, time_s * 1.01, 9, 30, clock_mhz, extra_bytes)


# ---------------------------------------------------------------- what is timed


def test_that_the_cells_are_those_of_the_issue() -> None:
    found = {group: cells((group,)) for group in GROUPS}
    assert cells() == [cell for group in GROUPS for cell in found[group]]
    for group in GROUPS[:-1]:
        assert tuple(cell.method for cell in found[group]) == RECURRENT
        assert {(cell.batch, cell.seq_len, cell.num_heads, cell.head_dim) for cell in found[group]} == {SHAPES[group]}
    assert set(SHAPES.values()) == {
        (1, 8192, 96, 128),
        (1, 8192, 96, 64),
        (8, 2048, 16, 128),
        (1, 131_072, 16, 128),
        (1, 16_384, 16, 128),
    }
    assert [(cell.method, cell.density) for cell in found["masks"]] == [
        ("block-sparse", 0.1),
        ("block-sparse", 0.25),
        ("block-sparse", 0.5),
        ("prefix", 0),
        ("document", 0),
    ]
    assert [cell.method for cell in cells() if not cell.causal] == ["bidirectional linear"] * 5
    assert set(PEERS) == set(RECURRENT)


def test_that_a_quick_run_has_some_of_each() -> None:
    found = cells(quick=True)
    assert set(found) < set(cells())
    assert {cell.group for cell in found} == set(GROUPS)
    assert len(found) < 10


def test_that_every_cell_has_a_name_of_its_own() -> None:
    names = [cell.name for cell in cells()]
    assert len(names) == len(set(names))
    assert cell_of("DeltaNet").name == "DeltaNet D128, n 8,192, B1 H96"
    assert SPARSE.name == "block-sparse 0.25 D128, n 16,384, B1 H16"
    assert cell_of("GLA", group="portable").name.endswith("H96, portable")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("linear", 805_306_368),  # four tensors of 201,326,592 bytes
        ("normalised linear", 805_306_368),
        ("bidirectional linear", 805_306_368),
        ("RetNet", 805_306_368 + 384),  # a number a head
        ("scalar gate", 805_306_368 + 3_145_728),  # 786,432 tokens of all heads, 4 bytes each
        ("DeltaNet", 805_306_368 + 3_145_728),
        ("gated DeltaNet", 805_306_368 + 6_291_456),
        ("GLA", 1_006_632_960),  # five tensors
    ],
)
def test_that_the_floor_is_inputs_and_output_once(method: Any, expected: int) -> None:
    assert cell_of(method).floor_bytes == expected


@pytest.mark.parametrize("method", RECURRENT)
def test_that_the_floor_counts_the_tensors_that_there_are(method: Any) -> None:
    torch = pytest.importorskip("torch")
    cell = Cell("short", method, 2, 48, 3, 16)
    tensors = Tensors(torch, cell, 0, on="cpu")
    given = [x for x in (*(getattr(tensors.by_head, name) for name in Inputs.__slots__), tensors.out) if x is not None]
    heads = retention_decays(3).nbytes if method == "RetNet" else 0
    assert sum(x.numel() * x.element_size() for x in given) + heads == cell.floor_bytes


def test_that_dense_operations_are_four_for_each_causal_pair_and_element_of_a_head() -> None:
    assert SPARSE.dense_flops == 4 * 16 * (16_384 * 16_385 // 2) * 128
    assert SPARSE.dense_flops == catalogue.cost_of(Choice("softmax_tiled"), SPARSE.workload, "cuda").flops


# ---------------------------------------------------------------- what follows, how it reads


LIMITS = Limits((7e14,), (2.9e12, 3e12), (0.004,))


def whole_report() -> Report:
    rows = (
        Row(
            cell_of("DeltaNet"),
            timing(OURS, 5e-4),
            (timing("fla", 1.5e-3, extra_bytes=3 << 20),),
            against="fla",
            difference=1e-3,
            allowed=ALLOWED,
        ),
        Row(cell_of("linear"), timing(OURS, 3e-4), (), (Absent("fla", "not installed"),)),
        Row(SPARSE, timing(OURS, 5e-4), (timing("FlexAttention", 1e-3),), density=0.25, dense=timing(DENSE_NAME, 1.6e-3)),
        Row(
            cells(("masks",))[3],
            None,
            (),
            (Absent(OURS, "this version has no variant prefix"),),
            dense=timing(DENSE_NAME, 1.6e-3),
        ),
    )
    return Report({"device": "A card", "torch": "2", "fla-core": "0.6"}, LIMITS, rows, 12.0, True)


def test_that_the_dense_call_is_no_peer() -> None:
    found = results.Row(SPARSE, timing(OURS, 1.0), (timing("FlexAttention", 2.0), timing(DENSE_NAME, 8.0)), input_sets=3)
    row = with_dense(found, 0.25)
    assert [peer.name for peer in row.peers] == ["FlexAttention"]
    assert row.dense is not None
    assert row.dense.time_s == 8.0
    assert row.of_dense == pytest.approx(1.0 / (0.25 * 8.0))
    assert (row.ratio, row.input_sets) == (2.0, 3)
    assert row.flops == round(0.25 * SPARSE.dense_flops)


def test_that_a_multiple_of_the_floor_is_against_the_best_copy_of_the_run() -> None:
    row = whole_report().rows[1]
    assert row.ours is not None
    assert multiple(row.cell, row.ours, LIMITS) == pytest.approx(3e-4 / (805_306_368 / 3e12))
    assert multiple(row.cell, row.ours, Limits()) is None


def test_that_a_recurrent_cell_reads_as_a_line_with_floor_and_ratio_and_the_peer_below() -> None:
    found = printing.row_lines(whole_report().rows[0], LIMITS)
    assert found == [
        "DeltaNet D128, n 8,192, B1 H96: 0.500 ms (0.495–0.505, 9), 1.86 × floor, 3.000 × fla",
        "    fla: 1.500 ms (1.485–1.515, 9), 5.57 × floor, 3.00 MiB extra",
        "    ours: no extra memory; differs from fla by 1.0e-03 (allowed 2.0e-02); 1,755 MHz; 1 input sets",
    ]
    assert ", 1.12 × floor, no peer" in printing.row_lines(whole_report().rows[1], LIMITS)[0]


def test_that_a_masked_cell_reads_with_operations_density_and_dense_attention() -> None:
    found = printing.row_lines(whole_report().rows[2], LIMITS)
    rate = round(0.25 * SPARSE.dense_flops / 5e-4 / 1e12)
    assert found[0].startswith("block-sparse 0.25 D128, n 16,384, B1 H16, density 0.250: 0.500 ms")
    assert found[0].endswith(f", {rate} TFLOP/s, 1.25 × dense, 2.000 × FlexAttention")
    assert found[2].startswith(f"    {DENSE_NAME}: 1.600 ms")
    absent = "\n".join(printing.row_lines(whole_report().rows[3], LIMITS))
    assert "ours did not run" in absent
    assert "    ours: – this version has no variant prefix\n" in absent


def test_that_the_summary_has_ratios_floors_and_dense() -> None:
    found = printing.summary(whole_report())
    assert "D128: ratio to the best peer at least 3.000, median 3.000 (1 cells)" in found
    assert "D128: at most 1.86 × floor, median 1.49 (2 cells)" in found
    assert "masks: at most 1.25 × dense, median 1.25 (1 cells)" in found
    assert not any("WRONG" in line for line in found)
    assert printing.head(whole_report().provenance).startswith("device A card, torch 2, fla-core 0.6\n")


def test_that_news_are_the_head_then_each_row_then_the_summary() -> None:
    report = whole_report()
    under_way = msgspec.structs.replace(report, finished=False)
    assert printing.news(msgspec.structs.replace(under_way, rows=()))[0].startswith("device A card")
    assert printing.news(under_way) == printing.row_lines(report.rows[-1], LIMITS)
    assert printing.news(report)[-1] == "12 s"


def test_that_a_file_gives_back_the_report(tmp_path: Path) -> None:
    report = whole_report()
    assert decoded(encoded(report)) == report
    write(report, tmp_path / "run.json")
    assert decoded((tmp_path / "run.json").read_bytes()) == report
    with pytest.raises(msgspec.ValidationError, match="method"):
        decoded(encoded(report).replace(b'"DeltaNet"', b'"Nothing"'))


# ---------------------------------------------------------------- the program


@pytest.mark.skipif(not why_no_gpu(), reason="a GPU is here")
def test_that_a_machine_without_a_gpu_gets_one_sentence_and_code_1() -> None:
    command = [sys.executable, "-m", "attnscope", "bench", "family", "--quick", "--groups", "masks,few heads"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("attnscope: bench family times GPU kernels, and there is none to time. ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("wrong", [False, True])
def test_that_a_run_writes_what_it_prints_and_ends_with_1_when_an_output_is_wrong(
    wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = whole_report()
    rows = (msgspec.structs.replace(report.rows[0], wrong=wrong, against="fla"), *report.rows[1:])
    report = msgspec.structs.replace(report, rows=rows)
    asked: list[Any] = []

    def timed(*arguments: Any) -> Any:
        asked.append(arguments)
        return iter([report])

    monkeypatch.setattr(program, "torch_with_gpu", lambda _name: ("torch", ""))
    monkeypatch.setattr(session, "run", timed)
    path = tmp_path / "run.json"
    assert program.run(BENCHMARK, ["--json", str(path), "--groups", "D64,masks"]) == int(wrong)
    assert asked == [("torch", program.BUDGET_S, ("D64", "masks"), False)]
    assert decoded(path.read_bytes()) == report
    assert ("WRONG: DeltaNet" in capsys.readouterr().out) == wrong


def test_that_options_of_benchmarks_against_others_are_not_of_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    from attnscope.__main__ import main

    assert main(["bench", "cpu", "--quick"]) == 2
    assert "Option --quick is of bench exact and bench family, not of bench cpu." in capsys.readouterr().err
