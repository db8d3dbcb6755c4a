"""The tables of ``quantgap run rate-distortion``, from the records of the matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from empirics.experiments.rate_distortion.interpolation import rate_at
from empirics.experiments.rate_distortion.notebook import curves, gaps

Records = Sequence[dict[str, Any]]

CURVE = ["family", "quantizer", "dimension", "block_size", "scale_format"]
"""What the points of a curve have in common."""

GROUPS = {"attention": ("q", "k", "v", "qkv", "o"), "MLP": ("gate", "up", "down"), "embedding": ("embedding", "head")}
EVERY, SAMPLE = "all", "sample"
"""Groups: every matrix, and those that vector quantizers were tried on."""

GAPS = ["gap_gaussian_nominal", "gap_gaussian", "gap_slb", "gap_lower", "gap_upper", "gap_error"]
COLUMNS = {
    "quantizers": [*CURVE, "nominal_bits", "index_bits", "effective_bits", "effective_bits_error", "mse", "mse_error",
                   *GAPS, "status"],
    "theory": ["curve", "mse", "rate_lower", "rate_upper", "status"],
    "limits": ["target", "gaussian", "slb", "law_lower", "law_upper", "histogram_lower", "histogram_upper", "status"],
    "sensitivity": ["mse_absolute", "mse", "mse_error", "sqnr_db", "relative_max_error"],
}  # fmt: skip
ABOUT = ["name", "role", "layer"]
INTERPOLATED = ("nominal_bits", "nominal_bits_error", "rate", "rate_error", "interpolation_error", "gap_gaussian",
                "gap_slb", "gap_lower", "gap_upper", "gap_error", "gap_histogram_lower",
                "gap_histogram_upper")  # fmt: skip


def tables(records: Records) -> dict[str, pd.DataFrame]:
    """The tables by name, the main one first; each begins with the matrix that a row is about, or the group."""
    made = {name: _flat(records, name) for name in ("quantizers", "theory", "limits")}
    made["targets"] = at_targets(made["quantizers"], made["limits"])
    made["groups"] = by_group(made["quantizers"], records)
    made["sensitivity"] = _flat(records, "sensitivity")
    made["notebook"] = pd.DataFrame(gaps(representative(records), made["targets"]))
    return made


def summary(records: Records, made: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """The notebook's own numbers of the representative matrix, under its keys, and the fitted laws."""
    shown = representative(records)
    return {
        "representative": shown["matrix"]["name"], "notebook": curves(shown),
        "laws": [r["matrix"] for r in records],
        "bracket_bits": float((made["limits"]["law_upper"] - made["limits"]["law_lower"]).max()),
    }  # fmt: skip


def representative(records: Records) -> dict[str, Any]:
    """The matrix that the notebook would look at: the down projection of the middle layer, or else the largest."""
    drawn = [r for r in records if r["matrix"]["drawn"]] or list(records)
    return max(drawn, key=lambda r: (r["matrix"]["role"] == "down", r["matrix"]["weights"]))


def _flat(records: Records, name: str) -> pd.DataFrame:
    rows = []
    for record in records:
        about = {key: record["matrix"][key] for key in ABOUT}
        rows += [about | row for row in (record[name] if isinstance(record[name], list) else [record[name]])]
    return pd.DataFrame(rows)[ABOUT + COLUMNS[name]].astype({"layer": "Int64"})


def at_targets(quantizers: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """Rate of each curve of two points or more at each target, and its gap to every limit there."""
    rows: list[dict[str, Any]] = []
    at = {name: found.to_dict(orient="records") for name, found in limits.groupby("name")}
    for key, points in _grouped(quantizers[quantizers["mse"].notna()], ["name", *CURVE]).items():
        if len(points) > 1:
            rows += [_at(points, limit) for limit in at[key[0]]]
    return pd.DataFrame(rows, columns=[*ABOUT, *CURVE, "target", *INTERPOLATED, "status"]).astype({"layer": "Int64"})


def _grouped(frame: pd.DataFrame, by: list[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Rows by key, in order: in pandas, a frame for each of thousands of keys takes seconds."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in frame.to_dict(orient="records"):
        found.setdefault(tuple(row[name] for name in by), []).append(row)
    return found


def _at(points: list[dict[str, Any]], limit: dict[str, Any]) -> dict[str, Any]:
    target = limit["target"]
    rates, nominal, errors, mses, mse_errors = (
        [p[name] for p in points]
        for name in ("effective_bits", "nominal_bits", "effective_bits_error", "mse", "mse_error")
    )
    row = {name: points[0][name] for name in (*ABOUT, *CURVE)} | {"target": target}
    row |= dict.fromkeys(INTERPOLATED, math.nan) | {"status": "not covered"}
    if (asked := rate_at(target, nominal, mses, 0.0, mse_errors)) is not None:
        row |= {"nominal_bits": asked.rate, "nominal_bits_error": asked.error}
    if (found := rate_at(target, rates, mses, errors, mse_errors)) is not None:
        row |= {
            "rate": found.rate, "rate_error": found.error, "interpolation_error": found.interpolation_error,
            "gap_gaussian": found.rate - limit["gaussian"], "gap_slb": found.rate - limit["slb"],
            "gap_lower": found.rate - limit["law_upper"], "gap_upper": found.rate - limit["law_lower"],
            "gap_error": found.error,
            "gap_histogram_lower": found.rate - limit["histogram_upper"],
            "gap_histogram_upper": found.rate - limit["histogram_lower"], "status": "covered",
        }  # fmt: skip
    return row


def by_group(quantizers: pd.DataFrame, records: Records) -> pd.DataFrame:
    """Means over the weights of attention, MLP, embeddings, the rest, sample and all, of what all of a group have.

    An error is that of the mean of matrices drawn independently: how they differ, over the root of their number; it
    is missing for one matrix.
    """
    of = {role: group for group, roles in GROUPS.items() for role in roles}
    about = pd.DataFrame([r["matrix"] for r in records])[["name", "weights", "variance"]]
    frame = quantizers[quantizers["gap_lower"].notna()].merge(about, on="name")
    frame["mse_absolute"] = frame["mse"] * frame["variance"]
    tried = frame[frame["family"] == "lattice"]["name"].unique()
    chosen = {group: frame[frame["role"].map(of).fillna("other") == group] for group in [*GROUPS, "other"]}
    chosen |= {SAMPLE: frame[frame["name"].isin(tried)], EVERY: frame}
    rows = []
    for group, mine in chosen.items():
        matrices = mine["name"].nunique()
        for key, points in _grouped(mine, [*CURVE, "nominal_bits"]).items():
            if len(points) < matrices:
                continue
            size = np.array([p["weights"] for p in points], dtype=np.float64)
            row = {"group": group, **dict(zip([*CURVE, "nominal_bits"], key, strict=True)), "matrices": matrices}
            for name in ("effective_bits", "mse", "mse_absolute", "gap_lower", "gap_upper"):
                row[name], row[f"{name}_error"] = _mean(np.array([p[name] for p in points]), size / size.sum())
            rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    mean, n = float(share @ values), len(values)
    return mean, math.sqrt(n / (n - 1) * float(share**2 @ (values - mean) ** 2)) if n > 1 else math.nan
