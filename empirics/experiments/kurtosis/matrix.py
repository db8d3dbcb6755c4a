"""The kurtosis of a matrix, and what clips cost it: one by its kurtosis, one by its law, none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from empirics.histogram import coarsened, exact
from empirics.influence import standard_errors
from empirics.scalar_quantizers import DESIGN_ATOMS
from theory import clipping

BITS = (2, 3, 4, 8)
RULES = ("rule", "banner", "largest")
"""`theory.clipping.kurtosis_rule`, `theory.clipping.banner_clip`, and the largest magnitude: no clip at all."""


def measured(matrix: torch.Tensor, name: str) -> dict[str, Any]:
    r"""Excess kurtosis about the mean with its standard error, and clips of midrise quantizers.

    Parameters
    ----------
    matrix : torch.Tensor
        Shape (rows, columns), floating-point.
    name : str
        What the error messages call it.

    Returns
    -------
    dict
        ``kurtosis``, ``kurtosis_error`` (clustered by row and by column), ``deviation`` in the weights' units,
        ``skewness``, and ``clips``, a dict for each number of bits: the best clip, and of each of `RULES` the clip
        and its regret, :math:`\tfrac12\log_2(D/D_\mathrm{best})` in bits. Clips are in standard deviations.

    Raises
    ------
    ValueError
        If the matrix is constant, empty, or not finite.
    ArithmeticError
        If no best clip is found.

    Notes
    -----
    Regrets are exact for these very weights, which are all there are: they have no standard error. Of more than
    `DESIGN_ATOMS` values the best clip is searched for on the coarsened histogram.

    Examples
    --------
    >>> x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    >>> found = measured(x, "normal")
    >>> abs(found["kurtosis"]) < 4 * found["kurtosis_error"], [round(c["rule_regret"], 2) for c in found["clips"]]
    (True, [0.12, 0.02, 0.03, 2.42])
    """
    atoms = exact(matrix, name)
    variance, mean = atoms.variance, atoms.mean
    if variance == 0:
        raise ValueError(f"{name} is constant ({mean:g}): it has no kurtosis")
    deviation = math.sqrt(variance)
    z = (atoms.values - mean) / deviation
    skewness, fourth = (float(atoms.probabilities @ z**k) for k in (3, 4))

    def influence(x: torch.Tensor) -> torch.Tensor:
        x = (x - mean) / deviation
        square = x.square()
        return square * (square - 2 * fourth) + fourth - 4 * skewness * x

    source = coarsened(atoms, DESIGN_ATOMS)
    clips = []
    for bits in BITS:
        best = float(clipping.optimal_clip(source, bits)[0])
        least = float(clipping.clip_mse(best, atoms, bits))
        tried = {
            "rule": float(clipping.kurtosis_rule(fourth - 3, deviation)),
            "banner": float(clipping.banner_clip(source, bits)),
            "largest": float(np.abs(atoms.values[[0, -1]]).max()),
        }
        row: dict[str, float] = {"bits": bits, "best": best / deviation}
        for rule, clip in tried.items():
            row[rule] = clip / deviation
            row[f"{rule}_regret"] = math.log2(float(clipping.clip_mse(clip, atoms, bits)) / least) / 2
        clips.append(row)
    return {
        "weights": matrix.numel(), "deviation": deviation, "skewness": skewness, "kurtosis": fourth - 3,
        "kurtosis_error": standard_errors(matrix, influence)[0], "clips": clips,
    }  # fmt: skip
