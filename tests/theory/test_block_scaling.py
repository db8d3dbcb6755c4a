"""Block-scaled errors: quadrature, enumeration and drawing against one closed form."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from tests import strategies, tolerances
from tests.blocks import agrees, block_errors, draws, nearest
from theory import codebook_design
from theory.block_scaling import absmax_excess, absmax_mean, effective_bits, mae, mse, order_mae, order_mse
from theory.block_source import BlockSource
from theory.codebooks import AF4_64, BOF4S_64, E2M1, FP4, NF4, Codebook, integer, midrise
from theory.sources import GGD, Histogram, ScaleMixture

SIGNED = Codebook("signed", [-0.5, 0.2, 1.0], 2, "signed")
FULL, THREE = integer(4, symmetric=False), Codebook("three", [-0.8, 0.1, 0.6], 2)
CODEBOOKS = [NF4, FP4, integer(4), FULL, midrise(4)]
close = tolerances.close

# Gauss-Legendre rules in mpmath on pieces where the integrands are smooth: what is left is 1e-13 and less.
QUADRATURE = 1e-11


@pytest.mark.parametrize(
    ("codebook", "beta", "n", "expected"),
    [(NF4, 2.0, 32, 0.00762342), (NF4, 2.0, 64, 0.00846005), (NF4, 2.0, 128, 0.00913562),
     (FP4, 2.0, 32, 0.01302622), (FP4, 2.0, 64, 0.01487052), (FP4, 2.0, 128, 0.01653273)],
)  # fmt: skip
def test_check_values(codebook, beta, n, expected):
    assert mse(codebook, n, GGD(beta)) == close(expected, abs=5e-9)


def legendre(points):
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return [(mpf(x) + 1) / 2 for x in nodes.tolist()], [mpf(w) / 2 for w in weights.tolist()]


def by_quadrature(codebook, n, beta, k, power):
    """From the joint law of order statistics, at unit variance; nothing is shared with `theory` but the levels."""
    beta, levels = mpf(beta), [mpf(float(y)) for y in codebook.levels]
    alpha = mp.sqrt(mp.gamma(1 / beta) / mp.gamma(3 / beta))
    constant = beta / (2 * alpha * mp.gamma(1 / beta))
    pdf = lambda x: constant * mp.exp(-((x / alpha) ** beta))  # noqa: E731
    few, many = legendre(12), legendre(24)

    def integral(f, a, b, rule):
        return (b - a) * mp.fsum(w * f(a + (b - a) * x) for x, w in zip(*rule, strict=True))

    def error(y):
        return min(abs(y - level) for level in levels) ** power

    kinks = sorted({abs(y) for y in (*levels, *((a + b) / 2 for a, b in itertools.pairwise(levels)))})

    def mean(s, lo, hi):  # of both signs' errors over lo < |x| < hi, not normalized
        beyond = (s + alpha * i / 2 for i in range(1, 18)) if hi > s else ()
        cuts = [lo, *(c * s for c in kinks if lo < c * s < hi), *beyond, hi]
        both = lambda x: pdf(x) * s**power * (error(x / s) + error(-x / s))  # noqa: E731
        return mp.fsum(integral(both, a, b, few) for a, b in itertools.pairwise(cuts))

    ends = error(mpf(1)) if codebook.scaling == "signed" else (error(mpf(1)) + error(mpf(-1))) / 2

    def integrand(s):
        t = (s / alpha) ** beta
        below, above = mp.gammainc(1 / beta, 0, t, regularized=True), mp.gammainc(1 / beta, t, regularized=True)
        density = 2 * pdf(s) * k * mp.binomial(n, k) * below ** (k - 1) * above ** (n - k)
        inside = (k - 1) * mean(s, mpf(0), s) / below if k > 1 else 0
        outside = (n - k) * mean(s, s, s + 9 * alpha) / above if k < n else 0
        return density * (inside + outside + s**power * ends) / n

    top = alpha * mpf(45) ** (1 / beta)
    return float(mp.fsum(integral(integrand, top * i / 4, top * (i + 1) / 4, many) for i in range(4)))


@pytest.mark.parametrize("codebook", [NF4, FULL, midrise(3), BOF4S_64, THREE], ids=lambda c: c.name)
def test_quadrature_of_absmax(codebook):
    # Both ends, one end, none, signed, and levels without any symmetry; an even exponent leaves the density smooth.
    for power, error in ((2, mse), (1, mae)):
        assert error(codebook, 5, GGD(2.0)) == close(by_quadrature(codebook, 5, 2, 5, power), rel=QUADRATURE)


@pytest.mark.parametrize(
    ("codebook", "n", "k"), [(THREE, 4, 3), (FULL, 3, 1), (SIGNED, 6, 5)], ids=lambda x: getattr(x, "name", x)
)
def test_quadrature_of_order_statistics(codebook, n, k):
    for power, error in ((2, order_mse), (1, order_mae)):
        assert error(codebook, n, k, GGD(2.0)) == close(by_quadrature(codebook, n, 2, k, power), rel=QUADRATURE)


@given(strategies.betas(0.5, 8.0), st.integers(1, 512), strategies.sigmas(), st.data())
def test_partial_moments_and_summation_by_parts_agree(beta, n, sigma, data):
    # `mse` sums by parts; `codebook_design.mse` asks the same source for the moments of each cell.
    source = GGD(beta, sigma)
    codebook = data.draw(st.sampled_from([*CODEBOOKS, midrise(3), E2M1, AF4_64, BOF4S_64, integer(2), integer(8)]))
    k = data.draw(st.integers(1, n))
    law = BlockSource(source, n, k, scaling=codebook.scaling)
    expected = codebook_design.mse(codebook.levels, law)
    assert law.mse(codebook.levels) == pytest.approx(expected, rel=1e-9, abs=1e-13 * sigma**2)
    law = BlockSource(source, n, k, 1, codebook.scaling)
    expected = codebook_design.mae(codebook.levels, law)
    assert law.mae(codebook.levels) == pytest.approx(expected, rel=1e-10, abs=1e-13 * sigma)


@pytest.mark.parametrize("k", [8, 5])
def test_density_of_a_normalized_element(k):
    law, y, h = BlockSource(GGD(1.4), 8, k), np.array([-2.5, -0.7, 0.0, 0.3, 0.98, 1.5, 4.0]), 1e-5
    slope = law.partial_moment(0, y - h, y + h) / (2 * h)
    assert law.pdf(y) == pytest.approx(slope, rel=1e-5, abs=1e-9)
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


@pytest.mark.parametrize("codebook", [NF4, FP4, FULL, midrise(4), BOF4S_64, AF4_64])
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
    agrees(block_errors(codebook, x, k, power=1), order_mae(codebook, n, k, GGD(1.7)))


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


@pytest.mark.parametrize("codebook", [NF4, integer(4), BOF4S_64])
@pytest.mark.parametrize(("beta", "n"), [(2.0, 32), (1.0, 32), (0.6, 24), (8.0, 16), (1.7, 2), (8.0, 128)])
def test_excess_is_that_of_the_full_scan(codebook, beta, n):
    source = GGD(beta)
    scan = [order_mse(codebook, n, k, source) for k in range(1, n)]
    found = absmax_excess(codebook, n, source)
    assert found.k == 1 + int(np.argmin(scan))
    assert found.value == mse(codebook, n, source) - min(scan)


def test_absmax_is_not_always_the_loser():
    assert absmax_excess(NF4, 16, GGD(2.0)).value < 0
    assert absmax_excess(integer(4), 256, GGD(0.6)).value > 0


@pytest.mark.parametrize("codebook", [NF4, FULL])
@pytest.mark.parametrize(("beta", "n"), [(8.0, 512), (0.7, 512), (2.0, 300)])
def test_clipping_bounds_the_error_and_grows(codebook, beta, n):
    laws = [BlockSource(GGD(beta), n, k, scaling=codebook.scaling) for k in range(1, n, 7)]
    clipped = [law.clipping_error() for law in laws]
    assert all(c <= law.mse(codebook.levels) * (1 + tolerances.BLOCK) for c, law in zip(clipped, laws, strict=True))
    assert np.all(np.diff(clipped) < 0)


def test_excess_where_there_are_two_local_minima():
    scan = np.array([order_mse(NF4, 512, k, GGD(8.0)) for k in range(440, 512)])
    assert np.sum((scan[1:-1] < scan[:-2]) & (scan[1:-1] < scan[2:])) + (scan[-1] < scan[-2]) == 2
    assert absmax_excess(NF4, 512, GGD(8.0)).k == 440 + int(np.argmin(scan))


@pytest.mark.parametrize("beta", [1.0, 2.0, 8.0])
def test_excess_of_large_blocks(beta):
    found = absmax_excess(NF4, 4096, GGD(beta))
    near = range(found.k - 3, min(found.k + 4, 4096))
    others = [float(order_mse(NF4, 4096, k, GGD(beta))) for k in (*near, 4095, 4000, 3500)]
    assert mse(NF4, 4096, GGD(beta)) - min(others) == found.value


# Where the sign of the excess turns: below, absmax is the best scale for NF4, above it is not.
@pytest.mark.parametrize(("beta", "n"), [(2.0, 214), (1.7, 221), (1.0, 286 - 1)])
def test_absmax_is_the_best_scale_of_small_blocks(beta, n):
    assert absmax_excess(NF4, n - 1, GGD(beta)).value < 0 < absmax_excess(NF4, n, GGD(beta)).value


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
        (lambda: order_mse(NF4, 8, 9, GGD(2.0)), r"k = 9 is outside \[1, n = 8\]"),
        (lambda: order_mse(NF4, 8, 0, GGD(2.0)), "k = 0.* is outside"),
        (lambda: absmax_excess(NF4, 1, GGD(2.0)), "n = 1.* is outside"),
        (lambda: order_mse(NF4, 8, 7, Histogram([-1.0, 1.0], [1, 1])), "Histogram is block-scaled by absmax only"),
        (lambda: mse(BOF4S_64, 8, Histogram([-1.0, 1.0], [1, 1])), "Histogram is block-scaled by absmax only"),
        (lambda: order_mae(NF4, 8, 7, Histogram([-1.0, 1.0], [1, 1])), "Histogram is block-scaled by absmax only"),
        (lambda: effective_bits(0, 64), "bits = 0.* is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
