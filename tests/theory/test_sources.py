"""Partial moments, quantiles and entropies of the sources, by quadrature, by brute force and by drawing."""

import math
from itertools import pairwise

import numpy as np
import pytest
import sympy
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from tests import strategies, tolerances
from theory import ggd
from theory.arithmetic import BALL, midpoint
from theory.sources import GGD, Histogram, Source

close = tolerances.close
INF = math.inf
BETAS = (0.5, 1.0, 1.7, 8.0)
INTERVALS = [(-INF, INF), (-INF, -1.0), (-0.3, 1.2), (0.0, 0.7), (-1.1, 0.0), (0.5, 0.6), (2.0, INF), (-2.5, -0.25),
             (-INF, 0.4), (1e-9, 2e-9), (2.2, 2.4), (-1.0, 1.0), (-2.2, 2.4)]  # fmt: skip


def by_quadrature(k, lo, hi, beta):
    """mpmath's own rule, each side of 0 by itself."""
    with mp.workdps(24):
        a, c = ggd.alpha(mpf(beta)), (mpf(k) + 1) / beta

        def side(x, y):  # int_x^y of u**k p(u) du, 0 <= x <= y, by v = (u/alpha)**(k + 1)
            s, e = (min((v / a) ** beta, mpf(200)) if v < INF else mpf(200) for v in (mpf(x), mpf(y)))
            cuts = [s, *(v for v in (mpf("0.01"), 0.3, 1, 3, 10, 30, 90) if s < v < e), e]
            weight = e**c * a**k / (2 * c * mp.gamma(mpf(1) / beta))  # v in units of its end
            f = lambda v: mp.exp(-e * v ** (1 / c))  # noqa: E731
            return weight * sum(mp.quad(f, [(u / e) ** c, (v / e) ** c]) for u, v in pairwise(cuts))

        right = side(max(lo, 0), hi) if hi > 0 else 0
        left = side(max(-hi, 0), -lo) if lo < 0 else 0
        return right + (-1) ** k * left


@pytest.mark.parametrize("beta", BETAS)
def test_ggd_partial_moments_by_quadrature(beta):
    source = GGD(beta)
    with mp.workdps(20):
        exact = GGD(mpf(beta))
        for lo, hi in INTERVALS:
            for k in (0, 1, 2):
                value, size = by_quadrature(k, lo, hi, beta), by_quadrature(k, min(abs(lo), abs(hi)), INF, beta)
                # digits cancel in a narrow interval, in units of the tail that it is cut from
                rel, abs_ = 1e-12, float(size) * tolerances.CLOSED_FORM
                assert source.partial_moment(k, lo, hi) == close(float(value), rel=rel, abs=abs_), (k, lo, hi)
                assert abs(exact.partial_moment(k, lo, hi) - value) <= mpf(10) ** -16 * abs(value), (k, lo, hi)


def test_deep_tails_keep_their_relative_accuracy():
    for beta, x in ((2.0, 36.0), (1.0, 480.0), (0.5, 4000.0), (8.0, 3.6)):
        t = (x / ggd.alpha(beta)) ** beta
        for k in (0, 1, 2):
            with mp.workdps(30):
                value = GGD(mpf(beta)).partial_moment(k, mpf(x), mp.inf)
                assert value < mpf(10) ** -80
            rel = tolerances.tail(beta, t)
            for lo, hi in ((x, INF), (x, 2 * x), *(((-INF, x),) if k == 1 else ())):
                sign = -1 if lo < 0 else 1
                assert GGD(beta).partial_moment(k, lo, hi) == close(sign * float(value), rel=rel)
            assert GGD(beta).partial_moment(k, -INF, -x) == close((-1) ** k * float(value), rel=rel)


ends = st.sampled_from([-INF, INF, 0.0]) | st.floats(-9, 9)


@given(strategies.betas(), strategies.sigmas(), st.lists(ends, min_size=3, max_size=6), st.integers(0, 2))
def test_partial_moments_add_up(beta, sigma, cuts, k):
    source = GGD(beta, sigma)
    cuts = np.sort(np.array(cuts)) * sigma
    cells = source.partial_moment(k, cuts[:-1], cuts[1:]) / sigma**k
    whole = source.partial_moment(k, cuts[0], cuts[-1]) / sigma**k
    assert cells.sum() == close(whole, rel=tolerances.SUM, abs=tolerances.SUM)
    assert [source.partial_moment(k, a, b) / sigma**k for a, b in pairwise(cuts)] == close(list(cells), rel=1e-14)
    assert source.partial_moment(k, cuts[-1], cuts[0]) == -source.partial_moment(k, cuts[0], cuts[-1])
    mirrored = source.partial_moment(k, -cuts[1:], -cuts[:-1]) / sigma**k
    np.testing.assert_allclose(mirrored, (-1) ** k * cells, rtol=1e-14)
    if k == 0:
        finite = cuts[np.isfinite(cuts)]
        np.testing.assert_allclose(source.partial_moment(0, -INF, finite), source.cdf(finite), rtol=1e-13)


def test_ggd_is_a_source_of_its_law():
    source = GGD(1.3, 0.4)
    assert isinstance(source, Source)
    assert source.variance == 0.4**2
    assert source.partial_moment(2, -INF, INF) == close(source.variance, rel=1e-14)
    assert source.continuous
    assert source.log_concave
    assert not GGD(0.99).log_concave
    assert (source.pdf(0.1), source.cdf(0.1)) == (ggd.pdf(0.1, 1.3, 0.4), ggd.cdf(0.1, 1.3, 0.4))
    assert (source.quantile(0.2), source.entropy()) == (ggd.quantile(0.2, 1.3, 0.4), ggd.entropy(1.3, 0.4))
    assert source.entropy(math.e) == ggd.entropy(1.3, 0.4, math.e)
    assert source == GGD(1.3, 0.4) != GGD(1.3)
    grid = source.partial_moment(0, np.zeros((2, 1)), np.linspace(1, 2, 3))
    assert grid.shape == (2, 3)
    for bad, message in (
        ((0.0,), "beta"),
        ((1.0, -1.0), "sigma"),
        (([1.0, 2.0],), "one number"),
        ((np.nan,), "beta"),
    ):
        with pytest.raises(ValueError, match=message):
            GGD(*bad)
    for bad in ((-1, 0, 1), (0.5, 0, 1), (0, np.nan, 1), (0, 0, [1.0, np.nan])):
        with pytest.raises(ValueError, match="is outside"):
            source.partial_moment(*bad)


@pytest.mark.parametrize("source", [GGD(1.7, 0.5), GGD(mpf(1.7), 0.5), GGD(arb(1.7), 0.5)])
def test_a_source_answers_in_the_arithmetic_and_precision_of_the_question(source):
    """Nothing that was rounded when the source was made may enter a finer answer."""
    with mp.workdps(60):
        expected = {k: GGD(mpf(1.7), mpf(0.5)).partial_moment(k, mpf(-0.25), mpf(0.75)) for k in (0, 1, 2)}
    before = ctx.prec
    try:
        for prec in (53, 150):
            ctx.prec = prec
            for k, value in expected.items():
                ball = source.partial_moment(k, arb(-0.25), arb(0.75))
                assert ball.contains(midpoint(BALL.number(value)) and BALL.number(value))
                assert ball.rad() < arb(2) ** (12 - prec)
    finally:
        ctx.prec = before
    if isinstance(source.beta, arb):
        return
    with mp.workdps(40):
        for k, value in expected.items():
            assert abs(source.partial_moment(k, mpf(-0.25), mpf(0.75)) - value) < mpf(10) ** -39


def test_balls_whose_ends_straddle_zero():
    source = GGD(arb("1.7"))
    for k in (0, 1, 2):
        for x in (-0.1, 0.0, 0.1):
            value = GGD(mpf(1.7)).partial_moment(k, x, mpf(1))
            assert source.partial_moment(k, arb(0, 0.125), 1).contains(BALL.number(value))
            assert source.partial_moment(k, 1, arb(0, 0.125)).contains(-BALL.number(value))
    assert source.partial_moment(2, -INF, INF).contains(1)
    assert source.partial_moment(0, 0, arb.pos_inf()).contains(0.5)
    for lo, hi in ((1, 2), (0, 1e-6), (1e-6, 2e-6), (20, arb.pos_inf())):  # P or Q, whichever is sharp there
        for k in (0, 1, 2):
            ball = source.partial_moment(k, lo, hi)
            assert ball.rad() < 1e-11 * ball, (k, lo, hi)


def test_symbols():
    b, x = sympy.Symbol("beta", positive=True), sympy.Symbol("x", positive=True)
    formula = GGD(b).partial_moment(2, 0, x)
    value = formula.subs({b: sympy.Rational(17, 10), x: 1}).evalf(20)
    assert float(value) == close(GGD(1.7).partial_moment(2, 0, 1.0), rel=1e-14)
    assert GGD(b).partial_moment(1, -x, x) == 0


@given(strategies.histograms(), st.integers(-24, 24), st.integers(-24, 24), st.integers(0, 2))
def test_histogram_sums(histogram, lo, hi, k):
    lo, hi = min(lo, hi) / 8, max(lo, hi) / 8
    p = histogram.counts / histogram.counts.sum()
    inside = (histogram.values > lo) & (histogram.values <= hi)  # (lo, hi]
    expected = math.fsum(p[inside] * histogram.values[inside] ** k)
    assert histogram.partial_moment(k, lo, hi) == close(expected, abs=1e-15)
    assert histogram.partial_moment(k, hi, lo) == close(-expected, abs=1e-15)
    assert histogram.cdf(hi) == close(p[histogram.values <= hi].sum(), abs=1e-15)
    assert histogram.partial_moment(k, [lo, -INF], [[hi], [INF]]).shape == (2, 2)


@given(strategies.histograms(), st.floats(1e-9, 1 - 1e-9), st.integers(0, 11))
def test_histogram_quantile_and_cdf_are_a_galois_pair(histogram, p, index):
    x = histogram.quantile(p)
    assert histogram.cdf(x) >= p - 1e-15
    below = histogram.values[histogram.values < x]
    assert not len(below) or histogram.cdf(below[-1]) < p
    atom = histogram.values[index % len(histogram.values)]
    reached = float(histogram.cdf(atom))
    if reached < 1:
        assert histogram.quantile(reached) == atom
        assert histogram.quantile(reached + 1e-12) > atom
    assert histogram.quantile([p, 0.5]).shape == (2,)


@given(strategies.histograms())
def test_histogram_moments(histogram):
    x = np.repeat(histogram.values, histogram.counts)
    assert histogram.mean == close(x.mean(), abs=1e-14)
    assert histogram.variance == close(x.var(), abs=1e-13)
    assert histogram.second_moment == close((x**2).mean(), abs=1e-13)
    assert histogram.abs_moment(0.5) == close((np.abs(x) ** 0.5).mean(), abs=1e-13)
    p = histogram.probabilities
    assert histogram.entropy() == close(-sum(v * math.log2(v) for v in p), abs=1e-14)
    assert 0 <= histogram.entropy() <= math.log2(len(p)) + 1e-14
    assert histogram.displacement == 0
    assert not histogram.continuous
    assert isinstance(histogram, Source)


def test_histogram_tails_keep_digits():
    """The last of 20,001 atoms hold 5e-12 of the mass: a float64 running sum leaves five digits of it."""
    values = np.linspace(-8, 8, 20001)
    counts = 1 + np.floor(1e9 * np.exp(-(values**2) / 2)).astype(np.int64)
    histogram = Histogram(values, counts)
    for lo in (7.98, 7.0):
        for k in (0, 1, 2):
            expected = math.fsum((counts * values**k)[values > lo]) / counts.sum()
            assert histogram.partial_moment(k, lo, INF) == close(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([], []), "non-empty"), (([1, 1], [1, 1]), "increasing"), (([0, np.nan], [1, 1]), "values"),
     (([np.nan], [1]), r"values\[0\] = nan"), (([0, np.inf], [1, 1]), r"values\[1\] = inf"),
     (([0, 1], [1]), "shape"), (([0, 1], [1, 0]), r"counts\[1\] = 0.0"), (([0, 1], [1, np.nan]), r"counts\[1\]"),
     (([0, 1], [1, 1], -1.0), "displacement = -1.0"), (([0, 1], [1, 1], np.nan), "displacement")],
)  # fmt: skip
def test_histogram_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Histogram(*map(np.array, arguments[:2]), *arguments[2:])


def test_histogram_refuses_questions():
    histogram = Histogram([-1, 2], [1, 3], 0.25)
    assert histogram.displacement == 0.25
    for k, lo in ((-1, 0.0), (3, 0.0), (0, np.nan)):
        with pytest.raises(ValueError, match=r"k = |lo = nan"):
            histogram.partial_moment(k, lo, 1.0)
    for p in (0, 1, np.nan):
        with pytest.raises(ValueError, match=r"outside \(0, 1\)"):
            histogram.quantile(p)
