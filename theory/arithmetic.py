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
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import sympy
from flint import acb, arb, fmpq, fmpz
from mpmath import mp
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
    if isinstance(x, int | np.integer | fmpz | fmpq):
        return arb(int(x)) if isinstance(x, int | np.integer) else arb(x)
    return arb(float(x))


def midpoint(ball: arb) -> mpmath.mpf:
    """Return the midpoint of a ball, exactly, as an mpf.

    >>> midpoint(arb(3) / 2)
    mpf('1.5')
    """
    mantissa, exponent = ball.mid().man_exp()
    return mpmath.ldexp(mpmath.mpf(int(mantissa)), int(exponent))


def _to_sympy(x: Any) -> sympy.Expr:
    # 2.0 is meant as 2 in a formula: sigma=1.0 must not print as a decimal.
    return sympy.Integer(int(x)) if isinstance(x, float) and x.is_integer() else sympy.sympify(x)


def _elementwise(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as it is on scalars, and element by element where an argument is an array."""

    @functools.wraps(f)
    def apply(*args: Any) -> Any:
        if any(isinstance(a, np.ndarray) for a in args):
            return np.frompyfunc(f, len(args), 1)(*args)
        return f(*args)

    return apply


def _namespace(name: str, number: Callable[[Any], Any], **functions: Any) -> SimpleNamespace:
    whole = ("gammas", "pi")  # take tuples, or nothing
    wrapped = {k: _elementwise(f) if callable(f) and k not in whole else f for k, f in functions.items()}
    return SimpleNamespace(name=name, number=_elementwise(number), **wrapped)


def _gammas(gamma: Callable[[Any], Any]) -> Callable[..., Any]:
    """``gammas(above, below)``: a product of Gamma functions over another, the ratio in most GGD formulas."""
    gamma = _elementwise(gamma)
    return lambda above, below: math.prod(map(gamma, above)) / math.prod(map(gamma, below))


def _float_gammas(above: tuple[Any, ...], below: tuple[Any, ...]) -> Any:
    # Through logarithms: Gamma(5/beta) overflows float64 for beta < 0.03 although the ratio does not.
    return np.exp(sum(map(special.gammaln, above)) - sum(map(special.gammaln, below)))


def _float_number(x: Any) -> Any:
    return np.asarray(x, dtype=np.float64)[()]


FLOAT = SimpleNamespace(
    name="float",
    number=_float_number,
    log=np.log, log1p=np.log1p, exp=np.exp, expm1=np.expm1, sqrt=np.sqrt, abs=np.abs, sign=np.sign,
    minimum=np.minimum, maximum=np.maximum,
    gamma=special.gamma, loggamma=special.gammaln, digamma=special.digamma,
    gammainc=special.gammainc, gammaincc=special.gammaincc,
    gammas=_float_gammas, pi=lambda: np.pi, infinity=np.inf,
)  # fmt: skip

MPMATH = _namespace(
    "mpmath",
    mp.mpf,
    log=mp.log, log1p=mp.log1p, exp=mp.exp, expm1=mp.expm1, sqrt=mp.sqrt, abs=abs, sign=mp.sign,
    minimum=min, maximum=max,
    gamma=mp.gamma, loggamma=mp.loggamma, digamma=mp.digamma,
    gammainc=lambda a, x: mp.gammainc(a, 0, x, regularized=True),
    gammaincc=lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
    gammas=_gammas(mp.gamma), pi=lambda: +mp.pi, infinity=mp.inf,
)  # fmt: skip


def _ball_gammainc(a: arb | acb, x: arb | acb) -> arb | acb:
    if x == 0:
        return arb(0)
    if isinstance(x, arb) and not x.is_finite() and x > 0:
        return arb(1)
    return x.gamma_lower(a, 1)


def _ball_gammaincc(a: arb | acb, x: arb | acb) -> arb | acb:
    if x == 0:
        return arb(1)
    if isinstance(x, arb) and not x.is_finite() and x > 0:
        return arb(0)
    return x.gamma_upper(a, 1)


BALL = _namespace(
    "ball",
    _to_arb,
    log=lambda x: x.log(), log1p=lambda x: x.log1p(), exp=lambda x: x.exp(), expm1=lambda x: x.expm1(),
    sqrt=lambda x: x.sqrt(), abs=abs, sign=lambda x: x.sgn(),
    minimum=lambda x, y: x.min(y), maximum=lambda x, y: x.max(y),
    gamma=lambda x: x.gamma(), loggamma=lambda x: x.lgamma(), digamma=lambda x: x.digamma(),
    gammainc=_ball_gammainc, gammaincc=_ball_gammaincc,
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
            return +result if isinstance(result, mpmath.mpf) else result

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
