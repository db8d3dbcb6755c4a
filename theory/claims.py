r"""The registry of inequalities: each one once, with its two sides, its domain and how it is known.

A claim compares two quantities of a `Setting`: a source, a codebook, a rate. The property tests draw settings from
the claim's domain, in floats and in balls; `empirics.checks` puts a measured tensor in the setting's place, so that
the same two sides judge a real model. A claim that names a `model` holds for tensors that follow it:

- ``any``: no assumption on the weights at all;
- ``iid``: the weights are iid draws of a GGD;
- ``row-conditional``: rows are GGD with scales of their own.

Proof status is ``lean`` (machine-checked), ``paper`` (cited, or proved in the docstring named) or ``numeric``: in
balls at every point that was sampled from the claim's domain, which proves it there and not in between. It is about
the inequality, never about a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from theory import block_scaling, ggd, scalar, shannon
from theory.arithmetic import Number
from theory.codebooks import Codebook
from theory.domain import COUNT, FISHER_SHAPE, LOG_CONCAVE_SHAPE, SHAPE, Domain, unknown
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
        What else the claim's domain names: D, R, n, q, levels, codebook, larger_beta.

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

    @property
    def kurtosis(self) -> Number:
        return ggd.kurtosis(self.beta)

    def abs_moment(self, q: Number) -> Number:
        """E|X|**q, in standard deviations to the q."""
        return ggd.abs_moment(q, self.beta)


@dataclass(frozen=True)
class Claim:
    """``lhs(setting) <= rhs(setting)`` for every setting in the domain.

    Attributes
    ----------
    id : str
    statement : str
        For a reader, in the symbols of the field.
    lhs, rhs : callable
        The two sides, of a `Setting`, in its arithmetic.
    domain : mapping of str to Domain
        The arguments of the `Setting` and where they lie. ``codebook`` stands for every codebook with both ends.
    model : {"any", "iid", "row-conditional"}
        What a tensor must be for the claim to speak of it.
    status : {"lean", "paper", "numeric"}
    reference : str
        Keys of references.bib, or the docstring that proves it.
    lean : str or None
        The Lean declaration, once there is one.
    measured : bool
        Whether a side is a quantity that is measured on a tensor.
    arithmetics : tuple of str
        In which the sides can be evaluated.
    """

    id: str
    statement: str
    lhs: Callable[[Any], Number]
    rhs: Callable[[Any], Number]
    domain: Mapping[str, Domain]
    model: Literal["any", "iid", "row-conditional"]
    status: Literal["lean", "paper", "numeric"]
    reference: str
    lean: str | None = None
    measured: bool = False
    arithmetics: tuple[str, ...] = field(default=("float", "ball"))


_BETA = Domain(0.3, 20, low_open=False, high_open=False)
_RATE = Domain(0.25, 8, low_open=False, high_open=False)
_D = Domain(1e-4, 0.95, low_open=False, high_open=False)
_BLOCK = Domain(2, 4096, low_open=False, high_open=False, integer=True)
_LEVELS = Domain(2, 64, low_open=False, high_open=False, integer=True)
_ORDER = Domain(1, 8, low_open=False, high_open=False)


def _within(domain: Domain, box: Domain) -> Domain:
    """The part of a claim's domain in which it is tested: no wider than `box`."""
    low_open = domain.low_open and domain.low >= box.low
    return Domain(max(domain.low, box.low), box.high, low_open, high_open=False, integer=domain.integer)


_ANY_SHAPE = _within(SHAPE, _BETA)
_FISHER = _within(FISHER_SHAPE, _BETA)
_LOG_CONCAVE = _within(LOG_CONCAVE_SHAPE, _BETA)
_BLOCK_SHAPE = Domain(0.5, 8, low_open=False, high_open=False)

_FLOAT_ONLY = ("float",)


def _best_mse(s: Setting) -> Number:
    """Distortion of the best codebook of as many levels as the setting's; it is optimized in float64."""
    return block_scaling.mse(best_codebook(GGD(float(s.beta)), len(s.codebook), s.n), s.n, s.source)


_ALL = (
    Claim(
        "ggd.entropy-maximal", "h(X) <= 1/2 log2(2 pi e sigma^2)",
        lambda s: ggd.entropy(s.beta), lambda s: ggd.entropy(0 * s.beta + 2),
        {"beta": _ANY_SHAPE}, "iid", "paper", "[CoverThomas2006, thm 8.6.5]",
    ),
    Claim(
        "ggd.cramer-rao", "1 <= J sigma^2",
        lambda s: 1 + 0 * s.beta, lambda s: ggd.fisher_information(s.beta),
        {"beta": _FISHER}, "iid", "paper", "[CoverThomas2006, thm 11.10.1]",
    ),
    Claim(
        "ggd.stam", "1 <= N J (entropy power times Fisher information)",
        lambda s: 1 + 0 * s.beta, lambda s: ggd.entropy_power(s.beta) * ggd.fisher_information(s.beta),
        {"beta": _FISHER}, "iid", "paper", "[Stam1959]",
    ),
    Claim(
        "ggd.kurtosis-decreasing", "kurtosis(beta2) <= kurtosis(beta1) for beta1 <= beta2",
        lambda s: ggd.kurtosis(s.larger_beta), lambda s: ggd.kurtosis(s.beta),
        {"beta": _ANY_SHAPE, "larger_beta": _ANY_SHAPE}, "iid", "paper", "[BoxTiao1973]",
    ),
    Claim(
        "ggd.kurtosis-above-uniform", "9/5 <= kurtosis",
        lambda s: 9 * (1 + 0 * s.beta) / 5, lambda s: s.kurtosis,
        {"beta": _ANY_SHAPE}, "iid", "paper", "the limit beta -> inf of ggd.kurtosis-decreasing", measured=True,
    ),
    Claim(
        "ggd.kl-log-concave", "KL(p || N) <= 1/2 log2(pi e / 6) for beta >= 1",
        lambda s: ggd.kl_to_gaussian(s.beta), lambda s: shannon.gap_log_concave(s.source),
        {"beta": _LOG_CONCAVE}, "iid", "paper", "[Madiman2018]",
    ),
    Claim(
        "shannon.slb-below-gaussian", "R_SLB(D) <= 1/2 log2(sigma^2/D)",
        lambda s: shannon.lower_bound(s.source, s.D), lambda s: shannon.gaussian_rate(s.D + 0 * s.beta),
        {"beta": _ANY_SHAPE, "D": _D}, "iid", "paper", "[Shannon1959]",
    ),
    Claim(
        "shannon.refined-below-log", "1/2 log2(1 + D(J - 1/sigma^2)) <= 1/2 log2(1 + D J)",
        lambda s: shannon.gap_fisher_refined(s.source, s.D), lambda s: shannon.gap_fisher_log(s.source, s.D),
        {"beta": _FISHER, "D": _D}, "iid", "paper", "theory.shannon",
    ),
    Claim(
        "shannon.log-below-linear", "1/2 log2(1 + D J) <= D J/(2 ln 2)",
        lambda s: shannon.gap_fisher_log(s.source, s.D), lambda s: shannon.gap_fisher_linear(s.source, s.D),
        {"beta": _FISHER, "D": _D}, "iid", "paper", "theory.shannon",
    ),
    Claim(
        "scalar.lloyd-max-above-slb", "2^(2(h - log2 N))/(2 pi e) <= D of Lloyd-Max with N levels",
        lambda s: shannon.distortion_lower_bound(s.source, math.log2(s.levels)), lambda s: s.lloyd_max_mse,
        {"beta": _ANY_SHAPE, "levels": _LEVELS}, "iid", "paper", "[Shannon1959]",
        measured=True, arithmetics=_FLOAT_ONLY,
    ),
    Claim(
        "scalar.lloyd-max-below-uniform", "D of Lloyd-Max <= D of the optimal uniform quantizer, N levels each",
        lambda s: s.lloyd_max_mse, lambda s: s.uniform_mse,
        {"beta": _LOG_CONCAVE, "levels": _LEVELS}, "iid", "paper", "[Fleischer1964]",
        measured=True, arithmetics=_FLOAT_ONLY,
    ),
    Claim(
        "scalar.ecsq-above-slb", "2^(2(h - H))/(2 pi e) <= D of a uniform-threshold quantizer of entropy H",
        lambda s: shannon.distortion_lower_bound(s.source, s.R), lambda s: s.ecsq_mse,
        {"beta": _ANY_SHAPE, "R": _RATE}, "iid", "paper", "[Shannon1959]",
        measured=True, arithmetics=_FLOAT_ONLY,
    ),
    Claim(
        "block.absmax-mean-lower", "F^-1(n/(n+1)) <= E S",
        lambda s: block_scaling.absmax_mean_bounds(s.n, s.source).lower, lambda s: s.absmax_mean,
        {"beta": _BLOCK_SHAPE, "n": _BLOCK}, "row-conditional", "paper", "theory.block_scaling.absmax_mean_bounds",
        measured=True,
    ),
    Claim(
        "block.absmax-mean-upper", "E S <= F^-1(1 - exp(-H_n)) for beta >= 1",
        lambda s: s.absmax_mean, lambda s: block_scaling.absmax_mean_bounds(s.n, s.source).upper,
        {"beta": _within(LOG_CONCAVE_SHAPE, _BLOCK_SHAPE), "n": _BLOCK}, "row-conditional", "paper",
        "theory.block_scaling.absmax_mean_bounds", measured=True,
    ),
    Claim(
        "block.absmax-second-moment", "E S <= sqrt(n E X^2)",
        lambda s: s.absmax_mean, lambda s: block_scaling.moment_bound(s.n, 2, s.abs_moment(2)),
        {"beta": _BLOCK_SHAPE, "n": _BLOCK}, "any", "paper", "theory.block_scaling.moment_bound", measured=True,
    ),
    Claim(
        "block.absmax-fourth-moment", "E S <= (n E X^4)^(1/4)",
        lambda s: s.absmax_mean, lambda s: block_scaling.moment_bound(s.n, 4, s.abs_moment(4)),
        {"beta": _BLOCK_SHAPE, "n": _BLOCK}, "any", "paper", "theory.block_scaling.moment_bound", measured=True,
    ),
    Claim(
        "block.absmax-any-moment", "E S <= (n E|X|^q)^(1/q), q >= 1",
        lambda s: s.absmax_mean, lambda s: block_scaling.moment_bound(s.n, s.q, s.abs_moment(s.q)),
        {"beta": _BLOCK_SHAPE, "n": _BLOCK, "q": _ORDER}, "iid", "paper", "theory.block_scaling.moment_bound",
    ),
    Claim(
        "block.error-pointwise", "|x - S Q(x/S)| <= S delta/2, delta the largest gap, +-1 levels",
        lambda s: s.worst, lambda s: s.codebook.largest_half_gap,
        {"codebook": COUNT}, "any", "paper", "theory.codebooks.Codebook.largest_half_gap", measured=True,
    ),
    Claim(
        "block.error-mean-square", "D <= E S^2 delta^2/4",
        lambda s: s.mse, lambda s: s.absmax_second_moment * s.codebook.largest_half_gap**2,
        {"beta": _BLOCK_SHAPE, "n": _BLOCK, "codebook": COUNT}, "any", "paper",
        "the mean square of block.error-pointwise", measured=True, arithmetics=_FLOAT_ONLY,
    ),
    Claim(
        "block.converse", "2^(2(h(X|row) - b_eff))/(2 pi e) <= D, b_eff the bits with the scales counted",
        lambda s: shannon.distortion_lower_bound(s.source, s.effective_bits) * s.row_gain, lambda s: s.mse,
        {"beta": _BLOCK_SHAPE, "n": _BLOCK, "codebook": COUNT}, "row-conditional", "paper", "[Shannon1959]",
        measured=True, arithmetics=_FLOAT_ONLY,
    ),
    Claim(
        "block.best-codebook", "D of the best codebook of as many levels <= D, iid blocks",
        _best_mse,
        lambda s: s.mse,
        {"beta": _within(LOG_CONCAVE_SHAPE, _BLOCK_SHAPE), "n": _within(_BLOCK, Domain(8, 512)),
         "codebook": COUNT},
        "iid", "numeric", "theory.block_scaling.best_codebook: both sides in balls, at points of the box",
        measured=True,
    ),
)  # fmt: skip

CLAIMS: Mapping[str, Claim] = MappingProxyType({claim.id: claim for claim in _ALL})
"""Every inequality of `theory`, by id."""


def get(id: str) -> Claim:
    """Return the claim of that id.

    Raises
    ------
    ValueError
        If there is none; near misses are suggested.

    Examples
    --------
    >>> get("ggd.stam").status
    'paper'
    """
    if id not in CLAIMS:
        raise unknown("claim", id, CLAIMS)
    return CLAIMS[id]


def markdown() -> str:
    """The registry as a Markdown table: what the README shows (``python -m theory.claims``)."""
    rows = ["| claim | inequality | assumes | known by | source |", "|---|---|---|---|---|"]
    for claim in CLAIMS.values():
        source = claim.reference.strip("[]")
        statement = claim.statement.replace("|", chr(92) + "|")
        rows.append(f"| `{claim.id}` | {statement} | {claim.model} | {claim.status} | {source} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown())
