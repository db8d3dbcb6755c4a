"""Claims about the generalized Gaussian law and the closed-form bounds on its rate."""

from __future__ import annotations

from theory import arithmetic, ggd, shannon
from theory.arithmetic import Number
from theory.claims.claim import BETA, DISTORTION, FISHER, LOG_CONCAVE, POINT, Claim


def _exponent(x: Number, beta: Number) -> Number:
    """-ln p(x) but for the normalization, which both sides of a midpoint inequality share."""
    xp = arithmetic.of(x, beta)
    return xp.power(xp.abs(x), beta)


CLAIMS = (
    Claim(
        "ggd.entropy-maximal", "h(X) <= 1/2 log2(2 pi e sigma^2)",
        lambda s: ggd.entropy(s.beta), lambda s: ggd.entropy(0 * s.beta + 2),
        {"beta": BETA}, "iid", "paper", "[CoverThomas2006, thm 8.6.5]",
        lean=("entropyBits_le_gaussian", "f88d57331134"),
    ),
    Claim(
        "ggd.cramer-rao", "1 <= J sigma^2",
        lambda s: 1 + 0 * s.beta, lambda s: ggd.fisher_information(s.beta),
        {"beta": FISHER}, "iid", "paper", "[CoverThomas2006, thm 11.10.1]",
        lean=("one_le_fisher_mul_variance", "86b0a3a5ea2d"),
    ),
    Claim(
        "ggd.stam", "1 <= N J (entropy power times Fisher information)",
        lambda s: 1 + 0 * s.beta, lambda s: ggd.entropy_power(s.beta) * ggd.fisher_information(s.beta),
        {"beta": FISHER}, "iid", "paper", "[Stam1959]",
        lean=("one_le_entropyPower_mul_fisher", "5fac59cae93c"),
    ),
    Claim(
        "ggd.kurtosis-decreasing", "kurtosis(beta2) <= kurtosis(beta1) for beta1 <= beta2",
        lambda s: ggd.kurtosis(s.larger_beta), lambda s: ggd.kurtosis(s.beta),
        {"beta": BETA, "larger_beta": BETA}, "iid", "paper", "[BoxTiao1973]",
        lean=("kurtosis_antitone", "aedc7bdde4f9"),
    ),
    Claim(
        "ggd.kurtosis-above-uniform", "9/5 <= kurtosis",
        lambda s: 9 * (1 + 0 * s.beta) / 5, lambda s: s.kurtosis,
        {"beta": BETA}, "iid", "paper", "the limit beta -> inf of ggd.kurtosis-decreasing", measured=True,
        lean=("kurtosis_ge", "2be68e387a15"),
    ),
    Claim(
        "ggd.kl-log-concave", "KL(p || N) <= 1/2 log2(pi e / 6) for beta >= 1",
        lambda s: ggd.kl_to_gaussian(s.beta), lambda s: shannon.gap_log_concave(s.source),
        {"beta": LOG_CONCAVE}, "iid", "paper", "[Madiman2018]",
        lean=("kl_le_gapLogConcave", "c1d3f9a0ef2b"),
    ),
    Claim(
        "ggd.kl-nonnegative", "0 <= KL(p1 || p2)",
        lambda s: 0 * s.beta, lambda s: ggd.kl(s.beta, s.larger_beta),
        {"beta": BETA, "larger_beta": BETA}, "iid", "paper", "[CoverThomas2006, thm 2.6.3]",
        lean=("klNats_nonneg", "c2b097f1181f"),
    ),
    Claim(
        "ggd.log-concave", "-ln p((x + y)/2) <= -(ln p(x) + ln p(y))/2 for beta >= 1",
        lambda s: _exponent((s.x + s.y) / 2, s.beta), lambda s: (_exponent(s.x, s.beta) + _exponent(s.y, s.beta)) / 2,
        {"beta": LOG_CONCAVE, "x": POINT, "y": POINT}, "iid", "paper", "[CoverThomas2006, sec. 2.6]",
        lean=("rpow_abs_convex", "e56648337d9b"),
    ),
    Claim(
        "shannon.slb-below-gaussian", "R_SLB(D) <= 1/2 log2(sigma^2/D)",
        lambda s: shannon.lower_bound(s.source, s.D), lambda s: shannon.gaussian_rate(s.D + 0 * s.beta),
        {"beta": BETA, "D": DISTORTION}, "iid", "paper", "[Shannon1959]",
        lean=("slb_le_gaussianRate", "b18fa3ac9089"),
    ),
    Claim(
        "shannon.refined-below-log", "1/2 log2(1 + D(J - 1/sigma^2)) <= 1/2 log2(1 + D J)",
        lambda s: shannon.gap_fisher_refined(s.source, s.D), lambda s: shannon.gap_fisher_log(s.source, s.D),
        {"beta": FISHER, "D": DISTORTION}, "iid", "paper", "theory.shannon",
        lean=("ggd_refined_le_log", "ffd436094701"),
    ),
    Claim(
        "shannon.log-below-linear", "1/2 log2(1 + D J) <= D J/(2 ln 2)",
        lambda s: shannon.gap_fisher_log(s.source, s.D), lambda s: shannon.gap_fisher_linear(s.source, s.D),
        {"beta": FISHER, "D": DISTORTION}, "iid", "paper", "theory.shannon",
        lean=("ggd_log_le_linear", "018242f35686"),
    ),
)  # fmt: skip
