r"""How a group of weights that share a scale is rounded: to a codebook, to a grid, between its least and greatest.

A group is summarized by its least and greatest weight. From these a rule takes the parameters that a decoder needs
(`Rule.parameters`: a scale, an offset), a format stores them in fewer bits (`stored`), and the rule rounds the
weights (`Rule.round`). Everything is elementwise on tensors of groups, where they are: on a CPU or on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch

from theory import scale_formats
from theory.codebooks import DYNAMIC8, Codebook

Parameters = tuple[torch.Tensor, ...]
"""Float32, an entry for each group."""

AS_NOTEBOOK = "notebook"
"""Format of the notebooks' groups: a scale is used in full, and counted as the 16 bits of fp16."""

_DTYPES = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
_LARGEST = torch.finfo(torch.float32).max


def largest_magnitude(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Of the groups with these least and greatest weights; never -0."""
    return torch.maximum(low.abs(), high.abs())


def _divided(values: torch.Tensor, count: float) -> torch.Tensor:
    """Correctly rounded on every device: on a GPU torch multiplies by the reciprocal of a Python number."""
    return values / torch.full_like(values, count)


class Rule(Protocol):
    """How groups are rounded.

    Attributes
    ----------
    formatted : int
        How many of the parameters, the first ones, a format stores.
    other_bits : int
        Bits of a group's other parameters together.
    any_format : bool
        Whether the parameters are magnitudes about which a codebook lives, which a power of two can store.
    """

    @property
    def formatted(self) -> int: ...
    @property
    def other_bits(self) -> int: ...
    @property
    def any_format(self) -> bool: ...
    def parameters(self, low: torch.Tensor, high: torch.Tensor) -> Parameters:
        """From the least and the greatest weight of each group."""
        ...

    def round(self, x: torch.Tensor, coder: Parameters, decoder: Parameters) -> torch.Tensor:
        """Groups of shape (m, n), coded with the one parameters of shape (m, 1) and decoded with the other."""
        ...


@dataclass(frozen=True, eq=False)
class Nearest:
    """To the nearest level of a codebook, in units of the largest magnitude or of the weight that has it (signed).

    In float32, as bitsandbytes does it: a weight is multiplied by the reciprocal of its scale, and one on the middle
    of two levels goes to the lower.
    """

    codebook: Codebook
    formatted = 1
    other_bits = 0
    any_format = True

    def parameters(self, low: torch.Tensor, high: torch.Tensor) -> Parameters:
        absmax = largest_magnitude(low, high)
        if self.codebook.scaling == "absmax":
            return (absmax,)
        return absmax, torch.where(-low > high, -1.0, 1.0)

    def round(self, x: torch.Tensor, coder: Parameters, decoder: Parameters) -> torch.Tensor:
        thresholds, levels, cells = table(self.codebook, x.device)
        # Of a scale of 0, or so small that its reciprocal overflows, the largest number will do.
        inverse, scale = coder[0].reciprocal().clamp_(max=_LARGEST), decoder[0]
        if len(coder) == 2:
            inverse, scale = inverse * coder[1], scale * decoder[1]
        y = (x * inverse).clamp_(-1, 1)
        cell = y.add(1).mul_(cells / 2).int()
        # The sign bit of threshold - y: -1 above the threshold, else 0. A comparison would take four times as long.
        above = thresholds.index_select(0, cell.view(-1)).view_as(y).sub_(y).view(torch.int32)
        index = cell.mul_(2).sub_(above.bitwise_right_shift_(31))
        return levels.index_select(0, index.view(-1)).view_as(y).mul_(scale)


@lru_cache(maxsize=64)
def table(codebook: Codebook, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Cells that cut [-1, 1] so finely that no two thresholds share one: the threshold in each, and the level on
    either side of it. A search among 16 levels takes ten times as long.

    A weight's cell is a monotone function of it, rounding included: where a threshold has a cell of its own, the
    weights of other cells are on the side of it that their cells are.
    """
    levels = np.asarray(codebook.levels, dtype=np.float32)
    thresholds = (levels[1:] + levels[:-1]) / np.float32(2)
    half = 1
    while len(np.unique(cell := _cells(thresholds, half))) < len(thresholds):
        half *= 2
    at = np.full(2 * half + 1, 2, dtype=np.float32)  # nothing is above 2
    at[cell] = thresholds
    below = np.searchsorted(cell, np.arange(2 * half + 1))
    either = np.stack([levels[below], levels[np.minimum(below + 1, len(levels) - 1)]], axis=1).ravel()
    return torch.from_numpy(at).to(device), torch.from_numpy(either).to(device), 2 * half


def _cells(y: np.ndarray, half: int) -> np.ndarray:
    return ((y + np.float32(1)) * np.float32(half)).astype(np.int32)


@dataclass(frozen=True)
class Grid:
    """To multiples k of a step, least <= k <= greatest, half to even; or to the middles between them, k + 1/2.

    The largest magnitude of a group is `top` steps.
    """

    top: float
    least: int
    greatest: int
    middles: bool = False
    formatted = 1
    other_bits = 0
    any_format = True

    def parameters(self, low: torch.Tensor, high: torch.Tensor) -> Parameters:
        return (largest_magnitude(low, high),)

    def round(self, x: torch.Tensor, coder: Parameters, decoder: Parameters) -> torch.Tensor:
        step = _divided(coder[0], self.top)
        k = x / step.where(step > 0, 1)  # a group of zeros; also one whose step underflows
        k = k.floor_() if self.middles else k.round_()
        k.clamp_(self.least, self.greatest)
        return (k.add_(0.5) if self.middles else k).mul_(_divided(decoder[0], self.top))


@dataclass(frozen=True)
class Asymmetric:
    """Uniform from the least weight of a group to its greatest, 2**bits levels: a step and the least weight."""

    bits: int
    formatted = 2
    other_bits = 0
    any_format = False

    def parameters(self, low: torch.Tensor, high: torch.Tensor) -> Parameters:
        return _divided(high - low, 2**self.bits - 1), low

    def round(self, x: torch.Tensor, coder: Parameters, decoder: Parameters) -> torch.Tensor:
        step, low = coder
        k = (x - low).div_(step.where(step > 0, 1)).round_().clamp_(0, 2**self.bits - 1)
        return k.mul_(decoder[0]).add_(decoder[1])


@dataclass(frozen=True)
class ZeroPoint:
    """Uniform, 2**bits levels, one of which is 0: a step, and which of the levels is 0 (`bits` bits).

    As GPTQ and AWQ have it: from the least weight of a group, or 0, to its greatest, or 0.
    """

    bits: int
    formatted = 1
    any_format = False

    @property
    def other_bits(self) -> int:
        return self.bits

    def parameters(self, low: torch.Tensor, high: torch.Tensor) -> Parameters:
        low = low.clamp(max=0)
        return _divided(high.clamp(min=0) - low, 2**self.bits - 1), low

    def round(self, x: torch.Tensor, coder: Parameters, decoder: Parameters) -> torch.Tensor:
        step, low = coder
        step, top = step.where(step > 0, 1), 2**self.bits - 1
        zero = (-low / step).round_().clamp_(0, top)
        k = (x / step).round_().add_(zero).clamp_(0, top)
        return k.sub_(zero).mul_(decoder[0])


def stored(values: torch.Tensor, scale_format: str, name: str = "tensor") -> torch.Tensor:
    """What a format keeps of the scales of a tensor.

    Parameters
    ----------
    values : tensor of shape (groups,)
        Float32: all scales of the tensor, in order. Magnitudes, if the format is e8m0.
    scale_format : str
        One of `theory.scale_formats`, or `AS_NOTEBOOK`.
    name : str
        What the error message calls the tensor.

    Returns
    -------
    tensor of shape (groups,)
        Float32.

    Raises
    ------
    ValueError
        If a value is beyond the largest of the format.

    Examples
    --------
    >>> stored(torch.tensor([0.3, 0.02]), "fp8_e4m3").tolist(), stored(torch.tensor([0.3]), "e8m0").tolist()
    ([0.3125, 0.01953125], [0.375])
    """
    if scale_format in ("fp32", AS_NOTEBOOK):
        return values
    if scale_format == "double":
        return _doubly_quantized(values)
    if scale_format == "e8m0":
        # A float32 without its mantissa is the power of two below. The least exponent of the format is -127.
        powers = (values.view(torch.int32) & 0x7F800000).view(torch.float32)
        return powers.clamp(min=2.0**-125).mul_(1.5)
    kept, largest = scale_formats.get(scale_format), float(values.abs().max())
    if kept.round(largest) > kept.largest:  # torch makes it infinity, NaN or the largest
        raise ValueError(f"{name}: {largest:g} is beyond the largest {scale_format}, {kept.largest:g}")
    return values.to(_DTYPES[scale_format]).float()


def _doubly_quantized(values: torch.Tensor) -> torch.Tensor:
    """bitsandbytes' double quantization: less their mean, in blocks of 256, to the nearest of 256 levels."""
    double = scale_formats.get("double")
    mean = values.mean()
    deviations = torch.nn.functional.pad(values - mean, (0, -len(values) % double.second_n)).view(-1, double.second_n)
    absmax = deviations.abs().amax(1, keepdim=True)
    levels = torch.tensor(np.asarray(DYNAMIC8.levels), dtype=torch.float32, device=values.device)
    # A search, not a table: there are few scales, and the levels are dense around 0.
    nearest = torch.bucketize(deviations * absmax.reciprocal().clamp(max=_LARGEST), (levels[1:] + levels[:-1]) / 2)
    return (levels[nearest] * absmax).view(-1)[: len(values)] + mean
