r"""Kullback-Leibler divergence of a weight histogram from the Gaussian of its mean and variance, in bits.

With equal variances it is also what the entropy falls short of the Gaussian's: :math:`h(N) - h(p) = D(p\,\|\,N)`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.special import log_ndtr

from empirics.influence import Influence
from theory.sources import Histogram
from theory.units import from_nats

WIDTH = 0.1
"""Of a bin, in standard deviations."""

TAIL = 10
"""Weights that each outer bin holds at the least: it takes in all that lies further out."""


class Divergence(NamedTuple):
    """An estimate of a divergence.

    Attributes
    ----------
    bits, standard_error : float
        With the sampling bias taken off; it may come out below 0.
    bins : int
        Bins that hold a weight.
    influence : callable
        What a weight moves `bits` by, for `empirics.influence.standard_errors`.
    """

    bits: float
    standard_error: float
    bins: int
    influence: Influence


def binned(histogram: Histogram, name: str = "tensor") -> Divergence:
    r"""Estimate the divergence from the Gaussian, in bits, by bins of 0.1 standard deviations.

    .. math:: \hat D = \sum_j \hat p_j\ln\frac{\hat p_j}{q_j} - \frac{k-1}{2n} \quad\text{nats}

    with the Gaussian's mass :math:`q_j` in bin j, exact in the tails too, and k bins that hold a weight.

    Parameters
    ----------
    histogram : Histogram
        With counts, not probabilities: they say how many weights there are, at least 40.
    name : str
        What the error messages call the tensor.

    Returns
    -------
    Divergence

    Raises
    ------
    ValueError
        If there are fewer than 40 weights, or they are all alike.

    Notes
    -----
    The bias that remains has three known parts. Binning loses information, never gains it: for a generalized Gaussian
    and a million weights the estimate is low by 0.4 to 0.7 % of the divergence for beta from 1 to 3, by 1 % at 0.8.
    The fitted mean and variance lower it by :math:`(\kappa+1)/4n` nats for kurtosis :math:`\kappa`: some per cent of
    the correction made. Terms of order :math:`n^{-2}` are left. An outer bin counts its 10 weights as if they were at
    its edge: outliers z standard deviations away take up to :math:`10 z^2/n` nats of the estimate, much where they
    are few (0.008 of 0.017 bits for 164 weights three times as wide among 16,384), nothing in many millions.

    An atom's weights are spread evenly over the cell that rounds to it, up to the middle of the neighbours: bins of a
    few atoms of a bf16 tensor would otherwise hold one atom more or less, which looks like divergence.

    With V the variance of :math:`\ln(p/q)`, the standard error for independent weights is
    :math:`\sqrt{V/n + (k-1)/2n^2}`: the delta method, in which the fitted moments do not appear because the score of
    the Gaussian has mean 0 at them, and the variance of chi-squared, all that is left when the weights are Gaussian.
    From :math:`\hat p` comes V, too large by (k - 1)/n, which is taken off. Weights that share the scale of their row
    are not independent: the error is then too small, and `empirics.influence` has what it lacks.

    References: [Miller1955] for the correction.

    Examples
    --------
    >>> p = np.arange(0.5, 10_000) / 10_000
    >>> gaussian = binned(Histogram(stats.norm.ppf(p), np.ones(10_000)))
    >>> abs(gaussian.bits) < 1e-2 < binned(Histogram(stats.laplace.ppf(p), np.ones(10_000))).bits
    True
    """
    values, counts = histogram.values, histogram.counts
    n, sigma = float(counts.sum()), math.sqrt(histogram.variance)
    if n < 4 * TAIL:
        raise ValueError(f"{name}: {n:g} weights are too few for a divergence; give {4 * TAIL}")
    if not sigma:
        raise ValueError(f"{name} is constant: it has no Gaussian of its variance")
    middles = (values[1:] + values[:-1]) / 2
    ends = 2 * values[[0, -1]] - middles[[0, -1]]
    cells = (np.concatenate([ends[:1], middles, ends[1:]]) - histogram.mean) / sigma
    below = np.concatenate([[0.0], np.cumsum(counts)])
    low = cells[np.searchsorted(below, TAIL)] / WIDTH
    high = cells[np.searchsorted(below, n - TAIL, side="right") - 1] / WIDTH
    # 0 is always an edge, so that each bin lies in one tail of the Gaussian.
    edges = WIDTH * np.arange(min(math.ceil(low), 0), max(math.floor(high), 0) + 1)
    held = np.diff(np.interp(edges, cells, below), prepend=0.0, append=n)
    log_q = _log_mass(np.concatenate([[-np.inf], edges, [np.inf]]))
    live = held > 0
    p = held[live] / n
    ratio = np.log(p) - log_q[live]
    plug_in = p @ ratio
    bins = np.minimum(held, 1.0).sum()  # a bin with a fraction of a spread weight is a fraction of a bin
    variance = max(p @ (ratio - plug_in) ** 2 - (bins - 1) / n, 0.0) / n + (bins - 1) / (2 * n**2)
    estimate, error = from_nats(np.array([plug_in - (bins - 1) / (2 * n), math.sqrt(variance)]), 2)
    moves = np.zeros(len(held))
    moves[live] = from_nats(ratio - plug_in, 2)

    def influence(x: torch.Tensor) -> torch.Tensor:
        place = ((x - histogram.mean) / (sigma * WIDTH)).floor_() - (edges[0] / WIDTH - 1)
        return torch.from_numpy(moves).to(x.device)[place.round_().clamp_(0, len(moves) - 1).int()]

    return Divergence(float(estimate), float(error), round(float(bins)), influence)


def _log_mass(edges: np.ndarray) -> np.ndarray:
    """Logarithm of the standard Gaussian's mass between edges, none of them across 0."""
    low, high = edges[:-1], edges[1:]
    near, far = (np.where(low >= 0, -x, y) for x, y in ((low, high), (high, low)))
    return log_ndtr(near) + np.log1p(-np.exp(log_ndtr(far) - log_ndtr(near)))


def notebook(histogram: Histogram, bins: int = 200) -> float:
    r"""Compute the divergence from the Gaussian as the notebooks report it, in bits: equal bins between the extremes.

    .. math:: \sum_j \hat p_j\log_2(\hat p_j/q_j), \qquad q_j \propto e^{-(c_j-\mu)^2/2\sigma^2}

    at bin centres :math:`c_j`, both with 1e-12 added and normalized again.

    Parameters
    ----------
    histogram : Histogram
    bins : int
        Between the least and the largest weight.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the weights are all alike.

    Notes
    -----
    Reported beside `binned`, which is the one to use. Sampling raises it by about :math:`(k-1)/2n` nats for k bins
    that hold weights; a single large weight widens every bin; 1e-12 bounds what a weight can add by 40 bits
    over n; and where a bf16 tensor has a few atoms to a bin, so does rounding: 0.0018 bit for 16.8 million
    Gaussian weights. The notebooks give it up to 200,000 weights drawn from a matrix; here it has them all.

    Examples
    --------
    >>> p = np.arange(0.5, 10_000) / 10_000
    >>> round(notebook(Histogram(stats.norm.ppf(p), np.ones(10_000))), 4)
    0.002
    """
    sigma = math.sqrt(histogram.variance)
    if not sigma:
        raise ValueError("the histogram is constant: it has no Gaussian of its variance")
    held, edges = np.histogram(histogram.values, bins, weights=histogram.probabilities)
    gaussian = stats.norm.pdf((edges[:-1] + edges[1:]) / 2, histogram.mean, sigma) * np.diff(edges)
    return float(stats.entropy(held + 1e-12, gaussian / max(gaussian.sum(), 1.0) + 1e-12, base=2))
