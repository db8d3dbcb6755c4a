"""Which Python function each Lean definition is, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flint import arb

from theory import (
    arithmetic,
    audit,
    block_maximum,
    block_scaling,
    codebook_design,
    codebooks,
    geometry,
    ggd,
    lattices,
    scalar,
    shannon,
)
from theory.lean.operations import Undefined
from theory.sources import GGD
from theory.units import from_nats

_SHAPE = "(beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) "
_FISHER = "(beta sigma : ℝ) (hbeta : 1 / 2 < beta) (hsigma : 0 < sigma) "
_DISTORTION = "(D : ℝ) (hD : 0 < D) (hDs : D < sigma ^ 2)"


@dataclass(frozen=True)
class Counterpart:
    """A Lean term over some binders, and the Python function of the variables named in them."""

    binders: str
    term: str
    python: Callable[..., Any]
    digits: int = 25


def _law(term: str, python: Callable[..., Any], more: str = "") -> Counterpart:
    return Counterpart(_SHAPE + more, term, python)


def _fisher(term: str, python: Callable[..., Any]) -> Counterpart:
    return Counterpart(_FISHER + _DISTORTION, term, lambda beta, sigma, D: python(GGD(beta, sigma), D))


_EXACT = [name for name, lattice in lattices.LATTICES.items() if lattice.estimate is None]


def _lattice(term: str, field: str) -> Counterpart:
    return Counterpart(
        f"(i : Fin {len(_EXACT)})", f"{term} i", lambda i: getattr(lattices.LATTICES[_EXACT[i]], field), 0
    )


COUNTERPARTS: dict[str, Counterpart] = {
    "alpha": _law("alpha beta sigma", lambda beta, sigma: ggd.alpha(beta, sigma)),
    "pdf": _law("pdf x beta sigma", lambda beta, sigma, x: ggd.pdf(x, beta, sigma), "(x : ℝ)"),
    "absMoment": _law(
        "absMoment k beta sigma", lambda beta, sigma, k: ggd.abs_moment(k, beta, sigma), "(k : ℝ) (hk : -1 < k)"
    ),
    "variance": _law("variance beta sigma", lambda beta, sigma: GGD(beta, sigma).variance),
    "kurtosis": _law("kurtosis beta", lambda beta, sigma: ggd.kurtosis(beta)),
    "entropyNats": _law("entropyNats beta sigma", lambda beta, sigma: ggd.entropy(beta, sigma, math.e)),
    "entropyBits": _law("entropyBits beta sigma", lambda beta, sigma: ggd.entropy(beta, sigma)),
    "entropyMixedUnits": Counterpart(
        _SHAPE, "entropyMixedUnits beta sigma",
        lambda beta, sigma: audit.reported_entropy(float(beta), float(ggd.alpha(float(beta), float(sigma)))), 11,
    ),
    "natsForBitsError": _law("natsForBitsError beta", lambda beta, sigma: from_nats(1 / beta) - 1 / beta),
    "entropyPower": _law("entropyPower beta sigma", lambda beta, sigma: ggd.entropy_power(beta, sigma)),
    "fisherInformation": Counterpart(
        _FISHER, "fisherInformation beta sigma", lambda beta, sigma: ggd.fisher_information(beta, sigma)
    ),
    "klToGaussianNats": _law("klToGaussianNats beta", lambda beta, sigma: ggd.kl_to_gaussian(beta, base=math.e)),
    "klToGaussianBits": _law("klToGaussianBits beta", lambda beta, sigma: ggd.kl_to_gaussian(beta)),
    "klNats": _law(
        "klNats beta beta2 sigma sigma2",
        lambda beta, sigma, beta2, sigma2: ggd.kl(beta, beta2, sigma, sigma2, math.e),
        "(beta2 sigma2 : ℝ) (hbeta2 : 0 < beta2) (hsigma2 : 0 < sigma2)",
    ),
    "gaussianRate": _law(
        "gaussianRate D sigma", lambda beta, sigma, D: shannon.gaussian_rate(D, sigma), _DISTORTION
    ),
    "gaussianDistortion": _law(
        "gaussianDistortion R sigma", lambda beta, sigma, R: shannon.gaussian_distortion(R, sigma),
        "(R : ℝ) (hR : 0 < R)",
    ),
    "shannonLowerBound": _law(
        "shannonLowerBound (entropyBits beta sigma) D",
        lambda beta, sigma, D: shannon.lower_bound(GGD(beta, sigma), D), _DISTORTION,
    ),
    "distortionLowerBound": _law(
        "distortionLowerBound (entropyBits beta sigma) R",
        lambda beta, sigma, R: shannon.distortion_lower_bound(GGD(beta, sigma), R), "(R : ℝ) (hR : 0 < R)",
    ),
    "gapUniversal": Counterpart("", "gapUniversal", lambda: shannon.gap_universal(GGD(arb(1)))),
    "gapLogConcave": Counterpart("", "gapLogConcave", lambda: shannon.gap_log_concave(GGD(arb(1)))),
    "gapKl": _law(
        "gapKl (entropyBits beta sigma) sigma", lambda beta, sigma: shannon.gap_kl(GGD(beta, sigma))
    ),
    "gapFisherLinear": _fisher(
        "gapFisherLinear D (fisherInformation beta sigma)", lambda s, D: shannon.gap_fisher_linear(s, D)
    ),
    "gapFisherLog": _fisher(
        "gapFisherLog D (fisherInformation beta sigma)", lambda s, D: shannon.gap_fisher_log(s, D)
    ),
    "gapFisherRefined": _fisher(
        "gapFisherRefined D (fisherInformation beta sigma) sigma", lambda s, D: shannon.gap_fisher_refined(s, D)
    ),
    "panterDite": _law("panterDite beta sigma", lambda beta, sigma: scalar.panter_dite(GGD(beta, sigma))),
    "gishPierce": Counterpart("", "gishPierce", lambda: lattices.space_filling_loss(arb(1) / 12)),
    "spaceFillingLoss": Counterpart(
        "(G : ℝ) (hG : 0 < G)", "spaceFillingLoss G", lambda G: lattices.space_filling_loss(G)
    ),
    "quantizerMse": _law(
        "quantizerMse 2 ![-c, c] beta sigma", lambda beta, sigma, c: codebook_design.mse([-c, c], GGD(beta, sigma)),
        "(c : ℝ) (hc : 0 < c)",
    ),
    "momentBound": Counterpart(
        "(n : ℕ) (q M : ℝ) (hn : 0 < n) (hq : 1 ≤ q) (hM : 0 < M)", "momentBound n q M",
        lambda n, q, M: block_maximum.moment_bound(n, q, M),
    ),
    "effectiveBits": Counterpart(
        "(bits : ℝ) (n : ℕ) (scaleBits : ℝ) (hb : 0 < bits) (hn : 0 < n) (hs : 0 ≤ scaleBits)",
        "effectiveBits bits n scaleBits",
        lambda bits, n, scaleBits: block_scaling.effective_bits(float(bits), n, float(scaleBits)), 14,
    ),
    "absCdf": _law(
        "absCdf s beta sigma", lambda beta, sigma, s: ggd.abs_cdf(s, beta, sigma), "(s : ℝ) (hs : 0 < s)"
    ),
    "absmaxMean": _law(
        "absmaxMean n beta sigma", lambda beta, sigma, n: block_maximum.absmax_mean(n, GGD(beta, sigma)),
        "(n : ℕ) (hn : 0 < n)",
    ),
    "allocationGain": Counterpart(
        "(n : ℕ) (lam : Fin n → ℝ) (hn : 0 < n) (hlam : ∀ i : Fin n, 0 < lam i)", "allocationGain n lam",
        lambda n, lam: geometry.allocation_gain(lam),
    ),
    "zivLoss": Counterpart("", "zivLoss", lambda: shannon.gap_log_concave(GGD(arb(1))) + arb(1) / 2),
    "sphereBound": Counterpart(
        "(n : ℕ) (hn : 0 < n)", "sphereBound (n : ℝ)", lambda n: lattices.sphere_bound(arb(n))
    ),
    "zadorUpper": Counterpart(
        "(n : ℕ) (hn : 0 < n)", "zadorUpper (n : ℝ)", lambda n: lattices.zador_upper(arb(n))
    ),
    "latticeMoment": Counterpart(
        "(i : Fin 13)", "latticeMoment i", lambda i: lattices.second_moment(_EXACT[i], arb(1))
    ),
    "latticeDimension": _lattice("latticeDimension", "dimension"),
    "latticeCoefficient": _lattice("latticeCoefficient", "coefficient"),
    "latticeBase": _lattice("latticeBase", "base"),
    "latticeExponent": _lattice("latticeExponent", "exponent"),
    # The tables of Python are float64, those of Lean rational: the roundings to float64 are the same.
    "nf4": Counterpart("(i : Fin 16)", "nf4 i", lambda i: codebooks.NF4.levels[i], 0),
    "fp4": Counterpart("(i : Fin 15)", "fp4 i", lambda i: codebooks.FP4.levels[i], 0),
    "nf4LargestHalfGap": Counterpart("", "nf4LargestHalfGap", lambda: codebooks.NF4.largest_half_gap, 15),
    "fp4LargestHalfGap": Counterpart("", "fp4LargestHalfGap", lambda: codebooks.FP4.largest_half_gap, 15),
}  # fmt: skip

_FINITE = "a finite alphabet: the Python has it over a density, within `theory.rate_distortion` or `donsker_varadhan`"
_STEP = "a step of a proof, which no computation needs"
NO_COUNTERPART: dict[str, str] = {
    "outputLaw": _FINITE, "mutualInformation": _FINITE, "meanDivergence": _FINITE, "meanDistortion": _FINITE,
    "mixture": _FINITE, "tiltedChannel": _FINITE, "relativeEntropy": _FINITE, "exponentialMean": _FINITE,
    "entropyOf": _FINITE, "mixedChannel": _FINITE,
    "forwardGain": _STEP, "forwardNoise": _STEP, "meanVector": _STEP, "absmax": _STEP, "uniformQuantize": _STEP,
}  # fmt: skip


def _absmax_mean(n: int, beta: Any, sigma: Any) -> Any:
    return block_maximum.absmax_mean(n, GGD(arithmetic.BALL.number(beta), arithmetic.BALL.number(sigma)))


def _abs_cdf(s: Any, beta: Any, sigma: Any) -> Any:
    s, beta, sigma = (arithmetic.BALL.number(v) for v in (s, beta, sigma))
    if not s.real >= 0:
        raise Undefined("s is to the right of 0")
    if isinstance(s, arb):
        return ggd.abs_cdf(s, beta, sigma)
    w = ((s / ggd.alpha(beta, sigma)).log() * beta).exp()
    if not w.real > 0:  # the incomplete gamma function has a branch cut to the left
        raise Undefined("w is to the right of 0")
    return arithmetic.BALL.gammainc(1 / beta, w)


STAND_INS: dict[str, Callable[..., Any]] = {"absCdf": _abs_cdf, "absmaxMean": _absmax_mean}
"""Integrals that other terms use many times: there the Python stands in, to which their own check holds them."""
