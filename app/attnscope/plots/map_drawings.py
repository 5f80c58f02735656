"""The pictures of the panels as images, made once each and kept while they can still be needed."""

from __future__ import annotations

from dataclasses import dataclass

from attnscope_engine.protocol import DrawMap, Picture

from attnscope.looks import ColourMap, Tokens
from attnscope.map_scene import Panel, Scene
from attnscope.map_staleness import same_subject
from attnscope.map_view import View
from attnscope.plots.map_picture import Area, CodeImage


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture and the cells that it covers."""

    image: CodeImage
    area: Area
    job: DrawMap

    def covers(self, view: View) -> bool:
        rows, columns = self.job.rows, self.job.columns
        return rows[0] <= view[0] and view[1] <= rows[1] and columns[0] <= view[2] and view[3] <= columns[1]


class Drawings:
    """The pictures of the panels as images, made once each, and of every panel the last one of all of its map."""

    def __init__(self) -> None:
        self._images: dict[int, CodeImage] = {}
        self._whole: dict[str, tuple[Picture, DrawMap]] = {}

    def forget(self) -> None:
        """Throws all images away: the theme or the colours have changed."""
        self._images.clear()

    def keep(self, scene: Scene) -> None:
        """Lets go of images that no panel shows any more."""
        shown = {id(panel.picture) for panel in scene.panels} | {id(picture) for picture, _ in self._whole.values()}
        self._images = {key: image for key, image in self._images.items() if key in shown}

    def of(self, panel: Panel, colours: ColourMap, tokens: Tokens) -> Drawing | None:
        """The panel's picture; None while there is none."""
        if panel.picture is None or panel.job is None or not panel.picture.codes.data:
            return None
        drawing = self._drawing(panel.picture, panel.job, colours, tokens)
        if drawing.covers((0, panel.seq_len, 0, panel.seq_len)):
            self._whole[panel.title] = panel.picture, panel.job
        return drawing

    def whole(self, panel: Panel, colours: ColourMap, tokens: Tokens) -> Drawing | None:
        """The last picture of all of the panel's map, if it is of the same subject."""
        found = self._whole.get(panel.title)
        if found is None or panel.job is None or panel.choice not in found[1].panels:
            return None
        if found[1].scale != panel.job.scale or not same_subject(found[1], panel.job):
            return None
        return self._drawing(*found, colours, tokens)

    def _drawing(self, picture: Picture, job: DrawMap, colours: ColourMap, tokens: Tokens) -> Drawing:
        found = self._images.get(id(picture))
        shown: ColourMap = "signed" if picture.signed else colours
        if found is None or found.picture is not picture or found.colours != shown:
            found = CodeImage(picture, shown, tokens, mean=job.pool == "mean")
            self._images[id(picture)] = found
        return Drawing(found, area_of(job), job)


def area_of(job: DrawMap) -> Area:
    return Area(job.rows[0], job.columns[0], job.factor)
