r"""Rigorous integrals over the scale of a block, in ball arithmetic.

The scale S is the k-th smallest of n magnitudes, with density :math:`k\binom nk F^{k-1} R^{n-k} f`, where f and F
are those of the magnitude and R = 1 - F. With s = e**u every integrand below is I(u) = s**p times products of F, R,
sf and partial moments at s, that is, of integrals :math:`s^{j+1}\int y^j \varphi(y)\,e^{-|y|^\beta w}dy` with
:math:`w = (s/\alpha)^\beta` and :math:`\varphi \ge 0`, over y < 1 or y > 1: analytic in u as long as Re w > 0, and
homogeneous of degree n + p in the factors of s. On the line :math:`\operatorname{Im} u = a` with
:math:`\beta a < \pi/2` the exponential has the modulus that it has at the real point :math:`s\,/\kappa`,
:math:`\kappa = (\cos\beta a)^{-1/\beta}`, hence

.. math:: |I(u + ia)| \le \kappa^{n+p} I(u - \ln\kappa), \qquad
          \Bigl|h\sum_j I(jh) - \int I\Bigr| \le \frac{2\kappa^{n+p}}{e^{2\pi a/h} - 1} \int I,

the second by the theorem of the trapezoidal rule [TrefethenWeideman2014, thm 5.1]: a *relative* error, known before
anything is computed. What the sum leaves out at its ends is bounded by a log-concave function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, ctx
from mpmath import mp
from scipy.special import gammainccinv, gammaincinv

from theory import arithmetic, ggd
from theory.arithmetic import Number
from theory.block_source import end_error, outermost_error, truncated_absolute_error, truncated_error
from theory.codebooks import Codebook
from theory.sources import GGD


def _certified(compute: Callable[[GGD], arb], source: GGD) -> Number:
    """A ball for a ball source; for an mpf source, the midpoint of a ball that decides every digit."""
    if arithmetic.of(source.variance).name == "ball":
        return compute(source)
    saved, target = ctx.prec, mp.prec
    try:
        for extra in (32, 64, 160):
            ctx.prec = target + extra
            result = compute(GGD(*(arithmetic.BALL.number(v) for v in (source.beta, source.sigma))))
            if result.rel_accuracy_bits() > target + 4:
                with mp.workprec(target + extra):
                    value = arithmetic.midpoint(result)
                return +value
    finally:
        ctx.prec = saved
    raise ArithmeticError(f"the ball {result} does not decide {target} bits")


def _over_scale(power: Any, g: Callable[..., Any], bound: int, n: int, k: int, source: GGD, bits: int = 0) -> arb:
    r"""Enclose :math:`k\binom nk \int f(s)\,g(s, F(s), R(s))\,ds` for g homogeneous as in the module's note.

    `power` is p there, and g is at most ``bound`` times :math:`F^{n-1} s^p` for k = n, and for k < n times
    :math:`F^{k-1} R^{n-k-1} M_p(s)`, where :math:`M_p(s) = \int_s^\infty t^p f(t)\,dt \ge s^p R(s)`. The rule and its
    ends are chosen for an error of about 2**-bits; with few bits the ball is wide, and as rigorous.
    """
    beta, p, bits = float(source.beta.mid()), float(arithmetic.BALL.number(power).mid()), bits or ctx.prec + 8
    # The largest step over the angles beta a: a wide strip pays kappa, a narrow one pays 1/a.
    angle = np.linspace(0.005, 1.565, 313)
    steps = 2 * np.pi * angle / beta / (bits * math.log(2) - (n + p) / beta * np.log(np.cos(angle)))
    h, a = float(steps.max()), float(angle[steps.argmax()]) / beta
    kappa = 1 / (source.beta * a).cos() ** (1 / source.beta)
    error = 2 * kappa ** (n + power) / ((2 * arb.pi() * a / h).exp() - 1)
    # Outside the two ends S**p has about 2**-bits of its mean.
    log_tail = -min(bits, 900) * math.log(2)
    low = math.exp((log_tail - math.log(math.comb(n, k))) / (k + p if k == n else k))
    w = gammaincinv(1 / beta, low)
    first = math.log(w) / beta if w > 1e-200 else math.log(low) + math.lgamma(1 + 1 / beta)
    high = math.exp((log_tail - math.log(math.comb(n, k - 1))) / (n - k + 1))
    last = math.log(gammainccinv((p + 1) / beta, high)) / beta
    z = np.array([(arb(j) * h).exp() for j in range(math.floor(first / h), math.ceil(last / h) + 1)], dtype=object)
    s = source.alpha * z
    f, cdf = 2 * source.pdf(s), ggd.abs_cdf(s, source.beta, source.sigma)
    rest = 2 * source.partial_moment(0, s, arb.pos_inf()) if k < n else 0 * s
    count = k * math.comb(n, k)
    outside = [_beyond(power, s[i], f[i], cdf[i], rest[i], n, k, source, sign) for i, sign in ((0, 1), (-1, -1))]
    middle = h * (s * f * g(s, cdf, rest)).sum()
    ends = sum((arb(0).union(bound * part) for part in outside), arb(0))
    return count * (middle + ends) / (1 + arb(0, error.upper()))


def _beyond(power: Any, s: Any, f: Any, cdf: Any, rest: Any, n: int, k: int, source: GGD, sign: int) -> arb:
    """Bound what the sum leaves out below (`sign` = 1) or above (-1) the node s, over ``bound * count``.

    s f times what `_over_scale` says of g is log-concave in u, for its logarithmic slope falls: the elasticities
    of F, R and M_p are one over integrals of exp((1 - y**beta) w), over y < 1 and y > 1. So past a node where it
    rises (falls) the sum over further nodes is less than the integral over them, and that less than value / slope.
    """
    slope = 1 - source.beta * (s / source.alpha) ** source.beta + (k - 1) * s * f / cdf
    value = s * f * cdf ** (k - 1)
    if k == n:
        slope, value = slope + power, value * s**power
    else:
        moment = _upper_moment(power, s, source)
        slope -= (n - k - 1) * s * f / rest + s ** (power + 1) * f / moment
        value *= rest ** (n - k - 1) * moment
    if not sign * slope > 0:
        raise ArithmeticError(f"order statistic {k} of {n}: the quadrature does not reach past the bulk")
    return value / abs(slope)


def _upper_moment(power: Any, s: Any, source: GGD) -> Any:
    """Integral of ``t**power f(t)`` over t > s, f the density of the magnitude."""
    a = (power + 1) / source.beta
    scale = source.alpha**power * arithmetic.BALL.gammas([a], [1 / source.beta])
    return scale * arithmetic.BALL.gammaincc(a, (s / source.alpha) ** source.beta)


def scale_moment(power: Any, n: int, source: Any) -> Number:
    """E S**power of the block maximum for a `GGD`, enclosed; power >= 0."""

    def compute(law: GGD) -> arb:
        p = arithmetic.BALL.number(power)
        return _over_scale(p, lambda s, cdf, _: cdf ** (n - 1) * s**p, 1, n, n, law)

    return _certified(compute, source)


def error(codebook: Codebook, n: int, k: int, source: Any, exponent: int = 2) -> Number:
    """Mean squared (absolute, for `exponent` = 1) error of a codebook when the k-th smallest magnitude of n is the
    scale of a `GGD`'s block, enclosed; see `theory.block_scaling.mse`."""
    truncated = {1: truncated_absolute_error, 2: truncated_error}[exponent]

    def compute(law: GGD) -> arb:
        levels = np.array([arithmetic.BALL.number(v) for v in codebook.levels], dtype=object)
        at_end = end_error(levels, codebook.scaling, exponent)
        if n == 1:
            return at_end * ggd.abs_moment(exponent, law.beta, law.sigma)

        def per_block(s: Any, cdf: Any, rest: Any) -> Any:
            total = cdf ** (k - 1) * rest ** (n - k) * s**exponent * at_end
            if k > 1:
                total += (k - 1) * cdf ** (k - 2) * rest ** (n - k) * truncated(levels, s, law)
            if k < n:
                beyond = outermost_error(levels, s, law, s, arb.pos_inf(), exponent)
                total += (n - k) * cdf ** (k - 1) * rest ** (n - k - 1) * beyond
            return total / n

        return _over_scale(exponent, per_block, 2**exponent, n, k, law)  # |y - Q(y)| <= 2 max(1, |y|)

    return _certified(compute, source)
