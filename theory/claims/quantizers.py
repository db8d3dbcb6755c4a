"""Claims about scalar quantizers, and about a quantizer used on another source."""

from __future__ import annotations

import math

from theory import mismatch, scalar, shannon
from theory.claims.claim import BETA, FLOAT_ONLY, LEVELS, LOG_CONCAVE, RATE, Claim, closed
from theory.sources import GGD

CLAIMS = (
    Claim(
        "scalar.lloyd-max-above-slb", "2^(2(h - log2 N))/(2 pi e) <= D of Lloyd-Max with N levels",
        lambda s: shannon.distortion_lower_bound(s.source, math.log2(s.levels)), lambda s: s.lloyd_max_mse,
        {"beta": BETA, "levels": LEVELS}, "iid", "paper", "[Shannon1959]",
        measured=True, arithmetics=FLOAT_ONLY,
        lean=("quantizerMse_ge_slb", "38b3bfe83f90"),
    ),
    Claim(
        "scalar.lloyd-max-below-uniform", "D of Lloyd-Max <= D of the optimal uniform quantizer, N levels each",
        lambda s: s.lloyd_max_mse, lambda s: s.uniform_mse,
        {"beta": LOG_CONCAVE, "levels": LEVELS}, "iid", "paper", "[Fleischer1964]",
        measured=True, arithmetics=FLOAT_ONLY,
        lean=("least_le", "7c369448df9c"),
    ),
    Claim(
        "scalar.ecsq-above-slb", "2^(2(h - H))/(2 pi e) <= D of a uniform-threshold quantizer of entropy H",
        lambda s: shannon.distortion_lower_bound(s.source, s.R), lambda s: s.ecsq_mse,
        {"beta": BETA, "R": RATE}, "iid", "paper", "[Shannon1959]",
        measured=True, arithmetics=FLOAT_ONLY,
        lean=("entropyCoded_ge_slb", "a2f546f36b19"),
    ),
    Claim(
        "scalar.optimal-ecsq-below-uniform", "D of the optimal ECSQ <= D of uniform thresholds at the same entropy",
        lambda s: s.optimal_ecsq.mse, lambda s: scalar.ecsq(s.source, rate=s.optimal_ecsq.rate).mse,
        {"beta": closed(0.5, 8), "R": closed(1, 6)}, "iid", "paper", "[ChouLookabaughGray1989]",
        arithmetics=FLOAT_ONLY,
        lean=("lagrangian_optimal", "cacd198b15f7"),
    ),
    Claim(
        "scalar.entropy-coding-gains", "D of the optimal ECSQ of log2 N bits <= D of Lloyd-Max with N levels",
        lambda s: scalar.optimal_ecsq(s.source, math.log2(s.levels)).mse, lambda s: s.lloyd_max_mse,
        {"beta": closed(1, 8), "levels": LEVELS}, "iid", "paper", "[ChouLookabaughGray1989]",
        arithmetics=FLOAT_ONLY,
        lean=("entropyCoded_le_fixed", "b11b3e35f2a4"),
    ),
    Claim(
        "mismatch.lloyd-max", "D of Lloyd-Max for the source <= D of the Gaussian's Lloyd-Max on it",
        lambda s: s.lloyd_max_mse, lambda s: s.reference_mse,
        {"beta": closed(1, 8), "levels": LEVELS}, "iid", "paper", "[Fleischer1964]", arithmetics=FLOAT_ONLY,
        lean=("least_le", "7c369448df9c"),
    ),
    Claim(
        "mismatch.donsker-varadhan", "E_p d <= (KL(p || N) + ln E_N exp(t d))/t",
        lambda s: s.reference_mse,
        lambda s: mismatch.bound(s.source, GGD(2.0), s.reference_levels).value,
        {"beta": closed(0.5, 8), "levels": LEVELS}, "iid", "paper", "[DonskerVaradhan1983]",
        lean=("mismatch_bound", "64feb03c0417"),
    ),
)  # fmt: skip
