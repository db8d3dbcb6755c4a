"""Means, quantiles and tests of per-token values where the unit of sampling is the text, not the token.

Tokens of one text are alike: taken as independent they would make every error look too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from theory.domain import OPEN_UNIT, check

FEW = 30
"""Clusters below which a sample is small."""

EXACT = 12
"""Clusters up to which the sign-flip test takes every one of the 2**n assignments of signs."""


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample of texts.

    Attributes
    ----------
    value, standard_error : float
        In the same unit. The error is NaN where there is one cluster: one text cannot say how texts differ.
    n : int
        Values that it was made of.
    clusters : int
        Texts that they come from.
    """

    value: float
    standard_error: float
    n: int
    clusters: int

    @property
    def small(self) -> bool:
        """Whether there are fewer than 30 clusters, so that the interval leans on the errors being near normal."""
        return self.clusters < FEW

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval by Student's t with ``clusters - 1`` degrees of freedom; NaN for one cluster.

        >>> low, high = Estimate(3.0, 0.5, 1000, 12).interval()
        >>> round(low, 3), round(high, 3)
        (1.9, 4.1)
        """
        half = self._t(level) * self.standard_error
        return self.value - half, self.value + half

    def _t(self, level: float) -> float:
        check("level", level, OPEN_UNIT)
        return float(stats.t.ppf((1 + level) / 2, self.clusters - 1)) if self.clusters > 1 else math.nan


@dataclass(frozen=True)
class Exponential(Estimate):
    """The exponential of an estimate, such as a ratio of perplexities: its interval is that of the logarithm."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval, the exponential of the logarithm's: not symmetric, and never below 0."""
        factor = math.exp(self._t(level) * self.standard_error / self.value)
        return self.value / factor, self.value * factor


def exponential(estimate: Estimate) -> Exponential:
    """The exponential of an estimate, with the standard error of the delta method.

    >>> exponential(Estimate(0.0, 0.1, 100, 10))
    Exponential(value=1.0, standard_error=0.1, n=100, clusters=10)
    """
    value = math.exp(estimate.value)
    return Exponential(value, value * estimate.standard_error, estimate.n, estimate.clusters)


def clustered_mean(values: np.ndarray, clusters: np.ndarray) -> Estimate:
    r"""Mean over values, with the standard error of a ratio estimator over clusters.

    .. math:: \bar x = \frac{\sum_g t_g}{\sum_g n_g}, \qquad
        s^2 = \frac{G}{G-1} \frac{\sum_g (t_g - \bar x n_g)^2}{(\sum_g n_g)^2}

    with the sum :math:`t_g` and the number :math:`n_g` of the values in cluster g of G.

    Parameters
    ----------
    values : array of shape (n,)
        Finite.
    clusters : array of shape (n,)
        Which cluster each value belongs to: any labels.

    Returns
    -------
    Estimate
        In the values' unit.

    Raises
    ------
    ValueError
        If there is no value, one is NaN or infinite, or the two arrays differ in shape.

    Notes
    -----
    The clusters are taken for independent draws. Of 4000 samples with 20 to 80 values in each cluster, the 95 %
    interval covered 93, 95 and 95 % for 5, 12 and 40 clusters with normal effects, 90, 91 and 93 % with exponential.

    References: [Cochran1977, ch. 6].

    Examples
    --------
    >>> clustered_mean(np.array([1.0, 1.0, 4.0, 4.0]), np.array(["a", "a", "b", "b"]))
    Estimate(value=2.5, standard_error=1.5, n=4, clusters=2)
    """
    values, group = _grouped(values, clusters)
    return mean_of_totals(np.bincount(group, values), np.bincount(group))


def mean_of_totals(totals: np.ndarray, sizes: np.ndarray) -> Estimate:
    """`clustered_mean` where each cluster's total and number of values are all that is left of it.

    >>> mean_of_totals(np.array([2.0, 8.0]), np.array([2, 2]))
    Estimate(value=2.5, standard_error=1.5, n=4, clusters=2)
    """
    n, groups = int(sizes.sum()), len(sizes)
    mean = totals.sum() / n
    beyond = totals - mean * sizes
    error = math.sqrt(groups / (groups - 1) * (beyond @ beyond)) / n if groups > 1 else math.nan
    return Estimate(float(mean), error, n, groups)


def clustered_ratio(top: np.ndarray, bottom: np.ndarray, clusters: np.ndarray) -> Estimate:
    """Mean of `top` over the mean of `bottom`, paired value by value; error by the delta method over clusters.

    Parameters and errors as `clustered_mean`, for both.

    >>> clustered_ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0]), np.array([0, 1]))
    Estimate(value=1.0, standard_error=0.5, n=2, clusters=2)
    """
    above, below = clustered_mean(top, clusters), clustered_mean(bottom, clusters)
    value = above.value / below.value
    error = clustered_mean(np.asarray(top) - value * np.asarray(bottom), clusters).standard_error
    return Estimate(value, error / abs(below.value), above.n, above.clusters)


def clustered_quantiles(
    values: np.ndarray, clusters: np.ndarray, probabilities: Sequence[float], resamples: int = 500, seed: int = 0
) -> list[Estimate]:
    """Quantiles of values, with standard errors by the bootstrap over clusters.

    Parameters
    ----------
    values, clusters
        As `clustered_mean` takes them.
    probabilities : sequence of float
        Each in (0, 1).
    resamples : int
        Samples of as many clusters, drawn with replacement. 500 of them know an error to 3 %.
    seed : int

    Returns
    -------
    list of Estimate
        One for each probability: the least value with at least that share of the values at or below it.

    Raises
    ------
    ValueError
        As `clustered_mean`, and if a probability is outside (0, 1).

    Notes
    -----
    The bootstrap knows no value beyond the largest: with few clusters the error of a quantile near 1 is too small.

    References: [EfronTibshirani1993, ch. 6].

    Examples
    --------
    >>> [q.value for q in clustered_quantiles(np.arange(100.0), np.arange(100), [0.5, 0.99])]
    [49.0, 98.0]
    """
    check("probabilities", np.asarray(probabilities, dtype=float), OPEN_UNIT)
    values, group = _grouped(values, clusters)
    order = np.argsort(values, kind="stable")
    values, group = values[order], group[order]
    groups = int(group.max()) + 1

    def quantiles(weights: np.ndarray) -> np.ndarray:
        below = np.cumsum(weights[group])
        # As an integer count: probability * n may be a rounding above it.
        wanted = np.ceil(np.round(np.multiply(probabilities, below[-1]), 9))
        return values[np.searchsorted(below, wanted)]

    found = quantiles(np.ones(groups, dtype=np.int64))
    errors = np.full(len(found), math.nan)
    if groups > 1:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)
        errors = np.std([quantiles(weights) for weights in drawn], axis=0, ddof=1)
    return [Estimate(float(q), float(e), len(values), groups) for q, e in zip(found, errors, strict=True)]


def sign_flip_test(values: np.ndarray, clusters: np.ndarray, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of the hypothesis that paired differences are symmetric about 0, cluster by cluster.

    If nothing tells the two sides of each pair apart, the total of a cluster may as well have the other sign: p is
    the share of assignments of signs, the observed one among them, with a sum at least as far from 0.

    Parameters
    ----------
    values : array of shape (n,)
        Differences within pairs, finite.
    clusters : array of shape (n,)
        Which cluster each belongs to.
    resamples : int
        Random assignments, where there are more than 12 clusters; up to there every assignment is counted.
    seed : int

    Returns
    -------
    float
        In (0, 1]; at least ``2**(1 - clusters)``, so that fewer than 6 clusters cannot reach 0.05.

    Raises
    ------
    ValueError
        As `clustered_mean`.

    Notes
    -----
    References: [Ernst2004].

    Examples
    --------
    >>> sign_flip_test(np.array([1.0, 2.0, 1.0, 3.0]), np.array([0, 0, 1, 2]))
    0.25
    """
    values, group = _grouped(values, clusters)
    totals = np.bincount(group, values)
    groups = len(totals)
    if groups <= EXACT:
        sums = (1.0 - 2.0 * (np.arange(2**groups)[:, None] >> np.arange(groups) & 1)) @ totals
    else:
        rng = np.random.default_rng(seed)
        drawn = [rng.choice((-1.0, 1.0), groups) @ totals for _ in range(resamples)]
        sums = np.array([totals.sum(), *drawn])
    # Sums that are equal may differ by rounding.
    return float(np.mean(np.abs(sums) >= abs(totals.sum()) - 1e-12 * np.abs(totals).sum()))


def _grouped(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values in float64, and the number of the cluster of each, from 0 without gaps."""
    values, clusters = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if values.ndim != 1 or values.shape != clusters.shape:
        raise ValueError(
            f"values of shape {values.shape} and clusters of shape {clusters.shape}: give two vectors alike"
        )
    if not len(values):
        raise ValueError("there are no values to take the mean of")
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"values[{where}] = {values[where]}: leave out what is not finite, or find out why it is")
    return values, np.unique(clusters, return_inverse=True)[1]
