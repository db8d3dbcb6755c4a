r"""Block quantizers: name -> quantized tensor, nominal and effective bits, and exact error sums.

Blocks run over the flattened tensor, whatever its rows, and the last one may be short: that is what
bitsandbytes does. Each block of n weights is divided by its largest magnitude (absmax), rounded to a codebook
on [-1, 1], and multiplied back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import pad

from empirics.histogram import flattened, refuse_non_finite
from theory import block_scaling, codebooks
from theory.codebooks import Codebook
from theory.domain import unknown

_CHUNK = 2**19  # weights at a time: temporaries of 2 to 4 MB stay in the last-level cache
_BITSANDBYTES_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, eq=False)
class Quantizer:
    """A codebook, and the code that rounds blocks to it.

    Attributes
    ----------
    name : str
    codebook : theory.codebooks.Codebook
        The levels, for predictions.
    round_blocks : callable
        Blocks of shape (m, n), finite float32, to their dequantized values, likewise.
    block_sizes : tuple of int, optional
        Those that the implementation takes; any n >= 1 if not given.
    scale_bits : float
        Bits that store the scale of a block.
    """

    name: str
    codebook: Codebook
    round_blocks: Callable[[torch.Tensor], torch.Tensor]
    block_sizes: tuple[int, ...] | None = None
    scale_bits: float = 32

    @property
    def bits(self) -> int:
        """Nominal bits per weight: the width of an index."""
        return self.codebook.bits

    def effective_bits(self, block_size: int) -> float:
        """Bits per weight with the scale of each block, ``bits + scale_bits / block_size``.

        >>> get("nf4").effective_bits(64)
        4.5
        """
        self.check_block_size(block_size)
        return block_scaling.effective_bits(self.bits, block_size, self.scale_bits)

    def check_block_size(self, block_size: int) -> None:
        """Raise ValueError unless the implementation takes this block size."""
        if self.block_sizes and block_size not in self.block_sizes:
            raise ValueError(f"{self.name} takes block sizes {self.block_sizes}, not {block_size}")
        if block_size < 1 or block_size != int(block_size):
            raise ValueError(f"block_size = {block_size} is not a positive integer")

    def quantize(self, tensor: torch.Tensor, block_size: int, name: str = "tensor") -> torch.Tensor:
        """Quantize and dequantize.

        Parameters
        ----------
        tensor : torch.Tensor
            Floating-point; any shape and device. It is converted to float32 first, as the kernels do.
        block_size : int
            Weights that share a scale.
        name : str
            What the error messages call the tensor.

        Returns
        -------
        torch.Tensor
            float32, of the same shape: the values before the library rounds them to the dtype of its input.

        Raises
        ------
        TypeError
            If the dtype is not floating-point.
        ValueError
            If the implementation does not take the block size, or the tensor is empty or holds NaN or infinity.

        Examples
        --------
        >>> get("int4").quantize(torch.tensor([7.0, 3.4, -0.5, 0.0]), 4)
        tensor([7., 3., -0., 0.])
        """
        flat = flattened(tensor, name)
        out = torch.empty(flat.shape, dtype=torch.float32, device=flat.device)
        for start, blocks, _ in self._chunks(flat, block_size, name):
            values = self.round_blocks(blocks).view(-1)
            out[start : start + len(values)] = values[: len(flat) - start]
        return out.view(tensor.shape)

    def _chunks(
        self, flat: torch.Tensor, block_size: int, name: str
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """First index, float32 blocks and their absmax, a chunk at a time; zeros fill the last block."""
        self.check_block_size(block_size)
        for start in range(0, len(flat), size := block_size * max(1, _CHUNK // block_size)):
            chunk = flat[start : start + size].float()
            blocks = pad(chunk, (0, -len(chunk) % block_size)).view(-1, block_size)
            absmax = blocks.abs().amax(1)
            if not absmax.isfinite().all():
                refuse_non_finite(int((~flat.float().isfinite()).sum()), len(flat), name)
            yield start, blocks, absmax


@dataclass(frozen=True, eq=False)
class Distortion:
    """Exact error sums of a quantized tensor, in float64.

    Attributes
    ----------
    squared_error, energy : array of shape (rows,)
        Sums of (Q(x) - x)**2 and of x**2 over each row (the last dimension), in the weights' units squared.
    absmax_sum, absmax_square_sum : float
        Over the blocks.
    worst : float
        Largest |Q(x) - x| / absmax: at most half the codebook's largest gap.
    blocks, n : int
        Blocks and weights.
    """

    squared_error: np.ndarray
    energy: np.ndarray
    absmax_sum: float
    absmax_square_sum: float
    worst: float
    blocks: int
    n: int

    @property
    def mse(self) -> float:
        """Mean squared error, in the weights' units squared."""
        return float(self.squared_error.sum()) / self.n

    @property
    def relative(self) -> float:
        """Mean squared error over the mean square; NaN if every weight is 0."""
        energy = float(self.energy.sum())
        return float(self.squared_error.sum()) / energy if energy else float("nan")


def distortion(
    quantizer: Quantizer, tensor: torch.Tensor, block_size: int, name: str = "tensor"
) -> Distortion:
    """Error of a quantizer on a tensor, without ever holding a second tensor of its size.

    Parameters and errors are those of `Quantizer.quantize`.

    Returns
    -------
    Distortion
        The sums agree with those over the whole tensor to 1e-13 of themselves.

    Examples
    --------
    >>> distortion(get("int4"), torch.tensor([[7.0, 3.5, -0.5, 0.0]]), 4).squared_error
    array([0.5])
    """
    flat = flattened(tensor, name)
    width = tensor.shape[-1] if tensor.ndim else 1
    rows = torch.zeros((2, len(flat) // width), dtype=torch.float64, device=flat.device)
    scales = torch.zeros(2, dtype=torch.float64, device=flat.device)
    worst, count = torch.zeros((), dtype=torch.float64, device=flat.device), 0
    for start, blocks, absmax in quantizer._chunks(flat, block_size, name):
        error = quantizer.round_blocks(blocks).double().sub_(blocks)
        # A block of zeros has no error; divided by 1 rather than 0 it says so.
        ratio = error.abs().amax(1) / absmax.where(absmax > 0, 1)
        worst, count = torch.maximum(worst, ratio.max()), count + len(blocks)
        scales += torch.stack([absmax.double().sum(), absmax.double().square().sum()])
        _add_to_rows(rows[0], error.square_().view(-1)[: len(flat) - start], start, width)
        _add_to_rows(rows[1], blocks.double().square_().view(-1)[: len(flat) - start], start, width)
    squared_error, energy = rows.cpu().numpy()
    absmax_sum, absmax_square_sum = scales.tolist()
    return Distortion(
        squared_error, energy, absmax_sum, absmax_square_sum, float(worst), blocks=count, n=len(flat)
    )


def _add_to_rows(totals: torch.Tensor, values: torch.Tensor, start: int, width: int) -> None:
    """Add `values`, which begin at flat index `start`, to the totals of their rows of `width`."""
    first = min(-start % width, len(values))  # what is left of a row begun in the last chunk
    whole = (len(values) - first) // width * width
    row = -(-start // width)
    totals[start // width] += values[:first].sum()
    totals[row : row + whole // width] += values[first : first + whole].view(-1, width).sum(1)
    totals[row + whole // width : row + whole // width + 1] += values[first + whole :].sum()


def _bitsandbytes_4bit(blocks: torch.Tensor, kind: str) -> torch.Tensor:
    # Its import warns of a kernel for matrix products, which nothing here uses.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from bitsandbytes import functional  # seconds to import; the integer quantizers do without

    size = blocks.shape[1]
    packed, state = functional.quantize_4bit(blocks, blocksize=size, quant_type=kind)
    if size > 1024:  # its CPU kernel would give way to one compiled for each shape; the same scales, repeated
        state.absmax, state.blocksize = state.absmax.repeat_interleave(size // 1024), 1024
    return functional.dequantize_4bit(packed, state).view(blocks.shape)


def _symmetric_integers(blocks: torch.Tensor, top: int) -> torch.Tensor:
    """Round half to even to the integers -top ... top, in units of absmax/top."""
    scale = blocks.abs().amax(1, keepdim=True) / top
    scale = scale.where(scale > 0, 1)  # a block of zeros; also one whose scale underflows
    return (blocks / scale).round_().clamp_(-top, top).mul_(scale)


_QUANTIZERS = {
    name: Quantizer(name, codebooks.get(name), partial(_bitsandbytes_4bit, kind=name), _BITSANDBYTES_BLOCKS)
    for name in ("nf4", "fp4")
} | {
    f"int{bits}": Quantizer(
        f"int{bits}", codebooks.integer(bits), partial(_symmetric_integers, top=2 ** (bits - 1) - 1)
    )
    for bits in range(2, 9)
}


def names() -> list[str]:
    """The quantizers that there are.

    >>> names()
    ['nf4', 'fp4', 'int2', 'int3', 'int4', 'int5', 'int6', 'int7', 'int8']
    """
    return list(_QUANTIZERS)


def get(name: str) -> Quantizer:
    """Return the quantizer of that name.

    Raises
    ------
    ValueError
        If there is none; near misses are suggested.

    Examples
    --------
    >>> get("nf5")
    Traceback (most recent call last):
    ...
    ValueError: no quantizer is called 'nf5': did you mean nf4?
    """
    if name.lower() not in _QUANTIZERS:
        raise unknown("quantizer", name, _QUANTIZERS)
    return _QUANTIZERS[name.lower()]
