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
_FINEST = 1e-8  # D/sigma**2 of a density below which there would be millions of atoms
_EXACT = 1e-14  # D/sigma**2 of a histogram below which its upper end is simply its entropy


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


def solve(source: Source, D: float | None = None, *, rate: float | None = None, tol: float = 1e-6) -> RateDistortion:
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
    Computed in float64. Both ends give away 1e-11 nat for rounding, and for densities the difference between two
    quadrature rules, of 8 and of 10 nodes a panel, which was below 1e-11; everything else (the discarded tail, the
    supremum between grid points and beyond them) is bounded. Measured: GGD with beta in [0.5, 8] and D/sigma**2 in
    [1e-4, 0.95] gave brackets of 1e-7 to 1e-6 bit at the default `tol`, each in under 2 s on one core but for beta
    = 0.5 at D <= 1e-3 (3 to 12 s); 1e-9 bit was reached at all 34 points tried, in 0.1 to 30 s. A histogram of
    28,871 float16 values takes 4 to 10 s. A density at D below 1e-8 of its variance is not attempted: the status says
    so, and the bracket is [0, Gaussian].

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
    target = value / variance if rate is None else float(to_nats(value))
    search = _Search(source, math.sqrt(variance), target, rate is not None, min(float(to_nats(tol)), 1e-3))
    with np.errstate(under="ignore", over="ignore"):
        search.run(slope and slope * variance)
    return search.result(rate)


class _Search:
    """Solve, certify, refine: lengths in standard deviations, rates in nats."""

    def __init__(self, source: Any, sigma: float, target: float, is_rate: bool, tol: float) -> None:
        self.source, self.sigma, self.target, self.is_rate, self.tol = source, sigma, target, is_rate, tol
        self.lines: list[Line] = []
        self.points: list[tuple[Point, Reproduction]] = []
        self.last, self.rounds, self.nodes = Reproduction(np.zeros(1), np.ones(1), 1.0), 0, 0

    def run(self, slope: float | None) -> None:
        guess = self._guess_distortion() if self.is_rate else self.target
        discrete = isinstance(self.source, Histogram)
        if guess < _FINEST and not discrete:
            self.lines.append(Line(0.0, 0.5 / guess))
            return
        exact = discrete and not self.is_rate and guess < _EXACT
        guess = max(guess, _EXACT)
        s = slope or 0.5 / guess
        self.body = b = body(self.source, self.sigma, s, self.tol)
        self.nodes = len(b.fine.x)
        r = _initial(b, s)
        # A histogram with few atoms is described exactly long before its slope reaches 1/(2D).
        while discrete and Sweep(b.coarse, r).distortion < 0.5 * guess and r.s > 1e-3:
            r = _initial(b, r.s / 2)
        if exact:
            itself = Reproduction(b.fine.x, b.fine.p, s)
            self.points.append((Point(float(self.source.entropy(math.e)), 0.0, s), itself))
        target = self.target - b.tail.rate if self.is_rate else guess - b.tail.distortion
        barrier, tol = 1e-2, self.tol
        for self.rounds in range(1, _ROUNDS + 1):
            omega = _omega(b, r.y, r.s)
            r = improve(b.coarse, r, omega, target=target, is_rate=self.is_rate, barrier=barrier, floor=tol / 10)
            self.last = r
            line, found, error = lower_line(b, r, tol)
            self.lines.append(line)
            point = upper_point(b, r, error, tol, target=self.target, is_rate=self.is_rate)
            if point is not None and not exact:
                self.points.append((point, r))
            if self.width <= self.tol:
                return
            if self.is_rate and point is not None:  # ln D moves 1/(s D) times as far as R
                tol = max(self.tol * min(1.0, 2 * point.s * point.distortion), 10 * ROUNDING)
            r = _refine(r, _omega(b, r.y, r.s), found, tol)
            barrier = 1e-4

    def _guess_distortion(self) -> float:
        """D of the Shannon lower bound at the rate, or of the Gaussian if there is none."""
        if isinstance(self.source, Histogram):
            return math.exp(-2 * self.target)
        power = math.exp(2 * float(self.source.entropy(math.e))) / (2 * math.pi * math.e * self.sigma**2)
        return min(0.95, power * math.exp(-2 * self.target))

    @property
    def best(self) -> Point:
        """The least upper end; the Gaussian's, which holds for every source, when no channel was found."""
        if self.points:
            return min((p for p, _ in self.points), key=lambda p: p.distortion if self.is_rate else p.rate)
        if self.is_rate:
            return Point(self.target, math.exp(-2 * self.target), self.lines[-1].s)
        return Point(-0.5 * math.log(self.target), self.target, self.lines[-1].s)

    def lower(self, D: float) -> float:
        return max(0.0, *(line.rate(D) for line in self.lines))

    @property
    def D_lower(self) -> float:
        return max(0.0, *((line.intercept - self.target) / line.s for line in self.lines))

    @property
    def width(self) -> float:
        """Width of the bracket as a rate; with a rate asked for, half the relative width of that of D."""
        if self.is_rate:
            return 0.5 * (1 - self.D_lower / self.best.distortion)
        return self.best.rate - self.lower(self.target)

    def result(self, asked: float | None) -> RateDistortion:
        point, variance = self.best, self.sigma**2
        D = point.distortion if self.is_rate else self.target
        D_lower = self.D_lower if self.is_rate else D
        lower, width = self.lower(D), self.width
        status = "converged"
        if not width <= self.tol:
            status = f"tolerance not reached: {from_nats(width):.1e} bit after {self.rounds} rounds"
            if not self.nodes:
                status += f"; D is below {_FINEST:g} of the variance, finer than this method goes"
            elif not self.points:
                status += "; no channel met the target"
            elif not self.last.settled:
                status += "; the Newton steps did not settle"
        atoms = next((r for p, r in self.points if p is point), None)
        levels, weights = np.zeros(1), np.ones(1)
        if atoms is not None:
            tail = self.body.tail
            levels, weights = np.append(atoms.y, tail.levels), np.append(atoms.q, tail.weights)
            if self.body.fine.folded:
                levels, weights = unfold(levels, weights)
            order = np.argsort(levels)
            levels, weights = levels[order], weights[order]
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
            iterations=self.last.iterations,
            rounds=self.rounds,
            nodes=self.nodes,
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
