"""The line under the slider of n: what fits here, or that a text sets the map's length. Pure: no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from attnscope_engine import catalogue
from attnscope_engine.protocol import MAX_SEQ_LEN, TextSource

from attnscope.predictions import device_kind, predict
from attnscope.quantities import count
from attnscope.state import State, text_read


@dataclass(frozen=True, slots=True)
class Hint:
    text: str
    danger: bool = False


def hint(state: State) -> Hint:
    """One line. A checked variant that does not fit comes first, then the text on the map, then the nearest wall."""
    predictions = predict(state)
    checked = state.settings.checked
    refused = [name for name in checked if predictions[name].refusal]
    if refused:
        return Hint(_ends(state, refused, all_of_them=len(refused) == len(checked)), danger=True)
    read = text_read(state)
    if state.settings.page == "map" and isinstance(state.settings.source, TextSource) and read:
        tokens = len(read.tokens)
        return Hint(f"The map shows the text: {count(tokens)} token{'' if tokens == 1 else 's'}. n sets the costs.")
    name = nearest_wall(state)
    if name:
        limit, where = predictions[name].fits_up_to, "on this card" if device_kind(state) == "cuda" else "in this memory"
        title = catalogue.find(name).title
        return Hint(f"{title} fits up to {count(limit)} {where}" if limit else f"{title} fits at no n {where}")
    return Hint(f"Every variant fits up to {count(MAX_SEQ_LEN)} here" if state.live.vitals else "")


def nearest_wall(state: State) -> str:
    """The variant whose memory ends first, checked or not; empty when none ends below 1,048,576."""
    predictions = predict(state)
    limited = [name for name, prediction in predictions.items() if prediction.fits_up_to < MAX_SEQ_LEN]
    return min(limited, key=lambda name: predictions[name].fits_up_to, default="")


def _ends(state: State, refused: list[str], *, all_of_them: bool) -> str:
    predictions = predict(state)
    for name in refused:
        why = predictions[name].refusal
        if why and why.reason != "memory":
            return why.text
    # The lowest wall is the one to name: of several that are passed it was passed first.
    name = min(refused, key=lambda name: predictions[name].fits_up_to)
    limit = predictions[name].fits_up_to
    first = f"{catalogue.find(name).title} ends at {count(limit)}" if limit else f"{catalogue.find(name).title} does not fit"
    if all_of_them:
        return first if len(refused) == 1 else f"{first}; none of the {len(refused)} fits here"
    return f"{first}; the others fit here" if len(refused) == 1 else f"{first}; {len(refused)} do not fit here"
