"""Of the forward pass: it equals plain loops in float64, on a toy model that the test writes."""

import math
import subprocess
import sys

import numpy as np
import pytest
from attnscope_engine.model import llama
from attnscope_engine.model.gguf import Gguf, GgufError
from attnscope_engine.model.llama import Llama, attend_by_blocks, attend_by_torch, causal_scores, choose_attention, row_blocks
from attnscope_engine.variant import Interrupted
from toy_model import CONTEXT, FFN_WIDTH, HEAD_DIM, HEADS, KV_HEADS, LAYERS, WIDTH, gguf, toy_facts, toy_tensors, write_toy

IDS = np.array([5, 99, 5, 17, 200, 40, 41, 99, 3, 8, 250, 5, 99])


def quiet() -> None:
    """A tick that never interrupts."""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Gguf:
    return Gguf(write_toy(tmp_path_factory.mktemp("toy")))


def norm(row: list[float], gain: np.ndarray) -> np.ndarray:
    mean = sum(float(x) ** 2 for x in row) / len(row)
    return np.array([float(x) / math.sqrt(mean + 1e-5) * float(g) for x, g in zip(row, gain, strict=True)])


def turned(vector: np.ndarray, position: int) -> np.ndarray:
    """Each adjacent pair as a complex number, turned."""
    out = []
    for pair in range(HEAD_DIM // 2):
        angle = position * 10000.0 ** (-2 * pair / HEAD_DIM)
        turned_pair = complex(*vector[2 * pair : 2 * pair + 2]) * complex(math.cos(angle), math.sin(angle))
        out += [turned_pair.real, turned_pair.imag]
    return np.array(out)


def by_loops(file: Gguf, ids: np.ndarray):
    """The same model, one token and one head at a time, float64. Returns q, k, v `[layer][head][token]` and the logits."""

    def weight(name: str) -> np.ndarray:
        return file.tensor(name).astype(np.float64)

    states = [weight("token_embd.weight")[token] for token in ids]
    kept_q, kept_k, kept_v = [], [], []
    for layer in range(LAYERS):
        w = {name: weight(f"blk.{layer}.{name}.weight") for name in ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"]}
        w |= {name: weight(f"blk.{layer}.{name}.weight") for name in ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]}
        normed = [norm(row, w["attn_norm"]) for row in states]
        slots = range(0, WIDTH, HEAD_DIM)
        q = [[turned((w["attn_q"] @ row)[s : s + HEAD_DIM], at) for at, row in enumerate(normed)] for s in slots]
        k = [[turned((w["attn_k"] @ row)[s : s + HEAD_DIM], at) for at, row in enumerate(normed)] for s in slots[:KV_HEADS]]
        v = [[(w["attn_v"] @ row)[s : s + HEAD_DIM] for row in normed] for s in slots[:KV_HEADS]]
        for at in range(len(ids)):
            mixed = []
            for head in range(HEADS):
                group = head // (HEADS // KV_HEADS)
                scores = [float(q[head][at] @ k[group][key]) / math.sqrt(HEAD_DIM) for key in range(at + 1)]
                top = max(scores)
                weights = [math.exp(score - top) for score in scores]
                parts = zip(weights, v[group][: at + 1], strict=True)
                mixed.append(sum(weight / sum(weights) * value for weight, value in parts))
            states[at] = states[at] + w["attn_output"] @ np.concatenate(mixed)
            row = norm(states[at], w["ffn_norm"])
            gate = w["ffn_gate"] @ row
            states[at] = states[at] + w["ffn_down"] @ (gate / (1 + np.exp(-gate)) * (w["ffn_up"] @ row))
        kept_q.append(q), kept_k.append(k), kept_v.append(v)
    return kept_q, kept_k, kept_v, weight("token_embd.weight") @ norm(states[-1], weight("output_norm.weight"))


def test_that_every_q_k_and_v_equals_plain_loops_in_float64(file):
    model = Llama(file)
    seen = model.forward(IDS, quiet)
    q, k, v, logits = by_loops(file, IDS)
    for ours, truth, heads in ((seen.q, q, HEADS), (seen.k, k, KV_HEADS), (seen.v, v, KV_HEADS)):
        for layer in range(LAYERS):
            assert ours[layer].shape == (heads, len(IDS), HEAD_DIM)
            assert ours[layer].dtype == np.float32
            np.testing.assert_allclose(ours[layer], truth[layer], atol=2e-4, rtol=2e-4)
    np.testing.assert_allclose(model.next_token_logits(IDS), logits, atol=5e-3, rtol=1e-3)
    assert np.std(logits) > 1, "a flat model would agree with anything"


def test_that_a_later_token_changes_nothing_before_it(file):
    model, other = Llama(file), IDS.copy()
    other[-3:] = 77
    one, two = model.forward(IDS, quiet), model.forward(other, quiet)
    for layer in range(LAYERS):
        np.testing.assert_allclose(one.q[layer][:, :-3], two.q[layer][:, :-3], atol=1e-5)
        assert abs(one.q[layer][:, -3:] - two.q[layer][:, -3:]).max() > 0.1


def test_that_layers_which_the_cache_can_not_hold_give_the_same_result(file):
    one_layer = 4 * (WIDTH * (2 * WIDTH + 2 * KV_HEADS * HEAD_DIM + 3 * FFN_WIDTH) + 2 * WIDTH)
    results = []
    for cache_bytes in (0, one_layer, 10 * one_layer):
        model = Llama(file, cache_bytes)
        model.forward(IDS, quiet)
        results.append((len(model._cache), model.forward(IDS, quiet).last))
    assert [held for held, _ in results] == [0, 1, 2]
    np.testing.assert_array_equal(results[0][1], results[2][1])


def random_heads(n: int, heads: int = 6, kv: int = 2, D: int = 32, seed: int = 4):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, n, D), dtype=np.float32) * 2 for count in (heads, kv, kv)]


def dense(q, k, v):
    group, n = len(q) // len(k), q.shape[1]
    scores = np.einsum("hid,hjd->hij", q.astype(np.float64), np.repeat(k, group, 0).astype(np.float64)) / math.sqrt(q.shape[2])
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * np.tri(n)
    return weights / weights.sum(-1, keepdims=True) @ np.repeat(v, group, 0)


@pytest.mark.parametrize("attend", [attend_by_blocks, attend_by_torch])
@pytest.mark.parametrize("n", [1, 2, 17, 255, 256, 257, 700])
def test_that_attention_equals_the_dense_float64_formula(attend, n, monkeypatch):
    if attend is attend_by_torch:
        pytest.importorskip("torch")
    monkeypatch.setattr(llama, "BLOCK_BYTES", 100_000)
    q, k, v = random_heads(n)
    np.testing.assert_allclose(attend(q, k, v, quiet), dense(q, k, v), atol=2e-5)


def test_that_rows_of_weights_sum_to_one(monkeypatch):
    q, k, _ = random_heads(300)
    ones = np.ones((2, 300, 32), np.float32)
    np.testing.assert_allclose(attend_by_blocks(q, k, ones, quiet), 1, atol=5e-6)


def test_that_scores_of_chosen_rows_are_those_of_the_whole_map():
    q, k, _ = random_heads(50)
    rows = np.array([3, 10, 11, 40])
    scores = causal_scores(q, k, rows)
    whole = np.einsum("hid,hjd->hij", q, np.repeat(k, 3, 0)) / math.sqrt(32)
    assert scores.shape == (6, 4, 41)
    for index, row in enumerate(rows):
        np.testing.assert_allclose(scores[:, index, : row + 1], whole[:, row, : row + 1], atol=1e-4)
        assert (scores[:, index, row + 1 :] == llama.MASKED_SCORE).all()


def test_that_no_block_of_a_long_text_holds_all_its_scores():
    rows = list(row_blocks(np.arange(8192), 9))
    assert np.concatenate(rows).tolist() == list(range(8192))
    assert max(len(block) * (block[-1] + 1) * 9 * 4 for block in rows) <= llama.BLOCK_BYTES


def test_that_torch_is_asked_only_from_the_stated_length_on():
    pytest.importorskip("torch")
    assert choose_attention(llama.TORCH_TOKENS - 1) is attend_by_blocks
    assert choose_attention(llama.TORCH_TOKENS) is attend_by_torch


def test_that_reading_a_short_text_never_imports_torch(tmp_path):
    path = write_toy(tmp_path)
    program = (
        "import sys; from pathlib import Path; from attnscope_engine.model.reading import Reader; "
        "from attnscope_engine.protocol import TextSource; "
        f"Reader(Path({str(path)!r})).read(TextSource('the light'), lambda: None); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_that_without_torch_a_long_text_is_read_by_numpy(monkeypatch):
    monkeypatch.setattr(llama.importlib.util, "find_spec", lambda name: None)
    assert choose_attention(10 * llama.TORCH_TOKENS) is attend_by_blocks


def test_that_a_tick_is_asked_between_layers_and_ends_the_pass(file):
    calls = []

    def tick() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        Llama(file).forward(IDS, tick)
    assert len(calls) == 4
    calls.clear()
    assert Llama(file).shape.context == CONTEXT


def changed(tmp_path, facts: dict, drop: str = "", add: str = "") -> Gguf:
    base = toy_facts([])
    tensors = toy_tensors(len(base["tokenizer.ggml.tokens"]))
    tensors.pop(drop, None)
    if add:
        tensors[add] = (np.ones(32), "F32")
    return Gguf(write_toy(tmp_path, gguf(base | facts, tensors)))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"general.architecture": "mamba"}, "holds a mamba model; llama is read"),
        ({"llama.rope.scaling.type": "yarn"}, "scales its rotary positions"),
        ({"llama.block_count": ("u4", 3)}, r"blk\.2\.attn_norm\.weight should have shape \(64,\) and is missing"),
        ({"llama.block_count": ("u4", 1)}, r"tensors that are not used here, .*blk\.1"),
        ({"llama.block_count": ("u4", 2**31)}, "claims 2,147,483,648 layers and has 20 tensors"),
        ({"llama.attention.head_count": ("u4", 5)}, "5 heads of 16, 2 for keys, do not make 64"),
        ({"llama.attention.head_count_kv": ("u4", 4)}, "should have shape"),
        ({"llama.attention.head_count_kv": ("u4", 0)}, "0 for keys"),
        ({"llama.context_length": ("u4", 0)}, "do not make"),
        ({"llama.feed_forward_length": ("u4", 97)}, r"ffn_gate\.weight should have shape \(97, 64\) and is of shape \(96, 64\)"),
        ({"llama.rope.freq_base": ("f4", float("nan"))}, "out of range"),
        ({"llama.attention.layer_norm_rms_epsilon": ("f4", 0.0)}, "out of range"),
    ],
)
def test_that_a_model_of_another_shape_is_refused_by_name(tmp_path, facts, words):
    with pytest.raises(GgufError, match=words):
        Llama(changed(tmp_path, facts))


def test_that_a_missing_or_surplus_tensor_is_refused_by_name(tmp_path):
    with pytest.raises(GgufError, match=r"blk\.0\.attn_k\.weight .* is missing"):
        Llama(changed(tmp_path, {}, drop="blk.0.attn_k.weight"))
    with pytest.raises(GgufError, match=r"another kind of model: 'blk\.0\.attn_q\.bias'"):
        Llama(changed(tmp_path, {}, add="blk.0.attn_q.bias"))


def test_that_what_a_reading_holds_is_what_the_formula_states(file):
    model = Llama(file)
    seen = model.forward(IDS, quiet)
    assert sum(part.nbytes for part in (*seen.q, *seen.k, *seen.v)) == model.shape.held_bytes(len(IDS))
