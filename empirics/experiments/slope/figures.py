"""What ``quantgap run slope`` draws: the three panels of the notebook, and the slopes by language."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy import stats

from empirics import plots
from empirics.experiments.slope.fits import ALL, AS_WRITTEN, FITTED, INTEGERS, MEASURED, QUANTITIES, WRITTEN
from empirics.experiments.slope.report import NAMES
from theory.slopes import SHANNON

GUIDES = {WRITTEN: (AS_WRITTEN, ":"), "Shannon": (SHANNON, "--")}
JITTER = 0.3


def figures(
    degradation: pd.DataFrame, fits: pd.DataFrame, by_matrix: pd.DataFrame, model: str
) -> dict[str, tuple[Figure, str]]:
    """The panels, and the slopes by language where there are several."""
    made = {
        "slope": (
            panels(degradation, fits, by_matrix, model),
            "Left: change of the loss by language; a hollow triangle is the upper end of the 95 % interval of one"
            " that is not above 0 by it. Right: four quantities over their value at the fewest bits, and their lines:"
            " filled, integers in blocks of 64; hollow, int8 rows, nf4 and fp4. Below: perplexities. Bars are one"
            " standard error, clustered by text.",
        )
    }
    chosen = fits[(fits["points"] == INTEGERS) & (fits["rate"] == "nominal") & (fits["quantity"].isin(MEASURED))]
    if chosen["language"].nunique() > 2 and (chosen["text_error"] > 0).any():
        made["forest"] = (
            forest(chosen, model),
            "Slope of the logarithm through the integers, by language, with the 95 % interval that its texts give."
            " Dashed: all languages together. At the right: widths that have a logarithm.",
        )
    return made


def panels(degradation: pd.DataFrame, fits: pd.DataFrame, by_matrix: pd.DataFrame, model: str) -> Figure:
    """Draw degradation against bits, the four fits, and the perplexities."""
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 7.4), layout="constrained")
        axes = figure.subplot_mosaic("AB;CC", height_ratios=(1.25, 1))
        _changes(axes["A"], degradation)
        _fits(axes["B"], degradation, fits, by_matrix)
        _perplexities(axes["C"], degradation)
        figure.legend(*axes["C"].get_legend_handles_labels(), loc="outside lower center", ncols=9)
        figure.suptitle(f"{plots.clean(model)}: what fewer bits do")
    return figure


def _languages(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Language, colour and marker."""
    chosen = [language for language in frame["language"].unique() if language != ALL]
    return list(zip(chosen, itertools.cycle(plots.LINES), itertools.cycle(plots.MARKERS), strict=False))


def _changes(panel: Axes, degradation: pd.DataFrame) -> None:
    quantized = degradation[degradation["bits"] < 16]
    languages = _languages(quantized)
    for i, (language, colour, marker) in enumerate(languages):
        part = quantized[quantized["language"] == language]
        x = part["bits"] + JITTER * (2 * i / max(len(languages) - 1, 1) - 1)
        above = part["low"] > 0
        panel.errorbar(
            x[above], part["loss_change"][above], part["loss_change_error"][above], fmt=marker, color=colour,
            markersize=4.5, elinewidth=0.9,
        )  # fmt: skip
        limits = ~above & (part["high"] > 0)
        panel.plot(x[limits], part["high"][limits], "v", color=colour, markerfacecolor="none", markersize=4.5,
                   alpha=0.75)  # fmt: skip
    whole = quantized[(quantized["language"] == ALL) & quantized["configuration"].str.startswith("int")]
    first = whole.loc[whole["bits"].idxmin()]
    if first["loss_change"] > 0:
        bits = np.array([whole["bits"].min(), whole["bits"].max()])
        for name, (slope, style) in GUIDES.items():
            y = first["loss_change"] * np.exp(slope * (bits - bits[0]))
            panel.plot(bits, y, style, color=plots.TOTAL, linewidth=1.0, label=f"{name}, {_minus(slope)} a bit")
    plots.logarithmic(panel.yaxis)
    panel.set_title("change of the loss")
    panel.set_xlabel("nominal bits per weight")
    panel.set_ylabel("nats per token")
    panel.grid(axis="y")
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=7.5, loc="lower left")


def _fits(panel: Axes, degradation: pd.DataFrame, fits: pd.DataFrame, by_matrix: pd.DataFrame) -> None:
    whole = degradation[(degradation["language"] == ALL) & (degradation["bits"] < 16)]
    integers = whole["configuration"].str.fullmatch(r"int\d")
    widths = np.array([whole["bits"][integers].min(), whole["bits"][integers].max()])
    for quantity, colour, marker in zip(QUANTITIES, plots.LINES, plots.MARKERS, strict=False):
        above = whole["low"] > 0 if quantity == "loss_change" else whole[quantity] > 0
        end = whole["bits"][integers & ~above].min()  # where the line ends; NaN if nowhere
        part = whole[integers & ~(whole["bits"] >= end)]
        if part.empty:
            continue
        base = part.loc[part["bits"].idxmin()]
        level = base[quantity]
        fit = fits[(fits["quantity"] == quantity) & (fits["points"] == INTEGERS)].iloc[0]
        label = NAMES[quantity] + (f", {_minus(fit['slope'])}" if fit["n"] > 1 else "")
        error = None if quantity == "weight_mse" else part[f"{quantity}_error"] / level
        panel.errorbar(part["bits"], part[quantity] / level, error, fmt=marker, color=colour, markersize=4.5,
                       elinewidth=0.9, label=label)  # fmt: skip
        if fit["n"] > 1:
            centre, middle = part["bits"].mean(), np.log(part[quantity] / level).mean()
            panel.plot(widths, np.exp(middle + fit["slope"] * (widths - centre)), color=colour, linewidth=0.9)
        others = whole[~integers & ~(whole["bits"] >= end)]
        panel.plot(others["bits"], others[quantity] / level, marker, color=colour, markerfacecolor="none",
                   markersize=4.5)  # fmt: skip
    known = by_matrix.dropna(subset="predicted_row")
    known = known[known["configuration"].str.fullmatch(r"int\d")].groupby("bits")
    expected = pd.Series({bits: np.average(part["predicted_row"], weights=part["weights"]) for bits, part in known})
    if len(expected):
        panel.plot(expected.index, expected / expected.iloc[0], "-.", color=plots.TOTAL, linewidth=1.0,
                   label=FITTED)  # fmt: skip
    written = np.exp(AS_WRITTEN * (widths - widths[0]))
    panel.plot(widths, written, ":", color=plots.TOTAL, linewidth=1.0, label=WRITTEN)
    plots.logarithmic(panel.yaxis)
    panel.set_title("four quantities, and their slopes")
    panel.set_xlabel("nominal bits per weight")
    panel.set_ylabel("over the value at the fewest bits")
    panel.grid(axis="y")
    panel.legend(fontsize=7.5, loc="lower left")


def _perplexities(panel: Axes, degradation: pd.DataFrame) -> None:
    names = list(degradation["configuration"].unique())
    languages = _languages(degradation)
    for i, (language, colour, marker) in enumerate(languages):
        part = degradation[degradation["language"] == language]
        x = np.arange(len(names)) + 0.5 * JITTER * (2 * i / max(len(languages) - 1, 1) - 1)
        panel.errorbar(x, part["perplexity"], part["perplexity_error"], marker=marker, color=colour, markersize=4,
                       linewidth=0.9, elinewidth=0.9, label=plots.clean(language))  # fmt: skip
    panel.set_xticks(range(len(names)), [plots.clean(name) for name in names])
    plots.logarithmic(panel.yaxis)
    if degradation["perplexity"].max() > 1e4 * degradation["perplexity"].min():
        panel.yaxis.set_major_locator(LogLocator())
    panel.set_title("perplexity")
    panel.grid(axis="y")


def forest(fits: pd.DataFrame, model: str) -> Figure:
    """Draw the slope of each language, a panel for each quantity that has lines."""
    names = list(fits["language"].unique())
    quantities = [q for q in MEASURED if (fits[fits["quantity"] == q]["text_error"] > 0).any()]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 1.3 + 0.28 * len(names)), layout="constrained")
        axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for panel, quantity in zip(axes, quantities, strict=True):
            part = fits[fits["quantity"] == quantity].set_index("language").loc[names]
            half = stats.t.isf(0.025, part["texts"] - 1) * part["text_error"]
            for row, name in enumerate(names):
                colour = plots.TOTAL if name == ALL else plots.LINES[0]
                panel.errorbar(
                    part["slope"][name], row, xerr=half[name], fmt="o", color=colour, markersize=4.5, elinewidth=1.2
                )
                panel.annotate(
                    f"{part['n'][name]}", (1, row), (4, 0), xycoords=("axes fraction", "data"), va="center",
                    fontsize=7.5, textcoords="offset points", color=plots.FAINT, annotation_clip=False,
                )  # fmt: skip
            panel.axvline(part["slope"].iloc[0], linestyle="--", color=plots.TOTAL, linewidth=0.8)
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.set_title(NAMES[quantity])
            panel.set_xlabel("slope per bit")
            panel.grid(axis="x")
        axes[0].set_yticks(range(len(names)), [plots.clean(name) for name in names])
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        figure.suptitle(f"{plots.clean(model)}: slopes by language")
    return figure


def _minus(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
