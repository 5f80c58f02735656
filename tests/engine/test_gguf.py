"""Of the GGUF reader: what it reads back, and that no file makes it crash, hang or grow."""

import random
import struct
import time
import tracemalloc

import numpy as np
import pytest
from attnscope_engine.model.gguf import MAX_STRINGS, Gguf, GgufError
from attnscope_engine.model.llama import Llama
from attnscope_engine.model.tokenizer import Tokenizer
from toy_model import fact, gguf, quantised, text, toy_bytes, toy_facts, toy_tensors, trained_merges, write_toy

TOY = toy_bytes()


def opened(tmp_path, data: bytes) -> Gguf:
    return Gguf(write_toy(tmp_path, data))


def small(facts=None, tensors=None, version=3) -> bytes:
    return gguf(facts or {"general.architecture": "llama"}, tensors or {}, version)


def decoded(data: bytes, kind: str) -> list[float]:
    """One item after another, from the published block layouts."""
    out: list[float] = []
    if kind in ("F32", "F16"):
        form = "<f" if kind == "F32" else "<e"
        return [value for (value,) in struct.iter_unpack(form, data)]
    size = 20 if kind == "Q4_1" else 34
    for at in range(0, len(data), size):
        block = data[at : at + size]
        if kind == "Q4_1":
            step, low = struct.unpack("<ee", block[:4])
            out += [(byte & 15) * step + low for byte in block[4:]] + [(byte >> 4) * step + low for byte in block[4:]]
        else:
            (step,) = struct.unpack("<e", block[:2])
            out += [code * step for code in struct.unpack("<32b", block[2:])]
    return out


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_1", "Q8_0"])
def test_that_a_tensor_is_dequantised_item_by_item_as_its_layout_says(tmp_path, kind):
    values = np.random.default_rng(5).standard_normal((6, 96))
    file = opened(tmp_path, small(tensors={"first": (np.ones(3), "F32"), "matrix": (values, kind)}))
    found = file.tensor("matrix")
    assert found.shape == (6, 96)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), decoded(quantised(values, kind), kind), rtol=1e-6, atol=1e-6)
    assert abs(found - values).max() < {"F32": 1e-6, "F16": 2e-3, "Q4_1": 0.25, "Q8_0": 0.02}[kind]


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_1", "Q8_0"])
def test_that_chosen_rows_equal_those_of_the_whole_matrix(tmp_path, kind):
    file = opened(tmp_path, small(tensors={"m": (np.random.default_rng(6).standard_normal((9, 64)), kind)}))
    chosen = np.array([8, 0, 3, 3])
    np.testing.assert_array_equal(file.rows("m", chosen), file.tensor("m")[chosen])


def test_that_facts_come_back_with_their_types(tmp_path):
    facts = {"a": "é🙂", "b": ("u4", 7), "c": ("f4", 0.5), "d": ["x", "", "y z"], "e": np.array([-1, 2]), "f": ("?", True)}
    for version in (2, 3):
        file = opened(tmp_path, small(facts, version=version))
        assert (file.text("a"), file.integer("b"), file.number("c"), file.strings("d")) == ("é🙂", 7, 0.5, ["x", "", "y z"])
        assert file.integers("e").tolist() == [-1, 2]
        assert file.facts["f"] is True


@pytest.mark.parametrize("ask", ["text", "integer", "number", "strings", "integers"])
def test_that_a_fact_of_another_type_or_none_is_refused_by_name(tmp_path, ask):
    file = opened(tmp_path, small({"flag": ("?", True), "a": "x"}))
    with pytest.raises(GgufError, match="flag should be"):
        getattr(file, ask)("flag")
    with pytest.raises(GgufError, match="does not say its colour"):
        getattr(file, ask)("colour")
    with pytest.raises(GgufError, match="no tensor colour"):
        file.tensor("colour")


def test_that_the_file_cut_at_every_percent_is_refused_with_a_sentence(tmp_path):
    for percent in range(100):
        with pytest.raises(GgufError, match=r"toy\.gguf .*\.$"):
            opened(tmp_path, TOY[: len(TOY) * percent // 100])
    assert len(opened(tmp_path, TOY).tensors) == 20


HUGE = struct.pack("<Q", 2**63 + 1)
KEY = text("k")
FACT, TENSOR = struct.pack("<QQ", 0, 1), struct.pack("<QQ", 1, 0)
BOMBS = {
    "tensors": HUGE + bytes(8),
    "facts": bytes(8) + HUGE,
    "key length": FACT + HUGE,
    "text length": FACT + KEY + struct.pack("<I", 8) + HUGE,
    "list of texts": FACT + KEY + struct.pack("<II", 9, 8) + HUGE,
    "list of numbers": FACT + KEY + struct.pack("<II", 9, 12) + HUGE,
    "dimensions": TENSOR + KEY + struct.pack("<I", 2**31),
    "shape": TENSOR + KEY + struct.pack("<I", 2) + HUGE + HUGE + struct.pack("<IQ", 0, 0),
    "offset": TENSOR + KEY + struct.pack("<IQIQ", 1, 32, 0, 2**63),
    "empty shape": TENSOR + KEY + struct.pack("<IQIQ", 1, 0, 0, 0),
    "tensor type": TENSOR + KEY + struct.pack("<IQIQ", 1, 32, 99, 0),
    "part of a block": TENSOR + KEY + struct.pack("<IQIQ", 1, 33, 8, 0),
    "not aligned": TENSOR + KEY + struct.pack("<IQIQ", 1, 1, 0, 4),
    "list in a list": FACT + KEY + struct.pack("<IIQ", 9, 9, 1) + bytes(16),
    "value type": FACT + KEY + struct.pack("<I", 77) + bytes(8),
    "not utf-8": FACT + text(b"\xff\xfe") + struct.pack("<I", 7) + b"\x01",
    "alignment 0": FACT + fact("general.alignment", ("u4", 0)),
    "alignment 12": FACT + fact("general.alignment", ("u4", 12)),
    "the same fact twice": struct.pack("<QQ", 0, 2) + fact("a", "x") * 2,
    "the same tensor twice": struct.pack("<QQ", 2, 0) + (KEY + struct.pack("<IQIQ", 1, 1, 0, 0)) * 2,
}


@pytest.mark.parametrize("lie", BOMBS)
def test_that_a_lying_header_is_refused_before_anything_is_allocated(tmp_path, lie):
    tracemalloc.start()
    try:
        with pytest.raises(GgufError, match=r"toy\.gguf is not a usable GGUF file: .*\.$"):
            opened(tmp_path, b"GGUF" + struct.pack("<I", 3) + BOMBS[lie] + bytes(200))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_that_the_bombs_are_refused_for_what_they_hold_and_not_for_their_frame(tmp_path):
    sound = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + fact("general.alignment", ("u4", 64)) + bytes(200)
    assert opened(tmp_path, sound).integer("general.alignment") == 64


def test_that_a_header_of_very_many_texts_is_refused(tmp_path):
    count = MAX_STRINGS + 10
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, count) + bytes(8 * count)
    began = time.perf_counter()
    with pytest.raises(GgufError, match="more than 1,000,000 texts"):
        opened(tmp_path, data)
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(60), "it begins with b'PK"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(60), "version 50331648"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version 1; versions 2 and 3 are read"),
        (b"GG", "it begins with b'GG'"),
        (b"GGUF\x03", "it ends at byte 5"),
    ],
)
def test_that_what_is_not_gguf_is_named(tmp_path, data, words):
    with pytest.raises(GgufError, match=words.replace("(", r"\(")):
        opened(tmp_path, data)


def test_that_a_missing_file_is_named(tmp_path):
    with pytest.raises(GgufError, match=r"none\.gguf can not be read: No such file"):
        Gguf(tmp_path / "none.gguf")


def test_that_no_mutated_header_does_anything_but_open_or_raise_gguf_error(tmp_path):
    rng = random.Random(1)
    outcomes = {"opened": 0, "refused": 0}
    merges = trained_merges(4)
    facts = toy_facts(merges)
    sound = gguf(facts, toy_tensors(len(facts["tokenizer.ggml.tokens"])))
    header = sound.index(b"blk.1.ffn_down.weight") + 50
    for _ in range(1500):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(header)
            data[at] = rng.choice((0, 1, 127, 128, 255, data[at] ^ 1 << rng.randrange(8)))
        try:
            file = opened(tmp_path, bytes(data))
            Tokenizer(file)
            Llama(file)
            outcomes["opened"] += 1
        except GgufError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50, outcomes
