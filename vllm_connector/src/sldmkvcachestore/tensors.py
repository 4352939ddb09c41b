# SPDX-License-Identifier: MIT
"""Arrays and tensors as byte views, and new ones by dtype and shape.

numpy and torch are looked up among the loaded modules, never imported for the caller: an object
of theirs cannot exist before its module does. Views go through ``uint8``, so every dtype works,
also bfloat16 and float8, which Python's buffer protocol does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from .transport import MAX_PARTS, Sink, Views


def byte_views(value: Any, *, writable: bool = False) -> Views:
    """The bytes of a value, in C order, as memoryviews over its own memory.

    value: bytes-like, numpy array, torch tensor on the CPU, or a list or tuple of them, laid end
    to end. A strided one (one layer's part of a cache, say) gives one view for each contiguous
    piece. The views keep the memory alive.
    Raises ValueError for more than MAX_PARTS pieces, a tensor that is not on the CPU, or with
    ``writable`` read-only memory; TypeError for what has no bytes.
    """
    views = list(islice(_views(value), MAX_PARTS + 1))
    if len(views) > MAX_PARTS:
        raise ValueError(f"more than {MAX_PARTS} pieces of memory: make the value contiguous")
    if writable and any(view.readonly for view in views):
        raise ValueError("the destination is read-only")
    return views


def fill(out: Any) -> Sink:
    """A sink that fills ``out`` (see byte_views) and refuses a value of any other size."""
    views = byte_views(out, writable=True)
    size = sum(map(len, views))
    return lambda length: views if length == size else None


class Allocate:
    """A sink that makes the array for the value when its length is known.

    dtype: torch.dtype for a torch tensor, anything numpy takes as a dtype for an ndarray.
    shape: may hold one -1; None is one dimension. A value that does not fit is refused.
    ``value`` is the array after a value was delivered.
    """

    def __init__(self, dtype: Any, shape: Sequence[int] | None) -> None:
        self.value: Any = None
        self._shape = (-1,) if shape is None else tuple(shape)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(dtype, torch.dtype):
            self._itemsize = int(torch.empty(0, dtype=dtype).element_size())
            self._empty: Any = lambda count: torch.empty(count, dtype=dtype)
        else:
            import numpy as np

            self._itemsize = np.dtype(dtype).itemsize
            self._empty = lambda count: np.empty(count, dtype=dtype)

    def __call__(self, length: int) -> Views | None:
        count, rest = divmod(length, self._itemsize)
        if rest:
            return None
        flat = self._empty(count)
        try:
            self.value = flat.reshape(self._shape)
        except (ValueError, RuntimeError):  # numpy's and torch's word for another size
            return None
        return byte_views(flat)


def _views(value: Any) -> Iterator[memoryview]:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _views(item)
    elif torch is not None and isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise ValueError(f"a tensor on {value.device}: copy it to the CPU first")
        # The added dimension is contiguous whatever the strides are, as view() demands.
        yield from _pieces(value.unsqueeze(-1).view(torch.uint8).numpy())
    elif numpy is not None and isinstance(value, numpy.ndarray):
        yield from _pieces(value[..., None].view(numpy.uint8))
    else:
        view = memoryview(value)
        if not view.c_contiguous:
            raise ValueError("a buffer that is not contiguous")
        yield from _flat(view)


def _pieces(array: Any) -> Iterator[memoryview]:
    """The contiguous pieces of a uint8 ndarray."""
    if array.flags.c_contiguous:
        yield from _flat(memoryview(array))
    else:
        for row in array:
            yield from _pieces(row)


def _flat(view: memoryview) -> Iterator[memoryview]:
    if view.nbytes:  # an empty view cannot be cast, and says nothing
        yield view.cast("B")
