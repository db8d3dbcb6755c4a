"""Clipped uniform quantizers: quadrature, drawing, rounding as integers do it, and the constants of ACIQ."""

from __future__ import annotations

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
from tests.tolerances import close
from theory import ggd
from theory.clipping import banner_clip, clip_mse, kurtosis_rule, optimal_clip, regret
from theory.sources import GGD, Histogram

GRIDS = ("midrise", "symmetric")

# alpha_laplace and alpha_gaus of the authors' own code; printed cut to two decimals, not rounded: 2.559 is 2.55.
ACIQ_LAPLACE = {2: 2.83, 3: 3.89, 4: 5.03, 5: 6.2, 6: 7.41, 7: 8.64, 8: 9.89}
ACIQ_GAUSSIAN = {2: 1.71, 3: 2.15, 4: 2.55, 5: 2.93, 6: 3.28, 7: 3.61, 8: 3.92}
ACIQ_DIGITS = 0.0101


def law(source):
    return stats.gennorm(source.beta, scale=source.alpha)


def quantized(x, clip, bits, grid):
    """As integer hardware does it: scale, round or floor, saturate."""
    if grid == "midrise":
        step = 2 * clip / 2**bits
        return (np.clip(np.floor(x / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) + 0.5) * step
    most = 2 ** (bits - 1) - 1
    return np.clip(np.round(x * most / clip), -most, most) * clip / most


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("beta", "bits"), [(0.5, 2), (1.0, 3), (1.7, 4), (2.0, 5), (8.0, 2)])
def test_error_by_quadrature(grid, beta, bits):
    source = GGD(beta, 1.5)
    for clip in (0.9, 3.0, 7.0):
        cells = 2 ** (bits + 1) if grid == "midrise" else 2 * (2**bits - 2)
        cuts = np.linspace(-clip, clip, cells + 1)
        ends = [law(source).ppf(1e-18), *cuts, law(source).isf(1e-18)]
        ends = sorted({*ends[1:-1], min(ends[0], -2 * clip), max(ends[-1], 2 * clip)})
        f = lambda x, c=clip: (x - quantized(x, c, bits, grid)) ** 2 * law(source).pdf(x)  # noqa: E731
        parts = [integrate.quad(f, a, b, epsabs=1e-13, limit=200)[0] for a, b in pairwise(ends)]
        assert clip_mse(clip, source, bits, grid) == close(math.fsum(parts), rel=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_error_by_drawing_and_on_atoms(grid):
    x = law(GGD(1.3)).rvs(200_000, random_state=np.random.default_rng(11))
    error = (x - quantized(x, 2.7, 4, grid)) ** 2
    margin = tolerances.STANDARD_ERRORS * error.std() / math.sqrt(len(x))
    assert abs(error.mean() - clip_mse(2.7, GGD(1.3), 4, grid)) < margin
    rounded = np.round(x, 3)
    histogram = Histogram(*np.unique(rounded, return_counts=True))
    assert clip_mse(2.71828, histogram, 4, grid) == close(
        np.mean((rounded - quantized(rounded, 2.71828, 4, grid)) ** 2), rel=1e-9
    )


def test_arrays_and_arithmetics():
    clips = np.array([[1.0, 2.0, 3.0], [0.5, 4.0, 9.0]])
    for grid in GRIDS:
        floats = clip_mse(clips, GGD(1.7), 4, grid)
        assert floats.shape == clips.shape
        assert floats[1, 2] == clip_mse(9.0, GGD(1.7), 4, grid)
        with mp.workdps(40), ctx.workprec(150):
            exact = clip_mse(mpf(2), GGD(mpf(1.7)), 4, grid)
            assert clip_mse(arb(2), GGD(arb(1.7)), 4, grid).overlaps(arb(mp.nstr(exact, 39)) + arb(0, 1e-38))
        assert float(exact) == close(floats[0, 1], rel=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.7, 2.0, 8.0])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_no_clip_is_better(grid, beta, bits):
    source = GGD(beta, 2.0)
    clip, error = optimal_clip(source, bits, grid)
    scan = clip_mse(np.geomspace(0.2, 20, 200) * clip, source, bits, grid)
    assert error <= scan.min()
    assert error == close(clip_mse(clip, source, bits, grid), rel=1e-8)  # 8 bits cancel
    f = lambda c: float(clip_mse(c, source, bits, grid))  # noqa: E731
    best = optimize.minimize_scalar(f, bounds=(0.8 * clip, 1.25 * clip), method="bounded", options={"xatol": 1e-7})
    assert clip == close(best.x, rel=2e-4)  # flat
    certified = optimal_clip(GGD(arb(beta), arb(2)), bits, grid)
    assert (float(certified[0]), float(certified[1])) == close((clip, error), rel=1e-8)


def test_check_values():
    # Steps of 16 levels to 13 digits, independently minimized at 40; the clip is 8 of them.
    for beta, step in ((1.0, 0.4609953643127), (1.7, 0.3580433791169), (2.0, 0.3352006122000)):
        assert optimal_clip(GGD(beta), 4)[0] == close(8 * step, abs=2e-12)
    assert optimal_clip(GGD(2.0), 1)[0] == close(2 * math.sqrt(2 / math.pi), rel=1e-12)


@given(strategies.histograms(), st.integers(2, 4), st.sampled_from(GRIDS))
@settings(max_examples=15)
def test_on_atoms(histogram, bits, grid):
    if histogram.variance == 0:
        return
    clip, error = optimal_clip(histogram, bits, grid)
    x, p = histogram.values, histogram.probabilities
    assert error == close(clip_mse(clip, histogram, bits, grid), abs=1e-13)
    scan = [p @ (x - quantized(x, c, bits, grid)) ** 2 for c in np.geomspace(0.05, 20, 300) * abs(x).max()]
    assert error <= min(scan) + 0.02 * histogram.second_moment  # a local search


def test_the_rule_of_thumb():
    assert kurtosis_rule(0.0) == 2.5
    assert kurtosis_rule(-1.2, 2.0) == 5.0
    assert kurtosis_rule(np.array([3.0, 6.0]), 2.0) == close(2 * (2.5 + 0.3 * np.log([4.0, 7.0])), rel=1e-15)
    with mp.workdps(30):
        assert abs(kurtosis_rule(mpf(3)) - (mpf("2.5") + mpf("0.3") * mp.log(4))) < mpf(10) ** -29
    assert kurtosis_rule(arb(3)).contains(arb("2.5") + arb("0.3") * arb(4).log())


@settings(max_examples=30)
@given(strategies.betas(0.5, 8.0), st.integers(2, 8), st.sampled_from(GRIDS), strategies.sigmas(0.01, 100.0))
def test_regret(beta, bits, grid, sigma):
    source = GGD(beta, sigma)
    rule = kurtosis_rule(ggd.kurtosis(beta) - 3, sigma)
    lost = regret(rule, source, bits, grid)
    assert lost > -1e-8
    assert lost == close(regret(rule / sigma, GGD(beta), bits, grid), abs=1e-7)
    assert regret(optimal_clip(source, bits, grid)[0], source, bits, grid) == close(0, abs=1e-8)
    ratio = float(clip_mse(rule, source, bits, grid) / optimal_clip(source, bits, grid)[1])
    assert float(regret(rule, source, bits, grid, base=math.e)) == close(math.log(ratio) / 2, abs=1e-9)


def test_what_the_rule_costs():
    # It knows no bit width: tolerable at 3 and 4 bits, and at 8 bits over two bits lost.
    for beta in (1.0, 1.7, 2.0):
        rule = kurtosis_rule(ggd.kurtosis(beta) - 3)
        lost = {bits: float(regret(rule, GGD(beta), bits)) for bits in (2, 3, 4, 6, 8)}
        assert lost[3] < 0.02
        assert lost[4] < 0.17
        assert 2.4 < lost[8] < 2.9
        peers = [float(regret(banner_clip(GGD(beta), bits), GGD(beta), bits)) for bits in (2, 3, 4, 6, 8)]
        assert np.all(np.diff(peers) < 0)  # a high-rate rule
        assert peers[2] < lost[4]


def test_aciq():
    for bits, published in ACIQ_LAPLACE.items():
        scale = GGD(1.0).alpha
        assert banner_clip(GGD(1.0), bits) == close(scale * special.lambertw(3 * 4**bits).real, rel=1e-12)
        assert banner_clip(GGD(1.0), bits) / scale == close(published, abs=ACIQ_DIGITS)
    for bits, published in ACIQ_GAUSSIAN.items():
        assert banner_clip(GGD(2.0), bits) == close(published, abs=ACIQ_DIGITS)

        def approximation(c, bits=bits):  # as printed in the paper, with erf
            overload = (c**2 + 1) * special.erfc(c / math.sqrt(2)) - math.sqrt(2 / math.pi) * c * math.exp(
                -(c**2) / 2
            )
            return overload + c**2 / (3 * 4**bits)

        best = optimize.minimize_scalar(approximation, bounds=(0.5, 6), method="bounded", options={"xatol": 1e-9})
        assert banner_clip(GGD(2.0), bits) == close(best.x, rel=1e-5)


def test_aciq_in_all_arithmetics():
    with mp.workdps(40), ctx.workprec(150):
        exact = mp.lambertw(mpf(768)) / mp.sqrt(2)
        enclosed = banner_clip(GGD(arb(1)), 4)
        assert enclosed.overlaps(arb(mp.nstr(exact, 39)) + arb(0, 1e-38))
        assert enclosed.rel_accuracy_bits() > 130
        assert abs(banner_clip(GGD(mpf(1)), 4) - exact) < mpf(10) ** -38
    assert banner_clip(GGD(1.4, 3.0), 5) == close(3 * banner_clip(GGD(1.4), 5), rel=1e-12)
    atoms = Histogram(np.linspace(-3, 3, 4001), np.ones(4001))  # of a uniform law: (3 - c)**2 / 12 = c / (6 * 16)
    c = optimize.brentq(lambda c: (3 - c) ** 2 / 12 - c / 96, 0, 3)
    assert banner_clip(atoms, 2) == close(c, rel=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clip_mse(0.0, GGD(2.0), 4), r"clip = 0.0 is outside \(0, inf\)"),
        (lambda: clip_mse(np.array([1.0, -2.0]), GGD(2.0), 4), r"clip\[1\] = -2.0 is outside"),
        (lambda: clip_mse(1.0, GGD(2.0), 0), r"bits = 0.* is outside integers of \[1, inf\)"),
        (lambda: clip_mse(1.0, GGD(2.0), 1, "symmetric"), r"bits = 1.* is outside integers of \[2, inf\)"),
        (lambda: optimal_clip(GGD(2.0), 2.5), "bits = 2.5 is outside"),
        (lambda: optimal_clip(GGD(2.0), 4, "midtread"), "no grid is called 'midtread': did you mean midrise"),
        (lambda: kurtosis_rule(-2.5), "excess_kurtosis = -2.5 is outside"),
        (lambda: kurtosis_rule(1.0, 0.0), "sigma = 0.0 is outside"),
        (lambda: banner_clip(GGD(2.0), 0), "bits = 0.* is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
