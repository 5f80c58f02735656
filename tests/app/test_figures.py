"""Figures: what is drawn is what was given, text stays text, provenance is inside every file."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from attnscope.figures.data import map_figure, memory_figure, provenance, scaling_figure
from attnscope.figures.job import FORMATS, FigureJob, provenance_line
from attnscope.figures.render import as_text_table, copies, render
from attnscope_engine.catalogue import variants
from attnscope_engine.protocol import (
    MASKED,
    Array,
    Ceilings,
    Choice,
    DeviceFacts,
    DrawMap,
    MapDrawn,
    Measured,
    Picture,
    ReadRow,
    Row,
    RowRead,
    TextSource,
    Workload,
)

WORKLOAD = Workload(seq_len=1024, dtype="fp32")
CHOICES = (Choice("softmax_naive"), Choice("softmax_tiled"), Choice("sliding_window", {"window_size": 256}))
CEILINGS = Ceilings("cpu", {"fp32": 1e11}, 1e10, 1e9, 1e-5, 0.0)
DEVICE = DeviceFacts("cpu", "cpu", "Test processor", 8 << 30, threads=2, library="numpy 2.4.6")


def measured(seq_len: int, choice: Choice, time_s: float, noise: str = "") -> Measured:
    workload = msgspec.structs.replace(WORKLOAD, seq_len=seq_len)
    return Measured(
        workload,
        choice,
        "cpu",
        time_s,
        time_s * 0.9,
        time_s * 1.2,
        7,
        1 << 24,
        1_700_000_000.0,
        noise,
        0,
        {"timer": "perf_counter"},
    )


ROWS = [measured(512, CHOICES[0], 0.01), measured(1024, CHOICES[0], 0.04, "spread 9 %"), measured(1024, CHOICES[1], 0.003)]


def scaling_job(**changes: object) -> FigureJob:
    figure = scaling_figure(
        WORKLOAD, CHOICES, ROWS, (256, 512, 1024, 2048), on="cpu", ceilings=CEILINGS, free_bytes=8 << 30, total_bytes=8 << 30
    )
    return msgspec.structs.replace(FigureJob(figure, dpi=80, provenance=provenance(WORKLOAD, DEVICE, ROWS)), **changes)


def map_job(**changes: object) -> FigureJob:
    codes = bytes([249, MASKED, 100, 200])
    picture = Picture(Array("u1", (2, 2), codes), 0.0, 1.0, "linear")
    job = DrawMap(TextSource("a b"), WORKLOAD, 3, 1, (Choice("softmax_tiled"),), (0, 2), (0, 2))
    row = Row(
        Array("f4", (2,), struct.pack("<2f", 0.25, 0.75)), Array("f4", (21, 21), bytes(21 * 21 * 4)), 0.8, 1.7, 0.25, 0.4, 1.0
    )
    read = RowRead(ReadRow(job.source, WORKLOAD, 3, 1, job.panels, 1, 0), (row,))
    figure = map_figure(MapDrawn(job, 2, (picture,)), tokens=("a", " <b>"), read=read)
    return msgspec.structs.replace(FigureJob(figure, dpi=80, provenance=provenance(WORKLOAD, DEVICE)), **changes)


def memory_job(**changes: object) -> FigureJob:
    figure = memory_figure(WORKLOAD, CHOICES, ROWS, on="cpu", free_bytes=8 << 30)
    return msgspec.structs.replace(FigureJob(figure, dpi=80, provenance=provenance(WORKLOAD, DEVICE, ROWS)), **changes)


JOBS = {"scaling": scaling_job, "memory": memory_job, "map": map_job}
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "csv": b"# Attnscope", "json": b"{"}


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("format_", FORMATS)
def test_that_every_format_is_that_format_and_names_the_device(kind: str, format_: str) -> None:
    data = render(JOBS[kind](format=format_))
    assert data.startswith(MAGIC[format_])
    name = "Test processor"
    assert name.encode("utf-16-be" if format_ == "pdf" else "utf-8") in data


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("preset", ["one_column", "two_columns", "slide", "screen"])
def test_that_a_picture_has_the_size_of_its_preset(kind: str, preset: str) -> None:
    from attnscope.figures.job import PRESET_SIZE_MM

    data = render(JOBS[kind](preset=preset, dark=preset == "slide"))
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == pytest.approx(tuple(mm / 25.4 * 80 for mm in PRESET_SIZE_MM[preset]), abs=1)


def test_that_svg_text_is_text_and_escaped() -> None:
    svg = render(map_job(format="svg")).decode()
    assert "<text" in svg
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg


def test_that_pdf_embeds_truetype() -> None:
    data = render(scaling_job(format="pdf"))
    streams = b"".join(zlib.decompress(s) for s in re.findall(rb"stream\n(x.*?)\nendstream", data, re.S) if s[:1] == b"x")
    assert b"/FontFile2" in data
    assert b"IBMPlexSans" in data or b"IBMPlexSans" in streams


def test_that_the_table_holds_every_point_and_every_prediction() -> None:
    lines = [line for line in render(scaling_job(format="csv")).decode().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    times = [row for row in rows if row["quantity"] == "time"]
    assert [float(row["value_s_or_bytes"]) for row in times if row["kind"] == "measured"] == [0.01, 0.04, 0.003]
    assert sum(row["kind"] == "predicted" for row in times) == 3 * 4
    assert [row["noisy"] for row in times if row["kind"] == "measured"] == ["0", "1", "0"]


def test_that_json_repeats_the_csv() -> None:
    document = json.loads(render(memory_job(format="json")))
    assert document["provenance"]["device"] == "Test processor"
    peaks = [row for row in document["rows"] if row["kind"] == "measured"]
    assert {int(row["bytes"]) for row in peaks} == {1 << 24}


def test_that_the_clipboard_gets_picture_vectors_and_table() -> None:
    three = copies(map_job())
    assert three.png.startswith(MAGIC["png"])
    assert three.svg.startswith(MAGIC["svg"])
    assert three.table.splitlines()[0].split("\t") == ["key", "token", "Flash"]
    assert three.table == as_text_table(map_job().figure)


def test_that_rates_turn_times_over() -> None:
    figure = scaling_figure(WORKLOAD, CHOICES[:1], ROWS, (512,), on="cpu", ceilings=CEILINGS, quantity="tokens")
    (first, _) = figure.time[0].measured
    assert first.value == pytest.approx(512 / 0.01)
    assert first.low < first.value < first.high


def test_that_points_of_another_window_are_left_out() -> None:
    other = measured(512, Choice("sliding_window", {"window_size": 128}), 0.01)
    figure = scaling_figure(WORKLOAD, CHOICES, [other], (512,), on="cpu")
    assert all(not curve.measured for curve in figure.time)
    assert all(not curve.predicted for curve in figure.time), "no ceilings, no predicted times"


def test_that_the_line_beyond_memory_is_marked() -> None:
    figure = scaling_figure(WORKLOAD, CHOICES[:2], [], (256, 1 << 20), on="cpu", free_bytes=1 << 30, total_bytes=1 << 30)
    naive, flash = figure.memory
    assert 0 < naive.fits_up_to < flash.fits_up_to


def test_that_the_line_of_provenance_is_short_and_ordered() -> None:
    line = provenance_line(provenance(WORKLOAD, DEVICE, ROWS))
    assert line.startswith("batch 1 · 9 heads")
    assert "3 points" in line


def test_that_a_figure_with_nothing_measured_is_still_drawn() -> None:
    figure = scaling_figure(WORKLOAD, CHOICES, [], (256, 512), on="cpu")
    assert render(FigureJob(figure, dpi=60)).startswith(MAGIC["png"])


@pytest.mark.parametrize("draw", [scaling_figure, memory_figure])
def test_that_every_variant_of_the_catalogue_is_drawn_as_measured(draw: Callable[..., Any]) -> None:
    """Some are marked by a polygon of our own, which not every call of the library takes."""
    for name in variants():
        choice = Choice(name)
        rows = [measured(512, choice, 0.01), measured(1024, choice, 0.02)]
        more = (
            {"free_bytes": 8 << 30}
            if draw is memory_figure
            else {"ceilings": CEILINGS, "free_bytes": 8 << 30, "total_bytes": 8 << 30}
        )
        lengths = () if draw is memory_figure else ((512, 1024),)
        figure = draw(WORKLOAD, (choice,), rows, *lengths, on="cpu", **more)
        assert render(FigureJob(figure, dpi=40, provenance=provenance(WORKLOAD, DEVICE, rows))).startswith(MAGIC["png"]), name
