"""A tensor in blocks that share a scale: how long they are, their ends, and the weights a chunk at a time.

Blocks run over the flattened tensor, whatever its rows, and the last one may be short.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from empirics import blocks_cuda
from empirics.group_quantizers import largest_magnitude
from empirics.histogram import flattened, refuse_non_finite

BlockSize = int | Literal["row", "tensor"]
"""Weights that share a scale; "row": the last dimension of the tensor (per-channel), "tensor": all of it."""

CHUNK = 2**19
"""Weights at a time on a CPU: temporaries of 2 to 4 MB stay in the last-level cache."""

GPU_CHUNK = 2**22
"""On a GPU: temporaries of 150 MB in all."""


def block_length(block_size: BlockSize, shape: Sequence[int] | None) -> int:
    """Weights in a block of a tensor of that shape.

    Raises ValueError if the block size is not a positive integer, or a row or the tensor without a shape.

    >>> block_length(64, None), block_length("row", (2, 3)), block_length("tensor", (2, 3))
    (64, 3, 6)
    """
    if block_size in ("row", "tensor"):
        if shape is None:
            raise ValueError(f"block_size = {block_size!r} needs the shape of the tensor")
        return math.prod(shape if block_size == "tensor" else shape[-1:])
    if isinstance(block_size, str) or block_size < 1 or block_size != int(block_size):
        raise ValueError(f"block_size = {block_size!r} is not a positive integer, 'row' or 'tensor'")
    return int(block_size)


class Blocks:
    """A tensor in blocks.

    Attributes
    ----------
    flat : tensor of shape (weights,)
    length : int
        Weights in a block.
    low, high, absmax : tensors of shape (blocks,)
        Float32: least and greatest weight of each, and largest magnitude.
    name : str
        What error messages call the tensor.

    Raises
    ------
    TypeError
        If the dtype is not floating-point.
    ValueError
        If the block size is not a positive integer, or the tensor is empty or holds NaN or infinity.
    """

    def __init__(self, tensor: torch.Tensor, block_size: BlockSize, name: str) -> None:
        self.flat, self.name = flattened(tensor, name), name
        self.length = block_length(block_size, tensor.shape)
        if (ends := blocks_cuda.ends(self.flat, self.length) if self.flat.is_cuda else None) is not None:
            self.low, self.high = ends
        else:
            self._find_ends()
        self.absmax = largest_magnitude(self.low, self.high)
        if not self.absmax.isfinite().all():
            refuse_non_finite(int((~self.flat.float().isfinite()).sum()), len(self.flat), name)

    def _find_ends(self) -> None:
        count = -(-len(self.flat) // self.length)
        self.low = torch.full((count,), math.inf, device=self.flat.device)
        self.high = -self.low
        for _, first, x in self.chunks():
            here = slice(first, first + len(x))
            torch.minimum(self.low[here], x.amin(1), out=self.low[here])
            torch.maximum(self.high[here], x.amax(1), out=self.high[here])

    def chunks(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """First index, first block, and float32 blocks, or a part of one that is longer than a chunk.

        A short last block is filled with copies of its last weight, which leave its ends as they are.
        """
        flat, n = self.flat, self.length
        size = CHUNK if flat.device.type == "cpu" else GPU_CHUNK
        for start in range(0, len(flat), whole := n * max(1, size // n)):
            if n > size:
                for offset, part in enumerate(flat[start : start + n].split(size)):
                    yield start + offset * size, start // n, part.float()[None]
                continue
            x = flat[start : start + whole].float()
            if missing := -len(x) % n:
                x = torch.cat([x, x[-1:].expand(missing)])
            yield start, start // n, x.view(-1, n)


def add_to_rows(totals: torch.Tensor, values: torch.Tensor, start: int, width: int) -> None:
    """Add `values`, which begin at flat index `start`, to the totals of their rows of `width`."""
    first = min(-start % width, len(values))  # what is left of a row begun in the last chunk
    whole = (len(values) - first) // width * width
    row = -(-start // width)
    totals[start // width] += values[:first].sum()
    totals[row : row + whole // width] += values[first : first + whole].view(-1, width).sum(1)
    totals[row + whole // width : row + whole // width + 1] += values[first + whole :].sum()
