"""Every message between the window and the engine, and how it is framed on a pipe.

Both ends ship together: an unknown field, an unknown tag or another `PROTOCOL` is refused, never guessed at.
A frame is `magic(2) length(u32 le) crc32(u32 le) payload`, the payload one msgpack object. Any violation is a fault of
the peer: there is no resynchronising, since ending the process and starting it again is cheaper and provable.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

PROTOCOL = 1
"""Raised by one with every change of a message."""

MAGIC = b"aS"
HEADER = struct.Struct("<2sII")
MAX_PAYLOAD = 64 * 1024 * 1024
"""Bytes. A larger frame is refused before it is allocated."""

MAX_SEQ_LEN = 1 << 20
MIN_SEQ_LEN = 64
"""Lower end of the slider. A map of a short text may be smaller: `Workload` itself allows 1."""

Dtype = Literal["fp32", "bf16", "fp16"]
DeviceKind = Literal["cuda", "cpu"]
ParamValue = int | float | bool | str
ParamValues = dict[str, ParamValue]
ITEM_BYTES: dict[Dtype, int] = {"fp32": 4, "bf16": 2, "fp16": 2}


class Wire(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all that travels: frozen, strict."""


# ---------------------------------------------------------------- what is computed


class Workload(Wire, frozen=True):
    """The shape of one attention call: q `(batch, num_heads, seq_len, head_dim)`, k and v with `num_kv_heads` heads."""

    batch: Annotated[int, Meta(ge=1, le=1024)] = 1
    seq_len: Annotated[int, Meta(ge=1, le=MAX_SEQ_LEN)] = 4096
    """Queries n; keys too (prefill)."""
    num_heads: Annotated[int, Meta(ge=1, le=256)] = 9
    num_kv_heads: Annotated[int, Meta(ge=1, le=256)] = 3
    """Divides `num_heads`; query head h reads key head `h // (num_heads // num_kv_heads)`."""
    head_dim: Annotated[int, Meta(ge=8, le=512)] = 64
    layers: Annotated[int, Meta(ge=1, le=1000)] = 30
    """Shown in whole-model sums; one call is one layer."""
    dtype: Dtype = "bf16"
    causal: bool = True

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads must divide num_heads ({self.num_heads}), was {self.num_kv_heads}")

    @property
    def item_bytes(self) -> int:
        """Bytes of one stored element."""
        return ITEM_BYTES[self.dtype]

    @property
    def pairs(self) -> int:
        """Query-key pairs of one head that a full or causal softmax keeps, counted exactly."""
        n = self.seq_len
        return n * (n + 1) // 2 if self.causal else n * n


class Choice(Wire, frozen=True):
    """A variant and the values of its parameters (`Params` of its own file checks them)."""

    variant: Annotated[str, Meta(max_length=64)]
    params: ParamValues = {}


class TextSource(Wire, frozen=True, tag="text"):
    """The model's own q and k on this text."""

    text: Annotated[str, Meta(max_length=2_000_000)]
    keep: Literal["all", "first", "last"] = "all"
    """What to do with a text longer than the model's context: refuse (`all`), or read its first or last tokens."""


class SyntheticSource(Wire, frozen=True, tag="synthetic"):
    """Seeded q and k of a stated distribution, of the workload's own shape."""

    kind: Literal["gaussian", "local", "needle", "induction"] = "needle"
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 3


class FileSource(Wire, frozen=True, tag="file"):
    """The user's q, k (and v) from an `.npz` or `.safetensors` file, arrays `(H, N, D)` or `(B, H, N, D)`."""

    path: Annotated[str, Meta(max_length=4096)]


Source = TextSource | SyntheticSource | FileSource


# ---------------------------------------------------------------- jobs, window to engine


class Calibrate(Wire, frozen=True, tag="calibrate"):
    """Measure this device's ceilings: matrix product, copy, exponentials, launch."""


class Measure(Wire, frozen=True, tag="measure"):
    """Time one forward call and its peak of memory."""

    workload: Workload
    choice: Choice
    budget_s: Annotated[float, Meta(gt=0, le=600)] = 0.5
    """Wall time to spend on repeats once warm; at least 3 repeats are taken whatever it is."""
    seed: int = 0


class ReadText(Wire, frozen=True, tag="read_text"):
    """Tokens of a text and what each head of the model does with it."""

    source: TextSource


class DrawMap(Wire, frozen=True, tag="draw_map"):
    """Pictures of one rectangle of the map, one a panel, all of the same head."""

    source: Source
    workload: Workload
    """Shape of synthetic inputs; `causal` for all sources."""
    layer: Annotated[int, Meta(ge=0, le=1000)]
    head: Annotated[int, Meta(ge=0, le=4096)]
    panels: Annotated[tuple[Choice, ...], Meta(max_length=4)]
    rows: tuple[int, int]
    """First and one past last query. What reaches past the map is left out of the picture."""
    columns: tuple[int, int]
    factor: Annotated[int, Meta(ge=1, le=65536)] = 1
    """Each pixel pools `factor` × `factor` weights."""
    pool: Literal["max", "mean"] = "max"
    scale: Literal["log", "linear"] = "log"
    difference: bool = False
    """One picture of panel 0 minus panel 1 instead of one a panel."""


class ReadRow(Wire, frozen=True, tag="read_row"):
    """Exact weights of one query, and those round one key, for each panel."""

    source: Source
    workload: Workload
    layer: Annotated[int, Meta(ge=0, le=1000)]
    head: Annotated[int, Meta(ge=0, le=4096)]
    panels: Annotated[tuple[Choice, ...], Meta(max_length=4)]
    row: Annotated[int, Meta(ge=0)]
    column: Annotated[int, Meta(ge=0)]


class DrawHeads(Wire, frozen=True, tag="draw_heads"):
    """A thumbnail of every head, with what the head does."""

    source: Source
    workload: Workload
    choice: Choice
    size: Annotated[int, Meta(ge=4, le=64)] = 24


Job = Calibrate | Measure | ReadText | DrawMap | ReadRow | DrawHeads


class Run(Wire, frozen=True, tag="run"):
    """One request. Of one slot the newest wins; slots do not wait for each other."""

    id: int
    slot: Annotated[str, Meta(max_length=32)]
    job: Job


class Cancel(Wire, frozen=True, tag="cancel"):
    """Stop the request `id` at the next chunk. Answered by `Cancelled`, or by its result if that was on its way."""

    id: int


class Shutdown(Wire, frozen=True, tag="shutdown"):
    """End at once."""


Request = Run | Cancel | Shutdown


# ---------------------------------------------------------------- arrays

ARRAY_BYTES = {"u1": 1, "f4": 4, "f8": 8, "i4": 4}


class Array(Wire, frozen=True):
    """A little-endian C-order array, checked when it is decoded."""

    dtype: Literal["u1", "f4", "f8", "i4"]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**40)], ...], Meta(max_length=8)]
    data: bytes

    def __post_init__(self) -> None:
        need = math.prod(self.shape) * ARRAY_BYTES[self.dtype]
        if need != len(self.data):
            raise ValueError(f"array {self.dtype} {self.shape} needs {need} bytes, has {len(self.data)}")


# ---------------------------------------------------------------- replies, engine to window


class Term(Wire, frozen=True):
    """One named part of the memory that a call holds."""

    name: str
    formula: str
    bytes_: int
    growth: Literal["n2", "n", "constant"]
    """How it grows with the sequence length: decides its colour on the Memory page."""


class Refusal(Wire, frozen=True):
    """Why a request was not launched, with the way out."""

    reason: Literal["memory", "unsupported", "invalid", "too_long"]
    text: str
    """One sentence naming the thing, the value and the limit."""
    variant: str = ""
    seq_len: int = 0
    terms: tuple[Term, ...] = ()
    needed_bytes: int = 0
    free_bytes: int = 0
    reserve_bytes: int = 0
    largest_seq_len: int = 0
    """Largest n that fits with all else unchanged, rounded down to 64; 0 when none does."""


class DeviceFacts(Wire, frozen=True):
    """What the engine computes on."""

    key: str
    """Stable identity: GPU UUID, or the processor's model and thread count. Measurements are filed under it."""
    kind: DeviceKind
    name: str
    total_bytes: int
    threads: int = 0
    arch: str = ""
    """`sm_90` on a GPU."""
    driver: str = ""
    dtypes: tuple[Dtype, ...] = ("fp32", "bf16", "fp16")
    library: str = ""
    """What runs a variant here: `cupy 14.2.0`, `torch 2.13.0`, `numpy 2.4.6`."""


class Hello(Wire, frozen=True, tag="hello"):
    """First frame of every engine, within its first 4 KiB."""

    protocol: int
    engine_version: str
    pid: int
    python: str
    device: DeviceFacts
    why_no_gpu: str = ""
    """A sentence with what to do, when a GPU was asked for (or could have been) and is not used."""


class Vitals(Wire, frozen=True, tag="vitals"):
    """Memory and clock now. Sent after each job and once a second while idle."""

    free_bytes: int
    total_bytes: int
    clock_mhz: int = 0


class Progress(Wire, frozen=True, tag="progress"):
    """How far the request is."""

    id: int
    done: float
    """0 to 1."""
    text: str = ""


class Ceilings(Wire, frozen=True, tag="ceilings"):
    """What this device was measured to reach: the constants of every time prediction."""

    device: str
    flops_per_s: dict[Dtype, float]
    bytes_per_s: float
    exps_per_s: float
    launch_s: float
    taken_at: float
    """Unix seconds."""


class Measured(Wire, frozen=True, tag="measured"):
    """One measured point with its provenance."""

    workload: Workload
    choice: Choice
    device: str
    """`DeviceFacts.key`."""
    time_s: float
    """Median of one forward call, device time on a GPU."""
    p20_s: float
    p80_s: float
    samples: int
    peak_bytes: int
    """Peak of the bytes held during one call, inputs and output included."""
    taken_at: float
    """Unix seconds."""
    noise: str = ""
    """Empty when the criterion is met, else why the number is uncertain."""
    clock_mhz: int = 0
    provenance: dict[str, str] = {}
    """Versions, driver, method, seed, kernel hash."""


class HeadFacts(Wire, frozen=True):
    """What one head does on this text, found by looking at its map."""

    layer: int
    head: int
    sink: float
    """Mean weight on token 0, rows past the first."""
    previous: float
    """Mean weight on the token before."""
    induction: float
    """Mean weight on the token after an earlier occurrence of the same token; 0 where nothing repeats."""
    entropy_bits: float
    distance: float
    """Mean distance of query to key, in tokens."""
    link: float = 0.0
    """Largest weight of a link: of a query on an earlier token that is neither token 0 nor within two tokens of the query.
    `TextRead.link_kind` says between which tokens; 0 where the text offers no such pair."""
    link_query: int = 0
    link_key: int = 0


LinkKind = Literal["pronoun to name", "pronoun to word", "word to word", "none"]
"""Between which tokens a text's links run: the most telling kind that it offers. A pronoun is English third person, a name
is a capitalised word within a sentence, a word is neither a pronoun nor among the language's commonest."""


class TextRead(Wire, frozen=True, tag="text_read"):
    """The model has read the text."""

    source: TextSource
    tokens: tuple[str, ...]
    model: str
    layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context: int
    heads: tuple[HeadFacts, ...]
    """Every head, layer-major."""
    link_kind: LinkKind = "none"
    rows_looked_at: int = 0
    """Query rows on which `heads` was judged: all but the first, or 1,024 evenly spaced ones of a longer text."""
    elapsed_s: float = 0.0


# Codes of a map picture's pixels. 0 … MAX_CODE run from the lowest to the highest limit.
MAX_CODE = 249
MASKED, NOT_COMPUTED, NAN, INF = 250, 251, 252, 253


class Picture(Wire, frozen=True):
    """One panel of a map, quantised: the window only looks its codes up in a colour table."""

    codes: Array
    """u1 `(height, width)`: 0 … MAX_CODE, or MASKED, NOT_COMPUTED, NAN, INF."""
    low: float
    """Value of code 0 and of code MAX_CODE, from the whole map, so that panning never changes a colour."""
    high: float
    scale: Literal["log", "linear"]
    signed: bool = False
    """Symmetric about zero, which is at the middle code; always linear."""
    nan_count: int = 0
    inf_count: int = 0
    bad_cells: tuple[tuple[int, int], ...] = ()
    """First 64 (query, key) of non-finite cells."""
    mass_cut: Array | None = None
    """f4 `(rows,)`: for a restricted variant, the mass of full softmax that each row of the view loses."""
    max_abs: float = 0.0
    refusal: Refusal | None = None
    """Set instead of a picture when the variant does not fit here."""


class MapDrawn(Wire, frozen=True, tag="map_drawn"):
    job: DrawMap
    seq_len: int
    pictures: tuple[Picture, ...]
    elapsed_s: float = 0.0


class Row(Wire, frozen=True):
    """One query's weights in one panel."""

    weights: Array
    """f4 `(keys,)`; masked keys are NaN."""
    patch: Array
    """f4 `(21, 21)` exact weights round the cell, masked or outside NaN."""
    entropy_bits: float
    support: float
    """Effective support 2**entropy, in keys."""
    sink: float
    """Weight on key 0."""
    distance: float
    """Mean distance of query to key, in tokens."""
    row_sum: float
    mass_cut: float = 0.0


class RowRead(Wire, frozen=True, tag="row_read"):
    job: ReadRow
    rows: tuple[Row, ...]


class HeadsDrawn(Wire, frozen=True, tag="heads_drawn"):
    job: DrawHeads
    thumbs: Array
    """u1 `(layers, heads, size, size)`, codes as in `Picture`."""


Payload = Ceilings | Measured | TextRead | MapDrawn | RowRead | HeadsDrawn


class Result(Wire, frozen=True, tag="result"):
    id: int
    payload: Payload


class Refused(Wire, frozen=True, tag="refused"):
    id: int
    refusal: Refusal


class Cancelled(Wire, frozen=True, tag="cancelled"):
    id: int


class Failure(Wire, frozen=True, tag="failure"):
    """The request could not be answered. After a sticky one no result follows: the engine ends with code 70.

    Its id is 0 when the device failed with no request under way.
    """

    id: int
    kind: Literal["memory", "compile", "device", "invalid", "internal"]
    text: str
    code: int = 0
    sticky: bool = False
    detail: str = ""
    """For the log: compiler output or traceback."""


Reply = Hello | Vitals | Progress | Result | Refused | Cancelled | Failure
Message = Request | Reply


# ---------------------------------------------------------------- framing


class ProtocolFault(Exception):
    """The peer sent what no peer of ours sends. Its text names what was wrong."""


_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def frame(message: Message) -> bytes:
    """The bytes of one message on the pipe.

    Raises:
        ValueError: the message is larger than `MAX_PAYLOAD`.
    """
    payload = _encoder.encode(message)
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"message of {len(payload)} bytes, limit {MAX_PAYLOAD}")
    return HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def decode_request(payload: bytes) -> Request:
    """Raises: ProtocolFault."""
    try:
        return _requests.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolFault(f"not a request: {error}") from error


def decode_reply(payload: bytes) -> Reply:
    """Raises: ProtocolFault."""
    try:
        return _replies.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolFault(f"not a reply: {error}") from error


class Receiver:
    """Cuts a byte stream into payloads. Push-fed; never blocks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes of a frame that has begun and is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes.

        Raises:
            ProtocolFault: wrong magic, a length over `MAX_PAYLOAD`, or a checksum that does not match.
        """
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= HEADER.size:
            magic, length, checksum = HEADER.unpack_from(self._buffer, start)
            if magic != MAGIC:
                head = bytes(self._buffer[start : start + 32])
                raise ProtocolFault(f"invalid data ({len(self._buffer) - start} bytes, starting {head!r})")
            if length > MAX_PAYLOAD:
                raise ProtocolFault(f"frame of {length} bytes, limit {MAX_PAYLOAD}")
            end = start + HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[start + HEADER.size : end])
            if zlib.crc32(payload) != checksum:
                raise ProtocolFault(f"frame of {length} bytes does not match its checksum")
            payloads.append(payload)
            start = end
        del self._buffer[:start]
        return payloads
