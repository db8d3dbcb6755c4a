"""What ``quantgap run layers`` shows: the parts as predicted and as measured, and whether they add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirics import plots
from empirics.experiments.degradation import Degradation
from empirics.experiments.result import View
from empirics.page import plus_minus

Rows = Sequence[dict[str, Any]]

METHOD = {
    "alone": "One layer, or all matrices of one role, is quantized and the rest left as it is.",
    "in the whole": "What everything quantized has more than everything but that part.",
    "predicted": "Σ m_l tr(G_l)/V over the matrices of the part: m_l is the mean squared error of its weights as"
    " quantized, tr(G_l) the mean over tokens of the squared Jacobian of the logits, by random probes, V the"
    " vocabulary. First order, for errors that point nowhere in particular.",
    "share": "Of the sum over the parts, each alone.",
    "additivity": "Sum of the parts, each alone, against all together: a t test over texts, paired.",
    "standard errors": "Clustered by text; of predictions, over the probes.",
}


def answer(rows: Rows, tests: dict[str, Any], agreement: dict[str, Any], everything: Degradation) -> list[str]:
    """Which part is largest, whether theory knew, whether the parts add up."""
    said = []
    for kind, test in tests.items():
        mine = [row for row in rows if row["kind"] == kind]
        first = max(mine, key=lambda row: row["measured"])
        off = max(mine, key=lambda row: abs(np.log(row["predicted"] / row["measured"])))
        found = agreement[kind]
        with_r = (
            f" Logarithms of predicted and measured parts correlate with r = {found['r']:.3f} [{found['low']:.2f},"
            f" {found['high']:.2f}], permutation p = {found['p']:.2g}; {found['n']} points see a true correlation of"
            f" {found['effect']:g} with a power of {found['power']:.2f}."
            if found else " Too few parts to correlate."
        )  # fmt: skip
        logits = test["logits_mse"]
        adds = "add up" if logits["p"] > 0.05 else "do not add up"
        said.append(
            f"By {kind}: the largest part of the logits MSE is {kind} {first['group']},"
            f" {100 * first['share']:.1f} ± {100 * first['share_error']:.1f} % (predicted"
            f" {100 * first['predicted_share']:.1f} %). The prediction is furthest off for {kind} {off['group']}:"
            f" {off['predicted'] / off['measured']:.2f} times what is measured.{with_r} The parts {adds}: their sum"
            f" differs from all together by {100 * logits['excess']:+.1f} ± {100 * logits['excess_error']:.1f} %"
            f" (p = {logits['p']:.2g})."
        )
    loss, texts = everything.mean("loss_change"), everything.mean("loss_change").clusters
    said.append(
        f"All together change the loss by {plus_minus(loss.value, loss.standard_error)} nats per token and the logits"
        f" by {everything.mean('logits_mse').value:.3g} in mean square, on {texts} texts"
        f"{': a small sample' if loss.small else ''}."
    )
    return said


def views(rows: Rows) -> list[View]:
    """Layers, then roles."""
    columns = {
        "group": "group",
        "relative_weight_mse": "weight MSE",
        "predicted": "predicted",
        "measured": "alone",
        "measured_error": "alone_error",
        "within": "in the whole",
        "predicted_share": "share pred.",
        "share": "share",
        "share_error": "share_error",
        "kl_bits": "KL (bits)",
        "loss_change": "loss change",
        "loss_change_error": "loss change_error",
    }
    formats = {"weight MSE": ".5f", "predicted": ".2e", "alone": ".2e", "in the whole": ".2e", "share pred.": ".3f",
               "share": ".3f", "KL (bits)": ".4f", "loss change": "+.4f"}  # fmt: skip
    made = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        frame = pd.DataFrame([row for row in rows if row["kind"] == kind])[list(columns)]
        named = frame.rename(columns=columns).rename(columns={"group": kind})
        caption = (
            "Logits MSE, predicted and measured; weight MSE over the mean square; loss change in nats per token."
        )
        made.append(View(f"Quantized one {kind} at a time", named, formats, caption))
    return made


def figures(
    rows: Rows, tests: dict[str, Any], everything: Degradation, model: str, quantizer: str
) -> dict[str, tuple[Figure, str]]:
    """The parts, and their agreement with what was predicted."""
    return {
        "parts": (
            _parts(rows, tests, model, quantizer),
            "Logits MSE of each part: predicted to first order, measured with it alone quantized, and what it adds"
            " when everything else is quantized too. The last group: the sum of the parts, and all together. Bars"
            " are one standard error.",
        ),
        "agreement": (_agreement(rows, model, quantizer), "Predicted against measured, each part alone; the line is"
                      " equality, the band a factor 1.25."),
    }  # fmt: skip


def _parts(rows: Rows, tests: dict[str, Any], model: str, quantizer: str) -> Figure:
    series = (("predicted", "predicted", plots.LINES[4]), ("measured", "measured alone", plots.LINES[0]),
              ("within", "measured in the whole", plots.LINES[5]))  # fmt: skip
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 2.9 * len(tests)), layout="constrained")
        panels = figure.subplots(len(tests), 1, squeeze=False)[:, 0]
        for panel, (kind, test) in zip(panels, tests.items(), strict=True):
            mine = [row for row in rows if row["kind"] == kind]
            for shift, (name, label, colour) in zip((-0.27, 0.0, 0.27), series, strict=True):
                kept = [(i, row) for i, row in enumerate(mine) if row[name] is not None]
                at, heights = [i + shift for i, _ in kept], [row[name] for _, row in kept]
                panel.bar(at, heights, 0.25, color=colour, label=label,
                          yerr=[row[f"{name}_error"] for _, row in kept], error_kw={"linewidth": 0.8})  # fmt: skip
            end, logits = len(mine) + 0.3, test["logits_mse"]
            panel.bar(end - 0.14, logits["sum"], 0.25, color=plots.LINES[0])
            panel.bar(end + 0.14, logits["all"], 0.25, color=plots.TOTAL, label="all together")
            names = [plots.clean(row["group"]) for row in mine]
            panel.set_xticks([*range(len(mine)), end], [*names, "sum, all"])
            panel.tick_params(axis="x", length=0)
            panel.set_ylabel("logits MSE")
            panel.set_xlabel(kind)
            panel.grid(axis="y")
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle(f"{plots.clean(model)}, {quantizer}: the degradation, part by part")
    return figure


def _agreement(rows: Rows, model: str, quantizer: str) -> Figure:
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        panel = figure.subplots()
        both = [row[name] for row in rows for name in ("predicted", "measured")]
        ends = np.array([min(both) / 1.5, max(both) * 1.5])
        panel.fill_between(ends, ends / 1.25, ends * 1.25, color="#EBEBEB", linewidth=0)
        panel.plot(ends, ends, color=plots.TOTAL, linewidth=0.8)
        for kind, marker, colour in zip(dict.fromkeys(row["kind"] for row in rows), "os", plots.LINES, strict=False):
            mine = [row for row in rows if row["kind"] == kind]
            panel.errorbar(
                [row["predicted"] for row in mine], [row["measured"] for row in mine],
                [row["measured_error"] for row in mine], [row["predicted_error"] for row in mine], fmt=marker,
                color=colour, markersize=4, elinewidth=0.8, label=kind,
            )  # fmt: skip
            for row in mine:
                panel.annotate(plots.clean(row["group"]), (row["predicted"], row["measured"]), (5, -3),
                               textcoords="offset points", fontsize=7.5, color=colour)  # fmt: skip
        plots.logarithmic(panel.xaxis, panel.yaxis)
        panel.set_xlim(*ends)
        panel.set_ylim(*ends)
        panel.set_xlabel("predicted logits MSE, Σ m tr(G)/V")
        panel.set_ylabel("measured, alone")
        panel.legend(loc="upper left")
        figure.suptitle(f"{plots.clean(model)}, {quantizer}: first order and truth")
    return figure
