"""Seeded values of every message class, built from its own declaration: a field that is added is covered at once."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from attnscope_engine import protocol
from msgspec import inspect

SPECIAL = {
    "Workload": lambda rng: protocol.Workload(
        seq_len=rng.randint(1, protocol.MAX_SEQ_LEN), num_heads=12, num_kv_heads=rng.choice([1, 2, 3, 4, 6, 12])
    ),
    "Array": lambda rng: _array(rng),
}
"""Classes whose fields depend on each other."""


def _array(rng: random.Random) -> protocol.Array:
    dtype = rng.choice(sorted(protocol.ARRAY_BYTES))
    shape = tuple(rng.randint(0, 5) for _ in range(rng.randint(0, 3)))
    count = protocol.ARRAY_BYTES[dtype]
    for length in shape:
        count *= length
    return protocol.Array(dtype, shape, rng.randbytes(count))


def wire_classes() -> list[type[msgspec.Struct]]:
    """Every struct that `protocol` declares, the base left out."""
    found = [value for value in vars(protocol).values() if isinstance(value, type) and issubclass(value, protocol.Wire)]
    return [cls for cls in found if cls is not protocol.Wire]


def messages() -> list[type[msgspec.Struct]]:
    """What may stand alone in a frame."""
    return [*protocol.Request.__args__, *protocol.Reply.__args__]


def random_value(cls: type[msgspec.Struct], seed: int) -> Any:
    """One valid value of a message class."""
    return _made(inspect.type_info(cls), random.Random(seed))


def _made(info: inspect.Type, rng: random.Random) -> Any:
    match info:
        case inspect.StructType(cls=cls) if cls.__name__ in SPECIAL:
            return SPECIAL[cls.__name__](rng)
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: _made(field.type, rng) for field in fields})
        case inspect.UnionType(types=types):
            return _made(rng.choice(types), rng)
        case inspect.Metadata(type=inner):
            return _made(inner, rng)
        case inspect.LiteralType(values=values):
            return rng.choice(values)
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.NoneType():
            return None
        case inspect.IntType(ge=low, le=high):
            return rng.randint(low if low is not None else -(2**53), high if high is not None else 2**53)
        case inspect.FloatType(gt=low, le=high):
            return rng.uniform(low if low is not None else -1e9, high if high is not None else 1e9)
        case inspect.StrType(max_length=limit):
            return "".join(rng.choice("ab é漢🙂\0\n<") for _ in range(rng.randint(0, min(12, limit or 12))))
        case inspect.BytesType():
            return rng.randbytes(rng.randint(0, 8))
        case inspect.DictType(key_type=key, value_type=value):
            return {_made(key, rng): _made(value, rng) for _ in range(rng.randint(0, 3))}
        case inspect.VarTupleType(item_type=item, max_length=limit):
            return tuple(_made(item, rng) for _ in range(rng.randint(0, min(3, limit or 3))))
        case inspect.TupleType(item_types=items):
            return tuple(_made(item, rng) for item in items)
        case _:
            raise TypeError(f"no rule for {info}")
