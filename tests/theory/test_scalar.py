"""Scalar quantizers: quadrature, drawing, plain Lloyd, dynamic programming and 40 digits against the solver."""

import math
from itertools import pairwise

import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate, optimize, special, stats

from tests import strategies, tolerances
from theory import codebook_design, scalar
from theory.codebook_design import cell_moments, mae, midpoints, mse, stationary
from theory.scalar import lloyd_max, panter_dite, price_of_uniformity, uniform
from theory.sources import GGD, Histogram, ScaleMixture

close = pytest.approx


def law(source):
    return stats.gennorm(source.beta, scale=source.alpha)


def by_quadrature(levels, source, power=2):
    """The error over each cell, cut at its level and at 0, by scipy's adaptive quadrature of scipy's density."""
    levels, p = np.asarray(levels), law(source).pdf
    edges = np.concatenate([[law(source).ppf(1e-20)], (levels[1:] + levels[:-1]) / 2, [law(source).isf(1e-20)]])
    total = 0.0
    for level, lo, hi in zip(levels, edges[:-1], edges[1:], strict=True):
        cuts = sorted({lo, hi, *(c for c in (0.0, level) if lo < c < hi)})
        for a, b in pairwise(cuts):
            f = lambda x, level=level: abs(x - level) ** power * p(x)  # noqa: E731
            total += integrate.quad(f, a, b, epsabs=1e-14, epsrel=1e-11)[0]
    return total


def gaussian_cells(levels):
    """Probability and centroid of the cells of a standard Gaussian, from scipy.stats.norm."""
    t = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    upper, lower = stats.norm.sf(t), stats.norm.cdf(t)
    p = np.where(t[:-1] > 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1])
    return p, (stats.norm.pdf(t[:-1]) - stats.norm.pdf(t[1:])) / p


def dynamic_programming(values, p, n):
    """The least mean squared error of n levels on atoms: exact, over all partitions into intervals."""
    m0, m1, m2 = (np.concatenate([[0], np.cumsum(p * values**k)]) for k in range(3))
    mass, first, second = (m[None, :] - m[:, None] for m in (m0, m1, m2))  # [i, j]: atoms i ... j-1
    cost = np.where(mass > 0, second - first**2 / np.where(mass > 0, mass, 1), np.inf)
    best = cost[0]
    for _ in range(n - 1):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1]


# The error of a codebook


@pytest.mark.parametrize("beta", [0.4, 1.0, 1.7, 2.0, 8.0])
@pytest.mark.parametrize("levels", [[-1.0, 1.0], [0.3], [-2.0, -0.1, 0.0, 0.4, 5.0], list(np.linspace(-4, 3, 30))])
def test_errors_by_quadrature(beta, levels):
    source = GGD(beta, 1.5)
    assert mse(levels, source) == close(by_quadrature(levels, source), rel=1e-9)
    assert mae(levels, source) == close(by_quadrature(levels, source, power=1), rel=1e-9)


def test_errors_by_drawing():
    source, levels = GGD(1.3, 2.0), np.array([-3.0, -0.5, 0.2, 1.0, 4.0])
    x = law(source).rvs(500_000, random_state=np.random.default_rng(0))
    distance = np.abs(x[:, None] - levels).min(axis=1)
    for samples, value in ((distance**2, mse(levels, source)), (distance, mae(levels, source))):
        assert abs(samples.mean() - value) < tolerances.STANDARD_ERRORS * samples.std() / math.sqrt(len(x))


@given(strategies.histograms(), st.sets(st.integers(-30, 30), min_size=1, max_size=6))
def test_errors_on_atoms(histogram, grid):
    levels = np.array(sorted(grid)) / 7
    distance = np.abs(histogram.values[:, None] - levels).min(axis=1)
    assert mse(levels, histogram) == close(histogram.probabilities @ distance**2, abs=tolerances.SUM_OF_MOMENTS * 8)
    assert mae(levels, histogram) == close(histogram.probabilities @ distance, abs=tolerances.SUM_OF_MOMENTS * 8)


def test_errors_on_a_scale_mixture():
    rows, levels = [GGD(1.6, s) for s in (0.5, 2.0)], [-2.0, 0.0, 1.5]
    mixture = ScaleMixture(GGD(1.6), [0.5, 2.0], [0.75, 0.25])
    assert mse(levels, mixture) == close(0.75 * mse(levels, rows[0]) + 0.25 * mse(levels, rows[1]), rel=1e-13)


@pytest.mark.parametrize("beta", [0.5, 1.7, 2.0])
def test_balls_contain_the_value_at_50_digits(beta):
    levels = lloyd_max(GGD(beta), 16).levels
    with mp.workdps(50):
        exact = mse([mpf(x) for x in levels], GGD(mpf(beta)))
    for bits in (53, 120):
        ctx.prec = bits
        try:
            ball = mse([arb(x) for x in levels], GGD(arb(beta), arb(1)))
            assert ball.contains(arb(mp.nstr(exact, 50)))
            assert ball.rel_accuracy_bits() > bits - 24  # three terms cancel seven bits, each from a wider ball
        finally:
            ctx.prec = 53
    assert mse(levels, GGD(beta)) == close(float(exact), rel=1e-12)


def test_levels_must_increase():
    for error in (mse, mae):
        with pytest.raises(ValueError, match=r"levels must be strictly increasing: levels\[1\] = 0.0 follows 0.0"):
            error([0.0, 0.0], GGD(2.0))


# Lloyd-Max

CHECKS = [(1.0, 4, 0.176194881054), (1.7, 4, 0.128143988488), (2.0, 4, 0.117481847829),
          (1.0, 16, 0.015372527060), (1.7, 16, 0.010539955007), (2.0, 16, 0.009501008008)]  # fmt: skip


@pytest.mark.parametrize(("beta", "n", "expected"), CHECKS)
def test_lloyd_max_check_values(beta, n, expected):
    found = lloyd_max(GGD(beta), n)
    assert found.mse == close(expected, abs=5e-13)
    assert found.rate == close(math.log2(n), rel=1e-15)


@pytest.mark.parametrize("beta", [0.3, 0.6, 1.0, 1.7, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 33, 256, 1024])
def test_each_level_is_the_centroid_of_what_is_nearest_to_it(beta, n):
    source = GGD(beta, 2.0)
    found = lloyd_max(source, n)
    assert found.status == "converged"
    assert len(found.levels) == n
    assert np.all(np.diff(found.levels) > 0)
    assert found.thresholds == close(midpoints(found.levels), rel=1e-15)
    m0, m1, m2 = cell_moments(source, found.thresholds)
    assert found.levels == close(m1 / m0, abs=tolerances.CENTROID * 2)
    assert m0.sum() == close(1, rel=1e-13)
    # At centroids D = variance - E level**2.
    assert found.mse == close(4 - m0 @ found.levels**2, abs=1e-13 * 4)
    assert found.mse == close(np.sum(m2 - found.levels * m1), abs=1e-13 * 4)


@pytest.mark.parametrize("n", [3, 8, 16])
def test_plain_lloyd_iteration_ends_there(n):
    levels = stats.norm.isf((n - np.arange(n) - 0.5) / n) * 1.3
    for _ in range(20_000):
        p, centroids = gaussian_cells(levels)
        done = np.abs(centroids - levels).max() < 1e-14
        levels = centroids
        if done:
            break
    found = lloyd_max(GGD(2.0), n)
    assert found.levels == close(levels, abs=2e-11)  # a linear iteration stops at its last step / (1 - its rate)
    assert found.mse == close(1 - p @ levels**2, rel=1e-11)


@pytest.mark.parametrize(("beta", "n"), [(2.0, 8), (1.0, 7), (0.6, 2), (0.6, 4), (0.4, 6), (0.5, 5)])
def test_dynamic_programming_finds_nothing_better(beta, n):
    # Quantile bins with their centroids as atoms: what the atoms lose is the variance within the bins, known exactly.
    source, bins = GGD(beta), 1200
    w = (np.arange(1, bins) / bins * 2 - 1) * 1.0
    t = source.quantile(0.5 + 0.5 * np.sign(w) * np.abs(1 - (1 - np.abs(w)) ** 3))  # finer in the tails
    m0, m1, m2 = cell_moments(source, np.unique(t))
    within = float(np.sum(m2 - m1**2 / m0))
    optimum = dynamic_programming(m1 / m0, m0, n) + within
    found = float(lloyd_max(source, n).mse)
    assert optimum == close(found, rel=2e-4)
    assert found < optimum * (1 + 1e-9)  # cutting only between bins cannot be better than cutting anywhere


def two_levels(beta):
    """The best two levels of a unit GGD by a scan and Brent's method over the threshold."""
    source = GGD(beta)

    def error(t):
        p = law(source).cdf(t)
        mean = -source.alpha * special.gamma(2 / beta) / special.gamma(1 / beta) / 2
        mean *= special.gammaincc(2 / beta, (abs(t) / source.alpha) ** beta)
        return 1 - mean**2 / p - mean**2 / (1 - p)

    scan = np.linspace(0, law(source).isf(1e-3), 200)
    i = int(np.argmin([error(t) for t in scan]))
    return optimize.minimize_scalar(error, bounds=(scan[max(i - 1, 0)], scan[i + 1]), method="bounded").fun


@pytest.mark.parametrize("beta", [0.3, 0.5, 0.8, 0.95, 1.0, 2.0, 6.0])
def test_two_levels_of_any_ggd(beta):
    assert lloyd_max(GGD(beta), 2).mse == close(two_levels(beta), rel=1e-9)


@pytest.mark.parametrize("n", [2, 4, 16])
@pytest.mark.parametrize("beta", [0.4, 0.7, 0.9])
def test_an_even_number_of_levels_is_lopsided_below_laplace(beta, n):
    source = GGD(beta)
    found = lloyd_max(source, n)
    symmetric = stationary(scalar._compander_levels(source, n), source, symmetric=True)
    assert symmetric.status == "converged"
    assert symmetric.levels == close(-symmetric.levels[::-1], abs=1e-9)
    assert found.mse < symmetric.mse * (1 - 1e-6)
    odd = lloyd_max(source, n + 1)
    assert odd.levels == close(-odd.levels[::-1], abs=1e-9)


def test_forty_digits():
    with mp.workdps(40):
        # Two positive levels of the Gaussian from mpmath's own normal law.
        def centroids(a, b):
            t = (a + b) / 2
            middle = (mp.npdf(0) - mp.npdf(t)) / (mp.ncdf(t) - mp.mpf(1) / 2)
            return [middle - a, mp.npdf(t) / mp.ncdf(-t) - b]

        a, b = mp.findroot(centroids, (mpf("0.45"), mpf("1.5")))
        found = lloyd_max(GGD(mpf(2)), 4)
        assert found.status == "converged"
        assert max(abs(x - y) for x, y in zip(found.levels, [-b, -a, a, b], strict=True)) < mpf(10) ** -36
        assert mp.nstr(found.mse, 12) == "0.117481847829"
        for beta, n in ((1.7, 5), (0.6, 4), (3.0, 8)):
            exact, floats = lloyd_max(GGD(mpf(beta)), n), lloyd_max(GGD(beta), n)
            assert exact.status == "converged"
            assert [float(x) for x in exact.levels] == close(floats.levels, abs=1e-12)
            assert float(exact.mse) == close(floats.mse, rel=1e-13)


def test_two_laplace_levels_in_closed_form():
    # Each half of a Laplace law is exponential: its centroid is at alpha, and D = 2 alpha**2 - alpha**2.
    assert lloyd_max(GGD(1.0), 2).mse == close(0.5, rel=1e-12)


@settings(max_examples=25)
@given(strategies.betas(0.3, 8.0), st.integers(1, 40), strategies.sigmas())
def test_scale_and_order(beta, n, sigma):
    found, unit = lloyd_max(GGD(beta, sigma), n), lloyd_max(GGD(beta), n)
    assert found.mse == close(sigma**2 * unit.mse, rel=1e-9)
    assert lloyd_max(GGD(beta), n + 1).mse < unit.mse
    assert unit.mse <= uniform(GGD(beta), n).mse * (1 + 1e-12)


@pytest.mark.parametrize("atoms", [1, 2, 3, 7])
def test_as_many_levels_as_atoms_lose_nothing(atoms):
    histogram = Histogram(np.arange(atoms) ** 2 - 3.5, np.arange(atoms) + 1)
    found = lloyd_max(histogram, atoms)
    assert found.mse == close(0, abs=tolerances.SUM_OF_MOMENTS * 50**2)
    assert found.levels == close(histogram.values, abs=1e-13)
    with pytest.raises(ValueError, match=f"n = {atoms + 1} levels for a source of {atoms} atoms: give n <= {atoms}"):
        lloyd_max(histogram, atoms + 1)


@given(strategies.histograms(), st.integers(1, 12))
def test_few_atoms(histogram, n):
    if n > len(histogram.values):
        return
    found, p = lloyd_max(histogram, n), histogram.probabilities
    assert found.status == "converged"
    assert found.mse == close(dynamic_programming(histogram.values, p, n), abs=tolerances.SUM_OF_MOMENTS * 8)
    distance = np.abs(histogram.values[:, None] - found.levels).min(axis=1)
    assert found.mse == close(p @ distance**2, abs=tolerances.SUM_OF_MOMENTS * 8)


@pytest.mark.parametrize(("beta", "decimals"), [(1.5, 2), (0.7, 1), (8.0, 2)])
def test_optimum_on_the_atoms_of_rounded_draws(beta, decimals):
    x = np.round(law(GGD(beta)).rvs(100_000, random_state=np.random.default_rng(3)), decimals)
    histogram = Histogram(*np.unique(x, return_counts=True))
    for n in (2, 3, 16, 61):
        found = lloyd_max(histogram, n)
        least = dynamic_programming(histogram.values, histogram.probabilities, n)
        assert found.mse == close(least, rel=1e-9)  # 61 levels for 140 atoms leave 1e-4 of the terms
        assert found.residual < 1e-13
    assert lloyd_max(histogram, 4).mse == close(lloyd_max(GGD(beta), 4).mse, rel=0.03)


def test_scale_mixtures_too():
    mixture = ScaleMixture(GGD(2.0), [0.5, 1.5])
    found = lloyd_max(mixture, 8)
    m0, m1, _ = cell_moments(mixture, found.thresholds)
    assert found.status == "converged"
    assert found.levels == close(m1 / m0, abs=1e-10)


def test_refusals():
    for n in (0, 2.5, -1):
        with pytest.raises(ValueError, match=r"n = .* is outside integers"):
            lloyd_max(GGD(2.0), n)


def test_no_silent_failure():
    stopped = stationary(np.linspace(-4, 4, 64), GGD(2.0), max_iterations=2)
    assert stopped.status == "tolerance not reached in 2 iterations"
    assert stopped.residual > 1e-6


def test_the_solver_keeps_what_is_fixed():
    found = stationary(np.array([-2.0, -0.5, 0.1, 1.0, 3.0]), GGD(1.3), fixed=[0, 2])
    assert found.status == "converged"
    assert (found.levels[0], found.levels[2]) == (-2.0, 0.1)
    m0, m1, _ = cell_moments(GGD(1.3), found.thresholds)
    assert (m1 / m0)[[1, 3, 4]] == close(found.levels[[1, 3, 4]], abs=1e-13)


# High rate


def test_one_level():
    assert uniform(GGD(1.3, 3.0), 1).mse == close(9, rel=1e-13)
    assert lloyd_max(GGD(1.3, 3.0), 1).mse == close(9, rel=1e-13)
    assert lloyd_max(GGD(1.3), 1).rate == 0


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 4.5), (1.7, 3.032470972), (2.0, 2.720699046)])
def test_panter_dite(beta, expected):
    source = GGD(beta)
    assert panter_dite(source) == close(expected, abs=5e-10)
    reach = law(source).isf(1e-25) * 8
    root = 2 * integrate.quad(lambda x: law(source).pdf(x) ** (1 / 3), 0, reach, limit=400)[0]
    assert panter_dite(source) == close(root**3 / 12, rel=1e-8)
    errors = [n**2 * lloyd_max(source, n).mse / expected - 1 for n in (64, 256, 1024)]
    assert -0.0025 < errors[2] < 0
    assert [e / errors[0] for e in errors[1:]] == close([1 / 4, 1 / 16], rel=0.1)  # a correction of order 1/N


def test_panter_dite_of_what_has_no_closed_form():
    assert panter_dite(ScaleMixture(GGD(1.7), [2.0])) == close(4 * panter_dite(GGD(1.7)), rel=1e-6)
    mixture = ScaleMixture(GGD(2.0), [0.5, 2.0])
    assert 256**2 * lloyd_max(mixture, 256).mse == close(panter_dite(mixture), rel=0.02)
    with pytest.raises(TypeError, match="panter_dite needs a density; a Histogram has none"):
        panter_dite(Histogram([-1.0, 1.0], [1, 1]))
    with mp.workdps(40):
        assert abs(panter_dite(GGD(mpf(2))) - mp.pi * mp.sqrt(3) / 2) < mpf(10) ** -38
    assert panter_dite(GGD(arb(2), arb(1))).contains(arb.pi() * arb(3).sqrt() / 2)


@pytest.mark.parametrize("beta", [1.0, 1.7, 2.0])
def test_price_of_uniformity_grows(beta):
    prices = [price_of_uniformity(GGD(beta), n) for n in (2, 4, 16, 64, 256)]
    assert prices[0] == close(0, abs=1e-12)
    assert np.all(np.diff(prices) > 0)
    source = GGD(beta)
    assert prices[2] == close(math.log2(uniform(source, 16).mse / lloyd_max(source, 16).mse) / 2, rel=1e-12)


def test_public_names():
    assert set(scalar.__all__) >= {"mse", "lloyd_max", "uniform", "ecsq", "optimal_ecsq", "panter_dite"}
    assert scalar.mse is codebook_design.mse
