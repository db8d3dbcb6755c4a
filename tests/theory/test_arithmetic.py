"""The four arithmetics: choice, conversion without loss, guard digits, units."""

import math
from decimal import Decimal
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from flint import acb, arb, ctx, fmpq, fmpz
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import special

from tests.tolerances import close
from theory import arithmetic
from theory.arithmetic import BALL, FLOAT, MPMATH, SYMPY, elementwise, guarded, midpoint, of, total


@pytest.mark.parametrize(
    ("values", "name"),
    [((1, 2.0, np.float32(1)), "float"), ((np.arange(3),), "float"), ((Fraction(1, 3), [1, 2]), "float"),
     ((1.0, mpf(2)), "mpmath"), (([1.0, mpf(2)],), "mpmath"), ((np.array([[mpf(1)]], dtype=object),), "mpmath"),
     ((mpf(1), arb(2)), "ball"), ((acb(1, 1),), "ball"), (([arb(1), mpf(2)], 3), "ball"),
     ((arb(1), sympy.Symbol("x")), "sympy"), ((sympy.pi,), "sympy"), ((), "float"), (([],), "float")],
)  # fmt: skip
def test_the_most_demanding_argument_chooses(values, name):
    assert of(*values).name == name


@given(st.fractions())
def test_rationals_convert_without_loss(q):
    exact = fmpq(q.numerator, q.denominator)
    assert BALL.number(q).contains(arb(exact).mid())
    assert (BALL.number(q) * q.denominator).contains(q.numerator)
    assert SYMPY.number(q) == sympy.Rational(q.numerator, q.denominator)
    assert MPMATH.number(q) == mpf(q.numerator) / q.denominator
    assert FLOAT.number(q) == float(q)


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_floats_and_mpfs_are_exact_balls(x):
    assert BALL.number(x) == arb(x) == BALL.number(mpf(x)) == BALL.number(np.float64(x))
    assert midpoint(arb(x)) == x


@pytest.mark.parametrize("bits", [10, 53, 400])
def test_conversion_keeps_every_bit_at_any_precision(bits):
    with mp.workprec(400):
        x = mpf(1) / 3
    with mp.workprec(bits):
        assert BALL.number(x).is_exact()
        assert midpoint(BALL.number(x)) == x
    assert BALL.number(10**40 + 1) == arb(fmpz(10**40 + 1))


def test_special_values_and_other_numbers():
    assert BALL.number(mpf("inf")) == arb.pos_inf() == BALL.number(np.inf)
    assert BALL.number(mpf("nan")).is_nan()
    assert BALL.number(fmpq(1, 3)).contains(BALL.number(Fraction(1, 3)))
    third = np.longdouble(1) / 3
    assert (BALL.number(third) - arb(1) / 3).abs_upper() < arb(2) ** -52
    assert FLOAT.number(Decimal("0.5")) == 0.5
    assert FLOAT.number([Fraction(1, 2), 3]).tolist() == [0.5, 3.0]
    assert type(FLOAT.number(3)) is np.float64
    assert SYMPY.number(2.0) == sympy.Integer(2)
    assert SYMPY.number(np.float64(-4.0)).is_Integer


@pytest.mark.parametrize("bad", ["1.7", b"2", None, 1j, [1, "2"], [None], np.array([1j])])
def test_no_number(bad):
    with pytest.raises(TypeError):
        FLOAT.number(bad)


FUNCTIONS = {"log": 1, "log1p": 1, "exp": 1, "expm1": 1, "sqrt": 1, "abs": 1, "sign": 1, "gamma": 1, "loggamma": 1,
             "digamma": 1, "minimum": 2, "maximum": 2, "power": 2, "gammainc": 2, "gammaincc": 2}  # fmt: skip


@pytest.mark.parametrize(("name", "arity"), FUNCTIONS.items())
def test_every_function_means_the_same_in_every_arithmetic(name, arity):
    for a, b in ((0.375, 2.25), (3.5, 0.125), (1.0, 1.5)):
        args = (a, b)[:arity]
        reference = getattr(MPMATH, name)(*map(mpf, args))
        assert getattr(FLOAT, name)(*args) == close(float(reference), rel=1e-13, abs=1e-15)
        assert getattr(BALL, name)(*map(arb, args)).overlaps(BALL.number(reference) * arb(1, 2.0**-50))
        symbolic = getattr(SYMPY, name)(*(sympy.Rational(v) for v in args))
        assert float(symbolic.evalf(30)) == close(float(reference), rel=1e-14, abs=1e-15)
        column = np.array([mpf(a), mpf(2 * a)], dtype=object)
        assert getattr(MPMATH, name)(column, *map(mpf, args[1:]))[0] == reference


def test_ratios_of_gammas_and_constants():
    for xp, number in ((FLOAT, float), (MPMATH, mpf), (BALL, arb), (SYMPY, sympy.Integer)):
        ratio = xp.gammas([number(5), number(2)], [number(3), number(3)])
        assert float(ratio) == close(6.0, rel=1e-14)
        assert float(xp.pi()) == close(math.pi, rel=1e-15)
        assert xp.infinity > number(10) ** 300
    assert FLOAT.gammas([500.0], [499.0]) == close(499.0, rel=1e-11)  # Gamma(500) is no float64
    with mp.workdps(40):
        assert abs(MPMATH.pi() - mp.pi) < mpf(10) ** -39


@pytest.mark.parametrize("u", [0.05, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("p", [1e-250, 1e-30, 0.2, 0.5, 0.9, 1 - 2.0**-40])
def test_gamma_root(u, p):
    """P(u, t) = p with t**u returned: where t underflows, and in both tails."""
    with mp.workdps(40):
        root = MPMATH.gamma_root(mpf(u), mpf(p), 1 - mpf(p))
        t = root ** (1 / mpf(u))
        assert mp.gammainc(u, 0, t, regularized=True) == close(mpf(p), rel=1e-30)
    assert FLOAT.gamma_root(u, p, 1 - p) == close(float(root), rel=1e-13)
    ball = BALL.gamma_root(arb(u), arb(p), 1 - arb(p))
    assert ball.overlaps(BALL.number(root) * arb(1, 1e-38))
    assert FLOAT.gammainc_of_power(u, float(root), 1 / u) == close(p, rel=1e-12)


def test_balls_that_reach_below_zero_stand_for_magnitudes():
    x = arb(0, 0.25)
    assert BALL.power(x, arb("1.7")).contains(arb(0.25) ** arb("1.7"))
    assert BALL.power(x, arb("1.7")).contains(0)
    for t in (0.0, 0.1, 0.25):
        assert BALL.gammainc(arb("0.6"), x).contains(arb(special.gammainc(0.6, t)) * arb(1, 1e-14))
        assert BALL.gammaincc(arb("0.6"), x).contains(arb(special.gammaincc(0.6, t)) * arb(1, 1e-14))
    assert BALL.gammainc(arb(2), arb.pos_inf()) == 1
    assert BALL.gammaincc(arb(2), arb.pos_inf()) == 0
    assert BALL.gammaincc(arb(2), arb(0)) == 1


def test_guard_digits_round_once():
    @guarded(40)
    def cancelling(x):
        return (1 + x) - 1

    x = mpf(2) ** -60
    assert cancelling(x) == x
    assert cancelling(x=x) == x
    assert cancelling(2.0**-60) == 0.0
    third = guarded(64)(lambda x: x / 3)
    assert third(mpf(1)) == mpf(1) / 3
    assert third(np.array([mpf(1)], dtype=object))[0] == mpf(1) / 3
    before = mp.prec
    with pytest.raises(ZeroDivisionError):
        guarded(8)(lambda x: x / mpf(0))(mpf(1))
    assert mp.prec == before


def test_elementwise_and_total():
    double = elementwise(lambda x, y: x * y)
    assert double(2, 3) == 6
    assert double(np.array([mpf(1), mpf(2)], dtype=object), mpf(3)).tolist() == [3, 6]
    assert total([1, 2]) == 3.0
    assert total([mpf(1), mpf(2)]) == 3
    assert total([arb(1), arb(2)]) == 3
    assert total(np.ones((2, 3))).tolist() == [3.0, 3.0]
    assert total(sympy.symbols("a b")) == sympy.Add(*sympy.symbols("a b"))
    with mp.workprec(100):
        assert arithmetic.epsilon() == mpf(2) ** -99
    assert isinstance(midpoint(arb(1)), mpmath.mpf)
    assert ctx.prec == 53
