"""Small cells of the benchmark of linear, recurrent and masked attention, on the GPU."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from attnscope_engine.bench.machine import Machine
from attnscope_engine.bench.results import OURS
from attnscope_engine.bench_family.cells import RECURRENT, Cell, Masked
from attnscope_engine.bench_family.peers import PEERS
from attnscope_engine.bench_family.results import DENSE_NAME
from attnscope_engine.bench_family.session import Session

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def session(device: Any) -> Session:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch is built without CUDA")
    return Session(Machine(torch, 0.05))


@pytest.mark.parametrize("group", ["short", "portable"])
@pytest.mark.parametrize("method", RECURRENT)
def test_that_a_small_cell_is_timed_beside_its_peer_and_agrees_with_it(session: Session, method: Any, group: Any) -> None:
    row = session.row(Cell(group, method, 2, 512, 4, 64))
    print(row)
    assert not row.wrong
    assert {absent.name for absent in row.absent} | {timing.name for timing in (row.ours, *row.peers) if timing} == {
        OURS,
        PEERS[method].name,
    }
    assert all(absent.why for absent in row.absent)
    if row.ours is not None and row.peers:
        assert row.difference is not None
        assert row.input_sets > 1


@pytest.mark.parametrize("method", get_args(Masked))
def test_that_a_mask_is_timed_beside_dense_attention(session: Session, method: Any) -> None:
    row = session.row(Cell("masks", method, 1, 8192, 2, 128, 0.25 if method == "block-sparse" else 0.0))
    print(row)
    assert not row.wrong
    assert row.dense is not None
    assert row.dense.name == DENSE_NAME
    if row.ours is None:
        assert any("this version has no variant" in absent.why for absent in row.absent)
    else:
        assert row.of_dense is not None
        assert [peer.name for peer in row.peers] == ["FlexAttention"]
        assert row.difference is not None
