"""The error of a quantizer on a tensor, exact: sums in float64 over its rows and its blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from empirics import blocks_cuda
from empirics.blocks import Blocks, BlockSize, add_to_rows
from empirics.quantizers import Quantizer


@dataclass(frozen=True, eq=False)
class Distortion:
    """Exact error sums of a quantized tensor, in float64.

    Attributes
    ----------
    squared_error, energy : array of shape (rows,)
        Sums of (Q(x) - x)**2 and of x**2 over each row (the last dimension), in the weights' units squared.
    absmax_in_rows : array of shape (rows,)
        Sums of the absmax of the blocks that begin in a row.
    absmax_sum, absmax_square_sum : float
        Over the blocks.
    worst : float
        Largest |Q(x) - x| / absmax: at most half the codebook's largest gap, if +-1 are levels and scales exact.
    blocks, n : int
        Blocks and weights.
    """

    squared_error: np.ndarray
    energy: np.ndarray
    absmax_in_rows: np.ndarray
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


def distortion(quantizer: Quantizer, tensor: torch.Tensor, block_size: BlockSize, name: str = "tensor") -> Distortion:
    """Error of a quantizer on a tensor, without ever holding a second tensor of its size.

    Parameters and errors are those of `Quantizer.quantize`.

    Returns
    -------
    Distortion
        The sums agree with those over the whole tensor to 1e-13 of themselves.

    Examples
    --------
    >>> from empirics.quantizers import get
    >>> distortion(get("int4"), torch.tensor([[7.0, 3.5, -0.5, 0.0]]), 4).squared_error
    array([0.5])
    """
    blocks = Blocks(tensor, block_size, name)
    flat, width = blocks.flat, tensor.shape[-1] if tensor.ndim else 1
    found = None
    if flat.is_cuda and width % blocks.length == 0:
        parameters = quantizer.parameters(blocks)
        found = blocks_cuda.errors(flat, blocks.length, quantizer.rule, *parameters, blocks.absmax)
    if found is not None:
        rows, worst = found[0].view(2, -1, width // blocks.length).sum(2), found[1]
    else:
        rows, worst = _sums(quantizer, blocks, width)
    scales = blocks.absmax.double()
    if width % blocks.length == 0:
        in_rows = scales.view(-1, width // blocks.length).sum(1)
    else:
        begins = torch.arange(len(scales), device=flat.device) * blocks.length // width
        in_rows = torch.zeros_like(rows[0]).index_add_(0, begins, scales)
    squared_error, energy = rows.cpu().numpy()
    return Distortion(
        squared_error, energy, in_rows.cpu().numpy(), float(scales.sum()), float(scales.square().sum()), float(worst),
        blocks=len(scales), n=len(flat),
    )  # fmt: skip


def _sums(quantizer: Quantizer, blocks: Blocks, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared errors and squares summed over rows of `width`, and the largest error over its block's absmax."""
    flat = blocks.flat
    rows = torch.zeros((2, len(flat) // width), dtype=torch.float64, device=flat.device)
    worst = torch.zeros((), dtype=torch.float64, device=flat.device)
    for start, x, values, absmax in quantizer.rounded(blocks):
        square = values.double().sub_(x).square_()
        # A block of zeros has no error; divided by 1 rather than 0 it says so.
        worst = torch.maximum(worst, (square.amax(1).sqrt_() / absmax.where(absmax > 0, 1)).max())
        add_to_rows(rows[0], square.view(-1)[: len(flat) - start], start, width)
        add_to_rows(rows[1], x.double().square_().view(-1)[: len(flat) - start], start, width)
    return rows, worst
