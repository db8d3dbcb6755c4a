"""The exact distribution of a matrix whose columns count differently: the source as a layer's output sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from empirics.histogram import CHUNK, SORTED_AT_MOST, bucket, chunk_size, flattened, refuse_non_finite
from theory.sources import Histogram


def exact(matrix: torch.Tensor, column_weights: torch.Tensor, name: str = "tensor") -> Histogram:
    r"""Histogram of the values of a matrix, each counted with the weight of its column.

    For a linear layer y = W x whose inputs have the second moments :math:`s_j = E x_j^2`, and a quantizer Q of single
    weights whose errors in different columns are uncorrelated,

    .. math:: E|W x - Q(W) x|^2 = \sum_{ij} s_j\,(w_{ij} - Q(w_{ij}))^2 = \sum_a c_a\,(a - Q(a))^2,\qquad
              c_a = \sum_{ij:\,w_{ij} = a} s_j ,

    over the values a that occur. So the best quantizer for that error is the best one on this histogram, by any
    function of `theory` that takes a source: `theory.clipping.optimal_clip` finds the clip.

    Parameters
    ----------
    matrix : torch.Tensor of shape (rows, columns)
        Floating-point, on any device. Columns are inputs; transpose a layer that stores them as rows.
    column_weights : torch.Tensor of shape (columns,)
        Finite, none negative, not all 0; used in float64.
    name : str
        What the error messages call the matrix.

    Returns
    -------
    theory.sources.Histogram
        Counts are sums of weights, in their unit; they add up to rows times the sum of the weights. What occurs with
        weight 0 alone is left out. Exact (``displacement == 0``) or in buckets as `empirics.histogram.exact` says, an
        atom being the weighted mean of its values and `displacement` the weighted root mean square distance.

    Raises
    ------
    TypeError
        If the matrix is not of a floating-point dtype.
    ValueError
        If the shapes do not fit, a weight is outside its domain, or the matrix is empty or holds NaN or infinity.

    Notes
    -----
    The 16.8 million weights of a 4096 x 4096 bf16 matrix take 0.1 s on one core, of a float32 one 0.3 s. On CUDA the
    additions have no fixed order: the last digits of a count may differ.

    Examples
    --------
    >>> found = exact(torch.tensor([[0.5, -1.0], [-1.0, -1.0]]), torch.tensor([0.25, 2.0]))
    >>> found.values, found.counts
    (array([-1. ,  0.5]), array([4.25, 0.25]))
    """
    flat = flattened(matrix, name)
    if matrix.ndim != 2 or column_weights.shape != matrix.shape[1:]:
        raise ValueError(
            f"{name} has shape {tuple(matrix.shape)} and {tuple(column_weights.shape)} column weights: "
            "give a matrix and one weight for each column"
        )
    weights = column_weights.detach().to(flat.device, torch.float64)
    if not (torch.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"the column weights of {name} are not all finite and >= 0, or are all 0")
    rows = flat.view(matrix.shape)
    size = chunk_size(flat.device, CHUNK)
    chunks, repeated = _in_chunks(rows, weights, size)
    refuse_non_finite(sum(int((~chunk.isfinite()).sum()) for chunk in chunks), len(flat), name)
    for kind in (torch.bfloat16, torch.float16):
        if (counts := _by_bits(chunks, repeated, kind)) is not None:
            return _histogram(torch.arange(-(2**15), 2**15, dtype=torch.int16).view(kind).double(), counts)
    if len(flat) <= SORTED_AT_MOST:
        values, index = torch.unique(flat.double(), return_inverse=True)
        return _histogram(values, torch.bincount(index, weights.repeat(len(rows))))
    return _by_buckets(flat, chunks, repeated, name)


def _in_chunks(rows: torch.Tensor, weights: torch.Tensor, size: int) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """The matrix, about `size` values at a time, and the weight of each value of the first and largest chunk."""
    chunks = rows.split(max(1, size // rows.shape[1]))
    return chunks, weights.repeat(len(chunks[0]))


def _by_bits(chunks: Sequence[torch.Tensor], weights: torch.Tensor, kind: torch.dtype) -> torch.Tensor | None:
    """Weight of each bit pattern of `kind`, from -2**15 up; None if `kind` cannot hold a value."""
    counts = torch.zeros(2**16, dtype=torch.float64, device=weights.device)
    for chunk in chunks:
        narrow = chunk.to(kind)
        if narrow.dtype != chunk.dtype and not torch.equal(narrow.to(chunk.dtype), chunk):
            return None
        patterns = narrow.view(torch.int16).flatten().int() + 2**15
        counts += torch.bincount(patterns, weights[: len(patterns)], minlength=2**16)
    return counts


def _by_buckets(flat: torch.Tensor, chunks: Sequence[torch.Tensor], weights: torch.Tensor, name: str) -> Histogram:
    place, size = bucket(flat, name)
    sums = torch.zeros((2, size), dtype=torch.float64, device=weights.device)
    for chunk in chunks:
        key, x = place(chunk.flatten()), chunk.flatten().double()
        for row, terms in zip(sums, (weights[: len(x)], weights[: len(x)] * x), strict=True):
            row += torch.bincount(key, terms, minlength=size)
    counts, means = sums[0], sums[1] / sums[0]
    # A second pass over the deviations: the difference of two sums of squares would leave no digits.
    squares = 0.0
    for chunk in chunks:
        x = chunk.flatten().double()
        deviations = x - means[place(chunk.flatten())]
        squares += float(weights[: len(x)] @ deviations.where(weights[: len(x)] > 0, 0).square())
    return _histogram(means, counts, math.sqrt(squares / float(counts.sum())))


def _histogram(values: torch.Tensor, counts: torch.Tensor, displacement: float = 0.0) -> Histogram:
    held = (counts > 0).cpu().numpy()
    atoms, index = np.unique(values.cpu().numpy()[held], return_inverse=True)  # +0 and -0 are one atom
    return Histogram(atoms + 0.0, np.bincount(index, counts.cpu().numpy()[held]), displacement)
