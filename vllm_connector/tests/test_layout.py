# SPDX-License-Identifier: MIT
"""Blocks in and out of KV cache tensors of the shapes that vLLM registers."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from sldmkvcachestore.layout import CacheLayout  # noqa: E402

BLOCKS = 24


def random_cache(shape: tuple[int, ...], dtype: Any, layers: int = 3) -> dict[str, Any]:
    return {
        f"layer.{i}": torch.randint(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize))
        .to(torch.uint8)
        .view(dtype)
        for i in range(layers)
    }


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((BLOCKS, 2, 32, 64), torch.float32),  # the CPU backend
        ((BLOCKS, 2, 32, 64), torch.bfloat16),
        ((2, BLOCKS, 16, 4, 8), torch.float16),  # keys and values apart
        ((4 * BLOCKS, 2, 8, 16), torch.bfloat16),  # a kernel's blocks are smaller
        ((2, 2 * BLOCKS, 8, 4, 8), torch.float8_e4m3fn),
        ((BLOCKS, 16, 576), torch.bfloat16),  # MLA
    ],
)
def test_blocks_come_back(shape: tuple[int, ...], dtype: Any) -> None:
    cache = random_cache(shape, dtype)
    before = {name: tensor.clone().view(torch.uint8) for name, tensor in cache.items()}
    layout = CacheLayout(cache, BLOCKS)
    total = sum(tensor.numel() * tensor.element_size() for tensor in cache.values())
    assert layout.block_bytes * BLOCKS == total
    chosen = [5, 0, 23, 11]
    buffers = [memoryview(bytearray(layout.block_bytes)) for _ in chosen]
    layout.gather(chosen, buffers)
    assert len({bytes(buffer) for buffer in buffers}) == 4
    for tensor in cache.values():
        tensor.view(torch.uint8).zero_()
    for block, buffer in zip(chosen, buffers):
        layout.scatter(block, buffer)
    dim = next(d for d, n in enumerate(shape) if n % BLOCKS == 0)
    each = shape[dim] // BLOCKS
    for name, tensor in cache.items():
        for block in range(BLOCKS):
            part = tensor.view(torch.uint8).narrow(dim, block * each, each)
            want = before[name].narrow(dim, block * each, each)
            assert torch.equal(part, want if block in chosen else torch.zeros_like(want))


def test_layers_are_in_the_order_of_their_names() -> None:
    cache = random_cache((BLOCKS, 4, 8), torch.float32)
    turned = dict(reversed(cache.items()))
    one, other = (memoryview(bytearray(CacheLayout(cache, BLOCKS).block_bytes)) for _ in "ab")
    CacheLayout(cache, BLOCKS).gather([7], [one])
    CacheLayout(turned, BLOCKS).gather([7], [other])
    assert one == other


@pytest.mark.parametrize("shape", [(BLOCKS + 1, 4, 8), (4, 8, BLOCKS), (3, 5, 7)])
def test_a_shape_without_blocks_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="layer x: no dimension"):
        CacheLayout({"x": torch.zeros(shape)}, BLOCKS)


def test_blocks_that_are_no_runs_are_refused() -> None:
    strided = torch.zeros(BLOCKS, 8, 4).transpose(1, 2)
    with pytest.raises(ValueError, match="layer x: its blocks are not contiguous"):
        CacheLayout({"x": strided}, BLOCKS)
