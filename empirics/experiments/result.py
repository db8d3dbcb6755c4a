"""What an experiment gives, for people and for programs: tables, figures, what they say, a section of the report."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure
from pyarrow import parquet
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from empirics import plots
from empirics.engine import Progress
from empirics.files import replace
from empirics.page import environment, image

__all__ = ["EXPERIMENTS", "Experiment", "Progress", "View", "collect", "printed", "write"]

EXPERIMENTS = ("weights", "rate-distortion", "four-bit", "slope", "kurtosis", "layers", "clipping")
"""In the order of the report's sections."""

SHORT = 24
"""Rows of a table that is read at a glance."""

ERROR = "_error"
"""A column ``x_error`` is the standard error of the column ``x``, and is shown beside it."""


@dataclass(frozen=True)
class View:
    """A small table for people.

    Attributes
    ----------
    title : str
    frame : DataFrame
        A column ``x_error`` is shown as ``x ± error``.
    formats : dict of str to str
        Column to format, as in ``format(value, ".3f")``; text columns have none.
    caption : str
        Units, and what an error is.
    """

    title: str
    frame: pd.DataFrame
    formats: dict[str, str] = field(default_factory=dict)
    caption: str = ""

    @property
    def short(self) -> bool:
        """Whether it is read at a glance: a longer one is folded on the page, and left out at a terminal."""
        return len(self.frame) <= SHORT

    @property
    def columns(self) -> list[str]:
        """Those shown, without the errors that stand beside a value."""
        names = list(self.frame.columns)
        return [name for name in names if not (name.endswith(ERROR) and name.removesuffix(ERROR) in names)]

    def rows(self) -> list[list[tuple[Any, str]]]:
        """Value and text of every cell; the text of what is missing is a dash."""
        return [[(row[name], self._text(row, name)) for name in self.columns]
                for row in self.frame.to_dict(orient="records")]  # fmt: skip

    def _text(self, row: dict[str, Any], name: str) -> str:
        value, spec = row[name], self.formats.get(name, "")
        if _missing(value):
            return "–"
        text = plots.clean(format(value, spec) if spec else str(value)).replace("-", "−" if spec else "-")
        if (name + ERROR) not in row:
            return text
        error = row[name + ERROR]
        return f"{text} ± " + ("?" if _missing(error) else format(error, spec.replace("+", "")))

    def numeric(self, name: str) -> bool:
        """Whether the column holds numbers."""
        return name in self.formats or pd.api.types.is_numeric_dtype(self.frame[name])


@dataclass
class Experiment:
    """The outcome of an experiment on a model.

    Attributes
    ----------
    name, title : str
        The command's word, and the heading.
    model, revision : str
    answer : list of str
        What was found, in sentences, the most important first.
    tables : dict of str to DataFrame
        Tidy: a row an observation, a column a variable, a standard error in ``x_error`` beside ``x``. The main
        one first.
    views : list of View
        What people read of them.
    figures : dict of str to (Figure, str)
        Each with its caption.
    summary : dict
        Plain JSON values: verdicts, totals, and what a notebook reports under its own keys.
    method : dict of str to str
        Term to definition.
    failures, skipped : list of (str, str)
        What could not be measured, what was not to be, and why.
    provenance : dict
        As `empirics.store.provenance` says.
    """

    name: str
    title: str
    model: str
    revision: str
    answer: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    method: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As plain JSON values; what is not finite is None."""
        return _plain({
            "experiment": self.name, "model": self.model, "revision": self.revision, "answer": self.answer,
            "summary": self.summary,
            "tables": {name: frame.to_dict(orient="records") for name, frame in self.tables.items()},
            "failures": self.failures, "skipped": self.skipped, "provenance": self.provenance,
        })  # fmt: skip


def folder(out: str | Path, model: str, name: str) -> Path:
    """Where the files of an experiment on a model are."""
    return Path(out) / model.replace("/", "--") / name


def write(experiment: Experiment, out: str | Path) -> dict[str, Path]:
    """Write the files of an experiment, and the report of all that `out` holds.

    Parameters
    ----------
    experiment : Experiment
    out : path
        Made when missing. The files go to ``out/model/name``: each table as CSV and Parquet (with its provenance),
        all as ``name.json``, each figure as PNG and SVG, and ``section.html``, of which `collect` makes the report.

    Returns
    -------
    dict of str to Path
        ``report``, ``json``, the name of each table (CSV), and that of each figure (PNG) with "(figure)" behind it.
    """
    place = folder(out, experiment.model, experiment.name)
    place.mkdir(parents=True, exist_ok=True)
    document = json.dumps(experiment.json(), indent=2, allow_nan=False) + "\n"
    written = {"json": replace(place / f"{experiment.name}.json", document.encode())}
    for name, frame in experiment.tables.items():
        csv = frame.to_csv(index=False, lineterminator="\n").encode(errors="backslashreplace")
        written[name] = replace(place / f"{name}.csv", csv)
        replace(place / f"{name}.parquet", _parquet(frame, experiment))
    for name, (figure, _) in experiment.figures.items():
        written[f"{name} (figure)"] = replace(place / f"{name}.png", plots.png(figure))
        replace(place / f"{name}.svg", plots.svg(figure))
    replace(place / "section.html", _section(experiment).encode())
    written["report"] = collect(out)
    return written


def collect(out: str | Path) -> Path:
    """Make ``out/report.html`` of the sections that `out` holds, a part for each model.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    out = Path(out)
    found = sorted(out.glob("*/*/section.html"), key=lambda path: (path.parts[-3], _order(path.parts[-2])))
    if not found:
        raise FileNotFoundError(f"{out} has no section of a report: run `quantgap run ...` with --out {out} first")
    sections = [(path.parts[-3], path.parts[-2], path.read_text(encoding="utf-8")) for path in found]
    ledger = "ledger.html" if (out / "ledger.html").exists() else None
    page = environment().get_template("report.html").render(sections=sections, ledger=ledger)
    return replace(out / "report.html", page.encode())


def printed(experiment: Experiment) -> RenderableType:
    """What the terminal shows: the answer, then the short views."""
    parts: list[RenderableType] = [Text(plots.clean(sentence)) for sentence in experiment.answer]
    for view in (view for view in experiment.views if view.short):
        made = Table(title=view.title, title_justify="left", box=box.SIMPLE, pad_edge=False, collapse_padding=True,
                     caption=view.caption or None, caption_justify="left")  # fmt: skip
        for name in view.columns:
            made.add_column(plots.clean(name), justify="right" if view.numeric(name) else "left", overflow="fold",
                            no_wrap=view.numeric(name))  # fmt: skip
        for row in view.rows():
            made.add_row(*(Text(text.replace(" ± ", "±")) for _, text in row))
        parts.append(made)
    return Group(*parts)


def _order(name: str) -> tuple[int, str]:
    return (EXPERIMENTS.index(name) if name in EXPERIMENTS else len(EXPERIMENTS), name)


def _section(experiment: Experiment) -> str:
    figures = {name: (image(figure), caption) for name, (figure, caption) in experiment.figures.items()}
    return environment().get_template("section.html").render(experiment=experiment, figures=figures)


def _parquet(frame: pd.DataFrame, experiment: Experiment) -> bytes:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    origin = {"model": experiment.model, "revision": experiment.revision, **experiment.provenance}
    metadata = {**(table.schema.metadata or {}), b"quantgap": json.dumps(_plain(origin)).encode()}
    out = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), out)
    return out.getvalue()


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value))


def _plain(value: Any) -> Any:
    """Values of numpy and pandas as JSON's own; what is missing or not finite as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if _missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
