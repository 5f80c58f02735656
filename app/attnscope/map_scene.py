"""What the map page has to show, worked out of a state: panels, pictures, the row that is read. Pure: no Qt.

A picture is kept while a newer one is on its way. It is stale when it is of another subject (n, head, parameters) than
the one wanted now, and merely coarse when it is of the same subject in another rectangle.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import (
    Choice,
    DrawMap,
    MapDrawn,
    Picture,
    ReadRow,
    Refusal,
    Row,
    RowRead,
    Source,
    SyntheticSource,
    TextSource,
)

from attnscope.map_staleness import older_words, same_subject, stale_words, summary
from attnscope.map_view import View, clamped
from attnscope.predictions import predict
from attnscope.quantities import count
from attnscope.requests import drawn_panels, map_panels, wanted
from attnscope.state import Answer, State, map_seq_len, shown_cell, text_read
from attnscope.token_text import readable

TOKENS_A_WORD = 1.3
SHORT = 64
"""Texts of at most this many tokens have the sentence strip and the heads under the map; longer maps have traces."""
DIFFERENCE = "A − B"
CHOOSE = "Choose a variant on the left."
STARTING = "The engine is starting."
GAVE_UP = "The engine has stopped."


@dataclass(frozen=True, slots=True)
class Panel:
    """One variant on the map, or the difference of the first two."""

    variant: str
    title: str
    summary: str
    """Its parameters in a few words; empty when it has none."""
    choice: Choice
    picture: Picture | None = None
    job: DrawMap | None = None
    """The request that `picture` answers."""
    seq_len: int = 0
    """Tokens on a side of the picture's map."""
    stale: str = ""
    """What the picture is of, when that is no longer what is wanted."""
    refusal: Refusal | None = None
    row: Row | None = None
    """The weights of the row that is read; None while they are on their way."""
    row_column: int = -1
    """The key round which `row.patch` lies."""
    signed: bool = False
    """The variant's weights can be negative: they are scores."""
    normalised: bool = True
    """The variant's weights sum to 1 in a row."""
    why_no_map: str = ""
    """Why this variant has no map; empty for all others."""

    @property
    def is_difference(self) -> bool:
        return self.title == DIFFERENCE

    @property
    def is_blank(self) -> bool:
        """There is nothing to draw: it was refused, or no map exists."""
        return self.refusal is not None or bool(self.why_no_map)

    @property
    def drop(self) -> float | None:
        """Mean over the rows of the mass that is cut, 0 to 1; None for a variant that cuts nothing."""
        cut = mass_cut(self.picture) if self.picture else ()
        return math.fsum(cut) / len(cut) if cut else None

    def weight(self, column: int) -> float | None:
        """Weight of a key in the row that is read: NaN when masked, None while not known."""
        if self.row is None or not 0 <= column < self.row.weights.shape[0]:
            return None
        return float(memoryview(self.row.weights.data).cast("f")[column])


@dataclass(frozen=True, slots=True)
class WayOut:
    """A button under a message."""

    words: str
    field: str
    """What it sets in the settings or their workload."""
    value: Source | int


@dataclass(frozen=True, slots=True)
class Message:
    """Words in place of the maps, with at most two ways out."""

    text: str
    ways: tuple[WayOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the canvas paints."""

    panels: tuple[Panel, ...] = ()
    """What is drawn: a panel a variant, or the difference alone."""
    rows: tuple[Panel, ...] = ()
    """A panel a variant that has a map, whatever is drawn: whose row is read."""
    seq_len: int = 0
    """Tokens on a side of the pictures shown (not of those wanted); 0 while not known."""
    view: View = (0, 1, 0, 1)
    fitted: bool = True
    """All of the map is in the view."""
    tokens: tuple[str, ...] = ()
    cell: tuple[int, int] | None = None
    """Query and key that are read."""
    fixed: bool = False
    hovered: bool = False
    head: str = ""
    """Such as "layer 13, head 8", for the model's own maps."""
    message: Message | None = None
    waiting: str = ""
    """Why there is no picture yet."""
    causal: bool = True

    text: str = ""
    """The source's text, for the time until its tokens are known."""

    @property
    def short(self) -> bool:
        """A sentence: by its tokens, or by its words while those are not known."""
        return 0 < (len(self.tokens) or round(len(self.text.split()) * TOKENS_A_WORD)) <= SHORT

    def weight(self, panel: Panel, column: int) -> float | None:
        """Weight of a key in the row that is read: of one variant, or the difference of the first two."""
        if not panel.is_difference:
            return panel.weight(column)
        pair = [each.weight(column) for each in self.rows[:2]]
        if len(pair) < 2 or pair[0] is None or pair[1] is None or all(math.isnan(value) for value in pair if value is not None):
            return math.nan if None not in pair else None
        one, other = (0.0 if value is None or math.isnan(value) else value for value in pair)
        return one - other

    def link(self, column: int | None = None) -> str:
        """Query → key by their tokens, of the cell that is read or of another key of its row; empty without tokens."""
        if not self.tokens or self.cell is None:
            return ""
        row, own = self.cell
        key = own if column is None else column
        if not (row < len(self.tokens) and key < len(self.tokens)):
            return ""
        return f"{readable(self.tokens[row])} → {readable(self.tokens[key])}"


def mass_cut(picture: Picture) -> tuple[float, ...]:
    """Mass that each row of the picture loses to the restriction; empty for a variant that loses none by design."""
    return () if picture.mass_cut is None else _floats(picture.mass_cut.data)


@functools.lru_cache(maxsize=16)
def _floats(data: bytes) -> tuple[float, ...]:
    return tuple(memoryview(data).cast("f"))


def scene_of(state: State) -> Scene:
    """What to paint for this state."""
    choices = map_panels(state.settings)
    if not choices:
        return Scene(message=Message(CHOOSE))
    jobs = wanted(state)
    want = jobs.get("map")
    want = want if isinstance(want, DrawMap) else None
    message = _message(state, want)
    if message:
        return Scene(message=message)
    drawn = _drawn(state)
    if isinstance(state.settings.source, TextSource) and not map_seq_len(state):
        drawn = None  # a map of another text has other tokens on its axes
    seq_len = drawn.seq_len if drawn else map_seq_len(state)
    read = text_read(state)
    view = state.settings.view
    head = f"layer {want.layer}, head {want.head}" if want and not isinstance(state.settings.source, SyntheticSource) else ""
    with_map = drawn_panels(state.settings)
    rows = _rows(state, with_map, want, jobs.get("row"), drawn)
    difference = state.settings.compare == "difference" and len(with_map) >= 2
    return Scene(
        panels=(_difference(with_map, want, drawn),) if difference else _beside(choices, rows),
        rows=rows,
        seq_len=seq_len,
        view=clamped(view, max(seq_len, 1)),
        fitted=view is None or clamped(view, max(seq_len, 1)) == (0, seq_len, 0, seq_len),
        tokens=read.tokens if read else (),
        cell=shown_cell(state) if seq_len else None,
        fixed=state.settings.row >= 0,
        hovered=state.live.hover is not None,
        head=head,
        waiting=_waiting(state, drawn),
        causal=state.settings.workload.causal,
        text=state.settings.source.text if isinstance(state.settings.source, TextSource) else "",
    )


def _drawn(state: State) -> MapDrawn | None:
    answer = state.live.answers.get("map")
    return answer.payload if answer and isinstance(answer.payload, MapDrawn) else None


def _waiting(state: State, drawn: MapDrawn | None) -> str:
    if drawn:
        return ""
    return {"starting": STARTING, "restarting": STARTING, "gave_up": GAVE_UP, "stopped": GAVE_UP}.get(state.live.phase, "")


def _message(state: State, want: DrawMap | None) -> Message | None:
    """Words for a source that can not be shown at all."""
    source = state.settings.source
    text = state.live.answers.get("text")
    if isinstance(source, TextSource) and text and getattr(text.job, "source", None) == source and text.payload is None:
        return _why(text, source)
    answer = _failed_map(state, want)
    if answer and (answer.failure or not _refusals(state)):
        return _why(answer, source)
    return None


def _failed_map(state: State, want: DrawMap | None) -> Answer | None:
    """The answer to what is wanted now, when it is no map."""
    answer = state.live.answers.get("map")
    return answer if answer and answer.payload is None and want is not None and answer.job == want else None


def _why(answer: Answer, source: Source) -> Message | None:
    if answer.failure:
        return Message(answer.failure.text)
    return Message(answer.refusal.text, _ways_out(answer.refusal, source)) if answer.refusal else None


def _ways_out(refusal: Refusal, source: Source) -> tuple[WayOut, ...]:
    most = refusal.largest_seq_len
    if refusal.reason != "too_long" or not most:
        return ()
    if isinstance(source, TextSource):
        halves = (msgspec.structs.replace(source, keep="first"), msgspec.structs.replace(source, keep="last"))
        return tuple(WayOut(f"Use the {half.keep} {count(most)}", "source", half) for half in halves)
    return (WayOut(f"Use n = {count(most)}", "seq_len", most),) if isinstance(source, SyntheticSource) else ()


def _rows(
    state: State, choices: tuple[Choice, ...], want: DrawMap | None, row_job: object, drawn: MapDrawn | None
) -> tuple[Panel, ...]:
    failed = _failed_map(state, want)
    others = failed.refusal if failed else None  # a map too long to draw is refused in each panel of its own
    refusals = _refusals(state)
    row_answer = state.live.answers.get("row")
    read = row_answer.payload if row_answer and isinstance(row_answer.payload, RowRead) else None
    return tuple(_panel(choice, want, drawn, row_job, read, refusals.get(choice.variant) or others) for choice in choices)


def _beside(choices: tuple[Choice, ...], rows: tuple[Panel, ...]) -> tuple[Panel, ...]:
    """The panels in their order, those without a map among them."""
    drawn = {panel.variant: panel for panel in rows}
    return tuple(drawn.get(choice.variant) or _without_map(choice) for choice in choices)


def _without_map(choice: Choice) -> Panel:
    variant = catalogue.find(choice.variant)
    return Panel(choice.variant, variant.title, summary(choice), choice, why_no_map=variant.why_no_map)


def _refusals(state: State) -> dict[str, Refusal]:
    """What does not fit at the slider's n. Only a synthetic map has that n; the others are as long as their source."""
    if not isinstance(state.settings.source, SyntheticSource):
        return {}
    return {name: found.refusal for name, found in predict(state).items() if found.refusal}


def _panel(
    choice: Choice, want: DrawMap | None, drawn: MapDrawn | None, row_job: object, read: RowRead | None, refusal: Refusal | None
) -> Panel:
    variant = catalogue.find(choice.variant)
    params = variant.parse(choice.params)
    picture, stale = None, ""
    if drawn and not drawn.job.difference:
        index = _index(drawn.job.panels, choice.variant)
        if index is not None and index < len(drawn.pictures):
            picture = drawn.pictures[index]
            stale = stale_words(drawn.job, want, drawn.job.panels[index], choice)
    row, column = _row(choice, row_job, read)
    return Panel(
        variant=choice.variant,
        title=variant.title,
        summary=summary(choice),
        choice=choice,
        picture=picture,
        job=drawn.job if drawn and picture else None,
        seq_len=drawn.seq_len if drawn else 0,
        stale=stale,
        refusal=refusal or (picture.refusal if picture and not stale else None),
        row=row,
        row_column=column,
        signed=variant.is_signed(params),
        normalised=variant.is_normalised(params),
    )


def _difference(choices: tuple[Choice, ...], want: DrawMap | None, drawn: MapDrawn | None) -> Panel:
    titles = [catalogue.find(choice.variant).title for choice in choices[:2]]
    panel = Panel(choices[0].variant, DIFFERENCE, f"{titles[0]} − {titles[1]}", choices[0])
    if drawn is None or not drawn.job.difference or not drawn.pictures:
        return panel
    stale = "" if want is None or same_subject(drawn.job, want) else older_words(drawn.job, want, choices[0], choices[0])
    refusal = drawn.pictures[0].refusal
    return Panel(
        choices[0].variant, DIFFERENCE, panel.summary, choices[0], drawn.pictures[0], drawn.job, drawn.seq_len, stale, refusal
    )


def _index(panels: tuple[Choice, ...], variant: str) -> int | None:
    return next((index for index, choice in enumerate(panels) if choice.variant == variant), None)


def _row(choice: Choice, row_job: object, read: RowRead | None) -> tuple[Row | None, int]:
    """The row's weights if they answer what is wanted now; any key of the same row does."""
    if read is None or not isinstance(row_job, ReadRow):
        return None, -1
    had = read.job
    if (had.source, had.workload, had.layer, had.head, had.row) != _row_subject(row_job) or choice not in had.panels:
        return None, -1
    index = had.panels.index(choice)
    return (read.rows[index], had.column) if index < len(read.rows) else (None, -1)


def _row_subject(job: ReadRow) -> tuple[object, ...]:
    return job.source, job.workload, job.layer, job.head, job.row
