"""Correlations of clustered points: levels and coverage by simulation, exact permutations, numpy's coefficient."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from empirics.clustered_correlation import pooled, within
from tests.tolerances import close

GROUPS = np.repeat(np.arange(6), 8)


def clustered(rng, shared: float):
    """Both coordinates have a part that a cluster shares; they are independent of each other."""
    x, y = (shared * rng.standard_normal(6)[GROUPS] + rng.standard_normal(48) for _ in range(2))
    return x, y


def near(share: float, expected: float, draws: int) -> bool:
    return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / draws)


def test_within_clusters_the_level_is_held_whatever_they_share():
    rng = np.random.default_rng(0)
    p = [within(*clustered(rng, 3.0), GROUPS, seed=i).p for i in range(100)]
    assert near(np.mean(np.array(p) < 0.05), 0.05, 100)
    assert near(np.mean(np.array(p) < 0.5), 0.5, 100)


def test_pooled_knows_of_the_clusters():
    """Where clusters share a lot, points taken as independent correlate by chance, most of the time."""
    rng = np.random.default_rng(1)
    draws = [clustered(rng, 3.0) for _ in range(400)]
    found = [pooled(*draw, GROUPS) for draw in draws]
    naive = np.array([abs(math.atanh(f.r)) * math.sqrt(45) > 1.96 for f in found])
    assert naive.mean() > 0.3
    # Six clusters: the jackknife's error is rough, the level about 5 %.
    assert 0.01 < np.mean([f.p < 0.05 for f in found]) < 0.10
    assert 0.90 < np.mean([f.low < 0 < f.high for f in found]) < 0.99
    assert all((f.p < 0.05) == (not f.low < 0 < f.high) for f in found)


def test_pooled_covers_a_correlation():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        x = rng.standard_normal(48)
        y = 0.6 * x + 0.8 * rng.standard_normal(48)
        found = pooled(x, y, GROUPS)
        assert found.r == close(np.corrcoef(x, y)[0, 1], rel=1e-9)
        covered += found.low < 0.6 < found.high
    assert near(covered / 400, 0.95, 400)


def test_within_is_the_correlation_of_what_is_left():
    rng = np.random.default_rng(3)
    x, y = clustered(rng, 2.0)
    y = y - 0.7 * x
    found = within(x, y, GROUPS)
    dummies = np.eye(6)[GROUPS]
    left = [v - dummies @ np.linalg.lstsq(dummies, v, rcond=None)[0] for v in (x, y)]
    assert found.r == close(np.corrcoef(*left)[0, 1], rel=1e-9)
    half = 1.959964 / math.sqrt(48 - 6 - 2)
    assert (found.low, found.high) == close(tuple(np.tanh(np.arctanh(found.r) + half * np.array([-1, 1]))), rel=1e-6)
    assert within(x, y, np.array(list("abcdef"))[GROUPS]) == found
    order = rng.permutation(48)
    again = within(x[order], y[order], GROUPS[order])
    assert again.r == close(found.r, rel=1e-9)


def test_the_permutations_are_those_within_clusters():
    x, y = np.array([1.0, 2.0, 4.0, 1.0, 3.0]), np.array([2.0, 1.0, 3.5, 0.0, 5.0])
    groups = np.array([0, 0, 0, 1, 1])
    centred = [v - np.array([v[groups == g].mean() for g in groups]) for v in (x, y)]
    r = np.corrcoef(*centred)[0, 1]
    reached = [
        abs(centred[0] @ centred[1][[*a, *b]]) >= abs(centred[0] @ centred[1]) - 1e-12
        for a in itertools.permutations(range(3)) for b in itertools.permutations((3, 4))
    ]  # fmt: skip
    found = within(x, y, groups)
    assert found.r == close(r, rel=1e-9)
    assert near(found.p, np.mean(reached), 9999)
    shuffled = np.array([3, 0, 4, 1, 2])  # clusters that are not contiguous
    assert near(within(x[shuffled], y[shuffled], groups[shuffled]).p, np.mean(reached), 9999)


def test_what_correlates_with_nothing():
    x, groups = np.arange(6.0), np.array([0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match="2 clusters"):
        pooled(x, x**2, np.array([0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match="constant"):
        pooled(x, np.ones(6), groups)
    with pytest.raises(ValueError, match="constant"):
        within(np.array([0.0, 0, 1, 1, 2, 2]), x, groups)
    with pytest.raises(ValueError, match="on a line"):
        pooled(x, 2 * x, groups)
    with pytest.raises(ValueError, match="shapes"):
        pooled(x, x[:5], groups)
    with pytest.raises(ValueError, match=r"x\[2\]"):
        within(np.array([0, 1, np.nan, 3, 4, 5]), x, groups)
