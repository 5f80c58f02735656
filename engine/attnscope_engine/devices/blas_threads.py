"""How many threads NumPy's OpenBLAS uses: one, while our own threads multiply.

OpenBLAS shares each product out and waits for the last part. Where another program has a core, each of the thousand small
products of a call then waits for a turn of the scheduler: 16 ms instead of 0.5 ms for 512 x 64 x 512 was seen.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)
"""As the wheels of NumPy and the systems' packages call them."""


@functools.cache
def _functions() -> tuple[Any, Any] | None:
    """(get, set) of the OpenBLAS that NumPy has loaded; None where it has another library (macOS), or cannot be found."""
    import numpy as np

    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".libs", package / ".dylibs", package.parent)
    for file in (file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*openblas*"))):
        try:
            library = ctypes.CDLL(str(file))
        except OSError:
            continue
        for name in NAMES:
            if hasattr(library, name.format("set")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, a product runs on the thread that asks for it."""
    found = _functions()
    if found is None:
        yield
        return
    get, put = found
    before = int(get())
    put(1)
    try:
        yield
    finally:
        put(before)
