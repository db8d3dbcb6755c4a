"""The law of the block maximum: closed forms, bounds, histograms, and its four arithmetics."""

import itertools
import math

import numpy as np
import pytest
import sympy
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate, stats

from tests import strategies, tolerances
from theory import ggd
from theory.block_scaling import (
    absmax_cdf,
    absmax_mean,
    absmax_mean_bounds,
    absmax_moment,
    absmax_pdf,
    absmax_second_moment,
    moment_bound,
)
from theory.block_source import order_statistic
from theory.sources import GGD, Histogram, ScaleMixture

close = tolerances.close
FOURTH_MOMENT = 2e-11  # of a heavy tail, cut where S has 1e-19 of its probability


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


@pytest.mark.parametrize(("n", "q"), [(1, 1), (2, 2), (7, 3), (64, 4), (4096, 2)])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 8.0])
def test_moments_by_quadrature(beta, n, q):
    # E S**q = integral of q s**(q-1) P(S > s); with scipy's distribution.
    law = stats.gennorm(beta, scale=GGD(beta).alpha)
    tail = lambda s: q * s ** (q - 1) * -np.expm1(n * np.log1p(-2 * law.sf(s)))  # noqa: E731
    cuts = [
        1e-300,
        *(law.isf(t / 2) for t in (0.999, 0.9, 0.5, 0.1, 1e-2, 1e-4, 1e-6, 1e-9, 1e-13, 1e-18, 1e-25, 1e-35)),
    ]
    expected = math.fsum(integrate.fixed_quad(tail, a, b, n=60)[0] for a, b in itertools.pairwise(cuts))
    value = absmax_moment(q, n, GGD(beta))
    assert value == close(expected, rel=1e-9)
    ball = absmax_moment(q, n, GGD(arb(beta), arb(1)))
    assert value == close(
        float(ball), rel=max(FOURTH_MOMENT if q > 3 else tolerances.BLOCK, 2 * float((ball / value).rad()))
    )


def test_moments_of_any_order():
    with mp.workdps(30):
        exact = ggd.abs_moment(mpf("0.7"), mpf("1.3"))
        assert abs(absmax_moment(mpf("0.7"), 1, GGD(mpf("1.3"))) / exact - 1) < mpf(10) ** -28
        assert abs(absmax_moment(mpf(0), 17, GGD(mpf(2))) - 1) < mpf(10) ** -28


def test_law_in_four_arithmetics():
    s, n = sympy.symbols("s n", positive=True)
    laplace = GGD(sympy.Integer(1), sympy.sqrt(2))
    cdf, pdf = absmax_cdf(s, n, laplace), absmax_pdf(s, n, laplace)
    assert sympy.simplify(sympy.diff(cdf, s) - pdf) == 0
    at = {s: sympy.Rational(3, 2), n: 64}
    with mp.workdps(40):
        source = GGD(mpf(1), mp.sqrt(2))
        assert abs(absmax_cdf(mpf("1.5"), 64, source) / mpf(str(sympy.N(cdf.subs(at), 40))) - 1) < mpf(10) ** -37
        assert abs(absmax_pdf(mpf("1.5"), 64, source) / mpf(str(sympy.N(pdf.subs(at), 40))) - 1) < mpf(10) ** -37
    ball = GGD(arb(1), arb(2).sqrt())
    for f, exact in ((absmax_cdf, cdf), (absmax_pdf, pdf)):
        assert f(arb("1.5"), 64, ball).contains(arb(str(sympy.N(exact.subs(at), 30))))
        assert f(1.5, 64, GGD(1.0, 2**0.5)) == close(float(exact.subs(at)), rel=1e-13)


def test_law_of_a_mixture_and_of_atoms():
    mixture = ScaleMixture(GGD(1.8), [0.5, 2.0])
    at = np.array([0.1, 1.0, 3.0])
    one = [np.asarray(ggd.abs_cdf(at, 1.8, sigma)) for sigma in (0.5, 2.0)]
    assert absmax_cdf(at, 5, mixture) == close((sum(one) / 2) ** 5, rel=1e-13)
    # Both ends of [-s, s] count.
    assert absmax_cdf(1.0, 2, Histogram([-1.0, 0.5, 2.0], [1, 1, 2])) == close(0.25, rel=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: absmax_cdf(-1.0, 64, GGD(2.0)), r"s = -1.0 is outside \[0, inf\)"),
        (lambda: absmax_cdf(np.array([1.0, np.nan]), 64, GGD(2.0)), r"s\[1\] = nan"),
        (lambda: absmax_pdf(1.0, 0, GGD(2.0)), r"n = 0.* is outside"),
        (lambda: absmax_moment(-1, 64, GGD(2.0)), r"q = -1.* is outside \[0, inf\)"),
        (lambda: absmax_mean(1.5, GGD(2.0)), "n = 1.5 is outside integers"),
        (lambda: moment_bound(64, 0.5, 1.0), r"q = 0.5 is outside \[1, inf\)"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
