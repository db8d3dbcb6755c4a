"""Claims about absmax block scaling."""

from __future__ import annotations

from theory import block_scaling, shannon
from theory.claims.claim import BLOCK, BLOCK_BETA, BLOCK_LOG_CONCAVE, CODEBOOK, FLOAT_ONLY, POWER, Claim, closed

CLAIMS = (
    Claim(
        "block.absmax-mean-lower", "F^-1(n/(n+1)) <= E S",
        lambda s: block_scaling.absmax_mean_bounds(s.n, s.source).lower, lambda s: s.absmax_mean,
        {"beta": BLOCK_BETA, "n": BLOCK}, "row-conditional", "paper", "theory.block_scaling.absmax_mean_bounds",
        measured=True,
        lean=("absmaxMean_lower", "68977f9ace83"),
    ),
    Claim(
        "block.absmax-mean-upper", "E S <= F^-1(1 - exp(-H_n)) for beta >= 1",
        lambda s: s.absmax_mean, lambda s: block_scaling.absmax_mean_bounds(s.n, s.source).upper,
        {"beta": BLOCK_LOG_CONCAVE, "n": BLOCK}, "row-conditional", "paper",
        "theory.block_scaling.absmax_mean_bounds", measured=True,
        lean=("absmaxMean_upper", "1cc9223e6d8f"),
    ),
    Claim(
        "block.absmax-second-moment", "E S <= sqrt(n E X^2)",
        lambda s: s.absmax_mean, lambda s: block_scaling.moment_bound(s.n, 2, s.abs_moment(2)),
        {"beta": BLOCK_BETA, "n": BLOCK}, "any", "paper", "theory.block_scaling.moment_bound", measured=True,
        lean=("absmax_mean_le_momentBound", "d3aedf54161f"),
    ),
    Claim(
        "block.absmax-fourth-moment", "E S <= (n E X^4)^(1/4)",
        lambda s: s.absmax_mean, lambda s: block_scaling.moment_bound(s.n, 4, s.abs_moment(4)),
        {"beta": BLOCK_BETA, "n": BLOCK}, "any", "paper", "theory.block_scaling.moment_bound", measured=True,
        lean=("absmax_mean_le_momentBound", "d3aedf54161f"),
    ),
    Claim(
        "block.absmax-any-moment", "E S <= (n E|X|^q)^(1/q), q >= 1",
        lambda s: s.absmax_mean, lambda s: block_scaling.moment_bound(s.n, s.q, s.abs_moment(s.q)),
        {"beta": BLOCK_BETA, "n": BLOCK, "q": POWER}, "iid", "paper", "theory.block_scaling.moment_bound",
        lean=("absmaxMean_le_momentBound", "b31a4bf0148b"),
    ),
    Claim(
        "block.error-pointwise", "|x - S Q(x/S)| <= S delta/2, delta the largest gap, +-1 levels",
        lambda s: s.worst, lambda s: s.codebook.largest_half_gap,
        {"codebook": CODEBOOK}, "any", "paper", "theory.codebooks.Codebook.largest_half_gap", measured=True,
        lean=("block_error", "aea1d225ba65"),
    ),
    Claim(
        "block.error-mean-square", "D <= E S^2 delta^2/4",
        lambda s: s.mse, lambda s: s.absmax_second_moment * s.codebook.largest_half_gap**2,
        {"beta": BLOCK_BETA, "n": BLOCK, "codebook": CODEBOOK}, "any", "paper",
        "the mean square of block.error-pointwise", measured=True, arithmetics=FLOAT_ONLY,
        lean=("blocks_mean_square", "7be6d99887c0"),
    ),
    Claim(
        "block.converse", "2^(2(h(X|row) - b_eff))/(2 pi e) <= D, b_eff the bits with the scales counted",
        lambda s: shannon.distortion_lower_bound(s.source, s.effective_bits) * s.row_gain, lambda s: s.mse,
        {"beta": BLOCK_BETA, "n": BLOCK, "codebook": CODEBOOK}, "row-conditional", "paper", "[Shannon1959]",
        measured=True, arithmetics=FLOAT_ONLY,
        lean=("rows_ge_slb", "95782a82c174"),
    ),
    Claim(
        "block.best-codebook", "D of the best codebook of as many levels <= D, iid blocks",
        lambda s: s.best_mse,
        lambda s: s.mse,
        {"beta": BLOCK_LOG_CONCAVE, "n": closed(8, 512, integer=True),
         "codebook": CODEBOOK},
        "iid", "numeric", "theory.block_scaling.best_codebook: both sides in balls, at points of the box",
        measured=True,
        lean=("least_le", "7c369448df9c"),
    ),
)  # fmt: skip
