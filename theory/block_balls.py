r"""Rigorous integrals over the block maximum, in ball arithmetic.

With s = e**u every integrand below is f(u) = s**p times products of :math:`F, p` and partial moments at s, that
is, of integrals :math:`s^{k+1}\int y^k \varphi(y)\,e^{-|y|^\beta w}dy` with :math:`w = (s/\alpha)^\beta` and
:math:`\varphi \ge 0`: entire in u, and homogeneous of degree n + p in the factors of s. On the line
:math:`\operatorname{Im} u = a` with :math:`\beta a < \pi/2` the exponential has the modulus that it has at the real
point :math:`s\,/\kappa`, :math:`\kappa = (\cos\beta a)^{-1/\beta}`, hence

.. math:: |f(u + ia)| \le \kappa^{n+p} f(u - \ln\kappa), \qquad
          \Bigl|h\sum_j f(jh) - \int f\Bigr| \le \frac{2\kappa^{n+p}}{e^{2\pi a/h} - 1} \int f,

the second by the theorem of the trapezoidal rule [TrefethenWeideman2014, thm 5.1]: a *relative* error, known before
anything is computed. What the sum leaves out at its ends is bounded in closed form.
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
from theory.block_source import end_error, truncated_error
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


def _over_maximum(power: int, g: Callable[[Any, Any], Any], bound: int, n: int, source: GGD, bits: int = 0) -> arb:
    r"""Enclose :math:`\int f(s) g(s, F(s))\,ds`, f the density of |X|, for g homogeneous as in the module's note.

    `power` is p there, and :math:`0 \le g \le` ``bound`` :math:`n F^{n-1} s^p`. The rule and its ends are chosen for
    an error of about 2**-bits; with few bits the ball is wide, and as rigorous.
    """
    beta, bits = float(source.beta.mid()), bits or ctx.prec + 8
    # The largest step over the angles beta a: a wide strip pays kappa, a narrow one pays 1/a.
    angle = np.linspace(0.005, 1.565, 313)
    steps = 2 * np.pi * angle / beta / (bits * math.log(2) - (n + power) / beta * np.log(np.cos(angle)))
    h, a = float(steps.max()), float(angle[steps.argmax()]) / beta
    kappa = 1 / (source.beta * a).cos() ** (1 / source.beta)
    error = 2 * kappa ** (n + power) / ((2 * arb.pi() * a / h).exp() - 1)
    # Outside the two ends S**p has about 2**-bits of its mean.
    tail = 2.0 ** -min(bits, 900)
    low = tail ** (1 / (n + power))
    w = gammaincinv(1 / beta, low)
    first = math.log(w) / beta if w > 1e-200 else math.log(low) + math.lgamma(1 + 1 / beta)
    last = math.log(gammainccinv((power + 1) / beta, tail / n)) / beta
    z = np.array([(arb(j) * h).exp() for j in range(math.floor(first / h), math.ceil(last / h) + 1)], dtype=object)
    s = source.alpha * z
    f, cdf = 2 * source.pdf(s), ggd.abs_cdf(s, source.beta, source.sigma)
    # bound n F**(n-1) f s**(p+1) is log-concave in u, for this slope falls: past a node where it rises (falls), the
    # sum over further nodes is less than the integral over them.
    slope = power + 1 + (n - 1) * s * f / cdf - source.beta * z**source.beta
    if not (slope[0] > 0 and slope[-1] < 0):
        raise ArithmeticError(f"absmax of n = {n}: the quadrature does not reach past the bulk")
    below = bound * s[0] ** power * cdf[0] ** n
    above = bound * n * 2 * source.partial_moment(power, s[-1], arb.pos_inf())
    middle = h * (s * f * g(s, cdf)).sum()
    return (middle + arb(0).union(below) + arb(0).union(above)) / (1 + arb(0, error.upper()))


def absmax_mean(n: int, source: Any) -> Number:
    """E S for a `GGD`, enclosed: the integral of ``s n F**(n-1) f``."""
    return _certified(lambda law: _over_maximum(1, lambda s, cdf: n * cdf ** (n - 1) * s, 1, n, law), source)


def mse(codebook: Codebook, n: int, source: Any) -> Number:
    """Mean squared error under absmax scaling for a `GGD`, enclosed; see `theory.block_scaling.mse`."""

    def compute(law: GGD) -> arb:
        levels = np.array([arithmetic.BALL.number(v) for v in codebook.levels], dtype=object)
        at_end = end_error(levels, codebook.scaling)
        if n == 1:
            return law.variance * at_end

        def error(s: Any, cdf: Any) -> Any:
            return (n - 1) * cdf ** (n - 2) * truncated_error(levels, s, law) + cdf ** (n - 1) * s**2 * at_end

        return _over_maximum(2, error, 4, n, law)  # no normalized error exceeds 2

    return _certified(compute, source)
