"""What ``quantgap run kurtosis`` draws: the layers, the languages, the clips."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from empirics import plots
from empirics.experiments.kurtosis.report import NAMES
from theory.clipping import kurtosis_rule

WIDE = 20
"""Excess kurtosis past which the axis is logarithmic beyond 1."""

LEAST = 1e-3
"""The least regret that is drawn, in bits."""

WEIGHTINGS = {"by_outputs": "by outputs", "by_inputs": "by inputs"}


def figures(
    languages: pd.DataFrame, correlations: pd.DataFrame, layers: pd.DataFrame, by_matrix: pd.DataFrame,
    clips: pd.DataFrame, model: str,
) -> dict[str, tuple[Figure, str]]:  # fmt: skip
    """Layer profile, scatter of languages, clips against kurtosis."""
    return {
        "profile": (
            profile(layers, by_matrix, model),
            "Bars: excess kurtosis of each layer, the mean over its weights, with one standard error; outliers by the"
            " robust score in orange. Points: its matrices. Dashed: the notebook’s threshold, which is for its own"
            " kurtosis (crosses), of biases and norms too.",
        ),
        "scatter": (
            scatter(languages, correlations, model),
            "Effective kurtosis and degradation of each language, with one standard error over texts in both"
            " directions; r is Pearson’s, with the p-value of the permutation test.",
        ),
        "clipping": (
            clip_panels(clips, by_matrix, model),
            "Left: the best clip of each matrix at each number of bits, and the line of the rule that knows only the"
            " kurtosis. Right: what that rule loses to the best clip, where that is above 0.001 bit.",
        ),
    }


def profile(layers: pd.DataFrame, by_matrix: pd.DataFrame, model: str) -> Figure:
    """Draw the kurtosis of layers and of their matrices against depth."""
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        panel = figure.subplots()
        colours = ["#F2C1A0" if far else "#B9CFE4" for far in layers["outlier"]]
        panel.bar(layers["layer"], layers["kurtosis"], 0.8, color=colours, zorder=1)
        panel.errorbar(layers["layer"], layers["kurtosis"], layers["kurtosis_error"], fmt="none", color=plots.TOTAL,
                       elinewidth=1.0, capsize=2.5, zorder=2)  # fmt: skip
        roles = [role for role in plots.ROLES if (by_matrix["role"] == role).any()]
        roles += sorted(set(by_matrix["role"]) - set(roles))
        places = np.linspace(-0.28, 0.28, len(roles)) if len(roles) > 1 else [0.0]
        for role, place, marker, colour in zip(
            roles, places, itertools.cycle(plots.MARKERS), itertools.cycle(plots.LINES), strict=False
        ):
            part = by_matrix[(by_matrix["role"] == role) & by_matrix["layer"].notna()]
            panel.errorbar(part["layer"] + place, part["kurtosis"], part["kurtosis_error"], fmt=marker, color=colour,
                           markersize=3.5, elinewidth=0.8, label=plots.clean(role), zorder=3)  # fmt: skip
        threshold = layers["notebook_threshold"].iloc[0]
        if np.isfinite(threshold):
            panel.plot(layers["layer"], layers["notebook_kurtosis"], "x", color=plots.TOTAL, markersize=4.5,
                       label="all parameters", zorder=3)  # fmt: skip
            panel.axhline(threshold, linestyle="--", color=plots.TOTAL, linewidth=0.9, label="notebook’s threshold")
        panel.axhline(0, color=plots.TOTAL, linewidth=0.7)
        if by_matrix["kurtosis"].max() > WIDE:
            panel.set_yscale("symlog", linthresh=1)
            panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
        panel.set_xlabel("layer")
        panel.set_ylabel("excess kurtosis")
        panel.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        panel.grid(axis="y")
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=9)
        figure.suptitle(f"{plots.clean(model)}: kurtosis by layer")
    return figure


def scatter(languages: pd.DataFrame, correlations: pd.DataFrame, model: str) -> Figure:
    """Draw degradation against effective kurtosis: a column for each weighting, a row for each measure."""
    quantizers = list(languages["quantizer"].unique())
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        grid = figure.subplots(len(NAMES), len(WEIGHTINGS), sharex="col", sharey="row")
        for row, (outcome, said) in zip(grid, NAMES.items(), strict=True):
            for panel, (weighting, title) in zip(row, WEIGHTINGS.items(), strict=True):
                for quantizer, marker, colour in zip(quantizers, plots.MARKERS, plots.LINES, strict=False):
                    part = languages[languages["quantizer"] == quantizer]
                    panel.errorbar(
                        part[weighting], part[outcome], part[f"{outcome}_error"], part[f"{weighting}_error"],
                        fmt=marker, color=colour, markersize=4.5, elinewidth=0.9,
                        label=_label(correlations, quantizer, weighting, outcome),
                    )  # fmt: skip
                    for x, y, language in zip(part[weighting], part[outcome], part["language"], strict=True):
                        panel.annotate(plots.clean(language), (x, y), (5, 4), textcoords="offset points",
                                       fontsize=7.5, color=colour)  # fmt: skip
                if outcome == "loss_change":
                    panel.axhline(0, color=plots.TOTAL, linewidth=0.7)
                panel.grid()
                panel.legend(fontsize=7.5, loc="best")
                panel.set_title(f"{said}, {title}")
            row[0].set_ylabel(f"{said} ({'nats' if outcome == 'loss_change' else 'bits'} per token)")
        for panel in grid[-1]:
            panel.set_xlabel("effective kurtosis")
        figure.suptitle(f"{plots.clean(model)}: what languages meet, and what 4 bits do to them")
    return figure


def _label(correlations: pd.DataFrame, quantizer: str, weighting: str, outcome: str) -> str:
    """The quantizer and its correlation."""
    if not len(correlations):
        return quantizer
    found = correlations[
        (correlations["over"] == "languages") & (correlations["method"] == "pearson")
        & (correlations["quantizer"] == quantizer) & (correlations["outcome"] == outcome)
        & (correlations["weighting"] == weighting.removeprefix("by_"))
    ]  # fmt: skip
    if not len(found):
        return quantizer
    return f"{quantizer}, r = {found['r'].iloc[0]:.2f}, p = {found['p'].iloc[0]:.2g}".replace("-", "−")


def clip_panels(clips: pd.DataFrame, by_matrix: pd.DataFrame, model: str) -> Figure:
    """Draw the best clips, the rule's line, and its regret, against the kurtosis of each matrix."""
    kurtosis = by_matrix.set_index("matrix")["kurtosis"]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        for (bits, part), marker, colour in zip(clips.groupby("bits"), plots.MARKERS, plots.LINES, strict=False):
            x = part["matrix"].map(kurtosis)
            drawn = {"marker": marker, "color": colour, "markersize": 4, "linestyle": "none"}
            left.plot(x, part["best"], label=f"{bits} bits", **drawn)
            right.plot(x, part["rule_regret"], label=f"{bits} bits", **drawn)
        x = np.linspace(min(kurtosis.min(), 0.0), kurtosis.max(), 200)
        left.plot(x, kurtosis_rule(np.maximum(x, -2.0)), color=plots.TOTAL, linewidth=1.1, label="rule")
        left.set_title("best clip, and the rule")
        left.set_ylabel("standard deviations")
        right.set_title("what the rule loses")
        right.set_ylabel("bits")
        for panel in (left, right):
            panel.set_xlabel("excess kurtosis of the matrix")
            panel.grid()
        plots.logarithmic(right.yaxis)
        right.set_ylim(bottom=LEAST)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
        figure.suptitle(f"{plots.clean(model)}: clips")
    return figure
