"""Of what maps are drawn from: a text is read once, kept while it may be wanted again, and never half."""

import numpy as np
import pytest
from attnscope_engine import maps, sources
from attnscope_engine.head_maps import MapCache
from attnscope_engine.protocol import Choice, DrawMap, SyntheticSource, TextSource, Workload
from attnscope_engine.refusals import JobRefused
from attnscope_engine.sources import KEPT_READINGS, Sources
from attnscope_engine.variant import Interrupted
from toy_model import CONTEXT, HEAD_DIM, HEADS, KV_HEADS, LAYERS, write_toy

SENTENCE = TextSource("she read the height of the water")


def never() -> None:
    pass


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Sources with the toy model, and the texts that it was made to read."""
    read: list[str] = []

    class Counting(sources.Reader):
        def read(self, source, tick):
            read.append(source.text)
            return super().read(source, tick)

    monkeypatch.setattr(sources, "Reader", Counting)
    return Sources(write_toy(tmp_path)), read


def test_that_a_texts_heads_are_those_of_the_model(counted):
    opened, _ = counted
    heads = opened.open(SENTENCE, Workload(seq_len=7), never)
    told = opened.read_text(SENTENCE, never)
    assert (heads.layers, heads.num_heads, heads.num_kv_heads, heads.head_dim) == (LAYERS, HEADS, KV_HEADS, HEAD_DIM)
    assert heads.seq_len == len(told.tokens)
    q, k = heads.head(1, HEADS - 1)
    assert q.shape == k.shape == (heads.seq_len, HEAD_DIM)
    np.testing.assert_array_equal(k, heads.head(1, HEADS - 2)[1])
    assert not np.array_equal(k, heads.head(1, 0)[1])


def test_that_a_text_is_read_once_for_all_that_is_asked_of_it(counted):
    opened, read = counted
    opened.read_text(SENTENCE, never)
    opened.open(SENTENCE, Workload(), never)
    opened.read_text(SENTENCE, never)
    assert read == [SENTENCE.text]


def test_that_the_last_texts_are_kept_and_the_oldest_goes(counted):
    opened, read = counted
    texts = [TextSource(f"the light was {word}") for word in ("low", "high", "out", "on", "off")]
    assert len(texts) == KEPT_READINGS + 1
    for text in texts:
        opened.read_text(text, never)
    for text in texts[1:]:
        opened.read_text(text, never)
    assert len(read) == len(texts)
    opened.read_text(texts[0], never)
    assert len(read) == len(texts) + 1


def test_that_texts_are_dropped_when_they_hold_too_much_but_never_the_newest(counted, monkeypatch):
    opened, read = counted
    monkeypatch.setattr(sources, "KEPT_READING_BYTES", 1)
    for text in ("one", "two", "two", "one"):
        opened.read_text(TextSource(text), never)
    assert read == ["one", "two", "one"]


def test_that_what_is_kept_of_a_long_text_counts_as_another_reading(counted):
    opened, _ = counted
    text = "the tide turned and the boats came home. " * 60
    with pytest.raises(JobRefused) as refused:
        opened.read_text(TextSource(text), never)
    assert refused.value.refusal.reason == "too_long"
    assert refused.value.refusal.seq_len > refused.value.refusal.largest_seq_len == CONTEXT
    assert f"this model reads {CONTEXT}" in str(refused.value)
    first, last = (opened.open(TextSource(text, keep), Workload(), never) for keep in ("first", "last"))
    assert first.seq_len == last.seq_len == CONTEXT
    assert first.key != last.key
    assert not np.array_equal(first.head(0, 0)[0], last.head(0, 0)[0])


def test_that_an_empty_text_is_refused_with_the_way_out(counted):
    opened, _ = counted
    with pytest.raises(JobRefused, match="type at least one word"):
        opened.read_text(TextSource(""), never)


def test_that_a_reading_that_was_stopped_leaves_nothing_half(counted):
    opened, read = counted
    seen = []

    def stop():
        seen.append(opened.reading)
        if len(seen) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        opened.read_text(SENTENCE, stop)
    assert seen == [SENTENCE] * 2
    assert opened.reading is None
    assert len(opened.read_text(SENTENCE, never).heads) == LAYERS * HEADS
    assert read == [SENTENCE.text] * 2


def test_that_a_text_has_a_map_of_its_own_length_whatever_the_slider_says(counted):
    opened, _ = counted
    tokens = len(opened.read_text(SENTENCE, never).tokens)
    job = DrawMap(
        SENTENCE, Workload(seq_len=1 << 20), 1, 3, (Choice("softmax_tiled"), Choice("linear")), (0, tokens), (0, tokens)
    )
    drawn = maps.draw_map(job, opened, MapCache(), maps.Fits("cpu", 1 << 34, 1 << 34), never)
    assert drawn.seq_len == tokens
    assert [picture.codes.shape for picture in drawn.pictures] == [(tokens, tokens)] * 2


def test_that_synthetic_keys_name_all_that_the_numbers_depend_on():
    opened = Sources()
    keys = {
        opened.open(source, workload, never).key
        for source in (SyntheticSource("gaussian", 1), SyntheticSource("gaussian", 2), SyntheticSource("needle", 1))
        for workload in (Workload(), Workload(seq_len=64), Workload(num_kv_heads=9), Workload(head_dim=32))
    }
    assert len(keys) == 12
