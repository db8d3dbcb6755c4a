"""The ledger of a checkpoint that is already quantized, against the model that it was quantized from."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from empirics.checkpoints import open_quantized
from empirics.checkpoints.base import Base, Pair, WrongBase, match
from empirics.checkpoints.ledger_report import METHOD, answer, document, figures, mean_ledger, table, views
from empirics.engine import Progress, key
from empirics.experiments.result import Experiment
from empirics.measure import Matrix, Statistics
from empirics.models import open_checkpoint
from empirics.store import Store, provenance
from theory.ledger import Ledger, Step, stored_ledger
from theory.sources import GGD


@dataclass(frozen=True)
class Measured:
    """A matrix of a quantized checkpoint against its base. Mean squared errors are in units of the base's variance.

    Attributes
    ----------
    statistics : Statistics
        Of the base's matrix.
    format : str
    bits, effective_bits : float
        Nominal, and with all that is stored of the matrix.
    block_size : int
    rounded_mse, nearest_mse : float
        Of the base rounded plainly to the format, with scales of its own; and to nearest on the grid that is stored.
    measured_mse, mse_error : float
        Of what is stored, with the standard error of that ratio, clustered by row.
    predicted_mse_iid, predicted_mse_row : float or None
        Of the format's codebook with absmax scales, under the two models, if it has one.
    correlation : float
        Between weights and quantized weights.
    not_nearest : float
        Share of weights that are not at the nearest point of the grid.
    ledger : Ledger
    """

    statistics: Statistics
    format: str
    bits: int
    effective_bits: float
    block_size: int
    rounded_mse: float
    nearest_mse: float
    measured_mse: float
    mse_error: float
    predicted_mse_iid: float | None
    predicted_mse_row: float | None
    correlation: float
    not_nearest: float
    ledger: Ledger

    @classmethod
    def of(cls, record: dict[str, Any]) -> Measured:
        """The measurement that `record`, its plain JSON values, was made from."""
        ledger = {**record["ledger"], "steps": tuple(Step(**step) for step in record["ledger"]["steps"])}
        return cls(**{**record, "statistics": Statistics(**record["statistics"]), "ledger": Ledger(**ledger)})


def measure(base: Base, name: str, with_codebook: bool) -> Measured:
    """Compare one matrix with its base, and split the gap.

    Parameters
    ----------
    base : Base
    name : str
    with_codebook : bool
        Whether the ledger has the steps of the format's codebook: only if every matrix of the model has one.

    Raises
    ------
    WrongBase
        If the two do not belong together.
    ValueError
        If the matrix cannot be fitted, or was not changed at all.
    """
    stored, pair = base.quantized.stored(name), base.pair(name)
    found = Matrix(pair.weights, base.info(name)).statistics
    deviation = math.sqrt(found.variance)
    rounded, nearest, measured = (
        float((values - pair.weights).square().mean(dtype=torch.float64))
        for values in (stored.rounded(pair.weights), pair.nearest, pair.dense)
    )
    if not (rounded and nearest and measured):
        raise ValueError(f"{name}: every weight is a point of its grid, and no error leaves no gap to measure")
    ledger = stored_ledger(
        rounded, nearest, measured, stored.bits, GGD(found.beta, deviation), stored.block_size, stored.effective_bits,
        codebook=stored.codebook if with_codebook else None, row_source=GGD(found.beta_row),
    )  # fmt: skip
    predicted = {step.name: step.distortion / found.variance for step in ledger.steps}
    return Measured(
        statistics=found,
        format=stored.format,
        bits=stored.bits,
        effective_bits=stored.effective_bits,
        block_size=stored.block_size,
        rounded_mse=rounded / found.variance,
        nearest_mse=nearest / found.variance,
        measured_mse=measured / found.variance,
        mse_error=_standard_error(pair, found.variance),
        predicted_mse_iid=predicted.get("codebook"),
        predicted_mse_row=predicted.get("rows"),
        correlation=pair.correlation,
        not_nearest=pair.not_nearest,
        ledger=ledger,
    )


def _standard_error(pair: Pair, variance: float) -> float:
    """Of the mean squared error in units of the variance, clustered by row: as `empirics.measure` has it."""
    squared = (pair.dense - pair.weights).square().sum(1, dtype=torch.float64) / variance
    energy = pair.weights.square().sum(1, dtype=torch.float64) / variance
    beyond, rows = squared - squared.sum() / pair.weights.numel() * energy, len(squared)
    return math.sqrt(rows / (rows - 1)) * float(beyond.norm()) / pair.weights.numel()


def run(
    model: str | Path, base: str | Path, *, revision: str | None = None, store: Store | None = None,
    progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Measure every quantized matrix of a checkpoint against its base.

    Parameters
    ----------
    model : str or Path
        The quantized checkpoint, as `empirics.checkpoints.open_quantized` takes it.
    base : str or Path
        The model that was quantized, as `empirics.models.open_checkpoint` takes it.
    revision : str, optional
        Of the quantized checkpoint.
    store : Store, optional
        What it holds is not measured again.
    progress : callable

    Returns
    -------
    Experiment
        Its summary is what ``quantgap ledger --json`` prints.

    Raises
    ------
    WrongBase
        If the base is not the one that was quantized.
    ValueError, OSError
        If a model cannot be read, or none of the matrices can be measured.
    """
    quantized = open_quantized(model, revision)
    matched = match(quantized, open_checkpoint(base))
    origin = provenance(quantized.checkpoint) | {"base": f"{matched.checkpoint.name} {matched.checkpoint.revision}"}
    stored = [quantized.stored(name) for name in quantized.names()]
    split = all(matrix.codebook for matrix in stored)
    everything = sum(matrix.weights for matrix in stored)
    measured: list[Measured] = []
    failures = []
    for matrix, done in zip(stored, itertools.accumulate((m.weights for m in stored), initial=0), strict=False):
        progress(matrix.name, done, everything)

        def compute(name: str = matrix.name) -> dict[str, Any]:
            return asdict(measure(matched, name, split))

        try:
            if store is None:
                record = compute()
            else:
                known = key(
                    quantized.checkpoint, experiment="ledger", base=matched.checkpoint.name,
                    base_revision=matched.checkpoint.revision, tensor=matrix.name,
                )  # fmt: skip
                record = store.remember(known, compute, origin)
            measured.append(Measured.of(record))
        except WrongBase:
            raise
        except (ValueError, ArithmeticError) as error:
            failures.append((matrix.name, str(error)))
    if not measured:
        raise ValueError(f"nothing in {model} could be measured: {'; '.join(reason for _, reason in failures)}")
    total = mean_ledger(measured)
    return Experiment(
        name="ledger", title="Quantized: where the bits go", model=quantized.name, revision=quantized.revision,
        answer=answer(quantized, matched, measured, total),
        tables={"matrices": table(measured)},
        views=views(measured, total),
        figures=figures(quantized, total),
        summary=document(quantized, matched, measured, total),
        method=METHOD,
        failures=failures,
        skipped=[(name, f"not quantized: {quantized.other_info(name).dtype}") for name in quantized.others()],
        provenance=origin,
    )  # fmt: skip
