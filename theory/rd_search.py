"""The search behind a rate-distortion bracket: solve for weights on a grid of atoms, certify, refine, and again.

Where g exceeds 1 by enough to matter an atom is added, until the bracket of `theory.rd_certificate` is narrow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from theory.blahut_arimoto import Nodes, Reproduction, Sweep, improve, potential, unfold
from theory.rd_certificate import (
    REACH,
    ROUNDING,
    Body,
    Line,
    Point,
    Potential,
    body,
    grid,
    lower_line,
    supremum,
    upper_point,
)
from theory.sources import Histogram
from theory.units import from_nats

_SPACING = 0.7  # kernel widths between the first atoms: a mixture that coarse is smooth to 1e-9
_ROUNDS = 12
_CUSP = 40.0  # kernel widths about 0 that are solved for first
_FINEST = 1e-8  # D/sigma**2 of a density below which there would be millions of atoms
_EXACT = 1e-14  # D/sigma**2 of a histogram below which its upper end is simply its entropy


class Search:
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
        if not discrete:
            r = self._refined_near_zero(r)
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

    def _refined_near_zero(self, r: Reproduction) -> Reproduction:
        """`r` with the atoms near 0, where the density may have a cusp, found on that part of the line alone: in a
        small problem the rounds that place them cost nothing.
        """
        b, far = self.body, _CUSP / math.sqrt(2 * r.s)
        if b.hull[-1] < 2 * far:
            return r
        here = b.coarse.x < far
        nodes = Nodes(b.coarse.x[here], b.coarse.p[here], folded=True)
        part = Reproduction(r.y[r.y < far], r.q[r.y < far], r.s)
        target = 0.5 / r.s * float(nodes.p.sum())
        for _ in range(4):
            part = improve(nodes, part, _omega(b, part.y, r.s), target=target, barrier=1e-2, floor=self.tol / 10)
            found = supremum(nodes, Sweep(nodes, part, REACH).c, part, b.hull[b.hull < far], self.tol)
            if found.cells[: np.searchsorted(found.y, far / 2)].max() < 1 + self.tol / 8:
                break
            part = _refine(part, _omega(b, part.y, part.s), found, self.tol)
        near, rest = part.y < far / 2, r.y >= far / 2  # at `far` itself the cut was felt
        y, q = np.append(part.y[near], r.y[rest]), np.append(part.q[near], r.q[rest])
        return Reproduction(y, q, r.s, part.iterations)

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

    def status(self) -> str:
        """``"converged"``, or what kept the bracket wide."""
        if self.width <= self.tol:
            return "converged"
        status = f"tolerance not reached: {from_nats(self.width):.1e} bit after {self.rounds} rounds"
        if not self.nodes:
            return status + f"; D is below {_FINEST:g} of the variance, finer than this method goes"
        if not self.points:
            return status + "; no channel met the target"
        return status if self.last.settled else status + "; the Newton steps did not settle"

    def channel(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms and weights, those of the tail's quantizer among them, of the `best` point; 0 if there is none."""
        atoms = next((r for p, r in self.points if p is self.best), None)
        if atoms is None:
            return np.zeros(1), np.ones(1)
        tail = self.body.tail
        levels, weights = np.append(atoms.y, tail.levels), np.append(atoms.q, tail.weights)
        if self.body.fine.folded:
            levels, weights = unfold(levels, weights)
        order = np.argsort(levels)
        return levels[order], weights[order]


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
