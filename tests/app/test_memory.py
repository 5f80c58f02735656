"""What the Memory page says, as values."""

from __future__ import annotations

import msgspec
import pytest
from attnscope.memory import budget_of, fits, kept_term, model_terms, parse_bytes, peaks, term_groups
from attnscope.state import Live, choice_of, measurement_key, one_call
from attnscope_engine import catalogue
from attnscope_engine.protocol import Workload
from curve_states import measured_store, put, ready_store, row

GIB = 1 << 30


def test_that_a_peak_has_its_terms_largest_first_and_their_sum() -> None:
    store = ready_store(seq_len=4096)
    rows = {one.variant: one for one in peaks(store.state)}
    naive = rows["softmax_naive"]
    assert sum(term.bytes_ for term in naive.terms) == naive.predicted
    sizes = [term.bytes_ for term in naive.terms]
    assert sizes == sorted(sizes, reverse=True)
    assert naive.measured is None
    assert naive.difference is None
    assert next(iter(term_groups(tuple(rows.values())))) == "n2"


def test_that_the_difference_is_measured_over_predicted() -> None:
    store = ready_store(seq_len=1024)
    held = peaks(store.state)[0].predicted
    put(store, row(store, "softmax_tiled", 1024, peak_bytes=held * 2))
    assert peaks(store.state)[0].difference == pytest.approx(1.0)


def test_that_rows_tell_what_is_being_measured() -> None:
    store = ready_store(seq_len=1024)
    state = store.state
    assert state.live.device is not None
    keys = [
        measurement_key(state.live.device.key, one_call(state.settings.workload), choice_of(state.settings, name))
        for name in state.settings.checked[:2]
    ]
    store.update_live(queue=tuple(keys))
    assert [one.progress for one in peaks(store.state)] == ["measuring", "queued", "", ""]


def test_that_a_variant_that_does_not_fit_is_refused_with_a_way_out() -> None:
    store = ready_store(seq_len=1 << 17)
    refusal = next(one.refusal for one in peaks(store.state) if one.variant == "softmax_naive")
    assert refusal is not None
    assert 0 < refusal.largest_seq_len < 1 << 17
    assert refusal.needed_bytes == sum(term.bytes_ for term in refusal.terms)


@pytest.mark.parametrize("name", ["softmax_tiled", "softmax_naive", "sliding_window", "chunked", "linear"])
def test_that_the_largest_n_fits_and_the_next_does_not(name: str) -> None:
    store = ready_store(checked=(name,), num_kv_heads=9, head_dim=128, batch=4, fits_budget=float(GIB))
    (found,) = fits(store.state)
    budget = budget_of(store.state)
    assert budget is not None
    choice, workload = choice_of(store.state.settings, name), store.state.settings.workload

    def held(n: int) -> int:
        return sum(term.bytes_ for term in model_terms(choice, msgspec.structs.replace(workload, seq_len=n), "cpu"))

    assert found.largest % 64 == 0
    assert held(found.largest) <= budget
    assert found.is_open or held(found.largest + 64) > budget


def test_that_the_cache_is_two_tensors_a_layer_for_every_key_still_seen() -> None:
    workload = Workload(batch=2, seq_len=8192, num_heads=8, num_kv_heads=4, head_dim=64, layers=10, dtype="bf16")
    flash = catalogue.find("softmax_tiled")
    cache = kept_term(flash, flash.parse({}), workload)
    assert (cache.name, cache.growth, cache.bytes_) == ("KV cache", "n", 2 * 10 * 2 * 4 * 8192 * 64 * 2)
    window = catalogue.find("sliding_window")
    cache = kept_term(window, window.parse({"window_size": 1000, "sinks": 24}), workload)
    assert (cache.name, cache.growth, cache.bytes_) == ("KV cache", "constant", 2 * 10 * 2 * 4 * 1024 * 64 * 2)


def test_that_what_is_kept_is_what_a_later_query_can_see() -> None:
    """What a variant says that it keeps agrees with its own mask."""
    import numpy as np

    for name, values in (("sliding_window", {"window_size": 100, "sinks": 7}), ("chunked", {"chunk_size": 128})):
        variant = catalogue.find(name)
        params = variant.parse(values)
        workload = Workload(seq_len=1024)
        seen = variant.visible(workload, params, np.arange(512, 1024), np.arange(1024)).sum(axis=1)
        assert variant.kept_bytes(workload, params) == 2 * workload.num_kv_heads * seen.max() * 64 * 2


def test_that_a_linear_variant_keeps_a_state_for_each_layer_and_no_cache() -> None:
    choice = choice_of(ready_store().state.settings, "linear")
    kept = [model_terms(choice, Workload(layers=layers, seq_len=1024), "cpu")[-1] for layers in (1, 30)]
    assert [term.name for term in kept] == ["state, all layers"] * 2
    assert kept[0].bytes_ == 3 * 64 * 65 * 4
    assert kept[1].bytes_ == 30 * kept[0].bytes_
    assert "KV cache" not in [term.name for term in model_terms(choice, Workload(), "cpu")]


def test_that_naive_is_bound_by_its_scores_and_grows_as_the_square() -> None:
    store = ready_store(checked=("softmax_naive", "softmax_tiled"))
    naive, flash = fits(store.state)
    assert naive.binding == "scores, one layer"
    assert naive.grows.startswith("n² ×")
    assert flash.grows.endswith("per token")
    assert naive.largest < flash.largest


def test_that_a_row_says_whether_a_layer_ran() -> None:
    store = measured_store(checked=("softmax_tiled",))
    (found,) = fits(store.state)
    assert found.checked == "one layer ran at 8,192"
    store.update(num_heads=6)
    assert fits(store.state)[0].checked == "by formula only"


def test_that_the_budget_is_what_is_free_or_what_was_chosen() -> None:
    store = ready_store()
    assert budget_of(store.state) == 6 * GIB - int(8 * GIB * 0.01)
    store.update(fits_budget=24.0 * GIB)
    assert budget_of(store.state) == int(24 * GIB * 0.99)
    assert fits(ready_store(Live()).state) == ()


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("78.4 GiB", int(78.4 * GIB)),
        ("512 MiB", 512 << 20),
        ("40", 40 * GIB),
        ("1,5", None),
        ("1 TiB", 1 << 40),
        ("24GB", 24 * GIB),
    ],
)
def test_that_a_budget_can_be_typed(text: str, bytes_: int | None) -> None:
    if bytes_ is None:
        assert parse_bytes(text) == 15 * GIB, "a comma groups digits"
    else:
        assert parse_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["", "much", "-3", "0", "1e5", "9" * 400, "1 KiB", "100 TiB", "nan"])
def test_that_a_bad_budget_is_no_number(text: str) -> None:
    assert parse_bytes(text) is None
