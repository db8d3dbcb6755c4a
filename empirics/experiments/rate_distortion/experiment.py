"""``quantgap run rate-distortion``: what every quantizer makes of every matrix, against what no code can better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from empirics import fit, histogram, quantizers, tensors
from empirics.blocks import CHUNK
from empirics.distortion import distortion
from empirics.engine import Progress
from empirics.experiments.matrices import by_matrix
from empirics.experiments.rate_distortion import sweep
from empirics.experiments.rate_distortion.notebook import lloyd
from empirics.experiments.rate_distortion.report import METHOD, answer, figures
from empirics.experiments.rate_distortion.tables import summary, tables
from empirics.experiments.rate_distortion.views import views
from empirics.experiments.result import Experiment
from empirics.models import open_checkpoint
from empirics.store import Store
from empirics.tensors import TensorInfo
from theory import entropy_coded, ggd, rate_distortion, rd_curve, scalar
from theory.domain import COUNT, OPEN_UNIT, check, unknown
from theory.sources import GGD, Histogram
from theory.units import from_nats

BITS = tuple(range(1, 9))
TARGETS = (0.001, 0.01)
VECTORS = ("sample", "all", "none")

SOLVED = (4, 3, 2, 1.5, 1.25, 1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Gaussian rates at whose distortions R(D) of the fitted law is solved; `theory.rd_curve` brackets it between."""

HEAVIEST = 0.4
"""Exponent below which R(D) of the law is not solved, for it would take minutes: Shannon's and the Gaussian bound."""

TOLERANCE, COARSE = 1e-4, 1e-3
"""Bits: of R(D) at a target or of a law, and of a histogram's curve, which is drawn."""

ATOMS = 2**16
"""Atoms that R(D) of a histogram is solved on: of more (float32 weights) neighbours are merged, and the bracket holds
what that costs, 0.001 bit at a thousandth of the variance."""

HISTOGRAM_RATES = range(1, 7)
"""Gaussian rates of that curve: beyond, the steps of bf16 itself take many times as long."""


def run(
    model: str | Path, *, revision: str | None = None, store: Store | None = None,
    progress: Progress = lambda name, done, total: None,
    bits: Sequence[int] = BITS, targets: Sequence[float] = TARGETS, vectors: str = "sample",
) -> Experiment:  # fmt: skip
    """Measure the rate-distortion curves of every matrix of a model, one at a time.

    Parameters
    ----------
    model, revision
        As `empirics.models.open_checkpoint` takes them.
    store : Store, optional
        What it holds is not measured again.
    progress : callable
        See `empirics.engine.Progress`.
    bits : sequence of int
        Nominal bits per weight, 1 to 8.
    targets : sequence of float
        Distortions in units of a matrix's variance, in (0, 1), at which the rate of every curve is interpolated.
    vectors : {"sample", "all", "none"}
        Which matrices lattices, k-means and product quantization are tried on: the middle layer's of each role, all
        or none.

    Returns
    -------
    Experiment
        Tables ``quantizers`` (a row for each matrix, quantizer and rate), ``theory``, ``limits``, ``targets``,
        ``groups``, ``sensitivity`` and ``notebook``. A matrix that cannot be measured is in `failures`.

    Raises
    ------
    ValueError, OSError
        If an option is outside its domain, the model cannot be read, or none of its matrices can be measured.
    """
    bits, targets = sorted(set(bits)), sorted(set(targets))
    if not (bits and targets):
        raise ValueError("give at least one number of bits and one target")
    for b in bits:
        check("bits", b, COUNT)
        if b > BITS[-1]:
            raise ValueError(f"bits = {b} is above {BITS[-1]}: codebooks and groups have 8 bits at most")
    for target in targets:
        check("targets", target, OPEN_UNIT)
    if vectors not in VECTORS:
        raise unknown("choice of vectors", vectors, VECTORS)
    checkpoint = open_checkpoint(model, revision)
    drawn = middle(tensors.matrices(checkpoint)[0])

    def record(tensor: torch.Tensor, info: TensorInfo) -> dict[str, Any]:
        shown = info.name in drawn
        return measure(tensor, info, bits, targets, shown, vectors == "all" or (vectors == "sample" and shown))

    found = by_matrix(
        "rate-distortion", checkpoint, revision, store, progress, record, seed=0,
        bits=",".join(map(str, bits)), targets=",".join(map(str, targets)), vectors=vectors,
    )  # fmt: skip
    made = tables(found.records)
    return Experiment(
        "rate-distortion", "Rate and distortion", checkpoint.name, checkpoint.revision,
        answer=answer(made), tables=made, views=views(made), figures=figures(made, found.records, checkpoint.name),
        summary=summary(found.records, made), method=METHOD,
        failures=found.failures, skipped=found.skipped, provenance=found.provenance,
    )  # fmt: skip


def middle(infos: Iterable[TensorInfo]) -> set[str]:
    """A matrix for each role: of the middle layer, the largest, and then the first by name."""
    by_role: dict[str, dict[int, list[TensorInfo]]] = {}
    for info in infos:
        layer = tensors.layer(info.name)
        by_role.setdefault(info.role, {}).setdefault(-1 if layer is None else layer, []).append(info)
    layers = (found[sorted(found)[len(found) // 2]] for found in by_role.values())
    return {max(infos, key=lambda info: math.prod(info.shape)).name for infos in layers}


def measure(
    tensor: torch.Tensor, info: TensorInfo, bits: Sequence[int] = BITS, targets: Sequence[float] = TARGETS,
    drawn: bool = True, vectors: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Measure one matrix; distortions in the record are in units of its variance, rates in bits per weight.

    Parameters
    ----------
    tensor : torch.Tensor
        Shape (rows, columns), floating-point.
    info : TensorInfo
    bits, targets
        As `run`.
    drawn : bool
        Whether R(D) of the exact histogram is solved at every bit, not only at the targets.
    vectors : bool
        Whether vector quantizers are tried.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or the matrix is constant or too small to fit: the message names it.
    """
    atoms = histogram.exact(tensor, info.name)
    variance = atoms.variance
    if variance == 0:
        raise ValueError(f"{info.name} is constant ({atoms.values[0]:g}): it has no variance, and no rate to measure")
    fitted = fit.marginal(atoms, info.name)
    law = GGD(fitted.beta, fitted.sigma)
    grid = [law.variance * 4.0**-k for k in SOLVED] if fitted.beta >= HEAVIEST else []
    points = rate_distortion.curve(law, grid, tol=TOLERANCE)
    trials = [*sweep.scalars(atoms, bits), *sweep.groups(tensor, bits, info.name)]
    if vectors:
        trials += sweep.vectors(tensor, bits)
    rows = [trial.row() for trial in trials]
    add_gaps(rows, variance, law, points)
    return {
        "matrix": {
            "name": info.name, "role": info.role, "layer": tensors.layer(info.name), "weights": tensor.numel(),
            "variance": variance, "beta": fitted.beta, "fit": fitted.status, "drawn": drawn,
            "entropy_power": float(ggd.entropy_power(law.beta, law.sigma)),
        },
        "quantizers": rows,
        "theory": theory_curves(atoms, law, points, bits, drawn),
        "limits": [limit(atoms, law, points, target) for target in targets],
        "sensitivity": sensitivity(tensor, atoms, info.name),
        "notebook_lloyd": [lloyd(atoms, b) for b in bits],
    }  # fmt: skip


def bits_below(D: float, variance: float) -> float:
    """Rate of a Gaussian of that variance at distortion D, negative above it."""
    return float(from_nats(math.log(variance / D) / 2))


def add_gaps(
    rows: list[dict[str, Any]], variance: float, law: GGD, points: Sequence[rate_distortion.RateDistortion]
) -> None:
    """Add its gaps in bits to each row, None where there is none; put distortions into units of the variance."""
    power = float(ggd.entropy_power(law.beta, law.sigma))
    measured = [row for row in rows if row["mse"]]  # not None, and not 0: a lossless code has no gap
    lower, upper = rd_curve.brackets(law, points, [row["mse"] for row in measured])
    names = ("gap_gaussian_nominal", "gap_gaussian", "gap_slb", "gap_lower", "gap_upper", "gap_error")
    for row in rows:
        row |= dict.fromkeys(names)
    for row, low, high in zip(measured, lower, upper, strict=True):
        rate, D = row["effective_bits"], row["mse"]
        gaps = (
            row["nominal_bits"] - bits_below(D, variance), rate - bits_below(D, variance),
            rate - bits_below(D, power), rate - float(high), rate - float(low),
            math.hypot(row["effective_bits_error"], float(from_nats(row["mse_error"] / D / 2))),
        )  # fmt: skip
        row |= dict(zip(names, gaps, strict=True))
    for row in rows:
        if row["mse"] is not None:
            row |= {"mse": row["mse"] / variance, "mse_error": row["mse_error"] / variance}


def theory_curves(
    atoms: Histogram, law: GGD, points: Sequence[rate_distortion.RateDistortion], bits: Sequence[int], drawn: bool
) -> list[dict[str, Any]]:
    """R(D) of the fitted law and of the histogram, entropy-coded and Lloyd-Max quantizers of the law.

    Those of the histogram itself are measured: `entropy_coded` and `lloyd_max` of the sweep.
    """
    variance, rows = atoms.variance, []

    def add(curve: str, D: float, lower: float, upper: float, status: str) -> None:
        rows.append({"curve": curve, "mse": D / variance, "rate_lower": lower, "rate_upper": upper, "status": status})

    for point in points:
        add("rd_law", point.D, point.lower, point.upper, point.status)
    if drawn:
        for b in HISTOGRAM_RATES:
            D = variance * 4.0**-b
            add("rd_histogram", D, *of_histogram(atoms, D, COARSE))
    for b in bits:
        best = scalar.lloyd_max(law, 2**b)
        add("lloyd_max_law", float(best.mse), b, b, best.status)
        try:
            coded = entropy_coded.ecsq(law, rate=b)
        except ValueError:  # a law with a tail so heavy that no 40,000 cells of this rate hold it
            continue
        add("ecsq_law", float(coded.mse), float(coded.rate), float(coded.rate), coded.status)
    return rows


def limit(
    atoms: Histogram, law: GGD, points: Sequence[rate_distortion.RateDistortion], target: float
) -> dict[str, Any]:
    """The least rate at a distortion: the Gaussian's, Shannon's lower bound, R(D) of the law and of the histogram."""
    D = target * atoms.variance
    (low,), (high,) = rd_curve.brackets(law, points, [D])
    lower, upper, status = of_histogram(atoms, D, TOLERANCE)
    return {
        "target": target, "gaussian": bits_below(D, atoms.variance),
        "slb": bits_below(D, float(ggd.entropy_power(law.beta, law.sigma))),
        "law_lower": float(low), "law_upper": float(high),
        "histogram_lower": lower, "histogram_upper": upper, "status": status,
    }  # fmt: skip


def of_histogram(atoms: Histogram, D: float, tol: float) -> tuple[float, float, str]:
    """Bracket R(D) of the weights that the histogram stands for, and what the solver says."""
    cells = histogram.coarsened(atoms, ATOMS)
    found = rate_distortion.solve(cells, D, tol=tol)
    return *rd_curve.of_cells(found.lower, found.upper, D, cells.displacement), found.status


SENSITIVE = quantizers.get("int4")


def sensitivity(tensor: torch.Tensor, atoms: Histogram, name: str) -> dict[str, Any]:
    """Symmetric 4-bit integers with a scale for each row: error, signal to noise, and the largest error of a weight.

    The standard error of the relative error is that of a ratio of sums over rows drawn independently.
    """
    found = distortion(SENSITIVE, tensor, "row", name)
    relative, rows = found.mse / atoms.variance, len(found.energy)
    beyond = found.squared_error / atoms.variance - relative * found.energy / atoms.variance
    largest = float(abs(atoms.values[[0, -1]]).max())
    step = max(1, CHUNK // tensor.shape[1])
    worst = max(float((SENSITIVE.quantize(part, "row") - part.float()).abs().max()) for part in tensor.split(step))
    return {
        "mse_absolute": found.mse, "mse": relative,
        "mse_error": math.sqrt(rows / (rows - 1) * float(beyond @ beyond)) / found.n,
        "sqnr_db": -10 * math.log10(found.relative) if found.relative else None,
        "relative_max_error": worst / largest,
    }  # fmt: skip
