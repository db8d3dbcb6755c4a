r"""Entropy-constrained scalar quantizers (ECSQ): the rate is the entropy of the cells.

At high rate a uniform quantizer is optimal among them and loses 1/2 log2(2 pi e/12) = 0.254614 bit to the
Shannon lower bound [GishPierce1968].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize

from theory.codebook_design import Quantizer, cell_moments
from theory.domain import POSITIVE, accept
from theory.sources import Source
from theory.units import from_nats

_NEGLIGIBLE = 1e-20  # probability of the tail that the two outermost cells share


def ecsq(source: Source, *, step: float | None = None, rate: float | None = None) -> Quantizer:
    r"""Uniform-threshold quantizer with centroids as levels, entropy-coded; a cell is centred on 0.

    Parameters
    ----------
    source : Source
        float64; about symmetric around 0.
    step : float, optional
        Width of the cells, > 0, in the units of the source.
    rate : float, optional
        Entropy of the cells in bits, > 0, for which the step is solved. Give one of the two.

    Returns
    -------
    Quantizer
        Its rate is the entropy of its cells, in bits per sample.

    Raises
    ------
    ValueError
        If not exactly one of `step` and `rate` is given, one is not positive, or no step reaches the rate.

    Notes
    -----
    Cells go out to where the tail holds 1e-20 of the probability; the last two are half-lines.

    References: [GishPierce1968]; [FarvardinModestino1984] for the optimum of `optimal_ecsq`.

    Examples
    --------
    >>> from theory.sources import GGD
    >>> q = ecsq(GGD(2.0), rate=4)
    >>> round(float(q.rate), 9), round(math.log2(float(q.mse) * 4**4) / 2, 4)
    (4.0, 0.2541)
    """
    if (step is None) == (rate is None):
        raise ValueError("give ecsq either step= or rate=, not both or neither")
    reach, sigma = _reach(source), math.sqrt(float(source.variance))
    if step is None:
        _, rate = accept(rate=(rate, POSITIVE))

        def excess(log_step: float) -> float:
            return float(_uniform_threshold(source, math.exp(log_step), reach).rate - rate)

        # At high rate the step is sqrt(12 D); from there outward by octaves to a sign change.
        low = high = math.log(sigma * math.sqrt(12)) - float(rate) * math.log(2)
        while excess(low) < 0:
            low -= math.log(2)
            if low < math.log(reach / 20_000):
                most = excess(low) + rate
                raise ValueError(f"rate = {rate} bits needs over 40,000 cells of this source (at most {most:.3f})")
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
    return _from_thresholds(source, (np.arange(-cells, cells) + 0.5) * step)


def _from_thresholds(source: Source, thresholds: Any, iterations: int = 1, residual: float = 0.0,
                     status: str = "converged") -> Quantizer:  # fmt: skip
    m0, m1, m2 = cell_moments(source, thresholds)
    occupied = m0 > 0
    m0, m1, m2 = m0[occupied], m1[occupied], m2[occupied]
    # Between two occupied cells the threshold above the lower one is kept: the cells between hold nothing.
    upper = np.append(thresholds, np.inf)[occupied][:-1]
    levels = m1 / m0
    rate = from_nats(-float(np.sum(m0 * np.log(m0))))
    # Within a cell E(x - l)^2 = M2 - l M1: the levels are centroids.
    return Quantizer(levels, upper, float(np.sum(m2 - levels * m1)), rate, status, iterations, residual)


def optimal_ecsq(source: Source, rate: float) -> Quantizer:
    r"""Best scalar quantizer whose index has entropy `rate` bits: it minimizes D + lambda H.

    .. math:: l_i = E[X|\text{cell } i], \qquad
              t_i = \frac{l_i + l_{i+1}}2 + \frac{\lambda}{2}\,\frac{\ln(p_i/p_{i+1})}{l_{i+1} - l_i}

    Parameters
    ----------
    source : Source
        float64.
    rate : float
        Entropy of the cells in bits, > 0.

    Returns
    -------
    Quantizer
        Its status says whether the two conditions were met to 1e-10 sigma at the rate asked for.

    Raises
    ------
    ValueError
        As `ecsq`.

    Notes
    -----
    Chou, Lookabaugh and Gray's iteration from the uniform-threshold quantizer, inside a secant search of lambda.
    A local optimum; points below the lower convex hull of (rate, distortion) are not reached by any lambda.

    References: [ChouLookabaughGray1989]; [FarvardinModestino1984, table I].

    Examples
    --------
    >>> from theory.sources import GGD
    >>> best, plain = optimal_ecsq(GGD(1.0), 1.0), ecsq(GGD(1.0), rate=1.0)
    >>> bool(best.mse < plain.mse), round(float(best.rate), 6)
    (True, 1.0)
    """
    start = ecsq(source, rate=rate)
    sigma = math.sqrt(float(source.variance))

    def descend(log_lagrangian: float) -> Quantizer:
        return _chou_lookabaugh_gray(source, start.thresholds, math.exp(log_lagrangian), sigma)

    middle = math.log(2 * float(start.mse))  # dD/dR = -2 D per nat at high rate
    low, high = middle - 2, middle + 2
    while float(descend(low).rate) < rate and low > middle - 40:
        low -= 2
    while float(descend(high).rate) > rate and high < middle + 10:
        high += 2
    root = optimize.brentq(lambda x: float(descend(x).rate) - rate, low, high, xtol=1e-13, rtol=1e-13)
    best = descend(root)
    if abs(float(best.rate) - rate) > 1e-8:
        return Quantizer(best.levels, best.thresholds, best.mse, best.rate,
                         f"rate {rate} is not on the convex hull: nearest {float(best.rate):.6f}",
                         best.iterations, best.residual)  # fmt: skip
    return best


def _chou_lookabaugh_gray(source: Source, thresholds: Any, lagrangian: float, sigma: float) -> Quantizer:
    residual = math.inf
    for iteration in range(1, 2001):
        m0, m1, _ = cell_moments(source, thresholds)
        occupied = m0 > 0
        levels, log_p = m1[occupied] / m0[occupied], np.log(m0[occupied])
        gaps = np.diff(levels)
        moved = (levels[1:] + levels[:-1]) / 2 + lagrangian / 2 * (log_p[:-1] - log_p[1:]) / gaps
        # A threshold that overtakes its neighbour means that the cell between costs more bits than it saves.
        ordered = np.maximum.accumulate(moved)
        if len(moved) == len(thresholds) and np.all(np.diff(moved) > 0):
            residual = float(np.max(np.abs(moved - thresholds), initial=0.0)) / sigma
        thresholds = np.unique(ordered)
        if residual < 1e-10:
            return _from_thresholds(source, thresholds, iteration, residual)
    return _from_thresholds(source, thresholds, iteration, residual, "tolerance not reached in 2000 iterations")
