"""Balls over the scale of a block: closed forms, coarse rules, and the float64 values within them."""

import itertools
from fractions import Fraction

import pytest
from flint import arb, ctx
from mpmath import mp, mpf
from scipy import special

from tests import tolerances
from theory import block_balls, block_scaling
from theory.block_scaling import absmax_mean, absmax_mean_bounds, absmax_moment, mae, mse, order_mae, order_mse
from theory.codebooks import BOF4S_64, FP4, NF4, Codebook, integer, midrise
from theory.sources import GGD

close = tolerances.close
# The squared error of 255 levels is a sum of moments, 1e5 times less than they are: measured 5.6e-11.
MANY_LEVELS = 1e-10
FULL = integer(4, symmetric=False)
CODEBOOKS = [NF4, FP4, integer(4), FULL, midrise(4), BOF4S_64]
ZERO, SIGNS = Codebook("zero", [0.0], 1), Codebook("signs", [-1.0, 1.0], 1)


@pytest.fixture
def precise():
    """At 100 bits the balls are far narrower than float64's error."""
    ctx.prec = 100
    yield
    ctx.prec = 53


@pytest.mark.parametrize("bits", [2, 4, 8, 16, 32])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (5, 5), (64, 64), (2, 1), (5, 3), (64, 60), (64, 2)])
def test_a_coarse_rule_is_as_rigorous(bits, n, k):
    # At 200 bits of precision nothing but the error bounds widens the ball.
    ctx.prec = 200
    try:
        ball = block_balls._over_scale(
            1, lambda s, f, r: f ** (k - 1) * r ** (n - k) * s, 1, n, k, GGD(arb(1), arb(1)), bits
        )
        exact = sum((1 / arb(i) for i in range(n - k + 1, n + 1)), arb(0)) / arb(2).sqrt()
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
    for codebook, error in itertools.product(CODEBOOKS if n < 4096 else [NF4, FULL], (mse, mae)):
        ball = error(codebook, n, GGD(arb(beta), arb(1)))
        low, high = float(ball.lower()), float(ball.upper())
        assert high - low < 1e-8 * high + 1e-12
        value = error(codebook, n, GGD(beta))
        assert low - tolerances.BLOCK * high <= value <= high * (1 + tolerances.BLOCK) + 1e-15


@pytest.mark.parametrize(("beta", "n"), [(0.5, 2), (2.0, 2), (4.0, 3), (1.7, 64), (0.5, 256), (8.0, 256)])
def test_order_statistics_lie_in_the_ball(precise, beta, n):
    for codebook, k in itertools.product((FULL, BOF4S_64), sorted({n // 2, n - 1})):
        for error in (order_mse, order_mae):
            ball = error(codebook, n, k, GGD(arb(beta), arb(1)))
            assert ball.rel_accuracy_bits() > 60
            assert error(codebook, n, k, GGD(beta)) == close(float(ball), rel=tolerances.BLOCK)


@pytest.mark.parametrize("k", [1, 4, 4095, 4096])
def test_blocks_of_4096(precise, k):
    ball = order_mse(NF4, 4096, k, GGD(arb(2), arb(1)))
    assert ball.rel_accuracy_bits() > 60
    assert order_mse(NF4, 4096, k, GGD(2.0)) == close(float(ball), rel=tolerances.BLOCK)


def exponentials(n, k, power):
    """Mean over i of E|X_(i) - X_(k)|**power of n standard exponentials, by the spacings of Renyi."""
    total = Fraction(0)
    for i in range(1, n + 1):
        spacings = [Fraction(1, n - j + 1) for j in range(min(i, k) + 1, max(i, k) + 1)]
        mean = sum(spacings, Fraction(0))
        total += mean if power == 1 else mean**2 + sum(x * x for x in spacings)
    return total / n


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (9, 1), (9, 5), (9, 8), (9, 9), (128, 120)])
def test_laplace_errors_in_closed_form(precise, n, k):
    # The scale alone, with its sign: an element's error is | |X| - S |. And 0 alone: its error is |X|, whatever k is.
    source = GGD(arb(1), arb(2).sqrt())
    for error, power in ((order_mae, 1), (order_mse, 2)):
        exact = exponentials(n, k, power)
        ball = error(SIGNS, n, k, source)
        assert ball.contains(arb(exact.numerator) / exact.denominator)
        assert ball.rad() < 1e-22
        assert error(ZERO, n, k, source).contains(power)
        assert error(SIGNS, n, k, GGD(1.0, 2**0.5)) == close(float(exact), rel=tolerances.BLOCK, abs=1e-13)
        assert error(ZERO, n, k, GGD(1.0, 2**0.5)) == close(power, rel=tolerances.BLOCK)


def test_mae_to_thirty_digits():
    with mp.workdps(30):
        # A block of two: E|X| is E S / 2 + E min / 2, and the levels +-1 are wrong by S - min on one of two.
        value = mae(SIGNS, 2, GGD(mpf(2)))
        assert abs(value - (mp.sqrt(4 / mp.pi) - mp.sqrt(2 / mp.pi))) < mpf(10) ** -29


def test_bounds_hold_in_balls():
    low, high = absmax_mean_bounds(64, GGD(arb("1.7"), arb(1)))
    first, second = (absmax_moment(q, 64, GGD(arb("1.7"), arb(1))) for q in (1, 2))
    assert low < first < high
    assert first**2 < second


@pytest.mark.parametrize(
    "call", [lambda law: block_scaling.mse(NF4, 64, law), lambda law: order_mae(NF4, 64, 3, law)]
)
def test_balls_refuse_what_they_cannot_enclose(call):
    with pytest.raises(ArithmeticError, match="does not reach past the bulk"):
        call(GGD(arb(2, 0.5), arb(1)))


@pytest.mark.parametrize(("beta", "n"), [(0.5, 64), (2.0, 2), (8.0, 64)])
def test_many_levels_cancel_digits(precise, beta, n):
    for error in (mse, mae):
        ball = error(integer(8), n, GGD(arb(beta), arb(1)))
        assert error(integer(8), n, GGD(beta)) == close(float(ball), rel=MANY_LEVELS)
