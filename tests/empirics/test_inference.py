"""Intervals against seeded Monte Carlo of clustered samples, estimators against scipy, numpy and the jackknife."""

import math

import numpy as np
import pytest
from scipy import stats

from empirics.inference import Estimate, clustered_mean, clustered_quantiles, exponential, sign_flip_test
from empirics.pocket.corpus import _ratio
from tests.tolerances import STANDARD_ERRORS, close

REPLICATIONS = 1000


def sample(seed: int, clusters: int, effect: float = 0.5, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Values with a part of variance effect**2 in common within clusters of 20 to 80, and a part of variance 1."""
    rng = np.random.default_rng([seed, clusters])
    group = np.repeat(np.arange(clusters), rng.integers(20, 81, clusters))
    return mean + effect * rng.standard_normal(clusters)[group] + rng.standard_normal(len(group)), group


@pytest.mark.parametrize("clusters", [12, 40])
def test_intervals_cover_at_their_rate_and_the_naive_ones_do_not(clusters):
    covered, naive, errors, means = 0, 0, [], []
    for seed in range(REPLICATIONS):
        values, group = sample(seed, clusters)
        found = clustered_mean(values, group)
        low, high = found.interval()
        covered += low <= 0 <= high
        naive += abs(values.mean()) <= 1.96 * values.std() / math.sqrt(len(values))
        errors.append(found.standard_error)
        means.append(found.value)
    allowed = STANDARD_ERRORS * math.sqrt(0.95 * 0.05 / REPLICATIONS)
    assert abs(covered / REPLICATIONS - 0.95) < allowed
    assert naive / REPLICATIONS < 0.6
    # A deviation from 1000 replications is known to 2.2 %; that of a few clusters is biased low by some per cent.
    assert np.sqrt(np.mean(np.square(errors))) / np.std(means) == pytest.approx(1, abs=0.1)


def test_a_mean_is_the_ratio_of_sums_and_its_error_that_of_the_jackknife():
    values, group = sample(3, 60, mean=2.0)
    found = clustered_mean(values, group)
    assert (found.n, found.clusters) == (len(values), 60)
    assert found.value == close(values.mean(), rel=1e-14)
    left_out = np.array([values[group != g].mean() for g in range(60)])
    jackknife = math.sqrt(59 / 60 * np.sum((left_out - left_out.mean()) ** 2))
    assert found.standard_error == close(jackknife, rel=0.03)  # they differ by terms of order 1/clusters
    totals = np.bincount(group, values), np.bincount(group)
    assert (found.value, found.standard_error) == pytest.approx(_ratio(*totals), rel=1e-13)


def test_clusters_alike_in_size_give_the_error_of_a_mean_of_means():
    values = np.random.default_rng(0).standard_normal((9, 7))
    found = clustered_mean(values.ravel(), np.repeat(list("abcdefghi"), 7))
    assert found.standard_error == close(stats.sem(values.mean(1)), rel=1e-13)
    expected = stats.t.interval(0.9, 8, loc=values.mean(), scale=stats.sem(values.mean(1)))
    assert found.interval(0.9) == pytest.approx(expected, rel=1e-12)


def test_one_cluster_has_no_error_and_few_are_small():
    one = clustered_mean(np.arange(5.0), np.zeros(5))
    assert (one.value, one.clusters) == (2, 1)
    assert all(map(math.isnan, (one.standard_error, *one.interval())))
    assert math.isnan(clustered_quantiles(np.arange(5.0), np.zeros(5), [0.5])[0].standard_error)
    assert [Estimate(0.0, 1.0, 1000, clusters).small for clusters in (29, 30)] == [True, False]


def test_an_exponential_has_the_interval_of_its_logarithm():
    logarithm = Estimate(-0.2, 0.5, 1000, 12)
    ratio = exponential(logarithm)
    assert ratio.interval() == pytest.approx(np.exp(logarithm.interval()), rel=1e-13)
    assert ratio.value == close(math.exp(-0.2), rel=1e-15)
    assert ratio.standard_error == close(0.5 * math.exp(-0.2), rel=1e-15)
    assert (ratio.n, ratio.clusters) == (1000, 12)


def test_quantiles_are_numpys_inverted_cdf():
    values, group = sample(1, 20)
    probabilities = [0.001, 0.1, 0.5, 0.9, 0.999]
    found = clustered_quantiles(values, group, probabilities, resamples=2)
    assert [q.value for q in found] == np.quantile(values, probabilities, method="inverted_cdf").tolist()
    hundred = clustered_quantiles(np.arange(100.0), np.arange(100), [0.07, 0.29], resamples=2)
    assert [q.value for q in hundred] == [6, 28]  # 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996


def test_the_bootstrap_error_is_the_spread_over_samples():
    runs = 150
    found = [clustered_quantiles(*sample(seed, 40), [0.5, 0.9], resamples=100, seed=seed) for seed in range(runs)]
    values = np.array([[q.value for q in qs] for qs in found])
    errors = np.array([[q.standard_error for q in qs] for qs in found])
    # Known to 6 % from the spread of 150 samples; the iid error would be less than half.
    assert np.sqrt(np.mean(errors**2, 0)) / values.std(0) == pytest.approx(1, abs=STANDARD_ERRORS * 0.06)
    exact = stats.norm.ppf([0.5, 0.9]) * math.sqrt(1.25)
    assert (np.abs(values.mean(0) - exact) < STANDARD_ERRORS * values.std(0) / math.sqrt(runs)).all()
    again = clustered_quantiles(*sample(0, 40), [0.5, 0.9], resamples=100, seed=0)
    assert again == found[0]
    assert again != clustered_quantiles(*sample(0, 40), [0.5, 0.9], resamples=100, seed=1)


@pytest.mark.parametrize(("clusters", "mean"), [(9, 0.0), (9, 0.3), (12, 0.4)])
def test_sign_flips_are_all_counted_when_clusters_are_few(clusters, mean):
    values, group = sample(2, clusters, mean=mean)
    totals = np.bincount(group, values)
    every = stats.permutation_test((totals,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(values, group) == close(every.pvalue, rel=1e-12)


def test_sign_flips_are_drawn_when_clusters_are_many():
    values, group = sample(5, 15, mean=0.2)
    totals = np.bincount(group, values)
    every = stats.permutation_test((totals,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    drawn = sign_flip_test(values, group, seed=1)
    assert abs(drawn - every) < STANDARD_ERRORS * math.sqrt(every * (1 - every) / 9999)
    assert drawn == sign_flip_test(values, group, seed=1) != sign_flip_test(values, group, seed=2)
    assert sign_flip_test(*sample(5, 40, mean=3.0)) == 1 / 10_000  # the observed signs count among the assignments


def test_the_sign_flip_test_rejects_a_true_hypothesis_at_its_level():
    rejected = sum(sign_flip_test(*sample(seed, 8)) <= 0.05 for seed in range(REPLICATIONS))
    rate = 12 / 256  # multiples of 2/256 are all that p can be
    assert abs(rejected / REPLICATIONS - rate) < STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / REPLICATIONS)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"values\[1\] = nan"):
        clustered_mean(np.array([0.0, np.nan]), np.array([0, 1]))
    with pytest.raises(ValueError, match="no values"):
        clustered_mean(np.array([]), np.array([]))
    with pytest.raises(ValueError, match=r"shape \(2,\) and clusters of shape \(3,\)"):
        sign_flip_test(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"probabilities\[1\] = 1.0 is outside \(0, 1\)"):
        clustered_quantiles(np.zeros(2), np.zeros(2), [0.5, 1.0])
    with pytest.raises(ValueError, match=r"level = 95 is outside \(0, 1\)"):
        Estimate(0.0, 1.0, 2, 2).interval(95)
