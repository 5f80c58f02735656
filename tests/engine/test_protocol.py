"""Of messages and frames: what goes in comes out, and nothing else is ever taken for a message.

`ATTNSCOPE_FUZZ=200000 pytest tests/engine/test_protocol.py` is the long run.
"""

import os
import random
import struct
import time
import tracemalloc
import zlib

import msgspec
import pytest
from attnscope_engine import protocol
from attnscope_engine.protocol import (
    HEADER,
    MAGIC,
    MAX_PAYLOAD,
    Array,
    Cancel,
    Choice,
    Measure,
    ProtocolFault,
    Receiver,
    Run,
    Workload,
    decode_reply,
    decode_request,
    frame,
)
from message_values import messages, random_value, wire_classes

FUZZ = int(os.environ.get("ATTNSCOPE_FUZZ", "20000"))


def payload_of(message) -> bytes:
    return frame(message)[HEADER.size :]


def decoder_of(cls):
    """Of the end of the pipe that takes such a message."""
    return decode_request if cls in protocol.Request.__args__ else decode_reply


def framed(payload: bytes) -> bytes:
    return HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


@pytest.mark.parametrize("cls", wire_classes(), ids=lambda cls: cls.__name__)
def test_that_every_struct_comes_back_as_it_was_sent(cls):
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(cls)
    for seed in range(30):
        value = random_value(cls, seed)
        assert decoder.decode(encoder.encode(value)) == value


@pytest.mark.parametrize("cls", messages(), ids=lambda cls: cls.__name__)
def test_that_every_message_comes_back_through_a_frame_at_one_end_only(cls):
    for seed in range(30):
        message = random_value(cls, seed)
        (payload,) = Receiver().feed(frame(message))
        own = decoder_of(cls)
        assert own(payload) == message
        with pytest.raises(ProtocolFault):
            (decode_reply if own is decode_request else decode_request)(payload)


@pytest.mark.parametrize("cls", messages(), ids=lambda cls: cls.__name__)
def test_that_a_field_that_is_not_declared_is_refused(cls):
    fields = msgspec.msgpack.decode(payload_of(random_value(cls, 1)))
    with pytest.raises(ProtocolFault, match="unknown field"):
        decoder_of(cls)(msgspec.msgpack.encode({**fields, "surprise": 1}))


@pytest.mark.parametrize("payload", [{"type": "launch"}, {"id": 1}, [], None, 7, {"type": "cancel", "id": "one"}])
def test_that_what_is_no_message_is_refused(payload):
    with pytest.raises(ProtocolFault):
        decode_request(msgspec.msgpack.encode(payload))
    with pytest.raises(ProtocolFault):
        decode_reply(msgspec.msgpack.encode(payload))


def test_that_bad_utf8_is_a_fault_and_no_other_exception():
    good = payload_of(Run(1, "map", protocol.ReadText(protocol.TextSource("abcd"))))
    assert good.count(b"abcd") == 1
    with pytest.raises(ProtocolFault):
        decode_request(good.replace(b"abcd", b"ab\xff\xfe"))


def test_that_deep_nesting_is_a_fault_and_no_other_exception():
    with pytest.raises(ProtocolFault):
        decode_request(b"\x91" * 100_000 + b"\xc0")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq_len", 0),
        ("seq_len", 1 << 21),
        ("num_heads", 0),
        ("head_dim", 513),
        ("dtype", "fp8"),
        ("causal", 1),
        ("num_kv_heads", 2),
    ],
)
def test_that_a_workload_out_of_range_is_refused(field, value):
    job = msgspec.to_builtins(Run(1, "measure", Measure(Workload(), Choice("linear"))))
    job["job"]["workload"][field] = value
    with pytest.raises(ProtocolFault):
        decode_request(msgspec.msgpack.encode(job))


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("f4", (2, 3), 23), ("f4", (2, 3), 25), ("u1", (1 << 40, 1 << 40), 0), ("f8", (), 4), ("i4", (0,), 4), ("u1", (1,) * 9, 1)],
)
def test_that_an_array_whose_bytes_do_not_match_its_shape_is_refused(dtype, shape, size):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"dtype": dtype, "shape": shape, "data": bytes(size)}), type=Array)


def test_that_a_stream_cut_at_any_byte_gives_the_same_messages():
    sent = [random_value(cls, 5) for cls in messages()]
    stream = b"".join(frame(message) for message in sent)
    for cut in range(len(stream) + 1):
        receiver = Receiver()
        payloads = receiver.feed(stream[:cut]) + receiver.feed(stream[cut:])
        assert payloads == [payload_of(message) for message in sent]
        assert receiver.waiting == 0


def test_that_bytes_one_by_one_give_the_same_messages():
    receiver = Receiver()
    stream = frame(Cancel(1)) + frame(Cancel(2))
    payloads = [payload for byte in stream for payload in receiver.feed(bytes([byte]))]
    assert [decode_request(payload) for payload in payloads] == [Cancel(1), Cancel(2)]


def test_that_a_frame_over_the_limit_is_refused_before_it_arrives():
    tracemalloc.start()
    with pytest.raises(ProtocolFault, match="limit"):
        Receiver().feed(HEADER.pack(MAGIC, MAX_PAYLOAD + 1, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_that_a_message_over_the_limit_is_not_sent():
    big = protocol.Failure(1, "internal", "x" * (MAX_PAYLOAD + 1))
    with pytest.raises(ValueError, match="limit"):
        frame(big)


def test_that_a_shell_banner_is_shown_as_what_it_is():
    with pytest.raises(ProtocolFault, match="Last login"):
        Receiver().feed(b"Last login: Tue Nov 24\r\n" + frame(Cancel(1)))


def test_that_a_corrupted_stream_never_gives_a_wrong_payload():
    rng = random.Random(11)
    sent = [payload_of(random_value(cls, seed)) for cls in messages() for seed in range(3)]
    stream = b"".join(framed(payload) for payload in sent)
    genuine, found = set(sent), 0
    for _ in range(FUZZ // 10):
        broken = bytearray(stream)
        for _ in range(rng.randint(1, 3)):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        receiver = Receiver()
        try:
            for payload in receiver.feed(bytes(broken)):
                assert payload in genuine
            assert receiver.waiting
        except ProtocolFault:
            found += 1
    assert found > FUZZ // 20


def test_that_mutated_frames_are_a_message_or_a_fault():
    rng = random.Random(12)
    corpus = [payload_of(random_value(cls, seed)) for cls in messages() for seed in range(20)]
    faults = 0
    began = time.perf_counter()
    for _ in range(FUZZ):
        payload = mutated(rng.choice(corpus), rng)
        for receive in (decode_request, decode_reply):
            try:
                receive(payload)
            except ProtocolFault:
                faults += 1
    assert faults > FUZZ
    assert time.perf_counter() - began < 60 * max(1, FUZZ / 20_000)


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """Bits turned, bytes replaced, cut, doubled, or lengths that lie."""
    data = bytearray(payload)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice((0x00, 0x7F, 0x80, 0xC0, 0xC1, 0xDB, 0xDD, 0xDF, 0xFF))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = data[: rng.randint(0, len(data))]
            case 4:
                data[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)))
            case 5:
                del data[at : at + rng.randint(1, 8)]
    return bytes(data)
