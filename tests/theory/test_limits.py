"""Where a parameter goes to its end: the uniform law, Laplace and Gaussian, blocks of 1, of 2, and of many."""

import math

import numpy as np
import pytest
from scipy import integrate

from tests.tolerances import BLOCK, close
from theory import block_scaling, ggd, rate_distortion, scalar, shannon
from theory.codebooks import NF4, integer, midrise
from theory.sources import GGD

FLAT = 2000.0  # an exponent whose law differs from the uniform by 1/beta at the edge
EDGE = 4 / FLAT
NEAR = 2.0**-30
SLOPE = 8 * NEAR  # no quantity here changes by more than 8 times its argument, relatively


@pytest.mark.parametrize("levels", [2, 5, 16])
def test_uniform_law_wants_a_uniform_codebook(levels):
    """Cells of equal width 2 sqrt(3)/N: D = 1/N**2."""
    best = scalar.lloyd_max(GGD(FLAT), levels)
    assert best.mse == close(1 / levels**2, rel=EDGE)
    assert np.diff(best.levels) == close(np.full(levels - 1, 2 * math.sqrt(3) / levels), rel=2 * EDGE)
    assert scalar.price_of_uniformity(GGD(FLAT), levels) < EDGE


def test_uniform_law_at_high_rate():
    assert scalar.panter_dite(GGD(FLAT)) == close(1.0, rel=EDGE)
    assert ggd.entropy(FLAT) == close(math.log2(2 * math.sqrt(3)), rel=EDGE)
    # Its Shannon bound is below a uniform quantizer by 1/2 log2(2 pi e/12) bits.
    gap = 4 - shannon.lower_bound(GGD(FLAT), 1 / 16**2)
    assert gap == close(scalar.GISH_PIERCE, rel=4 * EDGE)


@pytest.mark.parametrize("n", [1, 2, 64, 1000])
def test_uniform_law_in_blocks(n):
    """|X| uniform on [0, sqrt(3)]: E S = sqrt(3) n/(n + 1), E S**2 = 3 n/(n + 2); the rest uniform on [-S, S]."""
    source = GGD(FLAT)
    assert block_scaling.absmax_mean(n, source) == close(math.sqrt(3) * n / (n + 1), rel=EDGE)
    levels = integer(4).levels  # 15 levels, 1/7 apart: the error in units of S is (1/7)**2/12
    expected = (n - 1) / n * 3 * n / (n + 2) / 49 / 12
    assert block_scaling.mse(integer(4), n, source) == close(expected, rel=2 * EDGE, abs=0.0 if n > 1 else 1e-15)
    assert len(levels) == 15


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize(
    "quantity",
    [
        ggd.entropy,
        ggd.kurtosis,
        ggd.fisher_information,
        lambda b: scalar.panter_dite(GGD(b)),
        lambda b: scalar.lloyd_max(GGD(b), 8).mse,
        lambda b: scalar.ecsq(GGD(b), step=0.5).rate,
        lambda b: block_scaling.mse(NF4, 64, GGD(b)),
        lambda b: block_scaling.absmax_mean(64, GGD(b)),
        lambda b: rate_distortion.solve(GGD(b), 0.3, tol=1e-10).upper,
    ],
)
def test_nothing_jumps_at_the_named_laws(beta, quantity):
    here, left, right = (float(quantity(beta + d)) for d in (0.0, -NEAR, NEAR))
    tolerance = SLOPE * abs(here) + 2e-10  # the bracket of R
    assert abs(left - here) < tolerance
    assert abs(right - here) < tolerance


def test_blocks_of_one():
    """The one element is its own scale: exact with both ends, and else what the nearest end leaves of it."""
    for beta in (0.7, 1.0, 2.0):
        source = GGD(beta)
        assert block_scaling.mse(NF4, 1, source) == 0
        assert block_scaling.absmax_mean(1, source) == close(ggd.abs_moment(1, beta), rel=BLOCK)
        end = (1 - midrise(4).levels[-1]) ** 2
        assert block_scaling.mse(midrise(4), 1, source) == close(end, rel=BLOCK)


def test_blocks_of_two_laplace():
    """max of two exponentials of mean b: 3b/2; the other element truncated, by quadrature of the definition."""
    b = 1 / math.sqrt(2)
    assert block_scaling.absmax_mean(2, GGD(1.0)) == close(1.5 * b, rel=BLOCK)
    levels = np.array([-1.0, 0.0, 1.0])

    def given(s):
        error = sum(integrate.quad(lambda x: min((x - s * q) ** 2 for q in levels) * math.exp(-x / b) / b, *ends)[0]
                    for ends in ((0, s / 2), (s / 2, s)))  # fmt: skip
        return math.exp(-s / b) / b * error

    expected = integrate.quad(given, 0, 40 * b, epsabs=1e-13, epsrel=1e-12)[0]  # (n - 1)/n n = 1
    assert block_scaling.mse(integer(2), 2, GGD(1.0)) == close(expected, rel=1e-10)  # nested adaptive quadrature


def test_large_blocks_of_laplace():
    """E S = b H_n, so E S/b - ln n goes to Euler's constant."""
    n = 4096
    mean = block_scaling.absmax_mean(n, GGD(1.0)) * math.sqrt(2)
    assert mean == close(math.log(n) + np.euler_gamma + 1 / (2 * n) - 1 / (12 * n**2), rel=BLOCK)


@pytest.mark.parametrize("beta", [1.0, 2.0, 4.0])
def test_in_large_blocks_the_maximum_is_no_longer_random(beta):
    """E S is between the quantiles of n/(n + 1) and of 1 - exp(-H_n), whose ratio goes to 1."""
    ratios = [(b := block_scaling.absmax_mean_bounds(n, GGD(beta))).upper / b.lower for n in (16, 256, 4096)]
    assert ratios[0] > ratios[1] > ratios[2] > 1
    assert ratios[2] < 1.08


def test_rate_goes_to_zero_at_the_variance():
    for beta in (0.7, 1.0, 2.0, 6.0):
        r = rate_distortion.solve(GGD(beta), 1 - 1e-6)
        assert 0 <= r.lower <= shannon.gaussian_rate(1 - 1e-6)
        assert r.lower <= r.upper <= r.lower + 1e-6
        assert rate_distortion.solve(GGD(beta), 1.0).upper == 0
