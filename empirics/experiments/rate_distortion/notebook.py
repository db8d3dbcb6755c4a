"""The rate-distortion curves and gaps of one matrix as the notebook computes them, beside what they should be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from theory.sources import Histogram

ROUNDS = 20


class Curve(NamedTuple):
    """A key of the notebook: which rows it is, and which it should be: quantizer, block size, scale format."""

    key: str
    reported: tuple[str, str, str]
    corrected: tuple[str, str, str]


CURVES = (
    Curve("uniform_asym", ("asymmetric", "tensor", "fp32"), ("asymmetric", "tensor", "fp32")),
    Curve("uniform_sym", ("notebook_symmetric", "tensor", "fp32"), ("symmetric", "tensor", "fp32")),
    Curve("clipped_3sigma", ("notebook_clipped", "tensor", "fp32"), ("clipped_3_sigma", "tensor", "fp32")),
    Curve("group_128", ("notebook_group", "128", "notebook"), ("sym", "128", "fp16")),
    Curve("group_32", ("notebook_group", "32", "notebook"), ("sym", "32", "fp16")),
    Curve("lloyd_max", ("notebook_lloyd", "tensor", "fp32"), ("lloyd_max", "tensor", "fp32")),
)


def lloyd(atoms: Histogram, bits: int) -> float:
    """Mean squared error of the notebook's Lloyd-Max, in the weights' units squared: at most 20 rounds.

    The levels begin at evenly spaced percentiles, the extremes left out; a cell without a weight keeps its level. In
    float32, as there: levels and middles, but not the sums.

    >>> lloyd(Histogram(np.array([-1.0, 1.0]), np.array([1, 1])), 1)
    0.0
    """
    n, below = 2**bits, np.cumsum(atoms.counts)
    rank = np.linspace(0, 1, n + 2)[1:-1] * (below[-1] - 1)
    low, high = (atoms.values[np.searchsorted(below, end, side="right")] for end in (np.floor(rank), np.ceil(rank)))
    levels = (low + (high - low) * (rank % 1)).astype(np.float32)
    for _ in range(ROUNDS):
        cells = np.searchsorted((levels[1:] + levels[:-1]) / 2, atoms.values, side="right")
        weight = np.bincount(cells, atoms.counts, n)
        means = np.bincount(cells, atoms.counts * atoms.values, n) / np.where(weight > 0, weight, 1)
        moved = np.where(weight > 0, means, levels).astype(np.float32)
        if np.allclose(levels, moved, rtol=1e-6):
            break
        levels = moved
    cells = np.searchsorted((levels[1:] + levels[:-1]) / 2, atoms.values, side="right")
    return float(atoms.probabilities @ (atoms.values - levels[cells]) ** 2)


def curves(record: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """What the notebook keeps of a matrix, under its keys, mean squared errors in the weights' units squared.

    Returns
    -------
    dict
        ``reported``: as computed there. ``corrected``: the quantizers that the names promise, of ``2**bits`` levels;
        the rates with everything that a decoder needs; and for ``shannon_d`` Shannon's lower bound of the fitted law.
    """
    variance, rows = record["matrix"]["variance"], record["quantizers"]
    at = {(row["quantizer"], row["block_size"], row["scale_format"], row["nominal_bits"]): row for row in rows}
    bits = sorted({row["nominal_bits"] for row in rows if row["family"] == "scalar"})
    reported: dict[str, list[Any]] = {"bits": bits, "shannon_d": [variance / 4**b for b in bits]}
    entropy_power = record["matrix"]["entropy_power"]
    corrected: dict[str, list[Any]] = {"bits": bits, "shannon_d": [entropy_power / 4**b for b in bits]}
    for curve in CURVES:
        right = [at[(*curve.corrected, b)] for b in bits]
        corrected[curve.key] = [_absolute(row, variance) for row in right]
        corrected[f"{curve.key}_rate"] = [row["effective_bits"] for row in right]
        if curve.key == "lloyd_max":
            reported[curve.key] = record["notebook_lloyd"]
        else:
            reported[curve.key] = [_absolute(at[(*curve.reported, b)], variance) for b in bits]
    for size in (128, 32):
        reported[f"group_{size}_rate"] = [b + 16 / size for b in bits]
    return {"reported": reported, "corrected": corrected}


def _absolute(row: dict[str, Any], variance: float) -> float | None:
    return None if row["mse"] is None else row["mse"] * variance


def gaps(record: dict[str, Any], targets: pd.DataFrame) -> list[dict[str, Any]]:
    """Gap of each curve at each target: as the notebook computes it, and the corrected one's above R(D) of the law.

    The notebook's: linear interpolation of ln D over the rate, in nominal bits (a group's scale counted as 16), less
    the Gaussian's rate. None where a curve does not reach the target.
    """
    reported, variance = curves(record)["reported"], record["matrix"]["variance"]
    mine = targets[targets["name"] == record["matrix"]["name"]].to_dict(orient="records")
    at = {(row["target"], row["quantizer"], row["block_size"], row["scale_format"]): row for row in mine}
    rows = []
    for target in [limit["target"] for limit in record["limits"]]:
        for curve in CURVES:
            rates = reported.get(f"{curve.key}_rate", reported["bits"])
            rate = linear(rates, reported[curve.key], target * variance)
            right = at.get((target, *curve.corrected), {"status": "not covered"})
            rows.append({
                "name": record["matrix"]["name"], "target": target, "curve": curve.key, "rate_reported": rate,
                "gap_reported": None if rate is None else rate - math.log2(1 / target) / 2,
                **{name: right.get(name, math.nan) for name in ("rate", "rate_error", "gap_lower", "gap_upper")},
                "status": right["status"],
            })  # fmt: skip
    return rows


def linear(rates: Sequence[float], mses: Sequence[float], target: float) -> float | None:
    """Where the first segment between neighbours that holds the target crosses it, linear in ln D."""
    for (r, d), (s, e) in pairwise(zip(rates, mses, strict=True)):
        if min(d, e) <= target <= max(d, e) and d != e and min(d, e) > 0:
            return r + (math.log(d / target) / math.log(d / e)) * (s - r)
    return None
