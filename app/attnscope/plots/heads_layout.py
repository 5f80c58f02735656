"""How thumbnails of heads fill a rectangle: layer across and head down in bands, or one after another. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

BAND_GAP = 20
"""Pixels under each band for the numbers of its layers."""
LEAST_PITCH = 12


@dataclass(frozen=True, slots=True)
class Grid:
    """Thumbnails at a pitch of whole pixels. In bands, index = head · layers + layer."""

    count: int
    pitch: int
    across: int
    layers: int = 0
    """0: one after another, line by line."""
    heads: int = 0

    @property
    def stride(self) -> int:
        """From a thumbnail to the one under it."""
        return self.layers or self.across

    def cell_of(self, index: int) -> tuple[int, int]:
        """(line, column) of a thumbnail."""
        if not self.layers:
            return divmod(index, self.across)
        head, layer = divmod(index, self.layers)
        band, column = divmod(layer, self.across)
        return band * self.heads + head, column

    def top_of(self, line: int) -> int:
        """Pixels above a line."""
        return line * self.pitch + (line // self.heads * BAND_GAP if self.layers else 0)

    def index_at(self, x: float, y: float) -> int:
        """The thumbnail under a point, -1 for none."""
        column = int(x // self.pitch)
        if y < 0 or not 0 <= column < self.across:
            return -1
        if not self.layers:
            index = int(y // self.pitch) * self.across + column
            return index if index < self.count else -1
        band, rest = divmod(y, self.heads * self.pitch + BAND_GAP)
        head, layer = int(rest // self.pitch), int(band) * self.across + column
        return head * self.layers + layer if head < self.heads and layer < self.layers else -1


def best_grid(room: tuple[float, float], count: int, layers: int, heads: int, most_bands: int = 1) -> Grid:
    """The grid with the largest thumbnails.

    Args:
        room: width and height in pixels.
        count: how many thumbnails.
        layers: 0 when they lie one after another.
        heads: heads of a layer.
        most_bands: how many bands the layers may be folded into.
    """
    width, height = room
    if count < 1:
        return Grid(0, LEAST_PITCH, 1)
    if layers:
        options = [_banded(width, height, count, layers, heads, bands) for bands in range(1, most_bands + 1)]
    else:
        options = [
            Grid(count, int(min(width // across, height // -(-count // across))), across) for across in range(1, count + 1)
        ]
    best = max(options, key=lambda grid: grid.pitch)
    return best if best.pitch >= LEAST_PITCH else Grid(count, LEAST_PITCH, best.across, best.layers, best.heads)


def _banded(width: float, height: float, count: int, layers: int, heads: int, bands: int) -> Grid:
    across = -(-layers // bands)
    pitch = min(width // across, (height - (bands - 1) * BAND_GAP) // (bands * heads))
    return Grid(count, int(pitch), across, layers, heads)
