"""The benchmark of linear, recurrent and masked attention: its numbers, and what ours and others are called with."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from typing import Any

import numpy as np
import pytest
from attnscope_engine import catalogue
from attnscope_engine.bench.peers import CanNotRun, why_not
from attnscope_engine.bench_family import masks, ours, session
from attnscope_engine.bench_family.cells import PREFIX_SIZE, RECURRENT, Cell, cells
from attnscope_engine.bench_family.peers import PEERS
from attnscope_engine.bench_family.results import ALLOWED
from attnscope_engine.bench_family.tensors import Inputs, Tensors, retention_decays, scale_of
from attnscope_engine.protocol import Choice

SPARSE = Cell("masks", "block-sparse", 1, 16_384, 16, 128, 0.25)


def cell_of(method: Any) -> Cell:
    return Cell("D128", method, 1, 8192, 96, 128)


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
    monkeypatch.setattr(ours, "has_text", lambda stem: stem in ours.STEMS)
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


def test_that_a_kernel_file_is_there_or_not() -> None:
    assert ours.has_text("softmax_tiled")
    assert not ours.has_text("nothing")


def test_that_a_kernel_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "attnscope_engine.cuda.gla", None)
    assert why_not(lambda: ours.recurrent(None, cell_of("GLA"))) == (None, "this version has no kernels cuda/gla")
    fake = types.ModuleType("gla")

    def attend(*_positional: Any) -> None:
        raise NotImplementedError

    fake.attend = attend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "attnscope_engine.cuda.gla", fake)
    monkeypatch.setattr(ours, "has_text", lambda _stem: False)
    assert why_not(lambda: ours.recurrent(None, cell_of("GLA"))) == (None, "this version has no kernel file gla.cu")
    monkeypatch.setattr(ours, "has_text", lambda _stem: True)
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


# ---------------------------------------------------------------- outputs


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
