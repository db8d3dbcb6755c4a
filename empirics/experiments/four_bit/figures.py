"""The figures of ``quantgap run four-bit``: weights and function, methods, limits, first order, allocation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator
from scipy import stats

from empirics import plots
from empirics.experiments.four_bit.geometry import Geometry
from empirics.experiments.four_bit.methods import BASELINE, REFERENCE
from empirics.tensors import layer, role

Rows = list[dict[str, Any]]
COLOURS = {BASELINE: plots.FAINT, "normal or floating point": plots.LINES[0], "integers": plots.LINES[1],
           "checkpoint": plots.LINES[2]}  # fmt: skip
SHAPES = {BASELINE: "X", "normal or floating point": "o", "integers": "s", "checkpoint": "D"}
SPACING = 0.055
"""Between names, in heights of the panel."""
CAPTIONS = {
    "proxy": "Logits MSE against weight MSE, over all weights that are quantized. The line is what first order says"
    " of NF4's error, Σ m tr(G)/V, made larger and smaller; crosses are Σ m tr(G)/V of each method. Bars are one"
    " standard error, clustered by text.",
    "function": "What each method does to the function. Bars are 95 % intervals by Student's t, clustered by text.",
    "bounds": "Left: distortion against rate, the geometric mean over matrices; hollow at the nominal rate, filled"
    " with the scales counted. Right: bits beyond the Gaussian limit (black) and beyond the fitted GGDs' Shannon"
    " bound.",
    "first-order": "Left: all matrices quantized to integers in blocks of 64; the band is 10 %. Right: NF4, one"
    " matrix at a time, measured against m tr(G)/V; the band is 25 %. Bars are one standard error over texts.",
    "bits": "Bits for each matrix by water-filling (marks: were they not whole), and the logits MSE of the"
    " uniform choice over that of the allocation: predicted, and measured. Bars are 95 % intervals.",
}


def figures(rows: Rows, geometry: Geometry, matrices: Rows, model: str) -> dict[str, tuple[Figure, str]]:
    """Function against weights, method by method, the bounds, first order, the allocation."""
    model = plots.clean(model)
    noisy = [row for row in rows if row["weight_mse"] > 0]
    drawn = {
        "proxy": _proxy(noisy, model), "function": _methods(noisy, model), "bounds": _bounds(noisy, model),
        "first-order": _first_order(geometry, matrices, model), "bits": _allocation(geometry, model),
    }  # fmt: skip
    return {name: (figure, CAPTIONS[name]) for name, figure in drawn.items()}


def _proxy(rows: Rows, model: str) -> Figure:
    four = [row for row in rows if row["four_bit"]]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        panels = figure.subplots(1, 2, width_ratios=(1, 1.35))
        for panel, mine in zip(panels, (rows, four), strict=True):
            _scatter(panel, mine)
        _label(panels[1], [(row["weight_mse"], row["logits_mse"], row) for row in four])
        panels[0].set_ylabel("logits MSE")
        panels[0].set_title("all methods")
        panels[1].set_title("4 bits")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        figure.suptitle(f"{model}: does the weight MSE tell the functional distortion?")
    return figure


def _scatter(panel: Axes, rows: Rows) -> None:
    known = [row for row in rows if "predicted_logits_mse" in row]
    x = np.array([row["weight_mse"] for row in rows])
    span = max(float(x.max() / x.min()), 2.0) ** 0.12
    ends = np.array([x.min() / span, x.max() * span])
    if known:
        nf4 = next((row for row in known if row["method"] == REFERENCE), known[0])
        slope = nf4["predicted_logits_mse"] / nf4["weight_mse"]
        panel.plot(ends, slope * ends, color=plots.TOTAL, linewidth=0.8, label="Σ m tr(G)/V, NF4's error rescaled")
        panel.plot([row["weight_mse"] for row in known], [row["predicted_logits_mse"] for row in known], "x",
                   color=plots.TOTAL, markersize=4, label="Σ m tr(G)/V of the method")  # fmt: skip
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        panel.errorbar([r["weight_mse"] for r in mine], [r["logits_mse"] for r in mine],
                       [r["logits_mse_error"] for r in mine], [r["weight_mse_error"] for r in mine],
                       fmt=SHAPES[kind], color=COLOURS[kind], markersize=5, elinewidth=0.9, label=kind)  # fmt: skip
    panel.set(xscale="log", yscale="log", xlim=ends)
    panel.margins(y=0.12)
    _logarithmic(panel.xaxis, panel.yaxis)
    panel.set_xlabel("weight MSE")
    panel.grid()


def _label(panel: Axes, points: list[tuple[float, float, dict[str, Any]]]) -> None:
    """Names to the right of the panel, whose y axis is logarithmic, each with a line to its point (x, y)."""
    low, high = np.log(panel.get_ylim())
    points = sorted(points, key=lambda point: point[1])
    heights = [(math.log(y) - low) / (high - low) for _, y, _ in points]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + SPACING)
    for (x, y, row), height in zip(points, heights, strict=True):
        panel.annotate(
            plots.clean(row["method"]), (x, y), (1.03, height), textcoords="axes fraction", fontsize=7.5, va="center",
            color=COLOURS[row["kind"]],
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": plots.FAINT, "shrinkB": 4, "relpos": (0, 0.5)},
        )  # fmt: skip


def _logarithmic(*axes: Axis) -> None:
    """With a name for each decade alone where there are many, within the limits that they have by now."""
    plots.logarithmic(*axes)
    for axis in axes:
        low, high = axis.get_view_interval()
        if high > 300 * low:
            axis.set_major_locator(LogLocator(numticks=6))


def _methods(rows: Rows, model: str) -> Figure:
    quantities = (("logits_mse", "logits MSE", True), ("kl_bits", "KL divergence (bits)", True),
                  ("loss_change", "loss change (nats per token)", False),
                  ("agreement", "top-token agreement", False))  # fmt: skip
    ordered = sorted(rows, key=lambda row: row["logits_mse"])
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.6, 0.9 + 0.27 * len(ordered)), layout="constrained")
        panels = figure.subplots(1, len(quantities), sharey=True)
        for panel, (name, label, log) in zip(panels, quantities, strict=True):
            for place, row in enumerate(ordered):
                half = _t(row) * row[f"{name}_error"]
                panel.errorbar(row[name], place, xerr=half, fmt=SHAPES[row["kind"]], color=COLOURS[row["kind"]],
                               markersize=5, elinewidth=1.1)  # fmt: skip
            if log:
                panel.set_xscale("log")
                _logarithmic(panel.xaxis)
            elif name == "loss_change":
                panel.axvline(0, color=plots.FAINT, linewidth=0.8)
            panel.set_xlabel(label)
            panel.grid()
        panels[0].set_yticks(range(len(ordered)), [plots.clean(row["method"]) for row in ordered])
        panels[0].invert_yaxis()
        figure.suptitle(f"{model}: what quantizing the weights does to the function")
    return figure


def _t(row: dict[str, Any]) -> float:
    return float(stats.t.ppf(0.975, row["texts"] - 1)) if row["texts"] > 1 else math.nan


def _bounds(rows: Rows, model: str) -> Figure:
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
        four = [row for row in rows if row["bits"] < 5]
        rates = np.array([3.4, max(5.4, *(row["effective_bits"] + 0.5 for row in four))])
        points: list[tuple[float, float, dict[str, Any]]] = []
        divergence = rows[0]["gap_ggd_nominal"] - rows[0]["gap_gauss_nominal"]
        left.plot(rates, 4.0**-rates, color="black", linewidth=1, label="Gaussian limit")
        left.plot(rates, 4.0 ** -(rates + divergence), color=plots.LINES[3], linewidth=1, linestyle="--",
                  label="Shannon bound of the fitted GGDs")  # fmt: skip
        for row in four:
            style: dict[str, Any] = {"marker": SHAPES[row["kind"]], "color": COLOURS[row["kind"]], "markersize": 5}
            distortion = 4.0 ** (row["gap_gauss_nominal"] - row["bits"])
            left.plot([row["bits"], row["effective_bits"]], [distortion] * 2, linewidth=0.8, **style)
            left.plot(row["bits"], distortion, **style, markerfacecolor="white")
            points.append((row["effective_bits"], distortion, row))
        plots.logarithmic(left.yaxis)
        left.set_xlim(*rates)
        _label(left, points)
        left.set_xlabel("bits per weight")
        left.set_ylabel("weight MSE, in variances")
        left.grid()
        left.legend(loc="lower left")
        ordered = sorted((row for row in rows if row["bits"] <= 8), key=lambda row: row["gap_gauss_effective"])
        for place, row in enumerate(ordered):
            for bound, shift, colour in (("gauss", -0.14, "black"), ("ggd", 0.14, plots.LINES[3])):
                ends = [row[f"gap_{bound}_{rate}"] for rate in ("nominal", "effective")]
                right.plot(ends, [place + shift] * 2, color=colour, linewidth=0.8)
                for end, face in zip(ends, ("white", colour), strict=True):
                    right.errorbar(end, place + shift, xerr=row[f"gap_{bound}_nominal_error"], fmt="o", color=colour,
                                   markerfacecolor=face, markersize=5, elinewidth=0.9)  # fmt: skip
        right.set_yticks(range(len(ordered)), [plots.clean(row["method"]) for row in ordered])
        right.invert_yaxis()
        right.set_xlabel("bits beyond the limit")
        right.grid(axis="x")
        figure.suptitle(f"{model}: methods and limits")
    return figure


def _first_order(geometry: Geometry, matrices: Rows, model: str) -> Figure:
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        bits = list(geometry.sweep)
        left.axhspan(0.9, 1.1, color="#EBEBEB", linewidth=0)
        left.axhline(1, color=plots.TOTAL, linewidth=0.8)
        for key, label, colour, marker in (
            ("measured_over_first_order", "measured / along the error", plots.LINES[0], "o"),
            ("measured_over_isotropic", "measured / Σ m tr(G)/V", plots.LINES[1], "s"),
        ):
            values = [row[key] for row in geometry.sweep.values()]
            errors = [row[f"{key}_error"] or math.nan for row in geometry.sweep.values()]
            left.errorbar(bits, values, errors, fmt=f"{marker}-", color=colour, markersize=4.5, linewidth=1,
                          elinewidth=0.9, label=label)  # fmt: skip
        plots.logarithmic(left.yaxis)
        left.set_xticks(bits)
        left.set_xlabel("bits")
        left.set_ylabel("measured / predicted logits MSE")
        left.legend()
        left.grid()
        known = [row for row in matrices if "nf4_measured" in row]
        both = [row[key] for row in known for key in ("nf4_measured", "nf4_isotropic")]
        ends = np.array([min(both) / 1.5, max(both) * 1.5])
        right.fill_between(ends, ends / 1.25, ends * 1.25, color="#EBEBEB", linewidth=0)
        right.plot(ends, ends, color=plots.TOTAL, linewidth=0.8)
        roles = [r for r in plots.ROLES if r in {row["role"] for row in known}]
        for which, kind in enumerate(roles):
            mine = [row for row in known if row["role"] == kind]
            right.errorbar([r["nf4_isotropic"] for r in mine], [r["nf4_measured"] for r in mine],
                           [r["nf4_measured_error"] or math.nan for r in mine], fmt=plots.MARKERS[which % 8],
                           color=plots.LINES[which % 7], markersize=4, elinewidth=0.8, label=kind)  # fmt: skip
        right.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        _logarithmic(right.xaxis, right.yaxis)
        right.set_xlabel("predicted logits MSE, m tr(G)/V")
        right.set_ylabel("measured, alone")
        right.legend(ncols=2, loc="upper left")
        figure.suptitle(f"{model}: where first order holds")
    return figure


def _allocation(geometry: Geometry, model: str) -> Figure:
    budgets = geometry.allocations
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.6, 1.2 + 2.0 * len(budgets)), layout="constrained")
        panels = figure.subplots(len(budgets), 2, width_ratios=(3.2, 1), squeeze=False)
        for (bars, gains), (budget, found) in zip(panels, budgets.items(), strict=True):
            _shares(bars, found["shares"], budget)
            half = 1.96 * found["predicted_gain_error"]
            ends = found["predicted_gain"] - half, found["predicted_gain"] + half
            _interval(gains, 0, found["predicted_gain"], ends, plots.LINES[4])
            _interval(gains, 1, found["gain"], (found["gain_low"], found["gain_high"]), plots.LINES[0])
            gains.axvline(1, color=plots.FAINT, linewidth=0.8)
            gains.set_yticks([0, 1], ["predicted", "measured"])
            gains.set_ylim(1.6, -0.6)
            gains.set_xlabel("uniform / allocated logits MSE")
            gains.grid(axis="x")
        roles = _roles(found["shares"])
        figure.legend(handles=[Patch(color=colour, label=plots.clean(name)) for name, colour in roles.items()],
                      ncols=len(roles), loc="outside lower center")  # fmt: skip
        figure.suptitle(f"{model}: bits where they matter")
    return figure


def _interval(panel: Axes, place: int, value: float, ends: tuple[float | None, float | None], colour: str) -> None:
    """A point and its interval, if that is known."""
    low, high = (math.nan if end is None else end for end in ends)
    panel.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, markersize=5,
                   elinewidth=1.1)  # fmt: skip


def _shares(panel: Axes, shares: Rows, budget: int) -> None:
    x, roles = range(len(shares)), _roles(shares)
    colours = [roles[role(share["name"])] for share in shares]
    panel.bar(x, [share["bits"] for share in shares], color=colours, width=0.8)
    panel.plot(x, [share["ideal_bits"] for share in shares], "_", color=plots.TOTAL, markersize=5)
    panel.axhline(budget, color=plots.TOTAL, linewidth=0.8, linestyle="--")
    firsts = {layer(share["name"]): i for i, share in reversed(list(enumerate(shares)))}
    panel.set_xticks([i - 0.5 for i in firsts.values()], [f"layer {d}" for d in firsts], ha="left")
    panel.tick_params(axis="x", length=0)
    panel.set_ylabel(f"bits, mean {budget}")
    panel.grid(axis="y")


def _roles(shares: Rows) -> dict[str, str]:
    """A colour for each."""
    return dict(zip(dict.fromkeys(role(share["name"]) for share in shares), itertools.cycle(plots.LINES)))
