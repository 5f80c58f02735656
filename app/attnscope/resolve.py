"""From what the person wishes to what can be shown. Pure: no Qt, no engine, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import (
    MAX_SEQ_LEN,
    MIN_SEQ_LEN,
    FileSource,
    ParamValues,
    Source,
    SyntheticSource,
    TextSource,
    Workload,
)
from attnscope_engine.variant import Variant

from attnscope.state import SAMPLE_TEXT, Settings


def nearest_divisor(wish: int, number: int) -> int:
    """The divisor of `number` nearest to `wish`; of two equally near, the larger."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: (abs(d - wish), -d))


def with_changes(settings: Settings, **changes: object) -> Settings:
    """`settings` with fields of itself or of its workload replaced, and made possible. Raises: TypeError (no such field)."""
    shape = {name: changes.pop(name) for name in tuple(changes) if name in Workload.__struct_fields__}
    if shape:
        base = changes.get("workload")
        base = base if isinstance(base, Workload) else settings.workload
        changes["workload"] = _workload(msgspec.structs.asdict(base) | shape)
    return resolve(msgspec.structs.replace(settings, **changes))


def resolve(settings: Settings) -> Settings:
    """The nearest settings that can be shown. Idempotent.

    What only this device can not do is kept as a wish (`effective_workload`), since the next device may; the same holds
    for a parameter larger than the present n, which each variant's own `resolve` deals with.
    """
    names = tuple(dict.fromkeys(name for name in settings.checked if name in catalogue.variants()))
    low = min(max(settings.sweep_low, MIN_SEQ_LEN), MAX_SEQ_LEN)
    return msgspec.structs.replace(
        settings,
        workload=_workload(msgspec.structs.asdict(settings.workload)),
        checked=names,
        opened=settings.opened if settings.opened in catalogue.variants() else "",
        groups=tuple(dict.fromkeys(settings.groups)),
        params=_params(settings.params),
        source=_source(settings.source),
        layer=min(max(settings.layer, -1), 1000),
        head=min(max(settings.head, -1), 4096),
        row=min(max(settings.row, -1), MAX_SEQ_LEN),
        column=min(max(settings.column, -1), MAX_SEQ_LEN),
        view=_view(settings.view),
        fits_budget=min(max(settings.fits_budget, 0.0), 1e18),
        sweep_low=low,
        sweep_high=min(max(settings.sweep_high, low), MAX_SEQ_LEN),
    )


MAX_TEXT = 2_000_000
"""Characters; the protocol's limit."""

_BOUNDS = {
    "batch": (1, 1024),
    "seq_len": (MIN_SEQ_LEN, MAX_SEQ_LEN),
    "num_heads": (1, 256),
    "num_kv_heads": (1, 256),
    "head_dim": (8, 512),
    "layers": (1, 1000),
}


def _workload(values: dict[str, Any]) -> Workload:
    for name, (low, high) in _BOUNDS.items():
        values[name] = min(max(int(values[name]), low), high)
    values["num_kv_heads"] = nearest_divisor(values["num_kv_heads"], values["num_heads"])
    return Workload(**values)


def _params(params: Mapping[str, ParamValues]) -> dict[str, ParamValues]:
    known = ((catalogue.variants().get(name), values) for name, values in params.items())
    possible = {variant.name: _values(variant, values) for variant, values in known if variant}
    return {name: values for name, values in possible.items() if values}


def _values(variant: Variant, values: ParamValues) -> ParamValues:
    try:
        variant.parse(values)
    except ValueError:
        return {
            field.name: nearest
            for field in variant.fields()
            if field.name in values and (nearest := field.nearest(values[field.name])) is not None
        }
    return values


def _source(source: Source) -> Source:
    if isinstance(source, FileSource):
        return source if source.path else TextSource(SAMPLE_TEXT)
    if isinstance(source, SyntheticSource):
        return source
    text = source.text[:MAX_TEXT]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair, from a clipboard, has no UTF-8
    return source if text == source.text else msgspec.structs.replace(source, text=text)


def _view(view: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
    if view is None:
        return None
    row0, row1, column0, column1 = (min(max(edge, 0), MAX_SEQ_LEN) for edge in view)
    return (row0, row1, column0, column1) if row0 < row1 and column0 < column1 else None
