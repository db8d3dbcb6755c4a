"""Figures of ``quantgap run rate-distortion``: curves over theory, gaps, groups of roles, limits, sensitivity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from empirics import plots
from empirics.experiments.rate_distortion.tables import EVERY, GROUPS, SAMPLE
from empirics.page import short
from theory.entropy_coded import GISH_PIERCE

Tables = Mapping[str, pd.DataFrame]

BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = plots.LINES
HIGHEST = 2.4
"""Bits above R(D) that an axis of gaps reaches."""

RATE = "bits per weight, all counted"


class Series(NamedTuple):
    """A curve of a figure: its label, the rows that it is of, and its looks."""

    label: str
    quantizer: str
    dimension: int
    block_size: str
    scale_format: str
    colour: str
    marker: str
    line: str = "-"

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Its rows with a gap, from the lowest rate to the highest."""
        mine = frame[
            (frame["quantizer"] == self.quantizer) & (frame["dimension"] == self.dimension)
            & (frame["block_size"] == self.block_size) & (frame["scale_format"] == self.scale_format)
        ]  # fmt: skip
        return mine[mine["gap_lower"].notna()].sort_values("effective_bits")


LINES = (
    Series("uniform, one scale", "symmetric", 1, "tensor", "fp32", RED, "v"),
    Series("uniform, a scale a row", "sym", 1, "row", "fp16", ORANGE, "^"),
    Series("uniform, groups of 64", "sym", 1, "64", "fp16", ORANGE, "o"),
    Series("uniform, best clip", "clipped_optimally", 1, "tensor", "fp32", SKY, "s"),
    Series("Lloyd-Max", "lloyd_max", 1, "tensor", "fp32", BLUE, "D"),
    Series("scalar, entropy-coded", "entropy_coded", 1, "tensor", "fp32", GREEN, "P"),
)
E8 = Series("E8, entropy-coded", "E8", 8, "tensor", "fp32", BLACK, "X")
POINTS = (
    Series("NF4", "nf4", 1, "64", "fp32", PINK, "o"),
    Series("NF4, double", "nf4", 1, "64", "double", PINK, "d"),
    Series("FP4", "fp4", 1, "64", "fp32", PINK, "v"),
)
KMEANS = Series("k-means, pairs", "kmeans", 2, "tensor", "fp32", plots.TOTAL, ".", ":")
EVERYTHING = (*LINES, E8, *POINTS, KMEANS)


def curves(tables: Tables, name: str, slb: float) -> Figure:
    """Draw a matrix: distortion over the rate, with theory under the points; then the bits above R(D).

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Its quantizers and theory.
    name : str
        The matrix.
    slb : float
        Entropy power of the fitted law in units of the matrix's variance: Shannon's bound is this over 4**rate.
    """
    quantizers, theory = (tables[table][tables[table]["name"] == name] for table in ("quantizers", "theory"))
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(10, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
        last = 1.03 * quantizers["effective_bits"].max()
        left.plot([0, last], [1, 4.0**-last], color=plots.FAINT, linewidth=0.9, linestyle="--", label="Gaussian")
        law = theory[theory["curve"] == "rd_law"].sort_values("mse", ascending=False)
        deep = law["rate_upper"].max() if len(law) else 0.0  # from where Shannon's bound and R(D) are one line
        left.plot([*law["rate_upper"], deep, last], [*law["mse"], slb * 4.0**-deep, slb * 4.0**-last], color=BLACK,
                  linewidth=1.4, label="R(D), fitted law")  # fmt: skip
        for curve, label, looks in (
            ("rd_histogram", "R(D), exact histogram",
             {"marker": "o", "markerfacecolor": "none", "markersize": 8, "linestyle": ""}),
            ("ecsq_law", "entropy-coded scalar, fitted law", {"linestyle": ":"}),
            ("lloyd_max_law", "Lloyd-Max, fitted law", {"linestyle": "-."}),
        ):  # fmt: skip
            found = theory[theory["curve"] == curve]
            left.plot(found["rate_upper"], found["mse"], color=plots.TOTAL, linewidth=0.9, label=label, **looks)
        for series in EVERYTHING:
            points = series.of(quantizers)
            left.plot(points["effective_bits"], points["mse"], series.marker, color=series.colour, markersize=4)
        left.set_yscale("log")
        left.yaxis.set_major_formatter(lambda value, _: f"{value:.12f}".rstrip("0").rstrip("."))
        left.set_xlim(0, last)
        left.legend(loc="lower left")
        left.set_title("mean squared error, in units of the variance", loc="left")
        _gaps(right, quantizers, EVERYTHING)
        _label(right, quantizers, last)
        right.set_xlim(0, 1.38 * last)
        right.set_xticks(range(int(last) + 1))
        right.set_title("bits above R(D) of the fitted law", loc="left")
        for panel in (left, right):
            panel.set_xlabel(RATE)
            panel.grid(axis="both")
        figure.suptitle(plots.clean(name))
    return figure


def _gaps(panel: Axes, frame: pd.DataFrame, chosen: Sequence[Series]) -> None:
    """Bits above R(D) over the effective rate, with one standard error."""
    error = "gap_error" if "gap_error" in frame else "gap_lower_error"
    for series in chosen:
        points = series.of(frame)
        panel.errorbar(
            points["effective_bits"], points["gap_lower"], points[error].fillna(0), color=series.colour,
            marker=series.marker, linestyle=series.line, markersize=4, linewidth=1.1, elinewidth=0.8,
        )  # fmt: skip
    last = 1.03 * frame["effective_bits"].max()
    panel.plot([0, last], [0, 0], color=BLACK, linewidth=1.2)
    panel.plot([0, last], [GISH_PIERCE] * 2, color=GREEN, linewidth=0.7, linestyle=":")
    panel.set_ylim(-0.1, HIGHEST)


def _label(panel: Axes, frame: pd.DataFrame, last: float) -> None:
    """Names of the lines in a column at their right ends; those of points beside them."""
    ends: list[tuple[float, float, str, str]] = [
        (last, 0.0, "R(D)", BLACK), (last, GISH_PIERCE, "best scalar at high rate", GREEN),
    ]  # fmt: skip
    for series in LINES:
        points = series.of(frame)
        points = points[points["gap_lower"] <= HIGHEST]
        if len(points):
            ends.append((*points[["effective_bits", "gap_lower"]].iloc[-1], series.label, series.colour))
    for (x, y, label, colour), height in zip(ends, spread([y for _, y, _, _ in ends], 0.085), strict=True):
        panel.annotate(
            label, (x, y), (1.03 * last, height), color=colour, fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
    beside = ((0, -9, "center"), (0, 13, "center"), (6, 2, "left"), (6, 0, "left"), (6, -5, "left"))
    for series, (right, up, align) in zip((E8, *POINTS, KMEANS), beside, strict=True):
        points = series.of(frame)
        if len(points):
            panel.annotate(
                series.label, points[["effective_bits", "gap_lower"]].iloc[-1], (right, up),
                textcoords="offset points", color=series.colour, fontsize=8, va="center", ha=align,
            )  # fmt: skip


def spread(heights: Sequence[float], least: float) -> list[float]:
    """Heights moved apart, up, to a least distance, in their order.

    >>> spread([1.0, 0.0, 0.25], 0.5)
    [1.0, 0.0, 0.5]
    """
    moved, last = [0.0] * len(heights), -math.inf
    for i in np.argsort(heights, kind="stable"):
        last = moved[i] = max(float(heights[i]), last + least)
    return moved


def gaps(tables: Tables, drawn: Mapping[str, str], model: str) -> Figure:
    """Draw the bits above R(D): the model's mean, then a matrix of each role.

    Parameters
    ----------
    tables : mapping of str to DataFrame
    drawn : mapping of str to str
        Role to the name of its matrix.
    model : str
    """
    group = tables["groups"]
    mean = pd.concat([group[group["group"] == EVERY],
                      group[(group["group"] == SAMPLE) & (group["family"] == "lattice")]])  # fmt: skip
    views = {"mean of all matrices": mean}
    for role, name in drawn.items():
        views[f"{role}: {short(name)}"] = tables["quantizers"][tables["quantizers"]["name"] == name]
    with matplotlib.rc_context(plots.STYLE):
        rows = -(-len(views) // plots.COLUMNS)
        figure = Figure(figsize=(9, 0.7 + 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, plots.COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
        for panel in panels[len(views) :]:
            panel.remove()
        chosen = (*LINES, E8, *POINTS[:2])
        for i, (panel, (title, frame)) in enumerate(zip(panels, views.items(), strict=False)):
            _gaps(panel, frame, chosen)
            panel.set_title(plots.clean(title), weight="normal" if i else "bold")
            panel.grid(axis="both")
            if i + plots.COLUMNS >= len(views):
                panel.tick_params(labelbottom=True)
                panel.set_xlabel(RATE)
        handles = [Line2D([], [], color=s.colour, marker=s.marker, markersize=4, label=s.label,
                          linewidth=0 if s in POINTS else 1.1) for s in chosen]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
        figure.supylabel("bits above R(D) of the fitted law", fontsize=9)
        figure.suptitle(f"{plots.clean(model)}: what each quantizer costs above the limit")
    return figure


def groups(tables: Tables, model: str) -> Figure:
    """Draw attention, MLP and embeddings beside each other, a panel a quantizer; bars are one standard error."""
    frame = tables["groups"]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        chosen = (LINES[0], LINES[2], LINES[4], LINES[5])
        panels = figure.subplots(1, len(chosen), sharex=True)
        for panel, series in zip(panels, chosen, strict=True):
            for group, colour, marker in zip(GROUPS, (BLUE, RED, GREEN), "osD", strict=True):
                points = series.of(frame[frame["group"] == group]).sort_values("nominal_bits")
                panel.errorbar(
                    points["nominal_bits"], points["gap_lower"], points["gap_lower_error"].fillna(0), marker=marker,
                    color=colour, markersize=3.5, linewidth=1.1, elinewidth=0.9, capsize=2, label=group,
                )  # fmt: skip
            panel.set_title(series.label)
            panel.grid(axis="y")
            panel.set_ylim(bottom=0)
            panel.set_xlabel("nominal bits per weight")
        panels[0].set_ylabel("bits above R(D)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(f"{plots.clean(model)}: attention, MLP and embeddings")
    return figure


def limits(tables: Tables, model: str) -> Figure:
    """Draw by how much R(D) of each matrix is below the Gaussian's, at each target: of the law and the histogram."""
    frame = tables["limits"]
    place, centres, edges = _places(frame)
    targets = sorted(frame["target"].unique())
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 0.9 + 2.1 * len(targets)), layout="constrained")
        panels = figure.subplots(len(targets), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for panel, target in zip(panels, targets, strict=True):
            mine = frame[frame["target"] == target]
            at = [place[name] for name in mine["name"]]
            for column, label, looks in (
                ("law", "fitted law", {"marker": "o", "color": BLUE}),
                ("histogram", "exact histogram", {"marker": "s", "color": RED, "markerfacecolor": "white"}),
            ):  # fmt: skip
                low, high = mine[f"{column}_lower"] - mine["gaussian"], mine[f"{column}_upper"] - mine["gaussian"]
                panel.vlines(at, low, high, color=looks["color"], linewidth=1.5)
                panel.plot(at, high, linestyle="", markersize=4, label=label, **looks)
            panel.axhline(0, color=plots.TOTAL, linewidth=0.8)
            panel.set_title(f"mean squared error {target:g} of the variance: the Gaussian needs"
                            f" {math.log2(1 / target) / 2:.3f} bits", loc="left")  # fmt: skip
            _strip(panel, centres, edges)
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.supylabel("R(D) less the Gaussian’s (bits)", fontsize=9)
        figure.suptitle(f"{plots.clean(model)}: what the shape of the weights saves")
    return figure


def sensitivity(tables: Tables, model: str) -> Figure:
    """Draw the error of symmetric 4-bit integers by row, for each matrix: relative to the variance, and absolute."""
    frame = tables["sensitivity"]
    place, centres, edges = _places(frame)
    at = [place[name] for name in frame["name"]]
    scale: Any = frame["mse_absolute"] / frame["mse"]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for panel, unit, label in ((upper, 1.0, "relative to the variance"), (lower, scale, "absolute")):
            panel.errorbar(at, frame["mse"] * unit, frame["mse_error"] * unit, fmt="o", color=BLUE, markersize=4,
                           elinewidth=0.9)  # fmt: skip
            panel.set_title(label, loc="left")
            panel.set_ylim(bottom=0)
            _strip(panel, centres, edges)
        figure.supylabel("mean squared error", fontsize=9)
        figure.suptitle(f"{plots.clean(model)}: symmetric 4-bit integers, a scale for each row")
    return figure


def _places(frame: pd.DataFrame) -> tuple[dict[str, float], dict[str, float], list[float]]:
    matrices = frame[["name", "role", "layer"]].itertuples(index=False)
    return plots.places((name, role, None if pd.isna(layer) else int(layer)) for name, role, layer in matrices)


def _strip(panel: Axes, centres: dict[str, float], edges: list[float]) -> None:
    """An axis of matrices, by role and from the first layer to the last."""
    for edge in edges:
        panel.axvline(edge, color="#D0D0D0", linewidth=0.6)
    panel.set_xlim(edges[0], edges[-1])
    panel.set_xticks(list(centres.values()), [plots.clean(role) for role in centres])
    panel.tick_params(axis="x", length=0)
    panel.grid(axis="y")
