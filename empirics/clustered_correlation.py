r"""Correlation of points that come in clusters, such as texts in languages: between and within them.

Points of a cluster share what makes it differ from others. Taken as independent they would make the interval of a
correlation too short, and its test too ready.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from theory.domain import REAL, check

DRAWS = 9_999


class Clustered(NamedTuple):
    """Pearson's r, the ends of its 95 % interval, its two-sided p-value, and what it comes of."""

    r: float
    low: float
    high: float
    p: float
    n: int
    clusters: int


def pooled(x: np.ndarray, y: np.ndarray, clusters: np.ndarray) -> Clustered:
    r"""Correlation of all points, with an error over clusters.

    The error of :math:`z = \operatorname{artanh} r` is the jackknife's, a cluster left out at a time; interval and
    p-value are Student's with G - 1 degrees of freedom.

    Parameters
    ----------
    x, y : array of shape (n,)
        Finite.
    clusters : array of shape (n,)
        Three labels or more.

    Raises
    ------
    ValueError
        If the arrays do not fit, there are fewer than three clusters, or without one of them x or y is constant or
        the points lie on a line.

    Notes
    -----
    Of few clusters the interval is wide, and rough itself.

    Examples
    --------
    >>> found = pooled(np.array([1, 2, 3, 4, 5, 6]), np.array([2, 1, 6, 3, 4, 7]), np.array([0, 0, 1, 1, 2, 2]))
    >>> round(found.r, 3), round(found.p, 2)
    (0.715, 0.34)
    """
    x, y, group, groups = _grouped(x, y, clusters)
    if groups < 3:
        raise ValueError(f"{groups} clusters: a jackknife over clusters needs 3")
    each = np.array([_coefficient(x, y), *(_coefficient(x[group != g], y[group != g]) for g in range(groups))])
    if np.abs(each).max() > 1 - 1e-12:
        raise ValueError("the points lie on a line, or do without one cluster: there is no error to estimate")
    z, without = math.atanh(each[0]), np.arctanh(each[1:])
    error = math.sqrt((groups - 1) / groups * float(np.sum((without - without.mean()) ** 2)))
    half = float(stats.t.isf(0.025, groups - 1)) * error
    p = 2 * float(stats.t.sf(abs(z) / error, groups - 1))
    return Clustered(float(each[0]), math.tanh(z - half), math.tanh(z + half), p, len(x), groups)


def within(x: np.ndarray, y: np.ndarray, clusters: np.ndarray, seed: int = 0) -> Clustered:
    r"""Correlation of what points differ by from the mean of their cluster.

    The p-value is that of a permutation test that pairs points of a cluster with each other only, and the interval
    Fisher's, with n - G - 2 in the place of n - 3.

    Parameters
    ----------
    x, y, clusters
        As `pooled`; two points or more in some cluster.
    seed : int
        Of the 9,999 pairings drawn.

    Raises
    ------
    ValueError
        If the arrays do not fit, or nothing varies within the clusters.

    Examples
    --------
    Between the clusters everything rises, and within them it falls:

    >>> x, y = np.array([1, 2, 3, 11, 12, 13]), np.array([13, 12, 11, 23, 22, 21])
    >>> found = within(x, y, np.array(["a", "a", "a", "b", "b", "b"]))
    >>> round(found.r, 6), 0.04 < found.p < 0.08
    (-1.0, True)
    """
    x, y, group, groups = _grouped(x, y, clusters)
    sizes = np.bincount(group)
    x, y = (v - (np.bincount(group, v) / sizes)[group] for v in (x, y))
    r = _coefficient(x, y)
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random((DRAWS, len(x))), np.tile(group, (DRAWS, 1))))
    # Sorted by cluster and then at random; what stands in a cluster's places is one of its own points.
    drawn = y[order] @ x[np.argsort(group, kind="stable")] / math.sqrt(float(x @ x) * float(y @ y))
    p = (1 + int(np.sum(np.abs(drawn) >= abs(r) - 1e-12))) / (DRAWS + 1)
    free = len(x) - groups - 2
    if free < 1 or abs(r) > 1 - 1e-15:
        return Clustered(r, *((-1.0, 1.0) if free < 1 else (r, r)), p, len(x), groups)
    half = float(stats.norm.isf(0.025)) / math.sqrt(free)
    z = math.atanh(r)
    return Clustered(r, math.tanh(z - half), math.tanh(z + half), p, len(x), groups)


def _coefficient(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    if not size > 1e-300:
        raise ValueError("x or y is constant, in all points or without a cluster: it correlates with nothing")
    return float(np.clip(x @ y / size, -1, 1))


def _grouped(x: np.ndarray, y: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    group = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if x.ndim != 1 or x.shape != y.shape or group.shape != x.shape:
        raise ValueError(f"x, y and clusters have shapes {x.shape}, {y.shape}, {group.shape}: give vectors alike")
    check("x", x, REAL)
    check("y", y, REAL)
    return x, y, group, int(group.max()) + 1
