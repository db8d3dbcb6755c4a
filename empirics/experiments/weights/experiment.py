"""``quantgap run weights``: what the weights of each matrix of a checkpoint are like, before any quantizer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from empirics import fit, kl, rows_cuda
from empirics.engine import Progress
from empirics.experiments.matrices import by_matrix
from empirics.experiments.result import Experiment
from empirics.experiments.weights.report import METHOD, QUANTILES, answer, figures, in_order, views
from empirics.histogram import chunk_size
from empirics.influence import independent_variance, standard_errors
from empirics.measure import Matrix, Statistics
from empirics.store import Store
from empirics.tensors import TensorInfo
from theory import audit, geometry, ggd
from theory.sources import GGD, Histogram

BLOCK = 64
FAR = 6.0
"""Standard deviations past which a weight counts as an outlier."""

CHUNK = 2**17
"""Weights made float64 at a time."""

AVERAGED = (
    "kurtosis", "beta", "beta_row", "beta_block", "ks", "kl_ggd", "kl_binned", "kl_notebook", "bonus_reported",
    "row_spread", "column_spread", "beyond_6_sigma",
)  # fmt: skip
"""What has a mean over a role."""


@dataclass(frozen=True)
class MatrixWeights:
    """One matrix. Divergences, bonuses and spreads are bits per weight; `_error` is a standard error.

    Attributes
    ----------
    statistics : Statistics
        Shape, moments, and the exponents of the marginal law and within rows.
    beta_block, beta_block_error : float
        Exponent where each block of 64 has a scale of its own, clustered by block. Blocks run over the flattened
        matrix; a short last one is left out. Where weights within a block are no generalized Gaussian (outliers,
        columns of different scales) it depends on the length of the block, as that within rows does on theirs.
    ks : float
        Largest difference between the cdf of the marginal fit and the share of weights below, halfway between stored
        values: a weight stored as one of them was rounded from somewhere up to there. For n independent draws of the
        fitted law, below 0.87/sqrt(n) on average.
    kl_ggd, kl_ggd_error : float
        Divergence of the marginal fit from the Gaussian. At equal variance that is the entropy bonus h(N) - h.
    kl_binned, kl_binned_error : float
        The divergence without a model: `empirics.kl.binned`.
    kl_notebook : float
        As the notebooks report it: `empirics.kl.notebook`.
    bonus_reported : float
        The entropy bonus as the notebooks compute it, with 1/beta nats added to bits.
    row_spread, row_spread_error : float
        1/2 log2(AM/GM) of the second moments of the rows that are not 0.
    row_spread_noise : float
        What of `row_spread` rows of equal variance would have too, for independent weights within a row.
    column_spread, column_spread_error, column_spread_noise : float
        The same for columns.
    beyond_6_sigma, beyond_6_sigma_error : float
        Share of weights further than 6 standard deviations from 0.
    largest, largest_expected : float
        Largest magnitude in standard deviations, and that of which the fitted law expects one weight beyond.
    row_rms : tuple of float
        Quantiles of the rows' root mean squares, in units of the matrix's: `report.QUANTILES`.
    """

    statistics: Statistics
    beta_block: float
    beta_block_error: float | None
    ks: float
    kl_ggd: float
    kl_ggd_error: float | None
    kl_binned: float
    kl_binned_error: float
    kl_notebook: float
    bonus_reported: float
    row_spread: float
    row_spread_error: float | None
    row_spread_noise: float
    column_spread: float
    column_spread_error: float | None
    column_spread_noise: float
    beyond_6_sigma: float
    beyond_6_sigma_error: float
    largest: float
    largest_expected: float
    row_rms: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """As one row of plain values, rows and columns of the shape apart."""
        values = asdict(self)
        found = values.pop("statistics")
        rows, columns = found.pop("shape")
        del found["row_gain"]  # it is `row_spread`, in other units
        rms = {f"row_rms_{100 * q:g}": value for q, value in zip(QUANTILES, values.pop("row_rms"), strict=True)}
        notes = "; ".join(found.pop("notes"))
        head = {key: found.pop(key) for key in ("name", "role", "layer")}
        shape = {"rows": rows, "columns": columns, "std": math.sqrt(found["variance"])}
        return head | shape | found | values | rms | {"notes": notes}


def roles(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each role: means over weights, with standard errors for independent matrices.

    An error says how well the mean of these very matrices is known, not how they differ.
    """
    rows = []
    for role in in_order({r["role"] for r in records}):
        chosen = [r for r in records if r["role"] == role]
        size = np.array([r["weights"] for r in chosen], dtype=np.float64)
        share = size / size.sum()
        row: dict[str, Any] = {"role": role, "matrices": len(chosen), "weights": int(size.sum())}
        for name in AVERAGED:
            row[name] = math.fsum(share * [r[name] for r in chosen])
            if (error := f"{name}_error") in chosen[0]:
                errors = [r[error] for r in chosen]
                row[error] = None if None in errors else math.hypot(*(share * errors))
        row["largest"] = max(r["largest"] for r in chosen)
        rows.append(row)
    return rows


def run(
    model: str | Path, *, revision: str | None = None, store: Store | None = None,
    progress: Progress = lambda name, done, total: None,
) -> Experiment:  # fmt: skip
    """Measure the weights of every matrix of a model, one at a time.

    Parameters
    ----------
    model, revision
        As `empirics.models.open_checkpoint` takes them.
    store : Store, optional
        What it holds is not measured again.
    progress : callable
        See `empirics.engine.Progress`.

    Returns
    -------
    Experiment
        Tables ``weights`` (a row a matrix) and ``roles``. A matrix that cannot be measured is in `failures`, and the
        others are not affected.

    Raises
    ------
    ValueError, OSError
        If the model cannot be read, or none of its matrices can be measured.
    """
    found = by_matrix("weights", model, revision, store, progress, lambda *given: measure(*given).record())
    records = found.records
    by_role = roles(records)
    return Experiment(
        "weights", "The law of the weights", found.checkpoint.name, found.checkpoint.revision,
        answer=answer(records),
        tables={"weights": pd.DataFrame(records), "roles": pd.DataFrame(by_role)},
        views=views(records, by_role),
        figures=figures(records, found.checkpoint.name),
        method=METHOD, failures=found.failures, skipped=found.skipped, provenance=found.provenance,
    )  # fmt: skip


def measure(tensor: torch.Tensor, info: TensorInfo) -> MatrixWeights:
    """Measure one matrix.

    Parameters
    ----------
    tensor : torch.Tensor
        Shape (rows, columns), floating-point.
    info : TensorInfo

    Raises
    ------
    ValueError
        As `empirics.measure.Matrix`, and where there are fewer than two blocks of 64.

    Notes
    -----
    Standard errors are clustered: by row and by column, of what pools all weights (`empirics.influence`); by row,
    column or block, of the others.
    """
    matrix = Matrix(tensor, info)
    found, atoms = matrix.statistics, matrix.atoms
    sigma, n = math.sqrt(found.variance), found.weights
    block = fit.within_rows(tensor.reshape(-1)[: n - n % BLOCK].view(-1, BLOCK), found.beta_row, info.name)
    law = fitted_law(atoms, found.beta)
    divergence = float(ggd.kl_to_gaussian(found.beta))
    moved = None
    if found.beta_error is not None:  # both sides: at beta = 2 the slope is 0
        sides = (max(found.beta + s * found.beta_error, fit.LOWEST) for s in (-1, 1))
        moved = max(abs(float(ggd.kl_to_gaussian(side)) - divergence) for side in sides)
    binned = kl.binned(atoms, info.name)
    rows, columns = spreads(tensor)
    far = float(atoms.probabilities[np.abs(atoms.values) > FAR * sigma].sum())
    smoothed = (far * n + 1) / (n + 2)  # one more on each side: where none was found, the error is not 0
    binned_error, far_error = standard_errors(
        tensor, binned.influence, lambda x: (x.abs() > FAR * sigma).double().sub_(far)
    )
    # What rows and columns add to the variance of independent weights, from which sampling noise was taken off.
    excess = binned_error**2 - independent_variance(atoms, binned.influence)
    return MatrixWeights(
        statistics=found,
        beta_block=block.beta,
        beta_block_error=None if math.isnan(block.standard_error) else block.standard_error,
        ks=kolmogorov_distance(atoms, law),
        kl_ggd=divergence,
        kl_ggd_error=moved,
        kl_binned=binned.bits,
        kl_binned_error=math.sqrt(binned.standard_error**2 + max(excess, 0.0)),
        kl_notebook=kl.notebook(atoms),
        bonus_reported=float(ggd.entropy(2.0))
        - audit.reported_entropy(found.beta, float(ggd.alpha(found.beta))),
        row_spread=rows.bits, row_spread_error=rows.standard_error, row_spread_noise=rows.noise,
        column_spread=columns.bits, column_spread_error=columns.standard_error, column_spread_noise=columns.noise,
        beyond_6_sigma=far,
        beyond_6_sigma_error=max(far_error, math.sqrt(smoothed * (1 - smoothed) / n)),
        largest=float(np.abs(atoms.values[[0, -1]]).max()) / sigma,
        largest_expected=-float(law.quantile(1 / (2 * n))) / sigma,
        row_rms=rows.rms,
    )  # fmt: skip


def fitted_law(atoms: Histogram, beta: float) -> GGD:
    """The generalized Gaussian of that exponent with the likeliest scale, in the weights' units."""
    return GGD(beta, (beta * atoms.abs_moment(beta)) ** (1 / beta) / float(ggd.alpha(beta)))


def kolmogorov_distance(atoms: Histogram, law: GGD) -> float:
    """Largest difference of the cdfs, halfway between atoms; dimensionless."""
    below = np.cumsum(atoms.probabilities)[:-1]
    return float(np.abs(below - law.cdf((atoms.values[1:] + atoms.values[:-1]) / 2)).max())


class Spread(NamedTuple):
    """Of the second moments of rows or columns, in bits; the error is None for one line, noise as `spreads` says.

    `rms` are quantiles of the lines' root mean squares in units of the matrix's, zeros included.
    """

    bits: float
    standard_error: float | None
    noise: float
    rms: tuple[float, ...]


def spreads(tensor: torch.Tensor) -> tuple[Spread, Spread]:
    r"""Spread of the second moments of the rows, then of the columns; lines of zeros are left out.

    With second moments v of lines that have n weights, the spread
    :math:`\tfrac12\log_2(\overline v/\operatorname{GM}(v))` is too large by the noise :math:`(\kappa - A)/4n` nats:
    :math:`\kappa` is the kurtosis within a line, and A the mean square over the squared mean of the second moments of
    the lines across, 1 if they are alike. What they differ by is in every line, and no noise. The error is that of
    lines drawn independently.

    >>> rows, columns = spreads(torch.tensor([[1.0, -1.0], [2.0, -2.0]]))
    >>> round(rows.bits, 6), columns.bits
    (0.160964, 0.0)
    """
    along, down = _moments(tensor.detach())
    rows, columns = tensor.shape
    found = []
    for (v, m4), (w, _), width in ((along, down, columns), (down, along, rows)):
        live = v > 0
        variances, fourths = v[live].cpu().numpy(), m4[live].cpu().numpy()
        relative = variances / variances.mean()
        influence = (relative - 1 - np.log(relative) + np.log(relative).mean()) / (2 * math.log(2))
        common = float(w.square().mean() / w.mean() ** 2)
        noise = (np.mean(fourths / variances**2) - common) / (4 * width * math.log(2))
        error = float(influence.std(ddof=1)) / math.sqrt(len(relative)) if len(relative) > 1 else None
        rms = np.quantile(np.sqrt((v / v.mean()).cpu().numpy()), QUANTILES)
        found.append(Spread(float(geometry.variance_gain(relative)), error, float(noise), tuple(rms.tolist())))
    return found[0], found[1]


def _moments(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squares and mean fourth powers of the rows, and of the columns: float64."""
    rows, columns = matrix.shape
    if matrix.is_cuda and (of_rows := rows_cuda.summary(matrix)) and (down := rows_cuda.columns(matrix)) is not None:
        return of_rows[1] / columns, down / rows
    # Filled in place: small results kept between large temporaries would pin the heap, chunk after chunk.
    along = torch.empty((2, rows), dtype=torch.float64, device=matrix.device)
    down = torch.zeros((2, columns), dtype=torch.float64, device=matrix.device)
    step = max(1, chunk_size(matrix.device, CHUNK) // columns)
    for start in range(0, rows, step):
        chunk = slice(start, start + step)
        squares = matrix[chunk].double().square()  # not in place: a float64 chunk is the matrix itself
        along[0, chunk], down[0] = squares.mean(1), down[0] + squares.sum(0)
        squares.square_()
        along[1, chunk], down[1] = squares.mean(1), down[1] + squares.sum(0)
    return along, down / rows
