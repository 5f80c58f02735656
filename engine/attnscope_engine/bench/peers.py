"""What is common to others' libraries: why one can not run, and FlexAttention. Imports none of them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

Call = Callable[[Any, Any, Any], Any]
"""q, k, v → out, in the peer's own order of axes."""


class CanNotRun(Exception):
    """There is no such call. The text says why, in a few words."""


def flex_attention(torch: Any, mask: Callable[..., Any] | None, queries: int, keys: int, *, grouped: bool = False) -> Call:
    """FlexAttention, compiled for one shape, with the mask as blocks that it skips.

    `mask(batch, head, query, key)` → whether the pair is seen, on torch's tensors of indices. Raises: what torch raises.
    """
    flex = importlib.import_module("torch.nn.attention.flex_attention")
    importlib.import_module("torch._dynamo").reset()  # a limit on the shapes that one function is compiled for
    compiled = torch.compile(flex.flex_attention, dynamic=False)
    blocks = flex.create_block_mask(mask, None, None, queries, keys, device="cuda") if mask else None

    def call(q: Any, k: Any, v: Any) -> Any:
        return compiled(q, k, v, block_mask=blocks, enable_gqa=grouped)

    return call


def why_not(work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work` returns and "", or None and the reason in a few words.

    torch explains a backend that it does not take in warnings, and then raises that there is no backend at all.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return work(), ""
        except CanNotRun as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 (whatever another's library does, the run goes on)
            text = str(error).strip() or type(error).__name__
            told = [str(warning.message) for warning in said if issubclass(warning.category, UserWarning)]
            if "No available kernel" in text and told:
                text = next((line for line in told if "not used because" not in line), told[0])
            return None, text.partition(" (Triggered internally")[0]
