"""Of reading a text: what is kept, what is refused, and that heads do what is said of them."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import platformdirs
import pytest
from attnscope.state import SAMPLE_TEXT
from attnscope_engine.model import heads, location
from attnscope_engine.model.heads import LookedAt, find_links, look
from attnscope_engine.model.location import ModelMissing, find_model, missing_text, require_model, verify
from attnscope_engine.model.reading import RESERVE_BYTES, Reader, TooLong
from attnscope_engine.model.tokenizer import TextError
from attnscope_engine.protocol import HeadFacts, TextRead, TextSource
from attnscope_engine.variant import Interrupted
from toy_model import CONTEXT, HEAD_DIM, HEADS, KV_HEADS, LAYERS, TEXT, write_toy


def quiet() -> None:
    """A tick that never interrupts."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Reader:
    return Reader(write_toy(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def real() -> Reader:
    path = find_model({})
    if path is None:
        pytest.skip("the model file is not there")
    return Reader(path)


# ---------------------------------------------------------------- the toy


def test_that_a_reading_carries_tokens_shapes_and_every_head(toy):
    text = "she said that they had seen the light"
    reading = toy.read(TextSource(text), quiet)
    n = len(reading.tokens)
    assert "".join(reading.tokens) == text
    assert [q.shape for q in reading.q] == [(HEADS, n, HEAD_DIM)] * LAYERS
    assert [part.shape for part in (*reading.k, *reading.v)] == [(KV_HEADS, n, HEAD_DIM)] * 2 * LAYERS
    sent = reading.text_read()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=TextRead) == sent
    assert [(facts.layer, facts.head) for facts in sent.heads] == [
        (layer, head) for layer in range(LAYERS) for head in range(HEADS)
    ]
    assert (sent.model, sent.context, sent.rows_looked_at) == ("toy", CONTEXT, n - 1)
    assert sent.elapsed_s > 0


def test_that_a_text_longer_than_the_context_is_refused_with_both_numbers(toy):
    n = len(toy.tokenizer.encode(TEXT * 3))
    with pytest.raises(TooLong) as refused:
        toy.read(TextSource(TEXT * 3), quiet)
    assert (refused.value.tokens, refused.value.context) == (n, CONTEXT)
    assert str(refused.value) == f"{n:,} tokens; this model reads 200."


def test_that_a_text_for_which_memory_is_short_is_refused_with_what_fits(toy, monkeypatch):
    room = RESERVE_BYTES + toy.llama.shape.held_bytes(30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=room))
    n = len(toy.tokenizer.encode(TEXT))
    with pytest.raises(TooLong, match=rf"^{n} tokens; there is memory for 30\.$"):
        toy.read(TextSource(TEXT), quiet)
    assert len(toy.read(TextSource(TEXT, "first"), quiet).tokens) == 30


def test_that_first_and_last_keep_their_end_of_the_text(toy):
    ids = toy.tokenizer.encode(TEXT * 3)
    for keep, kept in (("first", ids[:CONTEXT]), ("last", ids[-CONTEXT:])):
        assert toy.read(TextSource(TEXT * 3, keep), quiet).ids.tolist() == kept
    fitting = TextSource("the light", "last")
    assert "".join(toy.read(fitting, quiet).tokens) == "the light"


def test_that_an_empty_text_is_refused_and_one_token_is_read(toy):
    with pytest.raises(TextError, match="The text is empty: type at least one word"):
        toy.read(TextSource(""), quiet)
    one = toy.read(TextSource("a"), quiet)
    assert one.rows_looked_at == 0
    assert one.tokens == ("a",)
    assert all(msgspec.structs.replace(facts, layer=0, head=0) == HeadFacts(0, 0, 0, 0, 0, 0, 0) for facts in one.heads)


def test_that_an_interrupted_reading_leaves_the_reader_usable(toy):
    calls = []

    def tick() -> None:
        calls.append(1)
        if len(calls) == 7:
            raise Interrupted

    with pytest.raises(Interrupted):
        toy.read(TextSource("the tide turned and the boats came home"), tick)
    assert "".join(toy.read(TextSource("the tide turned"), quiet).tokens) == "the tide turned"


# ---------------------------------------------------------------- heads


def aimed(targets: list[int], sharpness: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """q and k `(1, n, n)` of a head whose query i attends to key targets[i] only; -1: to all alike."""
    n = len(targets)
    q = np.zeros((1, n, n), np.float32)
    for row, key in enumerate(targets):
        if key >= 0:
            q[0, row, key] = sharpness * n**0.5
    return q, np.eye(n, dtype=np.float32)[None]


def facts_of(targets: list[int], ids: list[int], pieces: list[str]) -> HeadFacts:
    q, k = aimed(targets)
    return look(0, q, k, LookedAt.of(np.array(ids), pieces), quiet)[0]


PIECES = ["The", " CEO", " spoke", ",", " then", " on", " Friday", " she", " left", "."]
IDS = [1, 9000, 8000, 2, 700, 300, 7000, 600, 8500, 3]


def test_that_a_planted_sink_is_found():
    facts = facts_of([0] * 10, IDS, PIECES)
    assert facts.sink == pytest.approx(1, abs=1e-4)
    assert facts.entropy_bits == pytest.approx(0, abs=1e-3)
    assert facts.distance == pytest.approx(np.mean(np.arange(1, 10)), abs=1e-3)
    assert facts.link == pytest.approx(0, abs=1e-4)


def test_that_a_planted_previous_token_head_is_found():
    facts = facts_of([0, *range(9)], IDS, PIECES)
    assert facts.previous == pytest.approx(1, abs=1e-4)
    assert facts.distance == pytest.approx(1, abs=1e-3)
    assert facts.sink == pytest.approx(1 / 9, abs=1e-4)


def test_that_a_planted_induction_head_is_found_and_only_where_something_repeats():
    ids = [4, 5, 6, 7, 4, 5, 6, 7]
    facts = facts_of([0, 0, 0, 0, 1, 2, 3, 4], ids, list("abcdefgh"))
    assert facts.induction == pytest.approx(1, abs=1e-4)
    assert facts_of([0, 0, 0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8], list("abcdefgh")).induction == 0
    assert facts_of([0, 0, 0, 0, 0, 1, 2, 3], ids, list("abcdefgh")).induction == pytest.approx(0, abs=1e-4)


def test_that_attending_to_itself_after_a_doubled_token_is_no_induction():
    assert facts_of([0, 1, 2], [5, 5, 6], list("abc")).induction == pytest.approx(0, abs=1e-4)


def test_that_an_even_head_has_the_entropy_of_its_keys():
    facts = facts_of([-1] * 10, IDS, PIECES)
    assert facts.entropy_bits == pytest.approx(np.mean(np.log2(np.arange(2, 11))), abs=1e-4)
    assert facts.distance == pytest.approx(np.mean(np.arange(1, 10) / 2), abs=1e-4)


def test_that_a_planted_link_from_a_pronoun_to_a_name_is_found_with_its_ends():
    facts = facts_of([0, 0, 1, 2, 0, 2, 1, 1, 1, 1], IDS, PIECES)
    assert (facts.link_query, facts.link_key) == (7, 1)
    assert facts.link == pytest.approx(1, abs=1e-4)


def test_that_no_link_ends_at_the_first_token_or_within_two_tokens():
    pieces = [" red", " blue", " green", " grey", " pink", " gold"]
    assert find_links(np.arange(6) + 2000, pieces).keys.all()
    facts = facts_of([0, 0, 0, 1, 0, 4], [2000, 2001, 2002, 2003, 2004, 2005], pieces)
    assert facts.link == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("pieces", "ids", "kind", "queries", "keys"),
    [
        (PIECES, IDS, "pronoun to name", [" she"], [" CEO", " Friday"]),
        (
            ["A", " doctor", " was", " ill", " and", " he", " slept"],
            [1, 2000, 300, 1500, 260, 400, 6000],
            "pronoun to word",
            [" he"],
            [" doctor", " ill", " slept"],
        ),
        (
            ["Go", " red", " by", " blue", " to", " green"],
            [1, 2000, 300, 1500, 260, 4000],
            "word to word",
            [" red", " blue", " green"],
            [" red", " blue", " green"],
        ),
        (["Yes", "."], [1, 2], "none", [], []),
        (
            ["He", " saw", ".", " She", " saw", " him", "."],
            [1, 1200, 2, 900, 1300, 800, 2],
            "pronoun to word",
            ["He", " She", " him"],
            [" saw", " saw"],
        ),
        (
            ["I", " met", " Al", "icia", " before", " the", " war", ".", " They", " knew", " her"],
            [1, 500, 20, 30, 700, 260, 900, 2, 800, 900, 950],
            "pronoun to name",
            [" They", " her"],
            [" Al", "icia"],
        ),
    ],
)
def test_that_the_text_decides_between_which_tokens_links_run(pieces, ids, kind, queries, keys):
    links = find_links(np.array(ids), pieces)
    assert links.kind == kind
    assert [pieces[at] for at in np.flatnonzero(links.queries)] == queries
    assert [pieces[at] for at in np.flatnonzero(links.keys)] == keys


def by_loops(q, k, ids, links, head: int) -> dict[str, float]:
    n, D = q.shape[1:]
    group = len(q) // len(k)
    sums = dict.fromkeys(("sink", "previous", "entropy_bits", "distance", "induction", "link"), 0.0)
    repeats = 0
    for row in range(1, n):
        scores = q[head, row].astype(np.float64) @ k[head // group, : row + 1].T.astype(np.float64) / D**0.5
        w = np.exp(scores - scores.max())
        w /= w.sum()
        sums["sink"] += w[0]
        sums["previous"] += w[row - 1]
        sums["entropy_bits"] -= sum(x * np.log2(x) for x in w if x > 0)
        sums["distance"] += sum(x * (row - key) for key, x in enumerate(w))
        after = [key for key in range(1, row) if ids[key - 1] == ids[row]]
        repeats += bool(after)
        sums["induction"] += sum(w[key] for key in after)
        candidates = [w[key] for key in range(1, row - 2) if links.keys[key] and links.queries[row]]
        sums["link"] = max([sums["link"], *candidates])
    means = {name: total / (n - 1) for name, total in sums.items()}
    return means | {"induction": sums["induction"] / max(1, repeats), "link": sums["link"]}


@pytest.mark.parametrize("block_bytes", [2_000, 8_000_000])
def test_that_facts_equal_plain_loops_whatever_the_block(monkeypatch, block_bytes):
    monkeypatch.setattr("attnscope_engine.model.llama.BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(8)
    q, k = (rng.standard_normal((count, 60, 16), dtype=np.float32) * 2 for count in (6, 2))
    ids = rng.integers(0, 12, 60) + 1000
    pieces = [f" word{'abcdefghijkl'[token - 1000]}" for token in ids]
    text = LookedAt.of(ids, pieces)
    assert text.links.kind == "word to word"
    for head, facts in enumerate(look(3, q, k, text, quiet)):
        truth = by_loops(q, k, ids, text.links, head)
        assert facts.layer == 3
        for name, value in truth.items():
            assert getattr(facts, name) == pytest.approx(value, rel=1e-4, abs=1e-5), name
        row = facts.link_query
        scores = q[head, row] @ k[head // 3, : row + 1].T / 4
        assert np.exp(scores[facts.link_key] - scores.max()) / np.exp(scores - scores.max()).sum() == pytest.approx(
            facts.link, rel=1e-4
        )


def test_that_a_long_text_is_judged_on_evenly_spaced_rows():
    n = 3000
    ids = np.arange(n) + 1000
    text = LookedAt.of(ids, [" w"] * n)
    assert len(text.rows) == heads.MAX_ROWS
    assert (text.rows[0], text.rows[-1]) == (1, n - 1)
    assert set(np.diff(text.rows)) <= {2, 3}
    q, k = np.zeros((1, n, 16), np.float32), np.zeros((1, n, 16), np.float32)
    facts = look(0, q, k, text, quiet)[0]
    assert facts.entropy_bits == pytest.approx(np.mean(np.log2(text.rows + 1)), abs=1e-3)
    assert facts.distance == pytest.approx(np.mean(text.rows / 2), rel=1e-4)


# ---------------------------------------------------------------- where the model lies


def test_that_the_variable_wins_over_the_data_folder_and_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *args, **kwargs: tmp_path / "data")
    named = write_toy(tmp_path)
    shipped = location.places()[1]
    assert find_model({}) == (shipped if shipped.is_file() else None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / location.FILE_NAME).write_bytes(b"x")
    assert find_model({}) == tmp_path / "data" / location.FILE_NAME
    assert find_model({"ATTNSCOPE_MODEL": str(named)}) == named
    assert find_model({"ATTNSCOPE_MODEL": str(tmp_path / "none")}) is None


def test_that_a_missing_model_is_said_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(location, "places", lambda: (tmp_path / location.FILE_NAME,))
    with pytest.raises(ModelMissing, match=r"^The model file .*Q4_1\.gguf is not there: `python3 run\.py` fetches it\.$"):
        require_model({})
    assert "named by ATTNSCOPE_MODEL, is not there" in missing_text({"ATTNSCOPE_MODEL": "/nowhere/x.gguf"})


def test_that_another_file_under_the_model_s_name_is_refused(tmp_path):
    with pytest.raises(ModelMissing, match=r"SHA-256 .* delete it, then `python3 run\.py` fetches it again"):
        verify(write_toy(tmp_path))
    with pytest.raises(ModelMissing, match="can not be read: No such file"):
        verify(tmp_path / "none")


def test_that_the_shipped_texts_are_the_sentence_of_the_chapter_and_one_of_some_three_hundred_tokens(toy):
    import attnscope_assets

    folder = Path(attnscope_assets.__file__).parent / "text"
    assert (folder / "sample.txt").read_text("utf-8").rstrip("\n") == SAMPLE_TEXT
    assert 200 < len(toy.tokenizer.words((folder / "tide-tables.txt").read_text("utf-8"))) < 450
    assert location.FILE_SHA256 in (folder / "smollm2-notice.txt").read_text("utf-8")
    assert "Apache License" in (folder / "smollm2-license.txt").read_text("utf-8")


# ---------------------------------------------------------------- the real model


@pytest.mark.model
def test_that_the_file_found_is_the_one_that_was_tested(real):
    path = find_model()
    assert path is not None
    verify(path)
    assert real.model == "smollm2"


@pytest.mark.model
def test_that_the_strongest_link_of_the_sample_is_from_she_to_ceo(real):
    sent = real.read(TextSource(SAMPLE_TEXT), quiet).text_read()
    best = max(sent.heads, key=lambda facts: facts.link)
    assert sent.link_kind == "pronoun to name"
    assert (best.layer, best.head) == (13, 8)
    assert (sent.tokens[best.link_query], sent.tokens[best.link_key]) == (" she", " CEO")
    assert best.link == pytest.approx(0.427, abs=0.002)


@pytest.mark.model
def test_that_the_capital_of_france_is_paris(real):
    ids = np.array(real.tokenizer.encode("The capital of France is"))
    assert real.tokenizer.piece(int(real.llama.next_token_logits(ids).argmax())) == " Paris"


@pytest.mark.model
def test_that_random_tokens_twice_show_the_known_induction_head(real):
    half = np.random.default_rng(0).integers(100, 40000, 64)
    ids = np.concatenate([half, half])
    seen = real.llama.forward(ids, quiet)
    text = LookedAt.of(ids, [real.tokenizer.piece(int(token)) for token in ids])
    facts = [one for layer, (q, k) in enumerate(zip(seen.q, seen.k, strict=True)) for one in look(layer, q, k, text, quiet)]
    best = max(facts, key=lambda one: one.induction)
    assert (best.layer, best.head) == (18, 6)
    assert best.induction == pytest.approx(0.89, abs=0.04)
    previous = max(facts, key=lambda one: one.previous)
    assert (previous.layer, previous.head) == (16, 0)
    assert previous.previous > 0.8


@pytest.mark.model
def test_that_shuffled_words_surprise_the_model(real):
    """Mean log-likelihood of the words: a broken rotation or mask would make order worthless."""
    ids = np.array(real.tokenizer.encode(SAMPLE_TEXT))
    shuffled = np.concatenate([ids[:1], np.random.default_rng(1).permutation(ids[1:])])
    assert surprise_bits(real, ids) + 4 < surprise_bits(real, shuffled)


def surprise_bits(reader: Reader, ids: np.ndarray) -> float:
    """Mean surprise at every third token."""
    found = []
    for length in range(3, len(ids), 3):
        logits = reader.llama.next_token_logits(ids[:length]).astype(np.float64)
        found.append(np.log2(np.exp(logits - logits[ids[length]]).sum()))
    return float(np.mean(found))
