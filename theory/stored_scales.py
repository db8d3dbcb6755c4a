r"""The distortion of blocks whose scales were rounded, as an integral over the scale: see `theory.scale_formats`.

Given S = s and the stored scale s' the error of an element is a sum of partial moments, as in `theory.block_source`.
Its expectation is an integral over s, smooth between the points where s' jumps; it is summed over all values of s'.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import brentq

from theory import block_maximum
from theory.block_source import order_statistic_range
from theory.codebook_design import midpoints
from theory.codebooks import Codebook

# Gauss-Legendre on a piece whose ends have a ratio up to this, and on a wider one.
_NARROW, _FEW, _MANY = 1.05, np.polynomial.legendre.leggauss(6), np.polynomial.legendre.leggauss(24)


class StoredScales:
    """The distortion of blocks as a function of the scale s and of the stored one."""

    def __init__(self, codebook: Codebook, n: int, source: Any, encode: str) -> None:
        self.levels, self.n, self.source, self.exact = codebook.levels, n, source, encode == "exact"
        self.edges, self.gaps = midpoints(self.levels), np.diff(self.levels)
        self.signs = (1.0,) if codebook.scaling == "signed" else (-1.0, 1.0)

    def cdf(self, s: Any) -> Any:
        """P(S <= s)."""
        return (2 * self.source.partial_moment(0, 0.0, s)) ** self.n

    def survival(self, s: float) -> float:
        """P(S > s), however small."""
        return -math.expm1(self.n * math.log1p(-2 * self.source.partial_moment(0, s, np.inf)))

    def density(self, s: Any) -> Any:
        """Density of S."""
        return self.n * (2 * self.source.partial_moment(0, 0.0, s)) ** (self.n - 1) * 2 * self.source.pdf(s)

    def error(self, s: Any, stored: Any) -> Any:
        """Density of S times the mean squared error of the elements, for each s and its stored scale."""
        coder = s if self.exact else stored
        # Stored as 0 a block is 0, whatever the levels.
        at_ends = [sign * s / np.where(coder == 0, 1.0, coder) for sign in self.signs]
        chosen = [self.levels[np.searchsorted(self.edges, y)] for y in at_ends]
        result = sum((sign * s - stored * level) ** 2 for sign, level in zip(self.signs, chosen, strict=True))
        result = result / len(self.signs)
        if self.n > 1:
            m0, m1, m2 = (self.source.partial_moment(k, 0.0, s) for k in range(3))
            x = np.minimum(np.abs(self.edges)[:, None] * coder, s)
            e0, e1 = (self.source.partial_moment(k, 0.0, x) for k in range(2))
            first, last = self.levels[0], self.levels[-1]
            product = (last - first) * m1 - self.gaps @ e1  # E[x Q; |x| < s], by parts as in `truncated_error`
            square = (first**2 + last**2) * m0 - 2 * (self.gaps * np.abs(self.edges)) @ e0  # E[Q**2; |x| < s]
            result = result + (self.n - 1) * (2 * m2 - 2 * stored * product + stored**2 * square) / (2 * m0)
        return self.density(s) * result / self.n

    def over_cells(self, values: Any, ends: Any) -> float:
        """The integral of `error` over scales stored as `values`, in cells between `ends`."""
        cuts = np.r_[ends, np.linspace(ends[0], ends[-1], 9)]  # panels that resolve the law of S
        if not self.exact:  # an edge between two levels passes an end of the block
            kinks = np.abs(self.edges)[:, None] * values
            cuts = np.r_[cuts, kinks[(kinks > ends[:-1]) & (kinks < ends[1:])]]
        cuts = np.unique(cuts)
        low, high = cuts[:-1], cuts[1:]
        stored = values[np.searchsorted(ends, (low + high) / 2) - 1]
        total = 0.0
        for chosen, (nodes, weights) in ((high > _NARROW * low, _MANY), (high <= _NARROW * low, _FEW)):
            half = (high - low)[chosen, None] / 2
            s = low[chosen, None] + half * (1 + nodes)
            error = self.error(s.ravel(), np.broadcast_to(stored[chosen, None], s.shape).ravel())
            total += float(np.sum(error.reshape(s.shape) * half * weights))
        return total


def doubly_quantized(blocks: StoredScales, q: Any, count: int) -> float:
    r"""The expectation over M, the largest of N = `count` deviations of scales from their mean.

    They are rounded to the levels `q` times M.

    Given M = m, N - 1 of them are iid within m and one is +-m. With H(m) = P(|S - mu| <= m), h its derivative and I
    the density times the error:

    .. math:: \int (N-1) H^{N-2} h \int_{|s-\mu|<m} I\,ds + H^{N-1}[I(\mu+m) + I(\mu-m)]\,dm
    """
    n, source = blocks.n, blocks.source
    mean = float(block_maximum.absmax_mean(n, source))
    last = order_statistic_range(source, n, n)[1]

    def beyond(m: float) -> float:  # P(|S - mu| > m)
        return blocks.survival(mean + m) + (blocks.cdf(mean - m) if m < mean else 0.0)

    lowest = brentq(lambda m: beyond(m) + math.expm1(math.log(1e-15) / count), 0.0, last)
    highest = brentq(lambda m: beyond(m) - 1e-17 / count, lowest, last)
    nodes, weights = _MANY
    total = 0.0
    # From mu on a deviation can only be upwards.
    for a, b in pairwise(np.unique(np.clip([*np.geomspace(lowest, highest, 4), mean], lowest, highest))):
        for m, weight in zip(a + (b - a) * (1 + nodes) / 2, (b - a) / 2 * weights, strict=True):
            low, high, within = max(mean - m, 0.0), mean + m, 1 - beyond(m)
            at = np.array([low, high])[int(low == 0.0) :]
            values = mean + m * q
            inside = blocks.over_cells(values, np.clip(np.r_[low, mean + m * midpoints(q), high], low, high))
            ends = float(blocks.error(at, values[[0, -1]][int(low == 0.0) :]).sum())
            h = float(blocks.density(at).sum())
            total += float(weight * within ** (count - 2) * ((count - 1) * h * inside + within * ends))
    return total
