"""Of the inputs of maps: what synthetic ones show, and that no file makes the engine crash, hang or grow."""

import json
import random
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from attnscope_engine.input_files import MAX_TENSORS, read_arrays
from attnscope_engine.inputs import synthetic, synthetic_head
from attnscope_engine.library import attention_map
from attnscope_engine.protocol import FileSource, SyntheticSource, TextSource, Workload
from attnscope_engine.refusals import JobRefused
from attnscope_engine.sources import Sources

KINDS = ["gaussian", "local", "needle", "induction"]
PLENTY = 1 << 40


def shape(n=256, **fields) -> Workload:
    return Workload(**{"seq_len": n, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64, "layers": 3, **fields})


def weights(kind: str, n=512, head=0, seed=3, **fields) -> np.ndarray:
    return attention_map(*synthetic_head(SyntheticSource(kind, seed), shape(n, **fields), 0, head))


# ---------------------------------------------------------------- synthetic


@pytest.mark.parametrize("kind", KINDS)
def test_that_the_same_seed_gives_the_same_numbers_and_another_does_not(kind):
    first, again = (synthetic(SyntheticSource(kind, 7), shape(batch=2)) for _ in range(2))
    for x, y in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, y)
    other = synthetic(SyntheticSource(kind, 8), shape(batch=2))
    assert all(not np.array_equal(x, y) for x, y in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_that_one_head_is_the_same_as_in_the_whole(kind):
    q, k, v = synthetic(SyntheticSource(kind), shape(batch=2), layer=1)
    assert q.shape == (2, 4, 256, 64)
    assert k.shape == v.shape == (2, 2, 256, 64)
    assert q.dtype == k.dtype == v.dtype == np.float32
    for head in range(4):
        query, key = synthetic_head(SyntheticSource(kind), shape(batch=2), 1, head)
        np.testing.assert_array_equal(q[0, head], query)
        np.testing.assert_array_equal(k[0, head // 2], key)


@pytest.mark.parametrize("kind", KINDS)
def test_that_heads_layers_and_sequences_differ(kind):
    whole = [synthetic(SyntheticSource(kind), shape(batch=2), layer)[0] for layer in range(2)]
    heads = [x[b, h] for x in whole for b in range(2) for h in range(4)]
    assert len({x.tobytes() for x in heads}) == len(heads)


@pytest.mark.parametrize("kind", KINDS)
def test_that_the_first_tokens_stay_when_n_grows(kind):
    for head in range(4):
        short, long = (synthetic_head(SyntheticSource(kind), shape(n), 0, head) for n in (300, 1000))
        np.testing.assert_allclose(long[0][:300], short[0], rtol=1e-6)
        missing = np.abs(long[1][:300] - short[1]).max(axis=1) > 1e-5
        assert missing.mean() < (0.2 if kind == "needle" else 1e-9)  # a later query's needle marks an earlier key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d"), [(1, 8), (2, 9), (3, 64), (17, 512)])
def test_that_small_and_odd_shapes_are_finite(kind, n, d):
    q, k, v = synthetic(SyntheticSource(kind), shape(n, head_dim=d))
    assert all(np.isfinite(x).all() for x in (q, k, v))


def test_that_gaussian_scores_have_unit_deviation():
    q, k = synthetic_head(SyntheticSource("gaussian"), shape(1000), 0, 0)
    assert (q @ k.T / 8).std() == pytest.approx(1, rel=0.1)


def test_that_local_weights_fall_with_the_distance():
    a = weights("local")[200:]
    near = np.mean([a[i, 200 + i - 4 : 200 + i + 1].sum() for i in range(len(a))])
    far = np.mean([a[i, : 200 + i - 150].sum() for i in range(len(a))])
    assert near > 5 * 5 / 300
    assert near > 3 * far


def test_that_needle_maps_have_a_sink_a_band_and_far_needles():
    needles, n = 0, 1024
    for head in range(4):
        a = weights("needle", n, head)
        uniform = 1 / n
        assert a[300:, 0].mean() > 5 * uniform
        band = np.mean([a[i, i] for i in range(300, n)])
        assert band > 5 * uniform
        far = np.tril(a[300:, 1:], 300 - 1 - 50)
        needles += int((far > 0.3).sum())
        assert (far > 0.3).sum() < 40
    assert needles >= 8


def test_that_induction_looks_at_the_token_after_the_last_time():
    a = weights("induction", 256, head=1)
    period = next(p for p in range(16, 48) if a[255, 255 - p + 1] > 0.05)
    on_target = [a[i, [i - p + 1 for p in range(period, i + 2, period)]].sum() for i in range(100, 256)]
    assert np.mean(on_target) > 0.5


# ---------------------------------------------------------------- files


def save(path, form: str, **arrays) -> None:
    if form == "npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, path)


def arrays(heads=4, kv_heads=2, n=20, d=8, dtype=np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "q": rng.standard_normal((heads, n, d)).astype(dtype),
        "k": rng.standard_normal((kv_heads, n, d)).astype(dtype),
        "v": rng.standard_normal((kv_heads, n, d)).astype(dtype),
    }


def header(tensors: dict | bytes, data: bytes = b"") -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


def refusal(path, data: bytes | None = None, free=PLENTY) -> str:
    """The sentence with which a file is refused; nothing else may happen."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(JobRefused) as refused:
        read_arrays(path, free)
    assert refused.value.refusal.reason == "invalid"
    assert path.name in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_that_a_file_comes_back_as_it_was_saved(tmp_path, form, dtype):
    path = tmp_path / f"own.{form}"
    saved = arrays(dtype=dtype)
    save(path, form, **saved)
    read = read_arrays(path, PLENTY)
    for name in ("q", "k"):
        got = getattr(read, name)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got[0], saved[name].astype(np.float32))


def test_that_bfloat16_is_read_as_its_upper_half_of_float32(tmp_path):
    values = np.array([0, 1, -2.5, np.inf, 3.0e38, 1e-40], np.float32).repeat(8).reshape(1, 6, 8)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    info = {"dtype": "BF16", "shape": [1, 6, 8], "data_offsets": [0, 96]}
    path = tmp_path / "own.safetensors"
    path.write_bytes(header({"q": info, "k": info}, upper.tobytes()))
    wanted = (upper.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(read_arrays(path, PLENTY).q[0], wanted)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_that_the_first_of_four_axes_is_walked_as_layers(tmp_path, form):
    path = tmp_path / f"own.{form}"
    saved = {name: np.stack([x, 2 * x]) for name, x in arrays().items()}
    save(path, form, **saved)
    heads = Sources().open(FileSource(str(path)), Workload(), lambda: None)
    assert (heads.layers, heads.num_heads, heads.num_kv_heads, heads.seq_len, heads.head_dim) == (2, 4, 2, 20, 8)
    q, k = heads.head(1, 3)
    np.testing.assert_array_equal(q, saved["q"][1, 3])
    np.testing.assert_array_equal(k, saved["k"][1, 1])


def test_that_compressed_files_are_read(tmp_path):
    np.savez_compressed(tmp_path / "own.npz", **arrays())
    assert read_arrays(tmp_path / "own.npz", PLENTY).q.shape == (1, 4, 20, 8)


def test_that_a_file_saved_again_is_read_again(tmp_path):
    path, sources = tmp_path / "own.npz", Sources()
    keys = []
    for n in (20, 30):
        save(path, "npz", **arrays(n=n))
        heads = sources.open(FileSource(str(path)), Workload(), lambda: None)
        assert heads.seq_len == n
        assert sources.open(FileSource(str(path)), Workload(), lambda: None) is heads
        keys.append(heads.key)
    assert len(set(keys)) == 2


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("k"), "no array named 'k'; it has 'q', 'v'"),
        (lambda a: a.pop("q"), "no array named 'q'"),
        (lambda a: a.update(q=a["q"][0]), "q has shape (20, 8); it must be (H, N, D) or (B, H, N, D)"),
        (lambda a: a.update(q=a["q"][None]), "q has 4 axes and k has 3"),
        (lambda a: a.update(k=a["k"][:, :, :7]), "head dim must be"),
        (lambda a: a.update(k=a["k"][:, :19]), "q has 20 tokens and k has 19"),
        (lambda a: a.update(k=a["q"][:3]), "k has 3 heads, which does not divide the 4"),
        (lambda a: a.update(k=a["k"][:0]), "k has 0 heads"),
        (lambda a: a.update(q=a["q"][:, :0], k=a["k"][:, :0]), "tokens must be 1 to 1,048,576 (was 0)"),
        (lambda a: a.update(q=a["q"][..., :4], k=a["k"][..., :4]), "head dim must be 8 to 512 (was 4)"),
    ],
)
def test_that_arrays_that_do_not_fit_are_refused_by_name_and_number(tmp_path, form, change, words):
    saved = arrays()
    change(saved)
    path = tmp_path / f"own.{form}"
    save(path, form, **saved)
    assert words in refusal(path)


def test_that_python_objects_are_never_unpacked(tmp_path):
    class Bomb:
        def __reduce__(self):
            raise AssertionError("it was unpickled")

    path = tmp_path / "own.npz"
    np.savez(path, q=np.array([{"a": 1}] * 3, dtype=object), k=arrays()["k"])
    assert "q contains Python objects" in refusal(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((4, 20, 8), np.int32), "q is of type int32; it must be float16, float32 or float64"),
        (np.ones((4, 20, 8), ">f4"), "q is of type >f4"),
        (np.ones((4, 20, 8), np.complex64), "complex64"),
        (np.asfortranarray(np.ones((4, 20, 8))), "Fortran order: save numpy.ascontiguousarray(q)"),
    ],
)
def test_that_other_kinds_of_arrays_are_refused_with_what_is_possible(tmp_path, array, words):
    path = tmp_path / "own.npz"
    np.savez(path, q=array, k=arrays()["k"])
    assert words in refusal(path)


def test_that_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("q.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (64, 8192, 512)})
        for _ in range(256):
            member.write(bytes(1 << 20))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("k.npy", b"")
    tracemalloc.start()
    began = time.perf_counter()
    assert "q.npy expands to 0.3 GiB (×1,0" in refusal(path)
    assert time.perf_counter() - began < 10
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_that_more_than_is_free_is_refused_with_both_numbers(tmp_path, form):
    path = tmp_path / f"own.{form}"
    save(path, form, **arrays(n=4000))
    assert "expands to 0.0 GiB; at most 0.0 GiB fit here" in refusal(path, free=1000)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 20, 9), "needs 2,880 bytes, has 2,560"),
        ((1 << 40, 1 << 40, 8), "needs"),
        ((-4, 20, 8), "needs"),
        ((), "needs 4 bytes"),
    ],
)
def test_that_an_array_header_that_lies_is_refused(tmp_path, shape, words):
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("q.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
            member.write(bytes(4 * 4 * 20 * 8))
        with archive.open("k.npy", "w") as member:
            np.lib.format.write_array(member, arrays()["k"])
    assert words in refusal(path)


def test_that_a_zip_whose_directory_is_a_bomb_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(200):
            archive.writestr(f"{i}.npy", b"")
    assert "more than 64 arrays" in refusal(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "longer than the file"),
        (b"\xff" * 8, "limit 1 MiB"),
        (struct.pack("<Q", 89 << 20) + b"{", "header of 89 MB, limit 1 MiB"),
        (struct.pack("<Q", 1 << 63), "limit 1 MiB"),
        (header(b"[1, 2]"), "header is damaged"),
        (header(b'{"q": ' + b"[" * 100_000), "header is damaged"),
        (header(b'{"q": {"dtype": "F32", "shape": [\xff\xfe]}}'), "header is damaged"),
        (header({"q": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}), "header is damaged"),
        (header({"q": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}), "header is damaged"),
        (header({"q": {"dtype": "F32", "shape": [2, 2, 8], "data_offsets": [0, 100]}}), "needs 128 bytes, has 0"),
        (header({"q": {"dtype": "F32", "shape": [2, 2, 8], "data_offsets": [0, 128]}}, bytes(100)), "needs 128 bytes, has 100"),
        (header({"q": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 128]}}, bytes(128)), "has 128"),
        (header({"q": {"dtype": "I8", "shape": [8], "data_offsets": [0, 8]}}, bytes(8)), "it must be F16, BF16, F32 or F64"),
        (header({str(i): {} for i in range(MAX_TENSORS + 1)}), "lists 4,097 tensors, limit 4,096"),
        (header({"__metadata__": {"q": "1"}}), "it has nothing"),
    ],
)
def test_that_a_hostile_safetensors_header_is_refused(tmp_path, data, words):
    tracemalloc.start()
    began = time.perf_counter()
    assert words in refusal(tmp_path / "own.safetensors", data)
    assert time.perf_counter() - began < 10
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["own.npy", "own", "own.pt", "own.npz.txt"])
def test_that_another_kind_of_file_is_refused_with_the_kinds_that_are_read(tmp_path, name):
    assert "neither .npz nor .safetensors" in refusal(tmp_path / name, b"PK")


def test_that_what_is_no_plain_file_is_refused(tmp_path):
    (tmp_path / "own.npz").mkdir()
    assert "not a plain file" in refusal(tmp_path / "own.npz")
    assert "No such file" in refusal(tmp_path / "gone.npz")


def test_that_a_path_with_a_nul_is_refused():
    with pytest.raises(JobRefused, match="can not be read"):
        Sources().open(FileSource("/tmp/\0.npz"), Workload(), lambda: None)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_that_a_file_cut_anywhere_is_refused(tmp_path, form):
    path = tmp_path / f"own.{form}"
    save(path, form, **{name: x for name, x in arrays().items() if name != "v"})
    whole = path.read_bytes()
    for percent in range(100):
        refusal(path, whole[: len(whole) * percent // 100])


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_that_a_damaged_file_is_read_or_refused_and_never_more(tmp_path, form):
    rng = random.Random(4)
    path = tmp_path / f"own.{form}"
    save(path, form, **arrays())
    whole = path.read_bytes()
    refused = 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data)) if rng.random() < 0.3 else rng.choice((rng.randrange(400), -1 - rng.randrange(400)))
            data[at] = rng.choice((0, 0xFF, 0x7F, rng.randrange(256)))
        path.write_bytes(data)
        began = time.perf_counter()
        try:
            read = read_arrays(path, 1 << 27)
            assert read.q.ndim == read.k.ndim == 4
        except JobRefused:
            refused += 1
        assert time.perf_counter() - began < 10
    assert refused > 100


# ---------------------------------------------------------------- texts


def test_that_a_missing_model_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(JobRefused) as refused:
        Sources(tmp_path / "no.gguf").open(TextSource("hello"), Workload(), lambda: None)
    assert refused.value.refusal.reason == "unsupported"
    assert "no.gguf" in str(refused.value)
