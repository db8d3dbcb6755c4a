"""Shannon's lower bound and the gap bounds: closed forms, their order, what they refuse, four arithmetics."""

import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from mpmath import mp, mpf

from tests import strategies, tolerances
from theory import ggd, shannon
from theory.arithmetic import BALL
from theory.sources import GGD, Histogram, ScaleMixture

close = tolerances.close
BY_SOURCE_AND_D = (
    shannon.lower_bound, shannon.gap_fisher_linear, shannon.gap_fisher_log, shannon.gap_fisher_refined,
    shannon.gap_upper_bound,
)  # fmt: skip
FISHER = BY_SOURCE_AND_D[1:4]


def test_printed_values():
    """THEORY.md, section 2."""
    source, D = GGD(1.7), 0.00885
    for value, text in (
        (shannon.gap_fisher_refined(source, D), "0.000175"),
        (shannon.gap_fisher_log(source, D), "0.00653"),
        (shannon.gap_kl(source), "0.00422"),
        (shannon.gap_universal(), "1.0471"),  # printed 1.0472...: the value is 1.04709559
        (shannon.gap_log_concave(), "0.2546"),
    ):
        assert abs(value - float(text)) <= 0.5 * 10.0 ** -len(text.partition(".")[2])
    assert shannon.gap_universal() == close(math.log2(math.sqrt(math.pi * math.e / 2)), rel=1e-15)
    assert shannon.gap_log_concave() == close(0.5 * math.log2(math.pi * math.e / 6), rel=1e-15)
    assert math.log(shannon.gaussian_distortion(3) / shannon.gaussian_distortion(4)) == close(2 * math.log(2))


@given(strategies.sigmas(), strategies.distortions())
def test_gaussian(sigma, D):
    D = D * sigma**2
    rate = shannon.gaussian_rate(D, sigma)
    assert rate == close(0.5 * math.log2(sigma**2 / D), rel=1e-12, abs=1e-15)
    assert shannon.gaussian_distortion(rate, sigma) == close(D, rel=1e-13)
    source = GGD(2.0, sigma)
    assert shannon.lower_bound(source, D) == close(rate, abs=1e-13)
    assert shannon.distortion_lower_bound(source, rate) == close(D, rel=1e-13)
    assert shannon.gap_fisher_refined(source, D) == 0 == shannon.gap_kl(source) == shannon.gap_upper_bound(source, D)


@given(strategies.fisher_betas, strategies.sigmas(), strategies.distortions())
def test_closed_forms_and_their_order(beta, sigma, D):
    source, D = GGD(beta, sigma), D * sigma**2
    J = ggd.fisher_information(beta, sigma)
    c, d, e = (bound(source, D) for bound in FISHER)
    assert c == close(D * J / (2 * math.log(2)), rel=1e-14)
    assert d == close(0.5 * math.log2(1 + D * J), rel=1e-9, abs=1e-15)
    assert e == close(0.5 * math.log2(1 - D / sigma**2 + D * J), rel=1e-9, abs=1e-15)
    assert 0 <= e <= d <= c
    assert (e > 0) == (beta != 2)
    least = shannon.gap_upper_bound(source, D)
    assert least == min(e, shannon.gap_kl(source), *([shannon.gap_log_concave(source)] if beta >= 1 else []))
    h = ggd.entropy(beta, sigma)
    assert shannon.lower_bound(source, D) == close(h - 0.5 * math.log2(2 * math.pi * math.e * D), abs=1e-12)
    assert shannon.gap_kl(source) == ggd.kl_to_gaussian(beta)
    # the bounds are about gaps: with (b), the lower bound comes back up to the Gaussian rate
    assert shannon.lower_bound(source, D) + shannon.gap_kl(source) == close(
        shannon.gaussian_rate(D, sigma), abs=1e-12
    )
    rate = max(shannon.lower_bound(source, D), 0)
    assert shannon.distortion_lower_bound(source, rate) <= D * (1 + 1e-12) or rate == 0


@given(strategies.log_concave_betas)
def test_constants_cover_the_divergence(beta):
    source = GGD(beta)
    assert shannon.gap_kl(source) <= shannon.gap_log_concave(source) <= shannon.gap_universal(source)


def test_arrays():
    D = np.array([[0.001], [0.01]]) * np.ones(3)
    for bound in BY_SOURCE_AND_D:
        grid = bound(GGD(1.3), D)
        assert grid.shape == (2, 3)
        assert grid[1, 2] == close(bound(GGD(1.3), 0.01), rel=1e-15)
    assert shannon.gaussian_rate(D, 2.0).shape == shannon.gaussian_distortion(D).shape == (2, 3)
    assert shannon.distortion_lower_bound(GGD(1.3), [1.0, 2.0]).shape == (2,)


def test_mpmath_and_sympy():
    with mp.workdps(50):
        exact = [bound(GGD(mpf(1.7), mpf(0.5)), mpf(0.0625)) for bound in BY_SOURCE_AND_D]
        rate = shannon.distortion_lower_bound(GGD(mpf(1.7), mpf(0.5)), mpf(3))
        assert shannon.gap_universal(GGD(mpf(2))) == mp.log(mp.pi * mp.e / 2, 2) / 2
    beta, D = sympy.symbols("beta D", positive=True)
    for bound, value in zip(BY_SOURCE_AND_D, exact, strict=True):
        with mp.workdps(30):
            assert abs(bound(GGD(mpf(1.7), mpf(0.5)), mpf(0.0625)) / value - 1) < mpf(10) ** -28
        assert bound(GGD(1.7, 0.5), 0.0625) == close(float(value), rel=1e-13)
        if bound is not shannon.gap_upper_bound:
            formula = bound(GGD(beta, sympy.Rational(1, 2)), D)
            assert formula.free_symbols == {beta, D}
            number = formula.subs({beta: sympy.Rational(1.7), D: sympy.Rational(1, 16)}).evalf(30)
            assert float(number) == close(float(value), rel=1e-15)
    assert shannon.distortion_lower_bound(GGD(1.7, 0.5), 3) == close(float(rate), rel=1e-14)
    with pytest.raises(TypeError, match="needs numbers"):
        shannon.gap_upper_bound(GGD(beta), D)


@pytest.mark.parametrize("number", [arb, mpf, float], ids=lambda f: f.__name__)
def test_a_ball_contains_the_value_whatever_the_source_is_made_of(number):
    """A float beside a ball is taken as exact: the entropy of a float source must not be rounded to float64."""
    source = GGD(number(1.7), number(0.5))
    with mp.workdps(50):
        fine = GGD(mpf(1.7), mpf(0.5))
        for bound in BY_SOURCE_AND_D:
            value, ball = bound(fine, mpf(0.0625)), bound(source, arb(0.0625))
            assert ball.overlaps(BALL.number(value) * arb(1, 1e-45)), bound.__name__
            assert ball.rad() < 1e-12
        value = BALL.number(shannon.distortion_lower_bound(fine, mpf(3)))
        assert shannon.distortion_lower_bound(source, arb(3)).overlaps(value * arb(1, 1e-45))
        for constant in (shannon.gap_universal, shannon.gap_log_concave):
            assert constant(GGD(arb(2))).overlaps(BALL.number(constant(GGD(mpf(2)))) * arb(1, 1e-45))


@pytest.mark.parametrize("bound", BY_SOURCE_AND_D, ids=lambda f: f.__name__)
@pytest.mark.parametrize("D", [0.0, -0.1, 0.26, math.nan, mpf("0.26"), arb(0.25, 0.01), arb(0, 0.1), [0.1, 0.3]])
def test_distortions_refused(bound, D):
    with pytest.raises(ValueError, match=r"D(\[1\])? = .* is outside \(0, 0.25"):
        bound(GGD(1.7, 0.5), D)


def test_the_variance_itself():
    source = GGD(1.7, 0.5)
    assert shannon.lower_bound(source, 0.25) == close(-shannon.gap_kl(source), abs=1e-14)
    assert shannon.gaussian_rate(0.25, 0.5) == 0
    for bound in BY_SOURCE_AND_D[1:]:
        with pytest.raises(ValueError, match=r"D = 0\.25 is outside"):
            bound(source, 0.25)
    with pytest.raises(ValueError, match=r"D/sigma\*\*2 = 4.0 is outside \(0, 1\]"):
        shannon.gaussian_rate(1.0, 0.5)
    for R in (-1e-9, math.nan):
        with pytest.raises(ValueError, match=r"R = .* is outside \[0, inf\)"):
            shannon.gaussian_distortion(R)
        with pytest.raises(ValueError, match=r"R = .* is outside \[0, inf\)"):
            shannon.distortion_lower_bound(source, R)


@pytest.mark.parametrize("beta", [0.5, 0.3, arb(0.5, 0.01), mpf(0.4)], ids=str)
def test_without_fisher_information(beta):
    for bound in FISHER:
        with pytest.raises(ValueError, match=r"beta = .* is outside \(0.5, inf\)"):
            bound(GGD(beta), 0.01)
    if not isinstance(beta, arb):  # the divergence still bounds the gap
        assert shannon.gap_upper_bound(GGD(beta), 0.01) == shannon.gap_kl(GGD(beta))


def test_other_sources():
    for source in (GGD(0.99), GGD(arb(1, 0.01)), ScaleMixture(GGD(2.0), [1.0, 2.0])):
        for bound in (shannon.gap_universal, shannon.gap_log_concave):
            with pytest.raises(ValueError, match="log-concave"):
                bound(source)
    mixture = ScaleMixture(GGD(2.0), [1.0, 3.0])
    gap = 0.5 * math.log2(2 * math.pi * math.e * mixture.variance) - mixture.entropy()
    assert shannon.gap_kl(mixture) == close(gap, abs=1e-12) == shannon.gap_upper_bound(mixture, 0.1)
    assert 0 < gap < 1
    assert shannon.lower_bound(mixture, 0.1) + gap == close(0.5 * math.log2(mixture.variance / 0.1))
    histogram = Histogram([-1, 1], [1, 1])
    for bound in BY_SOURCE_AND_D:
        with pytest.raises(TypeError, match="discrete"):
            bound(histogram, 0.1)
    for bound in (shannon.gap_kl, lambda s: shannon.distortion_lower_bound(s, 1.0)):
        with pytest.raises(TypeError, match="discrete"):
            bound(histogram)
    for bound in FISHER:
        with pytest.raises(TypeError, match="Fisher information of a ScaleMixture"):
            bound(mixture, 0.1)


def test_near_the_gaussian_the_refined_bound_keeps_its_digits():
    with mp.workdps(40):
        value = shannon.gap_fisher_refined(GGD(mpf(1.999)), mpf(0.01))
    assert shannon.gap_fisher_refined(GGD(1.999), 0.01) == close(float(value), rel=tolerances.CLOSED_FORM)
