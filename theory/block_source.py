r"""A source seen through block scaling: the law of an element divided by the scale of its block.

A block of n iid draws is divided by S, the k-th smallest of its magnitudes (k = n: absmax). Given S = s, k - 1
of the others are iid truncated to [-s, s], n - k are iid outside, and one is +-s itself. So, for any function g,

.. math:: \frac1n E\sum_i g(X_i, S) = \int f_{(k)}(s) \Bigl[\frac{k-1}{n}\frac{E[g;|X|<s]}{F(s)}
          + \frac{n-k}{n}\frac{E[g;|X|>s]}{1-F(s)} + \frac{g(s,s)+g(-s,s)}{2n}\Bigr] ds .

With g = S**power times a function of X/S this is again a source on the normalized line: it has partial moments.
`theory.codebook_design.mse` of a codebook on it is the exact distortion under block scaling, and the codebook
stationary for it is the best one. No approximation is involved but the quadrature over s.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np
from scipy.special import betaincinv

from theory import arithmetic, codebook_design
from theory.domain import COUNT, accept
from theory.sources import GGD, Histogram, Source

# The error of a distortion is then below 1e-12 for beta in [0.3, 8] and n <= 4096; with 48 nodes, 1e-11.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(56)
_BELOW, _ABOVE = 1e-13, 1e-19  # probability of S left out: a large S weighs more than a small one


def order_statistic_range(source: Any, n: int, k: int) -> tuple[float, float]:
    """Ends between which the k-th smallest of n magnitudes lies but for a probability of 1e-13; float64."""
    # F(S) ~ Beta(k, n - k + 1): its far quantiles bound the range, from each side in its own tail.
    low = max(float(source.quantile(0.5 + betaincinv(k, n - k + 1, _BELOW) / 2)), 0.0)
    return low, -float(source.quantile(betaincinv(n - k + 1, k, _ABOVE) / 2))


def order_statistic(source: Any, n: int, k: int) -> tuple[Any, Any, Any]:
    """Quadrature for the k-th smallest of n magnitudes: nodes s, weights (sum 1), F(s); float64."""
    low, high = order_statistic_range(source, n, k)
    # With s = v**p, (s/alpha)**beta is about cubic in v, and the law of S looks alike for every beta and n; p is an
    # integer to leave powers of s smooth at 0.
    p = math.ceil(3 / source.beta) if isinstance(source, GGD) else 2
    v_low, v_high = low ** (1 / p), high ** (1 / p)
    v = v_low + (v_high - v_low) * (1 + _NODES) / 2
    s = v**p
    below = 2 * source.partial_moment(0, 0.0, s)
    log_density = (k - 1) * np.log(below)
    if k < n:
        log_density += (n - k) * np.log(2 * source.partial_moment(0, s, np.inf))
    weights = np.exp(log_density - log_density.max()) * source.pdf(s) * v ** (p - 1) * _WEIGHTS
    return s, weights / weights.sum(), below


def truncated_error(levels: Any, s: Any, source: Any) -> Any:
    r"""Squared error of the levels scaled by s on the part of a symmetric source within [-s, s], for each s.

    .. math:: \int_{-s}^{s} (t - s\,Q(t/s))^2 dP = 2 G_2(s) - 2 s (l_N - l_1) G_1(s) + s^2 (l_1^2 + l_N^2) G_0(s)
              - 2 s \sum_i (l_{i+1} - l_i) \bigl[|e_i| s\,G_0(|e_i| s) - G_1(|e_i| s)\bigr]

    with :math:`G_k(x) = \int_0^x t^k dP` and edges :math:`e_i = (l_i + l_{i+1})/2`: summation by parts over the
    cells. In any arithmetic.
    """
    edges, gaps = abs(levels[1:] + levels[:-1]) / 2, levels[1:] - levels[:-1]
    if np.all(levels == -levels[::-1]):  # an edge at 0 contributes nothing, the others come in pairs
        edges, gaps = edges[len(levels) // 2 :], 2 * gaps[len(levels) // 2 :]
    x = edges[:, None] * s
    inner = gaps[:, None] * (x * source.partial_moment(0, 0.0, x) - source.partial_moment(1, 0.0, x))
    return outermost_error(levels, s, source, 0.0, s) - 2 * s * inner.sum(axis=0)


def truncated_absolute_error(levels: Any, s: Any, source: Any) -> Any:
    r"""Absolute error of the levels scaled by s on the part of a symmetric source within [-s, s], for each s.

    .. math:: \int_{-s}^{s} |t - s\,Q(t/s)|\,dP = 2 s \min_i|l_i|\,G_0(s) + 2\sum_i T(|l_i|) - 2\sum_i T(|e_i|),
              \qquad T(c) = \int_{cs}^{s} (t - c s)\,dP

    with the notation of `truncated_error`: the folded error is piecewise linear, its slope rises by 2 at a level and
    falls by 2 at an edge. In any arithmetic.
    """
    kinks = abs(np.concatenate([levels, (levels[1:] + levels[:-1]) / 2]))
    signs = np.concatenate([np.ones(len(levels), dtype=int), -np.ones(len(levels) - 1, dtype=int)])
    x = kinks[:, None] * s
    to_end = [source.partial_moment(k, 0.0, s) for k in (0, 1)]
    m0, m1 = (whole - source.partial_moment(k, 0.0, x) for k, whole in enumerate(to_end))
    least = functools.reduce(arithmetic.of(levels).minimum, abs(levels))
    return 2 * s * least * to_end[0] + 2 * (signs[:, None] * (m1 - x * m0)).sum(axis=0)


def outermost_error(levels: Any, s: Any, source: Any, lo: Any, hi: Any, exponent: int = 2) -> Any:
    """Error on lo < |t| < hi when t > 0 is mapped to the last level and t < 0 to the first.

    The absolute error (`exponent` = 1) needs lo >= s.
    """
    if exponent == 1:
        m0, m1 = (source.partial_moment(k, lo, hi) for k in range(2))
        return 2 * m1 - s * (levels[-1] - levels[0]) * m0
    m0, m1, m2 = (source.partial_moment(k, lo, hi) for k in range(3))
    return 2 * m2 - 2 * s * (levels[-1] - levels[0]) * m1 + s**2 * (levels[0] ** 2 + levels[-1] ** 2) * m0


def end_error(levels: Any, scaling: str, exponent: int = 2) -> Any:
    """Error, squared or absolute and relative to the scale, of the element that is the scale."""
    above = (1 - levels[-1]) ** exponent
    return above if scaling == "signed" else (above + (1 + levels[0]) ** exponent) / 2


class BlockSource:
    """The normalized element of a block, as a source whose mass is ``E[S**power]``.

    Parameters
    ----------
    source : GGD, ScaleMixture or Histogram
        Law of the elements, symmetric about 0 unless it is a `Histogram`.
    n : int
        Elements in a block, >= 1.
    k : int, optional
        Scale by the k-th smallest magnitude, 1 <= k <= n; n (absmax) if not given.
    power : int
        An error on the normalized line is weighed by S**power: 2 makes the mean squared error that of the elements
        themselves, 1 the mean absolute error, and 0 leaves the errors of X/S.
    scaling : {"absmax", "signed"}
        Whether the scale carries the sign of its element, which then is always mapped to +1; for any k.
    """

    variance = 1.0  # the unit of the normalized line

    def __init__(
        self, source: Source, n: int, k: int | None = None, power: int = 2,
        scaling: Literal["absmax", "signed"] = "absmax",
    ) -> None:  # fmt: skip
        _, n, k = accept(n=(n, COUNT), k=(n if k is None else k, COUNT))
        self.n, self.k = n, k = int(n), int(k)
        if k > n:
            raise ValueError(f"k = {k} is outside [1, n = {n}]: a block has no such order statistic")
        self.source, self.power = source, power
        self.continuous = bool(source.continuous)
        if isinstance(source, Histogram):
            if k != n or scaling != "absmax":
                raise ValueError("a Histogram is block-scaled by absmax only; give a GGD for other scales")
            self._discrete = _DiscreteBlocks(source, n)
            return
        self._s, self._weights, below = order_statistic(source, n, k)
        scaled = self._weights * self._s**power / n
        self._inside = (k - 1) * scaled / below
        self._outside = (n - k) * scaled / (2 * source.partial_moment(0, self._s, np.inf)) if k < n else 0 * scaled
        signs = {"absmax": (0.5, 0.5), "signed": (0.0, 1.0)}[scaling]
        self._ends = [(end, sign * float(scaled.sum())) for end, sign in zip((-1.0, 1.0), signs, strict=True)]

    def scale_moment(self, power: float) -> float:
        """E[S**power]."""
        if isinstance(self.source, Histogram):
            return self._discrete.scale_moment(power)
        return float(self._weights @ self._s**power)

    def mse(self, levels: Any) -> float:
        """What `theory.codebook_design.mse` of these levels on this source is, sooner; levels within [-1, 1]."""
        if isinstance(self.source, Histogram):
            return float(codebook_design.mse(levels, self))
        return self._error(levels, truncated_error, 2)

    def mae(self, levels: Any) -> float:
        """What `theory.codebook_design.mae` of these levels on this source is, sooner; levels within [-1, 1]."""
        if isinstance(self.source, Histogram):
            return float(codebook_design.mae(levels, self))
        return self._error(levels, truncated_absolute_error, 1)

    def clipping_error(self) -> float:
        """E[(|X| - S)**2; |X| > S], a lower bound on the `mse` of all levels within [-1, 1]; for `power` = 2."""
        ends = np.array([-1.0, 1.0])
        return float(outermost_error(ends, self._s, self.source, self._s, np.inf) @ (self._outside / self._s**2))

    def _error(self, levels: Any, truncated: Any, exponent: int) -> float:
        s, unit = self._s, self._s**exponent
        error = truncated(levels, s, self.source) @ (self._inside / unit)
        if self.k < self.n:
            error += outermost_error(levels, s, self.source, s, np.inf, exponent) @ (self._outside / unit)
        return float(error + sum(mass * np.min(abs(levels - end)) ** exponent for end, mass in self._ends))

    def pdf(self, y: Any) -> Any:
        """Density on the normalized line, atoms at +-1 apart."""
        y = np.asarray(y, dtype=float)
        weight = np.where(np.abs(y[..., None]) <= 1, self._inside, self._outside)
        return np.sum(weight * self._s * self.source.pdf(y[..., None] * self._s), axis=-1)  # type: ignore[attr-defined]

    def partial_moment(self, k: int, lo: Any, hi: Any) -> Any:
        """Integral of ``y**k`` over (lo, hi] on the normalized line; broadcasts."""
        lo, hi = np.broadcast_arrays(np.asarray(lo, dtype=float), np.asarray(hi, dtype=float))
        edges, where = np.unique(np.concatenate([lo.ravel(), hi.ravel()]), return_inverse=True)
        if isinstance(self.source, Histogram):
            primitive = self._discrete.primitive(k, edges, self.power)
        else:
            primitive = self._primitive(k, edges)
        values = primitive[where]
        return (values[lo.size :] - values[: lo.size]).reshape(lo.shape)[()]

    def _primitive(self, k: int, edges: Any) -> Any:
        """Moment of (0, e] for each edge e, plus the atoms at or below it."""
        inner = np.clip(edges, -1.0, 1.0)
        to_inner = self.source.partial_moment(k, 0.0, inner[:, None] * self._s)
        rescale = self._s ** (-k)
        result = to_inner @ (self._inside * rescale)
        beyond = np.abs(edges) > 1
        if self.k < self.n and beyond.any():
            to_edge = self.source.partial_moment(k, 0.0, edges[beyond, None] * self._s)
            result[beyond] += (to_edge - to_inner[beyond]) @ (self._outside * rescale)
        for end, mass in self._ends:
            result += np.where(edges >= end, mass * end**k, 0.0)
        return result


class _DiscreteBlocks:
    r"""Blocks of iid draws from atoms, ties included.

    With magnitudes a_1 < a_2 < ... and F_j = P(|X| <= a_j), the event {max = a_j} is {max <= a_j} less
    {max <= a_(j-1)}, so E[g(X_1, S)] = sum_j E[g(X_1, a_j); |X_1| <= a_j] F_j**(n-1)
    - E[g(X_1, a_j); |X_1| <= a_(j-1)] F_(j-1)**(n-1). The maximum itself is among the X_1.
    """

    def __init__(self, histogram: Histogram, n: int) -> None:
        magnitudes, where = np.unique(np.abs(histogram.values), return_inverse=True)
        p = np.bincount(where, weights=histogram.probabilities)
        cumulative = np.minimum(np.cumsum(p), 1.0)
        self.histogram = histogram
        self.scales = magnitudes
        self.inner = np.concatenate([[-1.0], magnitudes[:-1]])  # nothing has magnitude <= -1
        self.weight = cumulative ** (n - 1)
        self.inner_weight = np.concatenate([[0.0], self.weight[:-1]])
        self.maximum = np.diff(cumulative**n, prepend=0.0)

    def scale_moment(self, power: float) -> float:
        return float(self.maximum @ self.scales**power)

    def primitive(self, k: int, edges: Any, power: int) -> Any:
        values, sums = self.histogram.values, self.histogram._cumulative[k]
        nonzero = self.scales > 0
        scales, result = self.scales[nonzero], np.zeros(len(edges))
        rescale = scales ** float(power - k)
        for radius, weight in ((self.inner[nonzero], self.inner_weight[nonzero]), (scales, self.weight[nonzero])):
            sign = 1.0 if radius is scales else -1.0
            first = np.searchsorted(values, -radius, side="left")
            last = np.searchsorted(values, radius, side="right")
            for i, edge in enumerate(edges):
                reached = np.searchsorted(values, edge * scales, side="right") if np.isfinite(edge) else (
                    last if edge > 0 else first)  # fmt: skip
                moment = sums[np.clip(reached, first, np.maximum(first, last))] - sums[first]
                result[i] += sign * float(np.sum(weight * rescale * moment))
        return result
