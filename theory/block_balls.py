r"""Rigorous integrals over the block maximum, in ball arithmetic.

With z = s/alpha, w = z**beta and the entire function :math:`\gamma^*(a, w) = w^{-a} P(a, w)`, every partial
moment of the GGD is :math:`\int_0^{cs} t^k p\,dt = C_k (cz)^{k+1} \gamma^*((k+1)/\beta, |c|^\beta w)`, so the
integrand is analytic wherever w is: in the right half-plane. ``acb.integral`` encloses the integral between two
cuts, and what lies outside them is bounded in closed form and added to the ball.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import acb, arb, ctx
from mpmath import mp

from theory import arithmetic, ggd
from theory.arithmetic import Number
from theory.codebook_design import midpoints
from theory.codebooks import Codebook
from theory.sources import GGD


class _Law:
    """A GGD in units of alpha, for complex balls s with positive real part."""

    def __init__(self, source: GGD) -> None:
        self.beta, self.alpha = source.beta, source.alpha
        self.moments = [
            self.alpha**k * ((k + 1) / self.beta).gamma() / (2 * (1 / self.beta).gamma()) for k in range(3)
        ]
        self.height = self.beta / (self.alpha * (1 / self.beta).gamma())

    def powers(self, s: acb) -> tuple[acb, acb]:
        z = s / self.alpha
        if not s.real > 0:  # the cut of z**beta: tell the integrator that f may not be analytic here
            return z, acb(arb.nan())
        return z, (self.beta * z.log()).exp()

    def moment(self, k: int, c: arb, c_power: arb, z: acb, w: acb) -> acb:
        """Moment of order k of the interval from 0 to c s, where ``c_power = |c|**beta``."""
        return self.moments[k] * (c * z) ** (k + 1) * (c_power * w).gamma_lower((k + 1) / self.beta, 2)

    def magnitude(self, z: acb, w: acb) -> tuple[acb, acb]:
        """F(s) and the density of |X| at s."""
        return z * w.gamma_lower(1 / self.beta, 2), self.height * (-w).exp()


def _certified(compute: Callable[[GGD], arb], source: GGD) -> Number:
    """A ball for a ball source; for an mpf source, the midpoint of a ball that decides every digit."""
    if arithmetic.of(source.variance).name == "ball":
        return compute(source)
    saved, target = ctx.prec, mp.prec
    try:
        for extra in (24, 64, 160):
            ctx.prec = target + extra
            result = compute(GGD(*(arithmetic.BALL.number(v) for v in (source.beta, source.sigma))))
            if result.rel_accuracy_bits() > target + 4:
                with mp.workprec(target + extra):
                    value = arithmetic.midpoint(result)
                return +value
    finally:
        ctx.prec = saved
    raise ArithmeticError(f"the ball {result} does not decide {target} bits")


def _integrate(f: Callable[[acb, bool], acb], source: GGD, n: int) -> tuple[arb, arb, arb]:
    """Integral of f between two cuts, and the cuts: outside them S has probability about 2**-prec."""
    tail = 2.0 ** (-min(ctx.prec + 24, 900))
    sigma, beta = float(source.sigma.mid()), float(source.beta.mid())
    with mp.workprec(64):
        cut = -ggd.quantile(mp.mpf(tail) / (2 * n), mp.mpf(beta), mp.mpf(sigma))
        low = mp.mpf(tail) ** (mp.mpf(1) / n)
        start = ggd.quantile((1 + low) / 2, mp.mpf(beta), mp.mpf(sigma)) if low > mp.mpf(2) ** -40 else (
            low * mp.gamma(1 / mp.mpf(beta)) * ggd.alpha(mp.mpf(beta), mp.mpf(sigma)) / mp.mpf(beta))  # fmt: skip
    a, b = (arithmetic.BALL.number(mp.mpf(v)) for v in (start, cut))
    return acb.integral(f, acb(a), acb(b)).real, a, b


def absmax_mean(n: int, source: GGD) -> Number:
    """E S, enclosed: the integral between the cuts, plus the bounds on what is outside them."""

    def compute(source: GGD) -> arb:
        law = _Law(source)

        def integrand(s: acb, _: bool) -> acb:
            z, w = law.powers(s)
            f, density = law.magnitude(z, w)
            return n * f ** (n - 1) * density * s

        middle, a, b = _integrate(integrand, source, n)
        # 0 <= E[S; S < a] <= a F(a)**n and 0 <= E[S; S > b] <= n E[|X|; |X| > b].
        below = a * ggd.abs_cdf(a, source.beta, source.sigma) ** n
        above = 2 * n * source.partial_moment(1, b, arb.pos_inf())
        return middle + arb(0).union(below) + arb(0).union(above)

    return _certified(compute, source)


def mse(codebook: Codebook, n: int, source: GGD) -> Number:
    """Mean squared error under absmax scaling, enclosed; see `theory.block_scaling.mse`."""

    def compute(source: GGD) -> arb:
        levels = np.array([arithmetic.BALL.number(v) for v in codebook.levels], dtype=object)
        inner = midpoints(levels)
        edges = np.concatenate([[arb(-1)], inner, [arb(1)]])
        law = _Law(source)
        edge_powers = [abs(c) ** law.beta if c != 0 else arb(0) for c in edges]
        errors = [min(abs(levels - end), key=lambda e: e.upper()) ** 2 for end in (-1, 1)]
        end_error = errors[1] if codebook.scaling == "signed" else (errors[0] + errors[1]) / 2

        def integrand(s: acb, _: bool) -> acb:
            z, w = law.powers(s)
            f, density = law.magnitude(z, w)
            cells: Any = acb(0)
            m = [[law.moment(k, c, p, z, w) for c, p in zip(edges, edge_powers, strict=True)] for k in range(3)]
            for i, level in enumerate(levels):
                m0, m1, m2 = (m[k][i + 1] - m[k][i] for k in range(3))
                cells += m2 - 2 * level * s * m1 + (level * s) ** 2 * m0
            return density * ((n - 1) * f ** (n - 2) * cells + f ** (n - 1) * s**2 * end_error)

        middle, a, b = _integrate(integrand, source, n)
        # No normalized error exceeds 2, so a block of scale s has at most 4 s**2.
        below = 4 * a**2 * ggd.abs_cdf(a, source.beta, source.sigma) ** n
        above = 8 * n * source.partial_moment(2, b, arb.pos_inf())
        return middle + arb(0).union(below) + arb(0).union(above)

    return _certified(compute, source)
