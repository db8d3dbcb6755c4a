"""The rate at which a measured rate-distortion curve reaches a distortion, by interpolation, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from theory.domain import POSITIVE, accept


@dataclass(frozen=True)
class Crossing:
    """Where a curve reaches a distortion.

    Attributes
    ----------
    rate : float
        Bits per weight, by monotone cubic interpolation (PCHIP) of the rate over ln D.
    interpolation_error : float
        Its distance from linear interpolation. NaN for two points, where they are the same: nothing says how far the
        curve bends between.
    sampling_error : float
        Standard error of the rate, from those of the two points beside it: that of linear interpolation.
    """

    rate: float
    interpolation_error: float
    sampling_error: float

    @property
    def error(self) -> float:
        """Both errors, added as independent ones."""
        return math.hypot(self.interpolation_error, self.sampling_error)


def rate_at(
    target: float, rates: ArrayLike, mses: ArrayLike, rate_errors: ArrayLike = 0.0, mse_errors: ArrayLike = 0.0
) -> Crossing | None:
    """Interpolate the rate of a curve at a distortion.

    Parameters
    ----------
    target : float
        Mean squared error, > 0, in the unit of `mses`.
    rates, mses : array-like of shape (n,)
        Points of the curve in any order: bits per weight, and mean squared errors. A point that a cheaper one betters
        is left out, and so is a lossless one, which has no logarithm.
    rate_errors, mse_errors : array-like, broadcast to the points
        Their standard errors; 0 where a number is exact.

    Returns
    -------
    Crossing or None
        None where the curve does not reach from one side of the target to the other: nothing is extrapolated.

    Examples
    --------
    >>> rate_at(2.0**-5, [1, 2, 3, 4], [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])
    Crossing(rate=2.5, interpolation_error=0.0, sampling_error=0.0)
    >>> rate_at(0.5, [1, 2, 3], [0.25, 0.06, 0.015]) is None
    True
    """
    _, target = accept(target=(target, POSITIVE))
    points = np.stack(np.broadcast_arrays(*(np.asarray(a, float) for a in (rates, mses, rate_errors, mse_errors))))
    points = points[:, points[1] > 0]
    points = points[:, np.lexsort((points[1], points[0]))]
    best = np.minimum.accumulate(points[1])
    rate, mse, rate_error, mse_error = points[:, np.diff(best, prepend=math.inf) < 0]
    if len(rate) < 2 or not mse[-1] <= target <= mse[0]:
        return None
    depth, at = -np.log(mse), -math.log(target)
    i = min(int(np.searchsorted(depth, at, side="right")), len(depth) - 1) - 1
    share, slope = (at - depth[i]) / (depth[i + 1] - depth[i]), (rate[i + 1] - rate[i]) / (depth[i + 1] - depth[i])
    linear = rate[i] + slope * (at - depth[i])
    smooth = float(PchipInterpolator(depth, rate)(at)) if len(rate) > 2 else float(linear)
    beside = np.hypot(rate_error, slope * mse_error / mse)[i : i + 2] * (1 - share, share)
    bend = abs(smooth - float(linear)) if len(rate) > 2 else math.nan
    return Crossing(smooth, bend, float(np.hypot(*beside)))
