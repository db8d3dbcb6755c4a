"""One formula, four arithmetics: the type of the arguments chooses which.

==============  =======================================  =============================================
arithmetic      chosen by                                what a result is
==============  =======================================  =============================================
``FLOAT``       int, float, numpy scalar or array        float64, vectorized, broadcasting
``MPMATH``      ``mpmath.mpf``                           correct to ``mp.prec`` (guard digits inside)
``BALL``        ``flint.arb``, ``flint.acb``             a ball that contains the true value
``SYMPY``       ``sympy.Expr``                           the formula itself
==============  =======================================  =============================================

A formula in `theory` begins with ``xp, beta, sigma = ...`` (see `theory.domain.accept`) and uses only
``xp.log``, ``xp.gamma`` and their like. The functions below work element by element on object arrays of
``mpf``, ``arb`` or symbols, so that a sum over the levels of a codebook is also written once.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import sympy
from flint import acb, arb, ctx, fmpq, fmpz
from mpmath import mp
from mpmath.libmp import from_man_exp
from scipy import special

Number = Any
"""float, float64 array, mpf, arb (acb inside contour integrals) or sympy expression."""


def _mpf_to_arb(x: mpmath.mpf) -> arb:
    sign, mantissa, exponent, _ = x._mpf_
    if not mantissa and exponent:  # mpmath encodes nan and infinities with a zero mantissa
        return arb.nan() if mpmath.isnan(x) else arb(float(x))
    return arb(((-1) ** sign * int(mantissa), int(exponent)))


def _to_arb(x: Any) -> arb | acb:
    if isinstance(x, arb | acb):
        return x
    if isinstance(x, mpmath.mpf):
        return _mpf_to_arb(x)
    if isinstance(x, fmpz | fmpq):
        return arb(x)
    if isinstance(x, numbers.Integral):
        return arb(int(x))
    # arb(float(Fraction(1, 3))) would be a ball without a third in it.
    if isinstance(x, numbers.Rational):
        return arb(fmpq(int(x.numerator), int(x.denominator)))
    if isinstance(x, np.longdouble) and np.isfinite(x):
        return arb(fmpq(*map(int, x.as_integer_ratio())))
    return arb(_plain_float(x))


def midpoint(ball: arb) -> mpmath.mpf:
    """Return the midpoint of a ball, exactly, as an mpf.

    >>> midpoint(arb(3) / 2)
    mpf('1.5')
    """
    mantissa, exponent = ball.mid().man_exp()
    return mp.make_mpf(from_man_exp(int(mantissa), int(exponent)))


def _to_mpf(x: Any) -> mpmath.mpf:
    return mp.mpf(x.numerator) / x.denominator if isinstance(x, numbers.Rational) else mp.mpf(x)


def _to_sympy(x: Any) -> sympy.Expr:
    # 2.0 is meant as 2 in a formula: sigma=1.0 must not print as a decimal.
    return sympy.Integer(int(x)) if isinstance(x, float) and x.is_integer() else sympy.sympify(x)


def elementwise(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as it is on scalars, and element by element where an argument is an array."""

    @functools.wraps(f)
    def apply(*args: Any) -> Any:
        if any(isinstance(a, np.ndarray) for a in args):
            return np.frompyfunc(f, len(args), 1)(*args)
        return f(*args)

    return apply


def _namespace(name: str, number: Callable[[Any], Any], **functions: Any) -> SimpleNamespace:
    whole = ("gammas", "pi")  # take tuples, or nothing
    wrapped = {k: elementwise(f) if callable(f) and k not in whole else f for k, f in functions.items()}
    return SimpleNamespace(name=name, number=elementwise(number), **wrapped)


def _gammas(gamma: Callable[[Any], Any]) -> Callable[..., Any]:
    """``gammas(above, below)``: a product of Gamma functions over another, the ratio in most GGD formulas."""
    gamma = elementwise(gamma)
    return lambda above, below: math.prod(map(gamma, above)) / math.prod(map(gamma, below))


def _float_gammas(above: tuple[Any, ...], below: tuple[Any, ...]) -> Any:
    # Through logarithms: Gamma(5/beta) overflows float64 for beta < 0.03 although the ratio does not.
    return np.exp(sum(map(special.gammaln, above)) - sum(map(special.gammaln, below)))


def _plain_float(x: Any) -> float:
    return math.ldexp(x, 0)  # as float(x), but text and None are no numbers


def _float_number(x: Any) -> Any:
    values = np.asarray(x)
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)[()]
    return np.asarray(np.frompyfunc(_plain_float, 1, 1)(values.astype(object)), dtype=np.float64)[()]


def _float_power(x: Any, y: Any) -> Any:
    with np.errstate(over="ignore"):  # infinity is what exp(-x**y) and P(a, x**y) want then
        return np.power(x, y)


def _float_gammainc_of_power(a: Any, x: Any, y: Any) -> Any:
    t = _float_power(x, y)
    with np.errstate(over="ignore"):
        small = np.power(x, a * y) / special.gamma(1 + a)  # t**a / Gamma(1 + a), where t underflows
    return np.where(t < 1e-290, small, special.gammainc(a, t))[()]


def _float_gamma_root(u: Any, p: Any, q: Any) -> Any:
    t = np.where(q < 0.5, special.gammainccinv(u, q), special.gammaincinv(u, p))
    # t**u = p Gamma(1 + u) (1 + O(t)): where t underflows, its power need not.
    return np.where(t < 1e-20, p * special.gamma(1 + u), t**u)


FLOAT = SimpleNamespace(
    name="float",
    number=_float_number,
    log=np.log, log1p=np.log1p, exp=np.exp, expm1=np.expm1, sqrt=np.sqrt, abs=np.abs, sign=np.sign,
    minimum=np.minimum, maximum=np.maximum,
    gamma=special.gamma, loggamma=special.gammaln, digamma=special.digamma,
    gammainc=special.gammainc, gammaincc=special.gammaincc, gamma_root=_float_gamma_root, power=_float_power,
    gammainc_of_power=_float_gammainc_of_power,
    gammas=_float_gammas, pi=lambda: np.pi, infinity=np.inf,
)  # fmt: skip


def _mp_gamma_root(u: mpmath.mpf, p: mpmath.mpf, q: mpmath.mpf) -> mpmath.mpf:
    if p == 0:
        return mp.zero
    lower, inverse = p < 0.5, special.gammaincinv if p < 0.5 else special.gammainccinv
    start = float(inverse(float(u), float(p if lower else q)))
    with mp.workprec(mp.prec + 32):
        # Newton's method in s = ln t. ln P is concave in it and -ln Q convex, so that from these starting
        # points (below the root for P; nearly the root for Q) no step leaves the basin.
        if lower and start < 1e-9:
            s = (mp.log(p) + mp.loggamma(1 + u)) / u
        elif not lower and not 1 < start < 600:
            s = mp.log(-mp.log(q) + (u - 1) * mp.log(-mp.log(q)) - mp.loggamma(u)) if q < 1e-99 else mp.log(start)
        else:
            s = mp.log(start)
        for _ in range(200):
            t = mp.exp(s)
            mass = mp.gammainc(u, 0, t, True) if lower else mp.gammainc(u, t, mp.inf, True)
            slope = mp.exp(u * s - t - mp.loggamma(u)) / mass
            step = mp.log((p if lower else q) / mass) / slope
            s += step if lower else -step
            if abs(step) < mp.ldexp(1, -mp.prec // 2 - 16):
                return mp.exp(u * s)
    raise ArithmeticError(f"no convergence to t with P({u}, t) = {p}")


MPMATH = _namespace(
    "mpmath",
    _to_mpf,
    log=mp.log, log1p=mp.log1p, exp=mp.exp, expm1=mp.expm1, sqrt=mp.sqrt, abs=abs, sign=mp.sign,
    minimum=min, maximum=max,
    gamma=mp.gamma, loggamma=mp.loggamma, digamma=mp.digamma,
    gammainc=lambda a, x: mp.gammainc(a, 0, x, regularized=True),
    gammaincc=lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
    gamma_root=_mp_gamma_root, power=lambda x, y: x**y,
    gammainc_of_power=lambda a, x, y: mp.gammainc(a, 0, x**y, regularized=True),
    gammas=_gammas(mp.gamma), pi=lambda: +mp.pi, infinity=mp.inf,
)  # fmt: skip


def _ball_gammainc(a: Any, x: Any) -> Any:
    if x == 0:
        return arb(0)
    if isinstance(x, arb) and not x.is_finite() and x > 0:
        return arb(1)
    if isinstance(x, arb) and x.contains(0):  # P increases from 0
        return arb(0).union(arb(x.abs_upper()).gamma_lower(a, 1))
    return x.gamma_lower(a, 1)


def _ball_gammaincc(a: Any, x: Any) -> Any:
    if x == 0:
        return arb(1)
    if isinstance(x, arb) and not x.is_finite() and x > 0:
        return arb(0)
    if isinstance(x, arb) and x.contains(0):
        return arb(1).union(arb(x.abs_upper()).gamma_upper(a, 1))
    return x.gamma_upper(a, 1)


def _ball_power(x: Any, y: Any) -> Any:
    if isinstance(x, arb) and x.contains(0) and not x.is_exact():  # x means a magnitude: its power is 0 or more
        return arb(0).union(arb(x.abs_upper()) ** y)
    return x**y


def _ball_gamma_root(u: Any, p: Any, q: Any) -> Any:
    if p == 0:
        return p
    if p.contains(0):
        largest = arb(p.abs_upper())
        return arb(0).union(_ball_gamma_root(u, largest, 1 - largest))
    lower = bool(p < 0.5)
    with mp.workprec(ctx.prec + 32):
        guess = _to_arb(_mp_gamma_root(midpoint(u), midpoint(p), midpoint(q)) ** (1 / midpoint(u)))
    miss = _ball_gammainc(u, guess) - p if lower else q - _ball_gammaincc(u, guess)

    def image(box: Any) -> Any:
        return guess - miss * (box - (u - 1) * box.log() + u.lgamma()).exp()

    # Interval Newton: when the image of a box lies inside the box, the box holds exactly one root and the
    # image holds it too. The box grows until that is so.
    width = 2 * (image(guess) - guess).abs_upper() + guess * arb(2) ** (8 - ctx.prec)
    for _ in range(64):
        box = guess + arb(0, width.abs_upper())
        found = image(box)
        if found.is_finite() and box.contains(found):
            return found**u
        width *= 2
    raise ArithmeticError("quantile: the ball of p, beta or sigma is too wide to enclose the root")


BALL = _namespace(
    "ball",
    _to_arb,
    log=lambda x: x.log(), log1p=lambda x: x.log1p(), exp=lambda x: x.exp(), expm1=lambda x: x.expm1(),
    sqrt=lambda x: x.sqrt(), abs=abs, sign=lambda x: x.sgn(),
    minimum=lambda x, y: x.min(y), maximum=lambda x, y: x.max(y),
    gamma=lambda x: x.gamma(), loggamma=lambda x: x.lgamma(), digamma=lambda x: x.digamma(),
    gammainc=_ball_gammainc, gammaincc=_ball_gammaincc, gamma_root=_ball_gamma_root, power=_ball_power,
    gammainc_of_power=lambda a, x, y: _ball_gammainc(a, _ball_power(x, y)),
    gammas=_gammas(lambda x: x.gamma()), pi=arb.pi, infinity=arb.pos_inf(),
)  # fmt: skip

SYMPY = _namespace(
    "sympy",
    _to_sympy,
    log=sympy.log, log1p=lambda x: sympy.log(1 + x), exp=sympy.exp, expm1=lambda x: sympy.exp(x) - 1,
    sqrt=sympy.sqrt, abs=sympy.Abs, sign=sympy.sign, minimum=sympy.Min, maximum=sympy.Max,
    gamma=sympy.gamma, loggamma=sympy.loggamma, digamma=sympy.digamma,
    gammainc=lambda a, x: sympy.lowergamma(a, x) / sympy.gamma(a),
    gammaincc=lambda a, x: sympy.uppergamma(a, x) / sympy.gamma(a),
    power=lambda x, y: x**y, gammainc_of_power=lambda a, x, y: sympy.lowergamma(a, x**y) / sympy.gamma(a),
    gammas=_gammas(sympy.gamma), pi=lambda: sympy.pi, infinity=sympy.oo,
)  # fmt: skip


def _kind(x: Any) -> int:
    if (isinstance(x, np.ndarray) and x.dtype == object) or isinstance(x, list | tuple):
        return max((_kind(item) for item in np.ravel(np.asarray(x, dtype=object))), default=0)
    if isinstance(x, mpmath.mpf):
        return 1
    if isinstance(x, arb | acb):
        return 2
    return 3 if isinstance(x, sympy.Basic) else 0


_BY_KIND = (FLOAT, MPMATH, BALL, SYMPY)


def of(*values: Any) -> SimpleNamespace:
    """Return the arithmetic that the most demanding of `values` calls for.

    The order is float64 < mpmath < ball < sympy: a float given beside a ball is taken as exact.

    Examples
    --------
    >>> of(1.7).name, of(1.7, mpmath.mpf(2)).name, of(arb(2)).name, of(sympy.Symbol("beta")).name
    ('float', 'mpmath', 'ball', 'sympy')
    """
    return _BY_KIND[max(map(_kind, values), default=0)]


def guarded(bits: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a formula: mpmath arguments are worked on with `bits` more bits, rounded once at the end."""

    def decorate(formula: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(formula)
        def call(*args: Any, **kwargs: Any) -> Any:
            if max(map(_kind, (*args, *kwargs.values())), default=0) != 1:
                return formula(*args, **kwargs)
            with mp.workprec(mp.prec + bits):
                result = formula(*args, **kwargs)
            return +result if isinstance(result, mpmath.mpf | np.ndarray) else result

        return call

    return decorate


def total(values: Any) -> Any:
    """Sum over the last axis, in the arithmetic of the values (pairwise in float64).

    >>> total(np.array([0.5, 0.25]))
    0.75
    """
    values = np.asarray(values)
    return float(values.sum()) if values.dtype != object and values.ndim == 1 else values.sum(axis=-1)


def epsilon() -> mpmath.mpf:
    """Return mpmath's rounding unit at the precision in force."""
    return mp.mpf(2) ** (1 - mp.prec)
