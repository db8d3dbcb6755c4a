r"""The generalized Gaussian distribution (GGD): closed forms.

Density, with exponent ``beta`` (2 Gaussian, 1 Laplace) and scale ``alpha``,

.. math:: p(x) = \frac{\beta}{2\alpha\Gamma(1/\beta)} e^{-|x/\alpha|^\beta},
          \qquad \sigma^2 = \alpha^2\,\Gamma(3/\beta)/\Gamma(1/\beta),

as ``scipy.stats.gennorm(beta, scale=alpha)``. Here the second parameter is always the standard deviation
``sigma``. Every function takes floats, arrays (broadcasting), ``mpmath.mpf``, ``flint.arb`` or sympy
expressions, and answers in the same arithmetic. Float64 results are within 1e-13 relative of 50-digit values
for beta in [0.3, 20] (tests/theory/test_ggd.py); where conditioning forbids it, the docstring says so.

References: [Nadarajah2005] for the moments and the entropy; [BoxTiao1973] for the family.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mpmath import mp
from scipy import special

from theory.arithmetic import Number, elementwise, guarded
from theory.domain import FISHER_SHAPE, POSITIVE, SHAPE, accept
from theory.ggd_law import abs_cdf, abs_moment, alpha, beta_from_kurtosis, cdf, kurtosis, pdf, quantile
from theory.units import from_nats

__all__ = [
    "abs_cdf",
    "abs_moment",
    "alpha",
    "beta_from_kurtosis",
    "cdf",
    "entropy",
    "entropy_power",
    "fisher_excess",
    "fisher_information",
    "kl",
    "kl_to_gaussian",
    "kurtosis",
    "pdf",
    "quantile",
]

_GAUSSIAN_U = 0.5  # 1/beta at the Gaussian
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


@guarded(16)
def entropy(beta: Number, sigma: Number = 1.0, base: float = 2) -> Number:
    r"""Differential entropy, in bits (nats for ``base=math.e``).

    .. math:: h = \frac1\beta + \ln\frac{2\alpha\Gamma(1/\beta)}{\beta} \quad\text{nats}

    The first term is in nats too: dividing only the second by ln 2 is the error of AUDIT rows 1 and 2.

    Parameters
    ----------
    beta, sigma : number or array
        Exponent and standard deviation, > 0; they broadcast.
    base : float
        Base of the logarithm.

    Returns
    -------
    number or array

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Notes
    -----
    Claim ``ggd.entropy-maximal``: at most the Gaussian's, with equality only at beta = 2.

    References: [Nadarajah2005] in nats.

    Examples
    --------
    >>> round(float(entropy(1.7)), 12)
    2.042875985668
    """
    xp, beta, sigma = accept(beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    nats = 1 / beta + xp.log(2 * alpha(beta, sigma) * xp.gamma(1 / beta) / beta)
    return from_nats(nats, base)


@guarded(16)
def entropy_power(beta: Number, sigma: Number = 1.0) -> Number:
    r"""Entropy power, in units of ``sigma**2``: the variance of the Gaussian of equal entropy.

    .. math:: N = e^{2h}/(2\pi e) = \frac{2\alpha^2\Gamma(1/\beta)^2}{\pi\beta^2}\,e^{2/\beta-1}

    >>> round(float(entropy_power(2.0)), 12)
    1.0
    """
    xp, beta, sigma = accept(beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    return 2 * (alpha(beta, sigma) * xp.gamma(1 / beta) / beta) ** 2 * xp.exp(2 / beta - 1) / xp.pi()


def _even_at_gaussian(beta: Any, second_derivative: Any) -> Any:
    r"""f(u), u = 1/beta, with f(1/2) = f'(1/2) = 0 from its second derivative: :math:`\int_{1/2}^u (u-t) f''(t)\,dt`.

    The closed forms of the KL divergence and of ln(J sigma**2) cancel to second order at the Gaussian; this
    integral does not, so the float64 digits are right also at beta = 1.999.
    """
    beta = np.asarray(beta)
    away = (2 - beta) / (2 * beta)  # u - 1/2, without the rounding of 1/beta
    s = (1 + _NODES) / 2
    f2 = second_derivative(_GAUSSIAN_U + s * away[..., None])
    return (away**2 * (f2 * (1 - s) * _WEIGHTS).sum(-1) / 2)[()]


def _vanishing_at_gaussian(formula: Any, beta: Any) -> Any:
    """`formula`, which is 0 to second order at beta = 2, with the mpmath precision that this costs."""

    def one(b: mp.mpf) -> mp.mpf:
        if b == 2:
            return mp.zero
        with mp.workprec(mp.prec + 32 + 2 * max(0, -mp.mag(b - 2))):
            value = formula(b)
        return +value

    return elementwise(one)(beta)


def _kl_second_derivative(t: Any) -> Any:
    return 4.5 * special.polygamma(1, 1 + 3 * t) - 1.5 * special.polygamma(1, 1 + t)


def _log_fisher_second_derivative(t: Any) -> Any:
    trigamma = special.polygamma
    return trigamma(1, 2 - t) + 9 * trigamma(1, 3 * t) - 2 * trigamma(1, 1 + t)


def kl_to_gaussian(beta: Number, base: float = 2) -> Number:
    r"""KL divergence from the GGD to the Gaussian of equal variance, in bits: the entropy deficit.

    .. math:: D(p\|N) = \tfrac12\ln(2\pi e\sigma^2) - h(p) \ge 0

    It does not depend on sigma, and it is the gap bound (b) of `theory.shannon`.

    Parameters
    ----------
    beta : number or array
        Exponent, > 0.
    base : float
        Base of the logarithm.

    Notes
    -----
    Zero to second order at beta = 2. float64 keeps its relative accuracy there by integrating the second
    derivative in 1/beta; mpmath raises the working precision; a ball widens honestly.

    Examples
    --------
    >>> round(float(kl_to_gaussian(1.7)), 12), float(kl_to_gaussian(2.0))
    (0.004219599513, 0.0)
    """
    xp, beta = accept(beta=(beta, SHAPE))
    if xp.name == "mpmath":
        return _vanishing_at_gaussian(
            lambda b: from_nats((1 + mp.log(2 * mp.pi)) / 2 - entropy(b, base=math.e), base), beta
        )
    nats = (1 + xp.log(2 * xp.pi())) / 2 - entropy(beta, base=math.e)
    if xp.name == "float":
        near = np.abs(1 / beta - _GAUSSIAN_U) < 0.25
        if np.any(near):
            nats = np.where(near, _even_at_gaussian(beta, _kl_second_derivative), nats)[()]
    return from_nats(nats, base)


@guarded(32)
def kl(beta1: Number, beta2: Number, sigma1: Number = 1.0, sigma2: Number = 1.0, base: float = 2) -> Number:
    r"""KL divergence :math:`D(p_1\|p_2)` between two GGDs, in bits.

    .. math:: \ln\frac{\beta_1\alpha_2\Gamma(1/\beta_2)}{\beta_2\alpha_1\Gamma(1/\beta_1)}
              + \Bigl(\frac{\alpha_1}{\alpha_2}\Bigr)^{\beta_2}
                \frac{\Gamma((\beta_2+1)/\beta_1)}{\Gamma(1/\beta_1)} - \frac1{\beta_1}

    Parameters
    ----------
    beta1, sigma1 : number or array
        Exponent and standard deviation of the true law, > 0.
    beta2, sigma2 : number or array
        Exponent and standard deviation of the law coded for, > 0. All broadcast.
    base : float
        Base of the logarithm.

    Notes
    -----
    Near ``(beta1, sigma1) = (beta2, sigma2)`` the float64 terms cancel: the error is absolute, about 1e-15.

    References: [Do2002].

    Examples
    --------
    >>> round(float(kl(1.7, 2.0)), 12)
    0.004219599513
    """
    xp, beta1, beta2, sigma1, sigma2 = accept(
        beta1=(beta1, SHAPE), beta2=(beta2, SHAPE), sigma1=(sigma1, POSITIVE), sigma2=(sigma2, POSITIVE)
    )
    a1, a2 = alpha(beta1, sigma1), alpha(beta2, sigma2)
    log_ratio = xp.log(beta1 * a2 / (beta2 * a1) * xp.gammas([1 / beta2], [1 / beta1]))
    cross = (a1 / a2) ** beta2 * xp.gammas([(beta2 + 1) / beta1], [1 / beta1])
    return from_nats(log_ratio + cross - 1 / beta1, base)


@guarded(16)
def fisher_information(beta: Number, sigma: Number = 1.0) -> Number:
    r"""Fisher information of location, in units of ``1/sigma**2``; finite for beta > 1/2.

    .. math:: J = \beta^2\,\Gamma(2-1/\beta)\,/\,(\alpha^2\,\Gamma(1/\beta))

    Parameters
    ----------
    beta : number or array
        Exponent, > 1/2: below, the score is not square integrable at 0.
    sigma : number or array
        Standard deviation, > 0.

    Raises
    ------
    ValueError
        If beta <= 1/2 or sigma <= 0.

    Notes
    -----
    Claims ``ggd.cramer-rao`` (J sigma**2 >= 1) and ``ggd.stam`` (entropy power times J >= 1).

    Examples
    --------
    >>> round(float(fisher_information(1.7)), 12)
    1.027456437249
    """
    xp, beta, sigma = accept(beta=(beta, FISHER_SHAPE), sigma=(sigma, POSITIVE))
    return beta**2 * xp.gammas([2 - 1 / beta], [1 / beta]) / alpha(beta, sigma) ** 2


def fisher_excess(beta: Number, sigma: Number = 1.0) -> Number:
    r"""Fisher information above the Gaussian's, :math:`J - 1/\sigma^2 \ge 0`, in units of ``1/sigma**2``.

    It is what the refined gap bound (e) needs, and it vanishes to second order at beta = 2, where subtracting
    1 from `fisher_information` would leave no digits. Domain and errors as `fisher_information`.

    >>> float(fisher_excess(2.0)), f"{fisher_excess(1.999):.4e}"
    (0.0, '2.3388e-07')
    """
    xp, beta, sigma = accept(beta=(beta, FISHER_SHAPE), sigma=(sigma, POSITIVE))
    if xp.name == "mpmath":
        return _vanishing_at_gaussian(lambda b: fisher_information(b) - 1, beta) / sigma**2
    excess = fisher_information(beta, sigma) - 1 / sigma**2
    if xp.name == "float":
        near = np.abs(1 / beta - _GAUSSIAN_U) < 0.25
        if np.any(near):
            log_j = _even_at_gaussian(np.where(near, beta, 2.0), _log_fisher_second_derivative)
            excess = np.where(near, np.expm1(log_j) / sigma**2, excess)[()]
    return excess
