# SPDX-License-Identifier: MIT
"""Where a block lies in vLLM's KV cache tensors: gather its bytes, scatter them back.

A registered tensor holds all blocks of one layer. One of its dimensions counts them; behind it
everything is contiguous (the CPU backend: ``[blocks, heads, tokens, 2 * head]``), before it may
stand others (``[2, blocks, …]``: keys and values apart). A block's bytes are those of all layers
in the order of their names, opaque: how tokens lie inside belongs to the attention kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch


class CacheLayout:
    """The layers of one KV cache group on the CPU. Views, no copies: it keeps the tensors alive."""

    def __init__(self, layers: Mapping[str, torch.Tensor], num_blocks: int) -> None:
        """layers: by name. num_blocks: of the cache; a kernel may divide each into several.

        Raises ValueError for a tensor whose blocks are not contiguous runs of host memory.
        """
        self._parts: list[torch.Tensor] = []  # each [num_blocks, bytes]
        self.description: list[Any] = []
        for name in sorted(layers):
            tensor = layers[name]
            if tensor.device.type != "cpu":
                raise ValueError(f"layer {name}: a KV cache on {tensor.device} is not supported")
            self._parts += _block_rows(name, tensor, num_blocks)
            self.description.append(
                (name, str(tensor.dtype), _shape_of_a_block(tensor, num_blocks))
            )
        self.block_bytes = sum(part.shape[1] for part in self._parts)

    def gather(self, blocks: Sequence[int], out: Sequence[memoryview]) -> None:
        """Copy blocks out, each into its buffer of ``block_bytes``."""
        at = 0
        index = torch.tensor(blocks)
        targets = [torch.frombuffer(view, dtype=torch.uint8) for view in out]
        for part in self._parts:
            size = part.shape[1]
            for target, row in zip(targets, part.index_select(0, index)):
                target[at : at + size] = row
            at += size

    def scatter(self, block: int, data: memoryview) -> None:
        """Copy the bytes of one block in. Threads may scatter different blocks at a time."""
        source = torch.frombuffer(data, dtype=torch.uint8)
        at = 0
        for part in self._parts:
            size = part.shape[1]
            part[block].copy_(source[at : at + size])
            at += size


def _block_dimension(name: str, tensor: torch.Tensor, num_blocks: int) -> int:
    for dim in range(min(tensor.dim(), 2)):
        if tensor.shape[dim] >= num_blocks and tensor.shape[dim] % num_blocks == 0:
            return dim
    raise ValueError(f"layer {name}: no dimension of {tuple(tensor.shape)} is {num_blocks} blocks")


def _block_rows(name: str, tensor: torch.Tensor, num_blocks: int) -> list[torch.Tensor]:
    """The blocks as rows of bytes, one such table for each index before the block dimension."""
    dim = _block_dimension(name, tensor, num_blocks)
    rows = []
    for outer in product(*map(range, tensor.shape[:dim])):
        part = tensor[outer] if outer else tensor
        if not part.is_contiguous():
            raise ValueError(f"layer {name}: its blocks are not contiguous {part.stride()}")
        rows.append(part.view(-1).view(torch.uint8).view(num_blocks, -1))
    return rows


def _shape_of_a_block(tensor: torch.Tensor, num_blocks: int) -> list[int]:
    return [n // num_blocks if n % num_blocks == 0 else n for n in tensor.shape]
