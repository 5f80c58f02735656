"""A text read by the model: its tokens, the q, k and v of every layer, and what each head does with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from attnscope_engine.model.gguf import Gguf
from attnscope_engine.model.heads import LookedAt, look
from attnscope_engine.model.llama import Floats, Llama, Shape
from attnscope_engine.model.tokenizer import TextError, Tokenizer
from attnscope_engine.protocol import HeadFacts, LinkKind, TextRead, TextSource
from attnscope_engine.variant import Tick

RESERVE_BYTES = 256 * 1024 * 1024
"""Memory that a reading leaves to others, and to its own passing arrays."""


class TooLong(Exception):
    """The text has more tokens than can be read, and the source wants all of them."""

    def __init__(self, tokens: int, context: int, why: str = "this model reads") -> None:
        super().__init__(f"{tokens:,} tokens; {why} {context:,}.")
        self.tokens = tokens
        self.context = context
        """The largest number that can be read: the model's context, or less where memory is short."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that the maps of one text need. Holds `Shape.held_bytes(n)`: 59 MB at 512 tokens of SmolLM2-135M, 944 MB at 8,192."""

    source: TextSource
    model: str
    shape: Shape
    ids: NDArray[np.intp]
    tokens: tuple[str, ...]
    """As `Tokenizer.piece` gives them: a leading space is part of the token."""
    q: list[Floats]
    """Per layer `(H, n, D)`, rotated, unscaled."""
    k: list[Floats]
    """Per layer `(G, n, D)`, rotated."""
    v: list[Floats]
    """Per layer `(G, n, D)`."""
    heads: tuple[HeadFacts, ...]
    """Layer-major."""
    link_kind: LinkKind
    rows_looked_at: int
    elapsed_s: float

    def text_read(self) -> TextRead:
        """What the window is told."""
        return TextRead(
            source=self.source,
            tokens=self.tokens,
            model=self.model,
            layers=self.shape.layers,
            num_heads=self.shape.num_heads,
            num_kv_heads=self.shape.num_kv_heads,
            head_dim=self.shape.head_dim,
            context=self.shape.context,
            heads=self.heads,
            link_kind=self.link_kind,
            rows_looked_at=self.rows_looked_at,
            elapsed_s=self.elapsed_s,
        )


class Reader:
    """Reads texts with the model in a GGUF file.

    Raises:
        GgufError: the file can not be used; the text says why.
    """

    def __init__(self, path: Path) -> None:
        file = Gguf(path)
        self.model = file.text("general.basename") if "general.basename" in file.facts else path.stem
        self.tokenizer = Tokenizer(file)
        self.llama = Llama(file)

    def read(self, source: TextSource, tick: Tick) -> Reading:
        """The reading of a text.

        Raises:
            TooLong: more tokens than the context, or than there is memory for, and `source.keep` is "all".
            TextError: the text is empty, or holds half a character.
            Interrupted: from `tick`, called between layers and blocks of rows.
        """
        began = time.perf_counter()
        ids = self._ids(source, tick)
        pieces = tuple(self.tokenizer.piece(int(token)) for token in ids)
        text = LookedAt.of(ids, pieces)
        seen = self.llama.forward(ids, tick)
        heads = [
            facts for layer, (q, k) in enumerate(zip(seen.q, seen.k, strict=True)) for facts in look(layer, q, k, text, tick)
        ]
        return Reading(
            source=source,
            model=self.model,
            shape=self.llama.shape,
            ids=ids,
            tokens=pieces,
            q=seen.q,
            k=seen.k,
            v=seen.v,
            heads=tuple(heads),
            link_kind=text.links.kind,
            rows_looked_at=len(text.rows),
            elapsed_s=time.perf_counter() - began,
        )

    def _ids(self, source: TextSource, tick: Tick) -> NDArray[np.intp]:
        ids = self.tokenizer.encode(source.text, tick)
        if not ids:
            raise TextError("The text is empty: type at least one word.")
        context, fitting = self.llama.shape.context, self._fitting()
        most = min(context, fitting)
        if len(ids) > most:
            if source.keep == "all":
                raise TooLong(len(ids), most) if most == context else TooLong(len(ids), most, "there is memory for")
            ids = ids[:most] if source.keep == "first" else ids[-most:]
        return np.array(ids, np.intp)

    def _fitting(self) -> int:
        """Tokens whose q, k and v fit into the memory that is free now; at least 1."""
        return max(1, int(psutil.virtual_memory().available - RESERVE_BYTES) // self.llama.shape.held_bytes(1))
