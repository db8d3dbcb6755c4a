"""Claims about the rate-distortion function: either end of its certified bracket against what bounds it.

R(D) itself is not known. In floats a claim ``R <= bound`` is held with the lower end of the bracket, and
``bound <= R`` with the upper one: what the bracket can refute, it would. In balls R(D) is a ball, and what is decided
is proved.
"""

from __future__ import annotations

from theory import shannon
from theory.claims.claim import DISTORTION, FLOAT_ONLY, Claim, closed

_SHAPE = closed(0.5, 8)  # what the solver promises
_AT_LEAST_1, _ABOVE_HALF = closed(1, 8), closed(0.55, 8)


def _gap(id, bound, name, shape, reference, lean):
    return Claim(
        f"rd.gap-{id}", f"R(D) - R_SLB(D) <= {name}",
        lambda s: s.at_least(s.D) - shannon.lower_bound(s.source, s.D), bound,
        {"beta": shape, "D": DISTORTION}, "iid", "paper", reference, lean,
    )  # fmt: skip


CLAIMS = (
    Claim(
        "rd.bracket", "the lower end is below the upper end",
        lambda s: s.at_least(s.D), lambda s: s.at_most(s.D),
        {"beta": _SHAPE, "D": DISTORTION}, "iid", "paper", "[Csiszar1974]", arithmetics=FLOAT_ONLY,
        lean=("Summary.bracket", "403e8bc6a708"),
    ),
    Claim(
        "rd.above-slb", "h - 1/2 log2(2 pi e D) <= R(D)",
        lambda s: shannon.lower_bound(s.source, s.D), lambda s: s.at_most(s.D),
        {"beta": _SHAPE, "D": DISTORTION}, "iid", "paper", "[Shannon1959]",
        lean=("information_ge_slb", "e5bf7ddea65a"),
    ),
    Claim(
        "rd.below-gaussian", "R(D) <= 1/2 log2(sigma^2/D)",
        lambda s: s.at_least(s.D), lambda s: shannon.gaussian_rate(s.D + 0 * s.beta),
        {"beta": _SHAPE, "D": DISTORTION}, "iid", "paper", "[Berger1971]",
        lean=("forward_information_le", "d654c0a25fb4"),
    ),
    Claim(
        "rd.convex", "R((D1 + D2)/2) <= (R(D1) + R(D2))/2",
        lambda s: s.at_least((s.D + s.larger_D) / 2),
        lambda s: (s.at_most(s.D) + s.at_most(s.larger_D)) / 2,
        {"beta": _SHAPE, "D": DISTORTION, "larger_D": DISTORTION}, "iid", "paper", "[CoverThomas2006, lemma 10.4.1]",
        arithmetics=FLOAT_ONLY,
        lean=("mutualInformation_convex", "063fcf3f9909"),
    ),
    _gap("universal", lambda s: shannon.gap_universal(s.source), "1/2 log2(pi e/2) for beta >= 1", _AT_LEAST_1,
         "[MarsigliettiKostina2018]", ("ggd_gap_universal", "e47f51a819c8")),
    _gap("log-concave", lambda s: shannon.gap_log_concave(s.source), "1/2 log2(pi e/6) for beta >= 1", _AT_LEAST_1,
         "[Madiman2018]", ("ggd_gap_logConcave", "9ecedb0024ee")),
    _gap("kl", lambda s: shannon.gap_kl(s.source), "KL(p || N)", _SHAPE, "[Berger1971]",
         ("gap_le_gapKl", "8fd36edadb99")),
    _gap("fisher-linear", lambda s: shannon.gap_fisher_linear(s.source, s.D), "D J/(2 ln 2)", _ABOVE_HALF,
         "theory.shannon", ("gap_linear", "771d37d13f36")),
    _gap("fisher-log", lambda s: shannon.gap_fisher_log(s.source, s.D), "1/2 log2(1 + D J)", _ABOVE_HALF,
         "theory.shannon", ("gap_log", "13ebb865cf2f")),
    _gap("fisher-refined", lambda s: shannon.gap_fisher_refined(s.source, s.D), "1/2 log2(1 + D(J - 1/sigma^2))",
         _ABOVE_HALF, "theory.shannon", ("gap_refined", "f53cf59f2a37")),
    Claim(
        "rd.below-ecsq", "R(D) <= H of a uniform-threshold quantizer of distortion D",
        lambda s: s.at_least(s.ecsq_mse), lambda s: s.R,
        {"beta": _SHAPE, "R": closed(0.25, 6)}, "iid", "paper", "[CoverThomas2006, thm 10.2.1]",
        arithmetics=FLOAT_ONLY,
        lean=("mutualInformation_le_entropyOf", "1492846753a7"),
    ),
    Claim(
        "rd.ziv", "H of the optimal ECSQ of distortion D <= R(D) + 1/2 log2(4 pi e/12)",
        lambda s: s.optimal_ecsq.rate,
        lambda s: s.at_most(s.optimal_ecsq.mse) + shannon.gap_log_concave() + 0.5,
        {"beta": _SHAPE, "R": closed(0.25, 6)}, "iid", "paper", "[Ziv1985]", arithmetics=FLOAT_ONLY,
        lean=("ziv_bound", "acba9b20c8de"),
    ),
)  # fmt: skip
