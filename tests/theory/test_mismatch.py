"""Mismatch: Donsker-Varadhan against mpmath's quadrature and the exact error, high rate against quantizers."""

import itertools
import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate, stats

from tests.strategies import betas
from tests.tolerances import BLOCK, CLOSED_FORM, close
from theory import block_scaling, ggd, ledger, mismatch, scalar, shannon
from theory.codebooks import FP4, NF4, get
from theory.donsker_varadhan import Bound, bound
from theory.sources import GGD

GAUSS = GGD(2.0)
# The double-exponential rule against mpmath's and the ball, relative: measured 6e-13 at beta = 8 with 32 levels.
MOMENT = 2e-12
# The float64 divergence is good to 1e-15 absolutely; divided by t = 1e-8 and less that shows, and the optimum moves.
NEAR_EQUALITY = 1e-6
# N**2 D approaches its limit like 1/N; extrapolated from two N it is within this, relative.
RICHARDSON = 2e-3


@pytest.mark.parametrize("codebook", [NF4, FP4, get("bof4s-64")])
def test_ratio_is_the_ledgers_step(codebook):
    ratio = mismatch.ratio(codebook, 64, GAUSS)
    D = float(block_scaling.mse(codebook, 64, GAUSS))
    step = next(s for s in ledger.gap_ledger(D, 4, GAUSS, codebook, 64).steps if s.name == "codebook")
    assert math.log2(ratio) / 2 == close(step.bits, abs=BLOCK)
    assert ratio >= 1 - BLOCK


def test_the_best_codebook_has_ratio_one():
    assert mismatch.ratio(ledger.best_codebook(GGD(1.5), 16, 32), 32, GGD(1.5)) == close(1.0, rel=BLOCK)


@given(betas(1.0, 6.0), betas(1.0, 6.0), st.integers(1, 24))
def test_lloyd_max_ratio_is_at_least_one(p, q, n):
    assert mismatch.lloyd_max_ratio(GGD(p), GGD(q), n) >= 1 - CLOSED_FORM
    assert mismatch.lloyd_max_ratio(GGD(p), GGD(p), n) == 1


def test_lloyd_max_ratio_by_quadrature():
    levels = scalar.lloyd_max(GAUSS, 4).levels
    ends = np.concatenate([[-30], (levels[1:] + levels[:-1]) / 2, [30]])
    p = stats.gennorm(1.3, scale=float(ggd.alpha(1.3)))
    own = [integrate.quad(lambda x, l=l: (x - l) ** 2 * p.pdf(x), a, b, epsabs=1e-13, limit=200)[0]
           for l, (a, b) in zip(levels, itertools.pairwise(ends), strict=True)]  # fmt: skip
    expected = sum(own) / float(scalar.lloyd_max(GGD(1.3), 4).mse)
    assert float(mismatch.lloyd_max_ratio(GGD(1.3), GAUSS, 4)) == close(expected, rel=1e-9)
    assert float(mismatch.lloyd_max_ratio(GGD(mpf("1.3")), GGD(mpf(2)), 4)) == close(expected, rel=1e-9)


@given(betas(0.6, 8.0), st.floats(0.5, 2.0), st.sampled_from([2.0, 2.05, 3.0, 8.0]), st.integers(2, 64), st.data())
def test_bound_is_never_below_the_error(p, sigma, q, n, data):
    source, reference = GGD(p, sigma), GGD(q)
    levels = scalar.lloyd_max(reference, n).levels
    found = bound(source, reference, levels)
    error = float(scalar.mse(levels, source))
    assert found.value >= error * (1 - MOMENT)
    if found.status != "limit t -> 0":  # and no other t does better
        t = found.t * data.draw(st.floats(0.01, 1.0))
        assert bound(source, reference, levels, t).value >= found.value * (1 - 1e-9)
        assert bound(source, reference, levels, t).value >= error * (1 - MOMENT)


@pytest.mark.parametrize("q", [2.0, 2.0 + 2**-40, 2.3, 5.0])
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_bound_against_mpmath_quadrature(q, n):
    source, reference = GGD(1.2, 1.1), GGD(q, 0.9)
    levels = 1.1 * scalar.lloyd_max(reference, n).levels + 0.05  # neither symmetric nor optimal
    found = bound(source, reference, levels)
    with mp.workdps(20):
        alpha = mpf(0.9) * mp.sqrt(mp.gamma(1 / mpf(q)) / mp.gamma(3 / mpf(q)))
        ends = [-mp.inf, *((a + b) / 2 for a, b in itertools.pairwise(map(mpf, levels))), mp.inf]
        moment = mpf(0)
        for level, lo, hi in zip(levels, ends[:-1], ends[1:], strict=True):
            start, stop = (x if mp.isfinite(x) else s * mpf(60) for x, s in ((lo, -1), (hi, 1)))
            marks = map(mpf, (-30, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 30))
            cuts = [start, *(c for c in marks if start < c < stop)]
            moment += mp.quad(
                lambda x, l=level: mp.exp(found.t * (x - l) ** 2 - (abs(x) / alpha) ** mpf(q)), [*cuts, stop]
            )
        log_moment = mp.log(moment * q / (2 * alpha * mp.gamma(1 / mpf(q))))
        expected = (ggd.kl(mpf(1.2), mpf(q), mpf(1.1), mpf(0.9), base=math.e) + log_moment) / found.t
    assert found.value == close(float(expected), rel=MOMENT)


@pytest.mark.parametrize("n", [1, 2, 16, 64])
def test_exact_arithmetics_agree_with_float(n):
    levels = scalar.lloyd_max(GAUSS, n).levels
    found = bound(GGD(1.7), GAUSS, levels)
    ball = bound(GGD(arb(1.7)), GGD(arb(2)), levels)
    fine = bound(GGD(mpf(1.7)), GGD(mpf(2)), levels)
    assert isinstance(ball.value, arb)
    assert ball.t == found.t
    assert ball.value > float(scalar.mse(levels, GGD(1.7))) * (1 + CLOSED_FORM)  # proved, at these levels
    assert abs(ball.value / found.value - 1) < MOMENT
    assert ball.value.rad() < 1e-12 * ball.value
    assert abs(fine.value / mpf(found.value) - 1) < MOMENT
    with mp.workdps(40):
        finer = bound(GGD(mpf(1.7)), GGD(mpf(2)), levels, found.t).value
    assert abs(fine.value / finer - 1) < 4 * mp.eps


def test_best_t_by_brute_force():
    for p, n in ((1.7, 2), (1.2, 4), (4.0, 3), (1.7, 16)):
        levels = scalar.lloyd_max(GAUSS, n).levels
        found = bound(GGD(p), GAUSS, levels)
        grid = np.linspace(1e-3, 0.498, 3000)
        values = [bound(GGD(p), GAUSS, levels, t).value for t in grid]
        assert found.value <= min(values) * (1 + 1e-12)
        assert abs(found.t - grid[int(np.argmin(values))]) < 2e-3
    assert found.status == "at the end of the domain"


def test_tight_at_equality():
    levels = scalar.lloyd_max(GAUSS, 4).levels
    error = float(scalar.mse(levels, GAUSS))
    assert bound(GAUSS, GAUSS, levels) == Bound(error, 0.0, "limit t -> 0")
    assert bound(GGD(2.0 + 1e-6), GAUSS, levels).value == close(error, rel=NEAR_EQUALITY)


def test_ratio_bound():
    for p in (1.2, 1.7, 3.0):
        found = mismatch.ratio_bound(GGD(p), GAUSS, 8)
        assert found.over_lloyd_max >= mismatch.lloyd_max_ratio(GGD(p), GAUSS, 8)
        quotient = float(scalar.lloyd_max(GGD(p), 8).mse / shannon.distortion_lower_bound(GGD(p), 3))
        assert found.over_shannon == close(found.over_lloyd_max * quotient, rel=CLOSED_FORM)


def test_entropy_coded_is_what_a_fine_quantizer_pays():
    source, reference, step = GGD(1.7), GGD(2.0, 1.2), 1 / 64
    edges = np.arange(-20, 20 + step, step)
    p, q = (np.diff(stats.gennorm(s.beta, scale=float(s.alpha)).cdf(edges)) for s in (source, reference))
    paid = float(np.sum(np.where(p > 1e-30, p * np.log2(np.maximum(p, 1e-300) / np.maximum(q, 1e-300)), 0)))
    assert paid == close(float(mismatch.entropy_coded(source, reference)), abs=1e-4)  # O(step**2)
    assert mismatch.entropy_coded(GGD(arb(2)), GGD(arb(2))).contains(0)


def test_high_rate_at_equality_is_panter_dite():
    beta = sympy.Symbol("beta", positive=True)
    symbolic = mismatch.high_rate(GGD(beta), GGD(beta)) / scalar.panter_dite(GGD(beta))
    for b in (0.7, 1.0, 2.0, 5.0):
        assert float(mismatch.high_rate(GGD(b), GGD(b))) == close(float(scalar.panter_dite(GGD(b))), rel=CLOSED_FORM)
        assert float(symbolic.subs(beta, sympy.Rational(b)).evalf()) == close(1.0, rel=CLOSED_FORM)
        ball = mismatch.high_rate(GGD(arb(b)), GGD(arb(b)))
        assert abs(ball / scalar.panter_dite(GGD(arb(b))) - 1) < CLOSED_FORM


@pytest.mark.parametrize(("p", "sigma", "q"), [(2.0, 1.1, 2.0), (1.0, 0.8, 1.0), (2.5, 1.0, 2.0), (4.0, 1.3, 1.5)])
def test_high_rate_by_quadrature(p, sigma, q):
    ap, aq = sigma * float(ggd.alpha(p)), float(ggd.alpha(q))
    fp, fq = (b / (2 * a * math.gamma(1 / b)) for b, a in ((p, ap), (q, aq)))
    with mp.workdps(20):
        root = 2 * mp.quad(lambda x: fq ** (1 / mpf(3)) * mp.exp(-((x / aq) ** q) / 3), [0, 1, 4, 20, mp.inf])
        rest = 2 * mp.quad(lambda x: fp * fq ** (-2 / mpf(3)) * mp.exp(2 * (x / aq) ** q / 3 - (x / ap) ** p),
                           [0, 1, 2, 4, 8, 16, 32, 64])  # fmt: skip
    value = float(mismatch.high_rate(GGD(p, sigma), GGD(q)))
    assert value == close(float(root**2 * rest / 12), rel=1e-9)
    assert value >= float(scalar.panter_dite(GGD(p, sigma))) * (1 - CLOSED_FORM)


def test_high_rate_is_the_limit_of_quantizers():
    source = GGD(3.0)
    a, b = (n * n * float(scalar.mse(scalar.lloyd_max(GAUSS, n).levels, source)) for n in (128, 256))
    assert 2 * b - a == close(float(mismatch.high_rate(source, GAUSS)), rel=RICHARDSON)


def test_where_the_integral_diverges():
    with pytest.raises(ValueError, match=r"beta = 1.7 of the source is below the reference's 2.0: .* diverges"):
        mismatch.high_rate(GGD(1.7), GAUSS)
    mismatch.high_rate(GGD(2.0, 1.2247), GAUSS)
    with pytest.raises(ValueError, match="diverges"):
        mismatch.high_rate(GGD(2.0, 1.2248), GAUSS)  # sqrt(3/2) = 1.22474
    # N**2 D does grow without bound where it is said to, here as a check that it is the integral's fault.
    growth = [n * n * float(scalar.mse(scalar.lloyd_max(GAUSS, n).levels, GGD(1.0))) for n in (16, 64, 256)]
    assert growth[1] > 1.5 * growth[0]
    assert growth[2] > 1.5 * growth[1]
    with pytest.raises(ArithmeticError, match="finite and about"):
        mismatch.high_rate(GGD(2.001, 1.3), GAUSS)


def test_bad_input():
    levels = [-1.0, 1.0]
    with pytest.raises(ValueError, match="infinite for every t > 0"):
        bound(GAUSS, GGD(1.99), levels)
    with pytest.raises(ValueError, match=r"t = 0.5 is outside \(0, 0.498"):
        bound(GGD(1.7), GAUSS, levels, 0.5)
    with pytest.raises(ValueError, match="strictly increasing"):
        bound(GGD(1.7), GAUSS, [1.0, -1.0])
    with pytest.raises(TypeError, match="must be the Gaussian"):
        bound(GGD(mpf(1.7)), GGD(mpf(3)), levels)
    with pytest.raises(TypeError, match="float64"):
        mismatch.high_rate(GGD(mpf(3)), GGD(mpf(2)))
    with pytest.raises(ValueError, match="n = 0"):
        mismatch.ratio_bound(GGD(1.7), GAUSS, 0)
