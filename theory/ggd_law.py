r"""The generalized Gaussian law: scale, density, distribution function, quantile, moments.

Half of `theory.ggd`, which states the conventions and exports these names.
"""

from __future__ import annotations

import numpy as np
from mpmath import mp
from scipy import special

from theory.arithmetic import Number, elementwise, guarded
from theory.domain import OPEN_UNIT, POSITIVE, REAL, SHAPE, Domain, accept


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
