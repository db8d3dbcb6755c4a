"""Certificates of scalar quantizers: against Lloyd's iteration and Newton's method in mpmath, on closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from tests import strategies
from tests.tolerances import close
from theory import arithmetic, quantizer_balls, scalar
from theory.scalar import lloyd_max, uniform
from theory.sources import GGD

# At 128 bits the balls should keep 25 digits after the cancellation that 1024 levels cost.
DIGITS_25 = 84

# At most: the float64 mse of 1024 levels has lost seven digits, and the codebook is a flat minimum.
FLOAT_MSE = 1e-7
# A centroid in float64 is good to 1e-9 (tolerances.CENTROID); a thousand of them move together: measured 5e-9.
FLOAT_LEVEL = 2e-8


@pytest.fixture(autouse=True)
def bits():
    with ctx.workprec(128):
        yield


def ball(x):
    """An mpf of 50 digits, with its last digits in doubt."""
    return arb(mp.nstr(x, 45)) + arb(0, 1e-42)


class Exact:
    """A GGD's cells by mpmath's own incomplete gamma function; nothing of `theory` in it."""

    def __init__(self, beta):
        self.beta = mpf(beta)
        self.alpha = mp.sqrt(mp.gamma(1 / self.beta) / mp.gamma(3 / self.beta))

    def upper(self, k, x):
        """Moment of order k beyond x >= 0."""
        a = (k + 1) / self.beta
        t = (x / self.alpha) ** self.beta
        return self.alpha**k * mp.gammainc(a, t, mp.inf) / (2 * mp.gamma(1 / self.beta))

    def moment(self, k, lo, hi):
        if lo < 0:
            flipped = (-1) ** k * self.moment(k, max(-hi, mpf(0)), -lo)
            return flipped + (self.moment(k, mpf(0), hi) if hi > 0 else 0)
        return self.upper(k, lo) - (0 if hi == mp.inf else self.upper(k, hi))

    def cells(self, levels, k):
        edges = [-mp.inf, *((a + b) / 2 for a, b in pairwise(levels)), mp.inf]
        return [self.moment(k, a, b) for a, b in pairwise(edges)]

    def mse(self, levels):
        m0, m1, m2 = (self.cells(levels, k) for k in range(3))
        return mp.fsum(c - 2 * x * b + x * x * a for x, a, b, c in zip(levels, m0, m1, m2, strict=True))

    def centroids(self, *levels):
        m0, m1 = self.cells(levels, 0), self.cells(levels, 1)
        return [b / a - x for x, a, b in zip(levels, m0, m1, strict=True)]


# Starting points: rough, and from Lloyd's iteration in the test, not from the solver.
@pytest.mark.parametrize(("beta", "start"), [
    ("2", [-2, -1, 0, 1, 2]), ("1.7", [-1.5, -0.5, 0.5, 1.5]), ("1", [-1.5, 0, 1.5]),
    ("3", [-1.2, 0, 1.2]), ("0.5", [-3, 0, 3]), ("0.625", [-4, -0.8, 0.3, 2]),
])  # fmt: skip
def test_the_balls_hold_the_codebook_at_50_digits(beta, start):
    with mp.workdps(50):
        law, levels = Exact(beta), [mpf(x) for x in start]
        for _ in range(12):  # Lloyd's
            levels = [x + move for x, move in zip(levels, law.centroids(*levels), strict=True)]
        levels = list(mp.findroot(law.centroids, levels, tol=1e-90))
        expected = law.mse(levels)
    found = lloyd_max(GGD(arb(beta)), len(start))
    if float(found.levels[0].mid()) != close(float(levels[0]), rel=1e-9):  # the mirror image
        levels = [-x for x in reversed(levels)]
    for mine, other in zip(found.levels, levels, strict=True):
        assert mine.overlaps(ball(other))
        assert mine.contains(0) or mine.rel_accuracy_bits() > DIGITS_25
    assert found.mse.overlaps(ball(expected))
    assert found.mse.rel_accuracy_bits() > DIGITS_25
    expected_proof = quantizer_balls.OPTIMUM if float(beta) >= 1 else quantizer_balls.LOCAL_MINIMUM
    assert (found.status, found.certificate) == ("converged", expected_proof)


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 1.7, 2.0, 8.0])
@pytest.mark.parametrize("n", [1, 2, 3, 16, 255, 1024])
def test_every_size_is_certified(beta, n):
    certified, floats = lloyd_max(GGD(arb(beta), arb(2)), n), lloyd_max(GGD(beta, 2.0), n)
    assert certified.mse.rel_accuracy_bits() > DIGITS_25
    assert [float(x) for x in certified.levels] == close(floats.levels, abs=FLOAT_LEVEL)
    assert float(certified.mse) == close(floats.mse, rel=FLOAT_MSE)
    assert certified.rate.overlaps(arb(n).log() / arb(2).log())
    # What stationary means, in the balls themselves: no mean value form, no Jacobian.
    edges = np.array([arb.neg_inf(), *certified.thresholds, arb.pos_inf()])
    m0, m1 = (GGD(arb(beta), arb(2)).partial_moment(k, edges[:-1], edges[1:]) for k in (0, 1))
    assert all((x * a - b).contains(0) for x, a, b in zip(certified.levels, m0, m1, strict=True))


def test_two_laplace_levels_in_closed_form():
    found = lloyd_max(GGD(arb(1), arb(3)), 2)
    assert found.levels[1].overlaps(3 / arb(2).sqrt())
    assert found.mse.contains(arb(9) / 2)


def test_two_gaussian_levels_in_closed_form():
    found = lloyd_max(GGD(arb(2)), 2)
    assert found.levels[0].overlaps(-(2 / arb.pi()).sqrt())
    assert found.mse.overlaps(1 - 2 / arb.pi())


def test_published_gaussian_values():
    # Max's table. Its .009497 for 16 levels is a misprint.
    for n, mse in {2: 0.3634, 4: 0.1175, 8: 0.03454}.items():
        assert float(lloyd_max(GGD(arb(2)), n).mse) == close(mse, rel=5e-4)
    assert lloyd_max(GGD(arb(2)), 16).mse.overlaps(arb("0.009501008008") + arb(0, 5e-13))


@pytest.mark.parametrize("design", [lloyd_max, uniform])
def test_a_wide_beta_encloses_all_its_laws(design):
    wide = design(GGD(arb(1.7, 1e-6)), 8)
    for beta in (1.7 - 9e-7, 1.7, 1.7 + 9e-7):
        one = design(GGD(arb(beta)), 8)
        assert wide.mse.contains(one.mse)
        assert all(w.contains(x) for w, x in zip(wide.levels, one.levels, strict=True))
    with pytest.raises(
        ArithmeticError, match=r"no stationary \w+ certified: are the balls of beta and sigma too wide"
    ):
        design(GGD(arb(1.7, 1e-3)), 8)


def test_the_box_itself():
    # The guard digits hide the box of the certificate; here it is looked at before any rounding.
    with ctx.workprec(60):
        _, boxes, _ = quantizer_balls._free_box(
            quantizer_balls._UpperHalf(GGD(arb(1)), 0), np.array([0.3, 1.0, 1.8, 3.0])
        )
    exact = lloyd_max(GGD(arb(1)), 8).levels[4:]
    offsets = [(b.mid() - x) / b.rad() for b, x in zip(boxes, exact, strict=True)]
    assert all(abs(o) < 1 for o in offsets)
    assert max(float(abs(o)) for o in offsets) > 1e-3  # and no box is a thousand times too large


def test_what_is_no_strict_minimum_is_not_certified():
    # For beta < 1 the symmetric codebook of two levels is a saddle.
    a = float(lloyd_max(GGD(1.0), 2).levels[1])
    with pytest.raises(ArithmeticError, match="not near a strict minimum"):
        quantizer_balls.lloyd_max(np.array([-0.63, 0.63]) * a, GGD(arb(0.6)))


@settings(max_examples=12)
@given(strategies.betas(0.4, 8.0), st.integers(2, 24), strategies.sigmas(0.01, 100.0))
def test_a_float64_design_is_certified(beta, n, sigma):
    if 0.97 < beta < 1:  # nearly a saddle
        return
    source = GGD(beta, sigma)
    certified, floats = lloyd_max(source.within(arithmetic.BALL), n), lloyd_max(source, n)
    assert float(certified.mse / sigma**2) == close(float(floats.mse) / sigma**2, rel=1e-10)
    assert uniform(source.within(arithmetic.BALL), n).mse >= certified.mse.lower()
    assert lloyd_max(source.within(arithmetic.BALL), n + 1).mse < certified.mse


def slope(law, offsets, step):
    levels = [step * k for k in offsets]
    m0, m1 = law.cells(levels, 0), law.cells(levels, 1)
    return mp.fsum(k * (x * a - b) for k, x, a, b in zip(offsets, levels, m0, m1, strict=True))


@pytest.mark.parametrize(("beta", "n", "kind", "near"), [
    ("2", 16, "midrise", "0.3352"), ("1.7", 16, "midrise", "0.358"), ("1", 16, "midrise", "0.461"),
    ("2", 8, "midtread", "0.6"), ("0.5", 5, "midtread", "1.7"),
])  # fmt: skip
def test_uniform_steps_at_50_digits(beta, n, kind, near):
    offsets = [mpf(2 * i - n + 1) / 2 if kind == "midrise" else i - n // 2 for i in range(n)]
    with mp.workdps(50):
        law = Exact(beta)
        step = mp.findroot(lambda s: slope(law, offsets, s), mpf(near), tol=1e-90)
        expected = law.mse([step * k for k in offsets])
    found = uniform(GGD(arb(beta)), n, kind)
    assert (found.levels[1] - found.levels[0]).overlaps(ball(step))
    assert found.mse.overlaps(ball(expected))
    assert min(found.mse.rel_accuracy_bits(), (found.levels[1] - found.levels[0]).rel_accuracy_bits()) > DIGITS_25
    assert found.certificate == quantizer_balls.STEP
    with mp.workdps(30):
        rounded = uniform(GGD(mpf(beta)), n, kind)
        assert abs(rounded.mse - expected) < mpf(10) ** -30 * expected
        assert abs(rounded.levels[-1] - step * offsets[-1]) < mpf(10) ** -27


def test_an_offset_too():
    for beta, n in ((0.5, 4), (1.0, 16), (2.0, 5)):
        found, floats = (uniform(source, n, "asymmetric") for source in (GGD(arb(beta)), GGD(beta)))
        assert found.mse.rel_accuracy_bits() > DIGITS_25
        assert float(found.mse) == close(floats.mse, rel=1e-11)
        assert [float(x) for x in found.levels] == close(floats.levels, abs=1e-7)


def test_mpf_levels_have_all_their_digits():
    with mp.workdps(60):
        exact = lloyd_max(GGD(mpf(2)), 6)
    with mp.workdps(30):
        found = lloyd_max(GGD(mpf(2)), 6)
        assert all(isinstance(x, mpf) for x in (*found.levels, *found.thresholds, found.mse, found.rate))
        assert all(abs(a - b) < mpf(10) ** -29 for a, b in zip(found.levels, exact.levels, strict=True))
        assert abs(found.mse / exact.mse - 1) < mpf(10) ** -29
    assert scalar.lloyd_max(GGD(mpf(2)), 6).mse == close(float(exact.mse), rel=1e-15)
