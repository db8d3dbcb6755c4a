r"""Certificates in ball arithmetic: a stationary codebook exists in these balls, and only one does.

**A codebook with free levels.** With :math:`f_i(l) = l_i M_0^{(i)} - M_1^{(i)}`, half the gradient of D, and its
Jacobian J, tridiagonal, symmetric, with off-diagonals :math:`-c_i \le 0` (`theory.codebook_design.stationary`), let
:math:`X = \{|l_i - \hat l_i| \le \epsilon v_i\}`, v > 0, and let balls show

.. math:: |f_i(\hat l)| < \epsilon\,(J(X)\,v)_i \quad\text{for every } i.

On the face :math:`l_i = \hat l_i + \epsilon v_i` the mean value theorem gives
:math:`f_i(l) \ge f_i(\hat l) + \epsilon (J(\xi) v)_i > 0`, for the off-diagonals are not positive; on the opposite
face f_i < 0. By the theorem of Poincare and Miranda f vanishes in X. Two zeros would differ by the kernel of a matrix
with rows in J(X); it is an M-matrix, for v > 0 and its product with v is > 0, and has none. So there is one, and the
Hessian 2J, a symmetric M-matrix, is positive definite there: a strict local minimum. For a log-concave source no
other codebook is stationary [Fleischer1964; Trushkin1982; Kieffer1983], and the optimum is: it is this one.

**A uniform codebook**, levels :math:`B\theta` with one or two parameters: Krawczyk's operator
:math:`K = \hat\theta - Y g + (I - Y H(\Theta))(\Theta - \hat\theta)`, of :math:`g = B^\top f, H = B^\top J B` and Y
about the inverse of H, maps a box into its interior; then the box has one zero of g, and K holds it [Krawczyk1969].

**The distortion** at the stationary point l* is not computed from balls for l*, which would be as wide as they:
:math:`D(\hat l) - D(l^*) = (\hat l - l^*)^\top J(\xi) (\hat l - l^*)`, between 0 and a bound of order
:math:`\epsilon^2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from flint import arb, ctx
from mpmath import mp

from theory import arithmetic
from theory.arithmetic import total
from theory.codebook_design import Quantizer, midpoints, mse, solve_definite
from theory.sources import GGD
from theory.units import from_nats

OPTIMUM = "the optimum: no other codebook is stationary"
LOCAL_MINIMUM = "a strict local minimum: the only stationary codebook within the balls of its levels"
STEP = "a strict local minimum: the only stationary point within the balls of its parameters"

_balls = arithmetic.BALL.number


def lloyd_max(levels: Any, source: GGD) -> Quantizer:
    """Enclose the stationary codebook near `levels`.

    Parameters
    ----------
    levels : array of shape (n,)
        About stationary for the law of unit sigma, in float64. For a log-concave source only the symmetric codebook
        is sought, from the upper half of them; for others the whole line is certified.
    source : GGD
        Of balls. The certificate is for every law in them.

    Returns
    -------
    Quantizer
        Levels, thresholds and mse are balls; `certificate` says what is proved.

    Raises
    ------
    ArithmeticError
        If no box can be certified: the balls of the source are too wide, or the codebook is not a strict minimum.

    Examples
    --------
    >>> from theory.scalar import lloyd_max
    >>> found = lloyd_max(GGD(arb(1)), 2)  # each half is exponential: its centroid is at alpha
    >>> bool(found.levels[1].contains(arb("0.5").sqrt())), bool(found.mse.contains(arb("0.5")))
    (True, True)
    """
    n, sigma = len(levels), source.sigma
    with ctx.workprec(ctx.prec + 40 + 3 * n.bit_length()):
        law, start = GGD(source.beta, arb(1)), np.asarray(levels, dtype=float)
        if unique := source.log_concave or n == 1:
            near, box, excess = _free_box(_UpperHalf(law, n % 2), start[(n + 1) // 2 :])
            near, box, excess = _mirrored(near, n % 2), _mirrored(box, n % 2), 2 * excess
        else:
            near, box, excess = _free_box(_Line(law), start)
        error = mse(near, law) - arb(0).union(excess)
    return _in_units(sigma, box, error, OPTIMUM if unique else LOCAL_MINIMUM)


def uniform(parameters: Any, basis: Any, source: GGD) -> Quantizer:
    """Enclose the stationary uniform codebook near ``basis @ parameters``; the parameters are per unit sigma.

    `basis`, of shape (n, 1) or (n, 2), holds exact floats. Returns and raises as `lloyd_max`; uniqueness beyond the
    balls is not claimed.
    """
    n, sigma = len(basis), source.sigma
    with ctx.workprec(ctx.prec + 40 + 3 * n.bit_length()):
        line, b = _Line(GGD(source.beta, arb(1))), np.array([[arb(v) for v in row] for row in basis])

        def hessian(theta: Any) -> Any:
            _, diagonal, c = line.system(b @ theta)
            cross = (b[1:].T * c) @ b[:-1]
            return (b.T * diagonal) @ b - cross - cross.T

        near, last = np.array([_balls(v) for v in parameters]), math.inf
        inverse = np.linalg.inv(np.reshape(_floats(hessian(near).ravel()), (len(near), -1)))
        while True:  # a chord method: the Hessian of the float64 solution is good to the end
            step = inverse @ (b.T @ line.system(b @ near)[0])
            size = max(float(abs(v).upper()) for v in step)
            if not size < last / 2:
                break
            near, last = _middles(near - step), size
        deviation = np.array([arb(0, 2 * abs(v).upper()) for v in step])
        h = hessian(near + deviation)
        image = -step + (np.eye(len(near), dtype=int) - inverse @ h) @ deviation
        definite = h[0, 0] > 0 and (len(near) == 1 or h[0, 0] * h[1, 1] > h[0, 1] * h[1, 0])
        inside = all(d.contains_interior(v) for d, v in zip(deviation, image, strict=True))
        if not (inside and definite and near[-1] + deviation[-1] > 0):
            raise ArithmeticError("no stationary step certified: are the balls of beta and sigma too wide?")
        error = mse(b @ near, line.law) - arb(0).union(abs(image) @ abs(h) @ abs(image))
        levels = b @ (near + image)
    return _in_units(sigma, levels, error, STEP)


def in_mpmath(design: Callable[[GGD], Quantizer], source: GGD) -> Quantizer:
    """For an mpf source, the midpoints of what `design` encloses, with every digit of mse and rate decided."""
    for extra in (32, 96, 224):
        with ctx.workprec(mp.prec + extra), mp.workprec(mp.prec + extra):
            found = design(source.within(arithmetic.BALL))
            if min(found.mse.rel_accuracy_bits(), found.rate.rel_accuracy_bits()) > mp.prec - extra + 4:
                break
    else:
        raise ArithmeticError(f"the ball {found.mse} does not decide {mp.prec} bits")

    def rounded(values: Any) -> Any:
        return np.array([+arithmetic.midpoint(v) for v in values], dtype=object)

    levels, thresholds = rounded(found.levels), rounded(found.thresholds)
    (error, rate) = rounded([found.mse, found.rate])
    return replace(found, levels=levels, thresholds=thresholds, mse=error, rate=rate)


def _in_units(sigma: arb, levels: Any, error: arb, certificate: str) -> Quantizer:
    levels, rate = levels * sigma, from_nats(arb(len(levels)).log())
    return Quantizer(levels, midpoints(levels), error * sigma**2, rate, certificate=certificate)


def _mirrored(upper: Any, level_at_0: int) -> Any:
    return np.array([*(-upper[::-1]), *[arb(0)] * level_at_0, *upper])


class _Line:
    """The cells of a whole codebook: its half gradient f, and J as (diagonal, couplings c)."""

    def __init__(self, law: GGD) -> None:
        self.law = law

    def ends(self, x: Any) -> tuple[Any, Any]:
        """First threshold, and its coupling to a level below that does not move."""
        return arb.neg_inf(), arb(0)

    def system(self, x: Any) -> tuple[Any, Any, Any]:
        first, held = self.ends(x)
        t = midpoints(x)
        lo, hi = np.array([first, *t]), np.array([*t, arb.pos_inf()])
        m0, m1 = (self.law.partial_moment(k, lo, hi) for k in (0, 1))
        c = (x[1:] - x[:-1]) * self.law.pdf(t) / 4
        return x * m0 - m1, m0 - np.array([held, *c]) - np.array([*c, arb(0)]), c


class _UpperHalf(_Line):
    """The positive levels of a symmetric codebook: above a threshold at 0, or above a level at 0."""

    def __init__(self, law: GGD, level_at_0: int) -> None:
        super().__init__(law)
        self.level_at_0 = level_at_0

    def ends(self, x: Any) -> tuple[Any, Any]:
        return (x[0] / 2, x[0] * self.law.pdf(x[0] / 2) / 4) if self.level_at_0 else (arb(0), arb(0))


def _floats(x: Any) -> Any:
    return np.array([float(v) for v in x])


def _middles(x: Any) -> Any:
    return np.array([v.mid() for v in x])


def _free_box(cells: _Line, start: Any) -> tuple[Any, Any, arb]:
    """Points near the stationary codebook, balls that hold it, and a bound of D there less D at it, per copy."""
    x, last = np.array([_balls(v) for v in start]), math.inf
    if not len(x):
        return x, x, arb(0)
    while True:  # Newton's method with a float64 Jacobian gains ten digits a step
        f, diagonal, c = cells.system(x)
        bands = _floats(diagonal), -_floats(c)
        step = solve_definite(*bands, _floats(f))
        if step is None:
            raise ArithmeticError("no codebook certified: the one to start from is not near a strict minimum")
        if not np.abs(step).max() < last / 2:
            break
        last = np.abs(step).max()
        x = _middles(x - step)
    miss = np.array([abs(v).upper() for v in f])
    size = max(miss)
    v = solve_definite(*bands, _floats(miss / size) + 2.0**-20)  # > 0: an inverse M-matrix
    for epsilon in (size * 2**k for k in (1, 4, 8, 16)):
        deviation = [epsilon * arb(w) for w in v]
        box = x + np.array([arb(0, w.upper()) for w in deviation])
        _, diagonal, c = cells.system(box)
        row = diagonal * v - np.append(0, c * v[:-1]) - np.append(c * v[1:], 0)
        if all(v > 0) and all(row > 0) and all(epsilon * row > miss) and all(box[1:] > box[:-1]):
            w = np.array(deviation)
            return x, box, total(diagonal * w**2) + 2 * total(c * w[1:] * w[:-1])
    raise ArithmeticError("no stationary codebook certified: are the balls of beta and sigma too wide?")
