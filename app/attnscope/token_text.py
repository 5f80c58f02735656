"""Tokens of a text as a person reads them: one line, bounded, nothing invisible. No Qt."""

from __future__ import annotations

LONGEST = 14
"""Characters of a token on an axis; the rest becomes an ellipsis."""

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", " ": "·", "\u00a0": "·"}


def readable(token: str) -> str:
    """The token without its leading space; blanks as dots, line ends and control characters by name."""
    word = token[1:] if token.startswith(" ") and token.strip() else token
    if not word:
        return "(empty)"
    if word.isspace() or not word.isprintable():
        return "".join(_character(character) for character in word)
    return word


def short(token: str) -> str:
    """`readable`, cut to what an axis has room for."""
    word = readable(token)
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"


def starts_word(token: str) -> bool:
    """False for a token that continues the word, or closes it, without a space."""
    return not token or token[0].isspace()


def _character(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    return character if character.isprintable() else f"U+{ord(character):04X}"
