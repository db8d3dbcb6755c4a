"""``quantgap run four-bit``: 4-bit methods by what they do to the weights, to the logits, and to the loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from empirics.engine import Progress
from empirics.experiments import degradation
from empirics.experiments.degradation import Subject
from empirics.experiments.four_bit import notebook
from empirics.experiments.four_bit.figures import figures
from empirics.experiments.four_bit.geometry import Geometry, plain
from empirics.experiments.four_bit.geometry import measure as measure_geometry
from empirics.experiments.four_bit.methods import BASELINE, REFERENCE, Method, methods
from empirics.experiments.four_bit.report import METHOD, answer, views
from empirics.experiments.four_bit.tables import (
    Rows,
    allocation_rows,
    correlations,
    duel,
    first_order_rows,
    geometry_rows,
    matrix_rows,
    method_row,
)
from empirics.experiments.four_bit.weights import RowSums, laws, row_sums
from empirics.experiments.result import Experiment
from empirics.models import Checkpoint
from empirics.store import Store


def run(
    model: str | Path | Checkpoint, *, revision: str | None = None, texts: Iterable[str] = (),
    quantized: Iterable[str | Path] = (), store: Store | None = None,
    progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Compare 4-bit methods on a model, and already quantized checkpoints of it; hold theory against what they do.

    Parameters
    ----------
    model, revision, texts
        As `empirics.experiments.degradation.open_subject` takes them.
    quantized : iterable of str or Path
        Checkpoints that were quantized from this model, as `empirics.checkpoints.open_quantized` takes them.
    store : Store, optional
        What it holds is not measured again.
    progress : callable
        See `empirics.engine.Progress`.

    Returns
    -------
    Experiment
        Tables ``methods``, ``matrices`` (a row for each method and matrix), ``geometry`` (a row a matrix),
        ``first_order``, ``allocation``, ``correlations`` and ``as_notebook``.

    Raises
    ------
    empirics.checkpoints.WrongBase
        If a checkpoint was not quantized from this model.
    ValueError, OSError
        If the model, a checkpoint or the texts cannot be read, or too little can be measured.
    """
    if store is None:  # one path to every number, and one order of its columns
        with Store(":memory:") as store:
            return run(model, revision=revision, texts=texts, quantized=quantized, store=store, progress=progress)
    subject = degradation.open_subject(model, revision, texts)
    chosen = methods(subject.lm, quantized)
    measured, failures = degradation.measure(subject, [m.quantization for m in chosen], store, progress)
    chosen = [method for method in chosen if method.name in measured]
    if len(chosen) < 2:
        raise ValueError(f"{subject.lm.checkpoint.name} could not be measured: {failures[0][1]}")
    fitted = laws(subject, store)
    sums = {method.name: _sums(subject, method, store) for method in chosen}
    by_matrix = [row for method in chosen for row in matrix_rows(method, sums[method.name], fitted)]
    geometry = measure_geometry(subject, store, progress)
    rows = [method_row(subject, m, measured[m.name], sums[m.name], fitted, geometry) for m in chosen]
    theirs = notebook.rows(subject, chosen, fitted, store)
    four = {method.name for method in chosen if method.four}
    found = {"rows": correlations(rows), "as_notebook": notebook.correlation(four, theirs)}
    others = [method for method in chosen if method.name not in (REFERENCE, BASELINE)]
    duels = [duel(measured, method) for method in others if REFERENCE in measured]
    representative = notebook.representative(subject.lm)
    audit = {"representative": representative, "packed": notebook.packed(subject.lm, representative)}
    checkpoint, matrices = subject.lm.checkpoint, geometry_rows(geometry)
    tables = {
        "methods": rows, "matrices": by_matrix, "geometry": matrices, "first_order": first_order_rows(geometry),
        "allocation": allocation_rows(geometry), "against_nf4": duels, "correlations": found["rows"],
        "as_notebook": theirs,
    }  # fmt: skip
    return Experiment(
        "four-bit", "Four bits: weights, logits and loss", checkpoint.name, checkpoint.revision,
        answer=answer(rows, theirs, found, duels, geometry, audit),
        tables={name: pd.DataFrame(table) for name, table in tables.items()},
        views=views(rows, theirs, found, duels, geometry, matrices),
        figures=figures(rows, geometry, matrices, checkpoint.name),
        summary=_summary(subject, rows, theirs, found, duels, geometry, audit),
        method=METHOD, failures=failures, provenance=subject.provenance,
    )  # fmt: skip


def _sums(subject: Subject, method: Method, store: Store) -> dict[str, RowSums]:
    def compute() -> dict[str, Any]:
        found = row_sums(subject.lm, method.quantization.weights(subject.lm))
        return {name: asdict(values) for name, values in found.items()}

    known = subject.key("weight errors", **method.quantization.settings)
    record = store.remember(known, compute, subject.provenance)
    return {name: RowSums(**record[name]) for name in method.bits}


def _summary(
    subject: Subject, rows: Rows, theirs: Rows, found: dict[str, Any], duels: Rows, geometry: Geometry,
    audit: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """With the notebook's keys, as it computes them and corrected."""
    keys = {"weight_mse": "weight_mse", "logits_mse": "logits_mse", "delta_ce": "loss_change",
            "amplification": "amplification", "gap_bits_vs_gauss": "gap_gauss_nominal",
            "gap_bits_vs_ggd": "gap_ggd_nominal"}  # fmt: skip
    methods = []
    for row, other in zip(rows, theirs, strict=True):
        corrected = {key: row[ours] for key, ours in keys.items()}
        corrected |= {f"{key}_error": row[f"{ours}_error"] for key, ours in keys.items()}
        corrected |= {f"{key}_effective": row[f"{ours.removesuffix('_nominal')}_effective"]
                      for key, ours in keys.items() if key.startswith("gap")}  # fmt: skip
        methods.append({"method": row["method"], "bits": row["bits"], "effective_bits": row["effective_bits"],
                        "as_notebook": {key: other[key] for key in keys}, "corrected": corrected})  # fmt: skip
    allocations = {b: {k: v for k, v in a.items() if k != "shares"} for b, a in geometry.allocations.items()}
    return plain({
        "model": subject.lm.checkpoint.name, "texts": len(subject.texts), "small": len(subject.texts) < 30,
        "geometry_texts": len(geometry.subject.texts), "allocation_texts": len(geometry.others.texts),
        "methods": methods, "against_nf4": duels, "correlations": found, "nf4": geometry.amplification[0],
        "sweep": geometry.sweep, "allocations": allocations, "audit": audit,
    })  # fmt: skip
