"""Every bad input is one clear error that names the argument, the value and the domain."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from flint import acb, arb
from mpmath import mpc, mpf

from theory import domain, ggd
from theory.domain import COUNT, EXTENDED, OPEN_UNIT, POSITIVE, REAL, SHAPE, Domain, accept, check, increasing

FISHER = [0.5, 0.2, Fraction(1, 2), mpf("0.5"), arb(0.5), arb(0.5, 1e-9), sympy.Rational(1, 2)]


@pytest.mark.parametrize(
    "beta",
    [0, 0.0, -1.5, float("nan"), float("inf"), np.float64(0), mpf(0), mpf("nan"), mpf("inf"), arb(0), arb(-1),
     arb(0.1, 0.2), arb(0, 1e-30), arb.nan(), arb.pos_inf(), sympy.Integer(0), sympy.oo, sympy.nan, sympy.I,
     sympy.Symbol("b", negative=True), sympy.Symbol("b", imaginary=True), acb(2, 1)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("f", [ggd.entropy, ggd.alpha, ggd.kurtosis, ggd.kl_to_gaussian, ggd.entropy_power])
def test_out_of_the_shape_domain(f, beta):
    with pytest.raises(ValueError, match=r"^beta = .* is outside \(0, inf\)$"):
        f(beta)


@pytest.mark.parametrize("beta", FISHER, ids=repr)
@pytest.mark.parametrize("f", [ggd.fisher_information, ggd.fisher_excess])
def test_out_of_the_fisher_domain(f, beta):
    with pytest.raises(ValueError, match=r"^beta = .* is outside \(0.5, inf\)$"):
        f(beta)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ggd.entropy([1.0, -2.0, -3.0]), r"beta\[1\] = -2.0 is outside"),
        (lambda: ggd.entropy(np.array([[1.0, 2.0], [np.nan, 1.0]])), r"beta\[1, 0\] = nan is outside"),
        (lambda: ggd.entropy([mpf(1), mpf(-2)]), r"beta\[1\] = -2.0 is outside"),
        (lambda: ggd.entropy([arb(1), arb(0, 1)]), r"beta\[1\] = .* is outside"),
        (lambda: ggd.entropy(2.0, sigma=0), r"sigma = 0.0 is outside \(0, inf\)"),
        (lambda: ggd.pdf(np.inf, 2.0), r"x = inf is outside \(-inf, inf\)"),
        (lambda: ggd.cdf([0.0, np.nan], 2.0), r"x\[1\] = nan is outside"),
        (lambda: ggd.abs_cdf(-1e-300, 2.0), r"x = -1e-300 is outside \[0, inf\)"),
        (lambda: ggd.quantile(1.0, 2.0), r"p = 1.0 is outside \(0, 1\)"),
        (lambda: ggd.quantile(mpf(0), 2.0), r"p = 0.0 is outside \(0, 1\)"),
        (lambda: ggd.quantile(arb(1, 1e-9), 2.0), r"p = .* is outside \(0, 1\)"),
        (lambda: ggd.abs_moment(-1, 2.0), r"k = -1.0 is outside \(-1, inf\)"),
        (lambda: ggd.kl(1.0, 2.0, 1.0, -1.0), r"sigma2 = -1.0 is outside"),
        (lambda: ggd.entropy(2.0, base=1), r"base = 1 is no base"),
        (lambda: check("n", 2.5, COUNT), r"n = 2.5 is outside integers of \[1, inf\)"),
        (lambda: check("n", mpf("2.5"), COUNT), r"n = 2.5 is outside integers of"),
        (lambda: check("n", sympy.Rational(3, 2), COUNT), r"n = 3/2 is outside integers of"),
        (lambda: check("z", mpc(1, 1), REAL), r"z = .* is outside \(-inf, inf\)"),
        (lambda: check("D", 2.0, Domain(0, mpf("0.25"))), r"D = 2.0 is outside \(0, 0.25\)"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "beta", ["1.7", b"1.7", ["1.7"], None, [None], 1j, np.array([1j]), [[1], [1, 2]], 10**400, object()],
    ids=lambda value: type(value).__name__,
)
def test_no_number_is_a_type_error(beta):
    with pytest.raises(TypeError, match=r"(?s)^beta = .* is not a number: "):
        ggd.entropy(beta)
    for companion in (mpf(1), arb(1), sympy.Symbol("sigma")):
        if isinstance(beta, str | bytes):
            with pytest.raises(TypeError, match=r"beta = .* is not a number"):
                ggd.entropy(beta, companion)


def test_what_is_accepted():
    for good in (1, np.int8(2), np.float32(0.5), Fraction(3, 2), True, mpf(1), arb(1, 0.5), sympy.pi):
        check("beta", good, SHAPE)
        accept(beta=(good, SHAPE))
    for free in (sympy.Symbol("b"), sympy.Symbol("b", real=True), sympy.Symbol("b", positive=True)):
        assert accept(beta=(free, SHAPE))[1] == free
    check("x", [-np.inf, 0, np.inf], EXTENDED)
    check("x", [sympy.oo, arb.pos_inf(), mpf("-inf")], EXTENDED)
    check("n", [1, 2.0, mpf(3), arb(4)], COUNT)
    check("p", np.nextafter(1, 0), OPEN_UNIT)
    xp, a, b = accept(a=([1, 2], POSITIVE), b=(np.ones((3, 1), np.float32), POSITIVE))
    assert (xp.name, a.dtype, b.shape) == ("float", np.float64, (3, 1))
    assert accept(a=(np.array([]), POSITIVE))[1].shape == (0,)
    xp, *converted = accept(a=(0.1, REAL), b=(arb(1), REAL))
    assert converted[0].is_exact()


def test_printed_domains():
    names = {"SHAPE": "(0, inf)", "NONNEGATIVE": "[0, inf)", "FISHER_SHAPE": "(0.5, inf)", "OPEN_UNIT": "(0, 1)",
             "LOG_CONCAVE_SHAPE": "[1, inf)", "EXTENDED": "[-inf, inf]", "COUNT": "integers of [1, inf)"}  # fmt: skip
    assert {name: str(getattr(domain, name)) for name in names} == names


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "non-empty"), ([[1, 2]], r"shape \(1, 2\)"), ([1, 1], r"values\[1\] = 1 follows 1"),
     ([1, 2, 1.5], r"values\[2\] = 1.5 follows 2.0"), ([0, np.nan], r"values\[1\] = nan"), (3.0, "1-D"),
     ([arb(1), arb(1, 0.1)], r"values\[1\]")],
)  # fmt: skip
def test_increasing(values, message):
    with pytest.raises(ValueError, match=message):
        increasing("values", values)
    increasing("values", [-1, 0.5, 3])
