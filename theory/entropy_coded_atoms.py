r"""Entropy-coded scalar quantizers of a few atoms: the convex hull of (rate, distortion), by dynamic programming.

The cost :math:`D + \lambda H` of a quantizer is a sum over its cells, and cells of neighbouring atoms suffice. So the
least cost up to each atom follows from those before it, and the optimum for a Lagrangian is exact.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from theory.codebook_design import Quantizer
from theory.sources import Histogram
from theory.units import from_nats, to_nats

MOST_ATOMS = 1024
"""Two tables of so many squared; half a second on one core."""


class _Point(NamedTuple):
    """Distortion, rate in nats, and the first atom of each cell with the end of the last."""

    mse: float
    rate: float
    cuts: np.ndarray


def optimal(source: Histogram, rate: float) -> Quantizer:
    """The quantizer on the lower convex hull of (rate, distortion) whose entropy is nearest to `rate` bits.

    Parameters
    ----------
    source : Histogram
        Of at most `MOST_ATOMS`.
    rate : float
        In bits, > 0.

    Returns
    -------
    Quantizer
        Converged if it has the rate, to 1e-8; otherwise its status says that no point of the hull has.

    Raises
    ------
    ValueError
        If the rate is above the entropy of the atoms.

    Notes
    -----
    The segment of the hull above `rate` is found from its ends, no quantization and none at all: the Lagrangian that
    makes two points of the hull equally costly has an optimum between them, or there is none.

    References: [ChouLookabaughGray1989] for the Lagrangian.

    Examples
    --------
    >>> ternary = Histogram([-1.0, 0.0, 1.0], [1, 2, 1])
    >>> [float(round(optimal(ternary, rate).rate, 6)) for rate in (0.1, 1.0, 1.5)]
    [0.0, 0.811278, 1.5]
    """
    entropy, atoms = source.entropy(), len(source.values)
    if rate > entropy * (1 + 1e-12):
        raise ValueError(f"rate = {rate} bits is above the entropy of these {atoms} atoms, {entropy:.6f}")
    values = source.values - source.mean
    p = source.probabilities
    m0, m1, m2 = (np.concatenate([[0], np.cumsum(p * values**k, dtype=np.longdouble)]) for k in range(3))
    # Of the cell of atoms first ... last, at [last, first]; above the diagonal nothing.
    mass, first, second = (np.tril(m[1:, None] - m[:-1]).astype(float) for m in (m0, m1, m2))
    safe = np.where(mass > 0, mass, 1.0)
    errors, surprise = np.maximum(second - first**2 / safe, 0.0), -mass * np.log(safe)
    np.fill_diagonal(errors, 0.0)

    def point(cuts: np.ndarray) -> _Point:
        cells = cuts[1:] - 1, cuts[:-1]
        return _Point(float(errors[cells].sum()), float(surprise[cells].sum()), cuts)

    def best(lagrangian: float) -> _Point:
        costs, least = errors + lagrangian * surprise, np.zeros(atoms + 1)
        starts = np.zeros(atoms + 1, dtype=int)
        for last in range(atoms):
            tried = least[: last + 1] + costs[last, : last + 1]
            starts[last + 1] = start = tried.argmin()
            least[last + 1] = tried[start]
        cuts = [atoms]
        while cuts[-1]:
            cuts.append(int(starts[cuts[-1]]))
        return point(np.asarray(cuts[::-1]))

    coarse, fine, wanted = point(np.asarray([0, atoms])), point(np.arange(atoms + 1)), to_nats(rate)
    while fine.rate - coarse.rate > 1e-12:
        lagrangian = (coarse.mse - fine.mse) / (fine.rate - coarse.rate)
        found = best(lagrangian)
        ends = coarse.mse + lagrangian * coarse.rate
        if found.mse + lagrangian * found.rate > ends - 1e-13 * source.variance:
            break
        coarse, fine = (found, fine) if found.rate <= wanted else (coarse, found)
    chosen = min(coarse, fine, key=lambda end: abs(end.rate - wanted))
    levels = np.array([np.average(source.values[i:j], weights=p[i:j]) for i, j in pairwise(chosen.cuts)])
    inner = chosen.cuts[1:-1]
    thresholds = (source.values[inner - 1] + source.values[inner]) / 2
    reached = float(from_nats(chosen.rate))
    status = "converged"
    if not math.isclose(reached, rate, abs_tol=1e-8):
        status = f"rate {rate} is not on the convex hull: nearest {reached:.6f}"
    return Quantizer(levels, thresholds, chosen.mse, reached, status)
