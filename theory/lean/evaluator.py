r"""The terms of a Lean statement in ball arithmetic, with Lean's conventions (a / 0 = 0, log 0 = 0).

Rational values stay rational (``fmpq``), so that what arithmetic alone decides is decided, also where both sides are
equal. Integrals run over u = ln x, by ``acb.integral``, which encloses; where the integrand is cut off it is below
2**-`_CUT` of its peak, and the tails beyond are bounded by a geometric series of the ratio found there: an estimate,
for no term tells how it decays. The digits of an integral rest on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flint import acb, arb, ctx, fmpq

from theory.lean.operations import (
    FUNCTIONS,
    Undefined,
    applied,
    arithmetic,
    decide,
    every,
    largest,
    modulus,
    number,
    power,
    real,
    smallest,
)
from theory.lean.parser import Node, Statement

Env = Mapping[str, Any]

BITS = 160
"""Working precision: 25 digits are 84 bits, and the cancellations in a KL divergence cost some."""
_CUT = 96
_STRAIGHT = {"add", "sub", "mul", "div"}


class Evaluator:
    """Values of terms over the definitions of the project; `stand_ins` replace some by an equal function."""

    def __init__(self, definitions: Mapping[str, Statement], stand_ins: Mapping[str, Callable[..., Any]]) -> None:
        self.definitions, self.stand_ins = definitions, stand_ins
        self._known: dict[Any, Any] = {}

    def value(self, node: Node, env: Env) -> Any:
        """The value of a term: ``fmpq``, ``arb`` (``acb`` on a contour), int, a list, or a function."""
        match node:
            case ("number", x):
                return x
            case ("var", name):
                return self._variable(name, env)
            case ("call", ("var", name), *args):
                return self._call(name, [self.value(a, env) for a in args], env)
            case (head, a, b) if head in _STRAIGHT:
                return arithmetic(head, self.value(a, env), self.value(b, env))
            case ("neg", a):
                return -number(self.value(a, env))
            case ("cast", a):
                return number(self.value(a, env))
            case ("natural_power", a, b):
                exponent = self.value(b, env)
                if isinstance(exponent, fmpq):
                    exponent = int(exponent.p)
                if not isinstance(exponent, int):
                    raise Undefined(f"the exponent {b[1]} is no natural number")
                return number(self.value(a, env)) ** exponent
            case ("real_power", a, b):
                return power(self.value(a, env), self.value(b, env))
            case ("modulus", a):
                return modulus(number(self.value(a, env)))
            case ("total", var, size, body):
                return sum((number(v) for v in self._over(var, size, body, env)), fmpq(0))
            case ("prod", var, size, body):
                product: Any = fmpq(1)
                for v in self._over(var, size, body, env):
                    product = product * number(v)
                return product
            case ("maximum", var, size, body):
                return self._extreme(largest, var, size, body, env)
            case ("minimum", var, size, body):
                return self._extreme(smallest, var, size, body, env)
            case ("over_line", var, body):
                return self._ray(var[1], body, env, 1) + self._ray(var[1], body, env, -1)
            case ("over_ray", var, start, body):
                if self.value(start, env) != 0:
                    raise Undefined("an integral over a half line starts at 0 in this dialect")
                return self._ray(var[1], body, env, 1)
            case ("over_interval", var, low, high, body):
                return self._interval(var[1], body, env, real(self.value(low, env)), real(self.value(high, env)))
            case ("table", *entries):
                return [self.value(e, env) for e in entries]
        raise Undefined(f"no term: {node[0]}")

    def holds(self, node: Node, env: Env) -> bool | None:
        """Whether a relation holds: True, False, or None where the balls do not decide."""
        match node:
            case ("both", a, b):
                return every(self.holds(part, env) for part in (a, b))
            case ("forall", var, size, body):
                return every(self.holds(body, {**env, var[1]: i}) for i in range(int(self.size(size, env))))
            case (relation, a, b):
                return decide(relation, self.value(a, env), self.value(b, env))
        raise Undefined(f"no relation: {node[0]}")

    def size(self, node: Node, env: Env) -> int:
        value = self.value(node, env)
        return int(value.p) if isinstance(value, fmpq) else value

    def _over(self, var: Node, size: Node, body: Node, env: Env) -> list[Any]:
        return [self.value(body, {**env, var[1]: i}) for i in range(self.size(size, env))]

    def _extreme(self, choose: Callable[[Any], Any], var: Node, size: Node, body: Node, env: Env) -> Any:
        values = self._over(var, size, body, env)
        if any(isinstance(v, acb) for v in values):  # the branch that is taken on the real part of the contour
            shadow = {k: v.real if isinstance(v, acb) else v for k, v in env.items()}
            shadows = self._over(var, size, body, shadow)
            chosen = choose(shadows)
            best = [v for v, s in zip(values, shadows, strict=True) if decide("eq", s, chosen) is not False]
            return best[0] if len(best) == 1 else acb("nan")
        return choose(values) if values else fmpq(0)

    def _variable(self, name: str, env: Env) -> Any:
        if name in env:
            return env[name]
        if name == "Real.pi":
            return arb.pi()
        if name.endswith(".castSucc"):
            return env[name.removesuffix(".castSucc")]
        if name.endswith(".succ"):
            return env[name.removesuffix(".succ")] + 1
        if name in self.definitions:
            return self._call(name, [], env)
        raise Undefined(f"unknown name {name}")

    def _call(self, name: str, args: list[Any], env: Env) -> Any:
        if name in env:
            return applied(env[name], args)
        if name in FUNCTIONS:
            return self._once(name, args, lambda: FUNCTIONS[name](*args))
        if name not in self.definitions:
            raise Undefined(f"unknown name {name}")
        definition = self.definitions[name]
        if len(args) < len(definition.variables):
            return lambda a: self._call(name, [*args, a], env)
        arity = len(definition.variables)
        args, rest = args[:arity], args[arity:]

        def compute() -> Any:
            if name in self.stand_ins:
                return self.stand_ins[name](*args)
            return self.value(definition.body, dict(zip(definition.variables, args, strict=True)))

        return applied(self._once(name, args, compute), rest)

    def _once(self, name: str, args: list[Any], compute: Callable[[], Any]) -> Any:
        """Remember what depends on rational arguments: within an integral, alpha and Gamma(1/beta)."""
        if not all(isinstance(a, fmpq | int) for a in args):
            return compute()
        key = (name, ctx.prec, *args)
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _ray(self, var: str, body: Node, env: Env, sign: int, last: arb | None = None) -> arb:
        """Over x > 0, or x < `last`, or their negatives, with x = exp(u)."""

        def integrand(u: Any) -> Any:
            x = u.exp()
            return real(self.value(body, {**env, var: sign * x})) * x

        def magnitude(u: float) -> arb:
            return abs(integrand(arb(u)))

        end = None if last is None else last.log()
        nodes = [u / 4 for u in range(-40, 41) if end is None or u / 4 < end]
        peak, top = max((float(magnitude(u).mid()), u) for u in nodes or [float(end.lower()) - 1])  # type: ignore[union-attr]
        cut = arb(peak or 1) * arb(2) ** -_CUT
        ends, tails = [], arb(0)
        for direction in (-1, 1) if end is None else (-1,):
            u, step = top + direction, 1.0
            while not magnitude(u) < cut:
                u, step = u + direction * step, min(step * 1.25, 16)
                if abs(u) > 20000:
                    raise Undefined("the integrand does not decay")
            at, before = magnitude(u), magnitude(u - direction * 0.25)
            # Where rounding is all that is left of the integrand, its bound serves as it is.
            tails += at / (1 - at / before) if before > at else at.upper()
            ends.append(arb(u))
        return _enclosed(integrand, ends[0], ends[1] if end is None else end, cut) + arb(0, tails.upper())

    def _interval(self, var: str, body: Node, env: Env, low: arb, high: arb) -> arb:
        if low == 0 and high > 0:
            return self._ray(var, body, env, 1, high)
        return _enclosed(lambda x: real(self.value(body, {**env, var: x})), low, high, arb(2) ** -_CUT)


def _enclosed(f: Callable[[Any], Any], low: arb, high: arb, error: arb) -> arb:
    value = acb.integral(_analytic(f), acb(low), acb(high), rel_tol=arb(2) ** -_CUT, abs_tol=error).real
    if not value.is_finite():
        raise Undefined("the integral was not enclosed")
    return value


def _analytic(f: Callable[[Any], Any]) -> Callable[[acb, bool], acb]:
    def of(z: acb, analytic: bool) -> acb:
        try:
            # On the segment itself the term is real, and |x| and min need no one branch.
            return acb(f(z if analytic or z.imag != 0 else z.real))
        except (Undefined, ZeroDivisionError):
            return acb("nan")

    return of
