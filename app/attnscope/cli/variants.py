"""`attnscope variants`: what there is to compare, each with its formula, what grows with n, what it keeps, its source."""

from __future__ import annotations

import argparse
import json

import msgspec
from attnscope_engine.catalogue import variants
from attnscope_engine.parameters import ParamField, WordField, shown
from attnscope_engine.protocol import MAX_SEQ_LEN, Workload
from attnscope_engine.variant import Variant

from attnscope import cost_growth
from attnscope.cli import shape
from attnscope.memory import keeps_a_constant
from attnscope.quantities import bytes_text, count


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "variants",
        help="list the attention variants with formula, growth, state, parameters and source",
        description=__doc__,
    )
    shape.add_shape_options(parser)
    parser.add_argument("--seq-len", default="4096", metavar="N", help="tokens for what is kept while decoding (default 4096)")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    seq_len = shape.number(arguments.seq_len, "--seq-len", 1, MAX_SEQ_LEN)
    dtype = shape.dtype_of(arguments, "cuda", ("fp32", "bf16", "fp16"))
    workload = shape.workload_of(arguments, seq_len, dtype)
    if arguments.json:
        print(json.dumps([described(each, workload) for each in variants().values()], indent=1, ensure_ascii=False))
        return 0
    for name, variant in variants().items():
        print(f"{name}\n    {variant.title} ({variant.family}): {variant.formula}")
        time, memory = growth_of(variant, workload)
        print(f"    operations grow as {time}, memory as {memory}; a layer keeps {kept_words(variant, workload)}")
        for field in variant.fields():
            print(f"    {field_words(field)}")
        if variant.why_no_map:
            print(f"    {variant.why_no_map}")
        print(f"    {variant.source}\n")
    return 0


def growth_of(variant: Variant, workload: Workload) -> tuple[str, str]:
    """How operations and memory of a long call grow, on a GPU: "n", "n log n", "n²"."""
    params = variant.params()
    return cost_growth.growth(variant, params, workload, "cuda")


def kept_words(variant: Variant, workload: Workload) -> str:
    """What a layer keeps for the next token at this setting."""
    params = variant.resolve(workload, variant.params())
    kept, first = (variant.kept_bytes(msgspec.structs.replace(workload, seq_len=n), params) for n in (workload.seq_len, 1))
    if kept == first and workload.seq_len > 1:
        return f"{bytes_text(kept)} whatever n"
    if keeps_a_constant(variant, params, workload):
        return f"{bytes_text(kept)} at n = {count(workload.seq_len)}, {bytes_text(first)} a token until it is full"
    return f"{bytes_text(kept)} at n = {count(workload.seq_len)}, {bytes_text(first)} a token"


def field_words(field: ParamField) -> str:
    """One line about a parameter."""
    unit = f" {field.unit}" if field.unit else ""
    default = field.default if isinstance(field, WordField) else shown(field.default)
    return f"{field.name} = {default} ({field.allowed}{unit}): {field.help}"


def described(variant: Variant, workload: Workload) -> dict[str, object]:
    params = variant.resolve(workload, variant.params())
    time, memory = growth_of(variant, workload)
    fields = [
        {"name": field.name, "default": field.default, "allowed": field.allowed, "unit": field.unit, "help": field.help}
        for field in variant.fields()
    ]
    return {
        "name": variant.name,
        "title": variant.title,
        "family": variant.family,
        "formula": variant.formula,
        "source": variant.source,
        "operations_grow_as": time,
        "memory_grows_as": memory,
        "kept_bytes_a_layer": variant.kept_bytes(workload, params),
        "kept_is_constant": keeps_a_constant(variant, params, workload),
        "signed": variant.is_signed(params),
        "why_no_map": variant.why_no_map,
        "params": fields,
    }
