"""Claim x Measurement -> Verdict: every inequality of `theory.claims` held against a real matrix.

No formula is here: a claim's two sides are evaluated on a setting whose measured quantities are the matrix's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from empirics.measure import Measurement
from empirics.quantizers import get as get_quantizer
from theory.claims import CLAIMS, Claim, Setting
from theory.domain import check

SIGMAS = 4
"""Standard errors by which a side may miss before a claim counts as violated (about 1 in 30,000 by chance)."""

ROUNDING = 2.0**-20
"""Relative error that the quantizers' float32 arithmetic may add to a measured side."""


@dataclass(frozen=True)
class Verdict:
    """What a claim says of a matrix.

    Attributes
    ----------
    claim, tensor, quantizer : str
    verdict : {"holds", "violated", "inapplicable"}
    reason : str
        Why it does not apply, or what it assumes.
    lhs, rhs, margin, standard_error : float or None
        Both sides, ``rhs - lhs``, and the standard error of the measured one.
    """

    claim: str
    tensor: str
    quantizer: str
    verdict: Literal["holds", "violated", "inapplicable"]
    reason: str
    lhs: float | None = None
    rhs: float | None = None
    margin: float | None = None
    standard_error: float | None = None


class Observed(Setting):
    """The quantities of a claim as measured on a matrix, under the model that the claim assumes."""

    def __init__(self, measurement: Measurement, model: str) -> None:
        found = measurement.statistics
        by_row = model == "row-conditional"
        super().__init__(
            found.beta_row if by_row else found.beta,
            n=measurement.block_size,
            levels=2**measurement.bits,
            R=float(measurement.bits),
            codebook=get_quantizer(measurement.quantizer).codebook,
            row_gain=found.row_gain if by_row else 1.0,
        )
        self.measurement = measurement
        # Under the row-conditional model E S is the mean deviation of a row times that of the unit law.
        self.unit = found.row_deviation if by_row else 1.0

    @property
    def absmax_mean(self) -> float:
        return self.measurement.absmax_mean / self.unit

    @property
    def absmax_second_moment(self) -> float:
        return self.measurement.absmax_second_moment

    @property
    def mse(self) -> float:
        return self.measurement.measured_mse

    @property
    def lloyd_max_mse(self) -> float:
        return self.measurement.lloyd_max_mse

    @property
    def uniform_mse(self) -> float:
        return self.measurement.uniform_mse

    @property
    def ecsq_mse(self) -> float:
        return self.measurement.ecsq_mse

    @property
    def worst(self) -> float:
        return self.measurement.worst

    @property
    def effective_bits(self) -> float:
        return self.measurement.effective_bits

    @property
    def kurtosis(self) -> float:
        return self.measurement.statistics.kurtosis

    def abs_moment(self, q: float) -> float:
        found = self.measurement.statistics
        second = 1 + found.mean**2 / found.variance
        return {2: second, 4: found.kurtosis * second**2}[int(q)]


_ERROR_OF = {
    "ggd.kurtosis-above-uniform": lambda m: m.statistics.kurtosis_error,
    "block.absmax-mean-lower": lambda m: m.absmax_mean_error / m.statistics.row_deviation,
    "block.absmax-mean-upper": lambda m: m.absmax_mean_error / m.statistics.row_deviation,
    "block.converse": lambda m: m.mse_error,
    "block.best-codebook": lambda m: m.mse_error,
}
"""Standard error of the sampled side. Claims of model "any" hold for the very numbers: nothing is sampled."""


def judge(claim: Claim, measurement: Measurement) -> Verdict:
    """Hold one claim against one measurement."""
    name = measurement.statistics.name, measurement.quantizer
    if not claim.measured:
        return Verdict(claim.id, *name, "inapplicable", "compares theory with theory: nothing is measured")
    setting = Observed(measurement, claim.model)
    for argument, domain in claim.domain.items():
        if argument != "codebook":
            try:
                check(argument, getattr(setting, argument), domain)
            except ValueError as outside:
                return Verdict(claim.id, *name, "inapplicable", str(outside))
    lhs, rhs = float(claim.lhs(setting)), float(claim.rhs(setting))
    error = float(_ERROR_OF[claim.id](measurement)) if claim.id in _ERROR_OF else 0.0
    allowance = SIGMAS * error + ROUNDING * max(abs(lhs), abs(rhs))
    verdict: Literal["holds", "violated"] = "holds" if lhs <= rhs + allowance else "violated"
    assumed = "assumes nothing" if claim.model == "any" else f"assumes the {claim.model} GGD model"
    return Verdict(claim.id, *name, verdict, assumed, lhs, rhs, rhs - lhs, error)


def judge_all(measurement: Measurement) -> list[Verdict]:
    """Every claim against one measurement, in the registry's order."""
    return [judge(claim, measurement) for claim in CLAIMS.values()]
