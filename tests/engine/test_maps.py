"""Of pictures, rows and thumbnails: the same weights as the variant's own float64 map, and nothing odd is hidden."""

import dataclasses
import math

import numpy as np
import pytest
from attnscope_engine import catalogue, maps, pictures
from attnscope_engine.head_maps import MapCache, finished, variant_map, variant_weights
from attnscope_engine.inputs import synthetic_head
from attnscope_engine.maps import Fits
from attnscope_engine.protocol import (
    INF,
    ITEM_BYTES,
    MASKED,
    MAX_CODE,
    NAN,
    Choice,
    DrawHeads,
    DrawMap,
    FileSource,
    ReadRow,
    SyntheticSource,
    Workload,
)
from attnscope_engine.refusals import JobRefused
from attnscope_engine.sources import ArrayHeads, Sources
from attnscope_engine.variant import Interrupted, Variant

PLENTY = Fits("cpu", 1 << 44, 1 << 44)
TILED, CHUNKED, LINEAR = Choice("softmax_tiled"), Choice("chunked", {"chunk_size": 8}), Choice("linear")
WINDOW = Choice("sliding_window", {"window_size": 5, "sinks": 2})
NEEDLE = SyntheticSource("needle", 5)
ALL = [TILED, Choice("softmax_naive"), CHUNKED, LINEAR, WINDOW]
OTHERS = [
    Choice(name)
    for name, variant in catalogue.variants().items()
    if not variant.why_no_map and name not in {choice.variant for choice in ALL}
]


def never() -> None:
    pass


class Fixed(Sources):
    """Sources that are a given q and k."""

    def __init__(self, q: np.ndarray, k: np.ndarray) -> None:
        super().__init__()
        self._heads = ArrayHeads("fixed", [q], [k])

    def open(self, source, workload, tick):
        return self._heads


def shape(n: int, causal: bool = True, **fields) -> Workload:
    return Workload(**{"seq_len": n, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16, "layers": 2, "causal": causal, **fields})


def draw(panels, n=50, sources=None, fits=PLENTY, cache=None, tick=never, **fields):
    job = DrawMap(**{
        "source": NEEDLE, "workload": shape(n), "layer": 0, "head": 0, "panels": tuple(panels), "rows": (0, n), "columns": (0, n),
        **fields,
    })  # fmt: skip
    return maps.draw_map(job, sources or Sources(), cache or MapCache(), fits, tick)


def codes(picture) -> np.ndarray:
    return np.frombuffer(picture.codes.data, np.uint8).reshape(picture.codes.shape)


def floats(array) -> np.ndarray:
    return np.frombuffer(array.data, "<f4").reshape(array.shape)


def truth(choice: Choice, workload: Workload, layer=0, head=0, source=NEEDLE) -> tuple[np.ndarray, np.ndarray]:
    """The variant's own map in float64, and what it sees."""
    variant, params = catalogue.resolved(choice, workload)
    q, k = head_of(variant, source, workload, layer, head)
    rows = np.arange(workload.seq_len)
    return variant.rows_of_map(q, k, workload, params, rows, head)


def head_of(variant: Variant, source, workload: Workload, layer=0, head=0) -> tuple[np.ndarray, np.ndarray]:
    """The q of a head and its k, or those of all key heads where the variant mixes them."""
    q, k = synthetic_head(source, workload, layer, head)
    if not variant.mixes_heads:
        return q, k
    every = range(0, workload.num_heads, workload.num_heads // workload.num_kv_heads)
    return q, np.stack([synthetic_head(source, workload, layer, first)[1] for first in every])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 17, 255, 256, 257, 600])
@pytest.mark.parametrize("choice", [*ALL, *OTHERS], ids=lambda choice: choice.variant)
def test_that_the_fast_map_is_the_variants_own(choice, n, causal):
    workload = shape(n, causal)
    exact, seen = truth(choice, workload)
    variant, params = catalogue.resolved(choice, workload)
    q, k = head_of(variant, NEEDLE, workload)
    weights, visible = variant_weights(variant, params, q, k, workload, 0, never)
    np.testing.assert_array_equal(visible, seen)
    np.testing.assert_allclose(weights, exact, rtol=2e-5, atol=1e-7)
    assert not weights[~seen].any()


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("choice", ALL, ids=lambda choice: choice.variant)
def test_that_each_code_is_the_weight_within_half_a_step(choice, scale):
    (picture,) = draw([choice], scale=scale).pictures
    exact, seen = truth(choice, shape(50))
    code = codes(picture)
    np.testing.assert_array_equal(code == MASKED, ~seen)
    shown = code[seen] / MAX_CODE
    if scale == "linear":
        value = picture.low + shown * (picture.high - picture.low)
        assert np.abs(value - exact[seen]).max() <= 0.51 * picture.high / MAX_CODE
    else:
        inside = exact[seen] >= picture.low
        value = picture.low * (picture.high / picture.low) ** shown
        half_a_step = (picture.high / picture.low) ** (0.51 / MAX_CODE)
        ratio = value[inside] / exact[seen][inside]
        assert 1 / half_a_step <= ratio.min() <= ratio.max() <= half_a_step
        assert not shown[~inside].any()


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("factor", [2, 3, 7, 50, 64])
def test_that_a_pooled_pixel_stands_for_its_cell(factor, pool):
    (picture,) = draw([WINDOW], scale="linear", pool=pool, factor=factor).pictures
    exact, seen = truth(WINDOW, shape(50))
    side = math.ceil(50 / factor)
    assert picture.codes.shape == (side, side)
    for i, j in np.ndindex(side, side):
        cell = slice(i * factor, (i + 1) * factor), slice(j * factor, (j + 1) * factor)
        code = codes(picture)[i, j]
        if not seen[cell].any():
            assert code == MASKED
            continue
        wanted = exact[cell][seen[cell]].max() if pool == "max" else exact[cell][seen[cell]].mean()
        assert abs(code / MAX_CODE * picture.high - wanted) <= 0.51 * picture.high / MAX_CODE


def test_that_panning_and_zooming_never_change_a_colour():
    whole = draw([TILED, WINDOW])
    part = draw([TILED, WINDOW], rows=(10, 30), columns=(3, 40))
    for all_of_it, some in zip(whole.pictures, part.pictures, strict=True):
        assert (all_of_it.low, all_of_it.high) == (some.low, some.high)
        np.testing.assert_array_equal(codes(all_of_it)[10:30, 3:40], codes(some))


def test_that_a_needle_of_the_longest_map_is_seen_at_fit():
    n = 4096
    q = np.zeros((1, n, 16), np.float32)
    k = np.zeros((1, n, 16), np.float32)
    q[0, 3001, 0], k[0, 1234, 0] = 60, 60
    fits = draw([TILED], n=n, factor=4, scale="log", sources=Fixed(q, k))
    code = codes(fits.pictures[0])
    assert code[3001 // 4, 1234 // 4] == MAX_CODE
    assert np.median(code[3001 // 4, : 1000 // 4]) < MAX_CODE * 0.5


def test_that_a_log_scale_shows_the_needle_and_the_tail():
    (picture,) = draw([TILED], n=600, scale="log").pictures
    code = codes(picture)[500:, :400]
    assert picture.low <= picture.high * 1e-2
    assert picture.low >= picture.high * 1e-6
    assert np.unique(code).size > 100
    assert (code == 0).mean() < 0.05


def test_that_an_exact_zero_is_the_lowest_code_and_not_masked():
    q = np.full((1, 4, 8), 200, np.float32)
    k = np.zeros((1, 4, 8), np.float32)
    k[0, 1] = 200
    for scale in ("log", "linear"):
        (picture,) = draw([TILED], n=4, scale=scale, sources=Fixed(q, k)).pictures
        assert codes(picture)[3].tolist() == [0, MAX_CODE, 0, 0]
        assert codes(picture)[0].tolist() == [MAX_CODE, MASKED, MASKED, MASKED]


@pytest.mark.parametrize("choice", [TILED, LINEAR, WINDOW], ids=lambda choice: choice.variant)
def test_that_nan_and_infinity_are_counted_and_placed(choice):
    q, k = (x[None].copy() for x in synthetic_head(NEEDLE, shape(40), 0, 0))
    q[0, 7, 3] = np.nan
    clean = draw([choice], n=40, sources=Fixed(*(np.nan_to_num(x) for x in (q, k)))).pictures[0]
    (picture,) = draw([choice], n=40, sources=Fixed(q, k)).pictures
    seen = codes(clean)[7] != MASKED
    assert picture.nan_count == seen.sum()
    assert picture.bad_cells == tuple((7, int(j)) for j in np.flatnonzero(seen))
    assert (codes(picture)[7][seen] == NAN).all()
    assert np.isfinite([picture.low, picture.high]).all()
    assert (codes(picture)[20] != NAN).all()


def test_that_of_many_bad_cells_the_first_64_are_listed_and_all_counted():
    q, k = (x[None].copy() for x in synthetic_head(NEEDLE, shape(200), 0, 0))
    q[:] = np.inf
    (picture,) = draw([TILED], n=200, sources=Fixed(q, k)).pictures
    assert picture.nan_count + picture.inf_count == 200 * 201 // 2
    assert len(picture.bad_cells) == 64
    assert list(picture.bad_cells) == sorted(picture.bad_cells)


def test_that_infinity_has_its_own_code():
    weights = np.array([[1, np.inf], [-np.inf, np.nan]], np.float32)
    found = finished(weights, np.ones((2, 2), bool), signed=False)
    picture = pictures.picture(found, pictures.View(slice(0, 2), slice(0, 2), 1), "max", "linear", None)
    assert codes(picture).tolist() == [[MAX_CODE, INF], [INF, NAN]]
    assert (picture.nan_count, picture.inf_count, picture.max_abs) == (1, 2, 1)


@pytest.mark.parametrize("choice", [CHUNKED, WINDOW], ids=lambda choice: choice.variant)
@pytest.mark.parametrize("causal", [True, False])
def test_that_the_mass_cut_is_what_full_softmax_gives_to_keys_that_are_not_seen(choice, causal):
    workload = shape(300, causal)
    (picture,) = draw([choice], n=300, workload=workload, rows=(20, 290)).pictures
    full, _ = truth(TILED, workload)
    _, seen = truth(choice, workload)
    np.testing.assert_allclose(floats(picture.mass_cut), (full * ~seen).sum(axis=1)[20:290], atol=2e-6)


@pytest.mark.parametrize("choice", [TILED, LINEAR], ids=lambda choice: choice.variant)
def test_that_a_variant_that_sees_all_keys_has_no_mass_cut(choice):
    assert draw([choice]).pictures[0].mass_cut is None


def test_that_a_difference_is_signed_about_its_middle():
    drawn = draw([TILED, CHUNKED], difference=True, scale="linear")
    (picture,) = drawn.pictures
    first, second = truth(TILED, shape(50))[0], truth(CHUNKED, shape(50))[0]
    exact = first - second
    seen = np.tri(50, dtype=bool)
    assert picture.signed
    assert picture.low == -picture.high == pytest.approx(-np.abs(exact).max(), rel=1e-4)
    assert picture.max_abs == picture.high
    value = picture.low + codes(picture).astype(float) / MAX_CODE * 2 * picture.high
    assert np.abs(value - exact)[seen].max() <= 1.02 * picture.high / MAX_CODE
    assert (codes(picture)[~seen] == MASKED).all()


@pytest.mark.parametrize("factor", [1, 4])
def test_that_the_largest_difference_survives_pooling_whatever_its_sign(factor):
    (picture,) = draw([CHUNKED, TILED], difference=True, factor=factor).pictures
    exact = truth(CHUNKED, shape(50))[0] - truth(TILED, shape(50))[0]
    ends = {exact.min(): 0, exact.max(): MAX_CODE}
    largest = max(ends, key=abs)
    assert (codes(picture) == ends[largest]).sum() >= 1


def test_that_equal_panels_differ_by_the_middle_code():
    (picture,) = draw([TILED, Choice("softmax_naive")], difference=True).pictures
    assert picture.high == 0
    assert set(codes(picture).ravel().tolist()) <= {0, MASKED}


def test_that_a_variant_that_does_not_fit_is_refused_in_its_own_panel():
    workload = shape(2048, num_heads=64, num_kv_heads=8, batch=8)
    need = 8 * 64 * 2048 * 2048 * (4 + ITEM_BYTES[workload.dtype])
    small = Fits("cpu", need // 2, need)
    naive, tiled = draw([Choice("softmax_naive"), TILED], n=2048, workload=workload, fits=small, factor=8).pictures
    assert naive.refusal is not None
    assert naive.refusal.needed_bytes >= need
    assert 0 < naive.refusal.largest_seq_len < 2048
    assert naive.codes.shape == (0, 0)
    assert tiled.refusal is None
    assert tiled.codes.shape == (256, 256)


def test_that_a_longer_map_is_refused_with_the_largest_and_the_way_out():
    with pytest.raises(JobRefused) as refused:
        draw([TILED], n=4097)
    assert refused.value.refusal.reason == "too_long"
    assert refused.value.refusal.largest_seq_len == 4096
    assert "4,097" in str(refused.value)
    assert "set n to 4,096" in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layer": 2}, "layer must be 0 to 1 (was 2)"),
        ({"head": 2}, "head must be 0 to 1 (was 2)"),
        ({"rows": (50, 60)}, "rows must begin at 0 to 49"),
        ({"rows": (7, 7)}, "rows must begin"),
        ({"columns": (-1, 7)}, "columns must begin"),
        ({"panels": (TILED,), "difference": True}, "two variants"),
        ({"panels": (Choice("nope"),)}, "no variant named 'nope'"),
        ({"panels": (Choice("chunked", {"chunk_size": 0}),)}, "chunk_size"),
    ],
)
def test_that_a_number_out_of_range_is_refused_with_the_range(fields, words):
    with pytest.raises(JobRefused) as refused:
        draw(**{"panels": [TILED], **fields})
    assert refused.value.refusal.reason == "invalid"
    assert words in str(refused.value)


def test_that_a_view_past_the_end_is_the_part_that_exists():
    drawn = draw([TILED], rows=(40, 1000), columns=(0, 1000), factor=4)
    assert drawn.seq_len == 50
    assert drawn.pictures[0].codes.shape == (3, 13)


def test_that_more_pixels_than_a_message_holds_are_refused():
    with pytest.raises(JobRefused, match="raise factor above 1"):
        draw([TILED, LINEAR, WINDOW], n=4096)


@pytest.mark.parametrize("choice", ALL, ids=lambda choice: choice.variant)
@pytest.mark.parametrize(("row", "column"), [(0, 0), (25, 3), (49, 49), (49, 0)])
def test_that_a_row_is_exact(choice, row, column):
    job = ReadRow(NEEDLE, shape(50), 1, 1, (choice,), row, column)
    (read,) = maps.read_row(job, Sources(), never).rows
    exact, seen = truth(choice, shape(50), 1, 1)
    shown = np.where(seen, exact, np.nan)
    np.testing.assert_array_equal(floats(read.weights), shown[row].astype(np.float32))
    padded = np.pad(shown, 10, constant_values=np.nan)[row : row + 21, column : column + 21]
    np.testing.assert_array_equal(floats(read.patch), padded.astype(np.float32))
    p = exact[row][exact[row] > 0]
    assert read.entropy_bits == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)
    assert read.support == pytest.approx(2**read.entropy_bits)
    assert read.sink == exact[row, 0]
    assert read.distance == pytest.approx((exact[row] * (row - np.arange(50))).sum())
    assert read.row_sum == pytest.approx(1)
    full = truth(TILED, shape(50), 1, 1)[0]
    assert read.mass_cut == pytest.approx(full[row][~seen[row]].sum(), abs=1e-9)


def test_that_a_row_of_equal_weights_has_all_its_keys_as_support():
    zeros = np.zeros((1, 64, 8), np.float32)
    job = ReadRow(NEEDLE, shape(64), 0, 0, (TILED,), 63, 0)
    (read,) = maps.read_row(job, Fixed(zeros, zeros), never).rows
    assert read.entropy_bits == pytest.approx(6)
    assert read.support == pytest.approx(64)
    assert read.distance == pytest.approx(31.5)


def test_that_a_row_with_nan_says_so_in_its_numbers():
    q, k = (x[None].copy() for x in synthetic_head(NEEDLE, shape(40), 0, 0))
    q[0, 7] = np.nan
    (read,) = maps.read_row(ReadRow(NEEDLE, shape(40), 0, 0, (TILED,), 7, 0), Fixed(q, k), never).rows
    assert math.isnan(read.entropy_bits)
    assert math.isnan(read.row_sum)


def test_that_an_empty_row_attends_to_nothing():
    assert maps.spread(np.zeros(9), 4) == (0, 0, 0)


@pytest.mark.parametrize(("row", "column"), [(50, 0), (0, 50)])
def test_that_a_row_that_does_not_exist_is_refused(row, column):
    with pytest.raises(JobRefused, match="0 to 49"):
        maps.read_row(ReadRow(NEEDLE, shape(50), 0, 0, (TILED,), row, column), Sources(), never)


@pytest.mark.parametrize("n", [1, 3, 24, 50, 300])
@pytest.mark.parametrize("choice", [TILED, LINEAR, CHUNKED], ids=lambda choice: choice.variant)
def test_that_each_thumbnail_shows_the_largest_weight_of_its_cells(choice, n):
    job = DrawHeads(NEEDLE, shape(n), choice, size=24)
    drawn = maps.draw_heads(job, Sources(), PLENTY, never, lambda done: None)
    assert drawn.thumbs.shape == (2, 2, 24, 24)
    thumbs = np.frombuffer(drawn.thumbs.data, np.uint8).reshape(drawn.thumbs.shape)
    for layer, head in np.ndindex(2, 2):
        exact, seen = truth(choice, shape(n), layer, head)
        for i, j in np.ndindex(24, 24):
            rows = slice(i * n // 24, max((i + 1) * n // 24, i * n // 24 + 1))
            columns = slice(j * n // 24, max((j + 1) * n // 24, j * n // 24 + 1))
            if not seen[rows, columns].any():
                assert thumbs[layer, head, i, j] == MASKED
            else:
                wanted = exact[rows, columns].max() / exact.max() * MAX_CODE
                assert abs(thumbs[layer, head, i, j] - wanted) <= 0.51


def test_that_all_heads_can_be_stopped_between_two():
    done = []

    def stop():
        if len(done) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        maps.draw_heads(DrawHeads(NEEDLE, shape(20), TILED), Sources(), PLENTY, stop, done.append)
    assert len(done) == 2


def test_that_all_heads_of_a_variant_that_does_not_fit_are_refused():
    with pytest.raises(JobRefused) as refused:
        maps.draw_heads(DrawHeads(NEEDLE, shape(1024), TILED), Sources(), Fits("cpu", 1000, 1000), never, lambda done: None)
    assert refused.value.refusal.reason == "memory"


def test_that_a_map_can_be_stopped_between_blocks():
    ticks = []

    def stop():
        ticks.append(1)
        if len(ticks) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        draw([TILED], n=2048, factor=4, tick=stop)
    assert len(ticks) == 3


def test_that_the_cache_holds_no_more_than_its_limit_and_the_newest_always():
    cache = MapCache(limit_bytes=5 * 100 * 100 * 5)
    for head in range(2):
        for layer in range(2):
            for causal in (True, False):
                draw([LINEAR, TILED], n=100, layer=layer, head=head, workload=shape(100, causal), cache=cache)
                assert 0 < cache.held_bytes <= 5 * 100 * 100 * 5
    tiny = MapCache(limit_bytes=1)
    draw([LINEAR, TILED], n=100, cache=tiny)
    assert tiny.held_bytes == 100 * 100 * 5


def test_that_other_inputs_are_never_answered_from_the_cache():
    cache = MapCache()
    drawn = {}
    for source in (SyntheticSource("gaussian", 1), SyntheticSource("gaussian", 2), SyntheticSource("local", 1)):
        for causal in (True, False):
            for layer, head in np.ndindex(2, 2):
                for choice in (TILED, WINDOW, Choice("sliding_window", {"window_size": 9})):
                    workload = shape(50, causal)
                    fields = {"source": source, "workload": workload, "layer": layer, "head": head, "cache": cache}
                    first = draw([choice], **fields).pictures[0].codes
                    assert draw([choice], **fields).pictures[0].codes == first
                    drawn[first.data] = drawn.get(first.data, 0) + 1
    assert len(drawn) == 3 * 2 * 4 * 3


def test_that_a_files_own_shape_counts_and_not_the_workloads(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", q=rng.standard_normal((3, 30, 8)), k=rng.standard_normal((1, 30, 8)))
    drawn = draw([TILED, CHUNKED], source=FileSource(str(tmp_path / "own.npz")), head=2, rows=(0, 1), columns=(0, 1))
    assert drawn.seq_len == 30
    with pytest.raises(JobRefused, match="head must be 0 to 2"):
        draw([TILED], source=FileSource(str(tmp_path / "own.npz")), head=3)


# ---------------------------------------------------------------- what a variant's record decides


def test_that_a_softmax_that_is_not_plain_is_drawn_by_its_own_weights_and_shares_no_map():
    halved = dataclasses.replace(
        catalogue.find("softmax_tiled"),
        plain_softmax=False,
        weights=lambda *of: 0.5 * catalogue.find("softmax_tiled").weights(*of),
    )
    workload, cache = shape(70), MapCache()
    heads = Sources().open(NEEDLE, workload, never)
    whole = variant_map(catalogue.find("softmax_tiled"), halved.params(), heads, 0, 0, workload, cache, never)
    half = variant_map(halved, halved.params(), heads, 0, 0, workload, MapCache(), never)
    np.testing.assert_allclose(half.weights, 0.5 * whole.weights, rtol=2e-5, atol=1e-7)


def test_that_what_a_variant_picked_by_q_and_k_is_seen_and_the_rest_is_masked():
    def strongest(q, k, workload, params, rows, head):
        scores = np.where(np.arange(len(k)) <= rows[:, None], q[rows].astype(np.float64) @ k.T.astype(np.float64), -np.inf)
        return (scores == scores.max(axis=1, keepdims=True)).astype(np.float64)

    picks = dataclasses.replace(catalogue.find("softmax_tiled"), plain_softmax=False, picks=True, weights=strongest)
    workload = shape(300)
    q, k = synthetic_head(NEEDLE, workload, 0, 0)
    weights, seen = variant_weights(picks, picks.params(), q, k, workload, 0, never)
    assert (seen.sum(axis=1) == 1).all()
    assert (weights[seen] == 1).all()
    whole = np.tril(q.astype(np.float64) @ k.T.astype(np.float64)) + np.triu(np.full((300, 300), -np.inf), 1)
    np.testing.assert_array_equal(seen.argmax(axis=1), whole.argmax(axis=1))


def test_that_a_sign_may_depend_on_the_parameters():
    window = catalogue.find("sliding_window")
    some = dataclasses.replace(window, signed=lambda params: params.sinks > 0, normalised=lambda params: params.sinks == 0)
    one, other = some.parse({"sinks": 0}), some.parse({"sinks": 3})
    assert [some.is_signed(params) for params in (one, other)] == [False, True]
    assert [some.is_normalised(params) for params in (one, other)] == [True, False]
