"""What each head does on a text, found by looking at its weights: sink, previous token, induction, links.

Weights exist for one block of rows at a time. Of a text longer than `MAX_ROWS` tokens only as many rows are looked at, evenly
spaced.
Source: Xiao et al. 2023 (sinks), arXiv:2309.17453; Olsson et al. 2022 (induction), arXiv:2209.11895.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnscope_engine.model.llama import Floats, causal_scores, row_blocks
from attnscope_engine.protocol import HeadFacts, LinkKind
from attnscope_engine.variant import Tick

MAX_ROWS = 1024
MIN_LINK_DISTANCE = 3
FREQUENT_TOKENS = 1000
"""Byte-pair merges are made in order of frequency, so the first ids are a language's commonest words and pieces: " the" is
260, " from" 429. Words past them are content words here."""

_THIRD_PERSON = (
    "he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "theirs",
    "himself", "herself", "itself", "themselves", "who", "whom", "whose",
)  # fmt: skip
PRONOUNS = frozenset(_THIRD_PERSON)
"""English third person, the language of the model. Pronouns point back by nature, so a link that starts at one is the
clearest sign that a head carries meaning over a distance."""


@dataclass(frozen=True, slots=True)
class Links:
    """Which tokens a link may run between. Masks `(n,)`."""

    kind: LinkKind
    queries: NDArray[np.bool_]
    keys: NDArray[np.bool_]

    def allowed(self, rows: NDArray[np.intp], keys: int) -> NDArray[np.bool_]:
        """`(len(rows), keys)`: token 0 and keys nearer than `MIN_LINK_DISTANCE` are never linked to."""
        columns = np.arange(keys)
        apart = rows[:, None] - columns >= MIN_LINK_DISTANCE
        return apart & (columns > 0) & self.keys[:keys] & self.queries[rows, None]


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A text and the query rows on which its heads are judged: row 0 has no choice, so it is never one of them."""

    ids: NDArray[np.intp]
    rows: NDArray[np.intp]
    links: Links

    @classmethod
    def of(cls, ids: NDArray[np.intp], pieces: Sequence[str]) -> LookedAt:
        """`pieces` as `Tokenizer.piece` gives them."""
        rows = np.arange(1, len(ids))
        if len(rows) > MAX_ROWS:
            rows = np.linspace(1, len(ids) - 1, MAX_ROWS).round().astype(np.intp)
        return cls(ids, rows, find_links(ids, pieces))


def find_links(ids: NDArray[np.intp], pieces: Sequence[str]) -> Links:
    """The most telling kind of link that the text offers: from a pronoun to a name, else from a pronoun to a content word,
    else between content words.
    """
    words, starts = _words(pieces)
    pronoun = np.array([word.lower() in PRONOUNS for word in words], bool)
    name = np.array([_is_name(word, start) for word, start in zip(words, starts, strict=True)], bool) & ~pronoun
    content = np.array([len(word) > 1 for word in words], bool) & (ids >= FREQUENT_TOKENS) & ~pronoun
    kinds: tuple[tuple[LinkKind, NDArray[np.bool_], NDArray[np.bool_]], ...] = (
        ("pronoun to name", pronoun, name),
        ("pronoun to word", pronoun, content),
        ("word to word", content, content),
    )
    for kind, queries, keys in kinds:
        first_key = np.flatnonzero(keys[1:])[:1] + 1
        if len(first_key) and queries[first_key[0] + MIN_LINK_DISTANCE :].any():
            return Links(kind, queries, keys)
    nothing = np.zeros(len(ids), bool)
    return Links("none", nothing, nothing)


def look(layer: int, q: Floats, k: Floats, text: LookedAt, tick: Tick) -> list[HeadFacts]:
    """The facts of every head of one layer, q `(H, n, D)`, k `(G, n, D)`. Raises: Interrupted."""
    heads = len(q)
    sums = np.zeros((5, heads))
    repeats = 0
    link, ends = np.zeros(heads, np.float32), np.zeros((heads, 2), np.intp)
    for rows in row_blocks(text.rows, heads):
        tick()
        weights, entropy = _weights(causal_scores(q, k, rows))
        keys = weights.shape[2]
        sums[0] += weights[:, :, 0].sum(-1)
        sums[1] += weights[:, np.arange(len(rows)), rows - 1].sum(-1)
        sums[2] += entropy.sum(-1)
        sums[3] += (rows - weights @ np.arange(keys, dtype=np.float32)).sum(-1)
        after_same = _after_same(text.ids, rows)
        if after_same.any():
            repeats += int(after_same.any(1).sum())
            sums[4] += weights[:, after_same].sum(-1)
        allowed = np.flatnonzero(text.links.allowed(rows, keys))
        if len(allowed):
            _keep_stronger(link, ends, weights.reshape(heads, -1)[:, allowed], rows[allowed // keys], allowed % keys)
    means = sums / np.array([[max(1, len(text.rows))]] * 4 + [[max(1, repeats)]])
    return [
        HeadFacts(
            layer=layer,
            head=head,
            sink=float(means[0, head]),
            previous=float(means[1, head]),
            entropy_bits=float(means[2, head]),
            distance=float(means[3, head]),
            induction=float(means[4, head]),
            link=float(link[head]),
            link_query=int(ends[head, 0]),
            link_key=int(ends[head, 1]),
        )
        for head in range(heads)
    ]


def _weights(scores: Floats) -> tuple[Floats, Floats]:
    """Softmax of `(H, b, keys)` and the entropy in bits of each row `(H, b)`, without a logarithm of each weight."""
    scores -= scores.max(-1, keepdims=True)
    weights = np.exp(scores)
    totals = weights.sum(-1)
    weights /= totals[..., None]
    entropy = (np.log(totals) - np.einsum("hbk,hbk->hb", weights, scores)) / np.float32(np.log(2))
    return weights, entropy


def _after_same(ids: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """`(len(rows), rows[-1] + 1)`: keys before the query whose own predecessor is the query's token."""
    columns = np.arange(1, rows[-1] + 1)
    found = np.zeros((len(rows), rows[-1] + 1), bool)
    found[:, 1:] = (ids[columns - 1] == ids[rows, None]) & (columns < rows[:, None])
    return found


def _keep_stronger(
    link: Floats, ends: NDArray[np.intp], weights: Floats, queries: NDArray[np.intp], keys: NDArray[np.intp]
) -> None:
    """Replaces a head's link where `weights` `(H, pairs)` holds a stronger one."""
    best = weights.argmax(1)
    strength = weights[np.arange(len(link)), best]
    better = strength > link
    link[better] = strength[better]
    ends[better] = np.stack([queries[best], keys[best]], 1)[better]


def _words(pieces: Sequence[str]) -> tuple[list[str], list[bool]]:
    """For each token the whole word that it is part of ("" for punctuation), and whether that word begins a sentence."""
    texts, firsts, word_of = [""], [False], []  # word 0 is what all punctuation belongs to
    begins = True
    for piece in pieces:
        label = piece.strip(" ")
        if not label.isalpha():
            word_of.append(0)
            begins = begins or any(sign in label for sign in ".!?\n")
        elif word_of and word_of[-1] and not piece.startswith(" "):
            texts[-1] += label
            word_of.append(word_of[-1])
        else:
            texts.append(label)
            firsts.append(begins)
            word_of.append(len(texts) - 1)
            begins = False
    return [texts[word] for word in word_of], [firsts[word] for word in word_of]


def _is_name(word: str, begins_sentence: bool) -> bool:
    """A capital within a sentence. At its beginning every word has one."""
    return len(word) > 1 and word[0].isupper() and not begins_sentence
