r"""The generalized Gaussian as a source: its partial moments in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import gammaincc

from theory import arithmetic, ggd
from theory.arithmetic import FLOAT, Number, elementwise, guarded
from theory.domain import EXTENDED, ORDER, POSITIVE, SHAPE, accept, check


@dataclass(frozen=True)
class GGD:
    """The generalized Gaussian law: see `theory.ggd` for its formulas.

    Parameters
    ----------
    beta : float, mpf or arb
        Exponent, > 0.
    sigma : float, mpf or arb
        Standard deviation, > 0.

    Examples
    --------
    >>> round(float(GGD(2.0).partial_moment(2, -1.0, 1.0)), 6)
    0.198748
    """

    beta: Any
    sigma: Any = 1.0
    alpha: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _, beta, sigma = accept(beta=(self.beta, SHAPE), sigma=(self.sigma, POSITIVE))
        for name, value in (("beta", beta), ("sigma", sigma)):
            if np.ndim(value):
                raise ValueError(f"{name} of a source is one number, not an array of shape {np.shape(value)}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "alpha", ggd.alpha(beta, sigma))

    @property
    def variance(self) -> Number:
        return self.sigma**2

    @property
    def continuous(self) -> bool:
        return True

    @property
    def log_concave(self) -> bool:
        return bool(self.beta >= 1)

    def within(self, xp: Any) -> GGD:
        """The same law with its parameters, taken as exact, in the arithmetic `xp`."""
        return GGD(xp.number(self.beta), xp.number(self.sigma))

    def pdf(self, x: Number) -> Number:
        return ggd.pdf(x, self.beta, self.sigma)

    def cdf(self, x: Number) -> Number:
        return ggd.cdf(x, self.beta, self.sigma)

    def quantile(self, p: Number) -> Number:
        return ggd.quantile(p, self.beta, self.sigma)

    def entropy(self, base: float = 2) -> Number:
        return ggd.entropy(self.beta, self.sigma, base)

    def partial_moment(self, k: int, lo: Number, hi: Number) -> Number:
        r"""Partial moment in closed form, in units of ``sigma**k``.

        .. math:: \int_0^x t^k p\,dt
                  = \frac{\alpha^k\,\Gamma((k+1)/\beta)}{2\,\Gamma(1/\beta)}
                    P\bigl((k+1)/\beta, (x/\alpha)^\beta\bigr), \qquad x \ge 0

        Parameters
        ----------
        k : int
            Order, >= 0.
        lo, hi : number or array
            Ends; infinite ends are allowed. They broadcast. As for any integral, the sign changes if lo > hi.

        Notes
        -----
        An interval in one tail is the difference of two *upper* incomplete gammas, so that it keeps its
        relative accuracy where the probability is 1e-300; for odd k, so does an interval on both sides of 0.
        A narrow interval costs the digits that the difference cancels.
        """
        check("k", k, ORDER)
        xp, lo, hi, beta = accept(lo=(lo, EXTENDED), hi=(hi, EXTENDED), beta=(self.beta, SHAPE))
        if xp.name == "float":
            a = (k + 1) / beta
            half = self.alpha**k * xp.gammas([a], [1 / beta]) / 2
            return _float_partial_moment(k, a, half, lo / self.alpha, hi / self.alpha, beta)
        return _exact_partial_moment(k, lo, hi, beta, self.sigma)


@guarded(32)
def _exact_partial_moment(k: int, lo: Any, hi: Any, beta: Any, sigma: Any) -> Any:
    xp = arithmetic.of(lo, hi, beta, sigma)
    # Not the alpha that the source keeps: that one was rounded, in its own arithmetic and precision.
    beta, alpha = xp.number(beta), ggd.alpha(xp.number(beta), xp.number(sigma))
    a = (k + 1) / beta
    half = alpha**k * xp.gammas([a], [1 / beta]) / 2

    def power(x: Any) -> Any:
        return xp.infinity if x == xp.infinity else xp.power(x / alpha, beta)

    def primitive(x: Any) -> Any:
        return xp.sign(x) * xp.gammainc(a, power(abs(x)))

    def one(lo: Any, hi: Any) -> Any:
        if k % 2:  # t**k p is odd
            lo, hi = abs(lo), abs(hi)
        elif lo <= 0 and hi <= 0:
            lo, hi = -hi, -lo
        if not (lo >= 0 and hi >= 0):  # both sides of 0, or a ball that contains it
            return half * (primitive(hi) - primitive(lo))
        t_lo, t_hi = power(lo), power(hi)
        upper = xp.name != "mpmath" or min(t_lo, t_hi) > a
        if xp.name == "ball" or not upper:
            p = xp.gammainc(a, t_hi) - xp.gammainc(a, t_lo)
        if upper:
            q = xp.gammaincc(a, t_lo) - xp.gammaincc(a, t_hi)
        if xp.name == "ball":  # both hold the same number: keep the sharper ball
            return half * (p if p.rad() <= q.rad() else q)
        return half * (q if upper else p)

    return elementwise(one)(lo, hi)


def _float_partial_moment(k: int, a: float, half: float, lo: Any, hi: Any, beta: float) -> Any:
    below = FLOAT.gammainc_of_power
    if np.ndim(lo) == 0 and lo == 0:  # the primitive itself: one incomplete gamma, not two
        sign = 1.0 if k % 2 else np.sign(hi)
        return half * sign * below(a, np.abs(hi), beta)
    low, high = np.abs(lo), np.abs(hi)
    near, far = np.minimum(low, high), np.maximum(low, high)
    t_near, t_far = FLOAT.power(near, beta), FLOAT.power(far, beta)
    tail = t_near > a  # past the bulk of t**k p: subtract upper tails
    between = np.where(
        tail,
        gammaincc(a, np.where(tail, t_near, 1.0)) - gammaincc(a, np.where(tail, t_far, 1.0)),
        below(a, np.where(tail, 1.0, far), beta) - below(a, np.where(tail, 1.0, near), beta),
    )
    if k % 2:  # t**k p is odd: an interval about 0 leaves what is between its ends' magnitudes
        return (half * np.where(high < low, -1.0, 1.0) * between)[()]
    straddles = np.sign(lo) * np.sign(hi) < 0
    if straddles.any():
        both = below(a, np.where(straddles, near, 0.0), beta) + below(a, np.where(straddles, far, 0.0), beta)
        between = np.where(straddles, both, between)
    return (half * np.where(hi < lo, -1.0, 1.0) * between)[()]
