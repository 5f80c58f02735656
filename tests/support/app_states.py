"""States, settings and measurements for tests of the window's side."""

from __future__ import annotations

from typing import Any

import msgspec
from attnscope.state import Answer, Live, Settings, State, choice_of, measurement_key, one_call
from attnscope_engine import protocol as p
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# A machine with other work is no fault of the example that met it.
settings.register_profile("attnscope", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("attnscope")

GIB = 1 << 30
DEVICE = p.DeviceFacts("fake", "cpu", "A made-up processor", 8 * GIB)
CEILINGS = p.Ceilings("fake", {"fp32": 1e11, "bf16": 1e11, "fp16": 1e11}, 1e10, 1e9, 1e-6, 0.0)
VITALS = p.Vitals(6 * GIB, 8 * GIB)
READY = Live(phase="ready", device=DEVICE, vitals=VITALS, ceilings=CEILINGS)


def ready_state(live: Live = READY, **changes: Any) -> State:
    """A state with an engine; `changes` of settings or workload."""
    from attnscope.resolve import with_changes

    return State(with_changes(Settings(), **changes), live)


def text_read(source: p.TextSource, tokens: int = 12, layers: int = 3, heads: int = 4) -> p.TextRead:
    """Every head's link is different; the strongest is the last head of the last layer, from token 9 to token 1."""
    facts = tuple(
        p.HeadFacts(layer, head, 0.1, 0.1, 0.0, 1.0, 1.0, 0.1 * layer + 0.01 * head, 9, 1)
        for layer in range(layers)
        for head in range(heads)
    )
    return p.TextRead(source, tuple(f"t{i}" for i in range(tokens)), "fake", layers, heads, 2, 8, 100, facts)


def with_text(state: State, tokens: int = 12) -> State:
    """The state once the model has read its text."""
    source = state.settings.source
    assert isinstance(source, p.TextSource)
    answers = {**state.live.answers, "text": Answer(p.ReadText(source), text_read(source, tokens))}
    return State(state.settings, msgspec.structs.replace(state.live, answers=answers))


def measured(
    variant: str = "softmax_tiled", seq_len: int = 1024, time_s: float = 1e-3, taken_at: float = 1.0, device: str = "fake"
) -> p.Measured:
    """A measured point at the default settings."""
    workload = one_call(msgspec.structs.replace(Settings().workload, seq_len=seq_len))
    choice = choice_of(Settings(), variant)
    return p.Measured(workload, choice, device, time_s, time_s, time_s, 5, 1000, taken_at)


def key_of(point: p.Measured) -> str:
    return measurement_key(point.device, point.workload, point.choice)


_INTS = st.integers(-(2**70), 2**70)
_VALUES = st.one_of(_INTS, st.booleans(), st.floats(), st.text(max_size=5))

wild_settings = st.builds(
    Settings,
    workload=st.builds(
        lambda **fields: _wild_workload(fields),
        batch=_INTS,
        seq_len=_INTS,
        num_heads=_INTS,
        head_dim=_INTS,
        layers=_INTS,
        dtype=st.sampled_from(["fp32", "bf16", "fp16"]),
        causal=st.booleans(),
    ),
    checked=st.lists(st.sampled_from(["softmax_tiled", "chunked", "linear", "softmax_naive", "no_such"])).map(tuple),
    opened=st.sampled_from(["", "chunked", "no_such"]),
    params=st.dictionaries(
        st.sampled_from(["chunked", "sliding_window", "linear", "no_such"]),
        st.dictionaries(st.sampled_from(["chunk_size", "window_size", "sinks", "no_such"]), _VALUES, max_size=3),
        max_size=3,
    ),
    source=st.one_of(
        st.builds(p.TextSource, st.text(st.characters(), max_size=20)),
        st.builds(p.SyntheticSource),
        st.builds(p.FileSource, st.text(max_size=9)),
    ),
    page=st.sampled_from(["map", "scaling", "memory"]),
    compare=st.sampled_from(["side", "difference", "heads"]),
    layer=_INTS,
    head=_INTS,
    row=_INTS,
    column=_INTS,
    view=st.one_of(st.none(), st.tuples(_INTS, _INTS, _INTS, _INTS)),
    sweep_low=_INTS,
    sweep_high=_INTS,
)
"""Settings as no panel would set them and as any file may hold them."""


def _wild_workload(fields: dict[str, Any]) -> p.Workload:
    """Out of range in any field; only the divisibility, which the struct itself insists on, holds."""
    return p.Workload(**fields, num_kv_heads=1)
