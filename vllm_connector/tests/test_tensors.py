# SPDX-License-Identifier: MIT
"""Byte views and new arrays for every kind of value."""

from __future__ import annotations

import array
import subprocess
import sys
from typing import Any

import pytest

from sldmkvcachestore.tensors import Allocate, byte_views, fill
from sldmkvcachestore.transport import MAX_PARTS

np = pytest.importorskip("numpy")


def content(value: Any) -> bytes:
    return b"".join(byte_views(value))


def test_core_needs_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, sldmkvcachestore.client as c, sldmkvcachestore.tensors as t\n"
        "assert bytes(t.byte_views(b'abc')[0]) == b'abc'\n"
        "assert not {'numpy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "value", [b"abcdef", bytearray(b"abcdef"), memoryview(b"abcdef"), array.array("H", [1, 2, 3])]
)
def test_buffers(value: Any) -> None:
    assert content(value) == bytes(value)
    assert len(byte_views(value)) == 1


def test_views_are_the_memory_itself() -> None:
    out = np.zeros((2, 3), np.float32)
    byte_views(out)[0][:4] = np.float32(1.5).tobytes()
    assert out[0, 0] == 1.5


@pytest.mark.parametrize("dtype", ["?", "u1", "<f2", ">f4", "c16", "M8[s]", "i4,f8"])
def test_numpy_dtypes(dtype: str) -> None:
    value = np.frombuffer(bytes(i % 2 for i in range(192)), dtype=dtype)
    assert content(value) == value.tobytes()
    assert content(value[::2]) == value[::2].tobytes()


def test_strided_numpy_in_c_order() -> None:
    value = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)
    for part in (value[:, 1:3], value[::2], value.T, value[..., ::2], value[::-1], value[1, 2, 3]):
        assert content(part) == part.tobytes()
    assert [len(view) for view in byte_views(value[:, 1:3])] == [20] * 4
    assert len(byte_views(value[2])) == 1


@pytest.mark.parametrize("value", [b"", [], (), [b"", b""]])
def test_empty(value: Any) -> None:
    assert byte_views(value) == []
    assert byte_views(np.empty((0, 4), np.float32)) == []


def test_lists_are_laid_end_to_end() -> None:
    value = [b"ab", (np.array([1, 2], np.uint8), bytearray(b"c"))]
    assert content(value) == b"ab\x01\x02c"


def test_what_has_no_bytes() -> None:
    for value in ("text", 3, None, {"a": 1}, np.array([object()])):
        with pytest.raises(TypeError):
            byte_views(value)
    with pytest.raises(ValueError, match="not contiguous"):
        byte_views(memoryview(b"abcdef")[::2])


def test_pieces_are_bounded() -> None:
    value = np.zeros((MAX_PARTS + 1, 2), np.uint8)
    assert len(byte_views(value[:MAX_PARTS, :1])) == MAX_PARTS
    with pytest.raises(ValueError, match="contiguous"):
        byte_views(value[:, :1])


def test_fill_takes_its_own_size_only() -> None:
    out = np.zeros(4, np.float32)
    sink = fill(out)
    assert sink(15) is None
    assert sink(17) is None
    assert sink(0) is None
    views = sink(16)
    assert views is not None
    assert sum(map(len, views)) == 16
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    for constant in (b"abcd", frozen, [bytearray(4), b"abcd"]):
        with pytest.raises(ValueError, match="read-only"):
            fill(constant)


@pytest.mark.parametrize(
    ("shape", "length", "result"),
    [
        (None, 24, (6,)),
        (None, 0, (0,)),
        (None, 23, None),
        ((2, 3), 24, (2, 3)),
        ((2, 3), 20, None),
        ((2, 3), 0, None),
        ((2, -1), 24, (2, 3)),
        ((4, -1), 24, None),
        ((), 4, ()),
        ((0, 3), 0, (0, 3)),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_allocate(library: str, shape: Any, length: int, result: Any) -> None:
    module = pytest.importorskip(library)
    sink = Allocate(module.float32, shape)
    views = sink(length)
    if result is None:
        assert views is None
        assert sink.value is None
        return
    assert views is not None
    assert sum(map(len, views)) == length
    assert tuple(sink.value.shape) == result
    assert sink.value.dtype == module.float32
    for view in views:
        view[:] = b"\1" * len(view)
    assert content(sink.value) == b"\1" * length


def test_torch_dtypes_and_strides() -> None:
    torch = pytest.importorskip("torch")
    raw = torch.arange(96, dtype=torch.uint8)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int64, torch.complex64):
        value = raw.view(dtype)
        assert content(value) == bytes(range(96))
        assert len(byte_views(value)) == 1
    value = raw.view(torch.bfloat16).reshape(4, 6, 2)
    for part in (value[:, 1:3], value.transpose(0, 1), value[..., 1:], value[0, 0, 0], value[:0]):
        assert content(part) == content(part.contiguous())
    assert content(value[:, 1:3])[:8] == bytes(range(4, 12))
    assert content(torch.ones(2, requires_grad=True)) == content(torch.ones(2))


def test_torch_memory_itself_is_filled() -> None:
    torch = pytest.importorskip("torch")
    cache = torch.zeros(2, 8, 3, dtype=torch.bfloat16)
    block = torch.arange(12, dtype=torch.bfloat16)
    views = fill(cache[:, 2:4])(24)
    assert views is not None
    source = memoryview(content(block))
    for view in views:
        view[:] = source[: len(view)]
        source = source[len(view) :]
    assert torch.equal(cache[:, 2:4].reshape(-1), block)
    assert not cache[:, :2].any()
    assert not cache[:, 4:].any()


def test_torch_on_a_device_is_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="copy it to the CPU"):
        byte_views(torch.empty(4, device="meta"))
