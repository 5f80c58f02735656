"""Which pairs the restricted variants see, against definitions written out here; and their pairs counted at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from attnscope_engine import catalogue, draws
from attnscope_engine.protocol import Choice, ParamValue, Workload
from attnscope_engine.variants import block_sparse, dilated, document

LENGTHS = (1, 2, 63, 64, 65, 127, 200, 333)


def seen(name: str, values: dict[str, ParamValue], n: int, causal: bool, m: int | None = None) -> np.ndarray:
    """What the variant sees of `m` keys, one row a query; the last query stands at the last key."""
    keys = m or n
    workload = Workload(seq_len=max(n, keys), num_heads=1, num_kv_heads=1, causal=causal)
    variant = catalogue.find(name)
    return variant.visible(workload, variant.parse(values), np.arange(n) + keys - n, np.arange(keys))


def pairs(name: str, values: dict[str, ParamValue], n: int, causal: bool) -> int:
    """Pairs of one head that the cost counts."""
    workload = Workload(seq_len=n, num_heads=1, num_kv_heads=1, head_dim=8, causal=causal)
    return catalogue.cost_of(Choice(name, values), workload, "cuda").flops // (4 * 8)


@pytest.mark.parametrize("prefix", [1, 2, 50, 64, 1000])
@pytest.mark.parametrize("n", LENGTHS)
def test_that_a_prefix_sees_itself_and_the_rest_what_came_before(n: int, prefix: int) -> None:
    found = seen("prefix", {"prefix_size": prefix}, n, True)
    inside = min(prefix, n)
    assert found[:inside, :inside].all()
    assert not found[:inside, inside:].any()
    assert np.array_equal(found[inside:], np.tri(n, dtype=bool)[inside:])
    assert pairs("prefix", {"prefix_size": prefix}, n, True) == found.sum()
    assert pairs("prefix", {"prefix_size": prefix}, n, False) == n * n


def test_that_a_prefix_of_one_token_is_causal_attention_and_a_whole_one_full_attention() -> None:
    assert np.array_equal(seen("prefix", {"prefix_size": 1}, 70, True), np.tri(70, dtype=bool))
    assert seen("prefix", {"prefix_size": 70}, 70, True).all()
    assert seen("prefix", {"prefix_size": 5}, 70, False).all()


def documents(params: document.DocumentParams, n: int) -> list[int]:
    """The document of each of the first `n` tokens."""
    return [index for index, size in enumerate(document.lengths_within(params, n).tolist()) for _ in range(size)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("values", [{"mean_size": 16}, {"mean_size": 50, "seed": 9}, {"mean_size": 4000}])
@pytest.mark.parametrize("n", LENGTHS)
def test_that_documents_see_themselves_only(n: int, values: dict[str, ParamValue], causal: bool) -> None:
    found, of = seen("document", values, n, causal), documents(document.DocumentParams(**values), n)
    expected = [[of[i] == of[j] and (j <= i or not causal) for j in range(n)] for i in range(n)]
    assert np.array_equal(found, expected)
    assert pairs("document", values, n, causal) == found.sum()


@pytest.mark.parametrize("mean", [16, 100, 5000])
def test_that_lengths_of_documents_have_their_mean_and_their_spread(mean: int) -> None:
    """A geometric distribution's standard deviation is √(mean² − mean)."""
    drawn = [
        document.lengths_within(document.DocumentParams(mean, seed), 1 << 20)[:-1] for seed in range(100 if mean > 1000 else 5)
    ]
    lengths = np.concatenate(drawn)
    assert lengths.min() >= 1
    assert lengths.mean() == pytest.approx(mean, rel=0.05)
    assert lengths.std() == pytest.approx(np.sqrt(mean**2 - mean), rel=0.1)


def test_that_the_documents_of_a_longer_sequence_begin_with_the_same() -> None:
    params = document.DocumentParams(64, 5)
    long = document.ends_within(params, 1 << 20)
    for n in (1, 100, 1000, 4097, 70_000):
        assert np.array_equal(document.ends_within(params, n)[:-1], long[: len(document.ends_within(params, n)) - 1])
    assert not np.array_equal(document.ends_within(document.DocumentParams(64, 6), 4096), document.ends_within(params, 4096))


def test_that_draws_are_the_published_generators_and_fill_the_interval() -> None:
    """SplitMix64 of state 0 gives this number first, as its authors' own program does."""
    assert draws._mixed(np.array([0x9E3779B97F4A7C15], np.uint64))[0] == 0xE220A8397B1DCDAF
    found = draws.uniforms(1, np.arange(100_000))
    assert 0 < found.min() < 1e-3
    assert 1 - 1e-3 < found.max() < 1
    assert np.histogram(found, 10, (0, 1))[0] == pytest.approx(10_000, rel=0.05)
    assert np.array_equal(draws.uniforms(1, np.arange(50, 60)), found[50:60])


@pytest.mark.parametrize(("window", "tokens"), [(1, 1), (9, 40), (50, 3), (1000, 256), (64, 64)])
@pytest.mark.parametrize("n", LENGTHS)
def test_that_global_tokens_see_everything_and_are_seen_by_everything(n: int, window: int, tokens: int) -> None:
    values = {"window_size": window, "global_size": tokens}
    found = seen("global_tokens", values, n, False)
    expected = [[abs(i - j) < window or i < tokens or j < tokens for j in range(n)] for i in range(n)]
    assert np.array_equal(found, expected)
    assert np.array_equal(found, found.T)
    assert pairs("global_tokens", values, n, False) == found.sum()


@pytest.mark.parametrize("n", LENGTHS)
def test_that_causal_global_tokens_are_the_sinks_of_a_window(n: int) -> None:
    for window, tokens in ((1, 1), (9, 40), (50, 3), (1000, 256)):
        values = {"window_size": window, "global_size": tokens}
        same = {"window_size": window, "sinks": tokens}
        found = seen("global_tokens", values, n, True)
        assert np.array_equal(found, seen("sliding_window", same, n, True))
        assert pairs("global_tokens", values, n, True) == found.sum() == pairs("sliding_window", same, n, True)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "dilation"), [(1, 1), (7, 3), (40, 2), (5, 100), (1000, 7)])
@pytest.mark.parametrize("n", LENGTHS)
def test_that_a_window_with_gaps_sees_its_multiples(n: int, window: int, dilation: int, causal: bool) -> None:
    values = {"window_size": window, "dilation": dilation}
    found = seen("dilated", values, n, causal)
    steps = [dilation * step for step in range(window)]
    expected = [[i - j in steps or (not causal and j - i in steps) for j in range(n)] for i in range(n)]
    assert np.array_equal(found, expected)
    assert pairs("dilated", values, n, causal) == found.sum()


@pytest.mark.parametrize(("n", "m"), [(1, 9), (40, 40), (5, 40), (40, 5), (33, 31)])
@pytest.mark.parametrize("dilation", [1, 2, 7, 50])
def test_that_remainders_hold_each_query_once_and_the_keys_that_it_may_see(n: int, m: int, dilation: int) -> None:
    rows = []
    for queries, keys in dilated.remainders(n, m, dilation):
        for row in range(n)[queries]:
            assert [key for key in range(m) if (row + m - n - key) % dilation == 0] == list(range(m)[keys])
            rows.append(row)
    assert sorted(rows) == list(range(n))


def seen_blocks(values: dict[str, ParamValue], end: int, causal: bool) -> np.ndarray:
    """Which blocks see which, read off the tokens of `end` whole blocks."""
    found = seen("block_sparse", values, 128 * end, causal).reshape(end, 128, end, 128)
    any_pair = found.any((1, 3))
    inside = np.tri(128, dtype=bool)
    for i, j in zip(*np.nonzero(any_pair), strict=True):
        assert np.array_equal(found[i, :, j], inside) if causal and i == j else found[i, :, j].all()
    return any_pair


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "tokens", "drawn"), [(1, 0, 0), (1, 1, 2), (2, 3, 3), (64, 0, 1), (1, 0, 64), (1, 16, 5)])
def test_that_blocks_see_their_window_the_first_blocks_and_as_many_drawn_ones(
    window: int, tokens: int, drawn: int, causal: bool
) -> None:
    end = 9
    values = {"window_blocks": window, "global_blocks": tokens, "random_blocks": drawn, "seed": 4}
    found = seen_blocks(values, end, causal)
    for i in range(end):
        own = [j for j in range(end) if j <= i or not causal]
        fixed = [j for j in own if j < tokens or abs(i - j) < window or (i < tokens and not causal)]
        assert found[i, fixed].all()
        assert found[i].sum() == len(fixed) + min(drawn, len(own) - len(fixed))
        assert not found[i, [j for j in range(end) if j not in own]].any()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 127, 128, 129, 700, 1000, 1153])
@pytest.mark.parametrize(("window", "tokens", "drawn"), [(1, 0, 0), (1, 1, 2), (2, 3, 3), (1, 0, 1), (64, 16, 64), (1, 9, 1)])
def test_that_pairs_of_listed_blocks_are_counted_exactly(n: int, window: int, tokens: int, drawn: int, causal: bool) -> None:
    for seed in range(4):
        values = {"window_blocks": window, "global_blocks": tokens, "random_blocks": drawn, "seed": seed}
        assert pairs("block_sparse", values, n, causal) == seen("block_sparse", values, n, causal).sum()


def test_that_drawn_blocks_spread_over_all_that_is_left_and_differ_by_seed() -> None:
    """Each of the earlier blocks is drawn about as often as another of its part."""
    workload = Workload(seq_len=128 * 101, num_heads=1, num_kv_heads=1)
    often = np.zeros(101, int)
    for seed in range(400):
        params = block_sparse.SparseParams(1, 0, 4, seed)
        (listed,) = block_sparse.blocks_seen(workload, params, np.array([100]))
        often[listed[listed >= 0]] += 1
    assert often[100] == 400
    assert often[:100].sum() == 1600
    assert often[:100].min() >= 4
    assert often[:100].max() <= 36


@pytest.mark.parametrize("causal", [True, False])
def test_that_the_kernels_lists_are_those_that_are_seen(causal: bool) -> None:
    workload = Workload(seq_len=1000, num_heads=1, num_kv_heads=1, causal=causal)
    params = block_sparse.SparseParams(1, 1, 2, 7)
    lists = block_sparse.lists_of(workload, params, 1000).tolist()
    found = seen("block_sparse", {"window_blocks": 1, "global_blocks": 1, "random_blocks": 2, "seed": 7}, 1000, causal)
    for block in range(8):
        listed = lists[lists[block] : lists[block + 1]]
        assert listed == [j for j in range(8) if found[128 * block, 128 * j] or found[min(128 * block + 127, 999), 128 * j]]
    assert lists[8] == len(lists)
