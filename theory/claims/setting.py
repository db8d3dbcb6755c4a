"""A setting: a source, a codebook, a rate, and the quantities that claims compare there."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flint import arb

from theory import arithmetic, block_scaling, ggd, rate_distortion, scalar
from theory.arithmetic import Number
from theory.codebooks import Codebook
from theory.ledger import best_codebook
from theory.sources import GGD


class Setting:
    """The quantities that claims compare, predicted for a GGD of unit variance.

    `empirics.checks.Observed` is the same with measured values. Attributes that were not given are missing, and a
    claim that needs one does not apply.

    Parameters
    ----------
    beta : number
        Exponent of the source.
    **given
        What else the claim's domain names: D, R, n, q, levels, codebook, x, y, lattice, spectrum, larger_beta ...

    Examples
    --------
    >>> round(float(Setting(2.0, n=64).absmax_mean), 6)
    2.596111
    """

    def __init__(self, beta: Number, **given: Any) -> None:
        self.beta = beta
        self.__dict__.update(given)

    n: int
    R: Any
    D: Any
    q: Any
    levels: int
    codebook: Codebook
    larger_beta: Any
    larger_D: Any
    x: Any
    y: Any
    lattice: str
    spectrum: Any
    row_gain: Any = 1
    """Geometric over arithmetic mean of the rows' variances: 1 when rows are alike."""

    @cached_property
    def source(self) -> GGD:
        return GGD(self.beta)

    @property
    def absmax_mean(self) -> Number:
        """E S, in standard deviations."""
        return block_scaling.absmax_mean(self.n, self.source)

    @property
    def absmax_second_moment(self) -> Number:
        """E S**2, in variances."""
        return block_scaling.absmax_second_moment(self.n, self.source)

    @property
    def mse(self) -> Number:
        """Mean squared error of the codebook under absmax scaling, in variances."""
        return block_scaling.mse(self.codebook, self.n, self.source)

    @property
    def worst(self) -> Number:
        """Largest |x - S Q(x/S)| / S that any weight can have."""
        return self.codebook.largest_half_gap

    @property
    def effective_bits(self) -> Number:
        """Bits per weight with a 32-bit scale for each block."""
        return block_scaling.effective_bits(self.codebook.bits, self.n)

    @property
    def lloyd_max_mse(self) -> Number:
        """Distortion of Lloyd-Max with `levels` levels, in variances."""
        return scalar.lloyd_max(self.source, self.levels).mse

    @property
    def uniform_mse(self) -> Number:
        """Distortion of the optimal uniform quantizer with `levels` levels, in variances."""
        return scalar.uniform(self.source, self.levels).mse

    @property
    def ecsq_mse(self) -> Number:
        """Distortion of the uniform-threshold quantizer of entropy `R` bits, in variances."""
        return scalar.ecsq(self.source, rate=self.R).mse

    @cached_property
    def optimal_ecsq(self) -> scalar.Quantizer:
        """The optimal entropy-coded scalar quantizer of entropy `R` bits, or the nearest to it on the convex hull."""
        return scalar.optimal_ecsq(self.source, self.R)

    def at_least(self, D: Any) -> Any:
        """What R(D) is at least, D in variances: the lower end of its certified bracket; in balls, R(D) itself."""
        return self._rate(D, "lower")

    def at_most(self, D: Any) -> Any:
        """What R(D) is at most: the upper end; in balls, R(D) itself, so that what a comparison decides is proved."""
        return self._rate(D, "upper")

    def _rate(self, D: Any, end: str) -> Any:
        if arithmetic.of(self.beta).name == "float":
            return getattr(rate_distortion.solve(self.source, D), end)
        # Drawn from float64, beta and D are exact.
        r = rate_distortion.solve(GGD(float(self.beta)), float(D), certify=True)
        return arb(r.lower).union(arb(r.upper))

    @cached_property
    def reference_levels(self) -> Any:
        """Lloyd-Max levels of the Gaussian, for the claims about mismatch; in float64, taken as exact."""
        return scalar.lloyd_max(GGD(2.0), self.levels).levels

    @property
    def reference_mse(self) -> Number:
        """Their distortion on the source, in variances."""
        return scalar.mse(self.reference_levels, self.source)

    @property
    def best_mse(self) -> Number:
        """Distortion of the best codebook of as many levels as the setting's; it is optimized in float64."""
        best = best_codebook(GGD(float(self.beta)), len(self.codebook), self.n)
        return block_scaling.mse(best, self.n, self.source)

    @property
    def kurtosis(self) -> Number:
        return ggd.kurtosis(self.beta)

    def abs_moment(self, q: Number) -> Number:
        """E|X|**q, in standard deviations to the q."""
        return ggd.abs_moment(q, self.beta)
