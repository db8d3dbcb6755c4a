r"""Integer bits for many components under one budget, with a certificate.

Component i, of `counts[i]` weights, has the distortion :math:`d_i(b)` per weight at b bits. Minimizing
:math:`\sum c_i d_i(b_i)` subject to :math:`\sum c_i b_i \le B` is a knapsack. Its Lagrangian dual,

.. math:: \max_{\lambda\ge0}\; \sum_i c_i \min_b\,[d_i(b) + \lambda b] - \lambda B \;\le\; \text{optimum},

sees only the lower convex hulls of the :math:`d_i`, and is solved exactly by sorting their slopes: no iteration.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from theory.domain import COUNT, NONNEGATIVE, ORDER, accept


class BitAllocation(NamedTuple):
    """Bits of each component, what they cost, and how far from the optimum they can be.

    Attributes
    ----------
    bits : int array of shape (components,)
    distortion : float
        Weighted total of the allocation.
    lower_bound : float
        The dual: no integer allocation within the budget has less, up to float64's rounding.
    gap : float
        ``distortion - lower_bound``, >= 0.
    used : int
        Bits spent, at most the budget.
    multiplier : float
        The dual's :math:`\\lambda`: distortion that one more bit would save.
    status : str
        "optimal" if the gap is rounding, else "feasible".
    """

    bits: np.ndarray
    distortion: float
    lower_bound: float
    gap: float
    used: int
    multiplier: float
    status: str


def _hull(d: np.ndarray) -> list[int]:
    """Bits at the corners of the lower convex hull of d, as far as it falls."""
    hull: list[int] = []
    for b in range(int(d.argmin()) + 1):
        while len(hull) > 1 and (d[hull[-1]] - d[hull[-2]]) * (b - hull[-2]) >= (d[b] - d[hull[-2]]) * (
            hull[-1] - hull[-2]
        ):
            hull.pop()
        hull.append(b)
    return hull


def integer_allocation(distortions: Any, budget: int, counts: Any = None) -> BitAllocation:
    r"""Integer bits of the components with nearly the least total distortion, and a lower bound on the least.

    Parameters
    ----------
    distortions : array of shape (components, B + 1)
        ``distortions[i, b]``: weighted distortion of one weight of component i at b bits, >= 0; convex or not.
    budget : int
        Bits for all weights together, >= 0.
    counts : int array of shape (components,), optional
        Weights of each component, >= 1; 1 if not given.

    Returns
    -------
    BitAllocation

    Raises
    ------
    ValueError
        If an argument is outside its domain or the shapes disagree.

    Notes
    -----
    The steps along the hulls, steepest first, until the budget stops one: up to there the allocation is optimal for
    what it spends. Then every later step that still fits, and then single changes, best saving per bit first; or
    equal bits, if that is better. The gap is at most what the step that did not fit would have saved. References:
    [ShohamGersho1988].

    Examples
    --------
    >>> found = integer_allocation([[4.0, 1.0, 0.25], [1.0, 0.25, 0.0625]], budget=3)
    >>> found.bits.tolist(), found.distortion, found.status
    ([2, 1], 0.5, 'optimal')
    """
    _, table, budget = accept(distortions=(distortions, NONNEGATIVE), budget=(budget, ORDER))
    if table.ndim != 2 or not table.size:
        raise ValueError(f"distortions must be components x (B + 1) and not empty, not of shape {table.shape}")
    _, c = accept(counts=(np.ones(len(table)) if counts is None else counts, COUNT))
    if c.shape != table.shape[:1]:
        raise ValueError(f"counts has shape {c.shape} for {len(table)} components")
    left, c = int(budget), c.astype(np.int64)
    steps = []  # (saving per bit, component, from, to)
    for i, d in enumerate(table):
        corners = _hull(d)
        steps += [((d[a] - d[b]) / (b - a), i, a, b) for a, b in pairwise(corners)]
    steps.sort(key=lambda step: (-step[0], step[1], step[2]))

    bits = np.zeros(len(table), dtype=np.int64)
    multiplier = 0.0
    for saving, i, a, b in steps:
        cost = int(c[i]) * (b - a)
        if cost <= left and bits[i] == a:
            bits[i], left = b, left - cost
        elif multiplier == 0:
            multiplier = float(saving)
    rows, columns = np.arange(len(table)), np.arange(table.shape[1])
    while True:
        more = columns - bits[:, None]
        saved = table[rows, bits][:, None] - table
        fits = (more > 0) & (saved > 0) & (c[:, None] * more <= left)
        if not fits.any():
            break
        row, best = np.unravel_index(np.argmax(np.where(fits, saved / np.maximum(more, 1), -1.0)), table.shape)
        left -= int(c[row]) * int(best - bits[row])
        bits[row] = best

    equal = min(int(budget) // int(c.sum()), len(columns) - 1)
    if c @ table[:, equal] < c @ table[rows, bits]:  # large components may not fit what the steps leave
        bits, left = np.full(len(table), equal), int(budget) - equal * int(c.sum())
    distortion = float(c @ table[rows, bits])
    dual = float(c @ (table + multiplier * columns).min(axis=1)) - multiplier * int(budget)
    gap = max(distortion - dual, 0.0)
    status = "optimal" if gap <= 1e-12 * float(c @ table[:, 0]) else "feasible"
    return BitAllocation(bits, distortion, min(dual, distortion), gap, int(budget) - left, multiplier, status)
