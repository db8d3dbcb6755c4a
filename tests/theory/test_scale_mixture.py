"""Scale mixtures: by quadrature, by drawing, and the two entropies between which the mixture's lies."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate, stats

from tests import strategies, tolerances
from theory import ggd
from theory.sources import GGD, Histogram, ScaleMixture, Source

close = tolerances.close


@given(strategies.scale_mixtures(), st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 2))
def test_averages_over_the_rows(mixture, lo, hi, k):
    rows = [GGD(mixture.source.beta, s) for s in mixture.scales]
    mean = lambda f: math.fsum(w * float(f(row)) for w, row in zip(mixture.weights, rows, strict=True))  # noqa: E731
    moment = mixture.partial_moment(k, lo, hi)
    assert moment == close(mean(lambda row: row.partial_moment(k, lo, hi)), rel=1e-12, abs=1e-12)
    assert mixture.pdf(lo) == close(mean(lambda row: row.pdf(lo)), rel=1e-11, abs=1e-300)
    assert mixture.cdf(lo) == close(mean(lambda row: row.cdf(lo)), rel=1e-11)
    assert mixture.variance == close(mean(lambda row: row.variance), rel=1e-13)
    assert mixture.variance == close(mixture.partial_moment(2, -np.inf, np.inf), rel=1e-13)
    assert mixture.conditional_entropy() == close(mean(lambda row: row.entropy()), abs=1e-13)
    assert mixture.partial_moment(k, [lo, -1.0], [[hi], [2.0]]).shape == (2, 2)
    assert isinstance(mixture, Source)
    assert mixture.continuous


@given(strategies.scale_mixtures(), strategies.probabilities)
def test_quantile_inverts_cdf(mixture, p):
    x = mixture.quantile(p)
    assert mixture.cdf(x) == close(p, rel=tolerances.MIXTURE_QUANTILE, abs=1e-15)
    assert mixture.quantile([[p, 0.5]])[0, 1] == close(0, abs=1e-12)


@settings(max_examples=15)
@given(strategies.scale_mixtures())
def test_entropy_between_the_conditional_and_the_gaussian(mixture):
    h, rounding = mixture.entropy(), 2 * tolerances.MIXTURE_ENTROPY
    assert mixture.conditional_entropy() <= h + rounding
    assert h <= 0.5 * math.log2(2 * math.pi * math.e * mixture.variance) + rounding
    assert mixture.entropy(math.e) == close(h * math.log(2), abs=1e-12)
    weights = mixture.weights  # h(X) <= h(X|S) + H(S)
    assert h <= mixture.conditional_entropy() - float(weights @ np.log2(weights)) + rounding


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 1.7, 2.0, 8.0, 20.0])
def test_entropy_of_one_row_is_the_closed_form(beta):
    assert ScaleMixture(GGD(beta), [3.0]).entropy() == close(ggd.entropy(beta, 3.0), abs=tolerances.MIXTURE_ENTROPY)
    assert ScaleMixture(GGD(beta, 0.2), [0.1, 0.1], [1, 3]).entropy(math.e) == close(
        ggd.entropy(beta, 0.02, math.e), abs=tolerances.MIXTURE_ENTROPY
    )


@pytest.mark.parametrize(
    ("beta", "scales", "weights"),
    [(1.7, (0.5, 1.0, 2.5), (1, 2, 3)), (0.6, (1.0, 30.0), (3, 1)), (4.0, (1e-3, 1), (1, 1))],
)
def test_entropy_by_mpmath(beta, scales, weights):
    """An independent integral: its own density, its own change of variable, at 25 digits."""
    with mp.workdps(25):
        b = mpf(beta)
        alpha = mp.sqrt(mp.gamma(1 / b) / mp.gamma(3 / b))
        rows = [(mpf(w) / sum(weights), mpf(s) * alpha) for s, w in zip(scales, weights, strict=True)]

        def p(x):
            return mp.fsum(w * b / (2 * a * mp.gamma(1 / b)) * mp.exp(-((x / a) ** b)) for w, a in rows)

        def integrand(u):  # x = exp(u)
            x = mp.exp(u)
            density = p(x)
            return -x * density * mp.log(density)

        far = mp.log(alpha * max(scales)) + mp.log(130) / b
        cuts = [mp.log(alpha * min(scales)) - 60 + i for i in range(0, 60, 12)]
        n = int((far - cuts[-1]) / 0.7) + 1
        cuts += [cuts[-1] + (far - cuts[-1]) * i / n for i in range(1, n + 1)]
        nats = 2 * mp.fsum(mp.quad(integrand, [u, v]) for u, v in pairwise(cuts))
    h = ScaleMixture(GGD(beta), scales, weights).entropy(math.e)
    assert h == close(float(nats), abs=tolerances.MIXTURE_ENTROPY)


def test_against_draws_and_quadrature():
    mixture = ScaleMixture(GGD(1.4), [0.3, 1.0, 4.0], [2, 5, 1])
    rng = np.random.default_rng(1)
    n = 200_000
    scale = rng.choice(mixture.scales, n, p=mixture.weights)
    x = scale * stats.gennorm(1.4, scale=ggd.alpha(1.4)).rvs(n, random_state=rng)
    assert mixture.cdf(0.7) == close((x <= 0.7).mean(), abs=5e-3)
    assert mixture.variance == close((x**2).mean(), rel=0.05)
    assert mixture.quantile(0.9) == close(np.quantile(x, 0.9), rel=0.02)
    surprise = -np.log2(mixture.pdf(x))
    assert mixture.entropy() == close(surprise.mean(), abs=5 * surprise.std() / math.sqrt(n))
    for k in (0, 1, 2):
        value = integrate.quad(lambda t, k=k: t**k * mixture.pdf(t), -0.5, 1.25, points=[0], epsabs=1e-13)[0]
        assert mixture.partial_moment(k, -0.5, 1.25) == close(value, abs=1e-9)


def test_nearly_equal_scales_and_refusals():
    near = ScaleMixture(GGD(2.0), [1.0, 1.0 + 2.0**-52])
    p = np.array([1e-300, 1e-9, 0.3, 0.4999, 0.5, 0.7, 1 - 2.0**-53])
    np.testing.assert_allclose(near.quantile(p), ggd.quantile(p, 2.0), rtol=1e-12)
    for bad, message in ((([],), "not empty"), ((2.0,), "1-D"), (([1, -2.0],), r"scales\[1\]"),
                         (([1, np.nan],), r"scales\[1\]"), (([1, 2.0], [1]), "alike"),
                         (([1, 2.0], [1, 0]), r"weights\[1\]")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ScaleMixture(GGD(2.0), *bad)
    discrete = ScaleMixture(Histogram([-1, 0, 2], [1, 2, 1]), [1.0, 3.0])
    assert discrete.partial_moment(0, 2.0, 6.0) == 0.125
    assert not discrete.continuous
    for ask in (discrete.entropy, discrete.conditional_entropy, lambda: discrete.quantile(0.5)):
        with pytest.raises(TypeError, match="continuous source"):
            ask()
