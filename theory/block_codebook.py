r"""The codebook that is best under block scaling, with some of its levels fixed.

The block-scaled source of `theory.block_source` has partial moments and a density, so that the descent of
`theory.codebook_design` serves as it is. How many levels lie between two fixed ones is searched around it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
from scipy.linalg import solveh_banded

from theory.block_source import BlockSource
from theory.codebook_design import Quantizer, mae, midpoints, stationary
from theory.codebooks import Codebook
from theory.domain import COUNT, ORDER, Domain, accept
from theory.sources import GGD, Source


def best_codebook(
    size: int, n: int, source: Source, fixed: tuple[float, ...] = (-1.0, 0.0, 1.0),
    error: Literal["mse", "mae"] = "mse", weight: int | None = None,
) -> Codebook:  # fmt: skip
    r"""The codebook of `size` levels with the least mean squared (or absolute) error under absmax scaling.

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
    error : {"mse", "mae"}
        Mean squared or mean absolute error.
    weight : int, optional
        The power of S that weighs the error of X/S: 2 for "mse" and 1 for "mae" if not given, which are the errors of
        the weights themselves; 0 for the errors of the normalized weights, as in [Yoshida2023].

    Returns
    -------
    Codebook

    Raises
    ------
    ValueError
        If there are more fixed levels than `size`, one is outside [-1, 1], or `error` or `weight` is none of these.
    TypeError
        If the source is discrete.
    ArithmeticError
        If the descent does not converge; the message says how far it came.

    Notes
    -----
    Free levels are centroids (medians, for "mae") of their cells, as in [Blumenberg2025], by exact integrals instead
    of samples. A stationary point reached from the compander's levels; no other number of levels between two fixed
    ones does better by one. Of a codebook and its mirror image, the one with more positive levels.

    Examples
    --------
    >>> from theory.block_scaling import mse
    >>> from theory.codebooks import NF4
    >>> from theory.sources import GGD
    >>> best = best_codebook(16, 64, GGD(2.0))
    >>> round(float(mse(best, 64, GGD(2.0)) / mse(NF4, 64, GGD(2.0))), 4)
    0.9446
    """
    if error not in ("mse", "mae"):
        raise ValueError(f"error = {error!r} is neither 'mse' nor 'mae'")
    order = {"mse": 2, "mae": 1}[error]
    _, power = accept(weight=(order if weight is None else weight, ORDER))
    _, n, size = accept(n=(n, Domain(2, low_open=False, integer=True)), size=(size, COUNT))
    _, anchors = accept(fixed=(sorted(fixed), Domain(-1, 1, low_open=False, high_open=False)))
    size, n = int(size), int(n)
    if not source.continuous:
        raise TypeError(f"best_codebook needs a density; a {type(source).__name__} has none")
    if len(anchors) > size:
        raise ValueError(f"fixed has {len(anchors)} levels, more than size = {size}")
    scaling = "signed" if 1.0 in anchors and -1.0 not in anchors else "absmax"
    law = BlockSource(source, n, power=int(power), scaling=scaling)  # type: ignore[arg-type]
    solve = stationary if error == "mse" else _medians
    y = np.linspace(-1, 1, 2001)
    compander = law.pdf(y) ** (1 / (1 + order))
    mass = np.cumsum(compander) - compander / 2
    mass = (mass - mass[0]) / (mass[-1] - mass[0]) * size - 0.5  # the compander's level i is where it is i

    def descend(where: list[int]) -> Quantizer:
        """From the compander's levels, stretched to have the fixed ones at these indices."""
        at = np.interp(anchors, y, mass)
        places = np.interp(np.arange(size), [-0.5, *where, size - 0.5], [-0.5, *at, size - 0.5])
        levels = np.interp(places, mass, y)
        levels[where] = anchors
        return solve(levels, law, fixed=where)

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
    origin = f"least {error} for {source}, weighed by S**{power:g}"
    return Codebook(f"best{size}-block{n}", found.levels, bits, scaling, origin)  # type: ignore[arg-type]


def _medians(levels: Any, law: BlockSource, fixed: Any) -> Quantizer:
    r"""Descend from `levels` to a codebook with every level that is not `fixed` at the median of its cell.

    As `theory.codebook_design.stationary`, for the mean absolute error D, which takes the place of ``mse`` in what is
    returned: :math:`\partial D/\partial l_i = g_i = P(t_{i-1}, l_i) - P(l_i, t_i)`, and the Hessian is tridiagonal,
    :math:`H_{ii} = 2p(l_i) - [p(t_{i-1}) + p(t_i)]/2, H_{i,i+1} = -p(t_i)/2`.
    """
    free = np.ones(len(levels), dtype=bool)
    free[list(fixed)] = False

    def state(levels: Any) -> tuple[Any, ...]:
        """Levels, error, edges, densities, which can move, and the step to each one's median in its cell as it is."""
        edges = midpoints(levels)
        # An element at an end counts as beyond a level there: that level stays if it has half of its cell, or more.
        inner = np.clip(levels, -1 + unit, 1 - unit)
        gradient = law.partial_moment(0, np.r_[-np.inf, edges], inner) - law.partial_moment(
            0, inner, np.r_[edges, np.inf]
        )
        density = law.pdf(levels)
        moves = free & ~((np.abs(levels) == 1) & (gradient * levels <= 0))
        return levels, mae(levels, law), edges, density, moves, np.where(moves, -gradient / (2 * density), 0.0)

    unit = 2.0**-52
    rounding = 8 * unit * law.scale_moment(law.power)
    here = best = state(levels)
    since_best, mu, iteration = 0, 1.0, 0
    while iteration < 400:
        iteration += 1
        smallest = np.abs(best[-1]).max()
        since_best = 0 if np.abs(here[-1]).max() < smallest / 2 else since_best + 1
        best = min(best, here, key=lambda s: np.abs(s[-1]).max())
        if smallest <= 8 * unit or (since_best >= 3 and smallest < 2.0**22 * unit):
            break
        levels, cost, edges, density, moves, step = here
        at_edges = law.pdf(edges) / 2
        diagonal = np.where(moves, (1 + mu) * 2 * density - np.r_[at_edges, 0] - np.r_[0, at_edges], 1.0)
        off = np.where(moves[1:] & moves[:-1], -at_edges, 0.0)
        try:
            move = solveh_banded(np.stack([np.r_[0, off], diagonal]), 2 * density * step)
            trial = np.clip(levels + move, -1.0, 1.0)
            worse = bool(np.any(np.diff(trial) <= 0))
        except np.linalg.LinAlgError:  # not definite
            worse = True
        if not worse:
            moved = state(trial)
            worse = moved[1] > cost + rounding
        if worse and mu > 1e9:
            break
        here, mu = (here, max(8 * mu, 1e-3)) if worse else (moved, mu / 16 if mu > 1e-10 else 0.0)
    residual = float(np.abs(best[-1]).max())
    status = "converged" if residual < 2.0**22 * unit else f"no step lowers the error after {iteration} iterations"
    return Quantizer(best[0], best[2], best[1], None, status, iteration, residual)


def abnormal_float(n: int, source: Source | None = None, bits: int = 4) -> Codebook:
    r"""AbnormalFloat codebook: for the mean absolute error of the normalized weights, as [Yoshida2023] builds it.

    Its positive half is that of the best codebook of ``2**bits`` levels with -1 and +1 but *without* 0, its negative
    half that of ``2**bits - 2`` levels; 0 is put between them afterwards. So the levels next to 0 are medians of
    cells that begin at 0, though their cells end halfway to it.

    Parameters
    ----------
    n : int
        Elements in a block, >= 2.
    source : Source, optional
        float64, symmetric about 0, with a density; the Gaussian if not given.
    bits : int
        Width, 2 to 8.

    Returns
    -------
    Codebook

    Raises
    ------
    ValueError
        If n or bits is outside its domain.

    Notes
    -----
    Reproduces the published tables of block sizes 32, 64, 128 and 4096 to their eight digits. It is not the codebook
    of least mean absolute error with -1, 0 and +1: ``best_codebook(16, n, source, error="mae", weight=0)`` is, and
    that error is 3.3 % less.

    Examples
    --------
    >>> from theory.codebooks import AF4_64
    >>> bool(abs(abnormal_float(64).levels - AF4_64.levels).max() < 5e-9)
    True
    """
    _, bits = accept(bits=(bits, Domain(2, 8, low_open=False, high_open=False, integer=True)))
    source = GGD(2.0) if source is None else source
    sizes = 2 ** int(bits) - 2, 2 ** int(bits)
    below, above = (best_codebook(size, n, source, (-1.0, 1.0), "mae", 0).levels for size in sizes)
    levels = [*below[below < 0], 0.0, *above[above > 0]]
    return Codebook(f"abnormal-float{int(bits)}-block{n}", levels, int(bits), origin=f"[Yoshida2023] for {source}")
