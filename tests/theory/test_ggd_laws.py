"""The GGD by other roads: printed values, limits, scale laws, scipy.stats.gennorm."""

import math
from itertools import pairwise

import numpy as np
import pytest
from flint import arb
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mpf
from scipy import integrate, stats

from tests import strategies, tolerances
from theory import ggd

close = tolerances.close


@pytest.mark.parametrize(
    ("beta", "h", "kl", "fisher"),
    [(1, "1.942695040889", "0.104400544292", "2"), (1.7, "2.042875985668", "0.004219599513", "1.027456437249"),
     (2, "2.047095585181", "0", "1")],
)  # fmt: skip
def test_printed_values(beta, h, kl, fisher):
    """THEORY.md, section 1, to the last printed digit."""
    for value, text in (
        (ggd.entropy(beta), h),
        (ggd.kl_to_gaussian(beta), kl),
        (ggd.fisher_information(beta), fisher),
    ):
        digits = len(text.partition(".")[2])
        assert abs(value - float(text)) <= 0.5 * 10.0**-digits * (1 + 1e-3) if digits else value == close(float(text))


def test_the_notebooks_entropy_is_wrong_by_the_unit_of_one_term():
    """AUDIT rows 1 to 3: 1/beta is nats."""
    for beta, reported in ((1.3, 0.3405), (1.7, 0.2604), (2.0, 0.2213)):
        a = ggd.alpha(beta)
        as_written = 1 / beta - math.log2(beta / (2 * a * math.gamma(1 / beta)))
        assert ggd.entropy(beta) - as_written == close(reported, abs=5e-5)


@pytest.mark.parametrize(("beta", "low", "high"), [(1.62, 0, 3.5155), (1.86, 3.1545, 9)])
def test_kurtosis_of_the_reported_range(beta, low, high):
    assert low < ggd.kurtosis(beta) < high  # AUDIT row 20


@given(strategies.betas(), strategies.sigmas(), strategies.sigmas(1e-3, 1e3))
def test_scale_laws(beta, sigma, a):
    rel = tolerances.CLOSED_FORM
    h, wide = ggd.entropy(beta, sigma), ggd.entropy(beta, a * sigma)
    assert wide == close(h + math.log2(a), rel=rel, abs=1e-13)
    assert ggd.alpha(beta, a * sigma) == close(a * ggd.alpha(beta, sigma), rel=rel)
    assert ggd.entropy_power(beta, a * sigma) == close(a**2 * ggd.entropy_power(beta, sigma), rel=rel)
    nats = ggd.entropy(beta, sigma, math.e)
    assert ggd.entropy_power(beta, sigma) == close(math.exp(2 * nats) / (2 * math.pi * math.e), rel=1e-12)
    assert ggd.kl(beta, 1.3, sigma, 2 * sigma) == close(ggd.kl(beta, 1.3, 1.0, 2.0), rel=rel, abs=1e-13)
    assert ggd.abs_moment(2, beta, sigma) == close(sigma**2, rel=rel)
    assert ggd.abs_moment(4, beta) == close(ggd.kurtosis(beta), rel=rel)
    if beta > 0.5:
        assert ggd.fisher_information(beta, a) * a**2 == close(ggd.fisher_information(beta), rel=rel)
        assert ggd.fisher_excess(beta, a) * a**2 == close(ggd.fisher_excess(beta), rel=rel)


@given(strategies.betas())
def test_divergence_is_the_entropy_deficit_and_nonnegative(beta):
    gaussian = 0.5 * math.log2(2 * math.pi * math.e)
    assert ggd.kl_to_gaussian(beta) == close(gaussian - ggd.entropy(beta), abs=1e-14)
    assert ggd.kl(beta, 2.0) == close(ggd.kl_to_gaussian(beta), rel=1e-12, abs=tolerances.KL_ABSOLUTE)
    assert ggd.kl(beta, beta, 3.0, 3.0) == close(0, abs=tolerances.KL_ABSOLUTE * (1 + beta))
    assert (ggd.kl_to_gaussian(beta) > 0) == (beta != 2)
    if beta > 0.5:
        assert (ggd.fisher_excess(beta) > 0) == (beta != 2)
        assert ggd.fisher_information(beta) - 1 == close(ggd.fisher_excess(beta), rel=1e-12, abs=1e-14)


def test_entropy_in_other_units():
    assert ggd.entropy(1.3, base=math.e) == close(ggd.entropy(1.3) * math.log(2), rel=1e-15)
    assert ggd.entropy(1.3, base=10) == close(ggd.entropy(1.3) * math.log10(2), rel=1e-15)
    assert ggd.kl_to_gaussian(1.3, base=math.e) == close(ggd.kl_to_gaussian(1.3) * math.log(2), rel=1e-15)
    assert ggd.kl(1.3, 2.5, 1.0, 2.0, 4) == close(ggd.kl(1.3, 2.5, 1.0, 2.0) / 2, rel=1e-15)


@pytest.mark.parametrize("beta", [1e3, 1e5, 1e8])
def test_uniform_limit(beta):
    assert ggd.entropy(beta) == close(math.log2(2 * math.sqrt(3)), abs=40 / beta)
    assert ggd.kurtosis(beta) == close(1.8, abs=40 / beta**2 + 1e-14)
    assert ggd.alpha(beta) == close(math.sqrt(3), abs=5 / beta)
    assert ggd.kl_to_gaussian(beta) == close(0.5 * math.log2(math.pi * math.e / 6), abs=40 / beta)
    assert ggd.cdf(1.0, beta) == close(0.5 + 1 / (2 * math.sqrt(3)), abs=5 / beta)


def test_heavy_limit():
    """beta = 1/2: alpha**2 = Gamma(2)/Gamma(6) = 1/120, kurtosis Gamma(10) Gamma(2)/Gamma(6)**2 = 25.2."""
    assert ggd.alpha(0.5) == close(120**-0.5, rel=1e-14)
    assert ggd.kurtosis(0.5) == close(25.2, rel=1e-14)
    assert ggd.entropy(0.5, base=math.e) == close(2 + math.log(4 / math.sqrt(120)), rel=1e-13)
    assert ggd.fisher_information(0.5 + 1e-9) > 1e8
    assert ggd.kurtosis(0.1) > 1e6
    small = np.linspace(0.02, 0.3, 30)
    assert np.all(np.diff(ggd.kurtosis(small)) < 0)
    assert np.all(np.diff(ggd.entropy(small)) > 0)


@given(st.floats(0.1, 60.0))
@example(2.0)
def test_kurtosis_is_inverted(beta):
    kurtosis = ggd.kurtosis(beta)
    slope = (ggd.kurtosis(beta * 1.0001) - kurtosis) / (1e-4 * kurtosis)  # d ln kurtosis / d ln beta
    assert ggd.beta_from_kurtosis(kurtosis) == close(beta, rel=3e-14 / abs(slope) + 1e-13)


def test_kurtosis_inversion_refuses():
    assert ggd.beta_from_kurtosis(np.array([[6.0, 3.0]])).shape == (1, 2)
    with pytest.raises(ValueError, match=r"kurtosis = 1.8 is outside \(1.8, inf\)"):
        ggd.beta_from_kurtosis(1.8)
    with pytest.raises(ValueError, match="use mpf"):
        ggd.beta_from_kurtosis(1.8 + 1e-14)
    with pytest.raises(TypeError, match="bracket"):
        ggd.beta_from_kurtosis(arb(3))
    assert ggd.beta_from_kurtosis(mpf("1.8") + mpf(2) ** -50) > 1e7


@given(strategies.betas(), strategies.sigmas(0.01, 100.0), st.floats(-8, 8), strategies.probabilities)
def test_against_gennorm(beta, sigma, z, p):
    x, law = z * sigma, stats.gennorm(beta, scale=ggd.alpha(beta, sigma))
    t = abs(x / ggd.alpha(beta, sigma)) ** beta
    rel = tolerances.SCIPY + tolerances.tail(beta, t)
    assert ggd.pdf(x, beta, sigma) == close(law.pdf(x), rel=rel, abs=1e-300)
    assert ggd.cdf(x, beta, sigma) == close(law.cdf(x), rel=rel, abs=1e-300)
    assert 2 * ggd.cdf(-abs(x), beta, sigma) + ggd.abs_cdf(abs(x), beta, sigma) == close(1, rel=1e-14)
    assert ggd.entropy(beta, sigma, math.e) == close(law.entropy(), rel=1e-12, abs=1e-12)
    if abs(p - 0.5) > 1e-3:
        assert ggd.quantile(p, beta, sigma) == close(law.ppf(p), rel=1e-9)


@given(strategies.betas(), strategies.probabilities)
def test_quantile_inverts_cdf(beta, p):
    x = ggd.quantile(p, beta)
    assert ggd.cdf(x, beta) == close(p, rel=1e-12)
    assert ggd.quantile(1 - p, beta) == close(-x, rel=1e-3 if p < 1e-9 else 1e-6, abs=1e-15)


@pytest.mark.parametrize("beta", [0.6, 1.0, 1.7, 2.0, 6.0])
def test_definitions_by_quadrature(beta):
    """Entropy, variance, Fisher information and KL as integrals of `pdf` itself."""
    p, q = (lambda x: ggd.pdf(x, beta, 0.7)), (lambda x: ggd.pdf(x, 1.4, 1.1))

    def integral(f):
        ends = [0, 1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.3, 1, 2, 5, 12, 40]
        return 2 * sum(integrate.quad(f, a, b, limit=200)[0] for a, b in pairwise(ends))

    far = 1e-7
    assert integral(p) == close(1, abs=far)
    assert integral(lambda x: x * x * p(x)) == close(0.49, abs=far)
    assert integral(lambda x: -p(x) * math.log2(p(x)) if p(x) > 0 else 0) == close(ggd.entropy(beta, 0.7), abs=far)
    assert integral(lambda x: p(x) * math.log2(p(x) / q(x)) if p(x) > 0 else 0) == close(
        ggd.kl(beta, 1.4, 0.7, 1.1), abs=far
    )
    if beta >= 1:
        score = lambda x: beta * x ** (beta - 1) / ggd.alpha(beta, 0.7) ** beta  # noqa: E731
        assert integral(lambda x: score(x) ** 2 * p(x)) == close(ggd.fisher_information(beta, 0.7), rel=1e-7)
