r"""The rate-distortion function of a real source under squared error, as a certified bracket, in bits.

.. math:: R(D) = \min_{E(X-Y)^2 \le D} I(X;Y)

A result is the pair (lower, upper), never a number between them. For a slope s > 0, a finite set of atoms and
weights makes a channel, hence an upper end [Blahut1972]; the same mixture, scaled so that
:math:`\sup_y E[\lambda(X)e^{-s(X-y)^2}] \le 1`, makes a line under the whole curve [Csiszar1974]. Their distance is
the logarithm of that supremum: it vanishes at the optimum. `theory.blahut_arimoto` searches the atoms,
`theory.rd_certificate` computes the ends, and this module goes back and forth between them: solve for weights on
a grid; where g exceeds 1 by enough to matter, add an atom there and solve again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from theory import arithmetic
from theory.blahut_arimoto import Reproduction, Sweep, improve, potential, unfold
from theory.domain import NONNEGATIVE, POSITIVE, accept
from theory.rd_certificate import REACH, ROUNDING, Body, Line, Point, Potential, body, grid, lower_line, upper_point
from theory.sources import Histogram, Source
from theory.units import from_nats, to_nats

_SPACING = 0.7  # kernel widths between the first atoms: a mixture that coarse is smooth to 1e-9
_ROUNDS = 12


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
        ``"converged"``, or ``"tolerance not reached: ..."`` with the reason. The bracket holds either way.
    iterations : int
        Newton steps.
    rounds, nodes : int
        Solves on a set of atoms, and quadrature nodes (atoms of a histogram).
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

    @property
    def converged(self) -> bool:
        return self.status == "converged"


def solve(
    source: Source, D: float | None = None, *, rate: float | None = None, tol: float = 1e-6
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

    Returns
    -------
    RateDistortion

    Raises
    ------
    ValueError
        If an argument is outside its domain, or not exactly one of `D` and `rate` is given.
    TypeError
        If the source has neither atoms nor a symmetric density, or a parameter is not float64.

    Notes
    -----
    Computed in float64. Both ends give away 1e-11 nat for rounding and the difference between two quadrature
    rules of 8 and 10 nodes a panel, usually below 1e-12; everything else (discarded tail, supremum between grid
    points and beyond them) is bounded. Default brackets are 1e-7 to 1e-6 bit wide for GGD sources with beta in
    [0.5, 8] and D/sigma**2 in [1e-4, 0.95]; `tol` down to 1e-9 was reached over the same range.

    References
    ----------
    [Csiszar1974, thm 2.3], [Blahut1972], [KoenkerMizera2014]; that the atoms are finitely many in a bounded region
    unless the Shannon bound is tight: [Rose1994].

    Examples
    --------
    >>> from theory.sources import GGD
    >>> r = solve(GGD(2.0), 1 / 16)
    >>> r.lower <= 2.0 <= r.upper, r.upper - r.lower < 1e-6, r.status
    (True, True, 'converged')
    """
    if (D is None) == (rate is None):
        raise ValueError(f"give exactly one of D and rate, not D = {D!r} and rate = {rate!r}")
    return _solve(source, D, rate, tol, None)


def curve(source: Source, Ds: Iterable[float], tol: float = 1e-6) -> list[RateDistortion]:
    """Bracket R at each of several distortions: `solve`, each slope starting from that of the one before.

    >>> from theory.sources import GGD
    >>> [r.status for r in curve(GGD(1.0), [0.1, 0.2])]
    ['converged', 'converged']
    """
    results: list[RateDistortion] = []
    for D in Ds:
        slope = results[-1].slope * results[-1].D / D if results and results[-1].slope and D > 0 else None
        results.append(_solve(source, D, None, tol, slope))
    return results


def _solve(source: Any, D: Any, rate: Any, tol: Any, slope: float | None) -> RateDistortion:
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
    if (rate is None and value >= variance) or (rate is not None and value == 0) or variance == 0:
        end = variance if D is None else value
        levels, weights = np.array([mean]), np.ones(1)
        return RateDistortion(0.0, 0.0, end, end, end, rate, 0.0, levels, weights, "converged")
    if discrete and rate is not None and value >= source.entropy():
        h = source.entropy()
        levels, weights = source.values, source.probabilities
        return RateDistortion(h, h, 0.0, 0.0, 0.0, rate, math.inf, levels, weights, "converged")
    search = _Search(source, math.sqrt(variance), min(float(to_nats(tol)), 1e-3))
    with np.errstate(under="ignore", over="ignore"):
        if rate is None:
            search.run(value / variance, None, slope and slope * variance)
        else:
            search.run(None, float(to_nats(value)), None)
    return search.result(rate)


class _Search:
    """Solve, certify, refine: lengths in standard deviations, rates in nats."""

    def __init__(self, source: Any, sigma: float, tol: float) -> None:
        self.source, self.sigma, self.tol = source, sigma, tol
        self.lines: list[Line] = []
        self.points: list[tuple[Point, Reproduction]] = []
        self.rounds, self.settled = 0, True

    def run(self, D: float | None, rate: float | None, slope: float | None) -> None:
        self.D, self.rate = D, rate
        guess = D if D is not None else self._guess(rate)
        b = self.body = body(self.source, self.sigma, slope or 0.5 / guess, self.tol)
        r = _initial(b, slope or 0.5 / guess)
        # A histogram with few atoms is described exactly long before its slope reaches 1/(2D).
        while isinstance(self.source, Histogram) and Sweep(b.coarse, r).distortion < 0.5 * guess and r.s > 1e-3:
            r = _initial(b, r.s / 2)
        target = D - b.tail.distortion if D is not None else rate - b.tail.rate
        barrier, tol = 1e-2, self.tol
        for self.rounds in range(1, _ROUNDS + 1):
            omega = _omega(b, r.y, r.s)
            r = improve(b.coarse, r, omega, target=target, is_rate=D is None, barrier=barrier, floor=tol / 10)
            self.settled, self.iterations = r.settled, r.iterations
            line, found, error = lower_line(b, r, tol)
            point = upper_point(b, r, error, tol, D=D, rate=rate)
            self.lines.append(line)
            if point is not None:
                self.points.append((point, r))
            if self.width <= self.tol:
                return
            if D is None and point is not None:  # ln D moves 1/(s D) times as far as R
                tol = max(self.tol * min(1.0, 2 * point.s * point.distortion), 10 * ROUNDING)
            r = _refine(r, _omega(b, r.y, r.s), found, tol)
            barrier = 1e-4

    def _guess(self, rate: float) -> float:
        """D(R) of the Shannon lower bound, or of the Gaussian if there is none."""
        if isinstance(self.source, Histogram):
            return math.exp(-2 * rate)
        power = math.exp(2 * float(self.source.entropy(math.e))) / (2 * math.pi * math.e * self.sigma**2)
        return min(0.95, power * math.exp(-2 * rate))

    @property
    def best(self) -> Point:
        """The least upper end; the Gaussian's, which holds for every source, when no channel was found."""
        if self.points:
            return min((p for p, _ in self.points), key=lambda p: (p.distortion if self.D is None else p.rate))
        if self.D is None:
            return Point(self.rate, math.exp(-2 * self.rate), self.lines[-1].s)
        return Point(-0.5 * math.log(self.D), self.D, self.lines[-1].s)

    @property
    def D_lower(self) -> float:
        return max(0.0, *((line.intercept - self.rate) / line.s for line in self.lines))

    def lower(self, D: float) -> float:
        return max(0.0, *(line.rate(D) for line in self.lines))

    @property
    def width(self) -> float:
        """Width of the bracket as a rate; with a rate asked for, half the relative width of that of D."""
        if self.D is None:
            return 0.5 * (1 - self.D_lower / self.best.distortion)
        return self.best.rate - self.lower(self.D)

    def result(self, asked: float | None) -> RateDistortion:
        point, variance = self.best, self.sigma**2
        D = self.D if self.D is not None else point.distortion
        D_lower = D if self.D is not None else self.D_lower
        lower, width = self.lower(D), self.width
        status = "converged"
        if not width <= self.tol:
            status = f"tolerance not reached: {from_nats(width):.1e} bit after {self.rounds} rounds"
            if not self.points:
                status += "; no channel met the target"
            elif not self.settled:
                status += "; the Newton steps did not settle"
        atoms = next((r for p, r in self.points if p is point), None)
        levels, weights = np.zeros(1), np.ones(1)
        if atoms is not None:
            tail = self.body.tail
            levels, weights = np.append(atoms.y, tail.levels), np.append(atoms.q, tail.weights)
            if self.body.fine.folded:
                levels, weights = unfold(levels, weights)
            levels, order = np.unique(levels, return_inverse=True)
            weights = np.bincount(order, weights)
        return RateDistortion(
            lower=float(from_nats(lower)),
            upper=float(from_nats(point.rate)),
            D=D * variance,
            D_lower=D_lower * variance,
            D_upper=D * variance,
            rate=asked,
            slope=point.s / variance,
            levels=levels * self.sigma,
            weights=weights / weights.sum(),
            status=status,
            iterations=self.iterations,
            rounds=self.rounds,
            nodes=len(self.body.fine.x),
        )


def _omega(b: Body, y: np.ndarray, s: float) -> np.ndarray:
    """Mass of the source within about half a spacing of each atom."""
    near = np.concatenate(list(potential(b.coarse, b.coarse.p, y, s, REACH)), axis=1)[0]
    return np.maximum(near * _SPACING / math.sqrt(2 * math.pi), 1e-200)


def _initial(b: Body, s: float) -> Reproduction:
    tau = 1 / math.sqrt(2 * s)
    y = grid(b.hull, _SPACING * tau, 2 * tau)
    q = _omega(b, y, s) * (np.gradient(y) if len(y) > 1 else 1.0)
    return Reproduction(y, q * (b.coarse.p.sum() / q.sum()), s)


def _refine(r: Reproduction, omega: np.ndarray, found: Potential, tol: float) -> Reproduction:
    """Drop the atoms that vanished. Where g exceeds 1, add the place of its local maximum, and the centroid of
    the atoms on either side: two of them a distance h apart stand for one, which is there up to h**2.
    """
    tau = 1 / math.sqrt(2 * r.s)
    keep = r.q > np.minimum(1e-4 * omega, r.q.max())
    keep[np.argmax(r.q)] = True
    y, q = r.y[keep], r.q[keep]
    rise, fall = found.slope[:-1], found.slope[1:]
    peak = np.flatnonzero((rise > 0) & (fall <= 0) & (found.cells > 1 + tol / 8))
    top = found.y[peak] + np.diff(found.y)[peak] * rise[peak] / (rise - fall)[peak]
    right = np.searchsorted(y, top)
    right = right[(right > 0) & (right < len(y))]
    right = right[y[right] - y[right - 1] < tau]
    middle = (q[right] * y[right] + q[right - 1] * y[right - 1]) / (q[right] + q[right - 1])
    new = np.concatenate([top, middle])
    weight = q[np.clip(np.searchsorted(y, new), 0, len(y) - 1)] / 2
    order = np.argsort(np.concatenate([y, new]))
    y, q = np.concatenate([y, new])[order], np.concatenate([q, weight])[order]
    apart = np.append(True, np.diff(y) > 1e-6 * tau)
    y, q = y[apart], q[apart]
    return Reproduction(y, q * (r.q.sum() / q.sum()), r.s, r.iterations)
