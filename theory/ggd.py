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
from theory.domain import FISHER_SHAPE, OPEN_UNIT, POSITIVE, REAL, SHAPE, Domain, accept
from theory.units import from_nats

_GAUSSIAN_U = 0.5  # 1/beta at the Gaussian
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


@guarded(16)
def alpha(beta: Number, sigma: Number = 1.0) -> Number:
    r"""Scale of the GGD of standard deviation `sigma`, in units of `sigma`.

    .. math:: \alpha = \sigma\sqrt{\Gamma(1/\beta)/\Gamma(3/\beta)}

    Parameters
    ----------
    beta : number or array
        Exponent, > 0.
    sigma : number or array
        Standard deviation, > 0; broadcasts with `beta`.

    Returns
    -------
    number or array
        alpha, in the arithmetic of the arguments.

    Raises
    ------
    ValueError
        If an argument is outside its domain; the message names it.

    Examples
    --------
    >>> abs(float(alpha(2.0)) - 2**0.5) < 1e-15
    True
    """
    xp, beta, sigma = accept(beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    return sigma * xp.sqrt(xp.gammas([1 / beta], [3 / beta]))


@guarded(32)
def pdf(x: Number, beta: Number, sigma: Number = 1.0) -> Number:
    r"""Density at `x`, in 1/units of `x`.

    .. math:: p(x) = \frac{\beta}{2\alpha\Gamma(1/\beta)} e^{-|x/\alpha|^\beta}

    Parameters
    ----------
    x : number or array
        Any real number.
    beta, sigma : number or array
        Exponent and standard deviation, > 0; all three broadcast.

    Notes
    -----
    Conditioning: a relative error eps in `x` is amplified by ``beta |x/alpha|**beta``, so the float64 result
    has relative error of a few eps times ``1 + beta |x/alpha|**beta``.

    Examples
    --------
    >>> from scipy.stats import norm
    >>> bool(abs(pdf(0.3, 2.0) / norm.pdf(0.3) - 1) < 1e-14)
    True
    """
    xp, x, beta, sigma = accept(x=(x, REAL), beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    a = alpha(beta, sigma)
    return beta / (2 * a * xp.gamma(1 / beta)) * xp.exp(-xp.power(xp.abs(x) / a, beta))


@guarded(32)
def abs_cdf(x: Number, beta: Number, sigma: Number = 1.0) -> Number:
    r"""Distribution function of the magnitude, :math:`P(|X|\le x) = P(1/\beta, (x/\alpha)^\beta)`.

    `P` is the regularized lower incomplete gamma function. Broadcasts; ValueError for x < 0.

    >>> round(float(abs_cdf(1.0, 2.0)), 6)
    0.682689
    """
    xp, x, beta, sigma = accept(x=(x, Domain(0, low_open=False)), beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    return xp.gammainc_of_power(1 / beta, x / alpha(beta, sigma), beta)


@guarded(32)
def cdf(x: Number, beta: Number, sigma: Number = 1.0) -> Number:
    r"""Distribution function :math:`P(X \le x)`.

    .. math:: \tfrac12 + \tfrac12\operatorname{sign}(x)\,P(1/\beta, |x/\alpha|^\beta)

    Parameters
    ----------
    x : number or array
        Any real number.
    beta, sigma : number or array
        Exponent and standard deviation, > 0; all three broadcast.

    Notes
    -----
    The left tail is computed as half the upper incomplete gamma, so that it keeps its relative accuracy. A
    ball of `x` that contains 0 gives a valid, wider ball.

    Examples
    --------
    >>> float(cdf(0.0, 1.7)), f"{cdf(-30.0, 2.0):.6e}"
    (0.5, '4.906714e-198')
    """
    xp, x, beta, sigma = accept(x=(x, REAL), beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    z = xp.abs(x) / alpha(beta, sigma)
    tail, centre = xp.gammaincc(1 / beta, xp.power(z, beta)) / 2, xp.sign(x) * xp.gammainc_of_power(1 / beta, z, beta)
    if xp.name == "sympy":
        return (1 + centre) / 2
    if xp.name == "float":
        return np.where((x < 0) & (tail < 0.25), tail, (1 + centre) / 2)[()]
    return elementwise(lambda x, tail, centre: tail if x < 0 else (1 + centre) / 2)(x, tail, centre)


@guarded(32)
def quantile(p: Number, beta: Number, sigma: Number = 1.0) -> Number:
    r"""Inverse of `cdf`: the `x` with :math:`P(X\le x) = p`.

    .. math:: x = \operatorname{sign}(2p-1)\,\alpha\,\bigl(P^{-1}(1/\beta, |2p-1|)\bigr)^{1/\beta}

    Parameters
    ----------
    p : number or array
        Probability, in the open interval (0, 1).
    beta, sigma : number or array
        Exponent and standard deviation, > 0; all three broadcast.

    Raises
    ------
    ValueError
        If an argument is outside its domain.
    TypeError
        For symbols: the inverse has no closed form.

    Notes
    -----
    float64 by scipy's inverse incomplete gamma functions, each tail from its own side; mpmath by Newton steps
    from there at the working precision; ball by an interval Newton step, so that the ball contains the root.
    Relative accuracy is kept in the tails and about the median.

    Examples
    --------
    >>> round(float(quantile(0.975, 2.0)), 6)
    1.959964
    """
    xp, p, beta, sigma = accept(p=(p, OPEN_UNIT), beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    if xp.name == "sympy":
        raise TypeError("quantile has no closed form: give numbers, or invert cdf(x, beta) symbolically")
    q = 2 * xp.minimum(p, 1 - p)  # P(|X| > |x|), and its complement without a cancellation
    root = xp.gamma_root(1 / beta, abs(2 * p - 1), q)
    return xp.sign(2 * p - 1) * alpha(beta, sigma) * root


@guarded(16)
def abs_moment(k: Number, beta: Number, sigma: Number = 1.0) -> Number:
    r"""Absolute moment, in units of ``sigma**k``.

    .. math:: E|X|^k = \alpha^k\,\Gamma((k+1)/\beta)/\Gamma(1/\beta)

    Parameters
    ----------
    k : number or array
        Order, > -1; need not be an integer.
    beta, sigma : number or array
        Exponent and standard deviation, > 0; all three broadcast.

    Examples
    --------
    >>> abs(float(abs_moment(4, 2.0)) - 3) < 1e-13
    True
    """
    xp, k, beta, sigma = accept(k=(k, Domain(-1)), beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
    return alpha(beta, sigma) ** k * xp.gammas([(k + 1) / beta], [1 / beta])


@guarded(16)
def kurtosis(beta: Number) -> Number:
    r"""Kurtosis, dimensionless (3 for the Gaussian; not the excess): strictly decreasing from inf to 9/5.

    .. math:: \Gamma(5/\beta)\,\Gamma(1/\beta)/\Gamma(3/\beta)^2

    >>> round(float(kurtosis(1.0)), 12)
    6.0
    """
    xp, beta = accept(beta=(beta, SHAPE))
    return xp.gammas([5 / beta, 1 / beta], [3 / beta, 3 / beta])


def beta_from_kurtosis(kurtosis: Number) -> Number:
    r"""Exponent of the GGD with the given kurtosis, the inverse of `kurtosis`: dimensionless.

    Parameters
    ----------
    kurtosis : float, array or mpf
        Fourth standardized moment, > 9/5 (the uniform distribution, beta -> infinity).

    Returns
    -------
    float, array or mpf

    Raises
    ------
    ValueError
        If kurtosis <= 9/5, or so close to it in float64 that beta is not determined.
    TypeError
        For balls and symbols: enclose ``kurtosis(beta)`` instead.

    Notes
    -----
    Newton's method on ``ln kurtosis`` as a function of 1/beta, safeguarded by bisection.

    Examples
    --------
    >>> round(float(beta_from_kurtosis(6.0)), 12)
    1.0
    """
    xp, target = accept(kurtosis=(kurtosis, Domain(1.8)))
    if xp.name in ("ball", "sympy"):
        raise TypeError("beta_from_kurtosis takes floats and mpf; for a ball, bracket it with kurtosis(beta)")
    if xp.name == "mpmath":
        return elementwise(_mp_beta_from_kurtosis)(target)
    flat = np.atleast_1d(target).ravel()
    u = np.array([_solve_u(np.log(k)) for k in flat]).reshape(np.shape(target))
    return (1 / u)[()]


def _mp_beta_from_kurtosis(target: mp.mpf) -> mp.mpf:
    if target < 1.9:  # ln(kurtosis / 1.8) = (2 pi**2 / 3) u**2 + O(u**3), u = 1/beta
        start = mp.sqrt(1.5 * mp.log(target / mp.mpf("1.8"))) / mp.pi
    else:
        start = 1 / mp.mpf(float(beta_from_kurtosis(float(target))))
    with mp.workprec(mp.prec + 32 + 2 * max(0, -mp.mag(start))):
        u = mp.findroot(lambda u: mp.log(kurtosis(1 / u) / target), (start, start * (1 + mp.mpf(2) ** -20)))
    return +(1 / u)


def _solve_u(log_kurtosis: float) -> float:
    def f(u: float) -> float:  # with Gamma(1 + ku) for k u Gamma(ku): finite down to u = 0
        lg = special.gammaln
        return np.log(1.8) + lg(1 + 5 * u) + lg(1 + u) - 2 * lg(1 + 3 * u) - log_kurtosis

    low, high = 1e-6, 1.0
    if f(low) > 0:
        raise ValueError("kurtosis is within 1e-11 of 9/5: beta > 1e6 is not determined in float64; use mpf")
    while f(high) < 0:
        low, high = high, 2 * high
    u = (low + high) / 2
    for _ in range(100):
        value = f(u)
        low, high = (u, high) if value < 0 else (low, u)
        psi = special.digamma
        slope = 5 * psi(1 + 5 * u) + psi(1 + u) - 6 * psi(1 + 3 * u)
        step = u - value / slope
        step = step if low < step < high else (low + high) / 2
        if abs(step - u) <= 2e-16 * u:
            return step
        u = step
    return u


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
