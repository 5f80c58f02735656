"""The one place where the state changes, and the one signal that says so.

    control moved → store.update(seq_len=4096) → replace → resolve → equal? stop : changed(old, new)

A view that changes the state while it is being told of a change does not make the others see the changes in the wrong
order: the second change is announced when the first has reached everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import ParamValue
from PySide6.QtCore import QObject, Signal

from attnscope.resolve import resolve, with_changes
from attnscope.state import Live, Settings, State

MERGE_S = 1.0
"""Updates of the same fields that follow each other within this time are one undo step: a drag is undone at once."""

UNDO_STEPS = 500

_BY_IDENTITY = frozenset({"answers", "measurements"})
"""Hold megabytes: a new mapping is a change, without comparing what is in it."""


class Store(QObject):
    """Holds the state. `update_live` is the engine's way to change it, every other method the person's."""

    changed = Signal(object, object)
    """(old, new), both `State`."""

    def __init__(
        self,
        settings: Settings | None = None,
        live: Live | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._clock = clock
        self._state = State(resolve(settings or Settings()), live or Live())
        self._announced = self._state
        self._announcing = False
        self._past: list[Settings] = []
        self._future: list[Settings] = []
        self._last_fields: frozenset[str] = frozenset()
        self._last_time = -MERGE_S

    @property
    def state(self) -> State:
        return self._state

    @property
    def can_undo(self) -> bool:
        return any(settings != self._state.settings for settings in self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    def update(self, **changes: object) -> None:
        """Change fields of `Settings` or of its `Workload`. Raises: TypeError (no such field)."""
        self._settle(with_changes(self._state.settings, **changes), frozenset(changes))

    def set_param(self, variant: str, name: str, value: ParamValue) -> None:
        """Change one parameter of a variant. Raises: ValueError (no such variant or parameter)."""
        fields = {field.name: field for field in catalogue.find(variant).fields()}
        if name not in fields:
            raise ValueError(f"{variant} has no parameter {name!r}; it has: {', '.join(fields) or 'none'}")
        settings = self._state.settings
        values = {key: old for key, old in settings.params.get(variant, {}).items() if key != name}
        if value != fields[name].default:
            values[name] = value
        self._settle(with_changes(settings, params={**settings.params, variant: values}), frozenset({f"{variant}.{name}"}))

    def replace_settings(self, settings: Settings) -> None:
        """All settings at once, as when a session is opened; one undo step of its own."""
        self._settle(resolve(settings), frozenset())

    def update_live(self, **changes: object) -> None:
        """Change fields of `Live`; never undone. Raises: TypeError (no such field)."""
        live = self._state.live
        new = msgspec.structs.replace(live, **changes)
        if any(_differs(name, getattr(live, name), value) for name, value in changes.items()):
            self._become(State(self._state.settings, new))

    def undo(self) -> None:
        self._travel(self._past, self._future)

    def redo(self) -> None:
        self._travel(self._future, self._past)

    def _settle(self, settings: Settings, fields: frozenset[str]) -> None:
        old = self._state.settings
        if settings == old:
            return
        now = self._clock()
        same_gesture = bool(fields) and fields == self._last_fields and now - self._last_time < MERGE_S
        if not same_gesture:
            self._past.append(old)
            del self._past[:-UNDO_STEPS]
        self._future.clear()
        self._last_fields, self._last_time = fields, now
        self._become(State(settings, self._state.live))

    def _travel(self, from_: list[Settings], to: list[Settings]) -> None:
        """One step along the history; steps that a merged gesture brought back to where it began are passed over."""
        here = self._state.settings
        self._last_fields = frozenset()
        while from_:
            there = from_.pop()
            if there != here:
                to.append(here)
                self._become(State(there, self._state.live))
                return

    def _become(self, state: State) -> None:
        self._state = state
        if self._announcing:
            return
        self._announcing = True
        try:
            while self._announced is not self._state:
                old, self._announced = self._announced, self._state
                self.changed.emit(old, self._announced)
        finally:
            self._announcing = False


def _differs(name: str, old: object, new: object) -> bool:
    return old is not new and (name in _BY_IDENTITY or old != new)
