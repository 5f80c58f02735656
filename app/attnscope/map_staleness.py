"""Whether a picture is still of what is wanted, and in a word what it is of when it is not. No Qt."""

from __future__ import annotations

import msgspec
from attnscope_engine import catalogue
from attnscope_engine.protocol import Choice, DrawMap, FileSource, Source, SyntheticSource

from attnscope.quantities import count

_KINDS = {"gaussian": "Gaussian", "local": "local", "needle": "needles", "induction": "repeats"}


def summary(choice: Choice) -> str:
    """A variant's parameters in a few words; empty when it has none."""
    variant = catalogue.find(choice.variant)
    return variant.summary(variant.parse(choice.params)) if variant.fields() else ""


def same_subject(one: DrawMap, other: DrawMap) -> bool:
    """True when the two differ at most in the rectangle, how coarse it is, and which variants are beside each other."""
    return _subject(one) == _subject(other)


def _subject(job: DrawMap) -> DrawMap:
    """The request without what may differ between a coarse picture and the exact one, and without its panels."""
    return msgspec.structs.replace(job, rows=(0, 1), columns=(0, 1), factor=1, panels=(), scale="log")


def stale_words(had: DrawMap, want: DrawMap | None, had_choice: Choice, choice: Choice) -> str:
    """Empty while a panel's picture is of what is wanted, be it coarse; else what it is of."""
    if want is None or (same_subject(had, want) and had_choice == choice):
        return ""
    return older_words(had, want, had_choice, choice)


def older_words(had: DrawMap, want: DrawMap, had_choice: Choice, choice: Choice) -> str:
    """What an older picture is of, in the word that tells it from the wanted one."""
    if had.source != want.source:
        return _source_words(had.source, want.source)
    if had.workload.seq_len != want.workload.seq_len:
        return f"n = {count(had.workload.seq_len)}"
    if (had.layer, had.head) != (want.layer, want.head):
        return f"layer {had.layer}, head {had.head}"
    if had_choice != choice:
        return summary(had_choice) or "before"
    if had.workload.causal != want.workload.causal:
        return "causal" if had.workload.causal else "full"
    if had.pool != want.pool:
        return f"pool {had.pool}"
    return "before"


def _source_words(had: Source, want: Source) -> str:
    if isinstance(had, SyntheticSource):
        same_kind = isinstance(want, SyntheticSource) and want.kind == had.kind
        return f"seed {had.seed}" if same_kind else f"synthetic, {_KINDS[had.kind]}"
    return "the file before" if isinstance(had, FileSource) else "the text before"
