"""The closed forms of the GGD, derived by sympy from the density alone, for every beta at once."""

import pytest
import sympy
from sympy import Abs, Rational, S, diff, exp, gamma, integrate, log, oo, pi, simplify

from theory import ggd, lattices, shannon
from theory.sources import GGD

x, alpha, sigma = sympy.symbols("x alpha sigma", positive=True)
beta, k = sympy.symbols("beta k", positive=True)

# What makes it a law: everything but the normalization, which the first test derives.
KERNEL = exp(-((x / alpha) ** beta))
TOTAL = 2 * integrate(KERNEL, (x, 0, oo))


def mean(f):
    """E f(|X|)."""
    return 2 * integrate(f * KERNEL, (x, 0, oo), conds="none") / TOTAL


def same(a, b):
    """Whether two formulas agree identically; alpha and sigma are tied by the variance."""
    difference = sympy.expand_log(sympy.gammasimp(a - b), force=True)
    return simplify(difference.rewrite(gamma)) == 0


def with_scale(formula):
    return formula.subs(alpha, ggd.alpha(beta, sigma))


def test_normalization():
    density = with_scale(KERNEL / TOTAL)
    assert same(density / ggd.pdf(x, beta, sigma), S.One)


def test_variance_is_sigma_squared():
    assert same(with_scale(mean(x**2)), sigma**2)


@pytest.mark.parametrize("order", [1, Rational(1, 2), 3, 4])
def test_moments(order):
    assert same(with_scale(mean(x**order)) / ggd.abs_moment(order, beta, sigma), S.One)


def test_kurtosis():
    assert same(mean(x**4) / mean(x**2) ** 2 / ggd.kurtosis(beta), S.One)


def test_entropy_in_nats():
    """-E ln p = ln(normalization) + E|X/alpha|**beta: the second term is 1/beta, in nats."""
    power = mean((x / alpha) ** beta)
    assert same(power, 1 / beta)
    assert same(with_scale(log(TOTAL) + power), ggd.entropy(beta, sigma, base=sympy.E))


def test_entropy_in_bits_divides_every_term():
    assert same(ggd.entropy(beta, sigma) * log(2), ggd.entropy(beta, sigma, base=sympy.E))


def test_fisher_information():
    """J = E (d ln p/dx)**2, for beta > 1/2."""
    score = diff(-((x / alpha) ** beta), x)
    assert same(with_scale(mean(score**2)) / ggd.fisher_information(beta, sigma), S.One)


def test_divergence_is_the_entropy_deficit():
    gaussian = log(2 * pi * sympy.E * sigma**2) / 2
    assert same(ggd.kl_to_gaussian(beta, base=sympy.E), gaussian - ggd.entropy(beta, sigma, base=sympy.E))


def test_divergence_between_two():
    """KL(p1||p2) = -h(p1) - E_1 ln p2, with the moment of order beta2 under p1."""
    other, wide = sympy.symbols("beta2 sigma2", positive=True)
    cross = -log(ggd.pdf(0, other, wide)) + ggd.abs_moment(other, beta, sigma) / ggd.alpha(other, wide) ** other
    expected = cross - ggd.entropy(beta, sigma, base=sympy.E)
    numbers = {beta: Rational(13, 10), other: Rational(9, 4), sigma: Rational(2, 3), wide: Rational(5, 4)}
    found = ggd.kl(beta, other, sigma, wide, base=sympy.E)
    assert abs((found - expected).subs(numbers).evalf(50)) < S(10) ** -45


def test_refined_bound_is_the_forward_channel():
    """1/2 ln((1 + theta J) D/theta) at theta = D sigma^2/(sigma^2 - D) is 1/2 ln(1 + D (J - 1/sigma^2))."""
    D, J = sympy.symbols("D J", positive=True)
    theta = D * sigma**2 / (sigma**2 - D)
    assert simplify((1 + theta * J) * D / theta - 1 - D * (J - 1 / sigma**2)) == 0
    a = 1 - D / sigma**2
    assert simplify((1 - a) ** 2 * sigma**2 + a**2 * theta - D) == 0
    bound = shannon.gap_fisher_refined(GGD(beta, S.One), D)
    assert same(sympy.exp(2 * bound * log(2)), 1 + D * (ggd.fisher_information(beta, S.One) - 1))


def test_limits():
    assert sympy.limit(lattices.sphere_bound(k), k, oo) == 1 / (2 * pi * sympy.E)
    assert sympy.limit(ggd.kurtosis(beta), beta, oo) == Rational(9, 5)
    assert simplify(ggd.kurtosis(S(2)) - 3) == 0
    assert simplify(ggd.kurtosis(S.One) - 6) == 0
    assert Abs(sympy.limit(ggd.entropy(beta), beta, oo) - log(2 * sympy.sqrt(3)) / log(2)).evalf(30) < S(10) ** -25
