r"""The codebook that is best under block scaling, with some of its levels fixed.

The block-scaled source of `theory.block_source` has partial moments and a density, so that the descent of
`theory.codebook_design` serves as it is. How many levels lie between two fixed ones is searched around it.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from theory.block_source import BlockSource
from theory.codebook_design import Quantizer, stationary
from theory.codebooks import Codebook
from theory.domain import COUNT, Domain, accept
from theory.sources import Source


def best_codebook(size: int, n: int, source: Source, fixed: tuple[float, ...] = (-1.0, 0.0, 1.0)) -> Codebook:
    r"""The codebook of `size` levels with the least mean squared error under absmax scaling.

    Parameters
    ----------
    size : int
        Number of levels.
    n : int
        Elements in a block, >= 2.
    source : Source
        float64, with a density.
    fixed : tuple of float
        Levels that must be there. With -1 and +1 the scale is the absmax; with +1 but not -1 it is signed. 0
        keeps zero weights exact.

    Returns
    -------
    Codebook

    Raises
    ------
    ValueError
        If there are more fixed levels than `size`, or one is outside [-1, 1].
    TypeError
        If the source is discrete.
    ArithmeticError
        If the descent does not converge; the message says how far it came.

    Notes
    -----
    Free levels are centroids for the weight S**2, as in [Blumenberg2025], by exact integrals instead of samples.
    A stationary point reached from the compander's levels; no other number of levels between two fixed ones does
    better by one. Of a codebook and its mirror image, the one with more positive levels.

    Examples
    --------
    >>> from theory.block_scaling import mse
    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> best = best_codebook(16, 64, GGD(2.0))
    >>> round(float(mse(best, 64, GGD(2.0)) / mse(NF4, 64, GGD(2.0))), 4)
    0.9446
    """
    _, n, size = accept(n=(n, Domain(2, low_open=False, integer=True)), size=(size, COUNT))
    _, anchors = accept(fixed=(sorted(fixed), Domain(-1, 1, low_open=False, high_open=False)))
    size, n = int(size), int(n)
    if not source.continuous:
        raise TypeError(f"best_codebook needs a density; a {type(source).__name__} has none")
    if len(anchors) > size:
        raise ValueError(f"fixed has {len(anchors)} levels, more than size = {size}")
    scaling = "signed" if 1.0 in anchors and -1.0 not in anchors else "absmax"
    law = BlockSource(source, n, scaling=scaling)  # type: ignore[arg-type]
    y = np.linspace(-1, 1, 2001)
    mass = np.cumsum(law.pdf(y) ** (1 / 3)) - law.pdf(y) ** (1 / 3) / 2
    mass = (mass - mass[0]) / (mass[-1] - mass[0]) * size - 0.5  # the compander's level i is where it is i

    def descend(where: list[int]) -> Quantizer:
        """From the compander's levels, stretched to have the fixed ones at these indices."""
        at = np.interp(anchors, y, mass)
        places = np.interp(np.arange(size), [-0.5, *where, size - 0.5], [-0.5, *at, size - 0.5])
        levels = np.interp(places, mass, y)
        levels[where] = anchors
        return stationary(levels, law, fixed=where)

    where: list[int] = []
    for i, place in enumerate(np.interp(anchors, y, mass)):  # of two equally near, the lower
        lowest, highest = (where[-1] + 1 if where else 0), size - len(anchors) + i
        where.append(min(max(math.ceil(place - 0.5 - 1e-9), lowest), highest))
    found, improved = descend(where), True
    while improved:  # how many levels lie between two fixed ones is a choice that no descent changes
        improved = False
        for i, shift in itertools.product(range(len(where)), (-1, 1)):
            other = [*where[:i], where[i] + shift, *where[i + 1 :]]
            if abs(anchors[i]) == 1 or not all(np.diff([-1, *other, size]) > 0):
                continue
            trial = descend(other)
            if trial.mse < found.mse * (1 - 1e-9):
                found, where, improved = trial, other, True
    # The distortion is flat to second order at a stationary point: 1e-6 of the scale is 1e-12 of it.
    if found.status != "converged" and found.residual > 1e-6:
        raise ArithmeticError(f"best_codebook: {found.status}; residual {found.residual:.1e} of the scale")
    bits = max(math.ceil(math.log2(size)), 1)
    return Codebook(f"best{size}-block{n}", found.levels, bits, scaling, f"optimized for {source}")  # type: ignore[arg-type]
