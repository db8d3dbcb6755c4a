r"""Both ends of a rate-distortion bracket, for the source itself and not for a discretization of it.

The source is cut at ``start``, beyond which lies a mass of about 1e-9 (nothing is cut from a histogram).

*Upper end.* The body uses the channel :math:`w_j(x) = q_j K(x,y_j)/c(x)`, :math:`K(x,y) = e^{-s(x-y)^2}`; the tail
a plain quantizer, whose rate and distortion are partial moments. With one code for all, the rate is at most
:math:`-sD_s - E\ln c` over the body plus :math:`-\sum p_i \ln p_i` over the cells of the tail.

*Lower end.* :math:`R(D) \ge E\ln\lambda - sD` whenever :math:`E[\lambda(X)K(X,y)] \le 1` for every real y. In the
body :math:`\lambda = 1/(c'\,\sup)`, with c' the mixture c after raising weights near the places where g exceeds
1; in the tail a constant so small that its share is at most ``delta``, whatever y. Beyond `start`, K decreases
in y for every x of the body, so that the supremum over the body's hull is the supremum over the line.

*Between grid points* g is bounded by the Bernstein coefficients of its quintic Hermite interpolant. The
remainder needs the sixth derivative: Cramer's inequality :math:`|He_6(v)|e^{-v^2/2} \le 1.0865\sqrt{6!}\,e^{-v^2/4}`,
and :math:`e^{-v^2/4} = \sqrt2\,E\,e^{-(v-Z)^2/2}` for a standard normal Z, give
:math:`|g^{(6)}| \le 41.3\,\sup g` in kernel widths, hence a factor, and no local constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.blahut_arimoto import Nodes, Reproduction, Sweep, potential
from theory.sources import GGD, Histogram, Source

REACH = 9.0
"""Kernel widths; the kernel beyond, below 2.6e-18, is dropped from the channel and added to the supremum."""

ROUNDING = 1e-11
"""Nats given away at either end for float64: densities and kernel values carry relative errors below 1e-12."""

_SIXTH = 1.0865 * math.sqrt(720 * 2) / 46080  # sup |g^(6)| / (6! 2^6), over sup g
_NEAR = 3.0  # kernel widths within which weights are raised


@dataclass(frozen=True)
class Tail:
    """What lies beyond `start`: its mass, and a quantizer with its rate (nats) and distortion."""

    start: float
    mass: float
    levels: np.ndarray
    weights: np.ndarray
    rate: float
    distortion: float


@dataclass(frozen=True)
class Body:
    """A source of unit variance: nodes to certify on, cheaper ones to search on, and the tail left out."""

    fine: Nodes
    coarse: Nodes
    hull: np.ndarray
    tail: Tail


def _tail(source: Any, sigma: float, s: float, tol: float) -> Tail:
    def beyond(t: Any) -> Any:
        moments = [2 * source.partial_moment(k, sigma * t, np.inf) / sigma**k for k in range(3)]
        return np.stack([np.asarray(m, dtype=np.float64) for m in moments])

    # The tail costs about 20 nats for each unit of mass.
    grid = np.geomspace(0.5, 1e6, 1000)
    mass = beyond(grid)[0]
    start = int(np.argmax(mass <= tol / 400))
    edges = [float(grid[start])]
    while len(edges) < 20_000:
        t, (m0, m1, m2) = edges[-1], beyond(edges[-1])
        if m0 <= 0 or s * (m2 - 2 * t * m1 + t * t * m0) <= tol / 100:
            break
        edges.append(t + math.sqrt(tol / (50 * s * m0)))
    cells = beyond(np.array(edges))
    cells[:, :-1] -= cells[:, 1:]
    p, m1, m2 = cells[:, cells[0] > 0]
    levels = m1 / p
    # Half of p on each side: -ln of half the mass.
    return Tail(
        start=float(grid[start]),
        mass=float(mass[start]),
        levels=levels,
        weights=p,
        rate=float(-(p * np.log(p / 2)).sum()),
        distortion=float((m2 - 2 * levels * m1 + levels**2 * p).sum()),
    )


def _gauss(source: Any, sigma: float, edges: np.ndarray, order: int) -> Nodes:
    t, w = np.polynomial.legendre.leggauss(order)
    a, b = edges[:-1, None], edges[1:, None]
    x = ((a + b) / 2 + (b - a) / 2 * t).ravel()
    density = np.concatenate([source.pdf(part) for part in np.array_split(sigma * x, 1 + len(x) // 5000)])
    return Nodes(x, ((b - a) * w).ravel() * sigma * density, folded=True)


def body(source: Source, sigma: float, s: float, tol: float) -> Body:
    """Prepare `source`, divided by `sigma`, for slopes near `s` and a bracket of `tol` nats.

    Raises
    ------
    TypeError
        If the source is neither a `Histogram` nor has a density symmetric about 0.
    """
    if isinstance(source, Histogram):
        nodes = Nodes(source.values / sigma, source.probabilities)
        return Body(nodes, nodes, nodes.x, Tail(math.inf, 0.0, np.empty(0), np.empty(0), 0.0, 0.0))
    symmetric = hasattr(source, "pdf") and abs(float(source.cdf(0.0)) - 0.5) < 1e-12
    if not (source.continuous and symmetric):
        raise TypeError(f"the rate-distortion function of {source!r} needs a Histogram or a symmetric density")
    tail = _tail(source, sigma, s, tol)
    width = min(1 / math.sqrt(2 * s), 0.3)
    # |x|**beta is not smooth at 0: panels are halved toward it until what is left no longer matters. A mixture falls
    # off at each of its scales: there no panel is wider than a fifth of its distance from 0.
    ratio, first = (2.0, width) if isinstance(source, GGD) else (1.2, min(5 * width, tail.start / 2))
    graded = first * ratio ** -np.arange(math.ceil(36 * math.log(2, ratio)), 0.0, -1.0)
    edges = np.concatenate([[0.0], graded, np.linspace(first, tail.start, math.ceil((tail.start - first) / width))])
    fine, coarse = _gauss(source, sigma, edges, 10), _gauss(source, sigma, edges, 8)
    return Body(fine, coarse, np.concatenate([[0.0], fine.x, [tail.start]]), tail)


def grid(x: np.ndarray, step: float, margin: float) -> np.ndarray:
    """Points at most `step` apart between the ends of `x`, but for gaps further than `margin` from all of it."""
    low, high = float(x[0]), float(x[-1])
    bins = np.unique(np.floor((x - low) / margin).astype(np.int64))
    bins = np.unique(bins[:, None] + np.array([-1, 0, 1]))
    per = math.ceil(margin / step)
    points = np.unique(low + margin * (bins[:, None] + np.arange(per + 1) / per))
    return np.concatenate([[low], points[(points > low) & (points < high)], [high] if high > low else []])


@dataclass(frozen=True)
class Potential:
    """g at points `y`, an upper bound over each cell between them, and over the whole line."""

    y: np.ndarray
    g: np.ndarray
    slope: np.ndarray
    cells: np.ndarray
    sup: float


def supremum(nodes: Nodes, c: np.ndarray, r: Reproduction, hull: np.ndarray, tol: float) -> Potential:
    """Bound ``g(y) = E[K(X, y)/c(X)]`` over every real y. The atoms are grid points: g peaks at them."""
    tau = 1 / math.sqrt(2 * r.s)
    remainder = min(tol / 20, 1e-6)
    step = (remainder / _SIXTH) ** (1 / 6)
    u = nodes.p / c
    y = np.union1d(grid(hull, step * tau, REACH * tau), r.y)
    g, slope, bend = np.concatenate(list(potential(nodes, u, y, r.s, REACH)), axis=1)
    h = np.diff(y) / tau
    g0, g1 = g[:-1], g[1:]
    d0, d1 = h * slope[:-1] / 5, h * slope[1:] / 5
    b0, b1 = h * h * bend[:-1] / 20, h * h * bend[1:] / 20
    cells = np.maximum.reduce([g0, g0 + d0, g0 + 2 * d0 + b0, g1 - 2 * d1 + b1, g1 - d1, g1])
    cells[h > 1.001 * step] = 0.0  # a gap out of reach of every node
    top = max(float(g.max()), float(cells.max(initial=0.0)))
    sup = (top + float(u.sum()) * math.exp(-(REACH**2) / 2)) / (1 - remainder)
    return Potential(y, g, slope, cells, sup)


def raised_near(r: Reproduction, found: Potential) -> Reproduction:
    """Raise each weight by the most that g exceeds 1 nearby."""
    near = _NEAR / math.sqrt(2 * r.s)
    ends = np.searchsorted(found.y, np.stack([r.y - near, r.y + near], 1))
    excess = np.append(np.maximum(found.cells - 1, 0.0), 0.0)
    ends = np.clip(ends, 0, len(excess) - 1)
    ends[:, 1] = np.maximum(ends[:, 1], ends[:, 0] + 1)
    ends = np.minimum(ends, len(excess) - 1)
    most = np.minimum(np.maximum.reduceat(excess, ends.ravel())[::2], 1.0)  # bounded: a bad start stays finite
    return Reproduction(r.y, r.q * (1 + most), r.s)


@dataclass(frozen=True)
class Line:
    """``R(D) >= intercept - s D`` for every D, in nats and at unit variance."""

    intercept: float
    s: float

    def rate(self, D: float) -> float:
        return self.intercept - self.s * D


@dataclass(frozen=True)
class Point:
    """``R(distortion) <= rate``, in nats and at unit variance."""

    rate: float
    distortion: float
    s: float


def lower_line(b: Body, r: Reproduction, tol: float) -> tuple[Line, Potential, float]:
    """Lower end, the potential of `r` itself, and the quadrature error (nats) seen between the two rules."""
    sweep = Sweep(b.fine, r, REACH, order=int(b.coarse is not b.fine))
    error = error_g = 0.0
    if b.coarse is not b.fine:
        check = Sweep(b.coarse, r, REACH, order=1)
        error = abs(sweep.mean_log - check.mean_log) + r.s * abs(sweep.distortion - check.distortion)
        used = r.q > 1e-8 * r.q.max()
        error_g = float(np.abs((sweep.gradient - check.gradient)[used] / r.q[used]).max())
    delta = tol / 20 if b.tail.mass else 0.0
    tail = b.tail.mass * math.log(delta / b.tail.mass) if b.tail.mass else 0.0

    def intercept(c: np.ndarray, sup: float) -> float:
        total = -float(b.fine.p @ np.log(c)) + tail - math.log(sup + delta + error_g)
        return total - error - ROUNDING

    found = own = supremum(b.fine, sweep.c, r, b.hull, tol)
    best = intercept(sweep.c, own.sup)
    raised = r
    for _ in range(6):
        if found.sup - 1 < tol / 8:
            break
        raised = raised_near(raised, found)
        c = Sweep(b.fine, raised, REACH).c
        found = supremum(b.fine, c, raised, b.hull, tol)
        best = max(best, intercept(c, found.sup))
    return Line(best, r.s), own, error


def upper_point(b: Body, r: Reproduction, error: float, tol: float, *, target: float, is_rate: bool) -> Point | None:
    """Upper end with distortion, or rate if `is_rate`, at most `target`, by moving s a little; None if not."""
    s = r.s
    aim = 1e-3 * tol
    for _ in range(8):
        sweep = Sweep(b.fine, Reproduction(r.y, r.q, s), REACH, order=1)
        if sweep.c.min() < 1e-290:  # no channel: a node that no atom reaches
            return None
        total = sweep.distortion + b.tail.distortion
        cost = sweep.rate + b.tail.rate + error + ROUNDING
        miss = cost - target if is_rate else s * (total - target)  # in nats
        if -4 * aim <= miss <= 0:
            return Point(cost, total, s)
        if sweep.spread <= 0:
            break
        change = (miss + 2 * aim) / (s * sweep.spread)
        s *= math.exp(float(np.clip(-change if is_rate else change, -0.5, 0.5)))
    if miss <= 0:
        return Point(cost, total, s)
    return None
