r"""The rate-distortion function of a real source under squared error, as a certified bracket, in bits.

.. math:: R(D) = \min_{E(X-Y)^2 \le D} I(X;Y)

A result is the pair (lower, upper), never a number between them. For a slope s > 0, a finite set of atoms and
weights makes a channel, hence an upper end [Blahut1972]; the same mixture, scaled so that
:math:`\sup_y E[\lambda(X)e^{-s(X-y)^2}] \le 1`, makes a line under the whole curve [Csiszar1974]. Their distance is
the logarithm of that supremum: it vanishes at the optimum. `theory.rd_search` finds the atoms with
`theory.blahut_arimoto`, and `theory.rd_certificate` computes the ends; `theory.rd_balls` does so in ball arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from theory import arithmetic, rd_balls
from theory.domain import NONNEGATIVE, POSITIVE, accept
from theory.rd_search import Search
from theory.sources import Histogram, Source
from theory.units import from_nats, to_nats

_SHARE = 0.8  # of the tolerance for the search, where balls come after it


@dataclass(frozen=True, eq=False)
class RateDistortion:
    """A point of the rate-distortion function, in brackets.

    Attributes
    ----------
    lower, upper : float
        ``lower <= R(D) <= upper``, in bits.
    D : float
        Mean squared error: as asked for, or `D_upper` when a rate was.
    D_lower, D_upper : float
        Bracket of the distortion-rate function at `rate`; both equal `D` when D was given.
    rate : float or None
        The rate asked for, in bits.
    slope : float
        ``s = -dR/dD`` in nats per unit of squared error; 0 where R is 0.
    levels, weights : array
        Reproduction atoms and their probabilities. The channel
        ``w_j(x) = weights[j] exp(-slope (x - levels[j])**2) / c(x)`` achieves `upper`, or less.
    status : str
        ``"converged"``, or ``"tolerance not reached: ..."`` with the reason. The bracket holds either way, in float64
        as far as its estimate of the quadrature does.
    iterations : int
        Newton steps.
    rounds, nodes : int
        Solves on a set of atoms, and quadrature nodes (atoms of a histogram).
    certified : bool
        Whether the four ends were computed in ball arithmetic and rounded outward: nothing in them is an estimate.
    """

    lower: float
    upper: float
    D: float
    D_lower: float
    D_upper: float
    rate: float | None
    slope: float
    levels: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    status: str
    iterations: int = 0
    rounds: int = 0
    nodes: int = 0
    certified: bool = False

    @property
    def converged(self) -> bool:
        return self.status == "converged"


def solve(
    source: Source,
    D: float | None = None,
    *,
    rate: float | None = None,
    tol: float = 1e-6,
    certify: bool = False,
) -> RateDistortion:
    r"""Bracket R(D) at a distortion, or D(R) at a rate.

    Parameters
    ----------
    source : GGD, ScaleMixture of such, or Histogram
        Of any standard deviation. A density must be symmetric about 0.
    D : float
        Mean squared error, > 0, in units of the source squared; R = 0 from the variance on.
    rate : float
        Rate in bits, >= 0. Give either this or `D`.
    tol : float
        Width of the bracket of R in bits; with `rate`, the bracket of D is as tight: relative width
        ``2 ln 2 * tol``.
    certify : bool
        Compute the ends again in ball arithmetic, with the atoms found: rigorous for the source with exactly these
        float64 parameters (a density must be a `GGD` or a `ScaleMixture` of it) and for exactly this `D` or `rate`.

    Returns
    -------
    RateDistortion

    Raises
    ------
    ValueError
        If an argument is outside its domain, or not exactly one of `D` and `rate` is given.
    TypeError
        If the source has neither atoms nor a symmetric density, or a parameter is not float64 (a ball of parameters
        is no source), or with `certify` another density than those named.

    Notes
    -----
    Computed in float64. Both ends give away 1e-11 nat for rounding, and for densities the difference between two
    quadrature rules, of 8 and of 10 nodes a panel, which was below 1e-11; everything else (the discarded tail, the
    supremum between grid points and beyond them) is bounded. Measured: GGD with beta in [0.5, 8] and D/sigma**2 in
    [1e-4, 0.95] gave brackets of 1e-7 to 1e-6 bit at the default `tol`, in 0.01 to 1.5 s on one core (longest: beta
    = 0.5, D = 1e-4); 1e-9 bit was reached at all 34 points tried, in 0.1 to 30 s. A histogram of
    28,871 float16 values takes 4 to 10 s. A density at D below 1e-8 of its variance is not attempted: the status says
    so, and the bracket is [0, Gaussian].

    With `certify` nothing is an estimate: quadrature, truncation and rounding are enclosed (see `theory.rd_balls`).
    The search then aims at 0.8 `tol`. Measured: for beta in {0.5, 0.7, 1, 1.7, 2, 4, 8} and D/sigma**2 in
    [1e-4, 0.95] the brackets are below 8e-7 bit and the balls take 0.03 to 3 s more, but for beta <= 0.7 at D = 1e-4
    (4 to 8 s); 1e-9 bit was reached at all 8 points tried. Where the balls fail (no bound of the quadrature), the
    ends are 0 and the Gaussian's, and the status says so. `levels` and `weights` are those of the body's channel and
    of the float64 tail; in balls the tail has a Gaussian channel instead.

    References
    ----------
    [Csiszar1974], [Blahut1972], [KoenkerMizera2014]; that the atoms are finitely many in a bounded region
    unless the Shannon bound is tight: [Rose1994].

    Examples
    --------
    >>> from theory.sources import GGD
    >>> r = solve(GGD(2.0), 1 / 16)
    >>> r.lower <= 2.0 <= r.upper, r.upper - r.lower < 1e-6, r.status
    (True, True, 'converged')
    >>> r = solve(GGD(1.0), 0.1, certify=True)
    >>> r.certified, r.upper - r.lower < 1e-6
    (True, True)
    """
    if (D is None) == (rate is None):
        raise ValueError(f"give exactly one of D and rate, not D = {D!r} and rate = {rate!r}")
    return _solve(source, D, rate, tol, None, certify)


def curve(source: Source, Ds: Iterable[float], tol: float = 1e-6, *, certify: bool = False) -> list[RateDistortion]:
    """Bracket R at each of several distortions: `solve`, each slope starting from that of the one before.

    >>> from theory.sources import GGD
    >>> [r.status for r in curve(GGD(1.0), [0.1, 0.2])]
    ['converged', 'converged']
    """
    results: list[RateDistortion] = []
    for D in Ds:
        slope = results[-1].slope * results[-1].D / D if results and results[-1].slope and D > 0 else None
        results.append(_solve(source, D, None, tol, slope, certify))
    return results


def _solve(source: Any, D: Any, rate: Any, tol: Any, slope: float | None, certify: bool) -> RateDistortion:
    parameters = [v for v in (getattr(source, "beta", None), getattr(source, "sigma", None)) if v is not None]
    xp = arithmetic.of(*parameters, *(v for v in (D, rate, tol) if v is not None))
    if xp.name != "float":
        raise TypeError(f"rate_distortion computes in float64, not in {xp.name} arithmetic")
    asked = {"rate": (rate, NONNEGATIVE)} if D is None else {"D": (D, POSITIVE)}
    _, value, tol = accept(**asked, tol=(tol, POSITIVE))
    if np.ndim(value) or np.ndim(tol):
        raise ValueError(f"{next(iter(asked))} and tol are one number each; see curve for several")
    value, variance = float(value), float(source.variance)
    discrete = isinstance(source, Histogram)
    mean = source.mean if discrete else 0.0
    target = value / variance if rate is None and variance else float(to_nats(value))
    nats = min(float(to_nats(tol)), 1e-3)
    search = Search(source, math.sqrt(variance), target, rate is not None, _SHARE * nats if certify else nats)
    if (rate is None and value >= variance) or (rate is not None and value == 0) or variance == 0:
        end = variance if D is None else value
        levels, weights = np.array([mean]), np.ones(1)
        result = RateDistortion(0.0, 0.0, end, end, end, rate, 0.0, levels, weights, "converged")
    elif discrete and rate is not None and value >= source.entropy():
        h = source.entropy()
        levels, weights = source.values, source.probabilities
        result = RateDistortion(h, h, 0.0, 0.0, 0.0, rate, math.inf, levels, weights, "converged")
    else:
        with np.errstate(under="ignore", over="ignore"):
            search.run(slope and slope * variance)
        result = _result(search, rate)
    return _certified(result, search, value, nats) if certify and variance else result


def _certified(result: RateDistortion, search: Search, value: float, tol: float) -> RateDistortion:
    with np.errstate(under="ignore", over="ignore"):
        lower, upper, D_lower, D_upper = rd_balls.certify(search, value, tol)
    width = upper - lower
    if search.is_rate:
        width = float(from_nats((1 - D_lower / D_upper) / 2)) if D_upper else 0.0
    status = "converged" if width <= from_nats(tol) else f"tolerance not reached: {width:.1e} bit in balls"
    if status != "converged" and not result.converged:
        status += f"; the search: {result.status}"
    D = D_upper if search.is_rate else value
    return replace(
        result, lower=lower, upper=upper, D=D, D_lower=D_lower, D_upper=D_upper, status=status, certified=True
    )


def _result(search: Search, asked: float | None) -> RateDistortion:
    point, variance = search.best, search.sigma**2
    D = point.distortion if search.is_rate else search.target
    levels, weights = search.channel()
    return RateDistortion(
        lower=float(from_nats(search.lower(D))),
        upper=float(from_nats(point.rate)),
        D=D * variance,
        D_lower=(search.D_lower if search.is_rate else D) * variance,
        D_upper=D * variance,
        rate=asked,
        slope=point.s / variance,
        levels=levels * search.sigma,
        weights=weights / weights.sum(),
        status=search.status(),
        iterations=search.last.iterations,
        rounds=search.rounds,
        nodes=search.nodes,
    )
