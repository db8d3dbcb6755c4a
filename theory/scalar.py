r"""Scalar quantizers: distortion of a codebook, Lloyd-Max, uniform, Panter-Dite, entropy-coded.

A quantizer sees its source only through partial moments (`theory.sources.Source`), so each function here gives
a prediction for a `GGD` and the exact optimum for a `Histogram`. `theory.codebook_design` holds the descent to an
optimal codebook, `theory.entropy_coded` the quantizers whose indices are entropy-coded.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import integrate, optimize

from theory import arithmetic, ggd
from theory.arithmetic import Number, guarded, total
from theory.codebook_design import Quantizer, best_on_atoms, cell_moments, midpoints, mse, stationary
from theory.domain import COUNT, accept
from theory.entropy_coded import ecsq, optimal_ecsq
from theory.sources import GGD, Histogram, ScaleMixture, Source
from theory.units import from_nats

__all__ = [
    "Quantizer",
    "ecsq",
    "lloyd_max",
    "mse",
    "optimal_ecsq",
    "panter_dite",
    "price_of_uniformity",
    "uniform",
]


def lloyd_max(source: Source, n: int) -> Quantizer:
    r"""Optimal n-level quantizer for the mean squared error, each level the centroid of its cell.

    Parameters
    ----------
    source : Source
        float64 (any source) or an mpmath `GGD`.
    n : int
        Number of levels, >= 1.

    Returns
    -------
    Quantizer
        With ``rate = log2 n``.

    Raises
    ------
    ValueError
        If n < 1, or a discrete source has fewer than n atoms.
    TypeError
        For balls: enclose ``mse(levels)`` of the levels found in mpmath.

    Notes
    -----
    For a log-concave source the stationary point is unique, and so the optimum [Fleischer1964; Trushkin1982].
    Otherwise it is a local minimum: for beta < 1 and n even the symmetric stationary point is a saddle, and an
    asymmetric quantizer is better. On a `Histogram` it is the optimum, by dynamic programming [Wu1991]: among atoms
    Lloyd's iteration stops at the first of its many fixed points, which at 256 levels costs 25 % of the distortion.

    References: [Max1960; Lloyd1982]. Max's table gives .009497 for 16 Gaussian levels; it is .009501.

    Examples
    --------
    >>> round(float(lloyd_max(GGD(2.0), 16).mse), 12)
    0.009501008008
    """
    _, n = accept(n=(n, COUNT))
    n = int(n)
    xp = arithmetic.of(source.variance)
    if xp.name not in ("float", "mpmath"):
        raise TypeError("lloyd_max takes float64 or mpmath sources; enclose scalar.mse(levels, source) in balls")
    if isinstance(source, Histogram):
        atoms = len(source.values)
        if atoms < n:
            raise ValueError(f"n = {n} levels for a source of {atoms} atoms: give n <= {atoms}")
        return replace(best_on_atoms(source, n), rate=math.log2(n))
    found = stationary(_compander_levels(source, n), source, symmetric=True)
    if isinstance(source, GGD) and not source.log_concave and n % 2 == 0:
        lopsided = stationary(_compander_levels(source, n, xp.number(1) / 4), source)
        found = min(found, lopsided, key=lambda q: q.mse)
    return replace(found, rate=from_nats(xp.log(xp.number(n))))


def _compander_levels(source: Source, n: int, phase: Any = 0.5) -> Any:
    """Starting levels: equally likely under a density ~ p**(1/3), asymptotically optimal [PanterDite1951]."""
    if isinstance(source, GGD):  # the cube root of a GGD is a GGD of the same exponent
        xp = arithmetic.of(source.beta)
        p = (np.arange(n) + xp.number(phase)) / n
        wide = source.sigma * xp.number(3) ** (1 / source.beta)
        return np.asarray([ggd.quantile(q, source.beta, wide) for q in p])
    x = np.unique(source.quantile(np.linspace(0, 1, 2049)[1:-1]))
    # The compander's density from the quantiles: dP/dx ~ 1/dx, so dP**(1/3) dx**(2/3) ~ dx**(2/3).
    mass = np.concatenate([[0.0], np.cumsum(np.diff(x) ** (2 / 3))])
    return np.interp((np.arange(n) + phase) / n * mass[-1], mass, x)


def uniform(source: Source, n: int) -> Quantizer:
    r"""Optimal uniform midrise quantizer, levels :math:`(i - (n-1)/2)\Delta`, for the mean squared error.

    Parameters
    ----------
    source : Source
        float64; symmetric about 0.
    n : int
        Number of levels, >= 1.

    Returns
    -------
    Quantizer
        With ``rate = log2 n``; the step is the difference of two levels.

    Notes
    -----
    Brent's method on the step, bracketed by a scan from small steps to the ends of the source; the scan matters on
    histograms, where the distortion is only piecewise smooth, and for heavy tails.

    Examples
    --------
    >>> q = uniform(GGD(2.0), 16)
    >>> round(float(q.levels[1] - q.levels[0]), 10), round(float(q.mse), 10)
    (0.3352006122, 0.0115428844)
    """
    _, n = accept(n=(n, COUNT))
    n = int(n)
    offsets = np.arange(n) - (n - 1) / 2
    sigma = math.sqrt(float(source.variance))
    if n == 1:
        return Quantizer(np.zeros(1), np.zeros(0), mse([0.0], source), 0.0)

    def distortion(step: float) -> float:
        return float(mse(step * offsets, source))

    def slope(step: float) -> float:  # half of dD/dstep: thresholds move with the step but do not matter
        m0, m1 = cell_moments(source, step * midpoints(offsets), orders=2)
        return float(total(offsets * (step * offsets * m0 - m1)))

    reach = max(abs(float(source.quantile(p))) for p in (1e-12, 1 - 1e-12))
    scan = np.geomspace(0.05 * sigma, max(8 * sigma, reach), 128) * 2 / n
    best = int(np.argmin([distortion(step) for step in scan]))
    low, high = scan[max(best - 1, 0)], scan[min(best + 1, len(scan) - 1)]
    if source.continuous:
        step, report = optimize.brentq(slope, low, high, xtol=1e-15 * sigma, rtol=1e-14, full_output=True)
        iterations = int(report.iterations)
    else:
        found = optimize.minimize_scalar(distortion, bounds=(low, high), method="bounded",
                                         options={"xatol": 1e-9 * sigma})  # fmt: skip
        step, iterations = float(found.x), int(found.nit)
    levels = step * offsets
    return Quantizer(levels, midpoints(levels), mse(levels, source), math.log2(n), iterations=iterations)


@guarded(16)
def panter_dite(source: Source) -> Number:
    r"""High-rate constant of the fixed-rate optimum: the limit of ``N**2 D``, in units of ``sigma**2``.

    .. math:: \frac1{12}\Bigl(\int p^{1/3}\Bigr)^3
              = \frac{\alpha^2\,27^{1/\beta}\,\Gamma(1/\beta)^2}{3\beta^2} \quad\text{for a GGD}

    Raises TypeError for a discrete source.

    References: [PanterDite1951].

    >>> round(float(panter_dite(GGD(2.0))), 9)
    2.720699046
    """
    if isinstance(source, GGD):
        xp = arithmetic.of(source.beta)
        beta = source.beta
        return (source.alpha * xp.gamma(1 / beta) / beta) ** 2 * xp.number(27) ** (1 / beta) / 3
    if not isinstance(source, ScaleMixture):
        raise TypeError(f"panter_dite needs a density; a {type(source).__name__} has none")
    reach = -float(source.quantile(1e-16))
    root, _ = integrate.quad(lambda x: float(source.pdf(x)) ** (1 / 3), 0, 8 * reach, limit=400)
    return (2 * root) ** 3 / 12


def price_of_uniformity(source: Source, n: int) -> float:
    r"""Rate that a uniform codebook of n levels loses to Lloyd-Max, in bits, at fixed rate.

    .. math:: \rho = \tfrac12\log_2(D_\mathrm{uniform}/D_\mathrm{Lloyd-Max})

    It grows without bound in n [HuiNeuhoff2001]. With entropy coding a uniform quantizer loses less than 0.2546
    bit to any quantizer at high rate (`theory.entropy_coded`).

    >>> round(price_of_uniformity(GGD(2.0), 16), 6)
    0.140426
    """
    ratio = float(uniform(source, n).mse) / float(lloyd_max(source, n).mse)
    return float(from_nats(math.log(ratio) / 2))
