"""The sign-flip test of paired differences (`empirics.inference.sign_flip_test`), texts as the units."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from empirics.inference import sign_flip_test
from tests.tolerances import STANDARD_ERRORS, close


def within(found, expected, draws):
    """A share of draws, at what it should be."""
    return abs(found - expected) < STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / draws)


def texts(rng, groups, shift=0.0):
    """Differences per token: texts of unlike length, each with an offset of its own."""
    sizes = rng.integers(3, 40, groups)
    clusters = np.repeat(np.arange(groups), sizes)
    return shift + rng.normal(size=groups)[clusters] + 3 * rng.standard_t(3, len(clusters)), clusters


@pytest.mark.parametrize("groups", [3, 6, 10])
def test_every_assignment_of_signs_to_texts(groups):
    values, clusters = texts(np.random.default_rng(groups), groups, shift=0.8)
    signs = itertools.product((-1, 1), repeat=groups)
    means = [abs(np.mean(values * np.array(s)[clusters])) for s in signs]
    expected = np.mean([m >= abs(values.mean()) * (1 - 1e-12) for m in means])
    assert sign_flip_test(values, clusters) == close(expected, rel=1e-12)


def test_as_scipy_has_it():
    """One value a text, of which scipy flips the signs."""
    x = np.random.default_rng(1).normal(0.5, 1, 9)
    expected = stats.permutation_test(
        (x,), lambda a: abs(np.mean(a)), permutation_type="samples", alternative="greater", n_resamples=math.inf
    )
    assert sign_flip_test(x, np.arange(9)) == close(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("groups", [6, 12])
def test_p_is_uniform_without_a_difference(groups):
    """Under tokens as alike within a text as these, a test of tokens would reject several times too often."""
    rng, draws = np.random.default_rng(2), 600
    samples = [texts(rng, groups) for _ in range(draws)]
    p = np.array([sign_flip_test(*sample) for sample in samples])
    for level in (0.0625, 0.25, 0.5, 0.75):  # multiples of 2 / 2**6
        assert within(np.mean(p <= level), level, draws)
    naive = np.mean([stats.ttest_1samp(values, 0).pvalue <= 0.0625 for values, _ in samples])
    assert naive > 0.09


def test_sampled_signs():
    rng, draws = np.random.default_rng(3), 200
    samples = [texts(rng, 30) for _ in range(draws)]
    p = np.array([sign_flip_test(*sample, resamples=399) for sample in samples])
    assert p.min() >= 1 / 400
    assert within(np.mean(p <= 0.2), 0.2, draws)
    values, clusters = texts(rng, 30, shift=-0.1)
    found = sign_flip_test(values, clusters)
    assert sign_flip_test(values, clusters) == found != sign_flip_test(values, clusters, seed=1)
    totals = np.bincount(clusters, values)  # nearly Gaussian under 2**30 assignments
    gaussian = 2 * stats.norm.sf(abs(totals.sum()) / np.linalg.norm(totals))
    assert 0.01 < found < 0.6
    assert found == close(gaussian, abs=0.01)


def test_few_texts_cannot_be_significant():
    """The most extreme of 2**5 assignments is two of them."""
    assert sign_flip_test(np.ones(5), np.arange(5)) == 2 / 32
    assert sign_flip_test(np.ones(40), np.zeros(40)) == 1.0


def test_it_sees_a_difference():
    values, clusters = texts(np.random.default_rng(4), 12, shift=2.5)
    assert sign_flip_test(values, clusters) < 0.005
    assert sign_flip_test(-values, clusters) == sign_flip_test(values, clusters)
