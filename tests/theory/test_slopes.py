"""Slopes of ln D: drawing and rounding, the definition in mpmath, and the expansions that the docstrings state."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from flint import arb
from mpmath import mp, mpf
from scipy import integrate, special, stats

from empirics import quantizers
from empirics.distortion import distortion
from tests.tolerances import STANDARD_ERRORS, close
from theory import block_scaling
from theory.codebooks import FP4, NF4, integer
from theory.slopes import (
    SHANNON,
    Decay,
    absmax,
    absmax_high_rate,
    clipped,
    floating_point,
    integer_slope,
    lloyd_max,
)
from theory.sources import GGD, Histogram

BITS = range(2, 9)


def integers(bits=BITS):
    return [integer(b) for b in bits]


def drawn(beta, n, seed):
    law = GGD(beta)
    x = stats.gennorm(beta, scale=law.alpha).rvs((2**20 // n, n), random_state=np.random.default_rng(seed))
    return torch.from_numpy(x.astype(np.float32))


def measured(names, x):
    """Errors by quantizer and block, in the tensor's units squared."""
    return (
        np.stack([distortion(quantizers.get(q), x, x.shape[1]).squared_error for q in names]) / x.shape[1]
    )


@pytest.mark.parametrize(("beta", "n"), [(2.0, 64), (1.7, 128), (1.7, 4096)])
def test_slope_of_rounded_draws(beta, n):
    """Every block is rounded at every number of bits: the standard error is that of the slope's own influence."""
    errors = measured([f"int{b}" for b in BITS], drawn(beta, n, seed=3))
    mean = errors.mean(axis=1)
    contrast = np.array(BITS) - 5.0
    contrast /= contrast @ contrast
    expected = absmax(integers(), n, GGD(beta))
    standard_error = (contrast @ (errors / mean[:, None])).std() / math.sqrt(errors.shape[1])
    assert standard_error < 0.004
    assert abs(contrast @ np.log(mean) - expected.slope) < STANDARD_ERRORS * standard_error
    local = np.diff(errors / mean[:, None], axis=0).std(axis=1) / math.sqrt(errors.shape[1])
    assert np.all(np.abs(np.diff(np.log(mean)) - expected.local) < STANDARD_ERRORS * local)


def test_the_notebooks_three_points():
    """int8, NF4 and FP4 at 8, 4 and 4 bits, blocks of 64: the slope of their line, drawn and predicted."""
    errors = measured(["int8", "nf4", "fp4"], drawn(2.0, 64, seed=4))
    mean = errors.mean(axis=1)
    contrast = np.array([2, -1, -1]) / 8
    expected = absmax([integer(8), NF4, FP4], 64, GGD(2.0))
    standard_error = (contrast @ (errors / mean[:, None])).std() / math.sqrt(errors.shape[1])
    assert abs(contrast @ np.log(mean) - expected.slope) < STANDARD_ERRORS * standard_error
    assert standard_error < 2e-3
    assert expected.slope == close(-1.4412769, abs=1e-7)
    with pytest.raises(ValueError, match="no slope between two that are alike"):
        _ = expected.local


def by_definition(bits, n):
    """In mpmath: given the maximum s, the others are Gaussian on [-s, s]; cell by cell."""
    steps = 2 ** (bits - 1) - 1

    def cdf(t):
        return mp.erf(t / mp.sqrt(2)) / 2

    def pdf(t):
        return mp.exp(-t * t / 2) / mp.sqrt(2 * mp.pi)

    def cell(level, low, high):  # of (t - level)**2 by the antiderivative
        def primitive(t):
            return (1 + level**2) * cdf(t) - (t - 2 * level) * pdf(t)

        return primitive(high) - primitive(low)

    def given(s):
        ends = [0, *(s * (mpf(k) + 0.5) / steps for k in range(steps)), s]
        error = sum(cell(s * k / steps, ends[k], ends[k + 1]) for k in range(steps + 1))
        return n * (2 * cdf(s)) ** (n - 2) * 2 * pdf(s) * 2 * error

    return mp.quad(given, [0, 1, 2, 3, 4, 6, 10]) * (n - 1) / n


def test_by_the_definition():
    with mp.workdps(20):
        errors = [by_definition(b, 64) for b in (2, 3, 4)]
        slope = (mp.log(errors[2]) - mp.log(errors[0])) / 2
        exact = absmax(integers((2, 3, 4)), 64, GGD(mpf(2)))
        assert abs(exact.slope - slope) < mpf(10) ** -16  # the codebook's thirds and sevenths are float64
    ball = absmax(integers((2, 3, 4)), 64, GGD(arb(2)))
    assert ball.slope.overlaps(arb(mp.nstr(slope, 19)) + arb(0, 1e-16))
    found = absmax(integers((2, 3, 4)), 64, GGD(2.0))
    assert found.slope == close(float(slope), rel=1e-12)
    assert found.local == close([float(mp.log(b / a)) for a, b in pairwise(errors)], rel=1e-12)


@pytest.mark.parametrize(("beta", "n", "expected"), [
    (2.0, 64, (-1.5690, -1.4885, -1.4464)), (2.0, 128, (-1.5647, -1.4885, -1.4464)),
    (2.0, 4096, (-1.5382, -1.4883, -1.4463)), (2.0, 2**24, (-1.4769, -1.4877, -1.4463)),
    (1.7, 64, (-1.5585, -1.4878, -1.4463)), (1.7, 128, (-1.5526, -1.4876, -1.4463)),
    (1.7, 4096, (-1.5178, -1.4863, -1.4461)), (1.7, 2**24, (-1.4397, -1.4794, -1.4457)),
])  # fmt: skip
def test_check_values(beta, n, expected):
    """Lines from 2, 3 and 4 bits to 8: none of them is -2 ln 2, and far from -ln 2 / 2."""
    for least, slope in zip((2, 3, 4), expected, strict=True):
        found = absmax(integers(range(least, 9)), n, GGD(beta))
        assert found.slope == close(slope, abs=6e-5)
        assert found.slope < SHANNON - 0.05


def test_the_scale_moves_the_line_and_keeps_its_slope():
    nominal, effective = (absmax(integers(), 64, GGD(1.7), scale_bits=s) for s in (0, 32))
    np.testing.assert_array_equal(effective.bits, nominal.bits + 0.5)
    assert effective.slope == close(nominal.slope, rel=1e-14)


def left_out(bits, n, source):
    """The two terms of `absmax_high_rate`'s docstring."""
    beta, alpha, steps = source.beta, source.alpha, 2 ** (bits - 1) - 1
    law = stats.gennorm(beta, scale=alpha)

    def magnitude(s):
        return special.gammainc(1 / beta, (s / alpha) ** beta)

    def mean(h):
        f = lambda s: n * magnitude(s) ** (n - 1) * 2 * law.pdf(s) * h(s)  # noqa: E731
        return integrate.quad(f, 1e-9, law.isf(1e-19), epsabs=1e-14, limit=400)[0]

    end = mean(lambda s: s**4 * beta * s ** (beta - 1) / alpha**beta * law.pdf(s) / magnitude(s))
    kink = mean(lambda s: s ** (beta + 3) / magnitude(s))
    eta = (1 - 2 ** -(beta + 2)) * special.zeta(beta + 3)
    c = -special.gamma(beta + 1) * math.cos(math.pi * (beta + 1) / 2) * eta / math.pi**2 / (2 * math.pi) ** (beta + 1)
    inside = 7 * end / (1440 * steps**4) - 2 * c * law.pdf(0) * kink / alpha**beta / steps ** (beta + 3)
    return inside * (n - 1) / n


@pytest.mark.parametrize(("beta", "n"), [(1.0, 64), (1.7, 64), (1.7, 4096), (2.0, 64), (3.0, 32)])
def test_what_high_rate_leaves_out(beta, n):
    source = GGD(beta)
    for bits, share in ((6, 0.05), (7, 0.02)):
        exact, first = block_scaling.mse(integer(bits), n, source), absmax_high_rate(bits, n, source)
        assert exact - first == close(left_out(bits, n, source), rel=share)
    constant = block_scaling.absmax_second_moment(n, source) * (n - 1) / n / 3
    assert 4**16 * absmax_high_rate(16, n, source) == close(constant, rel=2**-13)


def test_slope_of_integers_at_high_rate():
    for source in (GGD(1.0), GGD(1.7), GGD(2.0), GGD(8.0)):
        local = absmax(integers(range(5, 11)), 64, source).local
        high = [integer_slope(b) for b in range(5, 10)]
        assert local == close(high, abs=5e-3)
        assert local[-1] == close(high[-1], abs=2e-5)
    for bits in (6, 10, 14):
        assert integer_slope(bits) == close(SHANNON - 2.0 ** (1 - bits) - 3 * 4.0**-bits, abs=5 * 8.0**-bits)
    assert integer_slope(2) == close(-2 * math.log(3), rel=1e-15)
    with pytest.raises(ValueError, match=r"bits = 1.* is outside integers of \[2, inf\)"):
        integer_slope(1)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_limits_of_the_other_families(beta):
    lloyd = lloyd_max(range(6, 11), GGD(beta)).local - SHANNON
    assert lloyd[1:] / lloyd[:-1] == close([0.5] * 3, rel=0.05)  # 4**b D = C (1 - O(2**-b))
    middle = np.arange(7, 10) + 0.5
    clips = clipped(range(7, 11), GGD(beta)).local
    assert clips == close(SHANNON + 2 / (beta * middle), abs=0.03)  # the next terms are O(ln b / b)
    assert np.all(clips > SHANNON)


@pytest.mark.parametrize(("digits", "dtype"), [(8, torch.bfloat16), (11, torch.float16)])
@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.1])
def test_floating_point_by_rounding(digits, dtype, sigma):
    x = torch.from_numpy(np.random.default_rng(5).normal(0, sigma, 2**20))
    error = (x - x.to(dtype).double()).square().numpy()
    standard_error = error.std() / math.sqrt(len(error))
    assert abs(error.mean() - floating_point(digits, GGD(2.0, sigma))) < STANDARD_ERRORS * standard_error
    assert standard_error < 2.5e-3 * error.mean()
    binades = 2.0 ** np.arange(-60, 20)
    spacing = 2 * binades[:-1] / 2**digits
    shares = 2 * np.diff(stats.norm.cdf(binades / sigma))
    assert floating_point(digits, GGD(2.0, sigma)) == close(shares @ spacing**2 / 12, rel=1e-13)


def test_on_atoms():
    """The same families on an exact histogram, which is how weights are predicted."""
    x = np.round(drawn(2.0, 64, seed=6).numpy().ravel()[:20_000], 2)
    atoms = Histogram(*np.unique(x, return_counts=True))
    for family in (clipped, lloyd_max):
        assert family((2, 3, 4), atoms).slope == close(family((2, 3, 4), GGD(2.0)).slope, abs=0.02)
    assert absmax(integers((3, 4)), 64, atoms).slope == close(absmax(integers((3, 4)), 64, GGD(2.0)).slope, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Decay([4], [1.0]), r"bits \[4.0\] for 1 errors: give one each, and two that differ"),
        (lambda: Decay([4, 4], [1.0, 2.0]), "two that differ"),
        (lambda: Decay([4, 5, 6], [1.0, 2.0]), r"bits \[4.0, 5.0, 6.0\] for 2 errors"),
        (lambda: Decay([4, 5], [1.0, 0.0]), r"mse\[1\] = 0.0 is outside \(0, inf\)"),
        (lambda: absmax(integers(), 0, GGD(2.0)), "n = 0.* is outside"),
        (lambda: absmax_high_rate(1, 64, GGD(2.0)), "bits = 1.* is outside"),
        (lambda: floating_point(0, GGD(2.0)), "digits = 0.* is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
