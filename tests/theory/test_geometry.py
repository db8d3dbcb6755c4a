"""Water-filling: its optimality conditions, a numerical optimizer, balls; gains and amplification by Monte Carlo."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import optimize

from tests.tolerances import STANDARD_ERRORS, SUM, close
from theory import geometry
from theory.arithmetic import midpoint
from theory.geometry import allocation_gain, condition_bound, reverse_waterfilling, variance_gain

# SLSQP's own stopping, relative to the distortion.
OPTIMIZER = 1e-6
# A few components over 12 decades: what a level loses to cancellation in the sums below it.
LEVEL = 1e-9

numbers = st.floats(-6, 6).map(lambda t: 10.0**t)


@st.composite
def components(draw):
    size = draw(st.integers(1, 8))
    columns = (draw(st.lists(numbers, min_size=size, max_size=size)) for _ in range(2))
    counts = draw(st.lists(st.integers(1, 1000), min_size=size, max_size=size))
    return (*map(np.array, columns), np.array(counts))


@given(components(), st.floats(0.001, 1.0), st.sampled_from(["theta", "distortion", "rate"]))
def test_optimality_conditions_and_target(parts, fraction, target):
    variances, weights, counts = parts
    importance = weights * variances
    most = {"theta": importance.max(), "distortion": (1 - SUM) * (counts @ importance), "rate": 20 * counts.sum()}
    value = float(most[target]) * fraction
    found = reverse_waterfilling(variances, weights, counts, **{target: value})
    assert float(getattr(found, target)) == close(value, rel=LEVEL)
    assert (found.distortions <= variances * (1 + SUM)).all()
    # Where there is rate, the slope lambda D is the level; where there is none, the variance is below it.
    active = found.rates > 0
    np.testing.assert_allclose((weights * found.distortions)[active], found.theta, rtol=SUM)
    np.testing.assert_allclose(found.distortions[~active], variances[~active], rtol=SUM)
    assert (importance[~active] <= found.theta * (1 + SUM)).all()
    np.testing.assert_allclose(found.rates, np.log2(variances / found.distortions) / 2, atol=1e-12)
    assert float(found.rate) == close(float(counts @ found.rates), abs=SUM * (1 + float(found.rate)))
    assert float(found.distortion) == close(float(counts @ (weights * found.distortions)), rel=SUM)


def test_against_a_numerical_optimizer():
    rng = np.random.default_rng(4)
    for _ in range(10):
        (variances, weights), counts = np.exp(rng.normal(size=(2, 4))), rng.integers(1, 4, 4)
        rate = float(rng.uniform(0.1, 6))
        best = optimize.minimize(
            lambda r, v=variances, w=weights, c=counts: float(c @ (w * v * 4.0**-r)), np.full(4, rate / counts.sum()),
            bounds=[(0, None)] * 4, constraints={"type": "eq", "fun": lambda r, c=counts, R=rate: c @ r - R},
            options={"ftol": 1e-14, "maxiter": 500})  # fmt: skip
        assert float(reverse_waterfilling(variances, weights, counts, rate=rate).distortion) == close(
            best.fun, rel=OPTIMIZER
        )


@given(components(), st.floats(0.01, 0.99), st.sampled_from(["distortion", "rate"]))
def test_balls_contain_the_exact_level(parts, fraction, target):
    variances, weights, counts = parts
    value = fraction * float({"distortion": counts @ (weights * variances), "rate": 4 * counts.sum()}[target])
    inexact = [arb(v, 1e-12 * v) for v in variances]
    ball = reverse_waterfilling(inexact, weights, counts, **{target: value})
    with mp.workdps(50):
        exact = reverse_waterfilling([mpf(v) for v in variances], weights, counts, **{target: value})
        assert abs(midpoint(ball.theta) - exact.theta) <= midpoint(ball.theta.rad()) * (1 + mpf(10) ** -6)
        assert abs(getattr(exact, target) / value - 1) < mpf(10) ** -40
        for enclosure, d in zip(ball.distortions, exact.distortions, strict=True):
            assert abs(midpoint(enclosure) - d) <= midpoint(enclosure.rad()) * (1 + mpf(10) ** -6)
    plain = reverse_waterfilling(variances, weights, counts, **{target: value})
    assert float(plain.theta) == close(float(exact.theta), rel=LEVEL)


def test_equal_components_in_balls():
    """Importances that overlap have no order; the level encloses that of every order."""
    found = reverse_waterfilling([arb(1, 1e-9)] * 5, rate=10)
    assert found.theta.contains(arb(1) / 16)
    with ctx.workprec(100):
        assert (reverse_waterfilling([arb(1)] * 3, distortion=arb(3) / 2).rate - 1.5).contains(0)


def test_balls_contain_the_level_at_nine_bits():
    """Where rounding makes neighbouring sets' levels overlap, the greater of them is still enclosed."""
    for seed in range(500):
        rng = np.random.default_rng(seed)
        w = [Fraction(int(k), 64) for k in rng.integers(1, 400, 6)]
        distortion = Fraction(int(rng.integers(1, int(60 * sum(w)))), 64)
        exact = max((distortion - sum(sorted(w)[:k])) / (6 - k) for k in range(6))
        with ctx.workprec(9):
            theta = reverse_waterfilling([arb(float(x)) for x in w], distortion=float(distortion)).theta
        assert theta.contains(arb(exact.numerator) / exact.denominator), seed


def test_counts_are_repetitions():
    repeated = reverse_waterfilling([4.0, 4.0, 1.0, 1.0, 1.0], [1.0, 1.0, 2.0, 2.0, 2.0], rate=4)
    counted = reverse_waterfilling([4.0, 1.0], [1.0, 2.0], [2, 3], rate=4)
    assert float(counted.theta) == close(float(repeated.theta), rel=SUM)
    assert float(counted.distortion) == close(float(repeated.distortion), rel=SUM)


def test_no_rate_and_all_of_it():
    found = reverse_waterfilling([4.0, 1.0], rate=0)
    assert (float(found.theta), float(found.distortion)) == (4.0, 5.0)
    assert reverse_waterfilling([4.0, 1.0], distortion=5.0).rates.tolist() == [0.0, 0.0]
    assert reverse_waterfilling([4.0, 1.0], theta=9.0).distortions.tolist() == [4.0, 1.0]
    big = np.random.default_rng(0).chisquare(1, 10**5)
    assert float(reverse_waterfilling(big, rate=2e5).rate) == close(2e5, rel=SUM)


@given(components())
def test_allocation_gain_is_the_rate_that_waterfilling_saves(parts):
    """Equal variances, all active: uniform distortion D costs allocation_gain bits more than the best."""
    _, weights, counts = parts
    theta = float(weights.min()) / 4
    found = reverse_waterfilling(np.ones(len(weights)), weights, counts, theta=theta)
    n = counts.sum()
    uniform = float(found.distortion) / float(counts @ weights)  # the equal D of the same weighted distortion
    saved = math.log2(1 / uniform) / 2 - float(found.rate) / n
    assert float(allocation_gain(weights, counts)) == close(saved, abs=1e-12)


@given(components())
def test_variance_gain_is_the_difference_of_gaussian_codes(parts):
    variances, _, counts = parts
    D, n = variances.min() / 2, counts.sum()
    one_code = math.log2(counts @ variances / n / D) / 2
    assert float(variance_gain(variances, counts)) == close(
        one_code - float(reverse_waterfilling(variances, counts=counts, theta=D).rate) / n, abs=1e-12
    )


def test_gains_in_four_arithmetics():
    a, b = sympy.symbols("a b", positive=True)
    formula = sympy.log((a + b) / 2 / sympy.sqrt(a * b)) / 2 / sympy.log(2)
    assert sympy.simplify(sympy.expand_log(allocation_gain([a, b]) - formula, force=True)) == 0
    for f in (allocation_gain, variance_gain):
        value = float(f([1.0, 4.0], [3, 1]))
        assert value == close(math.log2(7 / 4) / 2 - 0.25, abs=1e-15)
        assert float(f([mpf(1), mpf(4)], [3, 1])) == close(value, rel=SUM)
        assert abs(f([arb(1), arb(4)], [3, 1]) - value) < SUM
        assert float(f([2.0, 2.0])) == close(0.0, abs=1e-15)
    assert allocation_gain(np.ones((5, 3))).shape == (5,)
    assert float(allocation_gain([1.0, 4.0], base=math.e)) == close(float(allocation_gain([1.0, 4.0])) * math.log(2))


def test_amplification_by_monte_carlo():
    """A linear map of two tensors: logits = A w1 + B w2, so that G = A'A and B'B."""
    rng = np.random.default_rng(6)
    a, b, draws = rng.normal(size=(10, 4)), rng.normal(size=(10, 7)), 40_000
    traces, mses = [np.trace(a.T @ a), np.trace(b.T @ b)], [1e-3, 4e-3]
    errors = [rng.normal(size=(draws, k)) * math.sqrt(m) for k, m in zip((4, 7), mses, strict=True)]
    logits = ((errors[0] @ a.T + errors[1] @ b.T) ** 2).mean(1)
    predicted = geometry.predicted_logits_mse(traces, mses, 10)
    assert abs(logits.mean() - predicted) < STANDARD_ERRORS * logits.std() / math.sqrt(draws)
    weight_mse = (4 * mses[0] + 7 * mses[1]) / 11
    assert float(geometry.predicted_amplification(traces, 10, mses, [4, 7])) == close(predicted / weight_mse, rel=SUM)
    assert float(geometry.predicted_amplification(traces, 10, 0.5)) == close(sum(traces) / 10, rel=SUM)
    assert float(geometry.predicted_amplification([mpf(3)], 2)) == 1.5


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0, 10))
def test_condition_bound(seed, n, shift):
    x = np.random.default_rng(seed).normal(size=(50, n)) + shift
    second = x.T @ x / len(x)
    eigenvalues = np.linalg.eigvalsh(second)
    mean = float((x.mean(0) ** 2).sum())
    kappa = eigenvalues[-1] / eigenvalues[0]
    assert condition_bound(mean, eigenvalues[0]) <= kappa * (1 + 1e-9)
    assert condition_bound(arb(4), arb(2)) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reverse_waterfilling([1.0]), "exactly one"),
        (lambda: reverse_waterfilling([1.0], rate=1, theta=1.0), "exactly one"),
        (lambda: reverse_waterfilling([1.0, 0.0], rate=1), r"variances\[1\] = 0.0"),
        (lambda: reverse_waterfilling([1.0], [-1.0], rate=1), r"weights\[0\] = -1.0"),
        (lambda: reverse_waterfilling([1.0], rate=-1), "target = -1.0"),
        (lambda: reverse_waterfilling([1.0, 2.0], distortion=3.5), r"distortion = 3.5 is outside \(0, 3"),
        (lambda: reverse_waterfilling([1.0, 2.0], [1.0], rate=1), "alike and not empty"),
        (lambda: reverse_waterfilling([1.0], counts=[0], rate=1), r"counts\[0\] = 0"),
        (lambda: allocation_gain([1.0, 0.0]), r"weights\[1\] = 0.0"),
        (lambda: variance_gain([1.0, -2.0]), r"variances\[1\] = -2.0"),
        (lambda: variance_gain([1.0, 2.0], [1]), "last axes must agree"),
        (lambda: geometry.predicted_logits_mse([-1.0], [1.0], 2), r"traces\[0\] = -1.0"),
        (lambda: geometry.predicted_amplification([1.0], 0), "vocabulary = 0"),
        (lambda: condition_bound(1.0, 0.0), "smallest = 0.0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
