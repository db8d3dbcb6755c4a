"""Lines and their slopes: scipy and least squares by other means, coverage, and tests that hold their level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg, optimize, stats

from empirics.regression import equal_slopes, homogeneous, line, parallel
from tests.tolerances import STANDARD_ERRORS, close

BITS = np.array([2.0, 3.0, 4.0, 5.0, 6.0, 8.0])


def within(found, expected, draws):
    """A share of draws, at what it should be."""
    return abs(found - expected) < STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / draws)


def noisy(rng, slope=-1.386, size=(), scatter=0.3):
    return slope * BITS + 2 + scatter * rng.standard_normal((*size, len(BITS)))


def test_as_scipy_fits_it():
    y = noisy(np.random.default_rng(0))
    found, expected = line(BITS, y), stats.linregress(BITS, y)
    assert (found.slope, found.intercept) == close((expected.slope, expected.intercept), rel=1e-12)
    assert found.standard_error == close(expected.stderr, rel=1e-12)
    assert found.test() == close(expected.pvalue, rel=1e-10)
    t = stats.t.ppf(0.975, 4)
    assert (found.low, found.high) == close((found.slope - t * expected.stderr, found.slope + t * expected.stderr))
    assert (found.n, found.degrees, found.small, found.parametric) == (6, 4, True, None)


def test_three_points_need_12_7_standard_errors():
    """Not 1.96, as the notebook has it."""
    found = line([4, 4, 8], [-4.2, -4.8, -9.9])
    assert (found.high - found.slope) / found.standard_error == close(12.7062, abs=1e-4)


def test_weights_are_repetitions():
    y, repeats = noisy(np.random.default_rng(1)), np.array([1, 2, 1, 4, 1, 3])
    weighted, repeated = line(BITS, y, repeats), line(np.repeat(BITS, repeats), np.repeat(y, repeats))
    assert (weighted.slope, weighted.intercept) == close((repeated.slope, repeated.intercept), rel=1e-12)
    scaled = line(BITS, y, 7 * repeats)
    assert (scaled.standard_error, scaled.low) == close((weighted.standard_error, weighted.low), rel=1e-12)


def test_errors_as_curve_fit_takes_them():
    rng = np.random.default_rng(2)
    errors = rng.uniform(0.05, 0.4, len(BITS))
    y = -1.4 * BITS + errors * rng.standard_normal(len(BITS))
    root = rng.normal(size=(9, len(BITS)))
    covariance = root.T @ root / 20
    for given in (errors, covariance):
        found = line(BITS, y, errors=given)
        for absolute, ours in ((True, found.parametric.standard_error), (False, found.standard_error)):
            best, cov = optimize.curve_fit(
                lambda x, a, b: a * x + b, BITS, y, sigma=given, absolute_sigma=absolute, p0=(-1, 0)
            )
            assert (found.slope, found.intercept) == close(tuple(best), rel=1e-6)
            assert ours == close(math.sqrt(cov[0, 0]), rel=1e-5)
        residuals = y - found.at(BITS)
        square = (
            np.sum((residuals / errors) ** 2) if given is errors else residuals @ linalg.solve(covariance, residuals)
        )
        assert found.parametric.chi_squared == close(square, rel=1e-9)
        assert found.parametric.p_value == close(stats.chi2.sf(square, 4), rel=1e-9)
        half = stats.norm.ppf(0.975) * found.parametric.standard_error
        assert (found.parametric.low, found.parametric.high) == close((found.slope - half, found.slope + half))
    diagonal = line(BITS, y, errors=np.diag(errors**2))
    assert (diagonal.slope, diagonal.parametric.chi_squared) == close(
        (line(BITS, y, errors=errors).slope, line(BITS, y, errors=errors).parametric.chi_squared), rel=1e-10
    )


@pytest.mark.parametrize("n", [3, 6])
def test_coverage(n):
    """Of both intervals, and of the band for a further point, at the level asked for."""
    rng, draws, level, x = np.random.default_rng(3), 2000, 0.8, BITS[:n]
    errors = np.array([0.5, 0.2, 0.3, 0.1, 0.4, 0.2])[:n]
    hits = np.zeros((draws, 6))
    for i in range(draws):
        y = -1.386 * x + 1 + errors * rng.standard_normal(n)
        further = -1.386 * 10 + 1 + rng.standard_normal()  # an observation of weight 1: of error 1
        fit = line(x, y, errors=errors, level=level)
        low, high = fit.band(3.2)
        lowest, highest = fit.band(10.0, observation=True)
        hits[i] = [
            fit.low <= -1.386 <= fit.high,
            fit.parametric.low <= -1.386 <= fit.parametric.high,
            low <= -1.386 * 3.2 + 1 <= high,
            lowest <= further <= highest,
            fit.test(-1.386) > 1 - level,
            fit.parametric.p_value > 1 - level,
        ]
    for share in hits.mean(axis=0):
        assert within(share, level, draws)


def test_equivalence():
    """Two one-sided tests: the interval of level 1 - 2 alpha lies within the margins where p < alpha."""
    y = noisy(np.random.default_rng(4), scatter=0.05)
    found = line(BITS, y, level=0.9)
    reach = max(found.high + 1.386, -1.386 - found.low)
    assert found.equivalence(-1.386, reach) == close(0.05, rel=1e-9)
    assert found.equivalence(-1.386, 2 * reach) < 0.05 < found.equivalence(-1.386, 0.9 * reach)
    assert found.equivalence(-0.347, 0.1) == close(1.0, abs=1e-4)
    with pytest.raises(ValueError, match="margin = 0 is outside"):
        found.equivalence(-1.386, 0)


def test_two_points_say_nothing_of_their_scatter():
    found = line([4, 8], [-4.0, -9.5], errors=[0.1, 0.2])
    assert found.slope == close(-5.5 / 4, rel=1e-12)
    assert (found.low, found.high, found.standard_error) == (-math.inf, math.inf, math.inf)
    assert (found.test(), found.equivalence(-1, 0.1), found.parametric.p_value) == (1.0, 0.5, 1.0)
    assert found.parametric.standard_error == close(math.hypot(0.1, 0.2) / 4, rel=1e-12)
    assert found.band(5.0) == (-math.inf, math.inf)


def test_a_line_without_scatter():
    found = line([1, 2, 3], [2, 4, 6])
    assert (found.slope, found.standard_error) == (2.0, 0.0)
    assert (found.test(2.0), found.test(1.0)) == (1.0, 0.0)
    with pytest.raises(ValueError, match="every point lies on its line"):
        equal_slopes([found, line([1, 2, 3], [3, 6, 9])])


class TestGroups:
    def groups(self, rng, slopes, scatter=0.2, curve=0.0):
        return [s * BITS + g + curve + scatter * rng.standard_normal(len(BITS)) for g, s in enumerate(slopes)]

    def test_analysis_of_covariance_by_two_models(self):
        """F from the residuals of the model with one slope and the model with three, fitted as matrices."""
        rng = np.random.default_rng(5)
        ys = self.groups(rng, (-1.3, -1.4, -1.5))
        n, x = len(BITS), np.tile(BITS, 3)
        intercepts = np.kron(np.eye(3), np.ones((n, 1)))
        y = np.concatenate(ys)
        full, one = (
            np.sum((y - m @ linalg.lstsq(m, y)[0]) ** 2)
            for m in (np.hstack([intercepts, intercepts * x[:, None]]), np.hstack([intercepts, x[:, None]]))
        )
        f = (one - full) / 2 / (full / (3 * n - 6))
        found = equal_slopes([line(BITS, y) for y in ys])
        assert found.statistic == close(f, rel=1e-9)
        assert found.p_value == close(stats.f.sf(f, 2, 12), rel=1e-9)
        assert found.degrees == (2, 12)
        assert found.slope == close(linalg.lstsq(np.hstack([intercepts, x[:, None]]), y)[0][-1], rel=1e-9)

    def test_parallel_by_two_models(self):
        """The same, with a column for each x beside the groups'."""
        rng = np.random.default_rng(6)
        ys = np.array(self.groups(rng, (-1.3, -1.4, -1.5, -1.4), curve=np.sin(BITS)))
        n, groups = len(BITS), len(ys)
        intercepts, points = np.kron(np.eye(groups), np.ones((n, 1))), np.tile(np.eye(n), (groups, 1))
        y, x = ys.ravel(), np.tile(BITS, groups)
        full, one = (
            np.sum((y - m @ linalg.lstsq(m, y)[0]) ** 2)
            for m in (np.hstack([intercepts, points, intercepts * x[:, None]]), np.hstack([intercepts, points]))
        )
        degrees = (groups - 1) * (n - 2)
        found = parallel(BITS, ys)
        assert found.degrees == (groups - 1, degrees)
        assert found.statistic == close((one - full) / (groups - 1) / (full / degrees), rel=1e-9)

    @pytest.mark.parametrize("curve", [0.0, "bent"])
    def test_levels(self, curve):
        """Each rejects equal slopes as often as it says; of a shared curve, the F test of lines too seldom."""
        rng, draws, alpha = np.random.default_rng(7), 600, 0.2
        shape = 1.5 * (BITS - 4.5) ** 2 / 4 if curve else 0.0
        p = []
        for _ in range(draws):
            ys = self.groups(rng, (-1.4,) * 4, curve=shape)
            fits = [line(BITS, y, errors=np.full(len(BITS), 0.2)) for y in ys]
            q = homogeneous([f.slope for f in fits], [f.parametric.standard_error for f in fits])
            p.append((parallel(BITS, ys).p_value, q.p_value, equal_slopes(fits).p_value))
        shares = np.mean(np.array(p) < alpha, axis=0)
        assert within(shares[0], alpha, draws)
        assert within(shares[1], alpha, draws)
        assert shares[2] < 0.02 if curve else within(shares[2], alpha, draws)

    def test_they_see_a_difference(self):
        ys = self.groups(np.random.default_rng(8), (-1.2, -1.4, -1.6, -1.4), curve=np.cos(BITS))
        assert parallel(BITS, ys).p_value < 1e-2
        assert homogeneous([-1.2, -1.4, -1.6], [0.05] * 3).p_value < 1e-6

    def test_cochran(self):
        """His example of observers who count flies, by its definition."""
        means = np.array([183.2, 149.0, 154.0, 167.2, 187.2, 158.0, 143.0])
        squares = np.array([117.0, 8.1, 235.9, 295.0, 1064.6, 51.2, 134.0])
        found = homogeneous(means, np.sqrt(squares))
        pooled = np.sum(means / squares) / np.sum(1 / squares)
        assert found.slope == close(pooled, rel=1e-12)
        assert found.statistic == close(np.sum((means - pooled) ** 2 / squares), rel=1e-10)
        assert found.p_value == close(stats.chi2.sf(found.statistic, 6), rel=1e-10)

    def test_welch(self):
        """As scipy's analysis of variance of unequal variances: there the slopes are means."""
        rng = np.random.default_rng(9)
        samples = [rng.normal(0.3 * i, 1 + i, 5 + 2 * i) for i in range(4)]
        expected = stats.f_oneway(*samples, equal_var=False)
        found = homogeneous(
            [s.mean() for s in samples], [stats.sem(s) for s in samples], [len(s) - 1 for s in samples]
        )
        assert (found.statistic, found.p_value) == close((expected.statistic, expected.pvalue), rel=1e-9)

    @pytest.mark.parametrize(("degrees", "q", "f"), [(2, 0.38, 0.08), (11, 0.10, 0.05), (29, 0.067, 0.05)])
    def test_levels_with_errors_from_few_texts(self, degrees, q, f):
        rng, draws = np.random.default_rng(10), 1500
        slopes, errors = rng.normal(size=(draws, 6)), np.sqrt(rng.chisquare(degrees, (draws, 6)) / degrees)
        p = [
            (homogeneous(b, s).p_value, homogeneous(b, s, degrees).p_value)
            for b, s in zip(slopes, errors, strict=True)
        ]
        for share, expected in zip(np.mean(np.array(p) < 0.05, axis=0), (q, f), strict=True):
            assert within(share, expected, draws)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: line([1, 2], [1, 2, 3]), r"shapes \(2,\) and \(3,\)"),
        (lambda: line([4, 4], [1, 2]), r"x = \[4.0, 4.0\]: a line needs two that differ"),
        (lambda: line([1], [1]), "needs two that differ"),
        (lambda: line([1, math.nan], [1, 2]), r"x\[1\] = nan is outside"),
        (lambda: line([1, 2], [1, -math.inf]), r"y\[1\] = -inf is outside"),
        (lambda: line([1, 2, 3], [1, 2, 3], [1, 0, 1]), r"weights\[1\] = 0.0 is outside"),
        (lambda: line([1, 2, 3], [1, 2, 3], errors=[1, 1]), r"errors has shape \(2,\) for 3 points"),
        (lambda: line([1, 2, 3], [1, 2, 3], errors=[1, 1, math.inf]), r"errors\[2\] = inf is outside"),
        (lambda: line([1, 2], [1, 2], [1, 1], errors=[1, 1]), "give one of them"),
        (lambda: line([1, 2], [1, 2], errors=[[1, 0.5], [0.4, 1]]), "symmetric and of shape"),
        (lambda: line([1, 2], [1, 2], errors=[[1, 2], [2, 1]]), "not positive definite"),
        (lambda: line([1, 2], [1, 2], level=1.0), "level = 1.0 is outside"),
        (lambda: equal_slopes([line([1, 2, 3], [1, 2, 4])]), "give two lines"),
        (lambda: equal_slopes([line([1, 2], [1, 2])] * 2), "0 degrees of freedom"),
        (lambda: parallel([1, 2, 3], [[1, 2, 3]]), "two groups or more"),
        (lambda: parallel([1, 2, 2], np.ones((2, 3))), "three must differ"),
        (lambda: homogeneous([1.0, 2.0], [1.0]), r"shapes \(2,\) and \(1,\)"),
        (lambda: homogeneous([1.0, 2.0], [1.0, 0.0]), r"errors\[1\] = 0.0 is outside"),
        (lambda: homogeneous([1.0, 2.0], [1.0, 1.0], 0), "degrees = 0.0 is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
