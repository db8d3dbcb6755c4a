"""Figures of a run: each function returns a matplotlib Figure, without pyplot and its global state."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from empirics.measure import Measurement
from theory.ledger import Ledger

LABELS = {
    "shape": "shape of the source",
    "shannon": "Shannon bound to R(D)",
    "scalar": "one weight at a time",
    "fixed-rate": "fixed-length indices",
    "block-scaling": "block scaling",
    "codebook": "this codebook",
    "rows": "rows of unequal variance",
    "unexplained": "unexplained",
    "format": "plain rounding to the format",
    "scales": "scales as stored",
    "method": "indices as stored",
}
"""Steps of the ledger, in a reader's words."""
NOMINAL, SIDE, EFFECTIVE = "gap at the nominal rate", "scales (side information)", "gap at the effective rate"

# Okabe and Ito's palette, which colour-blind readers can tell apart.
LOSS, GAIN, TOTAL, FAINT = "#D55E00", "#0072B2", "#3C3C3C", "#8A8A8A"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPpX"
ROLES = ("embedding", "position", "q", "k", "v", "qkv", "o", "gate", "gate_up", "up", "down", "other", "head")
COLUMNS = 3
BAND = 2.0
"""Per cent of the predicted distortion within which a prediction is called good."""

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "legend.frameon": False, "figure.titlesize": 10.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT, "axes.linewidth": 0.7,
    "xtick.color": TOTAL, "ytick.color": TOTAL, "axes.axisbelow": True,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.6, "figure.facecolor": "white",
    "text.parse_math": False, "svg.fonttype": "path", "svg.hashsalt": "quantgap",
}  # fmt: skip


def clean(text: str) -> str:
    """Text from a file without what could steer a terminal or break a page: control and direction characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def signed(value: float, digits: int = 3) -> str:
    """Format with a sign and a true minus; what rounds to zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if not text.strip("+-0.") else text.replace("-", "−")


def svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes each time; letters are outlines, so that it looks alike everywhere."""
    return _save(figure, format="svg", metadata={"Date": None, "Creator": None})


def png(figure: Figure, dpi: int = 200) -> bytes:
    """A figure as PNG."""
    return _save(figure, format="png", dpi=dpi, metadata={"Software": None})


def _save(figure: Figure, **options: Any) -> bytes:
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, **options)
    return out.getvalue()


def logarithmic(*axes: Axis) -> None:
    """Make axes logarithmic, with ticks in plain text: every decade, and 2 and 5 between where there are few.

    >>> axis = Figure().subplots().xaxis
    >>> logarithmic(axis)
    >>> [axis.get_major_formatter()(x, 0) for x in (0.002, 1.0, 1e-5)]
    ['0.002', '1', '10⁻⁵']
    """
    for axis in axes:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
        axis.set_major_formatter(lambda value, _: _power(value))
        axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f"{value:.4g}"
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    factor = f"{value / 10.0**exponent:.2g}"
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"


def waterfall(ledgers: Mapping[str, Ledger], title: str) -> Figure:
    """Draw where the bits go, a panel for each quantizer.

    Steps run downwards and share their names; bits run to the right, on one scale, so that panels compare.

    Parameters
    ----------
    ledgers : mapping of str to Ledger
        At least one, by the quantizer's name.
    title : str
        May be empty.

    Returns
    -------
    Figure
        In each panel the patches are the steps, in order, then the three of the totals.

    Raises
    ------
    ValueError
        If there is no ledger.
    """
    _some(ledgers, "waterfall", "ledger")
    with matplotlib.rc_context(STYLE):
        figure, panels = _grid(len(ledgers), 4.0, sharex=True, sharey=True)
        for panel, (name, ledger) in zip(panels, ledgers.items(), strict=True):
            names = _falls(panel, ledger)
            scales = ledger.effective_bits - ledger.bits
            panel.set_title(f"{name}: {ledger.bits:g} bits + {scales:.3g} for scales")
        for panel in panels[-COLUMNS:]:
            panel.tick_params(axis="x", labelbottom=True)
            panel.set_xlabel("bits above the Gaussian limit")
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.45, -0.55)
        low, high = (pick(limit for p in panels for limit in p.dataLim.intervalx) for pick in (min, max))
        # Room for the labels, which stand to the right of the bars.
        panel.xaxis.set_major_locator(MaxNLocator(5 if len(ledgers) > 1 else 9))
        panel.set_xlim(low - 0.03 * (high - low), high + (0.3 if len(ledgers) > 1 else 0.1) * (high - low))
        handles = [
            Patch(color=colour, label=label)
            for colour, label in ((LOSS, "costs bits"), (GAIN, "saves bits"), (TOTAL, "total"))
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        if title:
            figure.suptitle(clean(title))
    return figure


def _falls(panel: Axes, ledger: Ledger) -> list[str]:
    """One waterfall; returns the names of its bars, from the top."""
    bars, at = [], 0.0
    for step in ledger.steps:
        bars.append((LABELS.get(step.name, step.name), at, step.bits))
        at += step.bits
    bars.append((NOMINAL, 0.0, ledger.total))
    bars.append((SIDE, ledger.total, ledger.effective_bits - ledger.bits))
    bars.append((EFFECTIVE, 0.0, ledger.effective_total))
    for i, (name, start, bits) in enumerate(bars):
        total = name in (NOMINAL, EFFECTIVE)
        colour = TOTAL if total else LOSS if bits >= 0 else GAIN
        panel.barh(i, bits, 0.66, left=start, facecolor=colour, edgecolor=colour, linewidth=0.9)  # seen at 0 bits too
        panel.annotate(
            f"{bits:.3f}".replace("-", "−") if total else signed(bits), (max(start, start + bits), i), (4, 0),
            textcoords="offset points", va="center", fontsize=8.5, weight="bold" if total else "normal",
        )  # fmt: skip
    for i, (_, start, bits) in enumerate(bars[:-1]):
        panel.plot([start + bits] * 2, [i + 0.33, i + 0.67], color=FAINT, linewidth=0.8)
    panel.axvline(0, color=TOTAL, linewidth=0.8)
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
    return [name for name, _, _ in bars]


def predictions(measurements: Sequence[Measurement]) -> Figure:
    """Draw how far the measured distortion of each matrix is from the two predictions, a panel a quantizer.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one.

    Returns
    -------
    Figure
        Error bars are one standard error of the measured distortion.

    Raises
    ------
    ValueError
        If there is no measurement.
    """
    _some(measurements, "predictions", "measurement")
    names = list(dict.fromkeys(m.quantizer for m in measurements))
    place, centres, edges = places((s.name, s.role, s.layer) for s in (m.statistics for m in measurements))
    size = 4.0 if len(place) < 100 else 2.6
    series: tuple[tuple[str, str, str, str, Callable[[Measurement], float]], ...] = (
        ("iid model", "s", LOSS, "white", lambda m: m.predicted_mse_iid),
        ("row-conditional model", "o", GAIN, GAIN, lambda m: m.predicted_mse_row),
    )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.3 + 2.1 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for panel, name in zip(panels, names, strict=True):
            band = panel.axhspan(-BAND, BAND, color="#EBEBEB", linewidth=0)
            panel.axhline(0, color=TOTAL, linewidth=0.8)
            for edge in edges:
                panel.axvline(edge, color="#D0D0D0", linewidth=0.6)
            chosen = [m for m in measurements if m.quantizer == name]
            for shift, (label, marker, colour, face, predicted) in zip((-0.16, 0.16), series, strict=True):
                panel.errorbar(
                    [place[m.statistics.name] + shift for m in chosen],
                    [100 * (m.measured_mse / predicted(m) - 1) for m in chosen],
                    [100 * m.mse_error / predicted(m) for m in chosen],
                    fmt=marker, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=0.9,
                    elinewidth=0.8, label=label,
                )  # fmt: skip
            panel.set_title(name, loc="left")
            panel.set_xlim(edges[0], edges[-1])
        panel.set_xticks(list(centres.values()), [clean(role) for role in centres])
        panel.tick_params(axis="x", length=0)
        figure.supylabel("measured / predicted MSE − 1 (%)", fontsize=9)
        handles, labels = panel.get_legend_handles_labels()
        figure.legend([*handles, band], [*labels, f"±{BAND:g} %"], loc="outside upper center", ncols=3)
        panel.set_xlabel("matrices, by role and from the first layer to the last")
    return figure


def places(
    matrices: Iterable[tuple[str, str, int | None]],
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Where each (name, role, layer) stands on an axis, the middle of each role, the edges between roles."""
    found = {name: (role, layer) for name, role, layer in matrices}
    groups: dict[str, list[str]] = {role: [] for role in ROLES}
    for name, (role, _) in sorted(found.items(), key=lambda item: -1 if item[1][1] is None else item[1][1]):
        groups.setdefault(role, []).append(name)
    place, centres, edges = {}, {}, [0.0]
    for role, names in groups.items():
        if names:
            width = max(len(names) + 1.0, 0.075 * len(found))  # a role of one matrix has room for its name
            centres[role] = edges[-1] + width / 2
            for i, name in enumerate(names):
                place[name] = centres[role] + i - (len(names) - 1) / 2
            edges.append(edges[-1] + width)
    return place, centres, edges


def depth(measurements: Sequence[Measurement]) -> Figure:
    """Draw the exponents, and the gap for each quantizer, against the layer: a line for each role.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one. Matrices outside the layers, such as the embedding, are left out; where a layer has several
        of one role, such as experts, their mean is drawn.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If no matrix is in a layer.
    """
    inside = [m for m in measurements if m.statistics.layer is not None]
    _some(inside, "depth", "measurement of a matrix in a layer")
    quantizers = list(dict.fromkeys(m.quantizer for m in inside))
    first = [m for m in inside if m.quantizer == quantizers[0]]
    View = tuple[str, str, list[Measurement], Callable[[Measurement], float]]
    views: list[View] = [
        ("exponent, all rows pooled", "β", first, lambda m: m.statistics.beta),
        ("exponent within rows", "β", first, lambda m: m.statistics.beta_row),
    ]
    gaps: list[View] = [
        (f"gap of {q} at the nominal rate", "bits per weight", [m for m in inside if m.quantizer == q], _gap)
        for q in quantizers
    ]
    found = {m.statistics.role for m in inside}
    roles = [role for role in ROLES if role in found] + sorted(found - set(ROLES))
    lines = list(zip(roles, itertools.cycle(MARKERS), itertools.cycle(LINES), strict=False))
    with matplotlib.rc_context(STYLE):
        # The exponents have the first row; a single gap joins them, several begin a row of their own.
        blank = len(gaps) > 1
        figure, panels = _grid(2 + blank + len(gaps), 2.5)
        if blank:
            panels.pop(2).remove()
        panels[1].sharey(panels[0])  # before anything is drawn: later, it would cut off
        for panel, (title, unit, chosen, value) in zip(panels, views + gaps, strict=True):
            for role, marker, colour in lines:
                points = _means([m for m in chosen if m.statistics.role == role], value)
                panel.plot(
                    list(points), list(points.values()), marker=marker, color=colour, markersize=3.5, linewidth=1.1,
                    markevery=max(1, len(points) // 8),
                )  # fmt: skip
            panel.set_title(title)
            panel.set_ylabel(unit)
            panel.set_xlabel("layer")
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            panel.grid(axis="y")
        drawn: Any = {"markersize": 4, "linewidth": 1.1}
        handles = [Line2D([], [], marker=m, color=c, label=clean(r), **drawn) for r, m, c in lines]
        figure.legend(handles=handles, loc="outside lower center", ncols=11)
    return figure


def _gap(measurement: Measurement) -> float:
    return measurement.ledger.total


def _means(measurements: list[Measurement], value: Callable[[Measurement], float]) -> dict[int, float]:
    """Mean of a value over the matrices of each layer, from the first to the last."""
    found: dict[int, list[float]] = {}
    for m in measurements:
        if m.statistics.layer is not None:
            found.setdefault(m.statistics.layer, []).append(value(m))
    return {layer: math.fsum(found[layer]) / len(found[layer]) for layer in sorted(found)}


def _grid(count: int, height: float, sharex: bool = False, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most three in a row."""
    rows, columns = math.ceil(count / COLUMNS), min(count, COLUMNS)
    figure = Figure(figsize=(9, 0.5 + height * rows))
    figure.set_layout_engine("constrained", w_pad=0.08)
    panels = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.remove()
    return figure, list(panels[:count])


def _some(given: Mapping[str, Any] | Sequence[Any], figure: str, what: str) -> None:
    if not given:
        raise ValueError(f"{figure} needs at least one {what}")
