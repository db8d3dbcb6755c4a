"""The verdict of the notebook EXP-004 by its own rule, whatever one thinks of it: what `slope` is held against.

Relative changes of the perplexity below 0 are set to 0, their means are rounded to four decimals, and the line runs
through ln(mean + 1e-6) of three quantizations, two of them at 4 bits. Its interval is 1.96 standard errors to either
side, with one degree of freedom, and the slope looked for is -ln 2/2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

SLOPE = -math.log(2) / 2
FLOOR = 1e-6
CONFIGURATIONS = {"fp16": "fp16", "int8": "int8 rows", "int4_nf4": "nf4", "int4_fp4": "fp4"}
"""The notebook's names, and ours."""


def verdict(perplexities: pd.DataFrame, model: str) -> dict[str, Any]:
    """What the notebook writes to its JSON file.

    Parameters
    ----------
    perplexities : DataFrame
        A row for each configuration and text: ``precision`` (the notebook's names), ``bits``, ``lang``, ``sample``,
        ``ppl``. Of "fp16" are those that the others are compared with.
    model : str

    Returns
    -------
    dict
    """
    base = perplexities[perplexities["precision"] == "fp16"].set_index(["lang", "sample"])["ppl"]
    pairs = pd.MultiIndex.from_frame(perplexities[["lang", "sample"]])
    before = base.reindex(pairs).to_numpy()
    frame = perplexities.assign(degradation=np.maximum((perplexities["ppl"].to_numpy() - before) / before, 0.0))
    frame["log_degradation"] = np.log(frame["degradation"] + FLOOR)
    levels = frame.groupby(["precision", "bits"]).agg(
        ppl_mean=("ppl", "mean"), degradation_mean=("degradation", "mean"), degradation_std=("degradation", "std"),
        log_degradation_mean=("log_degradation", "mean"),
    ).round(4).reset_index().sort_values("bits", ascending=False)  # fmt: skip
    quantized = levels[levels["bits"] < 16]
    fit = stats.linregress(quantized["bits"], np.log(quantized["degradation_mean"] + FLOOR))
    slope, half = float(fit.slope), 1.96 * float(fit.stderr)
    return {
        "experiment": "EXP-004: Rate-Distortion Curve Validation",
        "model": model,
        "n_languages": frame["lang"].nunique(),
        "bit_widths": list(dict.fromkeys(frame["precision"])),
        "hypothesis": {
            "H4_rate_distortion": {
                "prediction": f"slope ≈ {SLOPE:.4f}",
                "theoretical_slope": round(SLOPE, 4),
                "empirical_slope": round(slope, 4),
                "r_squared": round(float(fit.rvalue) ** 2, 4),
                "result": _result(slope, half),
            }
        },
        "language_slopes": {
            lang: _language(part) for lang, part in frame[frame["bits"] < 16].groupby("lang", sort=False)
        },
        "per_precision": levels.to_dict(orient="records"),
    }  # fmt: skip


def _result(slope: float, half: float) -> str:
    if abs(slope - SLOPE) <= half:
        return "SUPPORTED"
    return "PARTIALLY_SUPPORTED" if slope < 0 and abs(slope / SLOPE - 1) < 0.5 else "NOT_SUPPORTED"


def _language(part: pd.DataFrame) -> dict[str, float]:
    """Through two points: 8 bits, and the mean of what has 4."""
    means = part.groupby("bits")["degradation"].mean()
    fit = stats.linregress(means.index, np.log(means + FLOOR))
    values = {"slope": fit.slope, "r_squared": fit.rvalue**2, "ratio_to_theory": fit.slope / SLOPE}
    return {name: round(float(value), 4) for name, value in values.items()}
