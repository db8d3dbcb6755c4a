"""Entropy-coded scalar quantizers: against sums by hand, the Gish-Pierce limit, Shannon's bound and each other."""

import itertools
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from tests import strategies, tolerances
from theory import entropy_coded_atoms, shannon
from theory.entropy_coded import ecsq, optimal_ecsq
from theory.scalar import lloyd_max
from theory.sources import GGD, Histogram

GISH_PIERCE = math.log2(2 * math.pi * math.e / 12) / 2
close = pytest.approx


def law(source):
    return stats.gennorm(source.beta, scale=source.alpha)


def measured(q, source):
    """Rate and distortion of the levels and thresholds of `q`, by scipy's distribution function and quadrature."""
    p, total, entropy = law(source), 0.0, 0.0
    edges = [p.ppf(1e-22), *q.thresholds, p.isf(1e-22)]
    for level, (a, b) in zip(q.levels, pairwise(edges), strict=True):
        mass = p.cdf(b) - p.cdf(a) if a < 0 else p.sf(a) - p.sf(b)
        entropy -= mass * math.log2(mass) if mass > 0 else 0.0
        cuts = sorted({a, b, *({0.0} if a < 0 < b else ())})
        for lo, hi in pairwise(cuts):
            f = lambda x, level=level: (x - level) ** 2 * p.pdf(x)  # noqa: E731
            total += integrate.quad(f, lo, hi, epsabs=1e-15, epsrel=1e-10)[0]
    return entropy, total


def gap(q, source):
    """Bits above the Shannon lower bound."""
    return float(q.rate - shannon.lower_bound(source, q.mse))


@pytest.mark.parametrize(("beta", "step"), [(0.5, 3.0), (0.8, 1.0), (1.0, 0.7), (1.7, 2.7), (2.0, 0.3), (8.0, 1.0)])
def test_rate_is_the_entropy_and_mse_the_error(beta, step):
    source = GGD(beta, 1.5)
    q = ecsq(source, step=step)
    rate, error = measured(q, source)
    assert q.rate == close(rate, abs=1e-12)
    assert q.mse == close(error, rel=1e-9)
    assert np.diff(q.thresholds) == close(step, rel=1e-9)
    assert min(abs(q.thresholds)) == close(step / 2, rel=1e-12)  # a cell is centred on 0
    assert q.levels == close(-q.levels[::-1], abs=1e-10)


def test_laplace_cells_in_closed_form():
    # Memorylessness: outside the middle cell the index is geometric.
    source, step = GGD(1.0), 0.8
    middle, ratio = 1 - math.exp(-step / 2 / source.alpha), math.exp(-step / source.alpha)
    side = (1 - middle) / 2
    each = -math.log2(1 - ratio) - ratio / (1 - ratio) * math.log2(ratio)  # entropy of the geometric law
    expected = -middle * math.log2(middle) - 2 * side * math.log2(side) + 2 * side * each
    assert ecsq(source, step=step).rate == close(expected, abs=1e-12)


@given(strategies.betas(0.5, 8.0), st.floats(0.02, 8.0), strategies.sigmas())
def test_the_rate_asked_for(beta, rate, sigma):
    q, unit = ecsq(GGD(beta, sigma), rate=rate), ecsq(GGD(beta), rate=rate)
    assert q.rate == close(rate, abs=tolerances.RATE)
    assert q.mse == close(sigma**2 * unit.mse, rel=1e-9)
    assert gap(unit, GGD(beta)) > 0


@pytest.mark.parametrize("beta", [0.7, 1.0, 1.7, 2.0, 8.0])
def test_gish_pierce_limit(beta):
    source = GGD(beta)
    gaps = [gap(ecsq(source, rate=r), source) for r in (3, 5, 7, 9)]
    assert gaps[-1] == close(GISH_PIERCE, abs=1e-3 if beta == 0.7 else 3e-4)
    assert abs(gaps[-1] - GISH_PIERCE) < abs(gaps[0] - GISH_PIERCE)
    assert close(0.254614, abs=5e-7) == GISH_PIERCE
    if beta == 2:  # no bound, but the Gaussian approaches from below
        assert np.all(np.diff(gaps) > -1e-8)
        assert gaps[0] < GISH_PIERCE


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("rate", [1e-3, 1e-6])
def test_tiny_rates(beta, rate):
    q = ecsq(GGD(beta), rate=rate)
    assert q.rate == close(rate, rel=1e-6)
    assert 1 - 20 * rate < q.mse < 1


def test_histograms():
    x = np.round(law(GGD(1.5)).rvs(100_000, random_state=np.random.default_rng(0)), 2)
    histogram = Histogram(*np.unique(x, return_counts=True))
    q = ecsq(histogram, step=0.5)
    index = np.digitize(x, q.thresholds, right=True)
    p = np.bincount(index) / len(x)
    assert q.rate == close(-np.sum(p * np.log2(p)), abs=1e-12)
    assert q.mse == close(np.mean((x - q.levels[index]) ** 2), rel=1e-10)
    best, plain = optimal_ecsq(histogram, 2.0), ecsq(GGD(1.5), rate=2.0)
    assert best.mse == close(plain.mse, rel=0.03)
    assert best.rate == close(2.0, abs=0.01)
    assert best.status == "converged" or f"nearest {best.rate:.6f}" in best.status


def test_a_histogram_with_holes():
    # Empty cells vanish: three atoms need three levels, and lose nothing.
    q = ecsq(Histogram([-5.0, 0.0, 1.0], [1, 2, 1]), step=0.5)
    assert q.levels == close([-5.0, 0.0, 1.0])
    assert (q.rate, q.mse) == (1.5, close(0, abs=tolerances.SUM_OF_MOMENTS * 25))
    assert np.all(np.diff(np.searchsorted(q.thresholds, [-5.0, 0.0, 1.0])) == 1)


@pytest.mark.parametrize("beta", [0.6, 0.8, 1.0, 1.7, 2.0, 4.0])
@pytest.mark.parametrize("rate", [0.3, 1.0, 2.5, 4.0])
def test_optimum_between_shannon_and_the_uniform_thresholds(beta, rate):
    source = GGD(beta)
    best, plain = optimal_ecsq(source, rate), ecsq(source, rate=rate)
    if best.status != "converged":  # the hull has a flat piece there
        assert f"nearest {best.rate:.6f}" in best.status
        return
    assert best.rate == close(rate, abs=tolerances.RATE)
    assert shannon.distortion_lower_bound(source, rate) < best.mse <= plain.mse * (1 + 1e-9)
    assert (best.rate, best.mse) == close(measured(best, source), rel=1e-8)


@pytest.mark.parametrize(("beta", "rate"), [(2.0, 1.0), (1.0, 2.0), (0.6, 1.5), (4.0, 3.0), (2.0, 4.0)])
def test_no_threshold_can_move(beta, rate):
    # At the optimum dD + lambda dH = 0 for every threshold, with one lambda; found from D and H alone.
    source = GGD(beta)
    q = optimal_ecsq(source, rate)

    def rate_and_error(thresholds):
        t = np.concatenate([[-np.inf], thresholds, [np.inf]])
        m0, m1, m2 = (source.partial_moment(k, t[:-1], t[1:]) for k in range(3))
        return -np.sum(m0 * np.log(m0)), np.sum(m2 - m1**2 / m0)

    matter = np.flatnonzero(np.abs(q.thresholds) < 3)
    slopes, h = [], 1e-5
    for i in matter:
        up, down = (rate_and_error(q.thresholds + s * h * (np.arange(len(q.thresholds)) == i)) for s in (1, -1))
        slopes.append([(u - d) / (2 * h) for u, d in zip(up, down, strict=True)])
    rates, errors = np.array(slopes).T
    lagrangian = -(rates @ errors) / (rates @ rates)
    assert errors == close(-lagrangian * rates, abs=2e-7)
    h = 0.02  # and lambda is the slope of the curve
    ahead, behind = (optimal_ecsq(source, rate + s * h).mse for s in (1, -1))
    assert (behind - ahead) / (2 * h * math.log(2)) == close(lagrangian, rel=2e-3)


def test_one_bit_of_a_flat_source_is_its_sign():
    # From a cell about 0 no descent gets there.
    best = optimal_ecsq(GGD(8.0), 1.0)
    assert best.mse == close(lloyd_max(GGD(8.0), 2).mse, rel=1e-9)
    assert best.mse < 0.6 * ecsq(GGD(8.0), rate=1.0).mse


def three_cells(rate):
    """The best symmetric three-cell quantizer of the Gaussian with that entropy."""
    def entropy(t):
        p = stats.norm.sf(t)
        return -2 * p * math.log2(p) - (1 - 2 * p) * math.log2(1 - 2 * p)

    t = optimize.brentq(lambda t: entropy(t) - rate, 0.7, 8)
    return 1 - 2 * stats.norm.pdf(t) ** 2 / stats.norm.sf(t)


def test_at_low_rate_three_cells_do_nearly_all():
    best = optimal_ecsq(GGD(2.0), 0.1).mse
    assert best <= three_cells(0.1) * (1 + 1e-12)
    assert best == close(three_cells(0.1), rel=1e-5)


def test_entropy_coding_gains_on_lloyd_max():
    for beta in (1.0, 2.0):
        assert optimal_ecsq(GGD(beta), 4.0).mse < 0.8 * lloyd_max(GGD(beta), 16).mse


@settings(max_examples=15)
@given(strategies.betas(0.7, 3.0), st.floats(0.5, 5.0), strategies.sigmas())
def test_scale(beta, rate, sigma):
    best, unit = optimal_ecsq(GGD(beta, sigma), rate), optimal_ecsq(GGD(beta), rate)
    assert (best.status, unit.status) == ("converged", "converged")
    assert best.mse == close(sigma**2 * unit.mse, rel=1e-8)


def test_off_the_hull_it_says_so():
    # Between four and five levels of a nearly flat source lies a segment of the hull.
    best = optimal_ecsq(GGD(8.0), 2.0)
    assert best.status == f"rate 2.0 is not on the convex hull: nearest {best.rate:.6f}"
    assert best.rate == close(1.9975, abs=1e-3)


def hull_of_all_partitions(source):
    """Vertices (entropy in bits, distortion) of the lower convex hull over every division of the atoms into runs."""
    p, x, points = source.probabilities, source.values, []
    for cut in itertools.product([False, True], repeat=len(x) - 1):
        cell = np.concatenate([[0], np.cumsum(cut)])
        mass = np.bincount(cell, p)
        error = p @ (x - (np.bincount(cell, p * x) / mass)[cell]) ** 2
        points.append((-mass @ np.log2(mass) + 0.0, error))
    hull = []
    for r, d in sorted(points):
        if hull and d >= hull[-1][1]:
            continue
        while len(hull) > 1 and (d - hull[-2][1]) * (hull[-1][0] - hull[-2][0]) <= (hull[-1][1] - hull[-2][1]) * (
            r - hull[-2][0]
        ):
            hull.pop()
        hull.append((r, d))
    return np.array(hull)


TERNARY = Histogram([-1.0, 0.0, 1.0], [1, 2, 1])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize(
    "source",
    [
        TERNARY,
        Histogram([-1.0, 1.0], [1, 3]),
        Histogram([-1.0, 0.0, 1.0, 5.0], [10, 20, 10, 1]),
        Histogram([-0.03, -0.01, 0.0, 0.02, 0.05, 0.11, 0.4], [5, 40, 90, 60, 11, 3, 1]),
        Histogram(np.arange(10.0), [1, 9, 2, 8, 3, 7, 4, 6, 5, 1]),
    ],
)
def test_few_atoms_against_all_partitions(source, share):
    rate = share * source.entropy()
    q, hull = optimal_ecsq(source, rate), hull_of_all_partitions(source)
    nearest = hull[np.abs(hull[:, 0] - rate).argmin()]
    assert (q.rate, q.mse) == (close(nearest[0], abs=1e-12), close(nearest[1], abs=1e-14))
    cell = np.searchsorted(q.thresholds, source.values)
    assert q.mse == close(source.probabilities @ (source.values - q.levels[cell]) ** 2, abs=1e-14)
    assert q.status == "converged" if share == 1 else f"nearest {q.rate:.6f}" in q.status


def test_ternary_weights_at_one_bit():
    """Their entropy is 1.5 bits. A cell of one atom and one of two: 0.811 bit."""
    q = optimal_ecsq(TERNARY, 1.0)
    assert (q.rate, q.mse) == (close(2 - 0.75 * math.log2(3), abs=1e-12), close(1 / 6, abs=1e-12))
    with pytest.raises(ValueError, match=r"rate = 1\.6 bits is above the entropy of these 3 atoms, 1\.500000"):
        optimal_ecsq(TERNARY, 1.6)


@pytest.mark.parametrize("rate", [1e-4, 0.01, 1.0])
def test_many_atoms_of_which_one_has_nearly_all(rate):
    """Where no two cells have so little entropy, one has none."""
    x = np.unique(np.append(np.random.default_rng(0).normal(size=2000), 0))
    q = optimal_ecsq(Histogram(x, np.where(x == 0, 10_000, 1)), rate)
    assert q.rate == close(rate, abs=1e-3)
    assert len(q.levels) == len(q.thresholds) + 1


@pytest.mark.parametrize("rate", [1.0, 2.0, 4.0])
def test_the_descent_on_atoms_is_near_the_hull(monkeypatch, rate):
    x = np.round(np.random.default_rng(0).normal(size=200_000), 2)
    source = Histogram(*np.unique(x, return_counts=True))
    best = optimal_ecsq(source, rate)
    monkeypatch.setattr(entropy_coded_atoms, "MOST_ATOMS", 1)
    found = optimal_ecsq(source, rate)
    # At equal rate: no better than the hull, up to what a chord is above it, and worse by 1 % at most.
    assert 0.999 < found.mse * 4**found.rate / (best.mse * 4**best.rate) < 1.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ecsq(GGD(2.0)), "either step= or rate=, not both or neither"),
        (lambda: ecsq(GGD(2.0), step=1.0, rate=1.0), "not both"),
        (lambda: ecsq(GGD(2.0), step=-1.0), r"step = -1.0 is outside \(0, inf\)"),
        (lambda: ecsq(GGD(2.0), step=math.nan), "step = nan is outside"),
        (lambda: ecsq(GGD(2.0), rate=0.0), r"rate = 0.0 is outside \(0, inf\)"),
        (lambda: ecsq(GGD(2.0), rate=25.0), "rate = 25.0 bits needs over 40,000 cells .*at most"),
        (lambda: ecsq(GGD(2.0), step=1e-9), "makes more than 4 million cells: give at least 1e-05"),
        (lambda: ecsq(Histogram([-1.0, 1.0], [1, 1]), rate=1.5), "rate = 1.5 bits needs over 40,000 cells"),
        (lambda: optimal_ecsq(GGD(2.0), 0.0), "rate = 0.0 is outside"),
        (lambda: optimal_ecsq(GGD(2.0), 30.0), "needs over 40,000 cells"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
