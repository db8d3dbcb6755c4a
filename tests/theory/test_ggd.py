"""The closed forms against quadrature (reference_tables.csv), in four arithmetics; limits and scale laws."""

import math
import re

import mpmath
import numpy as np
import pytest
import sympy
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from tests import strategies, tolerances
from tests.theory import reference_tables
from theory import ggd
from theory.sources import GGD

TABLE = reference_tables.read()
QUANTITIES = sorted(TABLE)


def evaluate(quantity, arguments, number):
    if quantity != "partial_moment":
        return getattr(ggd, quantity)(*map(number, arguments))
    k, lo, hi, beta, sigma = arguments
    lo, hi = (end if math.isinf(end) else number(end) for end in (lo, hi))
    return GGD(number(beta), number(sigma)).partial_moment(int(k), lo, hi)


def reduced(quantity, arguments):
    """beta and |x/alpha|**beta, where the quantity has an x; 0 otherwise."""
    x = {"pdf": 0, "cdf": 0, "abs_cdf": 0, "partial_moment": 2}.get(quantity)
    if x is None:
        return 0.0, 0.0
    beta, sigma = arguments[-2:]
    return beta, abs(arguments[x] / ggd.alpha(beta, sigma)) ** beta


def float_tolerance(quantity, arguments, value):
    if quantity == "kl":
        return tolerances.CLOSED_FORM * abs(value) + tolerances.KL_ABSOLUTE
    if quantity == "entropy":
        return tolerances.CLOSED_FORM * abs(value) + tolerances.ENTROPY_ABSOLUTE
    return tolerances.tail(*reduced(quantity, arguments)) * abs(value)


def test_the_table_is_what_its_script_computes():
    """Two laws again at 20 digits: the committed numbers are those of the committed script."""
    rows = {(q, args): value for q in TABLE for args, value in TABLE[q]}
    seen = 0
    with mp.workdps(30):
        for beta in (0.55, 1.7):
            for name, args, value in reference_tables.rows(beta, 22, 1.2):
                args = tuple(float(v) for v in args)
                assert abs(value - mpf(rows[name, args])) <= mpf(10) ** -18 * abs(value), (name, args)
                seen += 1
    assert seen == 220
    assert len({args[0] for args, _ in TABLE["kurtosis"]}) == len(reference_tables.BETAS)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_float_against_quadrature(quantity):
    for arguments, text in TABLE[quantity]:
        with mp.workdps(50):
            value, got = mpf(text), evaluate(quantity, arguments, float)
            assert abs(mpf(float(got)) - value) <= float_tolerance(quantity, arguments, value), (arguments, got)


@pytest.mark.parametrize("quantity", [q for q in QUANTITIES if q != "partial_moment"])
def test_arrays_give_what_scalars_give(quantity):
    columns = np.array([arguments for arguments, _ in TABLE[quantity]]).T
    scalars = np.array([evaluate(quantity, arguments, float) for arguments, _ in TABLE[quantity]])
    vectorized = getattr(ggd, quantity)(*columns)
    assert vectorized.dtype == np.float64
    np.testing.assert_allclose(vectorized, scalars, rtol=4 * tolerances.EPS, atol=1e-17)
    square = getattr(ggd, quantity)(*columns.reshape(len(columns), 1, -1))
    np.testing.assert_array_equal(square, vectorized[None])


def test_broadcasting():
    x, beta, sigma = np.linspace(-2, 2, 5), np.array([[1.0], [2.0]]), 1.5
    grid = ggd.pdf(x, beta, sigma)
    assert grid.shape == (2, 5)
    assert grid[1, 3] == ggd.pdf(1.0, 2.0, 1.5)
    assert ggd.kl(beta, np.array([1.0, 2.0, 3.0])).shape == (2, 3)
    assert ggd.quantile(0.25, beta).shape == (2, 1)
    assert np.ndim(ggd.entropy(2)) == 0
    assert ggd.entropy([mpf(1), mpf(2)]).shape == (2,)


@pytest.mark.parametrize("dps", [15, 30, 45])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_mpmath_is_right_to_the_last_bit(quantity, dps):
    two_roundings = quantity in ("fisher_excess",)
    for arguments, text in TABLE[quantity][:: 1 if dps == 15 else 3]:
        with mp.workdps(dps):
            got, ulp = evaluate(quantity, arguments, mpf), mpf(2) ** (1 - mp.prec)
        with mp.workdps(60):
            bound = (tolerances.MP_ULPS_TWO_ROUNDINGS if two_roundings else tolerances.MP_ULPS) * ulp
            assert abs(got - mpf(text)) <= bound * abs(mpf(text)), arguments


def tiny(bits):
    return mp.ldexp(1, -bits)


@pytest.mark.parametrize("dps", [15, 30, 50])
@pytest.mark.parametrize(
    "formula",
    [
        lambda: ggd.entropy(mpf(1.7), mpf(0.3), base=10),
        lambda: ggd.kl_to_gaussian(2 + tiny(40)),
        lambda: ggd.fisher_excess(2 - tiny(40)),
        lambda: ggd.quantile(tiny(1400), mpf(1.7)),
        lambda: ggd.quantile(1 - tiny(45), mpf(0.3)),
        lambda: ggd.quantile(0.5 + tiny(40), mpf(20)),
        lambda: ggd.cdf(mpf(-200), mpf(2)),
        lambda: ggd.pdf(mpf(200), mpf(2)),
        lambda: ggd.beta_from_kurtosis(mpf(4)),
        lambda: ggd.beta_from_kurtosis(mpf(1.8125)),
        lambda: ggd.beta_from_kurtosis(1.8 + tiny(50)),
        lambda: GGD(mpf(1.7)).partial_moment(2, 0, tiny(99)),
        lambda: GGD(mpf(1.7)).partial_moment(1, mpf(-8), 8 + tiny(20)),
        lambda: GGD(mpf(1.7)).partial_moment(0, mpf(-1), mp.inf),
        lambda: GGD(mpf(1.7)).partial_moment(0, mpf(1), mpf(-2)),
    ],
)
def test_mpmath_against_more_digits(formula, dps):
    """Where digits cancel or a tail is deep; the arguments are dyadic, the same at every precision."""
    with mp.workdps(dps):
        got, ulp = formula(), mpf(2) ** (1 - mp.prec)
    with mp.workdps(90):
        value = formula()
        assert abs(got - value) <= tolerances.MP_ULPS * ulp * abs(value)


def test_mpmath_arrays_and_exact_zeros():
    column = [mpf(1), mpf("1.7"), mpf(2)]
    for f in (ggd.kl_to_gaussian, ggd.fisher_excess, ggd.kurtosis, ggd.alpha):
        assert list(f(column)) == [f(beta) for beta in column]
    assert list(ggd.cdf([mpf(-1), mpf(1)], mpf(2))) == [ggd.cdf(mpf(s), mpf(2)) for s in (-1, 1)]
    assert list(ggd.quantile([mpf("0.1"), mpf("0.5")], mpf(1))) == [ggd.quantile(mpf("0.1"), mpf(1)), 0]
    assert list(ggd.beta_from_kurtosis([mpf(3), mpf(6)])) == [2, 1]
    assert ggd.kl_to_gaussian(mpf(2)) == 0 == ggd.fisher_excess(mpf(2), mpf(3))


def ball_scale(quantity, arguments, value):
    """The size of what is added up in a result: a ball cannot be sharper than rounding that."""
    beta, t = reduced(quantity, arguments)
    sigma = arguments[-1]
    if quantity in ("kl", "kl_to_gaussian", "entropy"):
        return value + 1
    if quantity == "fisher_excess":
        return value + sigma**-2
    if quantity == "pdf":
        return value * (1 + beta * t)
    if quantity in ("cdf", "abs_cdf"):
        return value + 1
    if quantity == "partial_moment":
        return value + sigma ** arguments[0]
    if quantity == "quantile":  # of the upper incomplete gamma function, absolutely sharp
        return value * max(1, min(tolerances.BALL_TAIL, 1 / min(arguments[0], 1 - arguments[0])))
    return value


@pytest.mark.parametrize("prec", [53, 120])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_balls_contain_the_value_and_are_not_absurd(quantity, prec):
    before = ctx.prec
    for arguments, text in TABLE[quantity][:: 1 if prec == 53 else 3]:
        try:
            ctx.prec = prec
            ball = evaluate(quantity, arguments, arb)
            ctx.prec = 300
            value = arb(text).mid()
            width = ball.rad() * arb(2) ** prec
            # the table's own last digit
            assert (ball + arb(0, 2e-49) * value).contains(value), arguments
            assert width <= tolerances.BALL_WIDTH * ball_scale(quantity, arguments, abs(value)), (
                arguments,
                str(ball),
            )
        finally:
            ctx.prec = before


@given(strategies.betas(0.55), st.floats(0, 1), st.floats(1e-6, 0.02), strategies.sigmas(0.01, 100.0))
def test_a_ball_with_radius_contains_the_values_of_its_points(beta, where, radius, sigma):
    ball = arb(beta, radius * beta)
    inside = mpf(beta) + (2 * mpf(where) - 1) * radius * beta
    x = arb(0.7 * sigma, radius * sigma)
    x_inside = mpf(0.7 * sigma) - mpf(where) * radius * sigma
    with mp.workdps(40):
        pairs = [
            (f(ball, arb(sigma)), f(inside, mpf(sigma)))
            for f in (ggd.alpha, ggd.entropy, ggd.entropy_power, ggd.fisher_information, ggd.fisher_excess)
        ]
        pairs += [(f(x, ball, arb(sigma)), f(x_inside, inside, mpf(sigma))) for f in (ggd.pdf, ggd.cdf)]
        pairs += [(ggd.kl(ball, arb(2), arb(1)), ggd.kl(inside, mpf(2)))]
        for enclosure, value in pairs:
            assert enclosure.is_finite()
            assert enclosure.contains(_exact(value)), (enclosure, value)


def _exact(value):
    sign, mantissa, exponent, _ = value._mpf_
    return arb(((-1) ** sign * int(mantissa), exponent))


@pytest.mark.parametrize("text", ["0.3", "0.9", "1.7", "5.3"])
def test_balls_of_decimal_strings(text):
    with mp.workdps(40):
        beta = mpf(text)
        for name in ("alpha", "entropy", "entropy_power", "kl_to_gaussian", "kurtosis"):
            assert getattr(ggd, name)(arb(text)).contains(_exact(getattr(ggd, name)(beta))), name
        for p in ("1e-40", "0.1", "0.4999999999", "0.8"):
            ball = ggd.quantile(arb(p), arb(text), arb("1e-50"))
            assert ball.contains(_exact(ggd.quantile(mpf(p), beta, mpf("1e-50")))), p


def test_balls_about_zero():
    around = arb(0, 1e-3)
    for x in (-1e-3, 0.0, 2e-4, 1e-3):
        for beta in ("0.5", "1", "1.7"):
            assert ggd.cdf(around, arb(beta)).contains(_exact(ggd.cdf(mpf(x), mpf(beta))))
            assert ggd.pdf(around, arb(beta)).contains(_exact(ggd.pdf(mpf(x), mpf(beta))))
    assert ggd.cdf(around, arb("1.7")).rad() < 1e-3
    assert ggd.cdf(arb(0), arb("1.7")) == 0.5
    assert ggd.quantile(arb(0.5), arb("1.7")) == 0
    median = ggd.quantile(arb(0.5, 1e-10), arb("1.7"))
    assert median.contains(0)
    assert median.contains(_exact(ggd.quantile(0.5 + mpf("9e-11"), mpf("1.7"))))
    assert median.rad() < 1e-9
    with pytest.raises(ArithmeticError, match="too wide"):
        ggd.quantile(arb(0.25, 0.2), arb("1.7"))


@pytest.mark.parametrize("beta", [0.6, 1.0, 1.7, 6.0])
@pytest.mark.parametrize("p", [1e-9, 0.01, 0.2, 0.375, 0.7, 0.99])
def test_a_wide_ball_of_probabilities_holds_its_quantiles_or_is_refused(beta, p):
    held = 0
    for relative in (1e-6, 1e-3, 0.03, 0.1, 0.3, 0.6):
        width = relative * min(p, 1 - p)
        for beta_width in (0.0, 1e-3 * relative):
            try:
                ball = ggd.quantile(arb(p, width), arb(beta, beta_width))
            except ArithmeticError:
                continue
            held += 1
            with mp.workdps(30):
                for side in (-0.999, 0.999):
                    inside = ggd.quantile(mpf(p) + side * mpf(width), mpf(beta) + side * mpf(beta_width))
                    assert ball.overlaps(_exact(inside) * arb(1, 1e-28))
    assert held >= 6


RATIONALS = [sympy.Rational(13, 10), sympy.Rational(17, 10), sympy.Rational(3), sympy.Rational(3, 4)]


@pytest.mark.parametrize(
    ("name", "others"),
    [("alpha", ()), ("entropy", ()), ("entropy_power", ()), ("kl_to_gaussian", ()), ("kurtosis", ()),
     ("fisher_information", ()), ("fisher_excess", ()), ("abs_moment", (3,)), ("pdf", (sympy.Rational(1, 3),)),
     ("cdf", (sympy.Rational(-1, 3),)), ("cdf", (sympy.Rational(1, 3),)), ("abs_cdf", (2,))],
)  # fmt: skip
def test_sympy_formula_evaluates_to_the_same_digits(name, others):
    beta = sympy.Symbol("beta", positive=True)
    formula = getattr(ggd, name)(*others, beta)
    assert formula.free_symbols == {beta}
    assert not re.search(r"\d\.\d", sympy.latex(formula))
    for value in RATIONALS:
        with mp.workdps(30):
            numbers = [mpf(v.p) / v.q for v in map(sympy.Rational, (*others, value))]
            number = getattr(ggd, name)(*numbers)
            assert mpmath.almosteq(mpf(str(formula.subs(beta, value).evalf(35))), number, mpf(10) ** -28), value


def test_sympy_kl_is_the_formula():
    b1, b2 = sympy.symbols("beta1 beta2", positive=True)
    with mp.workdps(30):
        value = ggd.kl(b1, b2).subs({b1: sympy.Rational(17, 10), b2: sympy.Rational(13, 10)}).evalf(35)
        assert mpmath.almosteq(mpf(str(value)), ggd.kl(mpf("1.7"), mpf("1.3")), mpf(10) ** -28)


def test_sympy_proves_the_classical_cases():
    x = sympy.Symbol("x", real=True)
    sigma = sympy.Symbol("sigma", positive=True)
    gaussian = sympy.exp(-(x**2) / (2 * sigma**2)) / (sigma * sympy.sqrt(2 * sympy.pi))
    laplace = sympy.exp(-sympy.sqrt(2) * abs(x) / sigma) / (sympy.sqrt(2) * sigma)
    for beta, density, fisher in ((2, gaussian, 1), (1, laplace, 2)):
        beta = sympy.Integer(beta)
        assert sympy.simplify(ggd.pdf(x, beta, sigma) - density) == 0
        assert sympy.simplify(2 * sympy.integrate(ggd.pdf(x, beta, sigma), (x, 0, sympy.oo)) - 1) == 0
        assert sympy.simplify(ggd.fisher_information(beta, sigma) * sigma**2 - fisher) == 0
        assert sympy.simplify(ggd.abs_moment(2, beta, sigma) - sigma**2) == 0
    h = ggd.entropy(sympy.Integer(2), sigma, base=sympy.E)
    assert sympy.simplify(sympy.expand_log(h - sympy.log(2 * sympy.pi * sympy.E * sigma**2) / 2, force=True)) == 0
    h = ggd.entropy(sympy.Integer(1), sigma, base=sympy.E)
    assert sympy.simplify(sympy.expand_log(h - 1 - sympy.log(sympy.sqrt(2) * sigma), force=True)) == 0
    assert sympy.simplify(sympy.expand_log(ggd.kl_to_gaussian(sympy.Integer(2)), force=True)) == 0
    with pytest.raises(TypeError, match="closed form"):
        ggd.quantile(sympy.Rational(1, 3), sympy.Integer(2))
