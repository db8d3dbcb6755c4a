r"""Donsker and Varadhan's inequality as a bound on the error of a quantizer made for another source.

For any two laws p and q, any function d and any t > 0, :math:`t\,E_p d \le D(p\|q) + \ln E_q e^{td}`. With d the
squared error of a quantizer the right side needs only the reference q and the divergence. For the Gaussian q it is a
closed form, in any arithmetic; for a lighter tail a quadrature; for a heavier one infinite.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from flint import ctx
from scipy import optimize

from theory import arithmetic, ggd
from theory.arithmetic import FLOAT, Number, guarded, total
from theory.codebook_design import midpoints, mse
from theory.domain import Domain, accept, increasing
from theory.sources import GGD


def _nats(source: GGD, reference: GGD) -> Number:
    return ggd.kl(source.beta, reference.beta, source.sigma, reference.sigma, math.e)


class Bound(NamedTuple):
    """An upper bound on a distortion, the parameter t that it was taken at, and how that was found."""

    value: Any
    t: Any
    status: str


def _rules() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Double-exponential quadrature on [0, 1] and [0, infinity): blind to what |x|**beta does at an end."""
    u = np.linspace(-3.2, 3.2, 97)
    inside = 1 / (1 + np.exp(-math.pi * np.sinh(u)))
    v = np.linspace(-4.2, 2.2, 513)
    ray = np.exp(math.pi / 2 * np.sinh(v))
    return (
        inside,
        (u[1] - u[0]) * math.pi * np.cosh(u) / (2 + 2 * np.cosh(math.pi * np.sinh(u))),
        ray,
        (v[1] - v[0]) * math.pi / 2 * np.cosh(v) * ray,
    )


_INSIDE, _INSIDE_WEIGHT, _RAY, _RAY_WEIGHT = _rules()


class _ErrorLaw:
    """The squared error of a quantizer under a float64 reference with beta >= 2, at the nodes of a quadrature."""

    def __init__(self, levels: np.ndarray, q: GGD) -> None:
        thresholds = midpoints(levels)
        ends = np.union1d(thresholds, [0.0])  # at 0 the density is not smooth
        lengths, rays = np.diff(ends)[:, None], q.sigma * _RAY
        x = np.concatenate([(ends[:-1, None] + lengths * _INSIDE).ravel(), ends[0] - rays, ends[-1] + rays])
        weight = np.concatenate([(lengths * _INSIDE_WEIGHT).ravel(), *2 * [q.sigma * _RAY_WEIGHT]])
        peak = 2 * q.alpha * math.gamma(1 + 1 / q.beta)
        self.error = (x - levels[np.searchsorted(thresholds, x)]) ** 2
        self.log_weight = np.log(weight / peak) - np.abs(x / q.alpha) ** q.beta
        self.weight = np.exp(self.log_weight)
        if q.beta == 2:
            # The last 2**-8 of t's domain could lower the bound by that fraction only, because E exp(t d) rises; and
            # there the terms of the closed form grow without limit and cancel.
            self.limit = (1 - 2.0**-8) / (2 * q.variance)
            return
        # Beyond 8 sigma the nodes are sparse: there the density is to outweigh exp(t d).
        self.limit = math.inf
        for level, end in ((levels[-1], ends[-1]), (-levels[0], -ends[0])):
            far = max(end + 8 * q.sigma, q.beta * level / (q.beta - 2))  # |x|**beta / (x - level)**2 rises from here
            self.limit = min(self.limit, 0.9 * (far / q.alpha) ** q.beta / (far - level) ** 2)

    def log_moment(self, t: float) -> float:
        """ln E exp(t d)."""
        large = t * self.error > 1  # exp(t d) alone may overflow; and a small t d would lose its digits beside 1
        small = np.expm1(np.where(large, 0.0, t * self.error)) * self.weight
        with np.errstate(over="ignore"):
            excess = np.where(large, np.exp(t * self.error + self.log_weight) - self.weight, small).sum()
        return math.log1p(float(excess))

    def best(self, divergence: float) -> tuple[float, str]:
        """The t with the least (divergence + ln E exp(t d))/t, which falls and then rises."""

        def value(log_t: float) -> float:
            return (divergence + self.log_moment(math.exp(log_t))) / math.exp(log_t)

        top = math.log(self.limit) + math.log1p(-1e-9)
        low, high = top - 1, top
        while value(low) <= value(high):
            low, high = low - 1, low
        found = optimize.minimize_scalar(value, bounds=(low, min(high + 1, top)), method="bounded",
                                         options={"xatol": 1e-9})  # fmt: skip
        return math.exp(found.x), "converged" if found.x < top - 1e-6 else "at the end of the domain"


def _gaussian_log_moment(t: Any, levels: np.ndarray, reference: GGD) -> Any:
    """ln E exp(t d) in closed form: with its square completed, each cell holds a part of another Gaussian."""
    xp = arithmetic.of(t)
    shrink = 1 - 2 * t * reference.variance
    wide = GGD(reference.beta, reference.sigma / xp.sqrt(shrink))
    edges = np.concatenate([[-xp.infinity], midpoints(levels), [xp.infinity]])
    centre = -2 * t * levels * wide.variance
    mass = wide.partial_moment(0, edges[:-1] - centre, edges[1:] - centre)
    return xp.log(total(xp.exp(t * levels**2 / shrink) * mass) / xp.sqrt(shrink))


@guarded(64)
def _exact_bound(beta: Any, sigma: Any, reference_sigma: Any, levels: Any, t: Any) -> Any:
    xp = arithmetic.of(beta, sigma, reference_sigma, *levels, t)
    beta, sigma, reference_sigma, t = map(xp.number, (beta, sigma, reference_sigma, t))
    levels = np.asarray([xp.number(level) for level in levels], dtype=object)
    # Two balls of upper tails are subtracted and then blown up by this many bits.
    t2 = 2 * float(t) * float(reference_sigma) ** 2
    bits = 64 + math.ceil(float(t) * max(float(level) ** 2 for level in levels) / (1 - t2) / math.log(2))
    with ctx.workprec(ctx.prec + bits):
        reference = GGD(xp.number(2), reference_sigma)
        divergence = _nats(GGD(beta, sigma), reference)
        value = (divergence + _gaussian_log_moment(t, levels, reference)) / t
    return +value


def bound(source: GGD, reference: GGD, levels: Any, t: Number | None = None) -> Bound:
    r"""Upper bound on the error of a quantizer under the source, from its error under the reference.

    .. math:: E_p\,d \le \frac{D(p\|q) + \ln E_q e^{t d}}{t}, \qquad d(x) = (x - Q(x))^2

    for every t > 0 [DonskerVaradhan1983]; in the units of the source squared.

    Parameters
    ----------
    source, reference : GGD
        p and q; beta of the reference is at least 2. float64, or mpmath and balls if it is the Gaussian.
    levels : sequence of length N
        Levels of the nearest-level quantizer Q, strictly increasing.
    t : number, optional
        Positive, and below :math:`(1 - 2^{-8})/(2\sigma_q^2)` for a Gaussian reference, or below where the quadrature
        ends for another. If not given, the best of these: the right side is convex in 1/t, and Brent's method finds
        it in float64.

    Returns
    -------
    Bound
        ``status`` is "given", "converged", "at the end of the domain", or, for p = q, "limit t -> 0", where the value
        is the error itself.

    Raises
    ------
    ValueError
        If beta of the reference is below 2: :math:`E_q e^{td}` is then infinite for every t > 0. If t is outside its
        domain or the levels do not increase.
    TypeError
        For mpmath or balls with a reference other than the Gaussian.

    Notes
    -----
    The inequality holds at every t, so a value at a t of 16 digits is as good a bound, and a ball is a proof of it.

    It is weak for many levels: the error beyond the last one keeps t below :math:`1/(2\sigma_q^2)`, and so the bound
    above :math:`2\sigma_q^2 D(p\|q)` (nats), however many there are.

    Examples
    --------
    >>> from theory.scalar import lloyd_max
    >>> levels = lloyd_max(GGD(2.0), 4).levels
    >>> found = bound(GGD(1.7), GGD(2.0), levels)
    >>> round(float(mse(levels, GGD(1.7))), 5), round(found.value, 5), round(found.t, 3)
    (0.12873, 0.13866, 0.245)
    """
    if not reference.beta >= 2:
        raise ValueError(
            f"beta = {reference.beta} of the reference is below 2: E exp(t d) is infinite for every t > 0, and the "
            "Donsker-Varadhan bound says nothing"
        )
    increasing("levels", levels)
    exact = arithmetic.of(source.variance, reference.variance, *levels, 0.0 if t is None else t).name != "float"
    if exact and reference.beta != 2:
        raise TypeError("with mpmath or balls the reference must be the Gaussian, beta = 2")
    p, q = source.within(FLOAT), reference.within(FLOAT)
    law = _ErrorLaw(FLOAT.number(np.asarray(levels)), q)
    divergence = 0.0 if p == q else max(float(_nats(p, q)), 0.0)  # rounding may leave -1e-16
    status = "given"
    if t is not None:
        accept(t=(t, Domain(0, law.limit)))
    elif divergence == 0:
        return Bound(mse(levels, source), 0.0, "limit t -> 0")
    else:
        t, status = law.best(divergence)
    if exact:
        return Bound(_exact_bound(source.beta, source.sigma, reference.sigma, tuple(levels), t), t, status)
    return Bound((divergence + law.log_moment(float(t))) / float(t), float(t), status)
