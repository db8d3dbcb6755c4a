"""Block scaling: balls, quadrature, enumeration, drawing and bitsandbytes itself, against one closed form."""

import itertools
import math

import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate, special, stats

from tests import strategies, tolerances
from theory import block_balls, block_scaling, codebook_design, ggd
from theory.block_scaling import (
    absmax_cdf,
    absmax_excess,
    absmax_mean,
    absmax_mean_bounds,
    absmax_pdf,
    absmax_second_moment,
    best_codebook,
    effective_bits,
    mae,
    moment_bound,
    mse,
    order_mse,
)
from theory.block_source import BlockSource, order_statistic
from theory.codebook_design import stationary
from theory.codebooks import AF4_64, BOF4_64, BOF4S_64, E2M1, FP4, NF4, Codebook, integer
from theory.sources import GGD, Histogram, ScaleMixture

FULL = integer(4, symmetric=False)
CODEBOOKS = [NF4, FP4, integer(4), FULL]
close = pytest.approx


def nearest(levels, x):
    """The level nearest to each element, by the definition."""
    return levels[np.abs(x[..., None] - levels).argmin(axis=-1)]


def draws(source, shape, seed=0):
    rng = np.random.default_rng(seed)
    if isinstance(source, ScaleMixture):  # each element has its own row: the mixture, not its rows
        scale = rng.choice(source.scales, size=shape, p=source.weights)
        return scale * stats.gennorm(source.source.beta, scale=source.source.alpha).rvs(shape, random_state=rng)
    return stats.gennorm(source.beta, scale=source.alpha).rvs(shape, random_state=rng)


def block_errors(codebook, x, k=None, power=2):
    """Mean error of each row, divided by its k-th smallest magnitude (the largest, if no k) or by that element."""
    order = np.argsort(np.abs(x), axis=1)
    at = np.take_along_axis(x, order[:, (x.shape[1] if k is None else k) - 1][:, None], axis=1)
    scale = at if codebook.scaling == "signed" else np.abs(at)
    return np.mean(np.abs(x - scale * nearest(codebook.levels, x / scale)) ** power, axis=1)


def agrees(samples, expected):
    error = samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - expected) < tolerances.STANDARD_ERRORS * error
    assert error < 0.01 * samples.mean()  # or the comparison says nothing


# The law of the block maximum


@given(strategies.betas(0.5, 8.0), st.integers(1, 4096))
def test_law_of_the_maximum(beta, n):
    source = GGD(beta)
    s, weights, below = order_statistic(source, n, n)
    assert weights.sum() == close(1, abs=1e-14)
    assert absmax_cdf(s, n, source) == close(below**n, abs=1e-12)
    # The density against a difference of the distribution function, and against the mean.
    t, h = float(absmax_mean(n, source)), 1e-4
    slope = (absmax_cdf(t + h, n, source) - absmax_cdf(t - h, n, source)) / (2 * h)
    assert absmax_pdf(t, n, source) == close(slope, rel=1e-3)
    assert absmax_pdf(s, n, source).min() >= 0


@pytest.mark.parametrize(("n", "expected"), [(32, 2.347079), (64, 2.596111), (128, 2.827558)])
def test_mean_check_values(n, expected):
    assert absmax_mean(n, GGD(2.0)) == close(expected, abs=5e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 64, 1000])
def test_laplace_maximum_in_closed_form(n):
    # A sum of independent exponentials: E S = alpha H_n, Var S = alpha**2 sum 1/i**2.
    harmonic, squares = (math.fsum(1 / i**k for i in range(1, n + 1)) for k in (1, 2))
    source = GGD(1.0, 3.0)
    assert absmax_mean(n, source) == close(source.alpha * harmonic, rel=tolerances.BLOCK)
    assert absmax_second_moment(n, source) == close(source.alpha**2 * (harmonic**2 + squares), rel=tolerances.BLOCK)
    assert absmax_mean_bounds(n, source).upper == close(source.alpha * harmonic, rel=1e-13)
    ctx.prec = 100
    try:
        ball = absmax_mean(n, GGD(arb(1), arb(3)))
        exact = 3 / arb(2).sqrt() * sum((1 / arb(i) for i in range(1, n + 1)), arb(0))
        assert ball.overlaps(exact)
        assert ball.rel_accuracy_bits() > 80
    finally:
        ctx.prec = 53


@pytest.mark.parametrize("bits", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_a_coarse_rule_is_as_rigorous(bits, n):
    # At 200 bits of precision nothing but the error bounds widens the ball.
    ctx.prec = 200
    try:
        ball = block_balls._over_maximum(1, lambda s, cdf: n * cdf ** (n - 1) * s, 1, n, GGD(arb(1), arb(1)), bits)
        exact = sum((1 / arb(i) for i in range(1, n + 1)), arb(0)) / arb(2).sqrt()
        assert ball.contains(exact)
        assert 2.0 ** -(2 * bits + 20) < (ball / exact).rad() < 2.0 ** (6 - bits)
    finally:
        ctx.prec = 53


@pytest.mark.parametrize("end", ["gammaincinv", "gammainccinv"])
@pytest.mark.parametrize("n", [2, 64])
def test_what_lies_beyond_the_nodes_is_in_the_ball(monkeypatch, end, n):
    inverse = getattr(special, end)
    monkeypatch.setattr(block_balls, end, lambda a, p: inverse(a, p**0.2))  # stop far too early
    ctx.prec = 100
    try:
        ball = absmax_mean(n, GGD(arb(1), arb(1)))
        exact = sum((1 / arb(i) for i in range(1, n + 1)), arb(0)) / arb(2).sqrt()
        assert ball.contains(exact)
        assert 1e-12 < (ball / exact).rad() < 1e-3
    finally:
        ctx.prec = 53


def test_gaussian_maxima_in_closed_form():
    assert absmax_mean(1, GGD(2.0)) == close(math.sqrt(2 / math.pi), rel=tolerances.BLOCK)
    assert absmax_mean(2, GGD(2.0)) == close(2 / math.sqrt(math.pi), rel=tolerances.BLOCK)
    assert absmax_second_moment(2, GGD(2.0, 0.5)) == close((1 + 2 / math.pi) / 4, rel=tolerances.BLOCK)
    with mp.workdps(40):
        assert abs(absmax_mean(2, GGD(mpf(2))) - 2 / mp.sqrt(mp.pi)) < mpf(10) ** -38


@given(strategies.betas(0.3, 8.0), st.integers(1, 4096), strategies.sigmas())
def test_bounds_on_the_mean(beta, n, sigma):
    source = GGD(beta, sigma)
    mean, (low, high) = absmax_mean(n, source), absmax_mean_bounds(n, source)
    rounding = 1 + tolerances.BLOCK
    assert low <= mean * rounding
    assert mean <= high * rounding
    assert math.isinf(high) == (beta < 1)
    for q in (1.0, 2.0, 6.0, 20.0):
        assert mean <= moment_bound(n, q, ggd.abs_moment(q, beta, sigma)) * rounding


def test_bounds_in_balls():
    low, high = absmax_mean_bounds(64, GGD(arb("1.7"), arb(1)))
    mean = absmax_mean(64, GGD(arb("1.7"), arb(1)))
    assert low < mean < high


# The mean squared error


@pytest.mark.parametrize(
    ("codebook", "beta", "n", "expected"),
    [(NF4, 2.0, 32, 0.00762342), (NF4, 2.0, 64, 0.00846005), (NF4, 2.0, 128, 0.00913562),
     (FP4, 2.0, 32, 0.01302622), (FP4, 2.0, 64, 0.01487052), (FP4, 2.0, 128, 0.01653273)],
)  # fmt: skip
def test_check_values(codebook, beta, n, expected):
    assert mse(codebook, n, GGD(beta)) == close(expected, abs=5e-9)


def test_certified_check_values():
    with mp.workdps(30):
        value = mse(NF4, 64, GGD(mpf(2)))
        assert abs(value - mpf("0.008460052906613240931811029546")) < mpf(10) ** -30
    ctx.prec = 128
    try:
        ball = mse(NF4, 64, GGD(arb(2), arb(1)))
        assert abs(ball - arb("0.0084600529066132409318110295457696")) < 1e-33
    finally:
        ctx.prec = 53
    assert mse(NF4, 64, GGD(1.7)) == close(0.0087905402, abs=5e-11)


@pytest.mark.parametrize(
    ("beta", "n"),
    [(0.5, 1), (2.3, 1), (0.5, 2), (1.45, 2), (2.3, 2), (8.0, 2), (0.85, 3), (2.9, 3), (0.5, 64), (1.7, 16),
     (8.0, 64), (0.5, 4096), (2.0, 4096), (8.0, 4096)],
)  # fmt: skip
def test_float_lies_in_the_ball(beta, n):
    for codebook in CODEBOOKS:
        ball = mse(codebook, n, GGD(arb(beta), arb(1)))
        low, high = float(ball.lower()), float(ball.upper())
        assert high - low < 1e-8 * high + 1e-12
        value = mse(codebook, n, GGD(beta))
        assert low - tolerances.BLOCK * high <= value <= high * (1 + tolerances.BLOCK) + 1e-15


def by_quadrature(codebook, n, source, k=None, power=2):
    """Adaptive quadrature over s and over the cells; nothing is shared with `theory` but the levels."""
    law, levels, k = stats.gennorm(source.beta, scale=source.alpha), codebook.levels, n if k is None else k
    kinks = [*levels, *(levels[1:] + levels[:-1]) / 2]

    def region(s, lo, hi):  # of the quantizer error over lo < |x| < hi
        total = 0.0
        for sign in (-1, 1):
            cuts = [lo, *sorted(e * s * sign for e in kinks if lo < e * s * sign < hi), hi]
            for a, b in itertools.pairwise(cuts):
                level = s * nearest(levels, np.array(sign * (a + b) / 2 / s))
                f = lambda x, level=level, sign=sign: law.pdf(x) * abs(sign * x - level) ** power  # noqa: E731
                total += integrate.fixed_quad(f, a, b, n=40)[0]
        return total

    def integrand(s):
        f, g = 2 * law.cdf(s) - 1, 2 * law.sf(s)
        density = 2 * law.pdf(s) * f ** (k - 1) * g ** (n - k) / special.beta(k, n - k + 1)
        inside = (k - 1) * region(s, 0.0, s) / f if k > 1 else 0.0
        outside = (n - k) * region(s, s, law.isf(1e-25)) / g if k < n else 0.0
        ends = [abs(end * s - s * nearest(levels, np.array(end))) ** power for end in (-1.0, 1.0)]
        end = ends[1] if codebook.scaling == "signed" else sum(ends) / 2
        return density * (inside + outside + end) / n

    cuts = [0.0, *(law.isf(t / 2) for t in (0.9, 0.5, 0.1, 1e-2, 1e-4, 1e-8, 1e-14, 1e-20))]
    panels = (integrate.fixed_quad(np.vectorize(integrand), a, b, n=12)[0] for a, b in itertools.pairwise(cuts))
    return math.fsum(panels)


@pytest.mark.parametrize("codebook", [NF4, FULL, BOF4S_64, Codebook("three", [-0.8, 0.1, 0.6], 2)])
@pytest.mark.parametrize(("beta", "n", "k"), [(2.0, 4, 4), (1.0, 3, 2), (3.0, 4, 1), (2.0, 8, 7)])
def test_quadrature(codebook, beta, n, k):
    source = GGD(beta, 2.0)
    assert order_mse(codebook, n, k, source) == close(by_quadrature(codebook, n, source, k), rel=1e-6)
    if k == n:
        assert mse(codebook, n, source) == order_mse(codebook, n, k, source)
        assert mae(codebook, n, source) == close(by_quadrature(codebook, n, source, power=1), rel=1e-6)


@given(strategies.betas(0.5, 8.0), st.integers(1, 512), strategies.sigmas(), st.data())
def test_partial_moments_and_summation_by_parts_agree(beta, n, sigma, data):
    # `mse` sums by parts; `codebook_design.mse` asks the same source for the moments of each cell.
    source = GGD(beta, sigma)
    codebook = data.draw(st.sampled_from([*CODEBOOKS, E2M1, AF4_64, BOF4S_64, integer(2), integer(8)]))
    k = data.draw(st.integers(1, n))
    law = BlockSource(source, n, k, scaling=codebook.scaling)
    expected = codebook_design.mse(codebook.levels, law)
    assert law.mse(codebook.levels) == close(expected, rel=1e-9, abs=1e-13 * sigma**2)


@pytest.mark.parametrize("k", [8, 5])
def test_density_of_a_normalized_element(k):
    law, y, h = BlockSource(GGD(1.4), 8, k), np.array([-2.5, -0.7, 0.0, 0.3, 0.98, 1.5, 4.0]), 1e-5
    slope = law.partial_moment(0, y - h, y + h) / (2 * h)
    assert law.pdf(y) == close(slope, rel=1e-5, abs=1e-9)
    assert law.partial_moment(0, -np.inf, np.inf) == close(law.scale_moment(2), rel=1e-12)
    # Undoing the scale gives the elements back: E[S**2 (X/S)**2].
    assert law.partial_moment(2, -np.inf, np.inf) == close(1, rel=1e-11)
    assert law.partial_moment(1, -np.inf, np.inf) == close(0, abs=1e-14)


def test_scaling_and_mirror_images():
    mirrored = Codebook("mirrored", -NF4.levels[::-1], 4)
    for n in (2, 64):
        assert mse(NF4, n, GGD(1.3, 5.0)) == close(25 * mse(NF4, n, GGD(1.3)), rel=1e-12)
        assert mse(mirrored, n, GGD(1.3)) == close(mse(NF4, n, GGD(1.3)), rel=1e-12)


def test_a_block_of_one_is_its_own_scale():
    assert mse(NF4, 1, GGD(2.0)) == close(0, abs=1e-15)
    assert mse(FULL, 1, GGD(1.5)) == close(0.125**2 / 2, rel=1e-12)  # +s is mapped to 7/8 s
    with mp.workdps(30):
        assert mse(NF4, 1, GGD(mpf(2))) == 0
        assert mse(FULL, 1, GGD(mpf("1.5"))) == mpf(1) / 128


# Against draws


@pytest.mark.parametrize("codebook", [NF4, FP4, FULL, BOF4S_64, AF4_64])
@pytest.mark.parametrize(("beta", "n"), [(2.0, 64), (1.0, 16), (0.7, 3), (4.0, 2)])
def test_absmax_against_draws(codebook, beta, n):
    source = GGD(beta, 0.5)
    x = draws(source, (600_000 // (n + 4), n), seed=n)
    agrees(block_errors(codebook, x), mse(codebook, n, source))
    agrees(block_errors(codebook, x, power=1), mae(codebook, n, source))


@pytest.mark.parametrize(("n", "k"), [(8, 7), (8, 4), (16, 15), (3, 1)])
@pytest.mark.parametrize("codebook", [NF4, FULL, BOF4S_64])
def test_order_statistics_against_draws(codebook, n, k):
    x = draws(GGD(1.7), (60_000, n), seed=k)
    agrees(block_errors(codebook, x, k), order_mse(codebook, n, k, GGD(1.7)))


@pytest.mark.parametrize(("name", "codebook"), [("nf4", NF4), ("fp4", FP4)])
@pytest.mark.parametrize("n", [64, 256])
def test_bitsandbytes_on_normal_draws(name, codebook, n):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes.functional")
    weights = torch.randn(4096, 1024, generator=torch.Generator().manual_seed(n))
    back = functional.dequantize_4bit(*functional.quantize_4bit(weights, blocksize=n, quant_type=name))
    agrees(((weights - back).double() ** 2).reshape(-1, n).mean(dim=1).numpy(), mse(codebook, n, GGD(2.0)))


def test_scale_mixture_against_draws():
    mixture = ScaleMixture(GGD(1.8), [0.5, 1.0, 3.0], [0.5, 0.3, 0.2])
    x = draws(mixture, (20_000, 32), seed=5)
    for codebook in (NF4, BOF4S_64):
        agrees(block_errors(codebook, x), mse(codebook, 32, mixture))
    agrees(block_errors(NF4, x, 30), order_mse(NF4, 32, 30, mixture))
    # One row is no mixture.
    assert mse(NF4, 32, ScaleMixture(GGD(1.8), [2.0])) == close(mse(NF4, 32, GGD(1.8, 2.0)), rel=1e-10)


# Histograms: every block of a small one


def enumerated(histogram, n, codebook, power=2):
    total = 0.0
    for block in itertools.product(range(len(histogram.values)), repeat=n):
        x = histogram.values[list(block)]
        s = np.abs(x).max()
        errors = np.abs(x - s * nearest(codebook.levels, x / s)) ** power if s > 0 else np.zeros(n)
        total += float(np.prod(histogram.probabilities[list(block)]) * errors.mean())
    return total


@pytest.mark.parametrize("codebook", [NF4, FULL, integer(2), Codebook("three", [-0.8, 0.1, 0.6], 2)])
@pytest.mark.parametrize(
    ("values", "counts"),
    [([-1.5, -0.25, 0.5, 1.0], [1, 5, 3, 2]), ([-1.0, 0.0, 0.3, 1.0], [1, 1, 1, 1]),
     ([0.25, 0.5, 0.75, 2.0], [1, 2, 3, 4]), ([-2.0, -1.9, -0.1, 0.0], [3, 1, 2, 9])],
)  # fmt: skip
def test_histogram_against_every_block(values, counts, codebook):
    histogram = Histogram(np.array(values), np.array(counts))
    for n in (1, 2, 3):
        for power, error in ((2, mse), (1, mae)):
            expected = enumerated(histogram, n, codebook, power)
            assert error(codebook, n, histogram) == close(expected, abs=tolerances.SUM_OF_MOMENTS)
    blocks = [np.abs(b).max() for b in itertools.product(values, repeat=3)]
    weights = [np.prod(p) for p in itertools.product(histogram.probabilities, repeat=3)]
    assert absmax_mean(3, histogram) == close(np.dot(blocks, weights), rel=1e-14)


def test_histogram_of_draws_is_near_its_law():
    x = draws(GGD(1.7), 400_000, seed=1)
    values, counts = np.unique(np.round(x, 3), return_counts=True)
    assert mse(NF4, 64, Histogram(values, counts)) == close(mse(NF4, 64, GGD(1.7)), rel=0.01)


# Which scale, which codebook


@pytest.mark.parametrize("codebook", [NF4, integer(4), BOF4S_64])
@pytest.mark.parametrize(("beta", "n"), [(2.0, 32), (1.0, 32), (0.6, 24), (8.0, 16), (1.7, 2)])
def test_excess_is_that_of_the_full_scan(codebook, beta, n):
    source = GGD(beta)
    scan = [order_mse(codebook, n, k, source) for k in range(1, n)]
    found = absmax_excess(codebook, n, source)
    assert found.k == 1 + int(np.argmin(scan))
    assert found.value == mse(codebook, n, source) - min(scan)


def test_absmax_is_not_always_the_loser():
    assert absmax_excess(NF4, 16, GGD(2.0)).value < 0
    assert absmax_excess(integer(4), 256, GGD(0.6)).value > 0


@pytest.mark.parametrize("fixed", [(-1, 0, 1), (0, 1), (-1, 1), (), (0,)])
@pytest.mark.parametrize(("beta", "n", "size"), [(2.0, 64, 16), (1.0, 32, 8), (0.6, 16, 7)])
def test_no_free_level_can_move(beta, n, size, fixed):
    source = GGD(beta)
    best = best_codebook(size, n, source, fixed)
    assert set(fixed) <= set(best.levels)
    assert best.scaling == ("signed" if 1 in fixed and -1 not in fixed else "absmax")
    least, free = mse(best, n, source), [i for i, level in enumerate(best.levels) if level not in fixed]
    assert len(free) == size - len(fixed)
    for i in free:
        up, down = (mse(Codebook("moved", best.levels + h * (np.arange(size) == i), 4, best.scaling), n, source)
                    for h in (1e-4, -1e-4))  # fmt: skip
        assert min(up, down) > least
        assert abs(up - down) < 1e-3 * (up + down - 2 * least)  # the derivative against the second derivative


@pytest.mark.parametrize(("scaling", "fixed"), [("signed", (0, 1)), ("absmax", (-1, 0, 1))])
def test_no_other_place_for_the_zero_is_better(scaling, fixed):
    law, best = BlockSource(GGD(1.5), 64, scaling=scaling), best_codebook(12, 64, GGD(1.5), fixed)
    least = mse(best, 64, GGD(1.5))
    for zero in range(2, 10):
        below, above = np.linspace(-1 if -1 in fixed else -0.9, 0, zero + 1), np.linspace(0, 1, 12 - zero)
        start = np.concatenate([below, above[1:]])
        ends = [0, zero, 11] if -1 in fixed else [zero, 11]
        assert stationary(start, law, fixed=ends).mse >= least * (1 - 1e-12)
    assert (best.levels > 0).sum() >= (best.levels < 0).sum()


@pytest.mark.parametrize(("beta", "n", "size", "level"), [(1.0, 64, 16, 0.6), (2.0, 8, 9, 0.3), (0.6, 16, 5, -0.4)])
def test_no_other_place_for_a_fixed_level_is_better(beta, n, size, level):
    law, least = BlockSource(GGD(beta), n), math.inf
    for place in range(1, size - 1):
        start = np.concatenate([np.linspace(-1, level, place + 1), np.linspace(level, 1, size - place)[1:]])
        least = min(least, stationary(start, law, fixed=[0, place, size - 1]).mse)
    assert mse(best_codebook(size, n, GGD(beta), (-1, level, 1)), n, GGD(beta)) == close(least, rel=1e-9)


def test_optimal_codebooks_beat_the_others():
    at = {c.name: float(mse(c, 64, GGD(2.0))) for c in (NF4, FP4, E2M1, AF4_64, BOF4_64, BOF4S_64, FULL, integer(4))}
    assert sorted(at, key=at.get)[:3] == ["bof4s-64", "bof4-64", "nf4"]
    assert at["bof4-64"] / at["nf4"] == close(0.9446, abs=5e-5)
    assert mae(NF4, 64, GGD(2.0)) < mae(AF4_64, 64, GGD(2.0))


# Rates and refusals


def test_effective_bits():
    assert effective_bits(4, 64) == 4.5
    assert effective_bits(4, 64, scale_bits=8, second_n=256) == close(4 + 8 / 64 + 32 / (64 * 256), rel=1e-15)
    assert effective_bits(4, 32, scale_bits=0) == 4
    assert effective_bits(3, 128, 16) == 3.125


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mse(NF4, 0, GGD(2.0)), r"n = 0.* is outside integers of \[1, inf\)"),
        (lambda: mse(NF4, 2.5, GGD(2.0)), "n = 2.5 is outside integers"),
        (lambda: absmax_cdf(-1.0, 64, GGD(2.0)), r"s = -1.0 is outside \[0, inf\)"),
        (lambda: absmax_cdf(np.array([1.0, np.nan]), 64, GGD(2.0)), r"s\[1\] = nan"),
        (lambda: order_mse(NF4, 8, 9, GGD(2.0)), r"k = 9 is outside \[1, n = 8\]"),
        (lambda: order_mse(NF4, 8, 0, GGD(2.0)), "k = 0.* is outside"),
        (lambda: absmax_excess(NF4, 1, GGD(2.0)), "n = 1.* is outside"),
        (lambda: order_mse(NF4, 8, 7, Histogram([-1.0, 1.0], [1, 1])), "Histogram is block-scaled by absmax only"),
        (lambda: mse(BOF4S_64, 8, Histogram([-1.0, 1.0], [1, 1])), "Histogram is block-scaled by absmax only"),
        (lambda: best_codebook(2, 64, GGD(2.0)), "fixed has 3 levels, more than size = 2"),
        (lambda: best_codebook(16, 64, GGD(2.0), (-2.0, 1.0)), r"fixed\[0\] = -2.0 is outside \[-1, 1\]"),
        (lambda: moment_bound(64, 0.5, 1.0), r"q = 0.5 is outside \[1, inf\)"),
        (lambda: effective_bits(0, 64), "bits = 0.* is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_balls_refuse_what_they_cannot_enclose():
    with pytest.raises(ArithmeticError, match="does not reach past the bulk"):
        block_scaling.mse(NF4, 64, GGD(arb(2, 0.5), arb(1)))
