"""`attnscope variants`: what there is to compare, each with its formula, parameters and source."""

from __future__ import annotations

import argparse
import json

from attnscope_engine.catalogue import variants
from attnscope_engine.parameters import shown


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "variants", help="list the attention variants with formula, parameters and source", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps([described(name) for name in variants()], indent=1, ensure_ascii=False))
        return 0
    for name, variant in variants().items():
        print(f"{name}\n    {variant.title} ({variant.family}): {variant.formula}")
        for field in variant.fields():
            unit = f" {field.unit}" if field.unit else ""
            print(f"    {field.name} = {shown(field.default)} ({field.allowed}{unit}): {field.help}")
        print(f"    {variant.source}\n")
    return 0


def described(name: str) -> dict[str, object]:
    variant = variants()[name]
    fields = [
        {"name": field.name, "default": field.default, "allowed": field.allowed, "unit": field.unit, "help": field.help}
        for field in variant.fields()
    ]
    return {
        "name": name,
        "title": variant.title,
        "family": variant.family,
        "formula": variant.formula,
        "source": variant.source,
        "params": fields,
    }
