"""The nearest-level quantizer of a codebook, and the codebook that is stationary for a source.

Everything is written against partial moments (`theory.sources.Source`), which is why the same solver serves a
density, a histogram, and a source seen through absmax scaling (`theory.block_scaling`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import solveh_banded

from theory import arithmetic
from theory.arithmetic import Number, total
from theory.domain import increasing
from theory.sources import Histogram


class Moments(Protocol):
    """What a quantizer asks of a `theory.sources.Source`, and `theory.block_source.BlockSource` has too."""

    @property
    def variance(self) -> Number: ...
    def partial_moment(self, k: int, lo: Number, hi: Number) -> Number: ...


@dataclass(frozen=True, eq=False)
class Quantizer:
    """A scalar quantizer designed for a source.

    Attributes
    ----------
    levels : array of shape (N,)
        Reproduction values, increasing.
    thresholds : array of shape (N - 1,)
        Ends of the cells between them.
    mse : number
        Mean squared error on the source, in its units squared.
    rate : number
        Bits per sample: log2 N at fixed rate, the entropy of the cells when entropy-coded.
    status : str
        "converged", or what went wrong.
    iterations : int
    residual : float
        What is left of the optimality conditions, relative to sigma.
    certificate : str
        What ball arithmetic has proved of this quantizer (`theory.quantizer_balls`); empty for one in floating point.
    """

    levels: Any
    thresholds: Any
    mse: Any
    rate: Any
    status: str = "converged"
    iterations: int = 0
    residual: float = 0.0
    certificate: str = ""


def midpoints(levels: Any) -> Any:
    """Ends of the nearest-level cells: halfway between neighbours."""
    return (levels[1:] + levels[:-1]) / 2


def cell_moments(source: Moments, thresholds: Any, orders: int = 3) -> tuple[Any, ...]:
    """Partial moments of orders 0, 1 and, for `orders` = 3, 2 over the cells that `thresholds` cut the line into."""
    xp = arithmetic.of(thresholds, source.variance)
    ends = [xp.number(np.asarray([sign * np.inf])) for sign in (-1, 1)]
    lo, hi = np.concatenate([ends[0], thresholds]), np.concatenate([thresholds, ends[1]])
    return tuple(source.partial_moment(k, lo, hi) for k in range(orders))


def mse(levels: Any, source: Moments) -> Number:
    r"""Mean squared error of the nearest-level quantizer, in the units of the source squared.

    .. math:: D = \sum_i \int_{t_{i-1}}^{t_i} (x - l_i)^2\,dP = \sum_i M_2^{(i)} - 2 l_i M_1^{(i)} + l_i^2 M_0^{(i)}

    with thresholds :math:`t_i = (l_i + l_{i+1})/2`.

    Parameters
    ----------
    levels : sequence of length N
        Strictly increasing.
    source : Source
        Its arithmetic, or that of the levels, is the result's: with balls, a rigorous enclosure.

    Returns
    -------
    number

    Raises
    ------
    ValueError
        If the levels do not increase.

    Notes
    -----
    The three terms cancel to the square of the step: N = 1024 levels cost seven of float64's sixteen digits.

    Examples
    --------
    >>> from theory.sources import GGD
    >>> round(float(mse([-1.0, 1.0], GGD(2.0))), 6)
    0.404231
    """
    levels = np.asarray(levels, dtype=object if arithmetic.of(levels).name != "float" else np.float64)
    increasing("levels", levels)
    m0, m1, m2 = cell_moments(source, midpoints(levels))
    return total(m2 - 2 * levels * m1 + levels**2 * m0)


def mae(levels: Any, source: Moments) -> Number:
    r"""Mean absolute error of the nearest-level quantizer, in the units of the source.

    Each cell is cut at its level: :math:`E|X-l| = l(M_0^- - M_0^+) + M_1^+ - M_1^-`. Parameters as `mse`.

    >>> from theory.sources import GGD
    >>> abs(float(mae([0.0], GGD(1.0))) - 0.5**0.5) < 1e-15
    True
    """
    levels = np.asarray(levels, dtype=object if arithmetic.of(levels).name != "float" else np.float64)
    increasing("levels", levels)
    cuts = np.empty(2 * len(levels) - 1, dtype=levels.dtype)
    cuts[::2], cuts[1::2] = levels, midpoints(levels)
    m0, m1 = cell_moments(source, cuts, orders=2)
    below, above = slice(0, None, 2), slice(1, None, 2)
    return total(levels * (m0[below] - m0[above]) + m1[above] - m1[below])


def stationary(
    levels: Any, source: Any, fixed: Any = (), symmetric: bool = False, max_iterations: int = 400
) -> Quantizer:
    r"""Descend from `levels` to a codebook with every level that is not `fixed` at the centroid of its cell.

    Parameters
    ----------
    levels : array of shape (N,)
        Start, increasing.
    source : Source
        With ``pdf``.
    fixed : sequence of int
        Indices of the levels that stay.
    symmetric : bool
        Start and source are symmetric: keep the threshold at 0 where it is, which takes away the one direction
        in which the symmetric point may be a saddle.

    Returns
    -------
    Quantizer
        Its status says whether the residual ``max |l - M1/M0| / sigma`` came down to rounding.

    Notes
    -----
    Levenberg-Marquardt: :math:`(H + \mu\,\mathrm{diag} M_0)\,\delta = M_1 - l M_0` with half the Hessian of D,
    :math:`H_{ii} = M_0 - c_i - c_{i-1}, H_{i,i+1} = -c_i, c_i = (l_{i+1}-l_i) p(t_i)/4`. Large mu is a short Lloyd
    step, mu = 0 Newton's; D never rises but by rounding.
    """
    free = np.ones(len(levels), dtype=bool)
    free[list(fixed)] = False
    xp = arithmetic.of(levels, source.variance)
    sigma = xp.sqrt(source.variance)
    unit = 2.0**-52 if xp.name == "float" else arithmetic.epsilon()
    state = _State(levels, source, free)
    best, since_best, mu, status = state, 0, 1.0, f"tolerance not reached in {max_iterations} iterations"
    rounding = 8 * unit * source.variance  # of the mse, a sum of terms that cancel
    iteration = 0
    while iteration < max_iterations:
        iteration += 1
        since_best = 0 if state.residual < best.residual / 2 else since_best + 1
        best = min(best, state, key=lambda s: s.residual)
        # What no step lowers any more, below 1e-9 sigma, is rounding in cells of little mass.
        if best.residual <= 8 * unit * sigma or (since_best >= 3 and best.residual < 2.0**22 * unit * sigma):
            status = "converged"
            break
        while True:
            step = state.step(mu, symmetric)
            trial = None if step is None else state.levels + step
            if trial is not None and all(trial[1:] > trial[:-1]):
                moved = _State(trial, source, free)
                if moved.mse <= state.mse + rounding:
                    break
            mu = max(8 * mu, 1e-3)
            if mu > 1e9:
                return best.quantizer("no step lowers the distortion", iteration, sigma)
        state, mu = moved, (mu / 16 if mu > 1e-10 else 0.0)
    return best.quantizer(status, iteration, sigma)


class _State:
    """A codebook with the moments of its cells."""

    def __init__(self, levels: Any, source: Any, free: Any) -> None:
        self.levels, self.source, self.free = levels, source, free
        self.thresholds = midpoints(levels)
        self.m0, self.m1, m2 = cell_moments(source, self.thresholds)
        self.mse = total(m2 - 2 * levels * self.m1 + levels**2 * self.m0)
        occupied = self.m0 > 0  # an empty cell keeps its level
        centroids = np.where(occupied, self.m1 / np.where(occupied, self.m0, 1), levels)
        self.lloyd = np.where(free, centroids - levels, 0 * levels)
        self.residual = max(abs(self.lloyd))

    def step(self, mu: float, symmetric: bool) -> Any:
        """The damped Newton step; None where the matrix is not definite."""
        if len(self.levels) == 1:
            return self.lloyd
        coupling = (self.levels[1:] - self.levels[:-1]) * self.source.pdf(self.thresholds) / 4
        if symmetric and len(self.levels) % 2 == 0:
            coupling[len(coupling) // 2] *= 0
        zero = np.asarray([0 * self.m0[0]])
        diagonal = (1 + mu) * self.m0 - np.concatenate([coupling, zero]) - np.concatenate([zero, coupling])
        # A fixed level has the equation "step = 0".
        diagonal = np.where(self.free, diagonal, 1 + 0 * diagonal)
        off = np.where(self.free[1:] & self.free[:-1], -coupling, 0 * coupling)
        return solve_definite(diagonal, off, np.where(self.free, self.lloyd * self.m0, 0 * self.m0))

    def quantizer(self, status: str, iterations: int, sigma: Any) -> Quantizer:
        residual = float(self.residual / sigma) if sigma else 0.0
        return Quantizer(self.levels, self.thresholds, self.mse, None, status, iterations, residual)


def best_on_atoms(histogram: Histogram, n: int) -> Quantizer:
    """The n-level quantizer with the least mean squared error on a histogram: the optimum, not a local one.

    Dynamic programming over the partitions of the m atoms into n runs. The best start of the last run does not fall
    when its end rises [Wu1991], so each end is searched between the starts of its neighbours: O(n m log m).
    """
    m0, m1, m2 = histogram._cumulative.astype(float)
    m = len(m0) - 1

    def error(start: Any, end: Any) -> Any:  # of atoms start ... end - 1 about their mean
        return m2[end] - m2[start] - (m1[end] - m1[start]) ** 2 / (m0[end] - m0[start])

    least = np.concatenate([[0.0], error(0, np.arange(1, m + 1))])  # with one run, by its end
    starts = [np.zeros(m + 1, dtype=np.int32)]
    for runs in range(2, n + 1):
        fewer, least = least, np.full(m + 1, np.inf)
        start = np.full(m + 1, runs - 1, dtype=np.int32)
        stride = 1 << (m - runs + 1).bit_length()
        while stride > 1:  # ends at odd multiples of half the stride, between those that are done
            ends = np.arange(runs - 1 + stride // 2, m + 1, stride)
            low, above = start[ends - stride // 2], ends + stride // 2
            high = np.minimum(np.where(above <= m, start[np.minimum(above, m)], m), ends - 1)
            first = np.concatenate([[0], np.cumsum(high - low + 1)])
            of = np.repeat(np.arange(len(ends)), high - low + 1)
            tried = np.arange(first[-1]) - first[of] + low[of]
            values = fewer[tried] + error(tried, ends[of])
            least[ends] = np.minimum.reduceat(values, first[:-1])
            hits = np.flatnonzero(values == least[ends][of])
            start[ends] = tried[hits[np.searchsorted(hits, first[:-1])]]
            stride //= 2
        starts.append(start)
    cuts = [m]
    for start in reversed(starts):
        cuts.append(int(start[cuts[-1]]))
    mass, first_moment = (np.diff(histogram._cumulative[k][cuts[::-1]]) for k in (0, 1))
    levels = (first_moment / mass).astype(float)
    return _State(levels, histogram, np.ones(n, dtype=bool)).quantizer("converged", n, math.sqrt(histogram.variance))


def solve_definite(diagonal: Any, off: Any, rhs: Any) -> Any:
    """Solve a symmetric tridiagonal system, or return None if it is not positive definite."""
    if diagonal.dtype != object:
        if len(diagonal) == 1:  # scipy's tridiagonal solver wants an off-diagonal
            return rhs / diagonal if diagonal > 0 else None
        try:
            return solveh_banded(np.stack([np.r_[0, off], diagonal]), rhs, check_finite=False)
        except np.linalg.LinAlgError:
            return None
    d, x = diagonal.copy(), rhs.copy()
    for i in range(len(d)):
        if i:
            factor = off[i - 1] / d[i - 1]
            d[i] -= factor * off[i - 1]
            x[i] -= factor * x[i - 1]
        if not d[i] > 0:
            return None
    for i in reversed(range(len(d))):
        x[i] = (x[i] - (off[i] * x[i + 1] if i + 1 < len(d) else 0)) / d[i]
    return x
