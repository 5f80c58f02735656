"""Words of the command line to workloads and variants; a mistake is one sentence naming option, value and range."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import cast, get_args

import msgspec
from attnscope_engine.catalogue import find, variants
from attnscope_engine.parameters import FlagField, RealField, WholeField
from attnscope_engine.protocol import MAX_SEQ_LEN, Choice, Dtype, ParamValue, ParamValues, Workload

from attnscope.quantities import parse_count

DEFAULT_VARIANTS = ("softmax_naive", "softmax_tiled", "sliding_window", "linear", "chunked")


class UsageError(Exception):
    """A wrong option. Its text is the whole message; the exit code is 2."""


def number(text: str, name: str, low: int, high: int) -> int:
    """`65536`, `65,536`, `64k`, `2^16` or `1M`. Raises: UsageError."""
    value = parse_count(text)
    if value is None:
        raise UsageError(f"{name} must be a whole number such as 4096, 4k or 2^12 (was {text!r}).")
    if not low <= value <= high:
        raise UsageError(f"{name} must be {low:,} to {high:,} (was {value:,}).")
    return value


def _is_one_number(text: str) -> bool:
    """Whether commas part thousands, as in `65,536`; in `256,512` they part two lengths, which are powers of two."""
    if not re.fullmatch(r"\d{1,3}(,\d{3})+", text.strip()):
        return False
    parts = text.strip().split(",")
    return not all(part[0] != "0" and int(part).bit_count() == 1 for part in parts)


def seq_lens(text: str) -> tuple[int, ...]:
    """`4096`, `512,1000,2k`, or `512:8192`: the powers of two from the first to the second, both included. Raises: UsageError."""
    if ":" in text:
        first, _, last = text.partition(":")
        low, high = (number(word, "--seq-len", 1, MAX_SEQ_LEN) for word in (first, last))
        if low > high:
            raise UsageError(f"--seq-len must run upwards (was {text!r}).")
        found = [low]
        while found[-1] * 2 <= high:
            found.append(found[-1] * 2)
        return tuple(found if found[-1] == high else [*found, high])
    words = [text] if _is_one_number(text) else text.split(",")
    return tuple(sorted({number(word, "--seq-len", 1, MAX_SEQ_LEN) for word in words}))


def add_shape_options(parser: argparse.ArgumentParser) -> None:
    """The options that describe one attention call."""
    default = Workload()
    group = parser.add_argument_group("shape of the call")
    group.add_argument("--heads", default=str(default.num_heads), metavar="H", help=f"query heads (default {default.num_heads})")
    group.add_argument(
        "--kv-heads", default="", metavar="G", help="key and value heads, must divide the heads (default: as many as heads)"
    )
    group.add_argument(
        "--head-dim", default=str(default.head_dim), metavar="D", help=f"width of one head (default {default.head_dim})"
    )
    group.add_argument("--batch", default="1", metavar="B", help="sequences in one call (default 1)")
    group.add_argument("--dtype", default="", metavar="T", help="fp32, bf16 or fp16 (default: bf16 on a GPU, fp32 on the CPU)")
    group.add_argument("--full", action="store_true", help="every query sees every key (default: causal)")


def add_variant_options(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    group = parser.add_argument_group("variants")
    group.add_argument(
        "--variants", default=",".join(default), metavar="A,B", help="names from `attnscope variants` (default: %(default)s)"
    )
    group.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="VARIANT.NAME=VALUE",
        help="a parameter, such as sliding_window.window_size=512; may be repeated",
    )


def workload_of(arguments: argparse.Namespace, seq_len: int, dtype: Dtype) -> Workload:
    """Raises: UsageError."""
    heads = number(arguments.heads, "--heads", 1, 256)
    kv_heads = number(arguments.kv_heads, "--kv-heads", 1, 256) if arguments.kv_heads else heads
    if heads % kv_heads:
        raise UsageError(f"--kv-heads must divide --heads ({heads}); {kv_heads} does not.")
    return Workload(
        batch=number(arguments.batch, "--batch", 1, 1024),
        seq_len=seq_len,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=number(arguments.head_dim, "--head-dim", 8, 512),
        layers=1,
        dtype=dtype,
        causal=not arguments.full,
    )


def dtype_of(arguments: argparse.Namespace, on: str, has: Sequence[Dtype]) -> Dtype:
    """The asked dtype, or the device's usual one. Raises: UsageError."""
    wanted = arguments.dtype or ("bf16" if on == "cuda" else "fp32")
    if wanted not in get_args(Dtype):
        raise UsageError(f"--dtype must be one of {', '.join(get_args(Dtype))} (was {wanted!r}).")
    if wanted not in has:
        raise UsageError(f"--dtype {wanted} is not available on this device, which has {', '.join(has)}.")
    return cast("Dtype", wanted)


def param_value(variant: str, name: str, text: str) -> ParamValue:
    """The value that `text` means to the parameter: a count, a real number, on or off, a word. Raises: UsageError."""
    option = f"--param {variant}.{name}"
    field = next((field for field in find(variant).fields() if field.name == name), None)
    value: ParamValue | None = text
    match field:
        case WholeField(low=low, high=high):
            return number(text, option, low, high)
        case RealField():
            value = _real(text)
        case FlagField():
            value = _SWITCH.get(text.lower())
    if field is not None and (value is None or not field.allows(value)):
        raise UsageError(f"{option} must be {field.allowed} (was {text!r}).")
    return text if value is None else value


_SWITCH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _real(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def choices_of(arguments: argparse.Namespace) -> tuple[Choice, ...]:
    """The variants asked for with their parameters checked. Raises: UsageError."""
    names = (
        list(variants())
        if arguments.variants == "all"
        else [name.strip() for name in arguments.variants.split(",") if name.strip()]
    )
    if not names:
        raise UsageError("--variants is empty: name at least one, or all.")
    params: dict[str, ParamValues] = {}
    try:
        for setting in arguments.param:
            match = re.fullmatch(r"(\w+)\.(\w+)=(.+)", setting)
            if match is None:
                raise UsageError(f"--param must look like sliding_window.window_size=512 (was {setting!r}).")
            if match[1] not in names:
                raise UsageError(f"--param {setting}: {match[1]} is not among --variants ({', '.join(names)}).")
            params.setdefault(match[1], {})[match[2]] = param_value(match[1], match[2], match[3])
        found = []
        for name in dict.fromkeys(names):
            variant = find(name)
            parsed = variant.parse(dict(params.get(name, {})))
            found.append(Choice(name, {k: v for k, v in msgspec.to_builtins(parsed).items() if k in params.get(name, {})}))
        return tuple(found)
    except ValueError as error:
        raise UsageError(str(error)[0].upper() + str(error)[1:] + ".") from error
