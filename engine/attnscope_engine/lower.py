"""Lower triangular matrices of a chunk, all of a batch at once: products that decay with distance, and inverses.

Both halve the triangle: the square below two half triangles is one matrix product, then each of them is halved again.
"""

from __future__ import annotations

from typing import Any


def products(rows: Any, keys: Any, decay: Any, xp: Any) -> Any:
    """Σ_c r_ic k_jc exp(G_ic − G_jc) for j ≤ i, else 0, for R rows of each key: rows `(A, C, R·T, F)`, keys `(A, C, T, F)`.

    decay G `(A, C, T, 1 or F)` falls along T; None is no decay. Returns `(A, C, R·T, T)`.
    """
    if decay is not None and decay.shape[-1] > 1:
        return _by_channel(rows, keys, decay, xp)
    found = xp.matmul(rows, keys.swapaxes(-1, -2))
    heads = found.reshape(*keys.shape[:2], -1, keys.shape[2], keys.shape[2])
    if decay is not None:
        heads *= xp.exp(xp.clip(decay - decay.swapaxes(-1, -2), None, 0))[:, :, None]
    hide_future(heads, xp)
    return found


def _by_channel(rows: Any, keys: Any, decay: Any, xp: Any) -> Any:
    """The decay between a key of the earlier half and a row of the later one is a factor to the border, and one from there on.

    Both are at most 1, where exp(G_i) and exp(−G_j) taken apart would leave the range of any type.
    """
    size, features = keys.shape[-2:]
    width = 1 << (size - 1).bit_length()
    rows = _padded(rows.reshape(*keys.shape[:2], -1, size, features), width, xp)  # [A, C, R, T, F]
    keys, decay = _padded(keys, width, xp), _padded(decay, width, xp)
    found = xp.zeros((*rows.shape[:3], width, width), dtype=rows.dtype)
    each = list(range(width))
    found[..., each, each] = (rows * keys[:, :, None]).sum(-1)
    half = 1
    while half < width:
        until, since = _halves(decay, half, 0), _halves(decay, half, 1)
        border = until[..., -1:, :]
        earlier = _halves(keys, half, 0) * xp.exp(xp.clip(border - until, None, 0))
        later = _halves(rows, half, 1).swapaxes(2, 3) * xp.exp(xp.clip(since - border, None, 0))[:, :, :, None]
        square = xp.matmul(later.reshape(*earlier.shape[:3], -1, features), earlier.swapaxes(-1, -2))
        _set_squares(found, half, square.reshape(*later.shape[:-1], half).swapaxes(2, 3), xp)
        half *= 2
    return found[..., :size, :size].reshape(*keys.shape[:2], -1, size)


def inverse_of_unit(below: Any, xp: Any) -> Any:
    """(I + the part of `below` under the diagonal)⁻¹, `(A, C, T, T)`. Halves are inverted apart; their square is −L₂⁻¹ B L₁⁻¹."""
    size = below.shape[-1]
    width = 1 << (size - 1).bit_length()
    whole = xp.zeros((*below.shape[:-2], width, width), dtype=below.dtype)
    whole[..., :size, :size] = below
    found = xp.zeros_like(whole)
    each = list(range(width))
    found[..., each, each] = 1
    half = 1
    while half < width:
        first, second = (_diagonal_squares(found, half, side, side) for side in (0, 1))
        square = xp.matmul(xp.matmul(second, _diagonal_squares(whole, half, 1, 0)), first)
        _set_squares(found, half, xp.moveaxis(-square, 0, -3), xp)
        half *= 2
    return found[..., :size, :size]


def hide_future(products: Any, xp: Any) -> None:
    """Sets what lies right of the diagonal to 0, in place."""
    if xp.__name__ == "torch":
        products.tril_()
    else:
        xp.copyto(products, 0, where=~xp.tri(products.shape[-1], dtype=bool))


def _padded(x: Any, width: int, xp: Any) -> Any:
    """With zeros along T up to `width`."""
    if x.shape[-2] == width:
        return x
    padded = xp.zeros((*x.shape[:-2], width, x.shape[-1]), dtype=x.dtype)
    padded[..., : x.shape[-2], :] = x
    return padded


def _halves(x: Any, half: int, side: int) -> Any:
    """The earlier or the later of each pair of halves: `(…, T, F)` → a view `(…, T / 2 half, half, F)`."""
    return x.reshape(*x.shape[:-2], -1, 2, half, x.shape[-1])[..., side, :, :]


def _pairs(x: Any, half: int) -> Any:
    """`(…, T, T)` → a view `(…, T / 2 half, 2, half, T / 2 half, 2, half)`."""
    count = x.shape[-1] // (2 * half)
    return x.reshape(*x.shape[:-2], count, 2, half, count, 2, half)


def _diagonal_squares(x: Any, half: int, row: int, column: int) -> Any:
    """`(T / 2 half, …, half, half)`: of each pair of halves on the diagonal the square (row half, column half)."""
    each = list(range(x.shape[-1] // (2 * half)))
    return _pairs(x, half)[..., each, row, :, each, column, :]


def _set_squares(x: Any, half: int, squares: Any, xp: Any) -> None:
    """The square under each pair of halves, `(…, T / 2 half, half, half)`."""
    each = list(range(x.shape[-1] // (2 * half)))
    _pairs(x, half)[..., each, 1, :, each, 0, :] = xp.moveaxis(squares, -3, 0)
