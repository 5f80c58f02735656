"""The variants that exist: the modules of `variants/`, found by scanning the folder, so that adding one is adding files."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from attnscope_engine import variants as _package
from attnscope_engine.cost import Cost, admit
from attnscope_engine.protocol import Choice, DeviceKind, Refusal, Workload
from attnscope_engine.variant import Params, Variant


@functools.cache
def variants() -> Mapping[str, Variant]:
    """Name → variant, in the order of lists."""
    found: list[Variant] = []
    for info in pkgutil.iter_modules(_package.__path__):
        if info.name.startswith("_"):
            continue
        variant = importlib.import_module(f"{_package.__name__}.{info.name}").VARIANT
        if variant.name != info.name:
            raise RuntimeError(f"variants/{info.name}.py names its variant {variant.name!r}")
        found.append(variant)
    found.sort(key=lambda variant: (variant.order, variant.name))
    return MappingProxyType({variant.name: variant for variant in found})


def find(name: str) -> Variant:
    """Raises: ValueError naming the variants that exist."""
    try:
        return variants()[name]
    except KeyError:
        raise ValueError(f"no variant named {name!r}; there are: {', '.join(variants())}") from None


def resolved(choice: Choice, workload: Workload) -> tuple[Variant, Params]:
    """The variant with the parameters that are possible at this workload. Raises: ValueError."""
    variant = find(choice.variant)
    return variant, variant.resolve(workload, variant.parse(choice.params))


def cost_of(choice: Choice, workload: Workload, on: DeviceKind) -> Cost:
    """Raises: ValueError."""
    variant, params = resolved(choice, workload)
    return variant.cost(workload, params, on)


def impossible(variant: Variant, workload: Workload) -> Refusal | None:
    """Why the variant has no such form, whatever memory there is; None when it has."""
    if variant.causal_only and not workload.causal:
        return Refusal("unsupported", variant.causal_only, variant.name, workload.seq_len)
    return None


def admission(choice: Choice, workload: Workload, on: DeviceKind, free_bytes: int, total_bytes: int) -> Refusal | None:
    """None when the call is possible and fits, else why not and what does. Raises: ValueError."""
    import msgspec

    variant = find(choice.variant)
    refusal = impossible(variant, workload)
    if refusal is not None:
        return refusal

    def held(seq_len: int) -> int:
        return cost_of(choice, msgspec.structs.replace(workload, seq_len=seq_len), on).held_bytes

    return admit(variant.title, variant.name, workload, cost_of(choice, workload, on), held, free_bytes, total_bytes)
