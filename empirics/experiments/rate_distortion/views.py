"""Small tables of ``quantgap run rate-distortion``, and what its quantizers are called there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from empirics.experiments.rate_distortion.tables import CURVE, EVERY, GROUPS, SAMPLE
from empirics.experiments.result import View
from empirics.experiments.weights.report import in_order
from empirics.page import short

Tables = Mapping[str, pd.DataFrame]

WORST = 8
"""Matrices of the ranking that a terminal shows."""

NAMES = {
    ("symmetric", "tensor"): "uniform, one scale", ("asymmetric", "tensor"): "uniform, least to greatest",
    ("int", "tensor"): "integers, one scale", ("int", "row"): "integers, rows", ("sym", "row"): "uniform, rows",
    ("clipped_3_sigma", "tensor"): "uniform, clip at 3σ", ("clipped_optimally", "tensor"): "uniform, best clip",
    ("lloyd_max", "tensor"): "Lloyd-Max", ("entropy_coded", "tensor"): "scalar, entropy-coded",
    ("D4", "tensor"): "D4 lattice, entropy-coded", ("E8", "tensor"): "E8 lattice, entropy-coded",
    ("D4_ball", "tensor"): "D4 lattice, ball", ("E8_ball", "tensor"): "E8 lattice, ball",
    ("kmeans", "tensor"): "k-means", ("product", "tensor"): "product quantization",
    ("notebook_product", "tensor"): "notebook’s product",
}  # fmt: skip
GROUPED = {"sym": "uniform", "asym": "asymmetric", "int": "integers", "notebook_group": "notebook’s group"}
WORDS = {"notebook": "16-bit"}

SHOWN = (
    ("asymmetric", 1, "tensor", "fp32"), ("symmetric", 1, "tensor", "fp32"), ("int", 1, "row", "fp16"),
    ("int", 1, "64", "fp16"), ("sym", 1, "row", "fp16"), ("sym", 1, "128", "fp16"), ("sym", 1, "64", "fp16"),
    ("sym", 1, "32", "fp16"), ("asym", 1, "64", "fp16"), ("clipped_3_sigma", 1, "tensor", "fp32"),
    ("clipped_optimally", 1, "tensor", "fp32"), ("lloyd_max", 1, "tensor", "fp32"),
    ("entropy_coded", 1, "tensor", "fp32"), ("fp4", 1, "64", "fp32"), ("nf4", 1, "64", "fp32"),
    ("nf4", 1, "64", "double"), ("bof4s", 1, "64", "fp32"), ("kmeans", 2, "tensor", "fp32"),
    ("product", 8, "tensor", "fp32"), ("D4", 4, "tensor", "fp32"),
    ("E8_ball", 8, "tensor", "fp32"), ("E8", 8, "tensor", "fp32"),
)  # fmt: skip
"""Curves of the small tables: quantizer, dimension, block size, format of the scales."""


def named(row: Any) -> str:
    """A curve in a reader's words."""
    quantizer, block, kept = row["quantizer"], row["block_size"], row["scale_format"]
    if (quantizer, block) in NAMES:
        vectors = quantizer in ("kmeans", "product", "notebook_product")
        return NAMES[quantizer, block] + (f", d = {row['dimension']}" if vectors else "")
    return f"{GROUPED.get(quantizer, quantizer.upper())}, {block} ({WORDS.get(kept, kept)} scales)"


def shown_bits(tables: Tables) -> float:
    """4 bits if they were measured, or the most below."""
    bits = sorted(set(tables["quantizers"].query("family == 'scalar'")["nominal_bits"]))
    return max((b for b in bits if b <= 4), default=bits[0])


def views(tables: Tables) -> list[View]:
    """Gaps by quantizer, limits by role, gaps at targets and as reported, sensitivity, groups, limits by matrix."""
    found = [by_quantizer(tables), by_role(tables), at_targets(tables), of_notebook(tables), ranking(tables),
             compared(tables)]  # fmt: skip
    limits = tables["limits"].assign(name=[short(name) for name in tables["limits"]["name"]])
    every = limits.drop(columns=["status", "layer"]).rename(columns={"name": "matrix"})
    numbers = [name for name in every if name not in ("matrix", "role", "target")]
    return [*found, View("Rate at the targets, by matrix", every, {"target": "g"} | dict.fromkeys(numbers, ".5f"),
                         "Bits per weight; lower and upper are the ends of the certified brackets.")]  # fmt: skip


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `SHOWN`, in its order, with a column of their names."""
    order = {key: i for i, key in enumerate(SHOWN)}
    keys = list(zip(*(frame[name] for name in CURVE[1:]), strict=True))
    placed = frame.assign(order=[order.get(key) for key in keys]).dropna(subset=["order"])
    placed = placed.sort_values("order", kind="stable")
    return placed.assign(quantizer=[named(row) for row in placed.to_dict(orient="records")])


def by_quantizer(tables: Tables) -> View:
    """Mean gap of each quantizer at each number of bits."""
    groups = tables["groups"]
    all_of, sample = (_chosen(groups[groups["group"] == group]) for group in (EVERY, SAMPLE))
    frame = pd.concat([all_of, sample[~sample["quantizer"].isin(all_of["quantizer"])]])
    bits = [b for b in (2, 3, 4, 5, 6, 8) if (frame["nominal_bits"] == b).any()] or sorted(set(frame["nominal_bits"]))
    rows: dict[str, dict[str, Any]] = {}
    for row in frame.to_dict(orient="records"):
        if row["nominal_bits"] in bits:
            cell = f"{row['nominal_bits']:g} bits"
            rows.setdefault(row["quantizer"], {"quantizer": row["quantizer"]}).update(
                {cell: row["gap_upper"], f"{cell}_error": row["gap_upper_error"]}
            )
    columns = [name for b in bits for name in (f"{b:g} bits", f"{b:g} bits_error")]
    return View(
        "Bits above R(D) of the fitted law", pd.DataFrame(rows.values(), columns=["quantizer", *columns]),
        dict.fromkeys(columns, ".3f"),
        "Mean of all matrices (lattices, k-means, product: of the sample) at nominal bits; the rate counts all that a"
        " decoder needs. ± one standard error.",
    )  # fmt: skip


def by_role(tables: Tables) -> View:
    """Mean limits of each role."""
    names = {"gaussian": "Gaussian", "slb": "Shannon", "law_upper": "R(D) law", "histogram_upper": "R(D) histogram"}
    mean = tables["limits"].groupby(["target", "role"])[list(names)].mean()
    order = [(target, role) for target in sorted(set(tables["limits"]["target"]))
             for role in in_order(set(tables["limits"]["role"]))]  # fmt: skip
    frame = mean.loc[order].reset_index().rename(columns=names)
    widest = (tables["limits"]["histogram_upper"] - tables["limits"]["histogram_lower"]).max()
    return View(
        "Rate that a mean squared error needs", frame, {"target": "g"} | dict.fromkeys(names.values(), ".4f"),
        f"Bits per weight; target in units of the variance. Upper ends of certified brackets, at most {widest:.1e}"
        " bits wide; mean over the matrices of a role.",
    )  # fmt: skip


def at_targets(tables: Tables) -> View:
    """Rate and gap of each quantizer at each target, of the representative matrix."""
    name = tables["notebook"]["name"].iloc[0]
    mine = _chosen(tables["targets"][tables["targets"]["name"] == name])
    rows: dict[str, dict[str, Any]] = {}
    targets = sorted(set(mine["target"]))
    for row in mine[mine["status"] == "covered"].to_dict(orient="records"):
        at = f"D = {row['target']:g}"
        rows.setdefault(row["quantizer"], {"quantizer": row["quantizer"]}).update({
            f"bits, {at}": row["rate"], f"bits, {at}_error": row["rate_error"], f"gap, {at}": row["gap_upper"],
        })  # fmt: skip
    columns = [name for t in targets for name in (f"bits, D = {t:g}", f"bits, D = {t:g}_error", f"gap, D = {t:g}")]
    return View(
        f"Rate and gap at the targets: {short(name)}", pd.DataFrame(rows.values(), columns=["quantizer", *columns]),
        dict.fromkeys(columns, ".3f"),
        "Effective bits per weight, and their distance from R(D) of the fitted law. ± interpolation and measurement;"
        " a dash: not covered.",
    )  # fmt: skip


def of_notebook(tables: Tables) -> View:
    """The notebook's gaps beside the corrected ones."""
    frame = tables["notebook"]
    columns = {"target": "target", "curve": "curve", "rate_reported": "bits rep.", "gap_reported": "gap rep.",
               "rate": "bits", "rate_error": "bits_error", "gap_upper": "gap", "status": "status"}  # fmt: skip
    return View(
        f"As the notebook computes it, and corrected: {short(frame['name'].iloc[0])}",
        frame[list(columns)].rename(columns=columns),
        {"target": "g"} | dict.fromkeys(("bits rep.", "gap rep.", "bits", "gap"), ".3f"),
        "rep.: nominal bits above the Gaussian limit, from the notebook’s own quantizers. Corrected: effective bits"
        " above R(D) of the fitted law.",
    )  # fmt: skip


def ranking(tables: Tables) -> View:
    """The matrices that symmetric 4-bit integers by row hurt most."""
    frame = tables["sensitivity"].sort_values("mse", ascending=False).head(WORST)
    frame = frame.assign(name=[short(name) for name in frame["name"]])
    columns = {"name": "matrix", "role": "role", "mse_absolute": "MSE", "mse": "MSE/variance",
               "mse_error": "MSE/variance_error", "sqnr_db": "SQNR (dB)",
               "relative_max_error": "largest error"}  # fmt: skip
    return View(
        f"Worst {len(frame)} under symmetric 4-bit integers by row", frame[list(columns)].rename(columns=columns),
        {"MSE": ".2e", "MSE/variance": ".4f", "SQNR (dB)": ".2f", "largest error": ".3f"},
        "± clustered by row. Largest error of a weight, in units of the matrix’s largest magnitude.",
    )  # fmt: skip


def compared(tables: Tables) -> View:
    """Attention, MLP and embeddings beside each other."""
    bits = shown_bits(tables)
    groups = tables["groups"]
    mine = groups[(groups["nominal_bits"] == bits) & groups["group"].isin(GROUPS) & (groups["dimension"] == 1)]
    rows: dict[str, dict[str, Any]] = {}
    for row in _chosen(mine).to_dict(orient="records"):
        rows.setdefault(row["quantizer"], {"quantizer": row["quantizer"]}).update(
            {row["group"]: row["gap_upper"], f"{row['group']}_error": row["gap_upper_error"]}
        )
    there = [group for group in GROUPS if (mine["group"] == group).any()]
    columns = [name for group in there for name in (group, f"{group}_error")]
    return View(
        f"Attention, MLP and embeddings at {bits:g} bits",
        pd.DataFrame(rows.values(), columns=["quantizer", *columns]), dict.fromkeys(columns, ".3f"),
        "Bits above R(D) of the fitted law. ± one standard error of the mean; ? for a single matrix.",
    )  # fmt: skip
