r"""Scalar quantizers: distortion of a codebook, Lloyd-Max, uniform, Panter-Dite, entropy-coded.

A quantizer sees its source only through partial moments (`theory.sources.Source`), so each function here gives
a prediction for a `GGD` and the exact optimum for a `Histogram`. `theory.codebook_design` holds the descent to an
optimal codebook, `theory.uniform_codebook` the uniform ones, `theory.entropy_coded` the quantizers whose indices are
entropy-coded, `theory.quantizer_balls` the certificates, `theory.clipping` clips.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import integrate

from theory import arithmetic, ggd, quantizer_balls
from theory.arithmetic import Number, guarded
from theory.codebook_design import Quantizer, best_on_atoms, mae, mse, stationary
from theory.domain import COUNT, accept
from theory.entropy_coded import GISH_PIERCE, ecsq, ecsq_gap, optimal_ecsq, price_of_uniform_thresholds
from theory.sources import GGD, Histogram, ScaleMixture, Source
from theory.uniform_codebook import uniform
from theory.units import from_nats

__all__ = [
    "GISH_PIERCE",
    "Quantizer",
    "ecsq",
    "ecsq_gap",
    "lloyd_max",
    "mae",
    "mse",
    "optimal_ecsq",
    "panter_dite",
    "price_of_uniform_thresholds",
    "price_of_uniformity",
    "uniform",
]


def lloyd_max(source: Source, n: int) -> Quantizer:
    r"""Optimal n-level quantizer for the mean squared error, each level the centroid of its cell.

    Parameters
    ----------
    source : Source
        float64 (any source), or a `GGD` of mpf or of balls.
    n : int
        Number of levels, >= 1.

    Returns
    -------
    Quantizer
        With ``rate = log2 n``. For a source of balls, levels, thresholds and mse are balls, and `certificate` says
        what is proved of them (`theory.quantizer_balls`); for one of mpf they are rounded from such balls.

    Raises
    ------
    ValueError
        If n < 1, or a discrete source has fewer than n atoms.
    ArithmeticError
        If no codebook can be certified for a source of mpf or balls.

    Notes
    -----
    For a log-concave source the stationary point is unique, and so the optimum [Fleischer1964; Trushkin1982;
    Kieffer1983]. Otherwise it is a local minimum: for beta < 1 and n even the symmetric stationary point is a saddle,
    and an asymmetric quantizer is better. On a `Histogram` it is the optimum, by dynamic programming [Wu1991]: among
    atoms Lloyd's iteration stops at the first of its many fixed points, which at 256 levels costs 25 % of the
    distortion.

    At 128 bits the balls have 37 digits for n up to 1024 and beta from 0.3 to 8, levels and mse. To certify a float64
    design, give ``source.within(arithmetic.BALL)``.

    References: [Max1960; Lloyd1982]. Max's table gives .009497 for 16 Gaussian levels; it is .009501.

    Examples
    --------
    >>> round(float(lloyd_max(GGD(2.0), 16).mse), 12)
    0.009501008008
    >>> certified = lloyd_max(GGD(2.0).within(arithmetic.BALL), 16)
    >>> print(certified.mse.str(12, radius=False), "is", certified.certificate)
    0.00950100800819 is the optimum: no other codebook is stationary
    """
    _, n = accept(n=(n, COUNT))
    n = int(n)
    if isinstance(source, Histogram):
        atoms = len(source.values)
        if atoms < n:
            raise ValueError(f"n = {n} levels for a source of {atoms} atoms: give n <= {atoms}")
        return replace(best_on_atoms(source, n), rate=math.log2(n))
    xp = arithmetic.of(source.variance)
    if xp.name == "mpmath" and isinstance(source, GGD):
        return quantizer_balls.in_mpmath(lambda law: lloyd_max(law, n), source)
    if xp.name == "ball" and isinstance(source, GGD):
        start = lloyd_max(GGD(float(source.beta.mid())), n)
        return quantizer_balls.lloyd_max(start.levels, source)
    found = stationary(_compander_levels(source, n), source, symmetric=True)
    if isinstance(source, GGD) and not source.log_concave and n % 2 == 0:
        lopsided = stationary(_compander_levels(source, n, 0.25), source)
        found = min(found, lopsided, key=lambda q: q.mse)
    return replace(found, rate=math.log2(n))


def _compander_levels(source: Source, n: int, phase: Any = 0.5) -> Any:
    """Starting levels: equally likely under a density ~ p**(1/3), asymptotically optimal [PanterDite1951]."""
    if isinstance(source, GGD):  # the cube root of a GGD is a GGD of the same exponent
        return ggd.quantile((np.arange(n) + phase) / n, source.beta, source.sigma * 3 ** (1 / source.beta))
    x = np.unique(source.quantile(np.linspace(0, 1, 2049)[1:-1]))
    # The compander's density from the quantiles: dP/dx ~ 1/dx, so dP**(1/3) dx**(2/3) ~ dx**(2/3).
    mass = np.concatenate([[0.0], np.cumsum(np.diff(x) ** (2 / 3))])
    return np.interp((np.arange(n) + phase) / n * mass[-1], mass, x)


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

    It grows without bound in n [HuiNeuhoff2001]. With entropy coding the price vanishes at high rate:
    `price_of_uniform_thresholds`.

    >>> round(price_of_uniformity(GGD(2.0), 16), 6)
    0.140426
    """
    ratio = float(uniform(source, n).mse) / float(lloyd_max(source, n).mse)
    return float(from_nats(math.log(ratio) / 2))
