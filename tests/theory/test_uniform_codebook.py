"""Uniform codebooks: quadrature, scans of the step and the offset, and atoms by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from tests import strategies
from tests.tolerances import close
from theory.codebook_design import mse
from theory.scalar import lloyd_max
from theory.sources import GGD, Histogram, ScaleMixture
from theory.uniform_codebook import KINDS, basis, uniform

# A local search stops where simplex and least squares stop: the scan of a test may be this much luckier.
SEARCH = 0.02


def law(source):
    return stats.gennorm(source.beta, scale=source.alpha)


def by_quadrature(levels, source):
    """The squared error over each cell, cut at 0, by scipy's adaptive quadrature of scipy's density."""
    levels, p = np.asarray(levels), law(source).pdf
    edges = np.concatenate([[law(source).ppf(1e-20)], (levels[1:] + levels[:-1]) / 2, [law(source).isf(1e-20)]])
    total = 0.0
    for level, lo, hi in zip(levels, edges[:-1], edges[1:], strict=True):
        for a, b in itertools.pairwise(sorted({lo, hi, *({0.0} if lo < 0 < hi else ())})):
            total += integrate.quad(lambda x, l=level: (x - l) ** 2 * p(x), a, b, epsabs=1e-14, epsrel=1e-11)[0]
    return total


@pytest.mark.parametrize(
    ("beta", "step", "error"),
    # To 40 digits the steps begin .4609953643127, .3580433791169, .3352006121999.
    [(1.0, 0.4609953643127, 0.0253509746), (1.7, 0.3580433791169, 0.0135033020), (2.0, 0.3352006122, 0.0115428844)],
)
def test_uniform_check_values(beta, step, error):
    found = uniform(GGD(beta), 16)
    assert found.levels[1] - found.levels[0] == close(step, abs=2e-13)
    assert found.mse == close(error, abs=5e-11)
    assert found.levels == close(-found.levels[::-1], abs=1e-14)


@pytest.mark.parametrize(("beta", "n"), [(0.5, 4), (1.0, 2), (1.7, 7), (2.0, 64), (8.0, 3)])
def test_uniform_by_minimizing_a_quadrature(beta, n):
    source, found = GGD(beta), uniform(GGD(beta), n)
    offsets, step = np.arange(n) - (n - 1) / 2, found.levels[1] - found.levels[0]
    best = optimize.minimize_scalar(lambda s: by_quadrature(s * offsets, source), bounds=(0.7 * step, 1.4 * step),
                                    method="bounded", options={"xatol": 1e-7})  # fmt: skip
    assert found.mse == close(best.fun, rel=1e-9)
    assert step == close(best.x, rel=1e-3)  # the minimum is flat


@pytest.mark.parametrize(("beta", "n"), [(0.25, 2), (0.25, 1024), (0.3, 9), (20.0, 1024)])
def test_uniform_at_the_ends_of_the_family(beta, n):
    found, offsets = uniform(GGD(beta), n), np.arange(n) - (n - 1) / 2
    step = found.levels[1] - found.levels[0]
    near = [mse(step * factor * offsets, GGD(beta)) for factor in (0.97, 1, 1.03)]
    assert near[1] < min(near[0], near[2])
    assert found.mse == close(near[1], rel=1e-9)


def on_atoms(histogram, levels):
    """Squared error of rows of levels, from the distances."""
    distance = np.abs(histogram.values[:, None] - levels[..., None, :]).min(axis=-1)
    return distance**2 @ histogram.probabilities


@settings(max_examples=25)
@given(strategies.histograms(), st.integers(1, 6))
def test_on_atoms_by_brute_force(histogram, n):
    if histogram.variance == 0:
        return
    found = {kind: uniform(histogram, n, kind) for kind in KINDS}
    for q in found.values():
        assert q.mse == close(on_atoms(histogram, q.levels), abs=1e-13)
        assert np.diff(q.levels) == close(np.diff(q.levels).mean() if n > 1 else 0, rel=1e-9)
    mirror = Histogram(-histogram.values[::-1], histogram.counts[::-1])
    symmetric = (found["midrise"], found["midtread"], uniform(mirror, n, "midtread"))
    least = min(float(q.mse) for q in symmetric)
    assert found["asymmetric"].mse <= least * (1 + 1e-12) + 1e-15
    scale = math.sqrt(float(histogram.second_moment))
    for kind in ("midrise", "midtread"):
        scan = on_atoms(histogram, np.geomspace(0.05, 6, 400)[:, None] * scale * basis(n, kind)[:, 0])
        assert found[kind].mse <= scan.min() + SEARCH * scale**2
    offsets, steps = np.meshgrid(np.linspace(-2.5, 2.5, 61), np.geomspace(0.02, 5, 60))
    scan = on_atoms(histogram, offsets[..., None] + steps[..., None] * basis(n, "midrise")[:, 0])
    assert found["asymmetric"].mse <= scan.min() + SEARCH * histogram.variance


def test_a_zero_point_for_a_shifted_law():
    x = np.round(np.random.default_rng(5).standard_normal(20_000), 2)
    near, far = Histogram(*np.unique(x, return_counts=True)), Histogram(*np.unique(x + 3, return_counts=True))
    assert uniform(far, 16, "asymmetric").mse == close(uniform(near, 16, "asymmetric").mse, rel=3e-3)
    assert uniform(near, 16, "asymmetric").mse == close(uniform(GGD(2.0), 16).mse, rel=0.03)
    assert uniform(far, 16).mse > 3 * uniform(far, 16, "asymmetric").mse


@pytest.mark.parametrize(("beta", "n"), [(0.7, 3), (0.7, 4), (1.0, 8), (2.0, 4), (8.0, 5)])
def test_step_and_offset_by_scipy(beta, n):
    source, found = GGD(beta), uniform(GGD(beta), n, "asymmetric")
    step = float(np.diff(uniform(source, n).levels)[0])

    def error(theta):
        return by_quadrature(theta[0] + theta[1] * (np.arange(n) - (n - 1) / 2), source) if theta[1] > 0 else 9.0

    tried = [
        optimize.minimize(error, [shift * step, step], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-10})
        for shift in (0.02, 0.5)
    ]
    assert found.status == "converged"
    assert found.mse == close(min(t.fun for t in tried), rel=1e-8)


def test_two_levels_are_lloyd_max():
    # Two levels are always uniform.
    for beta in (0.4, 0.8, 2.0):
        assert uniform(GGD(beta), 2, "asymmetric").mse == close(lloyd_max(GGD(beta), 2).mse, rel=1e-12)


def test_twos_complement_and_midrise_at_four_bits():
    # Heavy tails want the level at 0: at Laplace the two's complement grid is already better, at the Gaussian not.
    ratio = {b: uniform(GGD(b), 16, "midtread").mse / uniform(GGD(b), 16).mse for b in (0.5, 1.0, 2.0)}
    assert ratio[0.5] < ratio[1.0] < 1 < ratio[2.0]
    levels = uniform(GGD(2.0), 16, "midtread").levels
    assert levels / levels[-1] * 7 == close(np.arange(-8, 8), abs=1e-12)


def test_no_step_is_better_than_the_one_found():
    for beta, n, kind in ((0.3, 256, "midrise"), (1.0, 1024, "midtread"), (8.0, 64, "midrise")):
        found = uniform(GGD(beta), n, kind)
        near = [mse(found.levels * factor, GGD(beta)) for factor in np.geomspace(0.05, 20, 80)]
        assert found.status == "converged"
        assert found.mse <= min(near)


def test_scale_mixtures():
    mixture = ScaleMixture(GGD(2.0), [0.5, 1.5])
    found = uniform(mixture, 8)
    best = optimize.minimize_scalar(lambda s: mse(s * basis(8, "midrise")[:, 0], mixture), bounds=(0.1, 2),
                                    method="bounded", options={"xatol": 1e-8})  # fmt: skip
    assert (found.status, found.mse) == ("converged", close(best.fun, rel=1e-10))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(beta=strategies.betas(0.3, 8.0), n=st.integers(2, 40), sigma=strategies.sigmas())
def test_scale(kind, beta, n, sigma):
    assert uniform(GGD(beta, sigma), n, kind).mse == close(sigma**2 * uniform(GGD(beta), n, kind).mse, rel=1e-9)


def test_refusals():
    with pytest.raises(ValueError, match="no kind of uniform codebook is called 'midrize': did you mean midrise"):
        uniform(GGD(2.0), 4, "midrize")
    for n in (0, 1.5):
        with pytest.raises(ValueError, match=r"n = .* is outside integers"):
            uniform(GGD(2.0), n)
