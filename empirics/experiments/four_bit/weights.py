"""What quantizing does to the weights of a model: mean squared errors of all its matrices, and gaps to the bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from empirics import fit, histogram
from empirics.experiments.degradation import Subject, matrices
from empirics.functional import Weights
from empirics.influence import standard_errors
from empirics.language_model import LanguageModel, replaced
from empirics.store import Store
from theory import ggd, rate_distortion, shannon
from theory.sources import GGD

WIDTH = 0.005
"""Bits: where the closed bounds on R(D) are further apart, it is solved for."""


@dataclass(frozen=True)
class RowSums:
    """Errors of a matrix, row by row: s the sum of a row's squared errors, e that of its squared weights.

    Attributes
    ----------
    rows, columns : int
    s, e, ss, se, ee : float
        Sums over the rows of s, e, and of their products.
    """

    rows: int
    columns: int
    s: float
    e: float
    ss: float
    se: float
    ee: float

    @property
    def weights(self) -> int:
        return self.rows * self.columns

    def beyond(self, slope: float, constant: float) -> float:
        """Sum over the rows of (s - slope e - constant)**2."""
        return max(
            self.ss - 2 * slope * self.se - 2 * constant * self.s + slope**2 * self.ee + 2 * slope * constant * self.e
            + self.rows * constant**2, 0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class WeightMSE:
    """Mean squared error of the weights of some matrices, exact. The errors are of rows drawn anew, clustered by row.

    Attributes
    ----------
    absolute, absolute_error : float
        In the weights' units squared.
    relative, relative_error : float
        Over the mean square of the weights.
    """

    absolute: float
    absolute_error: float
    relative: float
    relative_error: float

    @classmethod
    def of(cls, sums: list[RowSums]) -> WeightMSE:
        """Of all weights of these matrices together."""
        weights, rows = sum(m.weights for m in sums), sum(m.rows for m in sums)
        squares, energy = math.fsum(m.s for m in sums), math.fsum(m.e for m in sums)
        mse, relative = squares / weights, squares / energy if energy else math.nan
        spread = rows / (rows - 1) if rows > 1 else math.nan
        return cls(
            mse, math.sqrt(spread * math.fsum(m.beyond(0.0, mse * m.columns) for m in sums)) / weights,
            relative, math.sqrt(spread * math.fsum(m.beyond(relative, 0.0) for m in sums)) / energy if energy
            else math.nan,
        )  # fmt: skip

    @property
    def sqnr(self) -> tuple[float, float]:
        """Signal over noise in dB, and its standard error; NaN without noise."""
        if not self.relative > 0:
            return math.nan, math.nan
        return -10 * math.log10(self.relative), 10 / math.log(10) * self.relative_error / self.relative


@dataclass(frozen=True)
class Law:
    """The GGD of a matrix by maximum likelihood, with the standard error of its exponent clustered by row and column.

    The error is None if the fit did not converge.
    """

    variance: float
    beta: float
    beta_error: float | None


def oriented(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """Every matrix that a method may quantize, with a row for each output, as it is now: embeddings too."""
    return {name: matrix.detach() for name, matrix in (dict(lm.embedding()) | matrices(lm)).items()}


def names_of(lm: LanguageModel, weights: Mapping[str, Any]) -> dict[str, str]:
    """The model's own name for each parameter that a checkpoint may name without a prefix."""
    own = {id(parameter): name for name, parameter in lm.network.named_parameters()}
    return {name: own[id(lm.parameter(name))] for name in weights}


def row_sums(lm: LanguageModel, weights: Weights) -> dict[str, RowSums]:
    """The errors of new weights, matrix by matrix, by the model's own names."""
    before = oriented(lm)
    with replaced(lm, weights):
        after = oriented(lm)
    found = {}
    for name in names_of(lm, weights).values():
        old = before[name].double()
        s, e = (after[name].double() - old).square().sum(1), old.square().sum(1)
        values = (s.sum(), e.sum(), s @ s, s @ e, e @ e)
        found[name] = RowSums(len(old), old.shape[1], *(float(value) for value in values))
    return found


def laws(subject: Subject, store: Store) -> dict[str, Law]:
    """Fit every matrix of the model's linear layers and embeddings."""

    def compute() -> dict[str, Any]:
        return {name: asdict(_law(matrix, name)) for name, matrix in oriented(subject.lm).items()}

    record = store.remember(subject.key("laws"), compute, subject.provenance)
    return {name: Law(**values) for name, values in record.items()}


def _law(matrix: torch.Tensor, name: str) -> Law:
    atoms = histogram.exact(matrix, name)
    found = fit.marginal(atoms, name)
    if found.status != "converged" or found.influence is None:
        return Law(atoms.variance, found.beta, None)
    return Law(atoms.variance, found.beta, standard_errors(matrix, found.influence)[0])


def rates(law: Law, mse: WeightMSE) -> dict[str, float | None]:
    r"""Bits that the distortion of a matrix takes at the least, by each bound; None without a distortion.

    The Gaussian's :math:`\tfrac12\log_2(\sigma^2/D)`, with its standard error; the Shannon lower bound of the fitted
    GGD, its error that of the exponent too; and a certified bracket of that GGD's R(D).
    """
    D = mse.absolute / law.variance
    if not D > 0:
        return dict.fromkeys(("gauss", "gauss_error", "ggd", "ggd_error", "rd_low", "rd_high"))
    error = mse.relative_error / mse.relative / (2 * math.log(2))
    lower, upper = certified_rate(law.beta, D)
    return {
        "gauss": -math.log2(D) / 2, "gauss_error": error,
        "ggd": float(shannon.lower_bound(GGD(law.beta), D)), "ggd_error": math.hypot(error, _kl_error(law)),
        "rd_low": lower, "rd_high": upper,
    }  # fmt: skip


def gaps(found: Mapping[str, float | None], bits: float) -> dict[str, float | None]:
    """Bits spent beyond those rates. The bracket's ends change places.

    >>> gaps({"gauss": 3.4, "gauss_error": 0.01, "rd_low": 3.375, "rd_high": 3.5}, 4.0)["rd_low"]
    0.5
    """
    gap = {name: value if value is None or name.endswith("_error") else bits - value for name, value in found.items()}
    return gap | {"rd_low": gap["rd_high"], "rd_high": gap["rd_low"]}


@lru_cache(maxsize=4096)
def certified_rate(beta: float, D: float) -> tuple[float, float]:
    """Bracket of R(D) of a GGD of unit variance: between closed bounds, or of `rate_distortion.solve` if tighter.

    >>> low, high = certified_rate(1.7, 0.0088)
    >>> round(low, 3), high - low < WIDTH
    (3.41, True)
    """
    if D >= 1:
        return 0.0, 0.0
    source = GGD(beta)
    lower = max(float(shannon.lower_bound(source, D)), 0.0)
    upper = lower + float(shannon.gap_upper_bound(source, D))
    if upper - lower > WIDTH:
        found = rate_distortion.solve(source, D, tol=WIDTH / 10)
        lower, upper = max(lower, found.lower), min(upper, found.upper)
    return lower, upper


def _kl_error(law: Law) -> float:
    """What the error of the exponent does to the divergence from the Gaussian, in bits."""
    if law.beta_error is None:
        return math.nan
    step = min(law.beta_error, law.beta / 2)
    ends = [float(ggd.kl_to_gaussian(law.beta + side * step)) for side in (-1, 1)]
    return abs(ends[1] - ends[0]) / (2 * step) * law.beta_error if step else 0.0


def mean_rates(found: list[dict[str, float | None]], weights: list[int]) -> dict[str, float | None]:
    """Mean over matrices by their weights, as `theory.ledger.average`; errors of independent matrices.

    None if a matrix has none.
    """
    mean: dict[str, float | None] = {}
    for name in found[0]:
        values = [rate[name] for rate in found]
        parts = [w / sum(weights) * v for w, v in zip(weights, values, strict=True) if v is not None]
        mean[name] = None
        if len(parts) == len(values):
            mean[name] = math.hypot(*parts) if name.endswith("_error") else math.fsum(parts)
    return mean
