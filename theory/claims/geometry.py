"""Claims about lattices, and about bits shared between components of unequal importance."""

from __future__ import annotations

from typing import Any

from theory import geometry, lattices
from theory.arithmetic import of
from theory.claims.claim import FLOAT_ONLY, Claim, closed

_SPECTRUM = closed(1e-3, 1e3)
"""Of each of a few importances or variances."""


def _equal_bits(s: Any) -> float:
    """Total error of Gaussian components of these variances, R bits for each."""
    return sum(s.spectrum) * 4.0**-s.R


def _waterfilling(s: Any) -> float:
    """Total error at the same total rate."""
    return float(geometry.reverse_waterfilling(s.spectrum, rate=len(s.spectrum) * s.R).distortion)


CLAIMS = (
    Claim(
        "lattice.above-sphere", "Gamma(n/2 + 1)^(2/n)/((n + 2) pi) <= G of a lattice in n dimensions",
        lambda s: lattices.sphere_bound(lattices.LATTICES[s.lattice].dimension + 0 * s.beta),
        lambda s: lattices.second_moment(s.lattice, 1 + 0 * s.beta),
        {"lattice": closed(1, 24)}, "any", "paper", "[Zador1982]",
        lean=("sphereBound_le_latticeMoment", "7c34edf3e2d4"),
    ),
    Claim(
        "lattice.sphere-above-limit", "1/(2 pi e) <= Gamma(n/2 + 1)^(2/n)/((n + 2) pi)",
        lambda s: 1 / (2 * of(s.beta).pi() * of(s.beta).exp(1 + 0 * s.beta)),
        lambda s: lattices.sphere_bound(s.n + 0 * s.beta),
        {"n": closed(1, 4096, integer=True)}, "any", "paper", "[Zador1982]",
        lean=("limit_le_sphereBound", "827c5da9154e"),
    ),
    Claim(
        "lattice.zador", "Gamma(n/2 + 1)^(2/n)/((n + 2) pi) <= Gamma(n/2 + 1)^(2/n) Gamma(1 + 2/n)/(n pi)",
        lambda s: lattices.sphere_bound(s.n + 0 * s.beta), lambda s: lattices.zador_upper(s.n + 0 * s.beta),
        {"n": closed(1, 4096, integer=True)}, "any", "paper", "[Zador1982]",
        lean=("sphereBound_le_zadorUpper", "30eb701761d4"),
    ),
    Claim(
        "geometry.allocation-gains", "0 <= 1/2 log2(AM/GM)",
        lambda s: 0.0, lambda s: geometry.allocation_gain(s.spectrum),
        {"spectrum": _SPECTRUM}, "any", "paper", "[CoverThomas2006, sec. 10.3.3]", arithmetics=FLOAT_ONLY,
        lean=("allocationGain_nonneg", "3f3d9667e4cd"),
    ),
    Claim(
        "geometry.waterfilling-optimal", "weighted error of reverse water-filling <= of equal bits, same rate",
        lambda s: _waterfilling(s), lambda s: _equal_bits(s),
        {"spectrum": _SPECTRUM, "R": closed(0, 8)}, "any", "paper", "[CoverThomas2006, thm 10.3.3]",
        arithmetics=FLOAT_ONLY,
        lean=("reverse_waterfilling_optimal", "224f4103890b"),
    ),
    Claim(
        "geometry.waterfilling-above-gm", "n GM(lambda) 4^-R <= weighted error of reverse water-filling",
        lambda s: _equal_bits(s) * 4.0 ** -geometry.allocation_gain(s.spectrum), lambda s: _waterfilling(s),
        {"spectrum": _SPECTRUM, "R": closed(0, 8)}, "any", "paper",
        "[CoverThomas2006, sec. 10.3.3], without the constraint that no rate is negative", arithmetics=FLOAT_ONLY,
        lean=("waterfilling_optimal", "3a858214bb28"),
    ),
)  # fmt: skip
