"""Works the scene of the map out once for each change that concerns it, for every widget that shows a part of it."""

from __future__ import annotations

from attnscope_engine.protocol import SyntheticSource, TextSource
from PySide6.QtCore import QObject, Signal

from attnscope.map_scene import Scene, scene_of
from attnscope.state import Answer, State
from attnscope.store import Store


class MapFeed(QObject):
    """The present scene of a store. A change that the map does not show costs one comparison and emits nothing."""

    changed = Signal(object, object)
    """(old, new), both `Scene`."""

    def __init__(self, store: Store, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._inputs = _inputs(store.state)
        self.scene: Scene = scene_of(store.state)
        store.changed.connect(self._store_changed)

    def _store_changed(self, old: State, new: State) -> None:  # noqa: ARG002
        if new.settings.page != "map":
            return
        inputs = _inputs(new)
        if all(_same(one, other) for one, other in zip(inputs, self._inputs, strict=True)):
            return
        self._inputs = inputs
        before, self.scene = self.scene, scene_of(new)
        self.changed.emit(before, self.scene)


def _inputs(state: State) -> tuple[object, ...]:
    """What `scene_of` looks at. A text is as long as it is: then the slider's n changes nothing on the map."""
    settings, live = state.settings, state.live
    text = isinstance(settings.source, TextSource)
    synthetic = isinstance(settings.source, SyntheticSource)
    answers = (live.answers.get("map"), live.answers.get("row"), live.answers.get("text"))
    chosen = (settings.source, settings.checked, settings.params, settings.layer, settings.head, settings.compare)
    shown = (settings.pool, settings.colours, settings.scale, settings.row, settings.column, settings.view)
    shape = settings.workload.causal if text else settings.workload
    engine = (live.hover, live.phase, live.device, live.vitals if synthetic else None, live.file_seq_len)
    return *answers, *chosen, *shown, shape, *engine


def _same(one: object, other: object) -> bool:
    """Answers hold megabytes, and each is a new object: identity tells them apart."""
    return one is other or (not isinstance(one, Answer) and one == other)
