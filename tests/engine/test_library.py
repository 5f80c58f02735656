"""Of the engine as a library: what a person calls from Python, and what they are told when it can not be done."""

import subprocess
import sys

import attnscope_engine
import numpy as np
import pytest
from attnscope_engine import attention, attention_map
from attnscope_engine.library import measure, variants
from attnscope_engine.protocol import Workload
from attnscope_engine.refusals import JobRefused

NAMES = list(variants())


def inputs(heads=4, kv_heads=2, n=50, d=16, batch=2):
    rng = np.random.default_rng(0)
    q = rng.standard_normal((batch, heads, n, d), dtype=np.float32)
    k, v = rng.standard_normal((2, batch, kv_heads, n, d), dtype=np.float32)
    return q, k, v


def test_that_importing_the_package_imports_no_library():
    script = (
        "import sys, attnscope_engine, attnscope_engine.protocol\n"
        "print(sorted({'numpy', 'torch', 'cupy', 'psutil'} & set(sys.modules)), attnscope_engine.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", attnscope_engine.__version__]


def test_that_a_name_the_package_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attentoin"):
        attnscope_engine.attentoin  # noqa: B018


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("variant", NAMES)
def test_that_attention_is_the_map_times_v(variant, causal):
    if variants()[variant].why_no_map:
        pytest.skip(variants()[variant].why_no_map)
    if variants()[variant].causal_only and not causal:
        pytest.skip(variants()[variant].causal_only)
    q, k, v = inputs()
    out = attention(q, k, v, variant=variant, causal=causal)
    assert out.shape == q.shape
    assert out.dtype == np.float32
    for b, h in np.ndindex(2, 4):
        which = {"head": h, "num_heads": 4, "num_kv_heads": 2}
        found, values = variants()[variant], v[b, h // 2]
        weights = attention_map(q[b, h], k[b] if found.mixes_heads else k[b, h // 2], variant=variant, causal=causal, **which)
        if found.values:
            w = Workload(seq_len=q.shape[2], num_heads=4, num_kv_heads=2, head_dim=q.shape[3], causal=causal)
            values = found.values(v[b], w, found.params(), h)
        np.testing.assert_allclose(out[b, h], weights @ values, atol=2e-5 * max(1, np.abs(out).max()))


@pytest.mark.parametrize("variant", NAMES)
def test_that_a_torch_tensor_gives_a_tensor_of_the_same_values(variant):
    torch = pytest.importorskip("torch")
    q, k, v = inputs()
    out = attention(*(torch.from_numpy(x) for x in (q, k, v)), variant=variant)
    assert isinstance(out, torch.Tensor)
    np.testing.assert_allclose(out.numpy(), attention(q, k, v, variant=variant), atol=2e-5 * max(1, np.abs(out.numpy()).max()))


def test_that_one_sequence_needs_no_batch_axis():
    q, k, v = inputs(batch=1)
    np.testing.assert_array_equal(attention(q[0], k[0], v[0]), attention(q, k, v)[0])


def test_that_the_last_of_fewer_queries_stands_at_the_last_key():
    q, k, v = inputs()
    np.testing.assert_allclose(attention(q[:, :, -3:], k, v), attention(q, k, v)[:, :, -3:], atol=1e-5)


def test_that_rows_of_a_map_are_rows_of_the_whole():
    q, k, _ = inputs(n=100)
    whole = attention_map(q[0, 0], k[0, 0], variant="sliding_window", window_size=7)
    some = attention_map(q[0, 0], k[0, 0], variant="sliding_window", window_size=7, rows=[99, 0, 50])
    np.testing.assert_array_equal(some, whole[[99, 0, 50]])
    assert np.count_nonzero(some[0]) == 7


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda q, k, v: attention(q, k, v, variant="flash"), ["flash", "softmax_tiled"]),
        (lambda q, k, v: attention(q, k, v, variant="sliding_window", window=3), ["window"]),
        (lambda q, k, v: attention(q, k, v, variant="chunked", chunk_size=0), ["chunk_size must be 1 to 1,048,576 (was 0)"]),
        (lambda q, k, v: attention(q, k[:, :, :, :8], v[:, :, :, :8]), ["head dim 16", "8"]),
        (lambda q, k, v: attention(q, k, v[:, :, :10]), ["v must have the shape of k"]),
        (lambda q, k, v: attention(q[:, :3], k, v), ["num_kv_heads must divide num_heads (3), was 2"]),
        (lambda q, k, v: attention(q[0, 0], k, v), ["q must have 3 or 4 axes"]),
        (lambda q, k, v: attention_map(q, k), ["q must be (tokens, D)"]),
        (lambda q, k, v: attention_map(q[0, 0], k[0, 0], rows=[50]), ["rows must be 0 to 49"]),
        (lambda q, k, v: attention_map(q[0, 0], k[0, 0], head=4, num_heads=4), ["head must be 0 to 3, was 4"]),
    ],
)
def test_that_a_wrong_call_is_told_which_value_and_what_is_possible(call, words):
    with pytest.raises(ValueError) as error:
        call(*inputs())
    assert all(word in str(error.value) for word in words)


def test_that_a_measurement_has_a_time_a_spread_and_a_peak():
    workload = Workload(seq_len=256, num_heads=2, num_kv_heads=1, dtype="fp32")
    point = measure("softmax_tiled", device="cpu", budget_s=0.05, workload=workload)
    assert 0 < point.p20_s <= point.time_s <= point.p80_s
    assert point.samples >= 3
    assert point.peak_bytes >= 256 * 64 * 4 * 6


def test_that_what_does_not_fit_is_refused_with_the_largest_that_does():
    with pytest.raises(JobRefused) as refused:
        measure("softmax_naive", device="cpu", workload=Workload(seq_len=1 << 20, num_heads=256, num_kv_heads=256))
    assert refused.value.refusal.reason == "memory"
    assert refused.value.refusal.largest_seq_len < 1 << 20
