r"""Shannon's limit and every bound on the distance to it.

Rates in bits per sample, distortion D the mean squared error in the units of the source squared.

========  =======================================================  ==========================================
bound     gap ``R(D) - R_SLB(D)`` is at most                       holds for
========  =======================================================  ==========================================
(a)       ``1/2 log2(pi e / 2)`` = 1.0471                          log-concave [MarsigliettiKostina2018]
(b)       ``KL(p || N)``                                           finite variance [Berger1971]
(b')      ``1/2 log2(pi e / 6)`` = 0.2546                          symmetric log-concave [Madiman2018]
(c)       ``D J / (2 ln 2)``                                       finite Fisher information J
(d)       ``1/2 log2(1 + D J)``                                    finite Fisher information J
(e)       ``1/2 log2(1 + D (J - 1/sigma**2))``                     finite Fisher information J (ours)
========  =======================================================  ==========================================

all for 0 < D < sigma**2. Proof of (e): the forward channel Y = a (X + W), with a = 1 - D/sigma**2 and
W ~ N(0, D/a), has distortion D; integrate de Bruijn's identity with Stam's inequality
J(X + sqrt(t) Z) <= J/(1 + t J). (d) is the same with Y = X + N(0, D), and (c) is log(1 + x) <= x.
"""

from __future__ import annotations

import math
from typing import Any

from theory import arithmetic, ggd
from theory.arithmetic import Number, guarded
from theory.domain import NONNEGATIVE, POSITIVE, Domain, accept
from theory.sources import GGD, Source
from theory.units import from_nats, to_nats


def gaussian_rate(D: Number, sigma: Number = 1.0) -> Number:
    r"""Rate-distortion function of the Gaussian, in bits.

    .. math:: R(D) = \tfrac12\log_2(\sigma^2/D), \qquad 0 < D \le \sigma^2

    Parameters
    ----------
    D : number or array
        Mean squared error, in (0, sigma**2].
    sigma : number or array
        Standard deviation, > 0.

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    References: [CoverThomas2006, thm 10.3.2].

    Examples
    --------
    >>> float(gaussian_rate(1 / 256))
    4.0
    """
    xp, D, sigma = accept(D=(D, POSITIVE), sigma=(sigma, POSITIVE))
    _, ratio = accept(**{"D/sigma**2": (D / sigma**2, Domain(0, 1, high_open=False))})
    return from_nats(-xp.log(ratio) / 2)


def gaussian_distortion(R: Number, sigma: Number = 1.0) -> Number:
    r"""Distortion-rate function of the Gaussian, in units of ``sigma**2``.

    .. math:: D(R) = \sigma^2 4^{-R}

    so that ln D falls by 2 ln 2 = 1.386 per bit (AUDIT row 6).

    >>> float(gaussian_distortion(4))
    0.00390625
    """
    _, R, sigma = accept(R=(R, NONNEGATIVE), sigma=(sigma, POSITIVE))
    return sigma**2 / 4**R


def lower_bound(source: Source, D: Number) -> Number:
    r"""Shannon lower bound on the rate-distortion function, in bits; negative where it says nothing.

    .. math:: R(D) \ge h - \tfrac12\log_2(2\pi e D)

    Parameters
    ----------
    source : Source
        A continuous source.
    D : number or array
        Mean squared error, in (0, variance].

    Raises
    ------
    ValueError
        If D is outside its domain.
    TypeError
        If the source is discrete: it has no differential entropy.

    References: [Shannon1959; CoverThomas2006].

    Examples
    --------
    >>> round(float(lower_bound(GGD(1.7), 0.00885)), 6)
    3.405834
    """
    xp, source, D = _distortion(source, D, closed=True)
    return source.entropy() - from_nats((1 + xp.log(2 * xp.pi() * D)) / 2)


def distortion_lower_bound(source: Source, R: Number) -> Number:
    r"""Shannon lower bound on the distortion at rate R, in units of ``sigma**2``.

    .. math:: D(R) \ge 2^{2(h-R)}/(2\pi e)

    >>> round(float(distortion_lower_bound(GGD(2.0), 4) * 256), 12)
    1.0
    """
    _continuous(source)
    xp, R, _ = accept(R=(R, NONNEGATIVE), variance=(source.variance, POSITIVE))
    h = _within(source, xp).entropy(base=math.e)
    return xp.exp(2 * (h - R * to_nats(xp.number(1)))) / (2 * xp.pi() * xp.exp(xp.number(1)))


def gap_universal(source: GGD | None = None) -> Number:
    r"""Bound (a), in bits: :math:`\tfrac12\log_2(\pi e/2)`, for any log-concave source at any D.

    With a source given, its arithmetic is used, and ValueError raised unless it is log-concave.

    References: [MarsigliettiKostina2018].

    >>> round(float(gap_universal()), 6)
    1.047096
    """
    xp = _log_concave(source)
    return from_nats((1 + xp.log(xp.pi() / 2)) / 2)


def gap_log_concave(source: GGD | None = None) -> Number:
    r"""Bound (b'), in bits: :math:`\tfrac12\log_2(\pi e/6)`, for any symmetric log-concave source at any D.

    The largest KL divergence from a symmetric log-concave law to its Gaussian is the uniform's.

    References: [Madiman2018].

    >>> round(float(gap_log_concave()), 6)
    0.254614
    """
    xp = _log_concave(source)
    return from_nats((1 + xp.log(xp.pi() / 6)) / 2)


def gap_kl(source: Source) -> Number:
    r"""Bound (b), in bits: a Gaussian code spends at most the divergence too much, at any D.

    .. math:: R(D) - R_\mathrm{SLB}(D) \le D(p\|N) = \tfrac12\log_2(2\pi e\sigma^2) - h

    Raises TypeError for a discrete source.

    >>> round(float(gap_kl(GGD(1.7))), 12)
    0.004219599513
    """
    _continuous(source)
    if isinstance(source, GGD):  # keeps its digits near the Gaussian
        return ggd.kl_to_gaussian(source.beta)
    xp = arithmetic.of(source.variance)
    return from_nats((1 + xp.log(2 * xp.pi() * source.variance)) / 2) - source.entropy()


@guarded(16)
def gap_fisher_linear(source: GGD, D: Number) -> Number:
    r"""Bound (c), in bits: :math:`D J/(2\ln 2)`.

    Parameters
    ----------
    source : GGD
        A source with finite Fisher information, beta > 1/2.
    D : number or array
        Mean squared error, in (0, variance).

    Raises
    ------
    ValueError
        If D or beta is outside its domain.

    Examples
    --------
    >>> round(float(gap_fisher_linear(GGD(1.7), 0.00885)), 6)
    0.006559
    """
    _, source, D = _distortion(source, D)
    return from_nats(D * _fisher(source) / 2)


@guarded(16)
def gap_fisher_log(source: GGD, D: Number) -> Number:
    r"""Bound (d), in bits: :math:`\tfrac12\log_2(1 + D J)`. Domain and errors as `gap_fisher_linear`.

    >>> round(float(gap_fisher_log(GGD(1.7), 0.00885)), 6)
    0.00653
    """
    xp, source, D = _distortion(source, D)
    return from_nats(xp.log1p(D * _fisher(source)) / 2)


@guarded(16)
def gap_fisher_refined(source: GGD, D: Number) -> Number:
    r"""Bound (e), in bits: :math:`\tfrac12\log_2\bigl(1 + D(J - 1/\sigma^2)\bigr)`; 0 at the Gaussian.

    The sharpest of the Fisher bounds, for (e) <= (d) <= (c). Domain and errors as `gap_fisher_linear`.

    >>> round(float(gap_fisher_refined(GGD(1.7), 0.00885)), 6)
    0.000175
    """
    xp, source, D = _distortion(source, D)
    _fisher(source)
    return from_nats(xp.log1p(D * ggd.fisher_excess(source.beta, source.sigma)) / 2)


def gap_upper_bound(source: Source, D: Number) -> Number:
    r"""The least of the bounds (a) to (e) that apply to `source` at `D`, in bits.

    Parameters
    ----------
    source : Source
        A continuous source; other than a `GGD`, only (b) is known to apply.
    D : number or array
        Mean squared error, in (0, variance).

    Raises
    ------
    ValueError
        If D is outside its domain.
    TypeError
        If the source is discrete, or symbolic: which bound is least depends on the numbers.

    Examples
    --------
    >>> float(gap_upper_bound(GGD(1.7), 0.00885)) == float(gap_fisher_refined(GGD(1.7), 0.00885))
    True
    """
    xp, source, D = _distortion(source, D)
    if xp.name == "sympy":
        raise TypeError("gap_upper_bound needs numbers: with symbols, take the bound that you want by name")
    bounds = [gap_kl(source) + 0 * D]
    if isinstance(source, GGD):
        if source.log_concave:
            bounds.append(gap_log_concave(source) + 0 * D)
        if source.beta > 0.5:
            bounds.append(gap_fisher_refined(source, D))
    least = bounds[0]
    for bound in bounds[1:]:
        least = xp.minimum(least, bound)
    return least


def _continuous(source: Source) -> None:
    if not source.continuous:
        raise TypeError(
            f"{type(source).__name__} is discrete: it has no differential entropy and no Shannon lower bound. "
            "Fit a density to it (empirics.fit), or use rate_distortion.solve"
        )


def _distortion(source: Source, D: Number, *, closed: bool = False) -> tuple[Any, Any, Any]:
    _continuous(source)
    variance = source.variance
    xp, D, _ = accept(D=(D, Domain(0, variance, high_open=not closed)), variance=(variance, POSITIVE))
    return xp, _within(source, xp), D


def _within(source: Source, xp: Any) -> Any:
    # A float source beside a ball is exact: its entropy must be a ball too, not a rounded float64.
    return source.within(xp) if isinstance(source, GGD) else source


def _fisher(source: GGD) -> Number:
    if not isinstance(source, GGD):
        raise TypeError(f"no closed form for the Fisher information of a {type(source).__name__}; give a GGD")
    return ggd.fisher_information(source.beta, source.sigma)


def _log_concave(source: GGD | None) -> Any:
    if source is None:
        return arithmetic.of(1.0)
    if not (isinstance(source, GGD) and source.log_concave):
        raise ValueError(f"the bound needs a log-concave source (a GGD with beta >= 1), not {source}")
    return arithmetic.of(source.beta)
