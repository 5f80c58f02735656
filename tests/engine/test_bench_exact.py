"""The benchmark of exact attention: what it times, what it makes of times, how it reads. Its GPU part is in tests/gpu."""

from __future__ import annotations

import subprocess
import sys
import types
import warnings
from pathlib import Path

import msgspec
import pytest
from attnscope_engine import catalogue
from attnscope_engine.bench import printing as common
from attnscope_engine.bench import program
from attnscope_engine.bench.contenders import MOST_SETS, input_sets
from attnscope_engine.bench.peers import CanNotRun, why_not
from attnscope_engine.bench.results import OURS, Absent, Limits, Timing, encoded, least_and_median, ratios, write
from attnscope_engine.bench_exact import printing
from attnscope_engine.bench_exact.__main__ import BENCHMARK
from attnscope_engine.bench_exact.cells import GROUPS, Cell, cells, grid, pairs_of_head
from attnscope_engine.bench_exact.peers import PEERS, peers_of
from attnscope_engine.bench_exact.results import Report, Row, Steps, decoded, gemm_share, growing_share
from attnscope_engine.bench_exact.session import naive_cells
from attnscope_engine.devices.cuda_timing import CACHE_MULTIPLE
from attnscope_engine.devices.pick import why_no_gpu
from attnscope_engine.protocol import Choice

SQUARE = Cell("grid", "bf16", 2, 16, 16, 8192, 8192, 128, False)


def timing(name: str, time_s: float, clock_mhz: int = 1755, extra_bytes: int = 0) -> Timing:
    return Timing(name, time_s, time_s * 0.99, time_s * 1.01, 9, 30, clock_mhz, extra_bytes)


def row(cell: Cell, ours: float, **peers: float) -> Row:
    return Row(cell, timing(OURS, ours), tuple(timing(name, time_s) for name, time_s in peers.items()))


# ---------------------------------------------------------------- what is timed


@pytest.mark.parametrize("window", [0, 1, 3, 8, 100])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (3, 9), (9, 3), (1, 20), (20, 20)])
def test_that_causal_pairs_are_counted_one_by_one(queries: int, keys: int, window: int) -> None:
    count = sum(
        j <= i + keys - queries and (not window or j > i + keys - queries - window) for i in range(queries) for j in range(keys)
    )
    assert pairs_of_head(queries, keys, True, window) == count


def test_that_full_pairs_are_all_and_a_window_is_causal() -> None:
    assert pairs_of_head(3, 7, False) == 21
    with pytest.raises(ValueError, match="causal"):
        pairs_of_head(3, 7, False, 2)


def test_that_operations_are_four_for_each_pair_and_element_of_a_head() -> None:
    assert SQUARE.flops == 4 * 2 * 16 * 8192**2 * 128
    causal = msgspec.structs.replace(SQUARE, causal=True)
    assert causal.flops == 4 * 2 * 16 * (8192 * 8193 // 2) * 128
    for cell, choice in ((SQUARE, Choice("softmax_tiled")), (causal, Choice("softmax_tiled"))):
        assert cell.flops == catalogue.cost_of(choice, cell.workload, "cuda").flops
    window = msgspec.structs.replace(causal, window=1024)
    assert window.flops == catalogue.cost_of(Choice("sliding_window", {"window_size": 1024}), window.workload, "cuda").flops


def test_that_a_decode_reads_k_and_v() -> None:
    decode = next(cell for cell in cells(("decode",)) if cell.num_heads == cell.num_kv_heads)
    assert decode.batch * decode.num_kv_heads == 128
    assert decode.key_bytes == 2 * 128 * 32_768 * 128 * 2
    assert decode.tensor_bytes == decode.key_bytes + 2 * 128 * 128 * 2


def test_that_the_grid_is_whole_and_every_call_has_one_size() -> None:
    found = grid()
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 6
    assert {(cell.dtype, cell.head_dim, cell.causal, cell.keys) for cell in found} == {
        (dtype, head_dim, causal, 1024 << power)
        for dtype in ("bf16", "fp16")
        for head_dim in (64, 128)
        for causal in (False, True)
        for power in range(6)
    }
    assert all(cell.num_heads * cell.head_dim == 2048 for cell in found)
    assert all(cell.batch * cell.queries == max(16_384, cell.queries) for cell in found)


def test_that_the_other_cells_are_those_of_the_issue() -> None:
    found = {group: cells((group,)) for group in GROUPS}
    assert {(cell.head_dim, cell.causal) for cell in found["head dim"]} == {(d, c) for d in (96, 192, 256) for c in (False, True)}
    assert all(cell.num_heads == 8 * cell.num_kv_heads for cell in found["GQA"])
    assert {(cell.keys, cell.window) for cell in found["window"]} == {(n, w) for n in (8192, 16384) for w in (256, 1024)}
    assert [cell.numbers for cell in found["worst case"]] == ["normal", "growing"] * 2
    assert {cell.num_heads // cell.num_kv_heads for cell in found["decode"]} == {1, 8}
    assert all(cell.queries == 1 and cell.keys == 32_768 for cell in found["decode"])
    assert all(len(peers_of(cell)) == 1 for cell in found["portable"])
    assert len(peers_of(SQUARE)) == len(PEERS)


def test_that_a_quick_run_has_some_of_each_and_no_long_one() -> None:
    found = cells(quick=True)
    assert set(found) < set(cells())
    assert {cell.group for cell in found} == set(GROUPS)
    assert all(cell.queries <= 8192 for cell in found)
    assert [cell.keys for cell in naive_cells(True)] == [4096, 4096]
    assert {cell.keys for cell in naive_cells(False)} == {4096, 8192}


def test_that_every_cell_has_a_name_of_its_own_within_its_group() -> None:
    for group in GROUPS:
        names = [cell.name for cell in cells((group,))]
        assert len(names) == len(set(names))
    assert SQUARE.name == "bf16 D128 full, n 8,192, B2 H16"


@pytest.mark.parametrize("cache_bytes", [1, 50 << 20, 1 << 30])
def test_that_a_replay_touches_five_times_the_cache(cache_bytes: int) -> None:
    small = msgspec.structs.replace(SQUARE, batch=1, queries=1024, keys=1024)
    count = input_sets(small.tensor_bytes, cache_bytes)
    assert count == MOST_SETS or count * small.tensor_bytes >= CACHE_MULTIPLE * cache_bytes
    assert count == 1 or (count - 1) * small.tensor_bytes < CACHE_MULTIPLE * cache_bytes


# ---------------------------------------------------------------- peers


def test_that_a_peer_without_such_a_call_says_so() -> None:
    window = next(cell for cell in cells(("window",)))
    for peer in PEERS[:3]:
        with pytest.raises(CanNotRun, match="sliding window"):
            peer.make(None, window)
    with pytest.raises(CanNotRun, match="n 8,192, windows"):
        PEERS[3].make(None, msgspec.structs.replace(SQUARE, queries=4096, keys=4096))


def test_that_flash_attn_is_called_with_its_own_window(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def flash_attn_func(q: str, k: str, v: str, **options: object) -> tuple[str, str]:
        seen.append(options)
        return "out", "lse"

    for name, package in (
        ("flash-attn 2", "flash_attn"),
        ("flash-attn 3", "flash_attn_interface"),
        ("flash-attn 4", "flash_attn.cute"),
    ):
        module = types.ModuleType(package)
        module.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, package, module)
        peer = next(peer for peer in PEERS if peer.name == name)
        assert peer.axes == "token"
        for cell in (SQUARE, cells(("window",))[0]):
            assert peer.make(None, cell)("q", "k", "v") == "out"
    nothing = [{"causal": False, "window_size": (limit, limit)} for limit in (-1, -1, None)]
    assert seen[::2] == nothing
    assert seen[1::2] == [{"causal": True, "window_size": (255, 0)}] * 3


def test_that_what_is_not_installed_is_told_in_two_words() -> None:
    peer = next(peer for peer in PEERS if peer.name == "flash-attn 3")
    if "flash_attn_interface" not in sys.modules:
        assert why_not(lambda: peer.make(None, SQUARE)) == (None, "not installed")


def test_that_a_reason_is_taken_from_what_torch_warned_of() -> None:
    def refused() -> None:
        warnings.warn("Flash attention kernel not used because: (Triggered internally at x.cpp:1)", stacklevel=1)
        warnings.warn("Both fused kernels require last dim at most 256. (Triggered internally at x.cpp:2)", stacklevel=1)
        raise RuntimeError("No available kernel. Aborting execution.")

    assert why_not(refused) == (None, "Both fused kernels require last dim at most 256.")
    assert why_not(lambda: 1) == (1, "")

    def broken() -> None:
        raise ValueError

    assert why_not(broken) == (None, "ValueError")


# ---------------------------------------------------------------- what follows


def whole_report() -> Report:
    growing = Cell("worst case", "bf16", 2, 16, 16, 8192, 8192, 128, True, 0, "growing")
    rows = (
        row(msgspec.structs.replace(SQUARE, batch=1, queries=16_384, keys=16_384), 0.004, cuDNN=0.005, flash=0.009),
        row(SQUARE, 0.002, cuDNN=0.0019),
        row(msgspec.structs.replace(growing, numbers="normal"), 0.001, cuDNN=0.002),
        row(growing, 0.0011, cuDNN=0.002),
        Row(
            cells(("window",))[0],
            timing(OURS, 1e-4, extra_bytes=3 << 19),
            (),
            tuple(Absent(name, "has no sliding window") for name in ("cuDNN", "SDPA flash")),
        ),
        Row(cells(("decode",))[0], None, (timing("cuDNN", 1e-3, 1000),), (Absent(OURS, "too long\nsecond line"),)),
    )
    steps = Steps(SQUARE, timing("whole", 0.006), (timing("scores", 0.002), timing("softmax", 0.003)))
    limits = Limits((7e14, 7.2e14), (2.9e12,), (0.004, 0.01))
    return Report({"device": "A card", "torch": "2"}, limits, rows, 12.0, True, (steps,))


def test_that_the_ratio_is_to_the_fastest_peer() -> None:
    report = whole_report()
    first = report.rows[0]
    assert first.best is not None
    assert first.best.name == "cuDNN"
    assert first.ratio == pytest.approx(1.25)
    assert ratios(report, "grid") == pytest.approx([1.25, 0.95])
    assert least_and_median(ratios(report, "grid")) == pytest.approx((0.95, 1.1))
    assert ratios(report, "window") == ratios(report, "decode") == []
    assert least_and_median([]) is None


def test_that_a_worst_case_is_held_against_its_twin_and_the_card_against_its_product() -> None:
    report = whole_report()
    assert [share for _, share in growing_share(report)] == pytest.approx([0.001 / 0.0011])
    assert gemm_share(report) == pytest.approx(report.rows[0].cell.flops / 0.004 / 7.2e14)
    assert gemm_share(msgspec.structs.replace(report, rows=report.rows[1:])) is None


def test_that_clocks_and_throttling_are_badges() -> None:
    fine = row(SQUARE, 1.0, cuDNN=1.0)
    assert not fine.clocks_differ
    assert fine.throttled == ()
    apart = msgspec.structs.replace(fine, peers=(timing("cuDNN", 1.0, 1600),), throttle_bits=0x4 | 0x1 | 0x40)
    assert apart.clocks_differ
    assert apart.throttled == ("power cap", "hardware thermal")
    text = "\n".join(printing.row_lines(apart))
    assert "1,600 to 1,755 MHz; clocks more than 3 % apart; throttled: power cap, hardware thermal" in text


def test_that_a_file_gives_back_the_report(tmp_path: Path) -> None:
    report = whole_report()
    assert decoded(encoded(report)) == report
    path = tmp_path / "run.json"
    write(Report({}), path)
    write(report, path)
    assert decoded(path.read_bytes()) == report
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(msgspec.ValidationError, match="provenance"):
        decoded(b"{}")


# ---------------------------------------------------------------- how it reads


def test_that_a_cell_reads_as_a_line_with_its_ratio_and_the_peers_below() -> None:
    report = whole_report()
    first = printing.row_lines(msgspec.structs.replace(report.rows[0], difference=1e-3, allowed=2e-3, against="cuDNN"))
    assert first[0] == ("bf16 D128 full, n 16,384, B1 H16: 4.000 ms (3.960–4.040, 9), 550 TFLOP/s, 1.250 × cuDNN")
    assert first[1] == "    cuDNN: 5.000 ms (4.950–5.050, 9), 440 TFLOP/s"
    assert first[3] == "    ours: no extra memory; differs from cuDNN by 1.0e-03 (allowed 2.0e-03); 1,755 MHz; 1 input sets"


def test_that_absent_contenders_say_why_in_short() -> None:
    report = whole_report()
    window, decode = ("\n".join(printing.row_lines(row)) for row in report.rows[4:])
    assert "no peer" in window
    assert "    cuDNN, SDPA flash: – has no sliding window\n" in window
    assert "ours: 1.50 MiB extra; compared with nothing" in window
    assert "ours did not run" in decode
    assert "ours: – too long\n" in decode
    assert "2.15 TB/s" in decode
    assert len(common.short("x" * 200)) == common.LONGEST_REASON
    small = msgspec.structs.replace(report.rows[4], ours=timing(OURS, 1e-4, extra_bytes=512))
    assert "ours: 0.5 KiB extra" in "\n".join(printing.row_lines(small))
    assert common.short("  ") == "no reason given"


def test_that_a_wrong_output_is_shouted() -> None:
    wrong = msgspec.structs.replace(row(SQUARE, 1.0, cuDNN=1.0), wrong=True, against="cuDNN", allowed=1e-2)
    assert "WRONG: differs from cuDNN by None" in "\n".join(printing.row_lines(wrong))
    assert printing.summary(Report({}, rows=(wrong,)))[-1] == f"WRONG: {SQUARE.name}"


def test_that_the_summary_has_least_and_median() -> None:
    lines = printing.summary(whole_report())
    assert "grid: ratio to the best peer at least 0.950, median 1.100 (2 cells)" in lines
    assert any("0.909 of the rate on normal numbers" in line for line in lines)
    assert any("of this machine's 8192³ product" in line for line in lines)
    assert common.limits_line(whole_report().limits) == (
        "This machine: 8192³ bf16 product 700, 720 TFLOP/s (the same twice: 0.4, 1.0 % apart), copy 2.90 TB/s"
    )
    assert printing.steps_line(whole_report().naive[0]).endswith("scores 2.000, softmax 3.000; all three 6.000 ms, 183 TFLOP/s")
    assert printing.head({"device": "A card", "torch": "2"}).startswith("device A card, torch 2\n")


# ---------------------------------------------------------------- the program


@pytest.mark.skipif(not why_no_gpu(), reason="a GPU is here")
def test_that_a_machine_without_a_gpu_gets_one_sentence_and_code_1() -> None:
    command = [sys.executable, "-m", "attnscope", "bench", "exact", "--quick", "--groups", "window"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("attnscope: bench exact times GPU kernels, and there is none to time. ")
    assert len(done.stderr.splitlines()) == 1


def test_that_a_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "why_no_gpu", lambda: "")
    torch = types.ModuleType("torch")
    torch.__version__ = "2.0+cpu"  # type: ignore[attr-defined]
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert program.torch_with_gpu("exact")[1].endswith("torch 2.0+cpu sees none: install its CUDA build.")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch, which is not installed" in program.torch_with_gpu("exact")[1]


def test_that_a_folder_that_is_not_there_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "torch_with_gpu", lambda name: (object(), ""))
    assert program.run(BENCHMARK, ["--json", str(tmp_path / "nowhere" / "run.json")]) == 1
    assert f"no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err


def test_that_a_kind_of_cell_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.arguments_of(BENCHMARK, ["--groups", "grid,nothing"])
    assert caught.value.code == 2
    assert "no such kind of cells: nothing" in capsys.readouterr().err
    assert program.arguments_of(BENCHMARK, ["--groups", "grid,head dim"]).groups == ("grid", "head dim")


REFERENCE_RUNS = Path(__file__).parents[2] / "assets" / "attnscope_assets" / "reference_runs"


def test_that_the_reference_run_is_whole_right_and_says_what_the_readme_says():
    report = decoded((REFERENCE_RUNS / "h100-exact-grid.json").read_bytes())
    assert report.finished
    assert [row.cell for row in report.rows] == grid()
    assert not any(row.wrong for row in report.rows)
    least, median = least_and_median(ratios(report, "grid"))
    readme = (REFERENCE_RUNS.parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"median ratio {median:.2f}, least {least:.2f}" in " ".join(readme.split())
