"""Errors through depth: the bound on random networks, the prediction by Monte Carlo."""

import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from tests.tolerances import STANDARD_ERRORS, SUM, close
from theory import propagation


def network(rng, layers, width, scale, rectified):
    """Weights and the function that a layer's weights compute."""
    weights = rng.normal(size=(layers, width, width)) * scale / math.sqrt(width)
    return weights, (lambda w, x: np.maximum(w @ x, 0)) if rectified else (lambda w, x: w @ x)


@given(
    st.integers(0, 10**6), st.integers(1, 6), st.floats(0.1, 3.0), st.floats(1e-4, 1.0), st.booleans(), st.booleans()
)
def test_bound_holds_on_random_networks(seed, layers, scale, noise, rectified, skip):
    rng = np.random.default_rng(seed)
    weights, f = network(rng, layers, 8, scale, rectified)
    quantized = weights + noise * rng.normal(size=weights.shape)
    x = y = rng.normal(size=8)
    own, originals = [], []
    for w, v in zip(weights, quantized, strict=True):
        own.append(np.linalg.norm(f(v, y) - f(w, y)))  # on the input of the quantized network
        originals.append(np.linalg.norm(f(v, x) - f(w, x)))
        x, y = (f(w, x) + skip * x, f(v, y) + skip * y)
    for errors, layer_weights in ((own, weights), (originals, quantized)):
        constants = np.linalg.norm(layer_weights, 2, axis=(1, 2))
        constants = propagation.residual(constants) if skip else constants
        rounding = SUM * np.linalg.norm(x)  # of the difference
        assert np.linalg.norm(y - x) <= propagation.bound(errors, constants) * (1 + SUM) + rounding


def test_bound_is_attained_by_aligned_errors():
    gains, errors = np.array([3.0, 0.5, 2.0, 1.5]), np.array([0.1, 0.2, 0.3, 0.4])
    x = y = 0.0
    for g, e in zip(gains, errors, strict=True):
        x, y = g * x, g * y + e
    assert propagation.bound(errors, gains) == close(y - x, rel=SUM)


def test_prediction_on_orthogonal_layers_by_monte_carlo():
    rng = np.random.default_rng(11)
    gains, m, width, draws = np.array([1.5, 0.7, 1.2, 0.9]), np.array([0.5, 1.0, 0.2, 0.3]), 6, 20_000
    errors = np.zeros((draws, width))
    for g, mean_square in zip(gains, m, strict=True):
        rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
        errors = g * errors @ rotation + rng.normal(size=(draws, width)) * math.sqrt(mean_square / width)
    squares = (errors**2).sum(1)
    assert abs(squares.mean() - propagation.predict(m, gains)) < STANDARD_ERRORS * squares.std() / math.sqrt(draws)


def test_prediction_with_gains_from_traces_by_monte_carlo():
    """General matrices: isotropic errors, and the gain of each layer that of the errors that reach it."""
    rng = np.random.default_rng(12)
    width, draws = 5, 40_000
    first, second = rng.normal(size=(2, width, width))
    gain = math.sqrt(np.trace(second.T @ second) / width)
    e1, e2 = rng.normal(size=(2, draws, width))
    squares = ((e1 @ second.T + e2) ** 2).sum(1)
    predicted = propagation.predict([width, width], [np.linalg.norm(first), gain])
    assert abs(squares.mean() - predicted) < STANDARD_ERRORS * squares.std() / math.sqrt(draws)


def test_formula_and_arithmetics():
    d, L = sympy.symbols("d1:4", positive=True), sympy.symbols("L1:4", positive=True)
    assert sympy.expand(propagation.bound(d, L) - (d[0] * L[1] * L[2] + d[1] * L[2] + d[2])) == 0
    assert sympy.expand(propagation.predict(d, L) - (d[0] * (L[1] * L[2]) ** 2 + d[1] * L[2] ** 2 + d[2])) == 0
    values, gains = [0.1, 0.2, 0.3], [1.1, 1.2, 1.3]
    for f in (propagation.bound, propagation.predict):
        expected = float(f(values, gains))
        assert float(f([mpf(v) for v in values], gains)) == close(expected, rel=SUM)
        assert abs(f([arb(v) for v in values], gains) - expected) < SUM
    assert propagation.bound(np.ones((4, 3)), np.ones(3)).tolist() == [3.0] * 4
    assert propagation.residual(arb(2)) == 3


def test_bad_input():
    with pytest.raises(ValueError, match=r"errors\[1\] = -1.0"):
        propagation.bound([1.0, -1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="the last axes are the layers"):
        propagation.predict([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match=r"lipschitz = -0.1"):
        propagation.residual(-0.1)
