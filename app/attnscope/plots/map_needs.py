"""What the scene asks of the layout: axes wide enough for tokens, gutters, traces."""

from __future__ import annotations

import math

from attnscope.map_scene import Scene
from attnscope.plots import map_layout
from attnscope.plots.map_axes import TITLE, token_room
from attnscope.plots.map_layout import Needs
from attnscope.requests import map_rectangle

TRACE = 52
TRACE_LOW = 40
LOW_HEIGHT = 600
"""Height of the canvas below which traces are lower."""


def outline(scene: Scene) -> tuple[object, ...]:
    """What the places depend on, beside the pictures."""
    panels = tuple((panel.variant, panel.title, panel.refusal, panel.drop is None) for panel in scene.panels)
    return panels, scene.seq_len, scene.tokens, scene.message


def needs_of(scene: Scene, height: float, ratio: float) -> Needs:
    """Room for what the scene has beside its maps."""
    small = 0 < scene.seq_len <= map_layout.SMALL
    gutters = tuple(small and panel.drop is not None for panel in scene.panels)
    trace = 0 if scene.short or small else TRACE if height >= LOW_HEIGHT else TRACE_LOW
    left, below, gap = map_layout.LONG_LEFT, map_layout.LONG_BELOW, map_layout.GAP
    if scene.tokens:
        room = math.ceil(token_room(scene.tokens)) + TITLE
        left, below, gap = max(left, room + 10), max(below, room + 2), map_layout.TOKEN_GAP if scene.short else gap
    factor = map_rectangle(None, scene.seq_len)[2] if scene.seq_len else 1
    right = 8 if scene.short else 16
    return Needs(gutters, left, right, below, trace, scene.seq_len, factor, gap, ratio)
