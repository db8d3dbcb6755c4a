r"""Standard errors of what is computed of all weights of a matrix together, although they depend on each other.

Weights of a row share its scale, weights of a column likewise: a matrix of a million weights may tell no more of the
tail than its thousand rows do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from empirics import rows_cuda
from empirics.histogram import chunk_size
from theory.sources import Histogram

Influence = Callable[[torch.Tensor], torch.Tensor]
"""Weights, float64, to what each moves the estimate by, times the number of weights; elementwise, of mean 0."""

_CHUNK = 2**16  # float64 temporaries of half a megabyte, a dozen of them: they stay in the cache


def standard_errors(matrix: torch.Tensor, *influences: Influence) -> list[float]:
    r"""Standard errors of estimates by their influence functions, clustered by row and by column.

    To first order an estimate of N weights x is off by :math:`\tfrac1N\sum_{ij} f(x_{ij})`. Weights in different rows
    and columns being independent, its variance is estimated by

    .. math:: V = \frac{1}{N^2}\Bigl[\frac{R}{R-1}\sum_i\Bigl(\sum_j f\Bigr)^2
                  + \frac{C}{C-1}\sum_j\Bigl(\sum_i f\Bigr)^2 - \sum_{ij} f^2\Bigr],

    the rows' variance and the columns', less that of independent weights, which is in both. Should rounding or chance
    leave nothing, the larger of the first two stands for it.

    Parameters
    ----------
    matrix : torch.Tensor
        Shape (R, C), R and C at least 2, floating-point, on any device.
    influences : callable

    Returns
    -------
    list of float

    Notes
    -----
    float64, in chunks. A 16-bit tensor has 65,536 values at most: each is computed once, and looked up.

    For independent weights V is right to a relative :math:`\sqrt{2/R + 2/C}`. With
    few rows, or scales of rows that have heavy tails themselves, it is uncertain, more often too small than large.

    References: [CameronGelbachMiller2011].

    Examples
    --------
    >>> x = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    >>> [round(error, 6) for error in standard_errors(x, lambda x: x - 1.5)]  # of six independent: 0.2
    [0.456435]
    """
    rows, columns = matrix.shape
    found = []
    for i, j, independent in zip(*_sums(matrix.detach(), influences), strict=True):
        of_rows, of_columns = (len(t) * float(t.var()) for t in (i, j))
        variance = of_rows + of_columns - float(independent)
        found.append(math.sqrt(variance if variance > 0 else max(of_rows, of_columns)) / (rows * columns))
    return found


def _sums(matrix: torch.Tensor, influences: Sequence[Influence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each influence its sums over rows and over columns, and of its squares: (n, R), (n, C) and (n,)."""
    (rows, columns), device = matrix.shape, matrix.device
    tables = None
    if matrix.itemsize == 2:
        patterns = torch.arange(-(2**15), 2**15, dtype=torch.int16, device=device).roll(2**15)  # unsigned: from 0 up
        values = patterns.view(matrix.dtype).double()
        tables = torch.stack([f(values.where(values.isfinite(), 0)) for f in influences])
        if matrix.is_cuda and (found := rows_cuda.moves(matrix, tables)) is not None:
            return found
    by_row, by_column, squares = (
        torch.zeros((len(influences), *some), dtype=torch.float64, device=device) for some in ([rows], [columns], [])
    )
    step = max(1, chunk_size(device, _CHUNK) // columns)
    for start in range(0, rows, step):
        chunk = matrix[start : start + step]
        if tables is not None:
            place = chunk.reshape(-1).view(torch.int16).int().bitwise_and_(0xFFFF)
        for k, f in enumerate(influences):
            moves = f(chunk.double()) if tables is None else tables[k].index_select(0, place).view(chunk.shape)
            by_row[k, start : start + step] = moves.sum(1)
            by_column[k] += moves.sum(0)
            squares[k] += moves.view(-1) @ moves.view(-1)
    return by_row, by_column, squares


def independent_variance(histogram: Histogram, influence: Influence) -> float:
    """Variance of an estimate if the weights were independent: that of the influence over their number.

    >>> import numpy as np
    >>> independent_variance(Histogram(np.array([1.0, 2.0]), np.array([3, 3])), lambda x: x - 1.5)
    0.041666666666666664
    """
    moves = influence(torch.from_numpy(histogram.values)).numpy()
    return float(histogram.probabilities @ moves**2 / histogram.counts.sum())
