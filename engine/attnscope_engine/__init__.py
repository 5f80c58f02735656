"""Attention variants on this machine's own hardware: run them, measure them, look at their maps.

    from attnscope_engine import attention, attention_map
    from attnscope_engine.library import measure, variants

The first two are imported when they are first asked for, so that a process which only speaks the protocol stays small. The
others can not stand here: `attnscope_engine.measure` and `attnscope_engine.variants` are modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnscope_engine.library import attention, attention_map

__all__ = ["__version__", "attention", "attention_map"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in ("attention", "attention_map"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from attnscope_engine import library

    return getattr(library, name)
