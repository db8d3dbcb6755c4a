"""Tensor x quantizer -> Measurement: what a matrix is, what quantizing it costs, and what theory predicts.

A `Matrix` knows what no quantizer changes (moments, exponents, rows: `Statistics`) and measures quantizers. A
`Measurement` is a plain record, which `empirics.store` keeps and the report prints. Distortions are in units of the
matrix's variance.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from empirics import fit, histogram
from empirics.distortion import distortion
from empirics.influence import standard_errors
from empirics.quantizers import Quantizer
from empirics.scalar_quantizers import DESIGN_ATOMS
from empirics.tensors import TensorInfo, layer
from theory import scalar
from theory.ledger import Ledger, Step, gap_ledger
from theory.sources import GGD, Histogram


@dataclass(frozen=True)
class Statistics:
    """A weight matrix, before any quantizer.

    Attributes
    ----------
    name, role, layer, shape, dtype
        As `empirics.tensors` says.
    weights : int
    mean, variance : float
        In the weights' units.
    kurtosis, kurtosis_error : float
        Fourth standardized moment about 0, and its standard error, clustered by row and by column.
    beta, beta_error : float
        Maximum-likelihood exponent of the marginal law, and its standard error, clustered by row and by column.
    beta_row, beta_row_error : float
        The same within rows, each with a scale of its own; standard error clustered by row, for these very columns.
    row_gain : float
        Geometric over arithmetic mean of the rows' second moments, 1 when rows are alike.
    row_deviation : float
        Mean over rows of the root mean square, in units of the tensor's standard deviation.
    displacement : float
        Root mean square distance of the weights from the histogram's atoms, same unit: 0 when it is exact.
    notes : list of str
        What a reader should know of the numbers.
    """

    name: str
    role: str
    layer: int | None
    shape: list[int]
    dtype: str
    weights: int
    mean: float
    variance: float
    kurtosis: float
    kurtosis_error: float
    beta: float
    beta_error: float | None
    beta_row: float
    beta_row_error: float | None
    row_gain: float
    row_deviation: float
    displacement: float
    notes: list[str] = field(default_factory=list)

    @property
    def row_spread_bits(self) -> float:
        """What knowing the rows' variances is worth: 1/2 log2(AM/GM), in bits."""
        return -math.log2(self.row_gain) / 2


@dataclass(frozen=True)
class Measurement:
    """A weight matrix and a quantizer: measured, predicted, and the gap between.

    Attributes
    ----------
    statistics : Statistics
    quantizer : str
    bits, effective_bits : float
        Nominal, and with the scales counted.
    block_size : int
    measured_mse, mse_error : float
        In units of the tensor's variance, with the standard error of that ratio, clustered by row.
    predicted_mse_iid, predicted_mse_row : float
        For blocks drawn from the marginal GGD, and from rows with the within-row exponent.
    absmax_mean, absmax_mean_error, absmax_second_moment : float
        Of the blocks' scales, in units of the tensor's standard deviation and variance; standard error clustered by
        row.
    worst : float
        Largest error over its block's scale.
    lloyd_max_mse, uniform_mse, ecsq_mse : float
        Of the scalar quantizers that are best for this very matrix, as many levels or as much entropy, exact.
    ledger : Ledger
    """

    statistics: Statistics
    quantizer: str
    bits: int
    effective_bits: float
    block_size: int
    measured_mse: float
    mse_error: float
    predicted_mse_iid: float
    predicted_mse_row: float
    absmax_mean: float
    absmax_mean_error: float
    absmax_second_moment: float
    worst: float
    lloyd_max_mse: float
    uniform_mse: float
    ecsq_mse: float
    ledger: Ledger

    @property
    def residual_iid(self) -> float:
        """Measured over predicted, less 1, for the iid model."""
        return self.measured_mse / self.predicted_mse_iid - 1

    @property
    def residual_row(self) -> float:
        """Measured over predicted, less 1, for the row-conditional model."""
        return self.measured_mse / self.predicted_mse_row - 1

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Measurement:
        """The measurement that `record` was made from."""
        values = dict(record)
        values["statistics"] = Statistics(**values["statistics"])
        steps = tuple(Step(**step) for step in values["ledger"]["steps"])
        values["ledger"] = Ledger(**{**values["ledger"], "steps": steps})
        return cls(**values)


class Matrix:
    """A weight matrix under measurement.

    Parameters
    ----------
    tensor : torch.Tensor
        Shape (rows, columns), floating-point.
    info : TensorInfo
        Its name and role.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or the matrix is constant or too small to fit: the message names it.
    """

    def __init__(self, tensor: torch.Tensor, info: TensorInfo) -> None:
        self.tensor = tensor
        self.atoms = histogram.exact(tensor, info.name)
        if self.atoms.variance == 0:
            value = float(self.atoms.values[0])
            raise ValueError(f"{info.name} is constant ({value:g}): it has no variance, and no gap to measure")
        self.statistics = _statistics(tensor, info, self.atoms)
        self._scalar: dict[int, tuple[float, float, float]] = {}

    def scalar(self, bits: int) -> tuple[float, float, float]:
        """Exact distortions of Lloyd-Max, the best uniform and the entropy-coded quantizer of the matrix itself.

        The levels of the first two are searched for on the coarsened histogram, if it has very many atoms.
        """
        if bits not in self._scalar:
            atoms = histogram.coarsened(self.atoms, DESIGN_ATOMS)
            levels = min(2**bits, len(atoms.values))
            found = (
                scalar.mse(scalar.lloyd_max(atoms, levels).levels, self.atoms),
                scalar.mse(scalar.uniform(atoms, levels).levels, self.atoms),
                scalar.ecsq(self.atoms, rate=min(bits, 0.99 * self.atoms.entropy())).mse,
            )
            lloyd_max, uniform, ecsq = (float(mse) / self.atoms.variance for mse in found)
            self._scalar[bits] = lloyd_max, uniform, ecsq
        return self._scalar[bits]

    def measure(self, quantizer: Quantizer, block_size: int) -> Measurement:
        """Quantize the matrix, and hold the result against both predictions.

        Parameters
        ----------
        quantizer : Quantizer
        block_size : int
            Weights that share a scale; blocks run over the flattened matrix.

        Raises
        ------
        ValueError
            If the block size is not a positive integer, or the quantizer has no codebook to predict with.
        """
        found = self.statistics
        if quantizer.codebook is None:
            raise ValueError(f"{quantizer.name} has no ledger: its levels depend on both ends of a block")
        error = distortion(quantizer, self.tensor, block_size, found.name)
        marginal, within = GGD(found.beta), GGD(found.beta_row)
        mse = error.mse / found.variance
        rows, deviation = len(error.energy), math.sqrt(found.variance)
        # A ratio of two sums over rows: what counts is each row's error beyond its share of the energy.
        beyond = error.squared_error / found.variance - mse * error.energy / found.variance
        absmax, square = error.absmax_sum / error.blocks, error.absmax_square_sum / error.blocks
        begun = np.bincount(np.arange(error.blocks) * block_size // self.tensor.shape[1], minlength=rows)
        # Likewise, of the blocks' mean over the root of the weights' mean square: relative changes of the two.
        moved = error.absmax_in_rows / error.absmax_sum - begun / error.blocks
        moved -= (error.energy / error.energy.sum() - 1 / rows) / 2
        lloyd_max, uniform, ecsq = self.scalar(quantizer.bits)
        ledger = gap_ledger(
            mse, quantizer.bits, marginal, quantizer.codebook, block_size,
            row_source=within, scale_bits=quantizer.scale_bits,
        )  # fmt: skip
        return Measurement(
            statistics=found,
            quantizer=quantizer.name,
            bits=quantizer.bits,
            effective_bits=quantizer.effective_bits(block_size),
            block_size=block_size,
            measured_mse=mse,
            mse_error=math.sqrt(rows / (rows - 1) * float(beyond @ beyond)) / error.n,
            predicted_mse_iid=predicted(quantizer, block_size, GGD(found.beta, deviation), error.n),
            predicted_mse_row=predicted(quantizer, block_size, GGD(found.beta_row, deviation), error.n),
            absmax_mean=absmax / deviation,
            absmax_mean_error=math.sqrt(rows / (rows - 1) * float(moved @ moved)) * absmax / deviation,
            absmax_second_moment=square / found.variance,
            worst=error.worst,
            lloyd_max_mse=lloyd_max,
            uniform_mse=uniform,
            ecsq_mse=ecsq,
            ledger=ledger,
        )


def _statistics(tensor: torch.Tensor, info: TensorInfo, atoms: Histogram) -> Statistics:
    marginal = fit.marginal(atoms, info.name)
    rows = fit.within_rows(tensor, name=info.name)
    notes = [
        f"{which} fit: {found.status}"
        for which, found in (("marginal", marginal), ("within-row", rows))
        if found.status != "converged"
    ]
    deviation = math.sqrt(atoms.variance)
    assert rows.row_second_moments is not None  # that of a fit within rows
    second = rows.row_second_moments.cpu().numpy()
    live = second[second > 0]
    if len(live) < len(second):
        notes.append(f"{len(second) - len(live)} of {len(second)} rows are all zero")
    if atoms.displacement:
        moved = atoms.displacement / deviation
        notes.append(f"histogram in buckets: weights moved by {moved:.1e} standard deviations")
    m2 = atoms.second_moment
    kurtosis = atoms.abs_moment(4) / m2**2

    def influence(x: torch.Tensor) -> torch.Tensor:
        square = x.square() / m2
        return square * (square - 2 * kurtosis) + kurtosis

    assert marginal.influence is not None  # that of a marginal fit
    kurtosis_error, beta_error = standard_errors(tensor, influence, marginal.influence)
    return Statistics(
        name=info.name,
        role=info.role,
        layer=layer(info.name),
        shape=list(info.shape),
        dtype=info.dtype,
        weights=tensor.numel(),
        mean=atoms.mean,
        variance=atoms.variance,
        kurtosis=kurtosis,
        kurtosis_error=kurtosis_error,
        beta=marginal.beta,
        beta_error=beta_error if marginal.status == "converged" else None,
        beta_row=rows.beta,
        beta_row_error=_known(rows.standard_error),
        row_gain=float(np.exp(np.mean(np.log(live))) / np.mean(second)),
        row_deviation=float(np.mean(np.sqrt(second)) / deviation),
        displacement=atoms.displacement / deviation,
        notes=notes,
    )


def _known(error: float) -> float | None:
    """NaN, from a fit that ended at the edge of its range, as JSON can say it."""
    return None if math.isnan(error) else error


def predicted(quantizer: Quantizer, block_size: int, law: GGD, weights: int) -> float:
    """Mean squared error of `weights` draws of a law, in units of its variance, the short last block included."""
    whole, rest = divmod(weights, block_size)
    parts = [(whole * block_size, block_size), (rest, rest)]
    return sum(count / weights * quantizer.predicted_mse(n, law) for count, n in parts if count) / float(law.variance)
