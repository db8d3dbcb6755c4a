"""The verdict of the notebook EXP-003 by its own rule, whatever one thinks of it: what `kurtosis` is held against.

A layer's kurtosis is the mean over all of its parameters, biases and norms among them; a layer is an outlier beyond
the mean and two standard deviations of the layers. H2 is supported if the languages' correlation has r beyond 0.7 in
magnitude and p < 0.05, from one text of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from empirics.language_model import LanguageModel
from empirics.tensors import layer

NAMES = {
    "en": ("English", "high"), "fr": ("French", "high"), "zh": ("Chinese", "high"), "ar": ("Arabic", "medium"),
    "he": ("Hebrew", "low"), "sw": ("Swahili", "low"),
}  # fmt: skip
"""What the notebook calls languages, and their resources."""


def layer_kurtosis(lm: LanguageModel) -> dict[int, float]:
    """Excess kurtosis of every parameter in a layer, averaged over weights; NaN where a parameter is constant."""
    parts: dict[int, list[tuple[int, float]]] = {}
    for name, parameter in lm.network.named_parameters():
        if (number := layer(name)) is not None and parameter.is_floating_point():
            parts.setdefault(number, []).append((parameter.numel(), excess_kurtosis(parameter)))
    return {
        number: math.fsum(n * kurtosis for n, kurtosis in found) / sum(n for n, _ in found)
        for number, found in sorted(parts.items())
    }


def excess_kurtosis(tensor: torch.Tensor) -> float:
    """Fourth standardized moment about the mean, less 3: biased, as `scipy.stats.kurtosis`; NaN of a constant."""
    x = tensor.detach().double().flatten()
    mean = x.mean()
    x = (x - mean).square_()
    second = float(x.mean())
    # As scipy: a variance of rounding errors is none.
    return float(x.square_().mean()) / second**2 - 3 if second > (2.0**-52 * float(mean)) ** 2 else math.nan


def outliers(kurtosis: Mapping[int, float]) -> tuple[float, list[int]]:
    """The mean and two standard deviations of the layers, and the layers beyond. Of five or fewer none can be."""
    values = np.array(list(kurtosis.values()))
    threshold = float(values.mean() + 2 * values.std())
    return threshold, [number for number, value in kurtosis.items() if value > threshold]


def verdict(languages: pd.DataFrame, kurtosis: Mapping[int, float], model: str) -> dict[str, Any]:
    """What the notebook writes to its JSON file.

    Parameters
    ----------
    languages : DataFrame
        A row for each: ``lang``, ``k_eff``, ``ppl_fp16``, ``ppl_int4``, of one text.
    kurtosis : mapping of int to float
        Of each layer.
    model : str

    Returns
    -------
    dict
        Without a verdict, None, where there are fewer than three languages or a correlation is none.
    """
    frame = degraded(languages)
    values = np.array(list(kurtosis.values()))
    return {
        "experiment": "EXP-003: Kurtosis-Degradation Analysis",
        "model": model,
        "hypothesis": {"H2": {"statement": "r(κ_eff, D) significant with |r| > 0.7"} | h2(frame)},
        "layer_statistics": {
            "mean_kurtosis": round(float(values.mean()), 4),
            "std_kurtosis": round(float(values.std()), 4),
            "max_kurtosis": round(float(values.max()), 4),
            "outlier_layers": outliers(kurtosis)[1],
        },
        "per_language": frame.to_dict(orient="records"),
    }


def degraded(languages: pd.DataFrame) -> pd.DataFrame:
    """The notebook's columns of a language, the relative change of the perplexity among them."""
    known = [NAMES.get(language, (language, "unknown")) for language in languages["lang"]]
    return languages.assign(
        name=[name for name, _ in known], resource=[resource for _, resource in known],
        degradation=(languages["ppl_int4"] - languages["ppl_fp16"]) / languages["ppl_fp16"],
    )[["lang", "name", "resource", "k_eff", "ppl_fp16", "ppl_int4", "degradation"]]  # fmt: skip


def h2(frame: pd.DataFrame) -> dict[str, Any]:
    """Both correlations, and whether H2 is supported by Pearson's; None where there are none."""
    found: dict[str, Any] = dict.fromkeys(("r_pearson", "p_pearson", "r_spearman", "p_spearman", "supported"))
    x, y = frame["k_eff"], frame["degradation"]
    if len(frame) < 3 or not np.isfinite(x).all() or x.nunique() == 1 or y.nunique() == 1:
        return found
    for method, test in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        r, p = test(x, y)
        found |= {f"r_{method}": round(float(r), 4), f"p_{method}": round(float(p), 4)}
    return found | {"supported": bool(abs(found["r_pearson"]) > 0.7 and found["p_pearson"] < 0.05)}
