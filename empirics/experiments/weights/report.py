"""What ``quantgap run weights`` shows: figures by layer and by role, tables, sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from empirics import plots
from empirics.experiments.result import View
from empirics.page import counted, short

Records = Sequence[dict[str, Any]]

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
"""Of the rows' root mean squares, in units of the matrix's: columns ``row_rms_1`` to ``row_rms_99``."""

METHOD = {
    "β": "Maximum-likelihood exponent of the generalized Gaussian (2 Gaussian, 1 Laplace): of all weights pooled,"
    " within rows that have scales of their own, within blocks of 64.",
    "divergence": "Kullback-Leibler divergence from the Gaussian of the same mean and variance, bits per weight; at"
    " equal variance that is the entropy bonus. Of the fitted law; without a model, by bins of 0.1 standard"
    " deviations with the sampling bias taken off; and as the notebooks compute it, 200 bins between the extremes.",
    "bonus as reported": "Entropy bonus with 1/β nats added to bits, as the notebooks do.",
    "spread": "½ log₂ of the arithmetic over the geometric mean of the second moments of rows or columns, bits per"
    " weight: what knowing them is worth. Noise is what of it equal rows would have too.",
    "Kolmogorov distance": "Largest difference between the cumulative distributions of the weights and of the fit.",
    "standard errors": "Clustered by row and by column (β pooled, kurtosis, divergences, outliers); by row, column or"
    " block (the others).",
}


def answer(records: Records) -> list[str]:
    """The exponents, what non-Gaussianity is worth, and where the rows differ."""
    size = np.array([r["weights"] for r in records], dtype=np.float64)

    def mean(name: str) -> float:
        return float(size @ [r[name] for r in records] / size.sum())

    def span(name: str) -> str:
        values = [r[name] for r in records]
        return f"{min(values):.2f} to {max(values):.2f}"

    widest = max(records, key=lambda r: r["row_spread"])
    return [
        f"In {counted(len(records), 'matrix')} the pooled weights have exponents of {span('beta')} (2 is Gaussian),"
        f" those within rows of {span('beta_row')}: where rows differ in scale, the pooled tail is heavier than that"
        " of any row.",
        f"A code that knows the law of the weights saves {mean('kl_binned'):.4f} bits a weight over a Gaussian one"
        f" (fit: {mean('kl_ggd'):.4f}; as the notebooks estimate it: {mean('kl_notebook'):.4f}; their “entropy"
        f" bonus”: {mean('bonus_reported'):.3f}). One that knows the rows’ variances saves {mean('row_spread'):.4f},"
        f" most in {short(widest['name'])}: {widest['row_spread']:.3f}.",
    ]  # fmt: skip


def views(records: Records, roles: Records) -> list[View]:
    """Roles, then matrices."""
    columns = {
        "beta": "β", "beta_row": "β in rows", "beta_block": "β in 64", "kurtosis": "kurtosis", "ks": "distance",
        "kl_ggd": "KL fit", "kl_binned": "KL", "kl_notebook": "KL rep.", "bonus_reported": "bonus rep.",
        "row_spread": "rows", "column_spread": "columns", "largest": "largest",
    }  # fmt: skip
    formats = dict.fromkeys(columns.values(), ".3f") | dict.fromkeys(("distance", "KL fit", "KL", "KL rep."), ".4f")
    formats |= {"kurtosis": ".2f", "largest": ".1f"}
    errors = {f"{name}_error": f"{shown}_error" for name, shown in columns.items()}
    with_errors = ("beta", "beta_row", "beta_block", "kurtosis")
    caption = (
        "± one standard error. Bits per weight: KL (divergence from the Gaussian), bonus, rows and columns (spread of"
        " their variances). Distance: Kolmogorov’s, of the fit. Largest: in standard deviations. rep.: as the"
        " notebooks compute it."
    )

    def made(title: str, rows: Records, head: list[str], without: tuple[str, ...] = ()) -> View:
        frame = pd.DataFrame(rows)
        chosen = [c for name in columns if name not in without for c in (name, f"{name}_error")
                  if c in frame and (c == name or name in with_errors)]  # fmt: skip
        if "name" in head:
            frame = frame.assign(name=[short(name) for name in frame["name"]])
        named = frame[head + chosen].rename(columns=columns | errors | {"name": "matrix"})
        return View(title, named, formats, caption)

    narrow = ("ks", "column_spread")  # a terminal has 120 columns
    return [made("Weights by role", roles, ["role"], narrow), made("Weights by matrix", records, ["name", "role"])]


def figures(records: Records, model: str) -> dict[str, tuple[Figure, str]]:
    """Depth profiles, where a matrix is in a layer; roles beside each other; the rows' scales."""
    made = {}
    if any(r["layer"] is not None for r in records):
        made["depth"] = (
            depth(records, model),
            "Exponents, kurtosis and spread of the rows against the layer, a line for each role; bars are one"
            " standard error.",
        )
    made["comparison"] = (
        comparison(records, model), "Each matrix a point, by its role; the bar is the mean over weights.",
    )  # fmt: skip
    made["rows"] = (
        rows(records, model),
        "Root mean square of the rows in units of their matrix’s: median (dot), middle 80 % (thick), middle 98 %"
        " (thin).",
    )
    return made


VIEWS: tuple[tuple[str, str, str], ...] = (
    ("beta", "exponent, all rows pooled", "β"),
    ("beta_row", "exponent within rows", "β"),
    ("kurtosis", "kurtosis", "dimensionless"),
    ("row_spread", "spread of the rows’ variances", "bits per weight"),
)


def depth(records: Records, model: str) -> Figure:
    """Draw exponent, kurtosis and spread of the rows against the layer: a line for each role, mean over experts.

    Error bars are one standard error.
    """
    inside = [r for r in records if r["layer"] is not None]
    roles = in_order({r["role"] for r in inside})
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
        panels[1].sharey(panels[0])  # before anything is drawn: later, it would cut off
        for panel, (name, title, unit) in zip(panels, VIEWS, strict=True):
            for role, marker, colour in zip(roles, itertools.cycle(plots.MARKERS), itertools.cycle(plots.LINES)):
                at: dict[int, list[tuple[float, float | None]]] = {}
                for r in inside:
                    if r["role"] == role:
                        at.setdefault(r["layer"], []).append((r[name], r[f"{name}_error"]))
                layers = sorted(at)
                means = [np.mean([v for v, _ in at[i]]) for i in layers]
                errors = [math.hypot(*(e or 0.0 for _, e in at[i])) / len(at[i]) for i in layers]
                panel.errorbar(
                    layers, means, errors, marker=marker, color=colour, markersize=3.5, linewidth=1.1, elinewidth=0.8,
                    markevery=max(1, len(layers) // 8), label=plots.clean(role),
                )  # fmt: skip
            panel.set_title(title)
            panel.set_ylabel(unit)
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            panel.grid(axis="y")
        for panel in panels[2:]:
            panel.set_xlabel("layer")
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=11)
        figure.suptitle(f"{plots.clean(model)}: weights by layer")
    return figure


def comparison(records: Records, model: str) -> Figure:
    """Draw the same four quantities by role: a point a matrix, a bar the mean over weights."""
    roles = in_order({r["role"] for r in records})
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 5.2), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
        panels[1].sharey(panels[0])  # before anything is drawn: later, it would cut off
        for panel, (name, title, unit) in zip(panels, VIEWS, strict=True):
            for i, role in enumerate(roles):
                chosen = [r for r in records if r["role"] == role]
                size, values = [r["weights"] for r in chosen], [r[name] for r in chosen]
                # Spread over the width of the role in the order of depth.
                at = i + (np.linspace(-0.28, 0.28, len(chosen)) if len(chosen) > 1 else np.zeros(1))
                panel.scatter(at, values, s=9, color=plots.LINES[0], linewidths=0, zorder=3)
                panel.hlines(np.average(values, weights=size), i - 0.36, i + 0.36, color=plots.LOSS, linewidth=1.6)
            panel.set_title(title)
            panel.set_ylabel(unit)
            panel.set_xticks(range(len(roles)), [plots.clean(role) for role in roles])
            panel.tick_params(axis="x", length=0)
            panel.grid(axis="y")
        figure.suptitle(f"{plots.clean(model)}: roles beside each other, each from the first layer to the last")
    return figure


def rows(records: Records, model: str) -> Figure:
    """Draw how the rows' root mean squares are spread in each matrix, on a logarithmic scale."""
    names = [f"row_rms_{100 * q:g}" for q in QUANTILES]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        panel = figure.subplots()
        place, centres, edges = plots.places([(r["name"], r["role"], r["layer"]) for r in records])
        for r in records:
            low, left, middle, right, high = (r[name] for name in names)
            x = place[r["name"]]
            panel.vlines(x, low, high, color=plots.LINES[5], linewidth=1.0)
            panel.vlines(x, left, right, color=plots.LINES[0], linewidth=2.6)
            panel.plot(x, middle, "o", color="white", markersize=3.2, markeredgecolor=plots.LINES[0], zorder=3)
        for edge in edges:
            panel.axvline(edge, color="#D0D0D0", linewidth=0.6)
        panel.axhline(1, color=plots.TOTAL, linewidth=0.8)
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_xlim(edges[0], edges[-1])
        panel.set_xticks(list(centres.values()), [plots.clean(role) for role in centres])
        panel.tick_params(axis="x", length=0)
        panel.set_ylabel("row’s root mean square / matrix’s")
        panel.grid(axis="y")
        figure.suptitle(f"{plots.clean(model)}: how unequal the rows are")
    return figure


def in_order(roles: set[str]) -> list[str]:
    """The roles that are known from the embedding to the head, then the others by name."""
    return [role for role in plots.ROLES if role in roles] + sorted(roles - set(plots.ROLES))
