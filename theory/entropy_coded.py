r"""Entropy-constrained scalar quantizers (ECSQ): the rate is the entropy of the cells.

At high rate a uniform quantizer is optimal among them and loses 1/2 log2(2 pi e/12) = 0.254614 bit to the
Shannon lower bound [GishPierce1968].
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import optimize
from scipy.linalg import solve_banded

from theory import arithmetic, entropy_coded_atoms, entropy_coded_balls, shannon
from theory.arithmetic import Number
from theory.codebook_design import Quantizer, cell_moments
from theory.domain import POSITIVE, accept
from theory.quantizer_balls import in_mpmath
from theory.sources import GGD, Histogram, Source
from theory.units import from_nats, to_nats

GISH_PIERCE = math.log2(2 * math.pi * math.e / 12) / 2
"""Bits that cubic cells lose to Shannon's lower bound at high rate."""

_NEGLIGIBLE = 1e-20  # probability of the tail that the two outermost cells share
_FROZEN = 1e-18  # probability beyond a threshold that is too little for it to be worth moving


def ecsq(source: Source, *, step: Number | None = None, rate: Number | None = None) -> Quantizer:
    r"""Uniform-threshold quantizer with centroids as levels, entropy-coded; a cell is centred on 0.

    Parameters
    ----------
    source : Source
        float64, about symmetric around 0; or a `GGD` of mpf or of balls.
    step : number, optional
        Width of the cells, > 0, in the units of the source.
    rate : number, optional
        Entropy of the cells in bits, > 0, for which the step is solved. Give one of the two.

    Returns
    -------
    Quantizer
        Its rate is the entropy of its cells, in bits per sample. For a source of balls, rate and mse hold those of
        the quantizer of infinitely many cells, and for a given rate the thresholds hold those of one that has it;
        for one of mpf they are rounded from such balls.

    Raises
    ------
    ValueError
        If not exactly one of `step` and `rate` is given, one is not positive, or no step reaches the rate.
    ArithmeticError
        If balls cannot show that a step has the rate.

    Notes
    -----
    In float64 cells go out to where the tail holds 1e-20 of the probability; the last two are half-lines. With mpf
    and balls what lies beyond the cells summed is bounded (`theory.entropy_coded_balls`).

    References: [GishPierce1968]; [FarvardinModestino1984] for the optimum of `optimal_ecsq`.

    Examples
    --------
    >>> from theory.sources import GGD
    >>> q = ecsq(GGD(2.0), rate=4)
    >>> round(float(q.rate), 9), round(math.log2(float(q.mse) * 4**4) / 2, 4)
    (4.0, 0.2546)
    """
    if (step is None) == (rate is None):
        raise ValueError("give ecsq either step= or rate=, not both or neither")
    xp = arithmetic.of(source.variance)
    if xp.name == "mpmath" and isinstance(source, GGD):
        return in_mpmath(lambda law: ecsq(law, step=step, rate=rate), source)
    if xp.name == "ball" and isinstance(source, GGD):
        name, given = ("rate", rate) if step is None else ("step", step)
        _, given = accept(**{name: (xp.number(given), POSITIVE)})
        if step is not None:
            return entropy_coded_balls.at_step(source, given)
        near = ecsq(GGD(float(source.beta), float(source.sigma)), rate=float(given))
        return entropy_coded_balls.at_rate(source, given, 2 * float(np.abs(near.thresholds).min()))
    reach, sigma = _reach(source), math.sqrt(float(source.variance))
    if step is None:
        _, rate = accept(rate=(rate, POSITIVE))

        def excess(log_step: float) -> float:
            return float(_uniform_threshold(source, math.exp(log_step), reach).rate - rate)

        # At high rate the step is sqrt(12 D); from there outward by octaves to a sign change.
        finest = math.log(reach / 20_000)
        low = high = max(math.log(sigma * math.sqrt(12)) - float(rate) * math.log(2), finest)
        while excess(low) < 0:
            if low == finest:
                most = excess(low) + rate
                raise ValueError(f"rate = {rate} bits needs over 40,000 cells of this source (at most {most:.3f})")
            low = max(low - math.log(2), finest)
        while excess(high) > 0:
            high += math.log(2)
            if high > math.log(4 * reach):
                raise ValueError(f"rate = {rate} bits is too small: the step would pass the source's whole range")
        step = math.exp(low if low == high else optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))
    _, step = accept(step=(step, POSITIVE))
    if 2 * reach / step > 4e6:
        raise ValueError(f"step = {step} makes more than 4 million cells: give at least {sigma * 1e-5:.3g}")
    return _uniform_threshold(source, float(step), reach)


def _reach(source: Any) -> float:
    """Half-width of the interval outside which the source has 1e-20 of its probability."""
    return max(-float(source.quantile(_NEGLIGIBLE)), float(source.quantile(1 - 2.0**-53)))


def _uniform_threshold(source: Source, step: float, reach: float) -> Quantizer:
    cells = max(math.ceil(reach / step - 0.5), 0)
    return _Cells(source, (np.arange(-cells, cells) + 0.5) * step).quantizer()


class _Cells:
    """The occupied cells between thresholds, their centroids as levels; nats."""

    def __init__(self, source: Any, thresholds: Any, lagrangian: float = 0.0) -> None:
        m0, m1, m2 = cell_moments(source, thresholds)
        occupied = m0 > 1e-30
        self.source, self.lagrangian = source, lagrangian
        self.p, self.levels = m0[occupied], m1[occupied] / m0[occupied]
        # Between two occupied cells the threshold above the lower one is kept: the cells between hold nothing.
        self.thresholds = np.append(thresholds, np.inf)[occupied][:-1]
        # Within a cell E(x - l)^2 = M2 - l M1: the levels are centroids.
        self.mse = float(np.sum(m2[occupied] - self.levels * m1[occupied]))
        self.rate = -float(np.sum(self.p * np.log(self.p)))
        self.gaps = np.diff(self.levels)
        # A point is equally costly to code as either of two neighbouring levels at their middle plus this.
        self.shift = lagrangian / 2 * -np.diff(np.log(self.p)) / self.gaps
        # Out there a threshold stays. It costs nothing, and the last cell, a half-line much heavier than its
        # neighbour when the tail is heavy, would push the others inward one after the other for ever.
        tail = np.minimum(np.cumsum(self.p[:-1]), np.cumsum(self.p[:0:-1])[::-1])
        self.moving = tail > _FROZEN
        self.miss = np.where(
            self.moving, (self.levels[1:] + self.levels[:-1]) / 2 + self.shift - self.thresholds, 0.0
        )
        # Weighted: a threshold in a tail of 1e-20 may be far from its place and nothing depends on it.
        self.residual = math.sqrt(np.sum((self.p[1:] + self.p[:-1]) / 2 * self.miss**2))
        self.cost = self.mse + lagrangian * self.rate

    def quantizer(self, *report: Any) -> Quantizer:
        return Quantizer(self.levels, self.thresholds, self.mse, from_nats(self.rate), *report)

    def newton(self) -> Any:
        """Thresholds that meet the optimality conditions to first order."""
        t, ratio = self.thresholds, self.shift / self.gaps
        f = self.source.pdf(t) * self.moving
        unit = self.lagrangian / 2 / self.gaps
        # Derivatives of (level, ln p) by a threshold over f there: of the cell below it, and of the cell above it.
        grow = (t - self.levels[:-1]) / self.p[:-1], 1 / self.p[:-1]
        shrink = (self.levels[1:] - t) / self.p[1:], -1 / self.p[1:]
        own = (0.5 + ratio) * grow[0] + unit * grow[1] + (0.5 - ratio) * shrink[0] - unit * shrink[1]
        above = (0.5 - ratio[:-1]) * grow[0][1:] - unit[:-1] * grow[1][1:]
        below = (0.5 + ratio[1:]) * shrink[0][:-1] + unit[1:] * shrink[1][:-1]
        moving = self.moving
        bands = [
            np.append(0, f[1:] * above * moving[:-1]),
            f * own - 1,
            np.append(f[:-1] * below * moving[1:], 0),
        ]
        return t - solve_banded((1, 1), np.stack(bands), self.miss, check_finite=False)

    def lower(self) -> _Cells:
        """One step of Newton's method if it comes nearer and costs no more, of Chou, Lookabaugh and Gray's if not."""
        if self.source.continuous and len(self.thresholds):
            moved = self.newton()
            if np.all(np.diff(moved) > 0) and np.all(np.isfinite(moved)):
                trial = _Cells(self.source, moved, self.lagrangian)
                if trial.residual < self.residual and trial.cost <= self.cost * (1 + 1e-13):
                    return trial
        # A threshold that overtakes its neighbour means that the cell between costs more bits than it saves.
        moved = np.unique(np.maximum.accumulate(self.thresholds + self.miss))
        return _Cells(self.source, moved, self.lagrangian)


def optimal_ecsq(source: Source, rate: float) -> Quantizer:
    r"""Best scalar quantizer whose index has entropy `rate` bits: it minimizes D + lambda H.

    .. math:: l_i = E[X|\text{cell } i], \qquad
              t_i = \frac{l_i + l_{i+1}}2 + \frac{\lambda}{2}\,\frac{\ln(p_i/p_{i+1})}{l_{i+1} - l_i}

    Parameters
    ----------
    source : Source
        float64.
    rate : float
        Entropy of the cells in bits, > 0; at most that of the atoms of a discrete source.

    Returns
    -------
    Quantizer
        Its status says whether the two conditions were met, to 1e-10 sigma root mean square, at the rate asked for.

    Raises
    ------
    ValueError
        As `ecsq`.

    Notes
    -----
    From uniform thresholds with and without one at 0, Newton's method on the two conditions, with the step of Chou,
    Lookabaugh and Gray where that does not descend, inside a search of lambda; the better of the two. A local
    optimum; points below the lower convex hull of (rate, distortion) are not reached by any lambda.

    Of at most 1024 atoms the hull is exact (`theory.entropy_coded_atoms`), and the result the point of it nearest to
    `rate`. Of more atoms the rate is reached to about 1e-4 bit, and the status says what it is.

    References: [ChouLookabaughGray1989]; [FarvardinModestino1984].

    Examples
    --------
    >>> from theory.sources import GGD
    >>> best, plain = optimal_ecsq(GGD(1.0), 1.0), ecsq(GGD(1.0), rate=1.0)
    >>> bool(best.mse < plain.mse), round(float(best.rate), 6)
    (True, 1.0)
    """
    if isinstance(source, Histogram) and len(source.values) <= entropy_coded_atoms.MOST_ATOMS:
        _, rate = accept(rate=(rate, POSITIVE))
        return entropy_coded_atoms.optimal(source, float(rate))
    start = ecsq(source, rate=rate)
    if not len(start.thresholds):  # cutting off the outermost atom alone takes more bits
        return replace(start, status=f"rate {rate} is not on the convex hull: nearest {float(start.rate):.6f}")
    step, cells = float(np.diff(start.thresholds).mean()), len(start.thresholds) // 2
    odd, even = start.thresholds, step * np.arange(-cells, cells + 1)
    near = 0.0 if source.continuous else 0.01
    first, lagrangian = _search(source, rate, start, odd)
    if first.status == "converged":
        other = _descend(source, even, lagrangian)
        # Nothing below the line D + lambda R that supports the one curve can be on the other.
        if other.mse - first.mse > lagrangian * to_nats(first.rate - other.rate):
            return first
    second, _ = _search(source, rate, start, even)
    # Of atoms hardly any rate is reached. What is near is compared as if distortion fell by 6 dB a bit.
    reached = [q for q in (first, second) if q.status == "converged" or abs(q.rate - rate) < near]
    return min(reached or (first, second), key=lambda q: q.mse * 4.0**q.rate if reached else abs(q.rate - rate))


def _descend(source: Source, thresholds: Any, lagrangian: float) -> Quantizer:
    cells, iteration, sigma = _Cells(source, thresholds, lagrangian), 0, math.sqrt(float(source.variance))
    while cells.residual >= 1e-10 * sigma and iteration < 300:
        cells, iteration = cells.lower(), iteration + 1
    status = "converged" if cells.residual < 1e-10 * sigma else "tolerance not reached in 300 iterations"
    return cells.quantizer(status, iteration, cells.residual / sigma)


def _search(source: Source, rate: float, like: Quantizer, thresholds: Any) -> tuple[Quantizer, float]:
    """Descend from `thresholds` with the lambda that gives the rate, about that of the quantizer `like`."""

    @functools.cache
    def excess(log_lagrangian: float) -> float:
        difference = float(_descend(source, thresholds, math.exp(log_lagrangian)).rate) - rate
        return difference if abs(difference) > 1e-11 else 0.0

    middle = math.log(2 * float(like.mse))  # dD/dR = -2 D per nat at high rate
    # The secant method first: far from their lambda the thresholds to start from are poor, and the descent long.
    behind, point = middle, middle + to_nats(2 * excess(middle))
    while 0 < abs(excess(point)) < abs(excess(behind)) / 4:
        slope = (excess(point) - excess(behind)) / (point - behind)
        behind, point = point, point - excess(point) / slope
    if excess(point) != 0:
        low, high = middle - 0.5, middle + 0.5
        while excess(low) < 0 and low > middle - 40:
            low -= 2
        while excess(high) > 0 and high < middle + 10:
            high += 2
        crossed = excess(low) >= 0 >= excess(high)
        # Of atoms the rate is a staircase: to find the step is enough.
        xtol = 1e-12 if source.continuous else 1e-6
        point = optimize.brentq(excess, low, high, xtol=xtol) if crossed else middle
    lagrangian = math.exp(point)
    best = _descend(source, thresholds, lagrangian)
    if abs(best.rate - rate) > 1e-8:
        best = replace(best, status=f"rate {rate} is not on the convex hull: nearest {best.rate:.6f}")
    return best, lagrangian


def price_of_uniform_thresholds(source: Source, rate: float) -> float:
    r"""Rate that uniform thresholds lose to the optimal entropy-coded quantizer of equal entropy, in bits.

    .. math:: \rho_H = \tfrac12\log_2\bigl(D_\mathrm{uniform\ thresholds}(R) / D_\mathrm{optimal}(R)\bigr)

    Both decoders put out centroids. It vanishes at high rate [GishPierce1968], where `price_of_uniformity`, at fixed
    rate, grows without bound. Where the optimum is at a corner of the convex hull, R is the entropy that it has
    (`optimal_ecsq`).

    Parameters
    ----------
    source : Source
        float64, about symmetric around 0.
    rate : float
        Entropy in bits, > 0.

    Raises
    ------
    ValueError
        As `ecsq`.
    ArithmeticError
        If the optimum was not found; the message says why.

    Examples
    --------
    >>> from theory.sources import GGD
    >>> [round(price_of_uniform_thresholds(GGD(1.0), rate), 6) for rate in (1, 2, 4)]
    [0.008807, 0.007354, 0.000328]
    """
    best = optimal_ecsq(source, rate)
    if best.status != "converged" and "convex hull" not in best.status:
        raise ArithmeticError(f"optimal_ecsq at rate {rate}: {best.status}")
    return float(from_nats(math.log(float(ecsq(source, rate=best.rate).mse) / float(best.mse)) / 2))


def ecsq_gap(source: Source, rate: Number) -> Number:
    r"""Rate of the uniform-threshold quantizer above the Shannon lower bound at its distortion, in bits.

    It tends to `GISH_PIERCE`, 0.2546 bit, at high rate. A continuous source is needed; with a `GGD` of balls it is
    enclosed.

    >>> from theory.sources import GGD
    >>> round(float(ecsq_gap(GGD(2.0), 7)), 6), round(GISH_PIERCE, 6)
    (0.254614, 0.254614)
    """
    found = ecsq(source, rate=rate)
    return found.rate - shannon.lower_bound(source, found.mse)
