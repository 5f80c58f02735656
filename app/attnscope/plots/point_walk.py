"""Which measured point the arrow keys are at. No Qt."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnscope.plots.traces import Mark, Trace, on_axis


class PointWalk:
    """←/→ along a variant's points, ↑/↓ to the point of the next variant nearest in n."""

    def __init__(self) -> None:
        self._variant = ""
        self._n = 0

    def clear(self) -> None:
        self._variant = ""

    def found(self, traces: Sequence[Trace]) -> tuple[Trace, Mark] | None:
        """The point; None when none is chosen or its variant has none."""
        trace = next((trace for trace in traces if trace.variant == self._variant), None)
        marks = on_axis(trace.points) if trace else []
        return (trace, _nearest(marks, self._n)) if trace and marks else None

    def step(self, traces: Sequence[Trace], variants: int, points: int) -> None:
        """Move by so many variants and points; the first step goes to the first point of the first variant."""
        able = [trace for trace in traces if on_axis(trace.points)]
        if not able:
            return
        now = self.found(able)
        if now is None:
            self._variant, self._n = able[0].variant, on_axis(able[0].points)[0].n
            return
        names = [trace.variant for trace in able]
        trace = able[(names.index(now[0].variant) + variants) % len(able)]
        marks = on_axis(trace.points)
        place = marks.index(_nearest(marks, now[1].n)) + points
        self._variant, self._n = trace.variant, marks[min(max(place, 0), len(marks) - 1)].n


def _nearest(marks: Sequence[Mark], n: int) -> Mark:
    return min(marks, key=lambda mark: abs(math.log(mark.n / n)))
