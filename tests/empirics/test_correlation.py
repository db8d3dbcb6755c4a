"""Correlations of few points: scipy, printed tables, all pairings one by one, and coverage by drawing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from empirics import correlation
from empirics.correlation import pearson, spearman
from tests.tolerances import STANDARD_ERRORS, close

BOTH = {"pearson": (pearson, stats.pearsonr), "spearman": (spearman, stats.spearmanr)}


def pair(n, rho, rng, size=()):
    x, noise = rng.standard_normal((2, *size, n))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def within(found, expected, draws):
    """A share of draws, at what it should be."""
    return abs(found - expected) < STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("n", [4, 6, 8, 25])
def test_coefficient_and_interval(method, n):
    ours, scipys = BOTH[method]
    x, y = pair(n, 0.5, np.random.default_rng(n))
    found = ours(x, y, level=0.9)
    assert found.r == close(scipys(x, y).statistic, rel=1e-12)
    variance = 1 + found.r**2 / 2 if method == "spearman" else 1.0
    z = np.arctanh(found.r) + np.array([-1, 1]) * stats.norm.ppf(0.95) * math.sqrt(variance / (n - 3))
    assert (found.low, found.high) == close(tuple(np.tanh(z)), rel=1e-12)
    assert (found.n, found.small, found.level) == (n, True, 0.9)
    if method == "pearson":
        low, high = stats.pearsonr(x, y).confidence_interval(0.9)
        assert (found.low, found.high) == close((low, high), rel=1e-9)


def test_published_interval_of_ranks():
    """The example of R's statpsych, which computes Bonett and Wright's interval."""
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    found = spearman(x, y)
    assert (found.r, found.low, found.high) == close((0.8699639, 0.5840951, 0.9638297), abs=1e-7)


@pytest.mark.parametrize("method", BOTH)
def test_exact_p_by_all_pairings(method):
    """Ties among them, and in the ranks."""
    ours, scipys = BOTH[method]
    x, y = [1.0, 2.0, 2.0, 4.0, 7.0], [0.3, 0.1, 0.5, 0.5, 0.9]
    r = abs(scipys(x, y).statistic)
    by_hand = np.mean([abs(scipys(x, order).statistic) >= r - 1e-12 for order in itertools.permutations(y)])
    found = ours(x, y)
    assert found.exact
    assert found.p_permutation == close(by_hand, rel=1e-12)


def test_exact_p_by_scipy():
    n = 6
    x, y = pair(n, 0.6, np.random.default_rng(3))
    expected = stats.permutation_test(  # its own two-sided p is twice the smaller tail
        (x,), lambda a: abs(stats.pearsonr(a, y).statistic), permutation_type="pairings", alternative="greater",
        n_resamples=math.inf,
    )  # fmt: skip
    assert pearson(x, y).p_permutation == close(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", [9, 20, 300])
def test_sampled_p(n):
    """For Gaussian pairs the permutation test and the t test are close; the same seed, the same number."""
    x, y = pair(n, 1 / math.sqrt(n), np.random.default_rng(n))
    found, expected = pearson(x, y), stats.pearsonr(x, y).pvalue
    assert not found.exact
    assert found.p_permutation == close(expected, rel=0.05, abs=0.003)  # 4 standard errors of the sample
    assert pearson(x, y) == found
    assert pearson(x, y, seed=1).p_permutation != found.p_permutation
    assert found.small is (n < 30)


def test_p_is_never_0():
    x = np.arange(40.0)
    assert pearson(x, x + np.sin(x)).p_permutation == close(1 / (2**21 // 40 + 1), rel=1e-12)


@pytest.mark.parametrize("method", BOTH)
def test_p_is_uniform_without_correlation(method):
    """Of 6 points, whatever their law: as often at most p as p says, at every p that there is."""
    rng = np.random.default_rng(5)
    draws = 500
    x, y = rng.standard_cauchy((draws, 6)), rng.exponential(size=(draws, 6))
    p = np.array([BOTH[method][0](a, b).p_permutation for a, b in zip(x, y, strict=True)])
    for level in (0.05, 0.2, 0.5, 0.8):
        share = np.mean(p <= level + 1e-12)
        assert share < level + STANDARD_ERRORS * math.sqrt(level * (1 - level) / draws)
        if method == "pearson":  # of ranks there are few p-values
            assert within(share, np.floor(level * 360 + 1e-9) / 360, draws)


@pytest.mark.parametrize(("n", "rho"), [(6, 0.0), (6, 0.7), (13, 0.5), (40, 0.9)])
def test_coverage(n, rho, monkeypatch):
    """Pearson's at 95 %; Bonett and Wright's at 95 % or a little above."""
    monkeypatch.setattr(correlation, "_permutation", lambda *_: (math.nan, True))
    monkeypatch.setattr(correlation, "_critical_rank", lambda *_: math.inf)
    monkeypatch.setattr(correlation, "_rank_power", lambda *_: math.nan)
    monkeypatch.setattr(correlation, "power", lambda *_: math.nan)
    monkeypatch.setattr(correlation, "critical", lambda *_: math.nan)
    draws = 2000
    x, y = pair(n, rho, np.random.default_rng(6), (draws,))
    for method, true in (("pearson", rho), ("spearman", 6 / math.pi * math.asin(rho / 2))):
        found = [BOTH[method][0](a, b) for a, b in zip(x, y, strict=True)]
        share = np.mean([f.low <= true <= f.high for f in found])
        if method == "pearson":
            assert within(share, 0.95, draws)
        else:
            assert 0.95 - STANDARD_ERRORS * 0.005 < share < 0.985


def test_ranks_that_agree_entirely():
    """z is infinite; the lower end is that of one exchange of neighbours, as where they do not quite agree."""
    x = np.arange(6.0)
    whole, nearly = spearman(x, x**3), spearman(x, [0, 1, 2, 4, 3, 5])
    assert (whole.r, whole.high) == (1.0, 1.0)
    assert whole.low == close(nearly.low, rel=1e-12)
    against = spearman(x, -x)
    assert (against.r, against.low, against.high) == (-1.0, -1.0, -whole.low)
    assert whole.p_permutation == close(2 / 720, rel=1e-12)


def test_points_on_a_line():
    found = pearson([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])
    assert (found.r, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p_permutation == close(2 / 24, rel=1e-12)


def test_three_points_exclude_nothing():
    for ours, _ in BOTH.values():
        found = ours([1, 2, 3], [1, 2, 4])
        assert (found.low, found.high) == (-1.0, 1.0)
        assert found.p_permutation == close(1 / 3, rel=1e-12)
    assert found.critical == math.inf
    assert found.power == 0.0


@pytest.mark.parametrize(("n", "printed"), [(5, 1.0), (6, 0.886), (7, 0.786), (8, 0.738), (10, 0.648)])
def test_critical_rank_correlations(n, printed):
    """The tables that textbooks print, two-sided at 5 %; of 10 points from a sample of pairings.

    Of 9 points 0.700 is printed, because 0.683 has 5.03 %: no sample tells that from 5 %.
    """
    x, y = np.random.default_rng(n).normal(size=(2, n))
    assert spearman(x, y).critical == close(printed, abs=6e-4)


def test_power():
    """Drawn from pairs of the true coefficient asked for, with the p-value of the permutation test itself."""
    rng, draws = np.random.default_rng(8), 400
    for method, n, effect in (("pearson", 6, 0.8), ("spearman", 6, 0.8), ("spearman", 8, -0.6)):
        rho = effect if method == "pearson" else 2 * math.sin(math.pi * effect / 6)
        x, y = pair(n, rho, rng, (draws,))
        found = [BOTH[method][0](a, b, effect=effect) for a, b in zip(x, y, strict=True)]
        assert within(np.mean([f.p_permutation <= 0.05 for f in found]), found[0].power, draws)
    assert pearson(*pair(6, 0.0, rng)).power == close(0.37044, abs=1e-5)


def test_power_of_ranks_is_for_their_own_coefficient():
    """20 Gaussian pairs with a rank correlation of 0.5: a correlation of 0.518, worth 0.03 of power."""
    rng, draws, n = np.random.default_rng(9), 20_000, 20
    found = spearman(*pair(n, 0.0, rng), effect=0.5)
    rho = 2 * math.sin(math.pi * 0.5 / 6)
    x, y = (stats.rankdata(values, axis=1) for values in pair(n, rho, rng, (draws,)))
    r = stats.pearsonr(x, y, axis=1).statistic
    mean = 6 / (math.pi * (n + 1)) * (math.asin(rho) + (n - 2) * math.asin(rho / 2))  # Moran's; 0.5 for many pairs
    assert abs(r.mean() - mean) < STANDARD_ERRORS * r.std() / math.sqrt(draws)
    assert abs(np.mean(abs(r) > found.critical - 1e-9) - found.power) < STANDARD_ERRORS * math.sqrt(1.5) * 0.005


def test_ties_and_scale_do_not_matter():
    x, y = np.array([1.0, 1.0, 2.0, 3.0, 5.0, 8.0]), np.array([2.0, 1.0, 1.0, 4.0, 4.0, 4.0])
    assert spearman(x, y).r == close(stats.spearmanr(x, y).statistic, rel=1e-12)
    a, b = pearson(x, y), pearson(1e200 * x, 1e-200 * y)
    assert (b.r, b.p_permutation) == close((a.r, a.p_permutation), rel=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "2 points: a correlation needs 3"),
        ([1, 2, 3], [1, 2], r"shapes \(3,\) and \(2,\)"),
        (np.ones((3, 2)), np.ones((3, 2)), "two sequences"),
        ([1, 2, 3], [4, 4, 4], r"y is constant \(4.0\)"),
        ([0.1, 0.1, 0.1], [1, 2, 3], "x is constant"),
        ([1, 2, math.nan], [1, 2, 3], "x holds NaN or infinity"),
        ([1, 2, 3], [1, math.inf, 3], "y holds NaN or infinity"),
    ],
)
def test_refusals(x, y, message):
    for ours, _ in BOTH.values():
        with pytest.raises(ValueError, match=message):
            ours(x, y)


def test_domains():
    for ours, _ in BOTH.values():
        with pytest.raises(ValueError, match=r"(effect|rho) = 1\.0 is outside"):
            ours([1, 2, 3, 4], [2, 1, 4, 3], effect=1.0)
        with pytest.raises(ValueError, match=r"level = 1\.5 is outside"):
            ours([1, 2, 3, 4], [2, 1, 4, 3], level=1.5)
