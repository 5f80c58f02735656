"""The benchmark of linear, recurrent and masked attention: what it times, makes of times, and prints. GPU: tests/gpu."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from attnscope_engine import catalogue
from attnscope_engine.bench import machine as machines
from attnscope_engine.bench import program
from attnscope_engine.bench.contenders import Theirs
from attnscope_engine.bench.machine import Machine, reports
from attnscope_engine.bench.peers import CanNotRun, why_not
from attnscope_engine.bench.results import OURS, Absent, Limits, Timing, encoded, write
from attnscope_engine.bench_family import masks, ours, printing, session
from attnscope_engine.bench_family.__main__ import BENCHMARK
from attnscope_engine.bench_family.cells import GROUPS, PREFIX_SIZE, RECURRENT, SHAPES, Cell, cells
from attnscope_engine.bench_family.peers import PEERS
from attnscope_engine.bench_family.results import ALLOWED, DENSE_NAME, Report, Row, decoded, multiple, with_dense
from attnscope_engine.bench_family.tensors import Inputs, Tensors, retention_decays, scale_of
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


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("method", RECURRENT)
def test_that_others_get_the_same_numbers_in_their_own_order(method: Any) -> None:
    torch = pytest.importorskip("torch")
    tensors = Tensors(torch, Cell("short", method, 2, 40, 3, 16), 0, on="cpu")
    head, token = tensors.by_head, tensors.by_token
    assert token.q.shape == (2, 40, 3, 16)
    for name in Inputs.__slots__:
        mine, theirs = getattr(head, name), getattr(token, name)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert theirs.is_contiguous()
            assert torch.equal(mine, theirs.transpose(1, 2))
    assert torch.isnan(tensors.out).all()


def test_that_gates_forget_beta_writes_and_features_are_positive() -> None:
    torch = pytest.importorskip("torch")

    def inputs(method: Any) -> Inputs:
        return Tensors(torch, Cell("short", method, 1, 64, 2, 32), 0, on="cpu").by_head

    for method in ("scalar gate", "gated DeltaNet", "GLA"):
        assert (inputs(method).gates < 0).all()
    assert inputs("GLA").gates.shape == (1, 2, 64, 32)
    delta = inputs("DeltaNet")
    assert ((delta.beta > 0) & (delta.beta < 1)).all()
    assert torch.allclose(delta.k.float().norm(dim=-1), torch.ones(()), atol=0.01)
    assert (inputs("normalised linear").k > 0).all()


def test_that_retention_decays_are_those_of_its_paper() -> None:
    gamma = 1 - 2.0 ** (-5 - np.arange(16.0))
    assert np.allclose(retention_decays(16), np.log(gamma), rtol=1e-6)
    assert retention_decays(96).dtype == np.float32
    assert (retention_decays(96) <= 0).all()


# ---------------------------------------------------------------- others' calls


@pytest.mark.parametrize(
    ("method", "module", "name", "passed"),
    [
        ("linear", "linear_attn", "chunk_linear_attn", {"normalize": False}),
        ("normalised linear", "linear_attn", "chunk_linear_attn", {"normalize": True}),
        ("RetNet", "retention", "chunk_retention", {}),
        ("scalar gate", "simple_gla", "chunk_simple_gla", {"g": "gates"}),
        ("DeltaNet", "delta_rule", "chunk_delta_rule", {"beta": "beta"}),
        ("gated DeltaNet", "gated_delta_rule", "chunk_gated_delta_rule", {"g": "gates", "beta": "beta"}),
        ("GLA", "gla", "chunk_gla", {"g": "gates"}),
    ],
)
def test_that_fla_gets_what_its_functions_ask_for(
    method: Any, module: str, name: str, passed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def function(*positional: Any, **named: Any) -> tuple[str, None]:
        seen.append((positional, named))
        return "out", None

    fake = types.ModuleType(f"fla.ops.{module}")
    setattr(fake, name, function)
    for package in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    monkeypatch.setitem(sys.modules, f"fla.ops.{module}", fake)
    peer = PEERS[method]
    assert peer.by_token
    assert peer.make(None, cell_of(method))(Inputs("q", "k", "v", "beta", "gates")) == "out"
    assert seen == [(("q", "k", "v"), {**passed, "scale": 128**-0.5})]


@pytest.mark.parametrize(("missing", "told"), [("fla", "not installed"), ("einops", "lacks einops")])
def test_that_a_library_that_is_not_there_is_told_in_two_words(missing: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("importlib.import_module", without)
    assert why_not(lambda: PEERS["GLA"].make(None, cell_of("GLA"))) == (None, told)


def test_that_two_products_are_bidirectional_attention() -> None:
    torch = pytest.importorskip("torch")
    cell = Cell("short", "bidirectional linear", 2, 40, 3, 16)
    inputs = Tensors(torch, cell, 0, on="cpu").by_head
    out = PEERS["bidirectional linear"].make(torch, cell)(inputs)
    q, k, v = (x.double().numpy() for x in (inputs.q, inputs.k, inputs.v))
    truth = (q @ k.swapaxes(-1, -2)) @ v * scale_of(cell)
    assert np.linalg.norm(out.double().numpy() - truth) < 0.01 * np.linalg.norm(truth)


# ---------------------------------------------------------------- our calls


def declared(module: str) -> inspect.Signature | None:
    """Of `attend` in `cuda/<module>.py`, where this version has it."""
    name = f"attnscope_engine.cuda.{module}"
    return inspect.signature(importlib.import_module(name).attend) if importlib.util.find_spec(name) else None


ARRAYS = ours.Arrays(("q", "k", "v", "out"), "beta", "gates")


@pytest.mark.parametrize("method", RECURRENT)
def test_that_our_kernels_get_what_they_declare(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    signatures = {module: declared(module) for module in ("linear", "delta", "gla")}
    for module in signatures:
        fake = types.ModuleType(module)
        fake.attend = lambda *positional, _module=module, **named: calls.append((_module, positional, named))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"attnscope_engine.cuda.{module}", fake)
    monkeypatch.setattr(catalogue, "variants", lambda: dict.fromkeys(ours.STEMS))
    cell = cell_of(method)
    ours.recurrent("device", cell)(ARRAYS)
    ((module, positional, named),) = calls
    signature = signatures[module]
    if signature is not None:
        signature.bind(*positional, **named)
    assert positional[0] == "device"
    assert positional[3] == ARRAYS.tensors
    assert named.get("normalised", False) == (method == "normalised linear")
    assert {"linear": "linear", "delta": positional[1], "gla": "gla"}[module] == positional[1]
    if module != "linear":
        given = ("gates",) if module == "gla" else ("beta", "gates")
        assert positional[4:] == (*given, cell.workload, 128**-0.5)
        return
    assert named["scale"] == scale_of(cell)
    assert positional[4] == cell.workload
    decay = named["decay"]
    assert len(decay) == 96 if method == "RetNet" else decay == "gates"


def test_that_a_kernel_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "attnscope_engine.cuda.gla", None)
    assert why_not(lambda: ours.recurrent(None, cell_of("GLA"))) == (None, "this version has no kernels cuda/gla")
    fake = types.ModuleType("gla")

    def attend(*_positional: Any) -> None:
        raise NotImplementedError

    fake.attend = attend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "attnscope_engine.cuda.gla", fake)
    monkeypatch.setattr(catalogue, "variants", dict)
    assert why_not(lambda: ours.recurrent(None, cell_of("GLA"))) == (None, "this version has no variant gla")
    monkeypatch.setattr(catalogue, "variants", lambda: {"gla": None})
    _, why = why_not(lambda: ours.recurrent(None, cell_of("GLA"))(ARRAYS))
    assert why == "cuda/gla is declared but not written for this call"


# ---------------------------------------------------------------- masks


N = 300
"""Not a multiple of a square."""


def seen_of_documents(_workload: Any, _params: Any, rows: Any, columns: Any) -> Any:
    of_token = np.repeat([0, 1, 2, 3], [5, 1, 200, N - 206])
    return (of_token[rows][:, None] == of_token[columns]) & (rows[:, None] >= columns)


def seen_of_squares(_workload: Any, _params: Any, rows: Any, columns: Any) -> Any:
    squares = np.random.default_rng(0).random((3, 3)) < 0.5
    np.fill_diagonal(squares, True)
    return squares[rows // 128][:, columns // 128] & (rows[:, None] >= columns)


def seen_of_prefix(_workload: Any, _params: Any, rows: Any, columns: Any) -> Any:
    return (columns < PREFIX_SIZE)[None, :] | (rows[:, None] >= columns)


@pytest.mark.parametrize(
    ("method", "visible"),
    [("document", seen_of_documents), ("block-sparse", seen_of_squares), ("prefix", seen_of_prefix)],
)
def test_that_flex_attention_sees_the_pairs_that_ours_sees(method: Any, visible: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    n = N if method != "prefix" else PREFIX_SIZE + 100
    monkeypatch.setattr(masks, "resolved", lambda _cell: (types.SimpleNamespace(visible=visible), None))
    monkeypatch.setattr(masks, "AT_ONCE", 64)
    cell = Cell("masks", method, 1, n, 1, 64)
    mask = masks.flex_mask(torch, cell, on="cpu")
    token = np.arange(n)
    expected = visible(None, None, token, token)
    at = torch.as_tensor(token)
    assert 0 < expected.mean() < 1
    assert np.array_equal(mask(None, None, at[:, None], at[None, :]).numpy(), expected)


@pytest.mark.parametrize("cell", cells(("masks",)), ids=lambda cell: cell.name)
def test_that_a_masked_cell_is_a_variant_or_says_what_is_missing(cell: Cell) -> None:
    name = masks.choice_of(cell).variant
    if name not in catalogue.variants():
        with pytest.raises(CanNotRun, match=f"no variant {name}"):
            masks.resolved(cell)
        return
    density = masks.density_of(cell)
    assert 0 < density < (2 if cell.method == "prefix" else 1)  # a prefix sees more than causal attention
    if cell.density:
        assert density == pytest.approx(cell.density, rel=0.1)


def test_that_parameters_that_a_variant_does_not_take_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "choice_of", lambda _cell: Choice("sliding_window", {"window_size": -1}))
    with pytest.raises(CanNotRun, match="window_size"):
        masks.resolved(SPARSE)


def test_that_density_is_the_share_of_causal_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "choice_of", lambda _cell: Choice("sliding_window", {"window_size": 1024}))
    n, window = 16_384, 1024
    pairs = window * (window + 1) // 2 + (n - window) * window
    assert masks.density_of(SPARSE) == pytest.approx(pairs / (n * (n + 1) // 2))


# ---------------------------------------------------------------- a row


class FakeTorch:
    class cuda:
        @staticmethod
        def synchronize() -> None:
            """Nothing runs."""

    @staticmethod
    def set_grad_enabled(_on: bool) -> None:
        """Nothing is differentiated."""


class FakeReplayed:
    times: dict[str, float] = {}  # noqa: RUF012

    def __init__(self, _torch: Any, name: str, _call: Any, sets: int, watch: Any, extra_bytes: int = 0) -> None:
        self.name, self.calls, self.extra_bytes, self._watch = name, sets, extra_bytes, watch

    def replay(self) -> tuple[float, int]:
        return self.times[self.name], self._watch()


class FakeContender:
    def __init__(self, name: str, out: Any) -> None:
        self.name, self._out = name, out

    def call(self, _index: int) -> Any:
        return self._out

    def first(self) -> Any:
        return self._out

    def extra_bytes(self) -> int:
        return 7


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    device = types.SimpleNamespace(throttle_reasons=lambda: 0x4, clock_mhz=lambda: 1700)
    monkeypatch.setattr(machines, "CudaDevice", lambda portable=False: device)
    monkeypatch.setattr(machines, "Replayed", FakeReplayed)
    monkeypatch.setattr(FakeReplayed, "times", {OURS: 1.0, "fla": 3.0, "other": 2.0, DENSE_NAME: 8.0})
    return Machine(FakeTorch, 0.0)


def refused() -> Any:
    raise CanNotRun("not installed")


def apart(one: float, other: float) -> tuple[float, float]:
    return abs(one - other), 0.5


def test_that_a_row_has_all_who_ran_and_why_the_others_did_not(machine: Machine) -> None:
    peers = [("absent", refused), ("fla", lambda: FakeContender("fla", 1.25)), ("other", lambda: FakeContender("other", 9.0))]
    row = machine.row(WIDE, 3, lambda: FakeContender(OURS, 1.0), peers, apart)
    assert row.ours is not None
    assert row.ours.extra_bytes == 7
    assert row.absent == (Absent("absent", "not installed"),)
    assert [peer.name for peer in row.peers] == ["fla", "other"]
    assert (row.against, row.difference, row.allowed, row.wrong) == ("fla", 0.25, 0.5, False)
    assert row.ratio == 2.0
    assert row.throttled == ("power cap",)
    assert row.input_sets == 3


@pytest.mark.parametrize("out", [3.0, float("nan")])
def test_that_an_output_that_is_off_or_no_number_is_wrong(machine: Machine, out: float) -> None:
    row = machine.row(WIDE, 1, lambda: FakeContender(OURS, out), [("fla", lambda: FakeContender("fla", 1.0))], apart)
    assert row.wrong
    assert row.difference == (2.0 if out == 3.0 else None)


def test_that_a_row_without_ours_compares_nothing(machine: Machine) -> None:
    row = machine.row(WIDE, 1, refused, [("fla", lambda: FakeContender("fla", 1.0))], apart)
    assert row.ours is None
    assert row.absent == (Absent(OURS, "not installed"),)
    assert (row.difference, row.wrong, row.ratio) == (None, False, None)


def test_that_the_dense_call_is_no_peer_and_is_compared_with_nothing(machine: Machine) -> None:
    peers = [("fla", refused), (DENSE_NAME, lambda: FakeContender(DENSE_NAME, None))]
    row = with_dense(machine.row(SPARSE, 1, lambda: FakeContender(OURS, 1.0), peers, apart), 0.25)
    assert row.peers == ()
    assert row.dense is not None
    assert row.dense.time_s == 8.0
    assert row.of_dense == pytest.approx(1.0 / (0.25 * 8.0))
    assert (row.against, row.difference) == ("", None)
    assert row.flops == round(0.25 * SPARSE.dense_flops)


def test_that_a_difference_is_relative_and_sees_what_is_no_number() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.full((2, 3, 8, 4), 2.0)
    assert session.difference(torch, theirs, theirs) == (0.0, ALLOWED)
    assert session.difference(torch, theirs * 1.1, theirs)[0] == pytest.approx(0.1, rel=1e-5)
    one_off = theirs.clone()
    one_off[1, 2, 7, 3] = 2.0 * (1 + 192**0.5)  # one of 192 numbers, by √192 of its size
    assert session.difference(torch, one_off, theirs)[0] == pytest.approx(1.0, rel=1e-5)
    one_off[0, 0, 0, 0] = float("nan")
    assert session.difference(torch, one_off, theirs)[0] != session.difference(torch, one_off, theirs)[0]


def test_that_a_peers_output_is_put_into_our_order() -> None:
    out = np.zeros((2, 40, 3, 16))
    theirs = Theirs(None, "fla", lambda _index: types.SimpleNamespace(transpose=out.swapaxes), by_token=True)
    assert theirs.first().shape == (2, 3, 40, 16)


def test_that_reports_come_after_each_part_between_two_readings_of_the_limits() -> None:
    def limits(before: Limits) -> Limits:
        return Limits(copy_bytes_per_s=(*before.copy_bytes_per_s, 1e12))

    def part(report: Report) -> Report:
        return msgspec.structs.replace(report, rows=(*report.rows, Row(WIDE, None)))

    found = list(reports(Report({"device": "A card"}), limits, [part, part]))
    assert [len(report.rows) for report in found] == [0, 1, 2, 2]
    assert [len(report.limits.copy_bytes_per_s) for report in found] == [1, 1, 1, 2]
    assert [report.finished for report in found] == [False, False, False, True]


# ---------------------------------------------------------------- what follows, how it reads


LIMITS = Limits((7e14,), (2.9e12, 3e12), (0.004,))


def whole_report() -> Report:
    rows = (
        Row(
            cell_of("DeltaNet"),
            timing(OURS, 5e-4),
            (timing("fla", 1.5e-3, extra_bytes=3 << 20),),
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
