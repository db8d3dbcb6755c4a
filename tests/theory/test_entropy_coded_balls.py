"""Infinitely many cells: against direct sums at 60 digits, geometric series, and the tails in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from tests import strategies, tolerances
from tests.tolerances import close
from theory import entropy_coded_balls, shannon
from theory.entropy_coded import GISH_PIERCE, ecsq, ecsq_gap, optimal_ecsq, price_of_uniform_thresholds
from theory.scalar import lloyd_max
from theory.sources import GGD, Histogram

# At 128 bits; the rest is what the tail leaves and the cancellation within a cell.
DIGITS_30 = 100


@pytest.fixture(autouse=True)
def bits():
    with ctx.workprec(128):
        yield


def ball(x):
    return arb(mp.nstr(x, 48)) + arb(0, 1e-45)


def direct(beta, sigma, step):
    """Bits and distortion summed cell by cell with mpmath's incomplete gamma function to a tail of 1e-56."""
    alpha = sigma * mp.sqrt(mp.gamma(1 / beta) / mp.gamma(3 / beta))

    def beyond(k, x):
        return alpha**k * mp.gammainc((k + 1) / beta, (x / alpha) ** beta, mp.inf) / (2 * mp.gamma(1 / beta))

    upper = [beyond(k, step / 2) for k in range(3)]
    middle = 1 - 2 * upper[0]
    nats, error, edge = -middle * mp.log(middle), sigma**2 - 2 * upper[2], step / 2
    while upper[0] > mpf(10) ** -56:
        edge += step
        after = [beyond(k, edge) for k in range(3)]
        m0, m1, m2 = (a - b for a, b in zip(upper, after, strict=True))
        nats, error, upper = nats - 2 * m0 * mp.log(m0), error + 2 * (m2 - m1**2 / m0), after
    return nats / mp.log(2), error


@pytest.mark.parametrize(("beta", "step"), [("2", "0.5"), ("1", "1.25"), ("1.7", "2"), ("8", "0.25"), ("0.75", "4")])
def test_direct_sums_at_60_digits(beta, step):
    with mp.workdps(60):
        rate, error = direct(mpf(beta), mpf(3) / 2, mpf(step))
    found = ecsq(GGD(arb(beta), arb(1.5)), step=arb(step))
    for mine, other in ((found.rate, rate), (found.mse, error)):
        assert mine.overlaps(ball(other))
        assert mine.rel_accuracy_bits() > DIGITS_30
    assert found.certificate == entropy_coded_balls.CERTIFICATE
    with mp.workdps(30):
        rounded = ecsq(GGD(mpf(beta), mpf(3) / 2), step=mpf(step))
        assert abs(rounded.rate - rate) < mpf(10) ** -29 * rate
        assert abs(rounded.mse - error) < mpf(10) ** -29 * error
    floats = ecsq(GGD(float(beta), 1.5), step=float(step))
    assert (float(found.rate), float(found.mse)) == close((floats.rate, floats.mse), rel=1e-11)


def test_laplace_in_closed_form():
    # Memorylessness: outside the middle cell the index is geometric, and each cell has the same variance.
    a, step = 1 / arb(2).sqrt(), arb("0.8")
    middle, ratio = 1 - (-step / 2 / a).exp(), (-step / a).exp()
    side = (1 - middle) / 2
    geometric = -(1 - ratio).log() - ratio / (1 - ratio) * ratio.log()
    nats = -middle * middle.log() - 2 * side * side.log() + 2 * side * geometric
    found = ecsq(GGD(arb(1)), step=step)
    assert found.rate.overlaps(nats / arb(2).log())
    within = a**2 - step**2 * ratio / (1 - ratio) ** 2  # of an exponential variable in [0, step]
    half = step / 2
    centre = 2 * a**2 * middle - (half**2 + 2 * a * half) * (-half / a).exp()  # of x**2 over |x| < step / 2
    expected = 2 * side * within + centre
    assert found.mse.overlaps(expected)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("step", [1.0, 3.0, 40.0])
def test_the_remainder_bounds_the_tail(beta, step):
    # With few bits the sum stops early, and the ball of the rest must still hold the sharper one.
    with ctx.workprec(200):
        sharp = ecsq(GGD(arb(beta)), step=step)
    for few in (4, 10, 30):
        with ctx.workprec(few):
            wide = ecsq(GGD(arb(beta)), step=step)
        assert wide.rate.contains(sharp.rate)
        assert wide.mse.contains(sharp.mse)
        assert len(wide.levels) <= len(sharp.levels)


@pytest.mark.parametrize(("beta", "rate"), [("2", 4), ("1", 2), ("1.7", 0.25), ("0.75", 1)])
def test_a_step_of_that_rate(beta, rate):
    found = ecsq(GGD(arb(beta), arb(2)), rate=rate)
    step = found.thresholds[-1] - found.thresholds[-2]
    assert found.rate == rate
    assert min(found.mse.rel_accuracy_bits(), step.rel_accuracy_bits()) > DIGITS_30
    ends = [ecsq(GGD(arb(beta), arb(2)), step=arb(end)).rate for end in (step.lower(), step.upper())]
    assert ends[0] > rate > ends[1]
    with mp.workdps(60):  # a step at 60 digits by the secant method on the direct sum
        near = mpf(float(step))
        exact = mp.findroot(lambda s: direct(mpf(beta), mpf(2), s)[0] - rate, (near, near * (1 + mpf(10) ** -9)),
                            solver="secant", tol=1e-90)  # fmt: skip
        error = direct(mpf(beta), mpf(2), exact)[1]
    assert step.overlaps(ball(exact))
    assert found.mse.overlaps(ball(error))


@settings(max_examples=10)
@given(strategies.betas(0.6, 8.0), st.floats(0.05, 5.0), strategies.sigmas(0.01, 100.0))
def test_balls_and_floats(beta, rate, sigma):
    with ctx.workprec(64):
        found = ecsq(GGD(arb(beta), arb(sigma)), rate=rate)
    floats = ecsq(GGD(beta, sigma), rate=rate)
    assert float(found.mse) == close(floats.mse, rel=1e-8)
    assert float(2 * min(abs(t) for t in found.thresholds)) == close(2 * min(abs(floats.thresholds)), rel=1e-8)


def test_gish_pierce_from_above_and_below():
    gaps = [ecsq_gap(GGD(arb(b)), 6) for b in (1, 2, 4)]
    assert all(abs(g - GISH_PIERCE) < 3e-4 for g in gaps)
    assert gaps[1] < GISH_PIERCE  # the Gaussian approaches from below: decided by the ball
    assert close(0.254614, abs=5e-7) == GISH_PIERCE
    assert float(ecsq_gap(GGD(1.7), 9)) == close(GISH_PIERCE, abs=1e-5)
    with pytest.raises(TypeError):
        ecsq_gap(Histogram([-1.0, 0.0, 1.0], [1, 2, 1]), 0.5)


@pytest.mark.parametrize("beta", [0.5, 0.8, 1.0, 2.0, 4.0])
def test_price_of_uniform_thresholds(beta):
    source = GGD(beta)
    prices = [price_of_uniform_thresholds(source, r) for r in (0.5, 1.0, 2.5, 4.0, 6.0)]
    assert min(prices) > -1e-11
    assert max(prices) < ecsq_gap(source, 2.5) + 0.06
    assert prices[-1] < prices[-2] or max(prices[-2:]) < 1e-9  # it vanishes at high rate
    best = optimal_ecsq(source, 2.5)
    assert prices[2] == close(math.log2(ecsq(source, rate=best.rate).mse / best.mse) / 2, abs=1e-9)


def test_price_where_it_is_large():
    # One bit of a flat source is its sign, and three cells about 0 are poor.
    best = lloyd_max(GGD(8.0), 2).mse
    assert price_of_uniform_thresholds(GGD(8.0), 1.0) == close(
        math.log2(ecsq(GGD(8.0), rate=1.0).mse / best) / 2, abs=1e-8
    )


@pytest.mark.parametrize(("beta", "rate"), [(0.3, 0.5), (0.3, 2.5), (0.4, 5.0), (2.0, 8.0), (1.0, 8.0)])
def test_optimum_for_heavy_tails_and_high_rates(beta, rate):
    # What it saves in entropy and distortion is summed here from the source's own partial moments.
    source, best = GGD(beta), optimal_ecsq(GGD(beta), rate)
    assert best.status == "converged"
    assert best.iterations < 12  # Newton's method, not the descent that it falls back on
    assert best.rate == close(rate, abs=tolerances.RATE)
    assert shannon.distortion_lower_bound(source, rate) < best.mse <= ecsq(source, rate=rate).mse * (1 + 1e-9)


@pytest.mark.parametrize(("beta", "rate"), [(0.4, 2.0), (1.0, 3.0), (2.0, 2.0)])
def test_far_thresholds_are_where_coding_wants_them(beta, rate):
    # Midway between levels, and lambda ln(p / p') / (2 (l' - l)) farther; out to 1e-12 of the tail.
    q, source = optimal_ecsq(GGD(beta), rate), GGD(beta)
    t = np.concatenate([[-np.inf], q.thresholds, [np.inf]])
    p = source.partial_moment(0, t[:-1], t[1:])
    reach = (source.quantile(1e-12), -source.quantile(1e-12))
    matter = (q.thresholds > reach[0]) & (q.thresholds < reach[1])
    away = (q.thresholds - (q.levels[1:] + q.levels[:-1]) / 2)[matter]
    pull = (-np.diff(np.log(p)) / np.diff(q.levels) / 2)[matter]
    lagrangian = away @ pull / (pull @ pull)
    assert len(away) > 8
    assert away == close(lagrangian * pull, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ecsq(GGD(arb(2)), step=arb(0)), "step = 0 is outside"),
        (lambda: ecsq(GGD(arb(2)), rate=-1), "rate = -1.* is outside"),
        (lambda: ecsq(GGD(arb(0.3)), step=1e-3), "makes over 100000 cells a side: give at least"),
        (lambda: ecsq(GGD(mpf(2))), "either step= or rate="),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_rate_certified_for_a_wide_source():
    for radius in (1e-3, 0.5):
        with pytest.raises(ArithmeticError, match="no step certified for"):
            ecsq(GGD(arb(2, radius)), rate=2)
