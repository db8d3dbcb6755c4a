"""What the ledger of a quantized checkpoint shows: the answer, tables, the figure, and JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from empirics import plots
from empirics.checkpoints.base import Base
from empirics.checkpoints.stored import Quantized
from empirics.experiments.result import View
from empirics.page import MEANINGS, counted, gap_error, plus_minus, short, total_error
from empirics.plots import LABELS, signed
from theory.ledger import STEPS, STORED, Ledger, average

if TYPE_CHECKING:
    from empirics.checkpoints.ledger import Measured

METHOD = {
    "gap": "½ log₂ of the mean squared error over that of an ideal code for Gaussian weights at the same rate, bits"
    " per weight; at the effective rate everything that is stored of a matrix is counted, indices, scales, zero"
    " points, group indices and tables.",
    **{LABELS.get(name, name): MEANINGS.get(name, "") for name in (*STEPS, "format", *STORED)},
    "base": "Every tensor that was not quantized must be the base’s, and the error of every matrix one that its own"
    " grid explains. Channels that AWQ or SmoothQuant scaled are compared in the base’s coordinates.",
    "standard errors": "Clustered by row.",
}


def answer(quantized: Quantized, base: Base, measured: Sequence[Measured], total: Ledger) -> list[str]:
    """How far, what the method does, and against what."""
    error = total_error(measured)  # type: ignore[arg-type]
    by_name = {step.name: step.bits for step in total.steps}
    said = [
        f"{quantized.name} ({quantized.description}) takes {total.effective_bits:.4g} bits a weight, all that is"
        f" stored counted; an ideal code for Gaussian weights reaches the same error with"
        f" {total.bits - total.total:.3f}. The gap is {total.effective_total:.3f} bits a weight, or"
        f" {plus_minus(total.total, error)} at the nominal {total.bits:.4g}.",
        f"To plain rounding in the format, its scales add {signed(by_name['scales'])} bits of gap, and its indices"
        f" {signed(by_name['method'])}: {100 * _mean(measured, 'not_nearest'):.1f} % of the weights are not at the"
        " nearest point of their grid.",
        f"Its base is {base.checkpoint.name}; the correlation of a matrix with it is"
        f" {min(m.correlation for m in measured):.4f} or more.",
    ]
    if base.equalized:
        said[-1] += (
            f" The channels behind {counted(len(base.equalized), 'normalization')} were scaled, which changes no"
            " function; they are compared in the base’s coordinates."
        )
    return said


def _mean(measured: Sequence[Measured], name: str) -> float:
    weights = [m.statistics.weights for m in measured]
    return math.fsum(w * getattr(m, name) for w, m in zip(weights, measured, strict=True)) / sum(weights)


def mean_ledger(measured: Sequence[Measured]) -> Ledger:
    """The ledger of all of them: the mean over their weights."""
    return average([m.ledger for m in measured], [m.statistics.weights for m in measured])


def document(quantized: Quantized, base: Base, measured: Sequence[Measured], total: Ledger) -> dict[str, Any]:
    """The ledger as plain JSON values: `empirics.report.json`, with the base, and a rate for each matrix."""
    sizes = {m.block_size for m in measured}
    return {
        "model": quantized.name,
        "quantizer": quantized.description,
        "bits": total.bits,
        "effective_bits": total.effective_bits,
        "block_size": sizes.pop() if len(sizes) == 1 else None,
        "revision": quantized.revision,
        "base": {"model": base.checkpoint.name, "revision": base.checkpoint.revision, "equalized": base.equalized},
        "tensors": [
            {
                "name": m.statistics.name,
                "role": m.statistics.role,
                "shape": list(m.statistics.shape),
                "format": m.format,
                "bits": m.bits,
                "effective_bits": m.effective_bits,
                "block_size": m.block_size,
                "beta": m.statistics.beta,
                "beta_row": m.statistics.beta_row,
                "measured_mse": m.measured_mse,
                "rounded_mse": m.rounded_mse,
                "nearest_mse": m.nearest_mse,
                "predicted_mse_iid": m.predicted_mse_iid,
                "predicted_mse_row": m.predicted_mse_row,
                "correlation": m.correlation,
                "not_nearest": m.not_nearest,
                "total_bits": m.ledger.total,
                "effective_total_bits": m.ledger.effective_total,
                "steps": [{"name": step.name, "bits": step.bits} for step in m.ledger.steps],
            }
            for m in measured
        ],
        "model_total": {
            "weights": sum(m.statistics.weights for m in measured),
            "total_bits": total.total,
            "effective_total_bits": total.effective_total,
            "steps": [{"name": step.name, "bits": step.bits} for step in total.steps],
        },
    }


def table(measured: Sequence[Measured]) -> pd.DataFrame:
    """A row for each matrix."""
    rows = []
    for m in measured:
        apart = ("statistics", "ledger", "mse_error")
        plain = {name: value for name, value in asdict(m).items() if name not in apart}
        rows.append({
            "tensor": m.statistics.name, "role": m.statistics.role, "layer": m.statistics.layer,
            "rows": m.statistics.shape[0], "columns": m.statistics.shape[1],
            "beta": m.statistics.beta, "beta_error": m.statistics.beta_error,
            "beta_row": m.statistics.beta_row, "beta_row_error": m.statistics.beta_row_error,
            **plain, "measured_mse_error": m.mse_error,
            "total_bits": m.ledger.total, "total_bits_error": gap_error(m),  # type: ignore[arg-type]
            "effective_total_bits": m.ledger.effective_total,
            **{f"step_{step.name}": step.bits for step in m.ledger.steps},
        })  # fmt: skip
    return pd.DataFrame(rows).astype({"layer": "Int64"})


def views(measured: Sequence[Measured], total: Ledger) -> list[View]:
    """The steps of the model, and its matrices."""
    steps = [{"step": LABELS.get(step.name, step.name), "bits": step.bits} for step in total.steps]
    steps += [
        {"step": plots.NOMINAL, "bits": total.total},
        {"step": plots.SIDE, "bits": total.effective_bits - total.bits},
        {"step": plots.EFFECTIVE, "bits": total.effective_total},
    ]
    matrices = [
        {
            "matrix": short(m.statistics.name), "format": m.format, "bits": m.bits, "effective": m.effective_bits,
            "plain MSE": m.rounded_mse, "nearest MSE": m.nearest_mse, "MSE": m.measured_mse, "MSE_error": m.mse_error,
            "gap": m.ledger.total, "gap_error": gap_error(m),  # type: ignore[arg-type]
            "eff. gap": m.ledger.effective_total,
        }
        for m in measured
    ]  # fmt: skip
    kinds = [
        {"kind": role, "matrices": len(group), "bits": _mean(group, "bits"),
         "effective": _mean(group, "effective_bits"), "gap": whole.total, "gap_error": total_error(group),  # type: ignore[arg-type]
         "eff. gap": whole.effective_total}
        for role in dict.fromkeys(m.statistics.role for m in measured)
        if (group := [m for m in measured if m.statistics.role == role]) and (whole := mean_ledger(group))
    ]  # fmt: skip
    mse = dict.fromkeys(("plain MSE", "nearest MSE", "MSE"), ".4g")
    return [
        View("Bits above the Gaussian limit", pd.DataFrame(steps), {"bits": "+.3f"}, "Per weight; mean over all."),
        View("By kind", pd.DataFrame(kinds), {"bits": ".3g", "effective": ".4g", "gap": ".3f", "eff. gap": ".3f"}),
        View(
            "Matrices", pd.DataFrame(matrices), {"effective": ".4g", **mse, "gap": ".3f", "eff. gap": ".3f"},
            "MSE in variances of the base: rounded plainly to the format, to the nearest point of the stored grid,"
            " and as stored; gaps in bits per weight; ± standard errors.",
        ),
    ]  # fmt: skip


def figures(quantized: Quantized, total: Ledger) -> dict[str, tuple[Figure, str]]:
    """Where the bits go."""
    drawn = plots.waterfall({quantized.name: total}, "")
    caption = "Bits per weight above the Gaussian limit, step by step; the last two are the checkpoint’s own doing."
    return {"waterfall": (drawn, caption)}
