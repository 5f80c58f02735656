"""Parameters of a variant: one typed declaration each says type, bounds, default, unit, help, control and what is refused.

    class LinearParams(Params, frozen=True):
        feature: Annotated[str, one_of(("elu+1", "relu"), help="φ, which replaces the exponential")] = "elu+1"
        normalised: Annotated[bool, flag(help="Divide each row by its sum")] = True
        decay: Annotated[float, real(0.5, 1, step=0.001, unit="a token", help="What is left of a state")] = 0.99
        chunk_size: Annotated[int, param(16, 256, unit="tokens", help="Tokens between two states", scale="log2")] = 64

Panels, `--param`, sessions and `attnscope variants` read the fields below and know no variant by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import msgspec
from msgspec import Meta

from attnscope_engine.protocol import ParamValue


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a variant. A variant without any uses this class itself."""


def param(
    low: int,
    high: int,
    *,
    unit: str,
    help: str,  # noqa: A002 the word that people look for
    label: str = "",
    scale: Literal["linear", "log2"] = "linear",
) -> Meta:
    """Of an `Annotated[int, …]`: a whole number, with a slider and a field."""
    return Meta(ge=low, le=high, description=help, extra={"unit": unit, "label": label, "scale": scale})


def real(low: float, high: float, *, step: float, unit: str, help: str, label: str = "") -> Meta:  # noqa: A002
    """Of an `Annotated[float, …]`: a real number, with a slider and a field.

    It lies on `low`, `low + step`, …, `high` (`step` a power of ten, the bounds multiples of it), so that equal settings are
    equal values, and what was measured at 0.99 is found again at 0.99.
    """
    return Meta(ge=low, le=high, description=help, extra={"unit": unit, "label": label, "step": step})


def flag(*, help: str, label: str = "") -> Meta:  # noqa: A002
    """Of an `Annotated[bool, …]`: on or off, with a check box."""
    return Meta(description=help, extra={"label": label})


def one_of(words: tuple[str, ...], *, help: str, label: str = "") -> Meta:  # noqa: A002
    """Of an `Annotated[str, …]`: one of some words, with a row of buttons, or a list where they are many or long."""
    pattern = "|".join(re.escape(word) for word in words)
    return Meta(pattern=rf"\A(?:{pattern})\Z", description=help, extra={"label": label, "words": words})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """What every declared parameter has."""

    name: str
    label: str
    unit: str = ""
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeField(_Field):
    """A whole number."""

    low: int
    high: int
    default: int
    scale: Literal["linear", "log2"] = "linear"

    @property
    def allowed(self) -> str:
        """What may stand here, in words: "1 to 256"."""
        return f"{self.low:,} to {self.high:,}"

    def allows(self, value: ParamValue) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def nearest(self, value: ParamValue) -> int | None:
        """The allowed value that a wrong one may have meant; None when it means nothing here."""
        return min(max(round(value), self.low), self.high) if _is_number(value) else None

    def samples(self) -> tuple[int, ...]:
        """Values that tests try: both ends and something small between."""
        return tuple(sorted({self.low, min(max(7, self.low), self.high), min(max(16, self.low), self.high), self.high}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RealField(_Field):
    """A real number on a grid."""

    low: float
    high: float
    default: float
    step: float

    @property
    def digits(self) -> int:
        """Decimals that are written."""
        return max(0, round(-math.log10(self.step)))

    @property
    def steps(self) -> int:
        """How many steps lie between `low` and `high`."""
        return round((self.high - self.low) / self.step)

    def at(self, index: int) -> float:
        """The value `index` steps above `low`."""
        return round(self.low + index * self.step, self.digits)

    def index(self, value: float) -> int:
        """How many steps above `low` the grid's value nearest to `value` lies."""
        return round((min(max(value, self.low), self.high) - self.low) / self.step)

    @property
    def allowed(self) -> str:
        return f"{self.low:g} to {self.high:g} in steps of {self.step:g}"

    def allows(self, value: ParamValue) -> bool:
        return _is_number(value) and self.low <= value <= self.high and self.at(self.index(value)) == value

    def nearest(self, value: ParamValue) -> float | None:
        return self.at(self.index(value)) if _is_number(value) else None

    def samples(self) -> tuple[float, ...]:
        return tuple(sorted({self.low, self.at(self.steps // 2), self.high}))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagField(_Field):
    """On or off."""

    default: bool

    @property
    def allowed(self) -> str:
        return "true or false"

    def allows(self, value: ParamValue) -> bool:
        return isinstance(value, bool)

    def nearest(self, value: ParamValue) -> bool | None:
        return value if isinstance(value, bool) else None

    def samples(self) -> tuple[bool, ...]:
        return (False, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordField(_Field):
    """One of some words."""

    words: tuple[str, ...]
    default: str

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(self.words)}"

    def allows(self, value: ParamValue) -> bool:
        return isinstance(value, str) and value in self.words

    def nearest(self, value: ParamValue) -> str | None:
        return value if isinstance(value, str) and value in self.words else None

    def samples(self) -> tuple[str, ...]:
        return self.words


ParamField = WholeField | RealField | FlagField | WordField
"""One declared parameter, as a panel, a help text or a test needs it."""


def fields_of(params: type[Params]) -> tuple[ParamField, ...]:
    """The declarations of a parameter class, in their order.

    Raises:
        TypeError: a parameter is declared without bounds, or in a way that is not one of the four above.
    """
    return tuple(_field(field) for field in msgspec.structs.fields(params))


def _field(field: msgspec.structs.FieldInfo) -> ParamField:
    kind = getattr(field.type, "__origin__", field.type)
    meta: Meta = next(iter(getattr(field.type, "__metadata__", ())), Meta())
    extra: dict[str, Any] = meta.extra or {}
    common: dict[str, Any] = {
        "name": field.name,
        "label": extra.get("label") or field.name.replace("_", " "),
        "unit": extra.get("unit", ""),
        "help": meta.description or "",
        "default": field.default,
    }
    if kind is bool and "label" in extra:
        return FlagField(**common)
    if kind is str and "words" in extra:
        return WordField(words=extra["words"], **common)
    if kind is float and "step" in extra:
        return RealField(low=float(meta.ge or 0), high=float(meta.le or 0), step=extra["step"], **common)
    if kind is int and "scale" in extra:
        return WholeField(low=int(meta.ge or 0), high=int(meta.le or 0), scale=extra["scale"], **common)
    raise TypeError(f"{field.name} must be declared by param (int), real (float), flag (bool) or one_of (str)")


def what_is_wrong(fields: Iterable[ParamField], values: dict[str, ParamValue]) -> str:
    """A sentence's end that names the first wrong field, its value and what is allowed; empty when nothing is wrong."""
    known = {field.name: field for field in fields}
    for name, value in values.items():
        if name not in known:
            return f"there is no parameter {name!r}; there are: {', '.join(known) or 'none'}"
        if not known[name].allows(value):
            return f"{name} must be {known[name].allowed} (was {shown(value)})"
    return ""


def shown(value: ParamValue) -> str:
    """A value as it is written for people: `1,024`, `0.99`, `true`, `'relu'` of at most 40 letters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value[:40])
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _is_number(value: ParamValue) -> TypeGuard[int | float]:
    if isinstance(value, bool | str):
        return False
    return isinstance(value, int) or math.isfinite(value)  # a whole number may be too long for a float
