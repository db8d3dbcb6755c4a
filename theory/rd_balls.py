r"""Both ends of a rate-distortion bracket in ball arithmetic: nothing estimated, nothing rounded out of sight.

The ends are those of `theory.rd_certificate`, whose search supplies the atoms, for the source with exactly its
float64 parameters. Lengths are in kernel widths, where s = 1/2.

*Upper end.* Of the body, :math:`|x| \le a`, the channel :math:`w_j(x) = q_j K(x,y_j)/c(x)`. Of the tail, of mass P
and second moment V given the tail, a Gaussian test channel with distortion d: its output law is Gaussian and its rate
:math:`\tfrac12\ln(V/d)`, whatever the law of the tail. With one output law for all, of mass :math:`Q = \sum q_j + P`,

.. math:: R(D_s + Pd) \le -sD_s - E\ln c + P\ln\frac1P + \frac P2\ln\frac Vd + \ln Q.

d is what the body leaves of D, so that the distortion is D exactly.

*Lower end.* As there: :math:`R(D) \ge -E\ln c' + P\ln(\delta/P) - \ln(\sup g + \delta) - sD`.

*Supremum.* On cells of width e, g is at most the largest Bernstein coefficient of its quintic Hermite interpolant
plus :math:`\sup|g^{(6)}|e^6/(6!\,2^6)`. By Cramer's inequality
:math:`|He_6(v)|e^{-v^2/2} \le 1.0865\sqrt{6!}\,e^{-v^2/4}`, and :math:`e^{-v^2/4} = \sqrt2\,E e^{-(v-Z)^2/2}` for a
standard normal Z, so that :math:`|g^{(6)}| \le 1.0865\sqrt{2\cdot6!}\,\sup g < 41.3\,\sup g`. Cells are halved (de
Casteljau) where the coefficients exceed the largest g by what matters. Beyond the body g decreases; further than
`REACH` from all of it, g is at most the kernel there.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb, ctx

from theory import rd_certificate
from theory.blahut_arimoto import Reproduction, Sweep
from theory.rd_ball_integrals import (
    PRECISION,
    REACH,
    WIDE,
    Body,
    Boxes,
    Law,
    Mixture,
    box_of,
    over_atoms,
    over_density,
    transform,
    widen,
    window,
)
from theory.rd_search import Search
from theory.sources import Histogram

_BOX = 0.58  # kernel widths; the rules are good to 1e-13 with boxes of that size
_SHRINK, _SMALLEST = 0.7, 0.05
_HALVINGS = 12
_SIXTH = arb("41.3") / 46080  # sup |g^(6)| / (6! 2^6), over sup g


def down(x: arb) -> float:
    """The float below a ball, or at it.

    >>> down(arb(0.5)), arb(down(arb(1) / 3)) <= arb(1) / 3
    (0.5, True)
    """
    end = float(x.lower()) if x.is_finite() else -math.inf
    return end if arb(end) <= x else math.nextafter(end, -math.inf)


def up(x: arb) -> float:
    """The float above a ball, or at it."""
    return -down(-x)


def variance(source: Any) -> arb:
    """The variance of the source with exactly its float64 parameters."""
    if isinstance(source, Histogram):
        counts, values = [arb(c) for c in source.counts.tolist()], [arb(v) for v in source.values.tolist()]
        size = sum(counts, arb(0))
        mean = sum((c * v for c, v in zip(counts, values, strict=True)), arb(0)) / size
        return sum((c * (v - mean) * (v - mean) for c, v in zip(counts, values, strict=True)), arb(0)) / size
    return Law(source, arb(1)).moment(2, arb(0), arb.pos_inf())


def entropy(source: Histogram) -> arb:
    """In nats, of exactly these counts."""
    counts = [arb(c) for c in source.counts.tolist()]
    size = sum(counts, arb(0))
    return -sum((c / size * (c / size).log() for c in counts), arb(0))


class Certificate:
    """The integrals of one mixture, and the source's tail, in kernel widths of its slope."""

    def __init__(self, search: Search, r: Reproduction, tol: float) -> None:
        self.tol = tol
        source, discrete = search.source, isinstance(search.source, Histogram)
        with ctx.workprec(WIDE):
            self.unit = arb(2 * r.s).sqrt() / arb(search.sigma)
            law = None if discrete else Law(source, self.unit)
        atoms = Mixture.of(r, folded=not discrete)
        self.mass = self.second = arb(0)
        self.weight = sum(atoms.q, arb(0))
        self.h, self.body, size, best = _BOX, None, _BOX, math.inf
        if law is None:
            x = source.values * float(self.unit)
            self.hull = range(box_of(arb(x[0]), self.h) - 1, box_of(arb(x[-1]), self.h) + 2)
            self.body = over_atoms(source, self.unit, atoms, self.h)
            return
        end = search.body.tail.start * math.sqrt(2 * r.s)  # no atoms were placed, and c is tiny, further out
        while size > _SMALLEST:
            boxes = math.ceil(end / size)
            h = end / boxes
            body = over_density(law, boxes, atoms, h)
            if body is not None:
                error = max(float(body.log.rad()), float(body.square.rad()), float(body.error))
                if error < best:
                    self.h, self.body, self.hull = h, body, range(boxes)
                if error < tol / 50 or error > best / 2:
                    break
                best = error
            size *= _SHRINK
        if self.body is not None:
            cut = arb(len(self.hull)) * self.h
            self.mass = law.moment(0, cut, arb.pos_inf())
            self.second = law.moment(2, cut, arb.pos_inf()) / self.mass

    def rate(self, d: arb) -> arb:
        """Of the channel, with the distortion `d` in the tail."""
        body = self.body
        assert body is not None
        cost = -body.square / 2 - body.log + (self.weight + self.mass).log()
        if self.mass == 0:
            return cost
        return cost + self.mass * ((self.second / d).log() / 2 - self.mass.log())

    def intercept(self) -> arb:
        body = self.body
        assert body is not None
        delta = arb(self.tol / 20) if self.mass > 0 else arb(0)
        tail = self.mass * (delta / self.mass).log() if self.mass > 0 else arb(0)
        return tail - body.log - (supremum(body, self.hull, self.h, self.tol) + delta).log()


def supremum(body: Body, hull: range, h: float, tol: float) -> arb:
    """An upper bound of g over every real y, for one that decreases beyond the boxes `hull`."""
    cells = math.ceil(h / float((tol / 20 / _SIXTH).root(6)))
    e = arb(h) / cells
    columns = [(e * i - arb(h) / 2, (0, 1, 2)) for i in range(cells + 1)]
    dropped = body.total * arb(-40).exp()  # above exp(-REACH**2/2), for points on the edge of a box
    # Derivatives of K: (|v| + 1) times as large there, and within the ellipses by less than 2 and 3.
    slack = [dropped + body.error, REACH * dropped + 2 * body.error, REACH**2 * dropped + 3 * body.error]
    factors = [arb(1), e / 5, e * e / 20]
    quintics = []
    for row in transform(body.inverse, _met(body.inverse, hull, h), columns, h):
        scaled = [widen(v, slack[i % 3]) * factors[i % 3] for i, v in enumerate(row)]
        jets = zip(scaled[::3], scaled[1::3], scaled[2::3], strict=True)
        for (g0, d0, b0), (g1, d1, b1) in pairwise(jets):
            quintics.append([g0, g0 + d0, g0 + 2 * d0 + b0, g1 - 2 * d1 + b1, g1 - d1, g1])
    largest = max((up(p) for quintic in quintics for p in (quintic[0], quintic[5])), default=0.0)
    enough, top = largest * (1 + tol / 50), largest
    for left in range(_HALVINGS, -1, -1):
        bounds = [max(map(up, quintic)) for quintic in quintics]
        top = max([top, *(b for b in bounds if b <= enough or not left)])
        high = [quintic for quintic, b in zip(quintics, bounds, strict=True) if b > enough]
        quintics = [half for quintic in high for half in _halves(quintic)]
    return arb(max(top, up(dropped + body.error))) / (1 - _SIXTH * e**6)


def _met(boxes: Boxes, hull: range, h: float) -> list[int]:
    """The boxes of `hull` that some box with mass reaches."""
    return sorted({b + d for b in boxes for d in window(h)} & set(hull))


def _halves(points: list[arb]) -> tuple[list[arb], list[arb]]:
    left, right = [points[0]], [points[-1]]
    while len(points) > 1:
        points = [(a + b) / 2 for a, b in pairwise(points)]
        left.append(points[0])
        right.append(points[-1])
    return left, right[::-1]


def _upper(search: Search, tol: float, target: arb) -> arb | None:
    """The least found rate at the distortion `target`; with a rate asked for, distortion at the rate `target`."""
    r = next((r for p, r in search.points if p is search.best), None)
    if r is None:
        return None
    s, found = search.best.s, None
    for _ in range(4):
        ends = Certificate(search, Reproduction(r.y, r.q, s), tol)
        body, mass = ends.body, ends.mass
        if body is None:
            break
        if search.is_rate:
            d = arb(1).min(ends.second)
            miss, value = ends.rate(d) - target, (body.square + mass * d) / arb(2 * s)
        else:
            left = target * arb(2 * s) - body.square
            miss = (mass - left) / 2  # a margin: the tail then has at least the distortion of the body
            d = (left / mass).min(ends.second) if mass > 0 else arb(0)
            value = ends.rate(d) if miss <= 0 else arb.nan()
        if miss <= 0 and value.is_finite():
            found = value if found is None else found.min(value)
        spread = Sweep(search.body.fine, Reproduction(r.y, r.q, s), REACH, order=1).spread
        if (miss <= 0 and miss >= -tol / 20) or not spread > 0:
            break
        change = (float(miss) + tol / 100) / (s * spread)
        s *= math.exp(float(np.clip(-change if search.is_rate else change, -0.1, 0.1)))
    return found


def _flattened(search: Search, tol: float) -> Reproduction:
    """The mixture of the lower end: weights raised, in float64, while g exceeds 1 by what matters."""
    b, r = search.body, search.last
    best, value = r, -math.inf
    for _ in range(6):
        c = Sweep(b.fine, r, REACH).c
        found = rd_certificate.supremum(b.fine, c, r, b.hull, tol)
        end = -float(b.fine.p @ np.log(c)) - math.log(found.sup)
        best, value = (r, end) if end > value else (best, value)
        if found.sup - 1 < tol / 8:
            break
        r = rd_certificate.raised_near(r, found)
    return best


def certify(search: Search, value: float, tol: float) -> tuple[float, float, float, float]:
    """Enclose R at the distortion `value`, or D at the rate `value`, by the atoms of a search that has run.

    Parameters
    ----------
    search : Search
        One that has not run, or found nothing, leaves 0 and the Gaussian's curve, which is above any source's.
    value : float
        As asked for: distortion in units of the source squared, or rate in bits. Taken as exact.
    tol : float
        In nats: remainders are kept to a fraction of it.

    Returns
    -------
    lower, upper, D_lower, D_upper : float
        As in `theory.rate_distortion.RateDistortion`, rounded outward.
    """
    with ctx.workprec(PRECISION):
        unit, bit = arb(search.sigma) ** 2, arb.const_log2()
        target = arb(value) * bit if search.is_rate else arb(value) / unit
        least, most = _bracket(search, target, tol)
        if not search.is_rate:
            lower, upper = (max(0.0, end) for end in (down(least / bit), up(most / bit)))
            return lower, upper, value, value
        D_lower, D_upper = max(0.0, down(least * unit)), up(most * unit)
        # The line of slope s through (least, target), at D_upper.
        line = target - arb(search.last.s) * (arb(D_upper) / unit - least) if least > 0 else arb(0)
        return max(0.0, down(line / bit)), value, D_lower, D_upper


def _bracket(search: Search, target: arb, tol: float) -> tuple[arb, arb]:
    """Ends in nats of R at the distortion `target`, or of D at the rate, lengths in `search.sigma`."""
    v = variance(search.source) / arb(search.sigma) ** 2
    if search.is_rate and target == 0:
        return v, v
    upper = v * (-2 * target).exp() if search.is_rate else (v / target).log() / 2
    if isinstance(search.source, Histogram):
        h = entropy(search.source)
        upper = upper.min(h) if not search.is_rate else arb(0) if h <= target else upper
    lower = arb(0)
    if search.nodes:
        found = _upper(search, tol, target)
        upper = upper.min(found) if found is not None else upper
        r = _flattened(search, tol)
        ends = Certificate(search, r, tol)
        if ends.body is not None:
            intercept = ends.intercept()
            line = (intercept - target) / arb(r.s) if search.is_rate else intercept - arb(r.s) * target
            lower = lower.max(line) if line.is_finite() else lower
    return lower, upper
