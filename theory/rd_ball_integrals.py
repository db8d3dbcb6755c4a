r"""Integrals against a source and a Gaussian mixture, enclosed in balls: the engine of `theory.rd_balls`.

Lengths are in kernel widths, so that the kernel is :math:`\varphi(v) = e^{-v^2/2}` and
:math:`c(x) = \sum_j q_j\varphi(x-y_j)`. The line is cut into boxes of width h; every point is its box's centre and an
offset d. With Hermite polynomials and a mean value :math:`\xi` between v and v - d,

.. math:: \varphi^{(i)}(v-d) = (-1)^i\sum_{k<K}\frac{d^k}{k!}He_{k+i}(v)\varphi(v) + R, \qquad
          |R| \le \frac{|d|^K}{K!}|He_{K+i}(\xi)|\varphi(\xi)
              \le 1.0865\,\frac{|d|^K\sqrt{(K+i)!}}{K!}\,e^{-\xi^2/4}

by Cramer's inequality, and sums over points become one product of matrices, from box to box.

*Quadrature.* About the centre u of a box let w be the posterior weights :math:`q_j\varphi(u-y_j)/c(u)`, m the
posterior mean of y - u and :math:`G(z) = \sum_j w_j e^{z(y_j-u-m)}`: then :math:`c(u+z) = c(u)e^{-z^2/2+mz}G(z)`.
Since :math:`|e^x-1-x| \le 2(\cosh|x|-1)`, every :math:`|z|\le r` has

.. math:: |G(z) - 1| \le \kappa = G(r) + G(-r) - 2.

Where :math:`\kappa < 1`, c has no zero in the disk; with z = a + ib and both sums below over the signs,

.. math::
   |\ln c(u+z)| &\le |\ln c(u)| + r^2/2 + r|m| - \ln(1-\kappa), \\
   |\varphi(u+z-y)/c(u+z)| &\le e^{r^2/2+r|m|}/((1-\kappa)c(u)), \\
   \Bigl|\sum_j\frac{q_j}{c}(x-y_j)^2\varphi(x-y_j)\Bigr|_{x=u+z}
     &\le \sum_\pm\frac{4N(u\pm r)+6r^2c(u\pm r)}{(1-\kappa)c(u)}e^{r^2/2\mp rm}, \qquad N = c + c''.

The third: the sum is at most :math:`\sum w_j((a-\beta_j)^2+b^2)e^{a(\beta_j-m)}/(1-\kappa)` with
:math:`\beta_j = y_j-u`, where :math:`(a-\beta)^2+b^2 \le 2\beta^2+2r^2`; what is left is convex in a, hence largest
at :math:`\pm r`, and there :math:`\beta^2 \le 2(\beta\mp r)^2+2r^2`.

Let f be analytic, and :math:`|f| \le M`, in the ellipse whose semi-axes add up to :math:`\rho` half-widths of a box:
it lies in the disk. The Chebyshev coefficients of f are at most :math:`2M\rho^{-k}`. A Gauss rule of n nodes errs on
:math:`T_k` by 0 for k < 2n or k odd, else by at most 2 + 2/(k**2 - 1), in all by
:math:`\frac{64}{15}M\rho^{-2n}/(1-\rho^{-2})` half-widths. In the boxes next to 0, where :math:`|x|^\beta` is not
analytic, f without the density is interpolated at N Chebyshev points and integrated against exact moments of the
density: each :math:`T_k`, k >= N, and its alias are at most 1, so that the error is at most
:math:`4M\rho^{-N}/(1-1/\rho)` times the mass of the box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb, arb_mat, arb_poly, ctx

from theory import ggd
from theory.blahut_arimoto import Reproduction, unfold
from theory.sources import GGD, Histogram, ScaleMixture

PRECISION, WIDE = 80, 256
"""Bits: of everything, and of the source's parameters in these units, whose moments next to 0 cancel."""

REACH = 9.0
"""Kernel widths. Boxes further apart do not meet: a channel without those atoms, and a known loss in g."""

_RADIUS = 1.2  # of the disk about a box's centre, over its width
_ANGLE = 1.2  # of z**beta over the disk, for the density to be taken as smooth there
_RHO = 2 * _RADIUS + math.sqrt(4 * _RADIUS**2 - 1) - 1e-12
_GAUSS, _CHEBYSHEV, _TERMS = 12, 24, 14
_CHUNK = 1000  # boxes per matrix: the whole line may have 10,000 rows of 500

Boxes = dict[int, list[arb]]
"""By box: the sums over its points of mass d**k / k!, k = 0, 1, ..., and last of |mass|."""


def widen(x: arb, error: arb) -> arb:
    """`x`, give or take |`error`|."""
    return x + arb(0, error.abs_upper())


def box_of(x: arb, h: float) -> int:
    return math.floor(float(x) / h)


def centre(box: int, h: float) -> arb:
    return arb(2 * box + 1) * h / 2


def gather(points: Iterable[tuple[arb, arb]], h: float) -> Boxes:
    """Expand pairs (position, mass) about the centres of their boxes."""
    boxes: Boxes = {}
    for x, mass in points:
        box = box_of(x, h)
        sums = boxes.setdefault(box, [arb(0)] * (_TERMS + 1))
        sums[-1] += abs(mass)
        d, term = x - centre(box, h), mass
        for k in range(_TERMS):
            sums[k] += term
            term = term * d / (k + 1)
    return boxes


def window(h: float) -> range:
    return range(-math.ceil(REACH / h), math.ceil(REACH / h) + 1)


def _hermite(v: arb, orders: int) -> list[arb]:
    r""":math:`He_k(v)\varphi(v)` for k < `orders`."""
    values = [(-v * v / 2).exp()]
    values.append(v * values[0])
    for k in range(1, orders - 1):
        values.append(v * values[k] - k * values[k - 1])
    return values


def transform(
    boxes: Boxes, targets: Sequence[int], columns: Sequence[tuple[arb, tuple[int, ...]]], h: float
) -> Iterator[list[arb]]:
    r"""For each target box the sums of :math:`\varphi^{(i)}(x - \text{point})` over the points within `REACH`.

    A column (t, orders) asks for the derivatives of these orders i <= 2 at the offset t from the box's centre.
    """
    near = window(h)
    asked = [i for _, orders in columns for i in orders]
    furthest = max(float(t.abs_upper()) for t, _ in columns) + h / 2
    table = []
    for delta in near:
        kernels = [_hermite(arb(delta) * h + t, _TERMS + 2) for t, _ in columns]
        clear = max(0.0, (abs(delta) * h - furthest) * (1 - 1e-9))
        for k in range(_TERMS):
            at = zip(kernels, columns, strict=True)
            table.append([*((-1) ** i * kernel[k + i] for kernel, (_, orders) in at for i in orders), arb(0)])
        table.append([*([arb(0)] * len(asked)), (-(arb(clear) ** 2) / 4).exp()])
    matrix = arb_mat(table)
    half = arb(h) / 2 * (1 + 1e-9)  # a point on the edge of two boxes may be put in either
    remainder = [arb("1.0865") * half**_TERMS * arb.fac_ui(_TERMS + i).sqrt() / arb.fac_ui(_TERMS) for i in range(3)]
    nothing = [arb(0)] * (_TERMS + 1)
    for start in range(0, len(targets), _CHUNK):
        part = targets[start : start + _CHUNK]
        left = [[a for delta in near for a in boxes.get(target - delta, nothing)] for target in part]
        for *values, scale in (arb_mat(left) * matrix).tolist():
            errors = [arb(0, (scale * e).abs_upper()) for e in remainder]
            yield [v + errors[i] for v, i in zip(values, asked, strict=True)]


class Law:
    """A symmetric density, a mixture of `GGD`, with lengths multiplied by `unit`; its parameters taken as exact."""

    def __init__(self, source: Any, unit: arb) -> None:
        scaled = source if isinstance(source, ScaleMixture) else ScaleMixture(source, [1.0])
        base = scaled.source
        if not isinstance(base, GGD):
            raise TypeError(f"balls enclose the law of a GGD, a ScaleMixture of such or a Histogram, not {source!r}")
        weights = [arb(float(w)) for w in scaled.weights]
        total, beta = sum(weights, arb(0)), arb(base.beta)
        self.parts = []
        for weight, scale in zip(weights, scaled.scales, strict=True):
            sigma = arb(base.sigma) * arb(float(scale)) * unit
            alpha = ggd.alpha(beta, sigma)
            peak = beta / (2 * alpha * (1 / beta).gamma())
            self.parts.append((weight / total, peak, alpha, GGD(beta, sigma)))
        self.beta = beta

    def density(self, x: arb) -> arb:
        """p at a positive ball."""
        return sum(((-((x / alpha) ** self.beta)).exp() * (w * peak) for w, peak, alpha, _ in self.parts), arb(0))

    def bound(self, u: arb, r: arb) -> arb | None:
        r"""Bound |p| on the disk of radius r about u > r: there Re z**beta >= (u - r)**beta cos(beta asin(r/u)), if
        the angle is less than a right one; None if it is not clearly so.
        """
        angle = self.beta * (r / u).asin()
        if not angle < _ANGLE:
            return None
        near = [(w * peak, ((u - r) / alpha) ** self.beta) for w, peak, alpha, _ in self.parts]
        return sum((p * (-power * angle.cos()).exp() for p, power in near), arb(0))

    def moment(self, k: int, lo: arb, hi: arb) -> arb:
        """E |X|**k over lo < |X| <= hi."""
        return sum((2 * w * law.partial_moment(k, lo, hi) for w, _, _, law in self.parts), arb(0))


@dataclass
class Body:
    """Integrals over the source up to the tail, lengths in kernel widths.

    Attributes
    ----------
    log, square : arb
        E ln c, and E sum_j w_j (X - y_j)**2 for the channel w_j = q_j K/c.
    inverse : Boxes
        The measure dP/c on the line, or the nodes of its quadrature.
    total, error : arb
        Total |mass| of `inverse`, and a bound of the quadrature error of g(y), for any y.
    """

    log: arb
    square: arb
    inverse: Boxes
    total: arb
    error: arb


@dataclass(frozen=True)
class Mixture:
    """Positions and weights of the atoms in kernel widths, increasing, on the whole line."""

    y: list[arb]
    q: list[arb]
    at: np.ndarray

    @classmethod
    def of(cls, r: Reproduction, folded: bool) -> Mixture:
        y, q = unfold(r.y, r.q) if folded else (r.y, r.q)
        k = arb(2 * r.s).sqrt()
        return cls([arb(float(v)) * k for v in y], [arb(float(v)) for v in q], y * math.sqrt(2 * r.s))

    def near(self, low: float, high: float) -> list[tuple[arb, arb]]:
        i, j = np.searchsorted(self.at, [low, high])
        return list(zip(self.y[i:j], self.q[i:j], strict=True))


def _sums(x: arb, atoms: list[tuple[arb, arb]]) -> tuple[arb, arb]:
    """c and N at x."""
    c = square = arb(0)
    for y, q in atoms:
        v = x - y  # v**2 of a ball with 0 in it is nan
        v2 = v * v
        term = q * (-v2 / 2).exp()
        c += term
        square += term * v2
    return c, square


def over_atoms(source: Histogram, unit: arb, atoms: Mixture, h: float) -> Body | None:
    """The integrals for a histogram: finite sums. None if an atom of it is out of reach of the mixture."""
    counts = [arb(v) for v in source.counts.tolist()]
    size, log, square, inverse = sum(counts, arb(0)), arb(0), arb(0), []
    for value, count in zip(source.values.tolist(), counts, strict=True):
        x, p = arb(value) * unit, count / size
        c, n = _sums(x, atoms.near(float(x) - REACH, float(x) + REACH))
        if not c > 0:
            return None
        log += p * c.log()
        square += p * n / c
        inverse.append((x, p / c))
    return Body(log, square, gather(inverse, h), sum((u for _, u in inverse), arb(0)), arb(0))


def _suprema(centre_values: Sequence[arb], r: arb) -> tuple[arb, arb, arb] | None:
    """Bounds on the disk of |ln c|, of N/c and of K/c: the inequalities of the module's note."""
    c, slope, c_right, n_right, c_left, n_left = centre_values
    if not (c > 0 and c_right > 0 and c_left > 0):
        return None
    m = slope / c
    right, left = (r * r / 2 - r * m).exp() / c, (r * r / 2 + r * m).exp() / c
    margin = 3 - c_right * right - c_left * left  # 1 - kappa
    if not margin > 0.1:
        return None
    log = abs(c.log()) + r * r / 2 + r * abs(m) - margin.log()
    square = ((4 * n_right + 6 * r * r * c_right) * right + (4 * n_left + 6 * r * r * c_left) * left) / margin
    return log, square, (r * r / 2 + r * abs(m)).exp() / (margin * c)


def _chebyshev_weights(law: Law, box: int, h: float) -> tuple[list[arb], list[arb]]:
    """Nodes in one box, and the weights that integrate their interpolant against the density exactly."""
    n = _CHEBYSHEV
    with ctx.workprec(WIDE):  # the monomials cancel
        moments = [law.moment(k, arb(box) * h, arb(box + 1) * h) for k in range(n)]
        x = arb_poly([-(2 * box + 1), arb(2) / h])
        basis = [arb_poly([1]), x]
        while len(basis) < n:
            basis.append(2 * x * basis[-1] - basis[-2])
        mu = [sum((a * p for a, p in zip(t.coeffs(), moments, strict=False)), arb(0)) for t in basis]
    angles = [arb(2 * i + 1) / (2 * n) for i in range(n)]
    weights = [(mu[0] + 2 * sum((mu[k] * (k * a).cos_pi() for k in range(1, n)), arb(0))) / n for a in angles]
    return [centre(box, h) + a.cos_pi() * h / 2 for a in angles], weights


def over_density(law: Law, boxes: int, atoms: Mixture, h: float) -> Body | None:
    """The integrals over |x| <= boxes * h; None where c may have a zero within the disks: take a smaller h."""
    roots, weights = zip(*(arb.legendre_p_root(_GAUSS, i, weight=True) for i in range(_GAUSS)), strict=True)
    r, half = _RADIUS * arb(h), arb(h) / 2
    offsets = [t * half for t in roots]
    columns = [*((t, (0, 2)) for t in offsets), (arb(0), (0, 1)), (r, (0, 2)), (-r, (0, 2))]
    placed = gather(zip(atoms.y, atoms.q, strict=True), h)
    near = window(h)
    rule = arb(64) / 15 * arb(_RHO) ** (-2 * _GAUSS) / (1 - arb(_RHO) ** -2)
    interpolation = 4 * arb(_RHO) ** -_CHEBYSHEV / (1 - 1 / arb(_RHO))
    log, square, total, errors = arb(0), arb(0), arb(0), [arb(0)] * 3
    extra: list[tuple[arb, arb]] = []
    analytic: list[list[arb]] = []
    for box, row in enumerate(transform(placed, range(boxes), columns, h)):
        *values, around = row[: 2 * _GAUSS : 2], row[1 : 2 * _GAUSS : 2], row[2 * _GAUSS :]
        around[3] += around[2]
        around[5] += around[4]
        bounds = _suprema(around, r)
        if bounds is None:
            return None
        u = centre(box, h)
        peak = law.bound(u, r) if u > r else None
        if peak is None:
            nodes, masses = _chebyshev_weights(law, box, h)
            reached = [(y, q) for y, q in zip(atoms.y, atoms.q, strict=True) if box - box_of(y, h) in near]
            pairs = [_sums(x, reached) for x in nodes]
            scale = law.moment(0, arb(box) * h, arb(box + 1) * h) * interpolation
        else:
            masses = [law.density(u + t) * (w * h) for t, w in zip(offsets, weights, strict=True)]
            pairs = [(c, c + bend) for c, bend in zip(*values, strict=True)]
            scale = peak * h * rule
        errors = [e + b * scale for e, b in zip(errors, bounds, strict=True)]
        shares = []
        for mass, (value, n) in zip(masses, pairs, strict=True):
            if not value > 0:
                return None
            log += mass * value.log()
            shares.append(mass / value)
            square += shares[-1] * n
            total += abs(shares[-1])
        if peak is None:
            extra += [(sign * x, a / 2) for x, a in zip(nodes, shares, strict=True) for sign in (1, -1)]
        else:
            analytic.append(shares)
    inverse = gather(extra, h)
    powers = [[*(t**k / (2 * arb.fac_ui(k)) for k in range(_TERMS)), arb(1) / 2] for t in offsets]
    expanded = (arb_mat(analytic) * arb_mat(powers)).tolist() if analytic else []
    for box, sums in enumerate(expanded, start=boxes - len(analytic)):
        mirrored = [(-1) ** k * a for k, a in enumerate(sums[:-1])]
        for side, row in ((box, sums), (-1 - box, [*mirrored, sums[-1]])):
            # A Chebyshev point on the edge may have been put here.
            inverse[side] = [a + b for a, b in zip(inverse.get(side, [arb(0)] * len(row)), row, strict=True)]
    return Body(widen(log, errors[0]), widen(square, errors[1]), inverse, total, errors[2])
