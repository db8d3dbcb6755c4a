"""A run for people and for other programs: terminal tables, one self-contained page, figures, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from empirics import page, plots
from empirics.checks import Verdict
from empirics.engine import Results
from empirics.files import replace
from empirics.measure import Measurement
from empirics.page import counted, gap_error, mean_residual, plus_minus, total_error
from empirics.plots import clean
from empirics.quantizers import get as get_quantizer
from theory.ledger import STEPS

__all__ = ["html", "json", "summary", "table", "write"]


def table(results: Results, quantizer: str) -> Table:
    """Make the terminal's table of one quantizer: a row for each matrix, then the model.

    Parameters
    ----------
    results : Results
    quantizer : str

    Returns
    -------
    rich.table.Table
        Fits 120 columns; a long name goes on over several lines. MSE is in units of the matrix's variance, residuals
        are measured over predicted MSE less 1, gaps are bits per weight.
    """
    made = Table(
        title=f"{clean(results.model)}: {quantizer}, blocks of {results.block_size}", title_justify="left",
        box=box.SIMPLE, pad_edge=False, collapse_padding=True, show_footer=True, caption_justify="left",
        caption="MSE in variances; iid %, row %: measured over predicted MSE, less 1; gaps in bits per weight",
    )  # fmt: skip
    chosen = results.of(quantizer)
    footer = [""] * 9
    if chosen:
        total = results.total(quantizer)
        footer = [
            "", f"{_weights(chosen):,}", "", "", f"{total.steps[-1].distortion:.4g}",
            *(_signed(100 * mean_residual(chosen, which), 1) for which in ("iid", "row")),
            _narrow(total.total, total_error(chosen)), f"{total.effective_total:.3f}",
        ]  # fmt: skip
    made.add_column("matrix", counted(len(chosen), "matrix"), overflow="fold")
    for heading, foot in zip(
        ("role", "shape", "β", "β in rows", "MSE", "iid %", "row %", "gap", "eff. gap"), footer, strict=True
    ):
        made.add_column(heading, foot, justify="left" if heading == "role" else "right", no_wrap=True)
    for m in chosen:
        found = m.statistics
        made.add_row(
            Text(page.short(found.name)), Text(clean(found.role)), "x".join(map(str, found.shape)),
            _narrow(found.beta, found.beta_error), _narrow(found.beta_row, found.beta_row_error),
            f"{m.measured_mse:.4g}", _signed(100 * m.residual_iid, 1), _signed(100 * m.residual_row, 1),
            _narrow(m.ledger.total, gap_error(m)), f"{m.ledger.effective_total:.3f}",
        )  # fmt: skip
    return made


def summary(results: Results) -> RenderableType:
    """Make the terminal's summary: the steps of the whole model, a column for each quantizer, and what was left out.

    Parameters
    ----------
    results : Results
    """
    counts = [f"{counted(len({m.statistics.name for m in results.measurements}), 'matrix')} measured"]
    counts += [f"{counted(len(results.skipped), 'tensor')} skipped, no weight matrices"] if results.skipped else []
    counts += [f"{len(results.failures)} could not be measured"] if results.failures else []
    parts: list[RenderableType] = []
    if results.measurements:
        totals = {name: results.total(name) for name in results.quantizers}
        made = Table(
            title=f"{clean(results.model)}: bits per weight above the Gaussian limit", title_justify="left",
            box=box.SIMPLE_HEAD, pad_edge=False,
        )  # fmt: skip
        made.add_column("step", no_wrap=True)
        for name in totals:
            made.add_column(name, justify="right")
        for i, step in enumerate(STEPS):
            bits = [_signed(ledger.steps[i].bits) for ledger in totals.values()]
            made.add_row(plots.LABELS.get(step, step), *bits, end_section=i == len(STEPS) - 1)
        errors = [total_error(results.of(name)) for name in totals]
        gaps = [plus_minus(t.total, e) for t, e in zip(totals.values(), errors, strict=True)]
        made.add_row(plots.NOMINAL, *gaps, style="bold")
        made.add_row(plots.SIDE, *(f"{t.effective_bits - t.bits:+.3f}" for t in totals.values()))
        made.add_row(plots.EFFECTIVE, *(f"{t.effective_total:.3f}" for t in totals.values()), style="bold")
        parts.append(made)
    parts.append(Text("; ".join(counts) + "."))
    parts += [Text(f"  not measured: {clean(name)}: {clean(reason)}") for name, reason in results.failures]
    return Group(*parts)


def html(results: Results, verdicts: Sequence[Verdict] | None = None) -> str:
    """Write the page: figures, tables, claims and notes in one file that fetches nothing.

    Parameters
    ----------
    results : Results
    verdicts : sequence of Verdict, optional
        ``results.verdicts()`` when the caller has them: they take a while.
    """
    return page.render(results, results.verdicts() if verdicts is None else verdicts)


def json(results: Results, quantizer: str) -> dict[str, Any]:
    """Make the ledger of one quantizer as plain JSON values.

    Parameters
    ----------
    results : Results
    quantizer : str

    Returns
    -------
    dict
        MSE in units of each tensor's variance; bits per weight. Totals are None when nothing was measured.

    Raises
    ------
    ValueError
        If nothing was measured and there is no such quantizer.
    """
    chosen = results.of(quantizer)
    total = results.total(quantizer) if chosen else None
    asked = get_quantizer(quantizer) if total is None else None
    return {
        "model": results.model,
        "quantizer": quantizer,
        "bits": asked.bits if asked else chosen[0].bits,
        "effective_bits": asked.effective_bits(results.block_size) if asked else chosen[0].effective_bits,
        "block_size": results.block_size,
        "tensors": [
            {
                "name": m.statistics.name,
                "role": m.statistics.role,
                "shape": list(m.statistics.shape),
                "beta": m.statistics.beta,
                "beta_row": m.statistics.beta_row,
                "measured_mse": m.measured_mse,
                "predicted_mse_iid": m.predicted_mse_iid,
                "predicted_mse_row": m.predicted_mse_row,
                "total_bits": m.ledger.total,
                "steps": [{"name": step.name, "bits": step.bits} for step in m.ledger.steps],
            }
            for m in chosen
        ],
        "model_total": {
            "weights": _weights(chosen),
            "total_bits": total and total.total,
            "effective_total_bits": total and total.effective_total,
            "steps": [{"name": step.name, "bits": step.bits} for step in total.steps] if total else [],
        },
    }


def csv_text(results: Results) -> str:
    """Make the tidy table: a row for each matrix and quantizer, a column for each number and standard error."""
    out = io.StringIO()
    rows = [_row(m) for m in results.measurements]
    if rows:
        writer = csv.DictWriter(out, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _row(m: Measurement) -> dict[str, Any]:
    found = asdict(m.statistics)
    plain = {key: value for key, value in asdict(m).items() if key not in ("statistics", "ledger")}
    return {
        "tensor": found.pop("name"),
        **found,
        "shape": "x".join(map(str, m.statistics.shape)),
        "notes": "; ".join(m.statistics.notes),
        **plain,
        "residual_iid": m.residual_iid,
        "residual_iid_error": m.mse_error / m.predicted_mse_iid,
        "residual_row": m.residual_row,
        "residual_row_error": m.mse_error / m.predicted_mse_row,
        "total_bits": m.ledger.total,
        "total_bits_error": gap_error(m),
        "effective_total_bits": m.ledger.effective_total,
        **{f"step_{step.name}": step.bits for step in m.ledger.steps},
        "bracket_bits": m.ledger.uncertainty,
    }


def write(results: Results, folder: str | Path, verdicts: Sequence[Verdict] | None = None) -> dict[str, Path]:
    """Write the page, the figure, the table and the ledgers; a reader never sees half a file.

    Parameters
    ----------
    results : Results
    folder : path
        Made when missing.
    verdicts : sequence of Verdict, optional
        As for `html`.

    Returns
    -------
    dict of str to Path
        ``page`` (ledger.html), and, when something was measured, ``measurements`` (measurements.csv), ``waterfall``
        (waterfall.png), ``waterfall-svg`` (waterfall.svg) and ``ledger-NAME`` (ledger-NAME.json) for each quantizer.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, tuple[str, bytes]] = {"page": ("ledger.html", html(results, verdicts).encode())}
    if results.measurements:
        totals = {name: results.total(name) for name in results.quantizers}
        figure = plots.waterfall(totals, f"{results.model}: where the bits go")
        content["measurements"] = ("measurements.csv", csv_text(results).encode(errors="backslashreplace"))
        content["waterfall"] = ("waterfall.png", plots.png(figure))
        content["waterfall-svg"] = ("waterfall.svg", plots.svg(figure))
    for name in results.quantizers:
        ledger = dumps(json(results, name), indent=2, allow_nan=False) + "\n"
        content[f"ledger-{name}"] = (f"ledger-{name}.json", ledger.encode())
    return {what: replace(folder / name, data) for what, (name, data) in content.items()}


def _signed(value: float, digits: int = 3) -> str:
    """With the hyphen that can be pasted into a program."""
    return plots.signed(value, digits).replace("−", "-")


def _narrow(value: float, error: float | None) -> str:
    return f"{value:.3f}±" + ("?" if error is None else f"{error:.3f}")


def _weights(measurements: Sequence[Measurement]) -> int:
    return int(math.fsum(m.statistics.weights for m in measurements))
