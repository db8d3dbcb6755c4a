"""The exact distribution of a weight tensor: every value that it takes, and how often.

A bf16 or fp16 tensor takes at most 65,536 values, so one pass over its bits turns 16.8 million weights into a
source (`theory.sources.Histogram`) on which every quantizer is evaluated exactly, at a cost that no longer
depends on the size of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from empirics import histogram_cuda
from theory.sources import Histogram

CHUNK = 2**17
"""Weights converted at a time: temporaries of a few MB, whatever the tensor's size."""

GPU_CHUNK = 2**23
"""The same on a GPU: long against the launch of a kernel, and float64 temporaries of 64 MB."""

SORTED_AT_MOST = 2**16
"""Values that are sorted, whatever their dtype can hold."""

_OCTAVES, _MANTISSA_BITS = 32, 11


def exact(tensor: torch.Tensor, name: str = "tensor") -> Histogram:
    r"""Histogram of the values of a floating-point tensor, in the tensor's units.

    Exact (``displacement == 0``) when every value is representable in bf16 or fp16, or the tensor has at most
    2**16 values. Otherwise the values are put into buckets by the leading bits of their float32 form (sign, exponent,
    11 bits of mantissa), and each bucket is one atom, at the mean of its values. Magnitudes below 2**-32 of the
    largest share a bucket on either side of 0.

    Parameters
    ----------
    tensor : torch.Tensor
        Any floating-point dtype, shape and device; the counts are made where the tensor is.
    name : str
        What the error messages call the tensor.

    Returns
    -------
    theory.sources.Histogram
        Counts are integers that add up to ``tensor.numel()``; +0 and -0 are one atom; a constant tensor is
        one atom. `displacement` is the root mean square distance of the weights from their atoms.

    Raises
    ------
    TypeError
        If the tensor is not of a floating-point dtype.
    ValueError
        If the tensor is empty, or holds NaN or infinity; the message counts them.

    Notes
    -----
    With atoms a(x) and any quantizer Q to the nearest level, the distance to the nearest level is
    1-Lipschitz, so by Minkowski's inequality

    .. math:: \Bigl|\sqrt{E (x - Q(x))^2} - \sqrt{E (a - Q(a))^2}\Bigr| \le \sqrt{E (x - a)^2} = displacement,

    and the displacement is at most 2**-12 of the tensor's root mean square. To sort a million float32 values would be
    exact, at ten times the memory, and whatever is computed of a million atoms is slow.

    Examples
    --------
    >>> exact(torch.tensor([0.5, -0.0, 0.5, 0.0], dtype=torch.bfloat16)).counts.tolist()
    [2, 2]
    """
    flat = flattened(tensor, name)
    for kind in (torch.bfloat16, torch.float16):
        if (of_bits := _sixteen_bit_counts(flat, kind)) is not None:
            values = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(kind).double().numpy()
            return _histogram(values, of_bits.cpu().numpy(), 0.0, name)
    if len(flat) <= SORTED_AT_MOST:
        return _histogram(*np.unique(flat.double().cpu().numpy(), return_counts=True), 0.0, name)
    means, counts, displacement = _buckets(flat, name)
    return _histogram(means.cpu().numpy(), counts.cpu().numpy(), displacement, name)


def coarsened(histogram: Histogram, atoms: int) -> Histogram:
    r"""The histogram with neighbouring atoms merged into their mean, so that at most `atoms` are left.

    Buckets are narrow where atoms are dense, of width :math:`\propto p^{-1/3}`, which is best for the mean squared
    error of many [PanterDite1951]: 2**13 move Gaussian weights by 2e-4 standard deviations.

    Parameters
    ----------
    histogram : theory.sources.Histogram
    atoms : int
        At least 1. A histogram that has no more is returned as it is.

    Returns
    -------
    theory.sources.Histogram
        Of the same mean. Its `displacement` is that of the weights from the new atoms.

    Notes
    -----
    Displacements add as squares, because an atom is the mean of its weights. A codebook that is optimal for the
    result is within two displacements of the optimum for the weights, in root mean square error.

    Examples
    --------
    >>> found = coarsened(Histogram(np.array([-1.0, 0.0, 0.5, 4.0]), np.array([1, 1, 1, 1])), 2)
    >>> found.values, found.counts, round(found.displacement, 6)
    (array([-0.16666667,  4.        ]), array([3, 1]), 0.540062)
    """
    values, counts = histogram.values, histogram.counts
    if len(values) <= atoms:
        return histogram
    # p dx**-1 is the density, so p**(1/3) dx**(2/3) is the share of a gap in the buckets.
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(counts[:-1] * np.diff(values) ** 2))])
    bucket = np.minimum((share * (atoms / share[-1])).astype(np.int64), atoms - 1)
    first = np.flatnonzero(np.diff(bucket, prepend=-1))
    merged = np.add.reduceat(counts, first)
    means = np.add.reduceat(counts * values, first) / merged
    moved = values - np.repeat(means, np.diff(np.append(first, len(values))))
    squared = histogram.displacement**2 + np.average(moved**2, weights=counts)
    return Histogram(means, merged, float(np.sqrt(squared)))


def _sixteen_bit_counts(flat: torch.Tensor, kind: torch.dtype) -> torch.Tensor | None:
    """How often each bit pattern of `kind` occurs, from -2**15 up; None if `kind` cannot hold a value."""
    if flat.is_cuda and flat.dtype == kind and (counted := histogram_cuda.pattern_counts(flat)) is not None:
        return counted
    counts = torch.zeros(2**16, dtype=torch.int64, device=flat.device)
    for chunk in flat.split(chunk_size(flat.device, CHUNK)):
        narrow = chunk.to(kind)
        if narrow.dtype != chunk.dtype and not torch.equal(narrow.to(chunk.dtype), chunk):
            return None
        counts += _count_bits(narrow.view(torch.int16))
    return counts


def _count_bits(patterns: torch.Tensor) -> torch.Tensor:
    if patterns.device.type == "cpu":  # numpy counts in a third of torch's time; patterns as uint16: 0 to 2**15 first
        counts = np.bincount(patterns.numpy().view(np.uint16), minlength=2**16)
        return torch.from_numpy(np.roll(counts, 2**15))
    return torch.bincount(patterns.int() + 2**15, minlength=2**16)


def _buckets(flat: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mean and count of each bucket, and the root mean square distance of the values from their mean."""
    place, size = bucket(flat, name)
    counts = torch.zeros(size, dtype=torch.int64, device=flat.device)
    sums = torch.zeros(size, dtype=torch.float64, device=flat.device)
    step = chunk_size(flat.device, CHUNK)
    for chunk in flat.split(step):
        key = place(chunk)
        counts += torch.bincount(key, minlength=size)
        sums += torch.bincount(key, chunk.double(), minlength=size)
    means = sums / counts
    # A second pass over the deviations: the difference of two sums of squares would leave no digits.
    squares = sum(float((chunk.double() - means[place(chunk)]).square_().sum()) for chunk in flat.split(step))
    return means, counts, (squares / len(flat)) ** 0.5


def bucket(flat: torch.Tensor, name: str) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """What numbers the buckets of values, in their order, and how many there are.

    Raises ValueError if a value is NaN or infinite.
    """
    low, high = flat.aminmax()
    largest = torch.maximum(-low, high).float()
    if not largest.isfinite():
        refuse_non_finite(int((~flat.isfinite()).sum()), len(flat), name)
    shift = 23 - _MANTISSA_BITS
    half = _OCTAVES << _MANTISSA_BITS  # buckets of one sign
    first = (largest.view(torch.int32) >> shift) - (half - 1)

    def place(chunk: torch.Tensor) -> torch.Tensor:
        bits = chunk.float().view(torch.int32)
        magnitude = bits.bitwise_and(0x7FFFFFFF).bitwise_right_shift_(shift).sub_(first).clamp_(min=0)
        return magnitude.bitwise_xor_(bits >> 31).add_(half)  # of a negative value it is -1 - magnitude

    return place, 2 * half


def _histogram(values: np.ndarray, counts: np.ndarray, displacement: float, name: str) -> Histogram:
    refuse_non_finite(int(counts[~np.isfinite(values) & (counts > 0)].sum()), int(counts.sum()), name)
    atoms, index = np.unique(values[counts > 0], return_inverse=True)  # +0 and -0 are one atom
    merged = np.zeros(len(atoms), dtype=np.int64)
    np.add.at(merged, index, counts[counts > 0])
    return Histogram(atoms + 0.0, merged, displacement)


def chunk_size(device: torch.device, cpu: int) -> int:
    """Weights to convert at a time: as many as fit the cache of a CPU, `cpu`, or `GPU_CHUNK`."""
    return cpu if device.type == "cpu" else GPU_CHUNK


def flattened(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """The weights as one dimension, without a copy if they are contiguous.

    Raises TypeError unless the dtype is floating-point, and ValueError if the tensor is empty.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"{name} is of dtype {tensor.dtype}: weights are floating-point; dequantize it first")
    if not tensor.numel():
        raise ValueError(f"{name} is empty: shape {tuple(tensor.shape)}")
    return tensor.detach().reshape(-1)


def refuse_non_finite(bad: int, total: int, name: str) -> None:
    """Raise ValueError if `bad` of the `total` weights of the tensor called `name` are NaN or infinite."""
    if bad:
        raise ValueError(f"{name}: {bad} of {total} weights are NaN or infinite")
