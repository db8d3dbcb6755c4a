r"""Do groups share one slope? A test for lines that scatter alike, for a shared curve, and for slopes with errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from theory.domain import POSITIVE, REAL, check

if TYPE_CHECKING:
    from empirics.regression import Line


class Comparison(NamedTuple):
    """Whether several slopes are one.

    `statistic` is F, with two `degrees` of freedom, or chi-squared, with one; `p_value` is the probability of as much
    if the true slopes are equal, and `slope` is then the estimate of all of them.
    """

    statistic: float
    p_value: float
    degrees: tuple[float, ...]
    slope: float


def equal_slopes(lines: Sequence[Line]) -> Comparison:
    r"""F test of one slope for all groups, each with an intercept of its own (analysis of covariance).

    .. math:: F = \frac{\sum_g S_g(b_g - \bar b)^2/(G-1)}{\sum_g \mathrm{RSS}_g/\sum_g(n_g - 2)},\qquad
              \bar b = \frac{\sum_g S_g b_g}{\sum_g S_g}

    Parameters
    ----------
    lines : sequence of Line
        Two or more, not all of two points, of spreads :math:`S_g`; apart from weights they scatter alike.

    Raises
    ------
    ValueError
        If there are too few lines or points.

    Notes
    -----
    If the groups share a curve, what bends away from the lines counts as scatter, and the test sees little:
    `parallel` takes it out. If the groups have scatters of their own, use `homogeneous`.

    Examples
    --------
    >>> from empirics.regression import line
    >>> found = equal_slopes([line([2, 4, 8], [1.0, 0.1, -2.1]), line([2, 4, 8], [0.8, -1.1, -5.3])])
    >>> round(found.statistic, 1), round(found.p_value, 3), found.degrees
    (204.2, 0.005, (1, 2))
    """
    degrees = sum(fit.degrees for fit in lines)
    if len(lines) < 2 or not degrees:
        raise ValueError(f"{len(lines)} lines, {degrees} degrees of freedom: give two lines, one of three points")
    within = math.fsum(fit.scatter * fit.degrees for fit in lines if fit.degrees) / degrees
    between, slope = _between(*(np.array([getattr(fit, name) for fit in lines]) for name in ("slope", "spread")))
    return _f_test(between, len(lines) - 1, within, degrees, slope)


def parallel(x: ArrayLike, y: ArrayLike) -> Comparison:
    r"""F test of one slope for groups that were measured at the same x and may share any curve.

    The model is :math:`y_{gi} = a_g + m_i + s_g x_i + e_{gi}`: a curve m common to all, whatever its shape, and what
    is tested is whether the :math:`s_g` are equal. What all groups have in common at an x, such as the error of the
    same weights, drops out.

    Parameters
    ----------
    x : array of shape (k,)
        Finite; at least three different ones.
    y : array of shape (G, k)
        Finite; two groups or more.

    Returns
    -------
    Comparison
        With G - 1 and (G - 1)(k - 2) degrees of freedom.

    Raises
    ------
    ValueError
        If an array is not of that shape or in that domain.

    Examples
    --------
    >>> curve = np.array([0.0, -2.2, -3.9, -5.4])
    >>> slopes = np.array([[-1.0], [-1.0], [-1.1]])
    >>> noise = np.array([[0.01, -0.02, 0.0, 0.01], [0.0, 0.01, -0.01, 0.02], [-0.01, 0.0, 0.02, 0.0]])
    >>> found = parallel([2, 3, 4, 5], curve + slopes * [2, 3, 4, 5] + noise)
    >>> round(found.p_value, 4), found.degrees
    (0.0014, (2, 4))
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(y) < 2:
        raise ValueError(
            f"x and y have shapes {x.shape} and {y.shape}: give (k,) and (groups, k), two groups or more"
        )
    check("x", x, REAL)
    check("y", y, REAL)
    if len(np.unique(x)) < 3:
        raise ValueError(f"x = {x.tolist()}: three must differ, or the scatter is unknown")
    groups, k = y.shape
    centred = x - x.mean()
    spread = float(centred @ centred)
    slopes = y @ centred / spread
    between, slope = _between(slopes, np.full(groups, spread))
    interaction = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    rest = interaction - (slopes - slope)[:, None] * centred
    degrees = (groups - 1) * (k - 2)
    return _f_test(between, groups - 1, float(np.sum(rest**2)) / degrees, degrees, slope)


def homogeneous(slopes: ArrayLike, errors: ArrayLike, degrees: ArrayLike | None = None) -> Comparison:
    r"""Test of one slope for all groups, each with a standard error of its own.

    Cochran's Q where the errors are known, and Welch's F where each is estimated with :math:`d_g` degrees of freedom:

    .. math:: Q = \sum_g w_g(b_g - \bar b)^2,\quad w_g = s_g^{-2},\qquad
              F = \frac{Q/(G-1)}{1 + 2\frac{G-2}{G^2-1}A},\quad A = \sum_g\frac{(1 - w_g/\sum w)^2}{d_g}

    with G - 1 and :math:`(G^2-1)/3A` degrees of freedom.

    Parameters
    ----------
    slopes, errors : array of shape (G,)
        Independent estimates, two or more, and their standard errors, > 0.
    degrees : number or array of shape (G,), optional
        Degrees of freedom of each error, such as the number of texts less 1.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the arrays are not of that shape or in that domain.

    Notes
    -----
    Q tells too many equal slopes apart if its errors come from few texts: of six with 2, 11 and 29 degrees of
    freedom, 38, 10 and 7 % at the level of 5 %; F, 8, 5 and 5 %.

    References: [Cochran1954] for Q, [Welch1951] for F.

    Examples
    --------
    >>> slopes, errors = [-1.39, -1.45, -1.34], [0.03, 0.03, 0.03]
    >>> [round(homogeneous(slopes, errors, d).p_value, 3) for d in (None, 11, 2)]
    [0.034, 0.057, 0.167]
    """
    slopes, errors = np.asarray(slopes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    groups = len(slopes) if slopes.ndim == 1 else 0
    if slopes.shape != errors.shape or groups < 2:
        raise ValueError(f"slopes and errors have shapes {slopes.shape} and {errors.shape}: give two or more, alike")
    check("slopes", slopes, REAL)
    check("errors", errors, POSITIVE)
    check("errors", errors, REAL)
    weights = errors**-2.0
    q, slope = _between(slopes, weights)
    if degrees is None:
        return Comparison(q, float(stats.chi2.sf(q, groups - 1)), (groups - 1,), slope)
    check("degrees", np.asarray(degrees, dtype=np.float64), POSITIVE)
    doubt = float(np.sum((1 - weights / weights.sum()) ** 2 / degrees))
    within = 1 + 2 * (groups - 2) / (groups**2 - 1) * doubt
    return _f_test(q, groups - 1, within, (groups**2 - 1) / (3 * doubt), slope)


def _between(slopes: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted sum of squares of the slopes about their weighted mean, and that mean."""
    slope = float(np.average(slopes, weights=weights))
    return float(weights @ (slopes - slope) ** 2), slope


def _f_test(between: float, above: int, within: float, below: float, slope: float) -> Comparison:
    if not within:
        raise ValueError("every point lies on its line: there is no scatter to hold the slopes' differences against")
    f = between / above / within
    return Comparison(f, float(stats.f.sf(f, above, below)), (above, below), slope)
