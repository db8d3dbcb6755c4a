r"""A straight line through a few points: its slope with an interval, and tests of it.

Whether groups differ in it is in `empirics.slope_comparison`; its names are here too.

A slope has two errors. Student's comes from the points' scatter about the line, with n - 2 degrees of freedom. Where
each point has a standard error of its own, the parametric one follows from those, and a chi-squared says whether they
explain the scatter: if it is far above its degrees of freedom, the points do not lie on a line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, stats

from empirics.slope_comparison import Comparison as Comparison
from empirics.slope_comparison import equal_slopes as equal_slopes
from empirics.slope_comparison import homogeneous as homogeneous
from empirics.slope_comparison import parallel as parallel
from theory.domain import OPEN_UNIT, POSITIVE, REAL, check

SMALL = 30


class Parametric(NamedTuple):
    """What the standard errors of the points say.

    `standard_error`, `low` and `high` are the slope's, by the Gaussian. `chi_squared` is that of the points about the
    line, with n - 2 degrees of freedom, and `p_value` the probability of as much.
    """

    standard_error: float
    low: float
    high: float
    chi_squared: float
    p_value: float


@dataclass(frozen=True)
class Line:
    """A line by least squares.

    Attributes
    ----------
    slope, intercept : float
    standard_error, low, high : float
        Of the slope, and the ends of its interval, by Student's t. Two points leave them infinite.
    level : float
        Of confidence.
    degrees : int
        Degrees of freedom, n - 2.
    n : int
        Points.
    scatter : float
        Variance of the points about the line, at weight 1; infinite for two points.
    centre, mass, spread : float
        Of the x with their weights w: mean, sum of w, and sum of w (x - mean)**2.
    parametric : Parametric, optional
        Where the points have standard errors.
    """

    slope: float
    intercept: float
    standard_error: float
    low: float
    high: float
    level: float
    degrees: int
    n: int
    scatter: float
    centre: float
    mass: float
    spread: float
    parametric: Parametric | None = None

    @property
    def small(self) -> bool:
        """Fewer than 30 points."""
        return self.n < SMALL

    def test(self, value: float = 0.0) -> float:
        """Two-sided p-value of the hypothesis that the slope is `value`; 1 for two points.

        >>> round(line([1, 2, 3, 4], [1.0, 2.1, 2.9, 4.0]).test(0.347), 4)
        0.0045
        """
        return 2 * float(stats.t.sf(abs(self._t(value)), max(self.degrees, 1)))

    def equivalence(self, value: float, margin: float) -> float:
        """P-value of two one-sided tests: small if the slope is shown to be within `margin` of `value`.

        A value that `test` does not reject is not thereby shown.

        >>> round(line([1, 2, 3, 4], [1.0, 2.1, 2.9, 4.0]).equivalence(1.0, 0.2), 4)
        0.0257
        """
        check("margin", margin, POSITIVE)
        above, below = self._t(value - margin), -self._t(value + margin)
        return float(stats.t.sf(min(above, below), max(self.degrees, 1)))

    def _t(self, value: float) -> float:
        beyond = self.slope - value
        if not self.standard_error:
            return math.copysign(math.inf, beyond) if beyond else 0.0
        return beyond / self.standard_error

    def at(self, x: ArrayLike) -> np.ndarray:
        """The height of the line at each x."""
        return self.intercept + self.slope * np.asarray(x, dtype=np.float64)

    def band(self, x: ArrayLike, observation: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval, at each x by itself, for the line or for one more observation of weight 1.

        >>> low, high = line([1, 2, 3, 4], [1.0, 2.1, 2.9, 4.0]).band([2.5, 8])
        >>> (high - low).round(3)
        array([0.408, 2.049])
        """
        x = np.asarray(x, dtype=np.float64)
        variance = self.scatter * (1 / self.mass + (x - self.centre) ** 2 / self.spread + observation)
        half = _student(self.level, self.degrees) * np.sqrt(variance)
        return self.at(x) - half, self.at(x) + half


def line(
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    errors: ArrayLike | None = None,
    level: float = 0.95,
) -> Line:
    r"""Fit a line by least squares.

    Parameters
    ----------
    x, y : array of shape (n,)
        Finite; at least two different x.
    weights : array of shape (n,), optional
        > 0, inversely proportional to the variances; 1 if not given.
    errors : array of shape (n,) or (n, n), optional
        Standard errors of the y, > 0, or their covariance where they are not independent, as when the same texts
        measured them all. They weight the fit, so give no weights. That of ln y is that of y over y.
    level : float
        Of the intervals, in (0, 1).

    Returns
    -------
    Line

    Raises
    ------
    ValueError
        If an array is not of that shape or in that domain, or the covariance is not positive definite.

    Notes
    -----
    Student's interval covers the slope at its level from 3 points up if they scatter independently and normally; the
    parametric one if the standard errors are known, and not themselves estimated from a few texts.

    Examples
    --------
    Three points: a slope that looks certain is known to a quarter of itself.

    >>> fit = line([2, 4, 8], [-1.0, -2.9, -6.4], errors=[0.1, 0.1, 0.1])
    >>> round(fit.slope, 3), round(fit.low, 2), round(fit.high, 2), fit.degrees
    (-0.896, -1.13, -0.66, 1)
    >>> round(fit.parametric.low, 2), round(fit.parametric.high, 2), round(fit.parametric.p_value, 2)
    (-0.94, -0.85, 0.42)
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y have shapes {x.shape} and {y.shape}: give two sequences of one length")
    check("x", x, REAL)
    check("y", y, REAL)
    check("level", level, OPEN_UNIT)
    if len(np.unique(x)) < 2:
        raise ValueError(f"x = {x.tolist()}: a line needs two that differ")
    # Whitened, all points have one variance; the intercept at the centre is then orthogonal to the slope.
    flat, x_white, y_white = _whitened(np.stack([np.ones(len(x)), x, y], axis=1), weights, errors).T
    mass = float(flat @ flat)
    centre, mean = float(flat @ x_white) / mass, float(flat @ y_white) / mass
    steep, high = x_white - centre * flat, y_white - mean * flat
    spread = float(steep @ steep)
    slope = float(steep @ high) / spread
    squares, degrees = float(np.sum((high - slope * steep) ** 2)), len(x) - 2
    scatter = squares / degrees if degrees else math.inf
    error = math.sqrt(scatter / spread)
    half = _student(level, degrees) * error
    parametric = None
    if errors is not None:
        known = 1 / math.sqrt(spread)
        gauss = float(stats.norm.isf((1 - level) / 2)) * known
        p_value = float(stats.chi2.sf(squares, degrees)) if degrees else 1.0
        parametric = Parametric(known, slope - gauss, slope + gauss, squares, p_value)
    return Line(
        slope, mean - slope * centre, error, slope - half, slope + half, level, degrees, len(x),
        scatter, centre, mass, spread, parametric,
    )  # fmt: skip


def _student(level: float, degrees: int) -> float:
    return float(stats.t.isf((1 - level) / 2, max(degrees, 1)))  # of two points the error is infinite


def _whitened(columns: np.ndarray, weights: ArrayLike | None, errors: ArrayLike | None) -> np.ndarray:
    """Multiply by a root of the inverse covariance."""
    if weights is not None and errors is not None:
        raise ValueError("weights and errors: the errors are the weights; give one of them")
    n = len(columns)
    if errors is not None and np.ndim(errors) == 2:
        covariance = np.asarray(errors, dtype=np.float64)
        if covariance.shape != (n, n) or not np.allclose(covariance, covariance.T, rtol=1e-9, atol=0):
            raise ValueError(f"errors: a covariance of {n} points is symmetric and of shape {(n, n)}")
        try:
            return linalg.solve_triangular(linalg.cholesky(covariance, lower=True), columns, lower=True)
        except linalg.LinAlgError as error:
            raise ValueError(
                "errors: the covariance is not positive definite; of n points it needs more than n texts"
            ) from error
    for name, values in (("weights", weights), ("errors", errors)):
        if values is not None:
            values = np.asarray(values, dtype=np.float64)
            if values.shape != (n,):
                raise ValueError(f"{name} has shape {values.shape} for {n} points")
            check(name, values, POSITIVE)
            check(name, values, REAL)
            return columns * (np.sqrt(values) if name == "weights" else 1 / values)[:, None]
    return columns
