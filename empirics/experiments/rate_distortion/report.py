"""What ``quantgap run rate-distortion`` says and shows: sentences, small tables, figures with their captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from empirics.experiments.rate_distortion import figures as draw
from empirics.experiments.rate_distortion.tables import EVERY, SAMPLE, Records, representative
from empirics.experiments.rate_distortion.views import named, shown_bits
from empirics.experiments.weights.report import in_order
from empirics.experiments.words import number
from empirics.page import counted, short

Tables = Mapping[str, pd.DataFrame]

METHOD = {
    "mean squared error": "In units of the matrix’s variance. That of scalar and group quantizers is exact for the"
    " matrix (standard error 0; of float32 weights in buckets the histogram’s bound). Lattices, k-means and products:"
    " standard error of independent vectors, of rows evenly spaced where the matrix has more than 2²⁰ weights;"
    " k-means and lattices in a ball are evaluated on vectors that they were not made from.",
    "bits": "Nominal: what the name says. Index: log₂ of the levels that there are, or their entropy. Effective: with"
    " every scale, offset, level and probability that a decoder needs; the rate of all gaps unless said otherwise.",
    "R(D)": "Rate-distortion function of independent weights of one law: the generalized Gaussian of greatest"
    " likelihood, or the exact histogram. In brackets, computed in float64: no code of such weights is below the"
    " lower end, and a channel reaches the upper one. A code that adapts to rows or groups of weights that differ is"
    " not bound by it: its gap may be negative.",
    "gap": "Effective bits less R at the distortion reached. From Shannon’s bound or the Gaussian’s rate likewise;"
    " those continue below 0 bits where the distortion passes the variance, R(D) does not.",
    "at a target": "Monotone cubic interpolation (PCHIP) of the rate over ln D. Its error is the distance from linear"
    " interpolation, and the standard errors of the two points beside it. Not covered: the curve does not reach from"
    " one side of the target to the other.",
    "sample": "One matrix of each role, of the middle layer: lattices, k-means and product quantization are tried on"
    " these unless asked otherwise, and the histogram’s R(D) is drawn for them.",
    "as the notebook": "Nominal bits against the Gaussian’s rate, linear interpolation; symmetric and group"
    " quantizers of 2ᵇ + 1 levels, group scales in full but counted as 16 bits, Lloyd-Max after 20 rounds, “product"
    " quantization” that shares out whole vectors among four codebooks.",
    "means": "Over weights. ± is the standard error of matrices drawn independently: how they differ, over the root"
    " of their number.",
}

ONE_SCALE, CLIP, LEVELS, CODED = "symmetric", "clipped_optimally", "lloyd_max", "entropy_coded"
CODES = {"entropy_coded", "D4", "E8"}
"""Quantizers with indices of variable length."""


def answer(tables: Tables) -> list[str]:
    """What comes closest to the limit, what the steps to it are worth, what the shape of the weights saves, and where
    the integers and the notebook are worst."""
    return [closest(tables), *steps(tables), *shape(tables), worst(tables), *reported(tables)]


def closest(tables: Tables) -> str:
    """The best quantizer of all, and the best with indices of fixed length."""
    groups, bits = tables["groups"], shown_bits(tables)
    sampled = (groups["group"] == SAMPLE).any()
    mine = groups[(groups["group"] == (SAMPLE if sampled else EVERY)) & (groups["nominal_bits"] == bits)
                  & ~groups["quantizer"].str.startswith("notebook")].sort_values("gap_upper")  # fmt: skip
    best, fixed = mine.iloc[0], mine[~mine["quantizer"].isin(CODES)].iloc[0]
    of = f"mean of {counted(int(best['matrices']), 'matrix')}" + (", one of each role" if sampled else "")

    def said(row: Any) -> str:
        return f"{named(row)}, {row['gap_upper']:.2f} bits above it at {row['effective_bits']:.2f} bits a weight"

    text = f"At {bits:g} bits what comes closest to R(D) is: {said(best)} ({of})."
    return text if best.name == fixed.name else f"{text} With indices of fixed length it is: {said(fixed)}."


def steps(tables: Tables) -> list[str]:
    """From one uniform scale to entropy coding."""
    groups, bits = tables["groups"], shown_bits(tables)
    mine = groups[(groups["group"] == EVERY) & (groups["nominal_bits"] == bits) & (groups["family"] == "scalar")]
    gap = dict(zip(mine["quantizer"], mine["gap_upper"], strict=True))
    if not {ONE_SCALE, CLIP, LEVELS, CODED} <= gap.keys():
        return []
    a, b, c, d = (gap[name] for name in (ONE_SCALE, CLIP, LEVELS, CODED))
    return [
        f"Of the {a:.2f} bits that a uniform quantizer with one scale for each matrix loses at {bits:g} bits, the"
        f" best clip gives back {number(a - b, 2)}, the best levels {number(b - c, 2)} and entropy coding"
        f" {number(c - d, 2)}: {d:.2f} remain (0.25 for the best scalar quantizer at high rate)."
    ]


def shape(tables: Tables) -> list[str]:
    """What R(D) is below the Gaussian's rate."""
    said = []
    for target, found in tables["limits"].groupby("target"):
        gain = found["gaussian"] - found["histogram_upper"]
        most, gaussian = found.loc[gain.idxmax()], math.log2(1 / float(target)) / 2
        said.append(
            f"{found['histogram_lower'].min():.3f} to {found['histogram_upper'].max():.3f} bits for a mean squared"
            f" error of {target:g} of the variance ({gaussian:.3f} if Gaussian; {short(most['name'])} needs least)"
        )
    return [f"R(D) of the exact histograms is {'; '.join(said)}."]


def worst(tables: Tables) -> str:
    """Where symmetric integers lose most."""
    found = tables["sensitivity"].sort_values("mse", ascending=False)
    first, last = found.iloc[0], found.iloc[-1]
    return (
        f"Symmetric 4-bit integers by row are worst in {short(first['name'])}: {first['mse']:.4f} ±"
        f" {first['mse_error']:.4f} of the variance, {first['sqnr_db']:.1f} dB; best in {short(last['name'])}:"
        f" {last['mse']:.4f} ± {last['mse_error']:.4f}."
    )


def reported(tables: Tables) -> list[str]:
    """Where the notebook's way is furthest from the corrected one."""
    both = tables["notebook"].dropna(subset=["gap_reported", "gap_upper"])
    if both.empty:
        return []
    row = both.loc[(both["gap_reported"] - both["gap_upper"]).abs().idxmax()]
    return [
        f"As the notebook computes it, {row['curve']} of {short(row['name'])} is {row['gap_reported']:.2f} bits above"
        f" the limit at {row['target']:g} of the variance; done right, {row['gap_upper']:.2f}."
    ]


def figures(tables: Tables, records: Records, model: str) -> dict[str, tuple[Figure, str]]:
    """Curves of the representative matrix, gaps of each role, groups, limits and sensitivity."""
    shown = representative(records)["matrix"]
    drawn = {r["matrix"]["role"]: r["matrix"]["name"] for r in records if r["matrix"]["drawn"]}
    return {
        "curves": (
            draw.curves(tables, shown["name"], shown["entropy_power"] / shown["variance"]),
            "Left: theory (lines, circles) under what was measured; the marks are those at the right. Right: how many"
            " bits each quantizer spends above R(D).",
        ),
        "gaps": (
            draw.gaps(tables, {role: drawn[role] for role in in_order(set(drawn))}, model),
            "Mean over the weights of all matrices (E8: of those below), and a matrix of each role. Bars are one"
            " standard error; where a code’s tables are large beside the matrix, its line rises.",
        ),
        "groups": (
            draw.groups(tables, model),
            "Mean gap of each group of roles, one quantizer a panel, each with an axis of its own; bars are one"
            " standard error of the mean of matrices.",
        ),
        "limits": (
            draw.limits(tables, model),
            "R(D) less the Gaussian’s rate, of the fitted law and of the exact histogram: each mark is the upper end"
            " of a certified bracket.",
        ),
        "sensitivity": (
            draw.sensitivity(tables, model),
            "Each matrix, by role and from the first layer to the last; bars are one standard error, clustered by"
            " row.",
        ),
    }  # fmt: skip
