r"""Scalar quantizers of a whole tensor, each exact on its histogram (`empirics.histogram.exact`).

Every quantizer is a list of levels and the ends of their cells, so that its mean squared error is one sum over the
atoms. `Scalar.nominal_bits` is the b asked for, `Scalar.index_bits` what an index costs, and `Scalar.effective_bits`
adds the float32 parameters that a decoder needs.

Levels that take a search are searched for on at most `DESIGN_ATOMS` atoms (`empirics.histogram.coarsened`), which is
all that a bf16 tensor usually has, and then evaluated on the histogram itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from empirics.histogram import coarsened
from theory.clipping import optimal_clip
from theory.codebook_design import cell_moments, midpoints
from theory.domain import COUNT, accept
from theory.entropy_coded import optimal_ecsq
from theory.scalar import lloyd_max
from theory.sources import Histogram

DESIGN_ATOMS = 2**13
"""A search on more atoms takes seconds and gains little: 2e-4 of the error of 256 levels, 1e-6 of that of 16."""

PARAMETER_BITS = 32
"""Bits of a scale, an offset, a level or a probability that is stored beside the indices: a float32."""


@dataclass(frozen=True, eq=False)
class Scalar:
    """A scalar quantizer of a tensor, and what it does to it.

    Attributes
    ----------
    name : str
    levels : array of shape (N,)
        Increasing.
    thresholds : array of shape (N - 1,)
        Ends of the cells. The error of a weight on one is the same on either side, unless the quantizer is
        entropy-coded, where it belongs to the lower cell.
    mse : float
        Mean squared error, in the tensor's units squared.
    nominal_bits : int
        Bits asked for.
    index_bits : float
        Bits per weight of the indices: log2 N, or their entropy.
    parameters : int
        Numbers that the decoder needs: scale, offset, levels, probabilities.
    weights : int
        How many there are.
    status : str
        "converged", or what the search for the levels reports.
    """

    name: str
    levels: np.ndarray
    thresholds: np.ndarray
    mse: float
    nominal_bits: int
    index_bits: float
    parameters: int
    weights: int
    status: str = "converged"

    @property
    def effective_bits(self) -> float:
        """Bits per weight with the parameters, 32 bits each."""
        return self.index_bits + PARAMETER_BITS * self.parameters / self.weights


def _count(bits: int) -> int:
    _, bits = accept(bits=(bits, COUNT))
    return 2 ** int(bits)


def _scalar(
    name: str,
    histogram: Histogram,
    bits: int,
    levels: np.ndarray,
    parameters: int,
    index_bits: float,
    ends: np.ndarray | None = None,
    status: str = "converged",
) -> Scalar:
    """The quantizer with these levels, to the nearest unless the ends of the cells are given."""
    if np.any(histogram.counts != np.rint(histogram.counts)):
        raise ValueError("counts are not all integers: bits per weight need numbers of weights")
    levels = np.unique(levels) + 0.0  # of a constant tensor they may coincide, at -0 too
    thresholds = midpoints(levels) if ends is None else ends
    # Not a difference of partial moments, which loses ten digits to cancellation at 8 bits.
    error = histogram.values - levels[np.searchsorted(thresholds, histogram.values)]
    mse, weights = float(histogram.probabilities @ error**2), int(histogram.counts.sum())
    return Scalar(name, levels, thresholds, mse, int(bits), index_bits, parameters, weights, status)


def asymmetric(histogram: Histogram, bits: int) -> Scalar:
    """Uniform from the least weight to the greatest, ``2**bits`` levels; a scale and an offset are stored.

    Parameters
    ----------
    histogram : theory.sources.Histogram
        With integer counts.
    bits : int
        At least 1.

    Returns
    -------
    Scalar

    Raises
    ------
    ValueError
        If the bits are outside their domain, or the counts are no integers.

    Examples
    --------
    >>> asymmetric(Histogram(np.array([-1.0, 0.0, 2.0]), np.array([1, 1, 2])), 2).levels
    array([-1.,  0.,  1.,  2.])
    """
    low, high = histogram.values[[0, -1]]
    return _scalar("asymmetric", histogram, bits, np.linspace(low, high, _count(bits)), 2, bits)


def symmetric(histogram: Histogram, bits: int) -> Scalar:
    """Uniform with ``2**bits`` levels, the outermost at plus and minus the largest magnitude; a scale is stored.

    Parameters as `asymmetric`. The step is that of `notebook_symmetric`, and 0 is no level.

    >>> symmetric(Histogram(np.array([-1.0, 3.0]), np.array([1, 1])), 2).levels
    array([-3., -1.,  1.,  3.])
    """
    top = np.abs(histogram.values).max()
    return _scalar("symmetric", histogram, bits, np.linspace(-top, top, _count(bits)), 1, bits)


def notebook_symmetric(histogram: Histogram, bits: int) -> Scalar:
    r"""The notebooks' symmetric quantizer: x/step rounded half to even, with :math:`step = 2\max|x|/(2^b - 1)`.

    The largest weight is 2**(b-1) - 1/2 steps, which rounds to 2**(b-1): there are ``2**bits + 1`` levels, 17 at
    "4 bits", of which the two outermost serve the largest magnitude alone. At 1 bit it rounds to 0, the only level.
    `Scalar.index_bits` is log2 of the levels that there are.

    Parameters as `asymmetric`.

    >>> q = notebook_symmetric(Histogram(np.array([-15.0, 15.0]), np.array([1, 1])), 4)
    >>> len(q.levels), q.levels[-1], q.mse
    (17, np.float64(16.0), 1.0)
    """
    return _notebook("notebook_symmetric", histogram, bits, float(np.abs(histogram.values).max()))


def _notebook(name: str, histogram: Histogram, bits: int, clip: float) -> Scalar:
    steps = _count(bits) - 1
    top = np.rint(steps / 2)
    levels = 2 * clip / steps * np.arange(-top, top + 1)
    return _scalar(name, histogram, bits, levels, 1, math.log2(len(levels)))


def notebook_clipped(histogram: Histogram, bits: int) -> Scalar:
    r"""The notebooks' clipped quantizer: `notebook_symmetric` of the weights clipped to 3 standard deviations.

    A clipped weight is 2**(b-1) - 1/2 steps, and goes to 2**(b-1), beyond the clip: in exact arithmetic half goes to
    even. In the notebook's float32 it may as well be one less, for all clipped weights of a tensor alike, which at 4
    bits adds 4 % to the error of Gaussian weights. Parameters as `asymmetric`.

    >>> q = notebook_clipped(Histogram(np.array([-5.0, 5.0]), np.array([1, 1])), 4)
    >>> len(q.levels), round(float(q.levels[-1]), 6)
    (17, 5.333333)
    """
    clip = min(3 * math.sqrt(histogram.variance), float(np.abs(histogram.values).max()))
    return _notebook("notebook_clipped", histogram, bits, clip)


def clipped_3_sigma(histogram: Histogram, bits: int) -> Scalar:
    """Uniform with ``2**bits`` levels, the outermost at plus and minus 3 standard deviations; a scale is stored.

    Parameters as `asymmetric`.

    >>> clipped_3_sigma(Histogram(np.array([-1.0, 1.0]), np.array([1, 1])), 1).levels
    array([-3.,  3.])
    """
    top = 3 * math.sqrt(histogram.variance)
    return _scalar("clipped_3_sigma", histogram, bits, np.linspace(-top, top, _count(bits)), 1, bits)


def clipped_optimally(histogram: Histogram, bits: int) -> Scalar:
    """Uniform and symmetric about 0, ``2**bits`` levels, with the step of the least error; a scale is stored.

    Parameters as `asymmetric`; the clip is that of `theory.clipping.optimal_clip`, half a step beyond the outermost
    level. It is the best found by a search, not proved to be the least.

    >>> q = clipped_optimally(Histogram(np.array([-1.0, 1.0]), np.array([1, 1])), 1)
    >>> np.abs(q.levels).round(6), q.mse < 1e-12
    (array([1., 1.]), True)
    """
    if len(histogram.values) == 1:  # a constant: its magnitude is the outermost level
        top = abs(float(histogram.values[0]))
    else:
        top = float(optimal_clip(coarsened(histogram, DESIGN_ATOMS), bits)[0]) * (1 - 1 / _count(bits))
    return _scalar("clipped_optimally", histogram, bits, np.linspace(-top, top, _count(bits)), 1, bits)


def lloyd_max_levels(histogram: Histogram, bits: int) -> Scalar:
    """The ``2**bits`` levels of the least error, the optimum (`theory.scalar.lloyd_max`); all levels are stored.

    Parameters as `asymmetric`. Of more than `DESIGN_ATOMS` atoms it is the optimum for the coarsened histogram. A
    tensor of fewer values than levels has each of them for a level, and no error.

    >>> lloyd_max_levels(Histogram(np.array([-1.0, 0.0, 5.0]), np.array([1, 1, 1])), 1).levels
    array([-0.5,  5. ])
    """
    n = _count(bits)
    few = len(histogram.values) <= n
    levels = histogram.values if few else lloyd_max(coarsened(histogram, DESIGN_ATOMS), n).levels
    return _scalar("lloyd_max", histogram, bits, levels, len(levels), bits)


def entropy_coded(histogram: Histogram, bits: int) -> Scalar:
    """Scalar quantizer whose index has an entropy of `bits`, optimal in theory's sense (`optimal_ecsq`).

    `Scalar.index_bits` is the entropy that it has, next to `bits`: on atoms not every rate is reached, and `status`
    says so. Every level is stored, and its probability. A tensor of no more entropy than that is coded without loss.

    Parameters as `asymmetric`, and what `optimal_ecsq` raises.

    >>> q = entropy_coded(Histogram(np.array([-1.0, 0.0, 1.0]), np.array([1, 2, 1])), 2)
    >>> q.mse, q.index_bits
    (0.0, 1.5)
    """
    _count(bits)
    if (entropy := histogram.entropy()) <= bits:
        levels = histogram.values
        return _scalar("entropy_coded", histogram, bits, levels, 2 * len(levels), entropy)
    q = optimal_ecsq(coarsened(histogram, DESIGN_ATOMS), bits)
    p, first, _ = cell_moments(histogram, q.thresholds)
    live = np.flatnonzero(p > 0)  # a cell about the mean of two atoms may hold neither
    p, levels, thresholds = p[live], first[live] / p[live], q.thresholds[live[1:] - 1]
    rate = -float(p @ np.log2(p))
    return _scalar("entropy_coded", histogram, bits, levels, 2 * len(p), rate, thresholds, q.status)


QUANTIZERS: tuple[Callable[[Histogram, int], Scalar], ...] = (
    asymmetric,
    symmetric,
    notebook_symmetric,
    notebook_clipped,
    clipped_3_sigma,
    clipped_optimally,
    lloyd_max_levels,
    entropy_coded,
)
"""Every scalar quantizer of this module."""


def sweep(histogram: Histogram, bits: Iterable[int] = range(1, 9)) -> list[Scalar]:
    """Every quantizer at every number of bits.

    Parameters
    ----------
    histogram : theory.sources.Histogram
        With integer counts, as `empirics.histogram.exact` makes them.
    bits : iterable of int
        Each at least 1.

    Returns
    -------
    list of Scalar
        By bits, and in the order of `QUANTIZERS`.

    Raises
    ------
    ValueError
        As the quantizers do.

    Notes
    -----
    1 to 8 bits of 2**24 Gaussian weights in bf16 (4,666 atoms) take 1.8 s on one core. The time grows with the number
    of atoms and not of weights: most of it is the dynamic program of Lloyd-Max, of ``2**bits`` passes over the atoms.

    Examples
    --------
    >>> import torch
    >>> from empirics.histogram import exact
    >>> weights = torch.randn(4096, generator=torch.Generator().manual_seed(0)).bfloat16()
    >>> best = min(sweep(exact(weights), [3]), key=lambda q: q.mse)
    >>> best.name, round(best.index_bits, 2)
    ('entropy_coded', 3.0)
    """
    return [quantizer(histogram, b) for b in bits for quantizer in QUANTIZERS]
