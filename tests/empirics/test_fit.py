"""Exponents: coverage of their intervals, agreement with scipy, and what has no exponent."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from scipy.special import gamma, gammaln

from empirics import fit
from empirics.fit import Fit, marginal, within_rows
from empirics.histogram import exact
from theory.sources import Histogram

REPLICATIONS = 200
# 190 of 200 expected; 4 binomial standard deviations below, which a right interval misses once in 1e4 tries.
COVERED = 190 - 4 * math.sqrt(200 * 0.95 * 0.05)
MISSED = 190 + 3.2 * math.sqrt(200 * 0.95 * 0.05)  # all 200: the interval would be too wide


def draws(beta: float, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    rng = np.random.default_rng([seed, int(1000 * beta)])
    return torch.from_numpy(rng.gamma(1 / beta, size=shape) ** (1 / beta) * rng.choice([-1.0, 1.0], shape))


def mixture(beta: float, shape: tuple[int, int], seed: int) -> torch.Tensor:
    scales = np.random.default_rng(10_000 + seed).lognormal(-4, 1, (shape[0], 1))
    return draws(beta, shape, seed) * torch.from_numpy(scales)


def assert_honest(fits: list[Fit], beta: float) -> None:
    """Each 95 % interval covers at its rate, and the mean is unbiased within its own error."""
    found, errors = np.array([(f.beta, f.standard_error) for f in fits]).T
    covered = (np.abs(found - beta) <= 1.96 * errors).sum()
    assert COVERED <= covered <= MISSED
    assert 0.85 < np.sqrt(np.mean(errors**2)) / found.std() < 1.15  # 200 replications know a deviation to 5 %
    assert all(f.status == "converged" for f in fits)


@pytest.mark.parametrize("beta", [0.8, 1.2, 1.7, 2.0, 3.0])
def test_marginal_intervals_cover(beta):
    fits = [marginal(exact(draws(beta, (3000,), seed))) for seed in range(REPLICATIONS)]
    assert_honest(fits, beta)
    # The bias of the maximum-likelihood estimate is O(1/n), a tenth of the standard error at n = 3000.
    assert abs(np.mean([f.beta for f in fits]) - beta) < 0.3 * fits[0].standard_error


@pytest.mark.parametrize(
    ("beta", "width"), [(0.8, 64), (1.2, 64), (1.7, 64), (2.0, 64), (3.0, 64), (1.7, 128), (1.2, 512)]
)
def test_within_rows_covers_and_is_unbiased_where_profiling_is_not(beta, width):
    rows = 8192 // width * 2
    fits = [within_rows(mixture(beta, (rows, width), seed)) for seed in range(REPLICATIONS)]
    found = np.array([f.beta for f in fits])
    error = found.std() / math.sqrt(REPLICATIONS)
    assert_honest(fits, beta)
    assert abs(found.mean() - beta) < 4 * error
    excess = [profile_within_rows(mixture(beta, (rows, width), seed)) - found[seed] for seed in range(20)]
    assert np.mean(excess) > 4 * np.std(excess) / math.sqrt(20)  # visible in 20 replications
    # Each row's profile score exceeds its marginal score by 1/(2 beta), to first order: over the curvature.
    bias = rows / (2 * beta) * np.mean([f.standard_error**2 for f in fits])
    assert np.mean(excess) == pytest.approx(bias, rel=0.2)


def profile_within_rows(x: torch.Tensor) -> float:
    """The estimate that profiles the scales out: what must not be done."""
    a = x.abs().numpy()
    n = a.shape[1]

    def negative(beta: float) -> float:
        m = np.mean(a**beta, axis=1)
        return -np.sum(n * (np.log(beta / 2) - gammaln(1 / beta) - (np.log(beta * m) + 1) / beta))

    return float(optimize.minimize_scalar(negative, bounds=(0.3, 8), method="bounded").x)


@pytest.mark.parametrize("beta", [0.8, 1.7, 3.0])
def test_agrees_with_scipy_and_is_not_less_likely(beta):
    x = 0.02 * draws(beta, (4000,), 5)
    found = marginal(exact(x))
    theirs, _, scale = stats.gennorm.fit(x.numpy(), floc=0)
    assert found.beta == pytest.approx(theirs, rel=2e-3)  # its simplex stops at 1e-4 in both parameters
    assert found.sigma == pytest.approx(stats.gennorm.std(theirs, scale=scale), rel=1e-3)
    assert found.log_likelihood >= stats.gennorm.logpdf(x.numpy(), theirs, scale=scale).mean() - 1e-12
    alpha = found.sigma * math.sqrt(gamma(1 / found.beta) / gamma(3 / found.beta))
    ours = stats.gennorm.logpdf(x.numpy(), found.beta, scale=alpha).mean()
    assert found.log_likelihood == pytest.approx(ours, rel=1e-10)


@pytest.mark.parametrize(("beta", "zeros"), [(1.4, 0), (0.5, 2)])
def test_the_marginal_likelihood_is_the_integral_over_the_scale(beta, zeros):
    """Two rows, integrated numerically over d alpha/alpha, at the estimate."""
    x = mixture(beta, (2, 9), 3)
    x[0, :zeros] = 0
    found = within_rows(x)

    def log_integral(row: np.ndarray) -> float:
        grid = np.linspace(-40, 20, 200_001)
        log_p = stats.gennorm.logpdf(row[:, None, None] / np.exp(grid), found.beta).sum(0)[0] - len(row) * grid
        return float(np.log(np.trapezoid(np.exp(log_p - log_p.max()), grid)) + log_p.max())

    total = sum(log_integral(row) for row in x.numpy())
    assert found.log_likelihood == pytest.approx(total / 18, abs=1e-9)


def test_within_rows_does_not_see_the_scales_and_zero_rows():
    x = mixture(1.5, (40, 64), 1)
    x[3, :5] = 0
    plain = within_rows(x)
    scaled = torch.cat([x * torch.logspace(-12, 9, 40)[:, None].double(), torch.zeros(3, 64)])
    found = within_rows(scaled)
    assert found.beta == pytest.approx(plain.beta, rel=1e-9)
    assert found.standard_error == pytest.approx(plain.standard_error, rel=1e-7)
    assert (found.rows, found.zero_rows, found.n) == (40, 3, 2560)
    np.testing.assert_allclose(found.row_second_moments, scaled.square().mean(1), rtol=1e-12)


def test_within_rows_of_equal_scale_is_the_marginal():
    """With 4 long rows of one law nothing is gained or lost; sigma too is that of the law."""
    x = draws(1.3, (4, 20_000), 2)
    rows, flat = within_rows(x), marginal(exact(x))
    assert rows.beta == pytest.approx(flat.beta, abs=0.1 * flat.standard_error)
    assert rows.sigma == pytest.approx(flat.sigma, rel=1e-3)
    heavy = marginal(exact(mixture(1.3, (100, 800), 2)))
    assert heavy.beta < 1.0  # a mixture of scales has a heavier tail than its rows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_chunks_start_and_subsample_do_not_matter(monkeypatch, dtype):
    x = mixture(1.5, (300, 70), 4).to(dtype)
    expected = within_rows(x)
    monkeypatch.setattr(fit, "_CHUNK", 1000)
    monkeypatch.setattr(fit, "_SUBSAMPLE", 3000)
    found = within_rows(x.view(3, 100, 70))
    assert found.beta == pytest.approx(expected.beta, rel=1e-9)
    assert found.iterations < expected.iterations  # the subsample brings it close
    for beta0 in (0.1, 0.4, 9.0, 50.0):
        assert within_rows(x, beta0).beta == pytest.approx(expected.beta, rel=1e-9)
    assert within_rows(x.T.contiguous().T).beta == pytest.approx(expected.beta, rel=1e-9)


def test_sandwich_is_right_for_a_law_that_is_no_ggd():
    """Student's t: the information would give another error; 400 replications give the deviation to 4 %."""
    rng = np.random.default_rng(0)
    fits = [marginal(exact(torch.from_numpy(rng.standard_t(8, 4000)))) for _ in range(400)]
    found, errors = np.array([(f.beta, f.standard_error) for f in fits]).T
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(found.std(), rel=0.12)


def test_zeros_are_data():
    """0.1 % of exact zeros, as rounding makes them: their score counts in the error too."""
    x = draws(1.5, (4000,), 9)
    x[:4] = 0
    nudged = x.clone()
    nudged[:4] = 1e-9
    found, expected = marginal(exact(x)), marginal(exact(nudged))
    assert found.beta == pytest.approx(expected.beta, rel=1e-6)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-6)


def test_an_end_of_the_range_is_a_status():
    uniform = torch.linspace(-1, 1, 401)
    top = marginal(exact(torch.cat([torch.full((300,), 1.0), torch.tensor([0.999])])))
    assert (top.beta, top.status) == (50, "beta reached 50")
    assert math.isnan(top.standard_error)
    pruned = uniform.clone()
    pruned[:350] = 0
    low = marginal(exact(pruned))
    assert (low.beta, low.status) == (0.1, "beta reached 0.1")
    rows = torch.tensor([[1.0, 0.9999, 1.0, -1.0]] * 4)
    assert within_rows(rows).status == "beta reached 50"
    assert math.isnan(within_rows(rows).standard_error)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(10, 10), "^w: (fewer than 2 distinct|0 rows)"),
        (torch.full((10, 10), -2.0), "^w: fewer than 2 distinct non-zero magnitudes"),
        (torch.tensor([[0.5, -0.5, 0.0, 0.5]] * 4), "^w: fewer than 2 distinct"),
        (torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "^w: 6 weights are too few"),
        (torch.tensor([[1.0, float("nan")] * 5, [1.0, -float("inf")] * 5]), "^w: 10 of 20 weights are NaN"),
    ],
)
@pytest.mark.parametrize("method", [lambda x: marginal(exact(x, "w"), "w"), lambda x: within_rows(x, name="w")])
def test_no_exponent_is_an_error_that_says_why(method, tensor, reason):
    with pytest.raises(ValueError, match=reason):
        method(tensor)


def test_within_rows_needs_two_rows():
    with pytest.raises(ValueError, match="w: 1 rows are not all zero"):
        within_rows(torch.cat([torch.zeros(5, 20), torch.arange(20.0)[None]]), name="w")
    with pytest.raises(TypeError, match="int64"):
        within_rows(torch.arange(20).view(2, 10))


def test_cost_is_that_of_the_atoms():
    """Ten times the counts: the same estimate, sqrt(10) times the certainty."""
    small = exact(draws(1.6, (2000,), 1))
    one, ten = marginal(small), marginal(Histogram(small.values, 10 * small.counts))
    assert ten.beta == pytest.approx(one.beta, rel=1e-9)
    assert ten.standard_error == pytest.approx(one.standard_error / math.sqrt(10), rel=1e-9)
