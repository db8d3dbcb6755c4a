"""What ``quantgap run clipping`` shows: what a language gains by clips of its own, as predicted and as measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from empirics import plots
from empirics.correlation import Correlation
from empirics.experiments.result import View

Rows = Sequence[dict[str, Any]]

METHOD = {
    "own clips": "For each matrix the clip with the least Σ s_j (w_ij − Q(w_ij))², exact on the histogram of the"
    " weights; s_j is the mean square of input j on the language’s texts.",
    "one for all": "The same with the mean of s_j over the languages. Unweighted: with s_j = 1. Kurtosis rule:"
    " σ (2.5 + 0.3 ln(1 + max(0, excess kurtosis))).",
    "held out": "Clips are found on every other text of a language and applied to the others, then the other way"
    " round.",
    "change": "Mean logits MSE over that under one clip for all languages, less 1, on the same texts: the mean over"
    " shifted grids. A grid is shifted for each weight by up to half a step (subtractive dither), alike under both"
    " clips; unshifted is the quantizer as one would use it, a single draw of its rounding errors.",
    "predicted": "First order, for errors that do not depend on each other: each matrix’s weighted error times"
    " tr(G)/(V rows Σ s_j), with the inputs of the texts held out.",
    "detectable": "The change that as many texts and grids would find with a power of 0.8 in a test at 5 %.",
    "standard errors": "Of the grids and of the texts, added in squares; intervals by Student’s t with the degrees of"
    " freedom of the grids.",
}  # fmt: skip


def answer(
    rows: Rows, policies: Rows, everything: dict[str, Any], verdict: str, direction: Correlation | None
) -> list[str]:
    """Whether own clips help, as much as predicted, and what matters more."""
    moves = 100 * float(np.mean([row["clip_moves"] for row in rows]))
    noise = 100 * float(np.mean([row["grid_error"] for row in rows])) * everything["grids"] ** 0.5
    best, worst = (pick(rows, key=lambda row: row["change"]) for pick in (min, max))
    wider = "" if direction is None else (
        f" Over the {direction.n} languages it correlates with that width with r = {direction.r:.2f}"
        f" [{direction.low:.2f}, {direction.high:.2f}], permutation p = {direction.p_permutation:.2g}. (The"
        " prediction takes errors for independent; those of clipped weights all point inwards.)"
    )  # fmt: skip
    shares = "; ".join(
        f"{row['clips']} {100 * row['change']:+.1f} ± {100 * row['change_error']:.1f} % (predicted"
        f" {100 * row['predicted']:+.1f} %)" for row in policies
    )  # fmt: skip
    return [
        f"That a language gains by clips of its own is {verdict}: its logits MSE changes by"
        f" {100 * everything['change']:+.2f} ± {100 * everything['change_error']:.2f} % against one clip for all (p ="
        f" {everything['p']:.2g}; predicted {100 * everything['predicted']:+.2f} %), on {everything['texts']:.0f}"
        f" held-out texts and {everything['grids']:.0f} grids, which would find a change of"
        f" {100 * everything['detectable']:.1f} %.",
        f"Own clips differ from one for all by {moves:.1f} %, and mere redrawing of the rounding errors moves a"
        f" language’s logits MSE by {noise:.1f} % (standard deviation): a comparison of two models quantized once,"
        " with errors over texts alone, would find effects that are not there.",
        f"By language the change is {100 * best['change']:+.1f} ± {100 * best['change_error']:.1f} %"
        f" ({best['language']}, clips {best['clip_ratio']:.3f} times as wide) to {100 * worst['change']:+.1f} ±"
        f" {100 * worst['change_error']:.1f} % ({worst['language']}, {worst['clip_ratio']:.3f}).{wider}",
        f"Which clip all languages share matters more. Against the one weighted by activations: {shares}.",
    ]  # fmt: skip


def views(rows: Rows, policies: Rows) -> list[View]:
    """By language, then other clips for all."""
    formats = {"change %": "+.2f", "predicted %": "+.2f", "unshifted %": "+.2f", "detectable %": ".1f", "p": ".2g",
               "own/all": ".3f"}  # fmt: skip
    caption = "Change of the logits MSE against one clip for all languages; ± one standard error, of grids and texts."
    caption += " own/all: own clip over that one, geometric mean."

    def shown(kind: str, row: dict[str, Any]) -> dict[str, Any]:
        found = {kind: row[kind]} | {
            f"{name} %": 100 * row[name] for name in ("change", "predicted", "unshifted", "detectable")
        }  # fmt: skip
        found |= {"change %_error": 100 * row["change_error"], "p": row["p"], "texts": row["texts"]}
        return found | ({"own/all": row["clip_ratio"]} if "clip_moves" in row else {})

    return [
        View(title, pd.DataFrame([shown(kind, row) for row in those]), formats, caption)
        for title, kind, those in (
            ("Clips of a language’s own", "language", rows), ("Other clips for all languages", "clips", policies),
        )
    ]  # fmt: skip


def figures(
    rows: Rows, draws: pd.DataFrame, clips: pd.DataFrame, model: str, bits: int
) -> dict[str, tuple[Figure, str]]:
    """The change by language, measured and predicted, and how the clips differ."""
    return {
        "languages": (
            _figure(rows, draws, clips, model, bits),
            "Left: change of the logits MSE with a language’s own clips: mean and 95 % interval, each shifted grid"
            " (dots), the unshifted one (cross), predicted (diamond). Right: own clips over the one for all, a"
            " point a matrix and half of the texts.",
        )
    }  # fmt: skip


def _figure(rows: Rows, draws: pd.DataFrame, clips: pd.DataFrame, model: str, bits: int) -> Figure:
    names = [row["language"] for row in rows]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 1.4 + 0.42 * max(len(names), 3)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.7, 1), sharey=True)
        for y, row in enumerate(rows):
            mine = draws[draws["language"] == row["language"]]
            dots = 100 * mine[mine["draw"] > 0]["change"]
            left.plot(dots, [y + 0.22] * len(dots), ".", color=plots.FAINT, markersize=4)
            left.plot(100 * row["unshifted"], y + 0.22, "x", color=plots.LOSS, markersize=5)
            left.plot([100 * row["low"], 100 * row["high"]], [y, y], color=plots.LINES[0], linewidth=1.4)
            left.plot(100 * row["change"], y, "o", color=plots.LINES[0], markersize=4.5)
            left.plot(100 * row["predicted"], y, "D", color="white", markeredgecolor=plots.TOTAL, markersize=4.5)
            own = clips[clips["clips"] == row["language"]]["over_one_for_all"].to_numpy()
            right.plot(own, y + np.linspace(-0.25, 0.25, len(own)), ".", color=plots.LINES[0], markersize=3)
        left.axvline(0, color=plots.TOTAL, linewidth=0.8)
        left.set_yticks(range(len(names)), [plots.clean(name) for name in names])
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_xlabel("change of the logits MSE against one clip for all (%)")
        left.grid(axis="x")
        right.axvline(1, color=plots.TOTAL, linewidth=0.8)
        right.set_xlabel("own clip / one for all")
        right.grid(axis="x")
        figure.suptitle(f"{plots.clean(model)}: a clip for each language, {bits} bits, one clip a matrix")
    return figure
