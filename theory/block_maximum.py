r"""The law of the block maximum: S = max |X_i| of n iid draws, with distribution function F(s)**n."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from theory import arithmetic, block_balls, ggd
from theory.arithmetic import Number, total
from theory.block_source import BlockSource
from theory.domain import COUNT, NONNEGATIVE, POSITIVE, Domain, accept
from theory.sources import GGD, Source


def _magnitude_cdf(source: Source, s: Number) -> Number:
    if isinstance(source, GGD):
        return ggd.abs_cdf(s, source.beta, source.sigma)
    # (lo, hi] leaves out an atom at lo.
    return source.partial_moment(0, -s if source.continuous else np.nextafter(-s, -np.inf), s)


def absmax_cdf(s: Number, n: Number, source: Source) -> Number:
    r"""Distribution function of the block maximum, :math:`P(S \le s) = F(s)^n`, in all four arithmetics.

    Parameters
    ----------
    s : number or array
        Magnitude, >= 0, in the units of the source.
    n : int or sympy expression
        Elements in a block, >= 1.
    source : Source
        mpmath, ball and sympy: `GGD`.

    Returns
    -------
    number or array

    Raises
    ------
    ValueError
        If an argument is outside its domain.

    Examples
    --------
    >>> round(float(absmax_cdf(2.0, 64, GGD(2.0))), 6)
    0.050775
    >>> import sympy
    >>> s, n = sympy.symbols("s n", positive=True)
    >>> absmax_cdf(s, n, GGD(sympy.Integer(1), sympy.sqrt(2)))  # Laplace
    (1 - exp(-s))**n
    """
    _, s = accept(s=(s, NONNEGATIVE))
    return _magnitude_cdf(source, s) ** _count(n)


def absmax_pdf(s: Number, n: Number, source: GGD) -> Number:
    r"""Density of the block maximum, :math:`n F(s)^{n-1} f_{|X|}(s)`, in 1/units of the source.

    Parameters and errors as `absmax_cdf`; the source has a density.

    >>> round(float(absmax_pdf(2.5, 64, GGD(2.0))), 6)
    1.020992
    """
    _, s = accept(s=(s, NONNEGATIVE))
    n = _count(n)
    return n * _magnitude_cdf(source, s) ** (n - 1) * 2 * source.pdf(s)


def _count(n: Number) -> Number:
    """The number of elements as an exact exponent: an integer, or a symbol."""
    xp, n = accept(n=(n, COUNT))
    return n if xp.name == "sympy" else int(n)


def absmax_moment(q: Number, n: int, source: Source) -> Number:
    r"""Moment of the block maximum, :math:`E S^q = \int_0^\infty s^q\,n F(s)^{n-1} f_{|X|}(s)\,ds`.

    Parameters
    ----------
    q : number
        Order, >= 0.
    n : int
        Elements in a block, >= 1.
    source : Source
        float64 (any source); mpmath and ball (`GGD`): certified, see `theory.block_balls`.

    Returns
    -------
    number
        In the units of the source to the q.

    Raises
    ------
    ValueError
        If q or n is outside its domain.

    Notes
    -----
    float64: relative error below 1e-12 for q <= 4, beta in [0.5, 8] and n in [1, 4096], against the ball; for larger
    q and heavy tails use a ball.

    Examples
    --------
    >>> round(float(absmax_moment(4, 1, GGD(2.0))), 10)
    3.0
    """
    _, q, n = accept(q=(q, NONNEGATIVE), n=(n, COUNT))
    if arithmetic.of(source.variance, q).name != "float":
        return block_balls.scale_moment(q, int(n), source)
    return BlockSource(source, int(n)).scale_moment(q)


def absmax_mean(n: int, source: Source) -> Number:
    r"""Mean of the block maximum, :math:`E S = \int_0^\infty (1 - F(s)^n)\,ds`: `absmax_moment` for q = 1.

    >>> round(float(absmax_mean(64, GGD(2.0))), 6)
    2.596111
    """
    return absmax_moment(1, n, source)


def absmax_second_moment(n: int, source: Source) -> Number:
    r"""Second moment of the block maximum, :math:`E S^2`: `absmax_moment` for q = 2.

    >>> round(float(absmax_second_moment(1, GGD(2.0))), 12)
    1.0
    """
    return absmax_moment(2, n, source)


class Bounds(NamedTuple):
    """Both ends of a two-sided bound."""

    lower: Any
    upper: Any


def absmax_mean_bounds(n: int, source: GGD) -> Bounds:
    r"""Two-sided bound on the mean of the block maximum, in the units of the source.

    .. math:: F^{-1}\Bigl(\frac n{n+1}\Bigr) \le E S \le F^{-1}\bigl(1 - e^{-H_n}\bigr)

    with F the distribution function of the magnitude and H_n the harmonic number.

    Parameters
    ----------
    n : int
        Elements in a block, >= 1.
    source : GGD
        The upper end needs beta >= 1 and is infinite otherwise.

    Notes
    -----
    |X| has a decreasing density, so F^-1 is convex: Jensen on the uniform order statistic. For beta >= 1 its
    hazard rate increases, so F^-1(1 - e^-t) is concave: Jensen on the exponential one; equality at beta = 1.

    References: [DavidNagaraja2003].

    Examples
    --------
    >>> low, high = absmax_mean_bounds(64, GGD(1.0))
    >>> bool(low < absmax_mean(64, GGD(1.0))), abs(float(high / absmax_mean(64, GGD(1.0))) - 1) < 1e-12
    (True, True)
    """
    _, n = accept(n=(n, COUNT))
    n = int(n)
    xp = arithmetic.of(source.variance)
    # The lower tail of X, by symmetry: a probability near 1 would lose its digits.
    lower = -source.quantile(xp.number(1) / (2 * (n + 1)))
    if not source.log_concave:
        return Bounds(lower, xp.infinity)
    harmonic = total(np.asarray([xp.number(1) / i for i in range(1, n + 1)]))
    return Bounds(lower, -source.quantile(xp.exp(-harmonic) / 2))


def moment_bound(n: int, q: Number, abs_moment: Number) -> Number:
    r"""Upper bound on the mean of the block maximum, :math:`E S \le (n\,E|X|^q)^{1/q}` for q >= 1.

    For any law, and for any n numbers: :math:`S^q \le \sum|X_i|^q`, and Jensen. Not even independence is needed.

    Parameters
    ----------
    n : int
        Elements in a block, >= 1.
    q : number
        Order, >= 1.
    abs_moment : number
        :math:`E|X|^q`, > 0.

    Examples
    --------
    >>> round(float(moment_bound(64, 6, 15.0)), 6)
    3.140836
    """
    _, n, q, abs_moment = accept(n=(n, COUNT), q=(q, Domain(1, low_open=False)), abs_moment=(abs_moment, POSITIVE))
    return (n * abs_moment) ** (1 / q)
