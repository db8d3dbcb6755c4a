"""What ``quantgap run weights`` shows: a figure by layer, a table by role."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.table import Table
from rich.text import Text

from empirics import plots

if TYPE_CHECKING:
    from empirics.experiments.weights import WeightsTable


def depth(table: WeightsTable) -> Figure:
    """Draw exponent, kurtosis and spread of the rows against the layer: a line for each role, mean over experts.

    Error bars are one standard error.
    """
    records = [r for r in table.records() if r["layer"] is not None]
    views: list[tuple[str, str, Callable[[dict[str, Any]], tuple[float, float | None]]]] = [
        ("exponent, all rows pooled", "β", lambda r: (r["beta"], r["beta_error"])),
        ("exponent within rows", "β", lambda r: (r["beta_row"], r["beta_row_error"])),
        ("kurtosis", "dimensionless", lambda r: (r["kurtosis"], r["kurtosis_error"])),
        ("spread of the rows’ variances", "bits per weight", lambda r: (r["row_spread"], r["row_spread_error"])),
    ]
    roles = in_order({r["role"] for r in records})
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for panel, (title, unit, value) in zip(panels, views, strict=True):
            for role, marker, colour in zip(roles, itertools.cycle(plots.MARKERS), itertools.cycle(plots.LINES)):
                at: dict[int, list[tuple[float, float | None]]] = {}
                for r in records:
                    if r["role"] == role:
                        at.setdefault(r["layer"], []).append(value(r))
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
        panels[1].sharey(panels[0])
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=11)
        figure.suptitle(f"{plots.clean(table.model)}: weights by layer")
    return figure


def printed(table: WeightsTable) -> Table:
    """The terminal's table: a row for each role."""
    made = Table(
        title=f"{plots.clean(table.model)}: weights by role", title_justify="left", box=box.SIMPLE, pad_edge=False,
        collapse_padding=True, caption_justify="left",
        caption="means over weights ± standard error; in bits: divergence from the Gaussian (the entropy bonus) of"
        " the fit and without a model, both as the notebooks report them, spread of rows; largest in deviations",
    )  # fmt: skip
    for heading in ("role", "β", "β in rows", "β in 64", "kurtosis", "KL fit", "KL", "KL rep.", "bonus rep.", "rows",
                    "largest"):  # fmt: skip
        made.add_column(heading, justify="left" if heading == "role" else "right", no_wrap=True)
    for row in table.roles():
        pairs = [
            f"{row[name]:.{digits}f}±" + ("?" if (error := row[f"{name}_error"]) is None else f"{error:.{digits}f}")
            for name, digits in (("beta", 3), ("beta_row", 3), ("beta_block", 3), ("kurtosis", 2))
        ]
        made.add_row(
            Text(plots.clean(row["role"])), *pairs, f"{row['kl_ggd']:.4f}", f"{row['kl_binned']:.4f}",
            f"{row['kl_notebook']:.4f}", f"{row['bonus_reported']:.3f}", f"{row['row_spread']:.3f}",
            f"{row['largest']:.1f}",
        )  # fmt: skip
    return made


def in_order(roles: set[str]) -> list[str]:
    """The roles that are known from the embedding to the head, then the others by name."""
    return [role for role in plots.ROLES if role in roles] + sorted(roles - set(plots.ROLES))
