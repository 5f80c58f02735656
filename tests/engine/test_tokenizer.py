"""Of the tokenizer: it agrees with the `tokenizers` package on the same vocabulary and merges, on any text."""

import random
import time
import unicodedata

import pytest
import tokenizers
from attnscope_engine.model.gguf import Gguf, GgufError
from attnscope_engine.model.location import find_model
from attnscope_engine.model.tokenizer import MAX_WORD_BYTES, TextError, Tokenizer
from attnscope_engine.variant import Interrupted
from toy_model import TEXT, byte_letters, fact, gguf, toy_bytes, toy_facts, trained_merges, write_toy

TEXTS = [
    "",
    " ",
    "a",
    "The CEO announced the merger on Monday, and by Friday she resigned from the board.",
    "it's we'll they've I'd you're I'm 'tis ''s 's'S 'LL it’s",
    "1234 5.67 1,000,000 x86_64 ²³½ ⅷ ٣٤ 3rd  7",
    "  two  three   four    \n\n\t\ttabs \r\n end  ",
    "def f(x):\n    return [i**2 for i in range(x)]  # squares\n\nif __name__ == '__main__':\n\tprint(f(10))\n",
    "<|im_start|>user\nhello<|im_end|> </s> <|endoftext|>",
    "日本語のテキスト、漢字かな交じり。",
    "Привет, мир! Ёлка",
    "שלום עולם العربية हिन्दी ไทย",
    "naïve café résumé Å e\u0301 ß ﬁ",
    "🙂👩‍👩‍👧‍👦🇩🇪👍🏽 x🙂y",
    "\u00a0\u2003\u3000\u2028\u2029\u200b\ufeff\x85 a\x1cb",
    "a\x00b\x01\x07\x1b[0m\x7f",
    "!?!? ---- ==== ... (((x))) @#$%",
    "\U0001d400\U0001d7ce \U000e0041 \U0010ffff",
]
POOLS = [
    "abcdefgh  't's  ",
    "  \n\t\r  \u00a0\u3000\u2003 ab1",
    "日本語漢字かなカナ。、 ",
    "привет мир, Ёж ",
    "🙂👩‍👧🇩🇪👍🏽 x",
    "0123456789 ²³½Ⅷ٣ x.,",
    "áéñ̃e\u0301 ß ﬁ",
    "العربية שלום हिन्दी ไทย ",
    "def f(x):\n    return x**2  # '''\"\"\"",
    "''s 's'S 'll 've!!...---  ",
    "\x1c\x1e\x1f\x00\x07\x7f\x85\u200b\u2028 a1",
    "the tide light boats said ",
]


def varied(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    texts = []
    for index in range(count):
        pool = POOLS[index % len(POOLS)]
        drawn = (rng.choice(pool if rng.random() < 0.7 else rng.choice(POOLS)) for _ in range(rng.randint(0, 60)))
        texts.append("".join(drawn))
    return texts


def reference(file: Gguf) -> tokenizers.Tokenizer:
    """The published pipeline of SmolLM2: digits alone, then GPT-2's bytes."""
    ids = {token: index for index, token in enumerate(file.strings("tokenizer.ggml.tokens"))}
    merges = [tuple(line.split(" ")) for line in file.strings("tokenizer.ggml.merges")]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=merges))
    cutters = tokenizers.pre_tokenizers
    digits, to_bytes = cutters.Digits(individual_digits=True), cutters.ByteLevel(add_prefix_space=False, use_regex=True)
    made.pre_tokenizer = cutters.Sequence([digits, to_bytes])
    return made


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    file = Gguf(write_toy(tmp_path_factory.mktemp("toy"), gguf(toy_facts(trained_merges(200)), {})))
    return Tokenizer(file), reference(file)


@pytest.fixture(scope="module")
def real() -> tuple[Tokenizer, tokenizers.Tokenizer]:
    path = find_model()
    if path is None:
        pytest.skip("the model file is not there")
    file = Gguf(path)
    return Tokenizer(file), reference(file)


def test_that_ids_equal_those_of_the_tokenizers_package(toy):
    ours, theirs = toy
    merged = 0
    for text in [*TEXTS, TEXT, *varied(600, seed=1)]:
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids, text
        assert ours.decode(ids) == text
        merged += len(text.encode()) - len(ids)
    assert merged > 1000, "merges must have been used for this to mean anything"


@pytest.mark.model
def test_that_ids_of_the_real_vocabulary_equal_those_of_the_tokenizers_package(real):
    ours, theirs = real
    lacking = [byte for byte, letter in enumerate(byte_letters()) if letter not in ours.tokens]
    checked = 0
    for text in [*TEXTS, *varied(600, seed=2)]:
        if set(lacking) & set(text.encode()):
            continue  # the package drops such bytes, here they become the unknown token
        assert ours.encode(text) == theirs.encode(text).ids, text
        assert ours.decode(ours.encode(text)) == text
        checked += 1
    assert checked > 550


def test_that_every_character_falls_into_the_class_that_the_tokenizers_package_gives_it(toy):
    ours, theirs = toy
    rng = random.Random(3)
    planes = [*range(0x3000), *(rng.randrange(0x3000, 0x20000) for _ in range(6000))]
    for code in planes:
        character = chr(code)
        if 0xD800 <= code < 0xE000 or unicodedata.category(character) == "Cn":
            continue  # no character, or one that only another version of Unicode knows
        text = f"a{character} {character}b"
        cuts = [text[begin:end] for _, (begin, end) in theirs.pre_tokenizer.pre_tokenize_str(text)]
        assert ours.words(text) == cuts, hex(code)


def test_that_half_a_surrogate_pair_is_refused_with_its_place(toy):
    with pytest.raises(
        TextError, match=r"^Character 4 of the text is half of one \(U\+D83D\), .*: delete it or type it again\.$"
    ):
        toy[0].encode("abc\ud83d def")


def test_that_a_byte_outside_the_vocabulary_becomes_the_unknown_token(tmp_path):
    facts = toy_facts([])
    facts["tokenizer.ggml.tokens"].remove("z")
    ours = Tokenizer(Gguf(write_toy(tmp_path, gguf(facts, {}))))
    tokens = [ours.tokens[index] for index in ours.encode("az!")]
    assert tokens == ["a", "<|endoftext|>", "!"]


def test_that_the_name_of_a_control_token_is_read_as_text(toy):
    ours, _ = toy
    ids = ours.encode("<|im_start|>")
    assert ours.tokens.index("<|im_start|>") not in ids
    assert ours.decode(ids) == "<|im_start|>"


def test_that_a_token_keeps_its_space_and_a_part_of_a_character_is_named_by_its_bytes(toy):
    ours, _ = toy
    assert "".join(map(ours.piece, ours.encode(TEXT))) == TEXT
    assert " the" in map(ours.piece, ours.encode("see the light"))
    assert [ours.piece(index) for index in ours.encode("𝄞\n")] == ["‹F0›", "‹9D›", "‹84›", "‹9E›", "\n"]
    assert ours.piece(ours.tokens.index("<|im_start|>")) == "<|im_start|>"


def test_that_a_space_stays_before_the_bytes_of_a_part(tmp_path):
    letters = byte_letters()
    ours = Tokenizer(Gguf(write_toy(tmp_path, gguf(toy_facts([(letters[32], letters[0xF0])]), {}))))
    assert ours.piece(ours.encode(" 🙂")[0]) == " ‹F0›"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer.ggml.model": "llama"}, "llama/smollm tokenizer"),
        ({"tokenizer.ggml.pre": "qwen2"}, "gpt2/qwen2 tokenizer"),
        ({"tokenizer.ggml.merges": ["a b"]}, "merge 1 names a token"),
        ({"tokenizer.ggml.merges": ["ab"]}, "merge 1 names a token"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "has a token twice"),
        ({"tokenizer.ggml.unknown_token_id": ("u4", 10**6)}, "no unknown token"),
    ],
)
def test_that_a_tokenizer_of_another_kind_is_refused_by_name(tmp_path, change, words):
    with pytest.raises(GgufError, match=words):
        Tokenizer(Gguf(write_toy(tmp_path, gguf(toy_facts([]) | change, {}))))


@pytest.mark.parametrize("unit", ["a", " ", "🙂", "the light ", "ab!", "abcdefg", "\n"])
def test_that_a_hundred_kilobytes_take_no_quadratic_time(toy, unit):
    ours, theirs = toy
    text = (unit * 100_000)[: 100_000 // len(unit.encode()) * len(unit)]
    began = time.perf_counter()
    ids = ours.encode(text)
    assert time.perf_counter() - began < 20  # hours, were the merges searched for again each time
    assert ids == theirs.encode(text).ids


def test_that_a_run_longer_than_the_limit_is_cut_and_loses_nothing(toy):
    ours, _ = toy
    text = "tide" * (MAX_WORD_BYTES // 2)
    assert ours.decode(ours.encode(text)) == text


def test_that_encoding_can_be_interrupted_within_one_long_word(toy):
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        toy[0].encode("he" * 120_000, tick)


def test_that_the_whole_toy_file_carries_the_same_tokenizer(tmp_path):
    assert fact("tokenizer.ggml.pre", "smollm") in toy_bytes()
    assert Tokenizer(Gguf(write_toy(tmp_path))).decode(Tokenizer(Gguf(write_toy(tmp_path))).encode("tide")) == "tide"
