"""Colours of a picture on the screen: what is masked, zero, not computed and not finite differ, and no cell gets lost."""

from __future__ import annotations

import numpy as np
import pytest
from attnscope.looks import DARK, INF_COLOUR, LIGHT, NAN_COLOUR, Tokens, colour_table
from attnscope.map_view import View, whole
from attnscope.plots.map_layout import Box
from attnscope.plots.map_picture import Area, CodeImage, coarser, paint_ground, paint_rings, pooled
from attnscope_engine.protocol import INF, MASKED, MAX_CODE, NAN, NOT_COMPUTED, Array, Picture
from numpy.typing import NDArray
from PySide6.QtGui import QColor, QImage, QPainter
from pytestqt.qtbot import QtBot


def picture(codes: NDArray[np.uint8], **fields: object) -> Picture:
    return Picture(Array("u1", codes.shape, codes.tobytes()), 1e-5, 1.0, "log", **fields)  # type: ignore[arg-type]


def painted(
    image: CodeImage, view: View, side: int, tokens: Tokens = DARK, area: Area | None = None, ratio: float = 1.0
) -> QImage:
    shot = QImage(round(side * ratio), round(side * ratio), QImage.Format.Format_RGB32)
    shot.setDevicePixelRatio(ratio)
    painter = QPainter(shot)
    paint_ground(painter, Box(0, 0, side, side), tokens)
    image.paint(painter, area or Area(0, 0, 1), view, Box(0, 0, side, side))
    painter.end()
    return shot


SPECIAL = np.array([[0, MASKED], [NAN, INF]], np.uint8)


@pytest.mark.parametrize("tokens", [DARK, LIGHT])
def test_that_zero_masked_nan_and_inf_have_colours_of_their_own(qtbot: QtBot, tokens: Tokens) -> None:
    shot = painted(CodeImage(picture(SPECIAL), "inferno", tokens), whole(2), 40, tokens)
    corners = [shot.pixelColor(x, y).name().upper() for x, y in ((10, 10), (30, 10), (10, 30), (30, 30))]
    lowest = QColor(colour_table("inferno", tokens)[0]).name().upper()
    assert corners == [lowest, tokens.mask, NAN_COLOUR, INF_COLOUR]
    assert len(set(corners)) == 4


def test_that_what_is_not_computed_shows_the_ground_with_hairlines(qtbot: QtBot) -> None:
    codes = np.full((1, 1), NOT_COMPUTED, np.uint8)
    shot = painted(CodeImage(picture(codes), "inferno", DARK), whole(1), 40)
    seen = {shot.pixelColor(x, 20).name().upper() for x in range(40)}
    assert DARK.plot in seen
    assert len(seen) > 1
    assert DARK.mask not in seen


@pytest.mark.parametrize("colours", ["ink", "signed"])
def test_that_the_mask_is_hatched_where_near_white_is_a_value(qtbot: QtBot, colours: str) -> None:
    codes = np.full((1, 1), MASKED, np.uint8)
    shot = painted(CodeImage(picture(codes), colours, LIGHT), whole(1), 40, LIGHT)  # type: ignore[arg-type]
    seen = {shot.pixelColor(x, 20).name().upper() for x in range(40)}
    assert LIGHT.mask in seen
    assert len(seen) > 1


@pytest.mark.parametrize("side", [512, 448, 507, 300])
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("place", [(2000, 1000), (4095, 0), (1, 1), (3001, 2999)])
def test_that_one_needle_in_4096_by_4096_is_visible_at_fit(qtbot: QtBot, side: int, ratio: float, place: tuple[int, int]) -> None:
    codes = np.zeros((2048, 2048), np.uint8)
    codes[place[0] // 2, place[1] // 2] = MAX_CODE
    image = CodeImage(picture(codes), "inferno", DARK)
    shot = painted(image, whole(4096), side, area=Area(0, 0, 2), ratio=ratio)
    data = np.frombuffer(shot.constBits(), np.uint8).reshape(shot.height(), shot.bytesPerLine() // 4, 4)[:, : shot.width(), :3]
    assert (data.max(axis=2) > 200).any()


@pytest.mark.parametrize("start", [0, 511, 1000, 1537])
@pytest.mark.parametrize("span", [512, 700, 1999])
def test_that_a_needle_within_the_view_is_visible_at_any_zoom(qtbot: QtBot, start: int, span: int) -> None:
    for share in (0.02, 0.31, 0.77, 0.98):
        codes = np.zeros((4096, 4096), np.uint8)
        row, column = start + int(share * span), start + int((1 - share) * (span - 1))
        codes[row, column] = MAX_CODE
        shot = painted(CodeImage(picture(codes), "inferno", DARK), (start, start + span, start, start + span), 511)
        data = np.frombuffer(shot.constBits(), np.uint8).reshape(511, shot.bytesPerLine() // 4, 4)[:, :511, :3]
        assert (data.max(axis=2) > 200).any()


@pytest.mark.parametrize("step", [2, 3, 5])
def test_that_a_nan_is_never_pooled_away(step: int) -> None:
    codes = np.full((10, 10), MAX_CODE, np.uint8)
    codes[7, 3] = NAN
    small, height, width = pooled(picture(codes, nan_count=1), step)
    found = np.frombuffer(small, np.uint8).reshape(height, width)
    assert found[7 // step, 3 // step] == NAN
    assert (found == NAN).sum() == 1


@pytest.mark.parametrize("step", [2, 3, 7])
@pytest.mark.parametrize("bad", [0, 1])
def test_that_pooling_keeps_the_largest_value_and_masks_only_what_is_all_masked(step: int, bad: int) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 250, (23, 31)).astype(np.uint8)
    codes[rng.random(codes.shape) < 0.7] = MASKED
    small, height, width = pooled(picture(codes, nan_count=bad), step)
    found = np.frombuffer(small, np.uint8).reshape(height, width)
    for i in range(height):
        for j in range(width):
            block = codes[i * step : (i + 1) * step, j * step : (j + 1) * step]
            values = block[block != MASKED]
            assert found[i, j] == (values.max() if values.size else MASKED)


def test_that_of_scores_the_farthest_from_zero_is_kept() -> None:
    codes = np.array([[130, 20], [MASKED, 200], [MASKED, MASKED], [MASKED, 124]], np.uint8)
    small, height, width = pooled(picture(codes, signed=True), 2)
    assert (list(small), height, width) == ([20, 124], 2, 1)


def test_that_a_mean_is_that_of_the_weights_and_not_of_their_codes() -> None:
    codes = np.array([[0, MAX_CODE], [0, 0]], np.uint8)  # weights 0, 1, 0, 0 on a scale from 1e-5 to 1
    small, _, _ = pooled(picture(codes), 2, mean=True)
    value = 1e-5 * (1 / 1e-5) ** (small[0] / MAX_CODE)
    assert value == pytest.approx(0.25, rel=0.03)


def test_that_masked_cells_do_not_lower_a_mean() -> None:
    codes = np.array([[MASKED, MAX_CODE], [MASKED, MASKED]], np.uint8)
    assert pooled(picture(codes), 2, mean=True)[0] == bytes([MAX_CODE])


@pytest.mark.parametrize(
    ("factor", "pixels", "step"), [(1, 1.0, 1), (1, 0.5, 2), (32, 512 / 65536, 4), (2, 512 / 4096, 4), (1, 20.0, 1)]
)
def test_that_no_shown_cell_is_smaller_than_a_device_pixel(factor: int, pixels: float, step: int) -> None:
    assert coarser(factor, pixels) == step
    assert factor * step * pixels >= 1


def test_that_colours_do_not_change_while_panning(qtbot: QtBot) -> None:
    codes = np.arange(100, dtype=np.uint8).reshape(10, 10)
    image = CodeImage(picture(codes), "inferno", DARK)
    here = painted(image, (0, 5, 0, 5), 50).pixelColor(25, 25)  # cell (2, 2) in the middle
    there = painted(image, (2, 7, 2, 7), 50).pixelColor(5, 5)  # the same cell at the corner
    assert here == there == QColor(colour_table("inferno", DARK)[22])


def test_that_a_ring_of_white_and_black_goes_round_each_bad_cell(qtbot: QtBot) -> None:
    codes = np.zeros((50, 50), np.uint8)
    codes[20, 30] = NAN
    shot = painted(CodeImage(picture(codes), "inferno", DARK), whole(50), 100)
    painter = QPainter(shot)
    paint_rings(painter, picture(codes, nan_count=1, bad_cells=((20, 30),)), whole(50), Box(0, 0, 100, 100))
    painter.end()
    row = [shot.pixelColor(x, 41).name() for x in range(100)]
    assert row.count("#ffffff") == 2
    assert row[row.index("#ffffff") - 1] == "#000000"
