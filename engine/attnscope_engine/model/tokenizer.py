"""Byte-level byte-pair encoding from a GGUF's own vocabulary and merges.

Cutting into words follows GPT-2, with each digit alone as SmolLM2 has it. A text is data: the name of a control token
such as `<|im_start|>` typed into it is read as letters, never as the token.
Source: Sennrich, Haddow, Birch 2016 (byte-pair encoding), arXiv:1508.07909; Radford et al. 2019 (bytes, GPT-2).
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from attnscope_engine.model.gguf import Gguf, GgufError
from attnscope_engine.variant import Tick

MAX_WORD_BYTES = 1 << 18
"""A longer run without a word boundary is cut there, which bounds time and memory. No text that fits a context of 8,192
tokens has one, unless its tokens are 32 bytes long on average."""
CACHED_WORDS = 1 << 16
_WORDS_PER_TICK = 4096
_MERGES_PER_TICK = 1 << 16

_SPACES = frozenset(
    map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000])
)
"""Unicode's White_Space. `str.isspace` also takes four control characters."""

# Runs on the string of classes made by `_Classes`, one ASCII character for each character of the text: letters `a` (ASCII
# letters as they are, for the contractions), digits `0`, white space `_` (a space as it is), all else `!` or `'`. White space
# before a digit keeps all of itself, because digits are cut off before the words are.
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+|0| ?[!']+|[ _]+(?![A-Za-z!'])|[ _]+")


class TextError(ValueError):
    """The text can not be encoded. Its text is a sentence with the place."""


class _Classes(dict[int, str]):
    """Code point → its class in `_WORD`, found when first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)[0]
        if character == " " or (category == "L" and code < 128) or character == "'":
            found = character
        elif category in "LN":
            found = "a" if category == "L" else "0"
        else:
            found = "_" if character in _SPACES else "!"
        self[code] = found
        return found


class Tokenizer:
    """Text to token ids and back.

    Raises:
        GgufError: the file's tokenizer is of another kind, or its merges name tokens that it lacks.
    """

    def __init__(self, file: Gguf) -> None:
        kind, cutting = file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre")
        if (kind, cutting) != ("gpt2", "smollm"):
            raise GgufError(f"{file.name} has a {kind}/{cutting} tokenizer; gpt2/smollm is read.")
        self.tokens = file.strings("tokenizer.ggml.tokens")
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self._unknown = file.integer("tokenizer.ggml.unknown_token_id")
        if len(self._ids) != len(self.tokens) or not 0 <= self._unknown < len(self.tokens):
            raise GgufError(f"{file.name}: its vocabulary has a token twice, or no unknown token.")
        letters = _byte_letters()
        self._bytes_of = {letter: value for value, letter in enumerate(letters)}
        self._first_ids = [self._ids.get(letter, self._unknown) for letter in letters]
        self._merges = self._read_merges(file)
        self._classes = _Classes()
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str, tick: Tick = lambda: None) -> list[int]:
        """Token ids of `text`. A byte that the vocabulary lacks becomes its unknown token.

        Raises:
            TextError: the text holds half of a surrogate pair.
            Interrupted: from `tick`.
        """
        ids: list[int] = []
        for count, word in enumerate(self.words(text)):
            if count % _WORDS_PER_TICK == 0:
                tick()
            known = self._words.get(word)
            if known is None:
                known = self._encode_word(word, tick)
                if len(self._words) < CACHED_WORDS:
                    self._words[word] = known
            ids += known
        return ids

    def words(self, text: str) -> list[str]:
        """The pieces that no token crosses. Raises: TextError."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            raise TextError(
                f"Character {error.start + 1:,} of the text is half of one (U+{code:04X}), which no file can hold: "
                "delete it or type it again."
            ) from error
        return [text[found.start() : found.end()] for found in _WORD.finditer(text.translate(self._classes))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the tokens; incomplete characters become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for."""
        letters = self.tokens[token]
        try:
            return bytes(self._bytes_of[letter] for letter in letters)
        except KeyError:  # a control token written in plain letters
            return letters.encode()

    def piece(self, token: int) -> str:
        """A token's own text, its leading space included. The bytes of a character that is cut over several tokens, which are
        no text, are named: `‹F0 9F›`.
        """
        data = self.token_bytes(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            lead = b" " if data.startswith(b" ") else b""
            return f"{lead.decode()}‹{data.removeprefix(lead).hex(' ').upper()}›"

    def _read_merges(self, file: Gguf) -> dict[tuple[int, int], tuple[int, int]]:
        """`(left, right)` → `(rank, merged)`, ids all but the rank."""
        merges = {}
        for rank, line in enumerate(file.strings("tokenizer.ggml.merges")):
            left, _, right = line.partition(" ")
            try:
                merges[self._ids[left], self._ids[right]] = (rank, self._ids[left + right])
            except KeyError as error:
                raise GgufError(f"{file.name}: merge {rank + 1:,} names a token that the vocabulary lacks.") from error
        return merges

    def _encode_word(self, word: str, tick: Tick) -> list[int]:
        data = word.encode()
        ids: list[int] = []
        for start in range(0, len(data), MAX_WORD_BYTES):
            ids += self._merged([self._first_ids[byte] for byte in data[start : start + MAX_WORD_BYTES]], tick)
        return ids

    def _merged(self, ids: list[int], tick: Tick) -> list[int]:
        """Applies the merges, lowest rank first and leftmost of equals: a heap over a linked list, n log n."""
        merges = self._merges
        after = list(range(1, len(ids) + 1))
        before = list(range(-1, len(ids) - 1))
        heap = [(merges[pair][0], place, pair[0], pair[1]) for place, pair in enumerate(pairwise(ids)) if pair in merges]
        heapq.heapify(heap)
        done = 0
        while heap:
            _, place, left, right = heapq.heappop(heap)
            following = after[place]
            if ids[place] != left or following >= len(ids) or ids[following] != right:
                continue  # one of the two was merged meanwhile
            ids[place] = merges[left, right][1]
            ids[following] = -1
            after[place] = after[following]
            if after[place] < len(ids):
                before[after[place]] = place
            for first, second in ((before[place], place), (place, after[place])):
                if first >= 0 and second < len(ids) and (ids[first], ids[second]) in merges:
                    pair = (ids[first], ids[second])
                    heapq.heappush(heap, (merges[pair][0], first, *pair))
            done += 1
            if done % _MERGES_PER_TICK == 0:
                tick()
        return [token for token in ids if token >= 0]


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte: printable Latin-1 stands for itself, the rest for U+0100 and on, in order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
