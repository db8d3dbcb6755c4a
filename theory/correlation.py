r"""The sample correlation r of n independent Gaussian pairs: its law, the r that a test needs, and the test's power.

The test is the usual one, two-sided: under independence :math:`r\sqrt{(n-2)/(1-r^2)}` is Student's t with n - 2
degrees of freedom. float64.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from scipy import integrate, special, stats

from theory.domain import OPEN_UNIT, Domain, accept

CORRELATION = Domain(-1, 1)
PAIRS = Domain(3, low_open=False, integer=True)

_REACH = 40.0  # in units of 1/sqrt(n - 2) about the truth: at n = 3, where tails are exponential, e**-40 is left out


def pdf(r: Any, rho: float, n: int) -> Any:
    r"""Density of the sample correlation.

    .. math:: \frac{(n-2)\,\Gamma(n-1)}{\sqrt{2\pi}\,\Gamma(n-\frac12)}\,
              \frac{(1-\rho^2)^{(n-1)/2}(1-r^2)^{(n-4)/2}}{(1-\rho r)^{n-3/2}}\,
              {}_2F_1\bigl(\tfrac12,\tfrac12;n-\tfrac12;\tfrac{1+\rho r}2\bigr)

    Parameters
    ----------
    r : number or array
        In (-1, 1).
    rho : float
        True correlation, in (-1, 1).
    n : int
        Pairs, >= 3.

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Notes
    -----
    References: [Hotelling1953].

    Examples
    --------
    Three independent pairs: the arcsine law.

    >>> round(float(pdf(0.0, 0.0, 3)) * math.pi, 12)
    1.0
    """
    _, r, rho, n = accept(r=(r, CORRELATION), rho=(rho, CORRELATION), n=(n, PAIRS))
    return _density(np.arctanh(r), rho, n) / (1 - r**2)


def _density(z: Any, rho: Any, n: Any) -> Any:
    """Of z = artanh r, in which it is nearly Gaussian and 1 - r**2 loses no digits."""
    r = np.tanh(z)
    front = np.log(n - 2) + special.gammaln(n - 1) - special.gammaln(n - 0.5) - math.log(2 * math.pi) / 2
    shape = (n - 1) / 2 * np.log1p(-(rho**2)) - (n - 2) * np.log(np.cosh(z)) - (n - 1.5) * np.log1p(-rho * r)
    return np.exp(front + shape) * special.hyp2f1(0.5, 0.5, n - 0.5, (1 + rho * r) / 2)


def critical(n: int, alpha: float = 0.05) -> float:
    r"""The \|r\| beyond which the two-sided test at level `alpha` rejects independence.

    Parameters
    ----------
    n : int
        Pairs, >= 3.
    alpha : float
        In (0, 1).

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Examples
    --------
    >>> round(critical(6), 4)
    0.8114
    """
    _, n, alpha = accept(n=(n, PAIRS), alpha=(alpha, OPEN_UNIT))
    t = float(stats.t.isf(alpha / 2, n - 2))
    return t / math.sqrt(n - 2 + t * t)


def power(rho: float, n: int, alpha: float = 0.05) -> float:
    r"""Probability that the two-sided test at level `alpha` rejects independence if the true correlation is `rho`.

    Parameters
    ----------
    rho : float
        In (-1, 1). Its sign does not matter: either tail counts.
    n, alpha
        As `critical`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Notes
    -----
    The integral of `pdf`, to 1e-10 for n up to 1e5.

    Examples
    --------
    >>> round(power(0.7, 6), 4)
    0.3704
    """
    _, rho, n = accept(rho=(rho, CORRELATION), n=(n, PAIRS))
    least = math.atanh(critical(int(n), alpha))
    return min(_beyond(least, float(rho), int(n)) + _beyond(least, -float(rho), int(n)), 1.0)


def _beyond(least: float, rho: float, n: int) -> float:
    """P(artanh r > least)."""
    centre, reach = math.atanh(rho), _REACH / math.sqrt(n - 2)
    low, high = max(least, centre - reach), centre + reach
    if low >= high:
        return 0.0

    peak = [z for z in (centre - reach / 8, centre, centre + reach / 8) if low < z < high]
    density = partial(_density, rho=rho, n=n)
    return float(integrate.quad(density, low, high, points=peak, epsabs=1e-12, epsrel=1e-11, limit=400)[0])
