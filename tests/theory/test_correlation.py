"""The law of a sample correlation: as a mixture of noncentral t, by mpmath, and by drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy import integrate, stats

from tests.tolerances import STANDARD_ERRORS, close
from theory.correlation import critical, pdf, power


def by_noncentral_t(rho, n, alpha):
    """Given x, r/sqrt(1 - r**2) sqrt(n - 2) is noncentral t; its noncentrality is a chi variable times a constant."""
    t, delta = stats.t.isf(alpha / 2, n - 2), rho / math.sqrt(1 - rho**2)
    ends = stats.chi2.ppf(1e-16, n - 1), stats.chi2.isf(1e-16, n - 1)

    def side(sign):
        f = lambda u: stats.chi2.pdf(u, n - 1) * stats.nct.sf(t, n - 2, sign * delta * math.sqrt(u))  # noqa: E731
        return integrate.quad(f, *ends, epsabs=1e-13, limit=300)[0]

    return side(1) + side(-1)


@pytest.mark.parametrize(
    ("rho", "n", "alpha"),
    [(0.7, 6, 0.05), (0.5, 3, 0.05), (0.9, 4, 0.01), (0.3, 30, 0.1), (0.1, 1000, 0.05), (-0.7, 13, 0.05)],
)
def test_power(rho, n, alpha):
    assert power(rho, n, alpha) == close(by_noncentral_t(rho, n, alpha), rel=1e-10)
    assert power(rho, n, alpha) == close(power(-rho, n, alpha), rel=1e-12)


@pytest.mark.parametrize("n", [3, 4, 6, 50, 10_000])
def test_without_correlation_it_is_the_level(n):
    for alpha in (0.001, 0.05, 0.5):
        assert power(0.0, n, alpha) == close(alpha, abs=1e-10)


def test_power_by_drawing():
    rng, n, rho = np.random.default_rng(1), 6, 0.7
    x = rng.normal(size=(40_000, n))
    y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    p = stats.pearsonr(x, y, axis=1).pvalue
    found, expected = np.mean(p < 0.05), power(rho, n)
    assert abs(found - expected) < STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / len(x))


@pytest.mark.parametrize("n", [6, 13, 100])
def test_critical_is_where_scipy_puts_5_percent(n):
    x = np.random.default_rng(n).normal(size=(2, n))
    x -= x.mean(axis=1, keepdims=True)
    x[1] -= x[0] * (x[0] @ x[1]) / (x[0] @ x[0])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    r = critical(n)
    assert stats.pearsonr(x[0], r * x[0] + math.sqrt(1 - r * r) * x[1]).pvalue == close(0.05, rel=1e-9)


@pytest.mark.parametrize(("r", "rho", "n"), [(0.3, 0.7, 6), (-0.99, 0.5, 3), (0.9, 0.95, 20), (0.5, 0.52, 500)])
def test_density(r, rho, n):
    """The integral that the hypergeometric function stands for, to 30 digits [Hotelling1953]."""
    with mp.workdps(30):
        R, P = mpf(r), mpf(rho)
        inner = mp.quad(lambda w: (mp.cosh(w) - P * R) ** (1 - n), [0, 0.05, 0.2, 1, 5, 80])
        exact = (n - 2) / mp.pi * (1 - P**2) ** (mpf(n - 1) / 2) * (1 - R**2) ** (mpf(n - 4) / 2) * inner
    assert pdf(r, rho, n) == close(float(exact), rel=1e-11)


def test_the_more_pairs_the_better():
    powers = [power(0.7, n) for n in (4, 6, 10, 13, 20, 200)]
    assert np.all(np.diff(powers) > 0)
    assert powers[0] > 0.05
    assert powers[-1] == close(1.0, abs=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: critical(2), r"n = 2.* is outside integers of \[3, inf\)"),
        (lambda: power(1.0, 6), r"rho = 1.0 is outside \(-1, 1\)"),
        (lambda: power(0.5, 6, 0.0), r"alpha = 0.0 is outside \(0, 1\)"),
        (lambda: pdf(np.array([0.0, -1.0]), 0.5, 6), r"r\[1\] = -1.0 is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
