"""`attnscope map`: the attention map of one head under each variant: of the model on a text, or of your own q and k."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from attnscope_engine.catalogue import find
from attnscope_engine.protocol import (
    Choice,
    DrawMap,
    Failure,
    FileSource,
    MapDrawn,
    ReadRow,
    ReadText,
    Refused,
    Result,
    RowRead,
    Source,
    SyntheticSource,
    TextRead,
    TextSource,
    Workload,
)

from attnscope.cli import shape
from attnscope.engine_wire import default_command
from attnscope.figures.data import map_figure, provenance, source_words
from attnscope.figures.job import FORMATS, FigureJob, Format
from attnscope.figures.render import render
from attnscope.files import atomic_write, read_limited
from attnscope.headless_engine import HeadlessEngine, Outcome
from attnscope.quantities import weight
from attnscope.state import SAMPLE_TEXT

MAX_TEXT_BYTES = 8_000_000
MAX_PIXELS = 2048
DEFAULT = (Choice("softmax_tiled"), Choice("chunked", {"chunk_size": 8}))
"""What the window shows first: the link, and the cut."""
VARIANTS = tuple(choice.variant for choice in DEFAULT)


class MapError(Exception):
    """The map can not be drawn; the text says why."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("map", help="draw the attention map of a head under each variant", description=__doc__)
    shape.add_variant_options(parser, VARIANTS)
    source = parser.add_argument_group(
        "what is looked at (default: the model on the sample sentence)"
    ).add_mutually_exclusive_group()
    source.add_argument("--text", metavar="TEXT", help="this text")
    source.add_argument("--text-file", type=Path, metavar="FILE", help="the text in this file, UTF-8")
    source.add_argument("--qk", type=Path, metavar="FILE", help="q and k of this .npz or .safetensors, (H, N, D) each")
    source.add_argument("--synthetic", choices=("gaussian", "local", "needle", "induction"), help="seeded inputs of this kind")
    parser.add_argument(
        "--keep",
        choices=("all", "first", "last"),
        default="all",
        help="which tokens of a text longer than the model's 8,192 to read",
    )
    parser.add_argument("--seed", default="3", help="seed of synthetic inputs (default 3)")
    parser.add_argument("--seq-len", default="512", help="tokens of synthetic inputs, up to 4096 (default 512)")
    parser.add_argument("--layer", default="", help="layer (default: of the head with the strongest link)")
    parser.add_argument("--head", default="", help="head (default: the one with the strongest link)")
    parser.add_argument("--difference", action="store_true", help="the first variant minus the second")
    parser.add_argument(
        "--colours", choices=("inferno", "cividis", "ink"), default="inferno", help="colour table (default inferno)"
    )
    parser.add_argument("--dark", action="store_true", help="dark figure")
    shape.add_shape_options(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", default=Path("attention-map.png"), help="png, svg, pdf, csv or json by its ending"
    )
    parser.add_argument("--json", action="store_true", help="print head and row statistics as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    choices = shape.choices_of(arguments)
    if not arguments.param and arguments.variants == ",".join(VARIANTS):
        choices = DEFAULT
    blank = [find(choice.variant).why_no_map for choice in choices if find(choice.variant).why_no_map]
    choices = tuple(choice for choice in choices if not find(choice.variant).why_no_map)
    for why in blank:
        print(f"attnscope: {why}", file=sys.stderr)
    if not choices:
        return 1
    if len(choices) > 4:
        raise shape.UsageError(f"--variants: at most 4 maps stand side by side (were {len(choices)}).")
    format_ = format_of(arguments.out)
    source = source_of(arguments)
    seq_len = shape.number(arguments.seq_len, "--seq-len", 1, 4096)
    workload = shape.workload_of(arguments, seq_len, "fp32")
    try:
        with HeadlessEngine(default_command("cpu")) as engine:
            job, said = draw(engine, source, workload, choices, arguments)
    except MapError as error:
        print(f"attnscope: {error}")
        return 1
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(arguments.out, render(msgspec.structs.replace(job, format=format_)))
    if arguments.json:
        print(json.dumps({**said, "link": said["link"].strip(), "file": str(arguments.out)}, indent=1, ensure_ascii=False))
    else:
        print(f"{said['link']}wrote {arguments.out}")
    return 0


def format_of(path: Path) -> Format:
    """Raises: UsageError."""
    ending = path.suffix.lower().lstrip(".")
    for format_ in FORMATS:
        if ending == format_:
            return format_
    raise shape.UsageError(f"--out must end in {', '.join('.' + f for f in FORMATS)} (was {path.name!r}).")


def source_of(arguments: argparse.Namespace) -> Source:
    """Raises: UsageError, OSError."""
    if arguments.qk:
        if not arguments.qk.exists():
            raise shape.UsageError(f"--qk: there is no file {str(arguments.qk)!r}.")
        return FileSource(str(arguments.qk.resolve()))
    if arguments.synthetic:
        return SyntheticSource(arguments.synthetic, shape.number(arguments.seed, "--seed", 0, 2**31 - 1))
    text = arguments.text
    if arguments.text_file:
        try:
            text = read_limited(arguments.text_file, MAX_TEXT_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise shape.UsageError(
                f"--text-file: {arguments.text_file.name} is not UTF-8 text (byte {error.start:,})."
            ) from error
        except ValueError as error:
            raise shape.UsageError(f"--text-file: {error}") from error
    if text is not None and not text.strip():
        raise shape.UsageError("--text is empty: there is nothing to look at.")
    return TextSource(text or SAMPLE_TEXT, arguments.keep)


def answered(reply: Outcome) -> object:
    """The payload. Raises: MapError with the refusal's or failure's sentence."""
    if isinstance(reply, Result):
        return reply.payload
    raise MapError(
        reply.refusal.text if isinstance(reply, Refused) else reply.text if isinstance(reply, Failure) else "no answer"
    )


def draw(
    engine: HeadlessEngine, source: Source, workload: Workload, choices: Sequence[Choice], arguments: argparse.Namespace
) -> tuple[FigureJob, dict[str, str]]:
    """The figure and what the program found. Raises: MapError, EngineGoneError."""
    layer = shape.number(arguments.layer, "--layer", 0, 1000) if arguments.layer else -1
    head = shape.number(arguments.head, "--head", 0, 4096) if arguments.head else -1
    tokens: tuple[str, ...] = ()
    cell: tuple[int, int] | None = None
    if isinstance(source, TextSource):
        read = answered(engine.ask_one(ReadText(source)))
        assert isinstance(read, TextRead)
        tokens = read.tokens
        open_ = [fact for fact in read.heads if layer in (-1, fact.layer) and head in (-1, fact.head)]
        if not open_:
            raise shape.UsageError(f"The model has layers 0 to {read.layers - 1} and heads 0 to {read.num_heads - 1}.")
        best = max(open_, key=lambda fact: fact.link)
        layer, head = best.layer, best.head
        cell = (best.link_query, best.link_key) if best.link > 0 else None
        workload = Workload(1, len(tokens), read.num_heads, read.num_kv_heads, read.head_dim, 1, "fp32", workload.causal)
    n = workload.seq_len
    factor = 2 ** max(0, math.ceil(math.log2(n / MAX_PIXELS)))
    job = DrawMap(
        *(source, workload, max(layer, 0), max(head, 0), tuple(choices), (0, n), (0, n)),
        factor=factor,
        scale="linear" if n <= 256 or arguments.difference else "log",
        difference=arguments.difference,
    )
    drawn = answered(engine.ask_one(job))
    assert isinstance(drawn, MapDrawn)
    row: RowRead | None = None
    if cell is not None:
        answer = answered(engine.ask_one(ReadRow(source, workload, layer, head, tuple(choices), *cell)))
        assert isinstance(answer, RowRead)
        row = answer
    figure = map_figure(drawn, tokens=tokens, colours=arguments.colours, read=row)
    said = {"head": f"layer {max(layer, 0)}, head {max(head, 0)}", "link": link_text(tokens, cell, row, choices, layer, head)}
    where = provenance(workload, None, head=said["head"], source=source_words(source))
    return FigureJob(figure, dark=arguments.dark, provenance=where), said


def link_text(
    tokens: Sequence[str], cell: tuple[int, int] | None, row: RowRead | None, choices: Sequence[Choice], layer: int, head: int
) -> str:
    """The strongest link in words, such as `L13H8: she → CEO 0.427 (Flash), masked (Chunked)`; empty without one."""
    if cell is None or row is None:
        return ""
    import struct

    query, key = cell
    found = []
    for choice, one in zip(choices, row.rows, strict=True):
        (value,) = struct.unpack_from("<f", one.weights.data, 4 * key)
        found.append(f"{'masked' if math.isnan(value) else weight(value)} ({find(choice.variant).title})")
    return f"L{layer}H{head}: {tokens[query].strip()} → {tokens[key].strip()} {', '.join(found)}\n"
