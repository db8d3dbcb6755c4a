"""Points of a theorem's hypotheses: drawn so that bounds hold by construction, then checked one and all.

A hypothesis that bounds a variable (``0 < beta``, ``D < sigma ^ 2``, ``P * W <= r``, ``b - a <= 2 * delta``) says
where the variable is drawn from; sums that must be 1 are met by division, sums that may not exceed a number by
scaling. Whatever a draw misses is rejected. Draws are rationals of few digits, ends of closed ranges among them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from flint import arb, fmpq

from theory.lean.evaluator import Evaluator
from theory.lean.operations import Undefined, every, largest, real, smallest
from theory.lean.parser import Node, Statement, free

_SCALES = (fmpq(1, 4), fmpq(1), fmpq(1), fmpq(4))
_TRIES = 60
"""Draws for each point wanted, before the hypotheses count as not to be met."""


def points(
    statement: Statement, evaluator: Evaluator, count: int, seed: str, mild: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield up to `count` assignments of the variables that satisfy every hypothesis, certainly.

    With `mild` no variable is far from its bounds: integrals take long in the far corners.
    """
    rng = random.Random(f"{seed} {statement.name}")
    found = 0
    for _ in range(_TRIES * count):
        env: dict[str, Any] = {}
        try:
            _draw(statement, evaluator, env, rng, mild)
            # A variable made to satisfy an equation does so by construction, up to the radius of its ball.
            met = every(_met(h, evaluator, env) for h in statement.hypotheses)
        except Undefined:
            continue
        if met:
            found += 1
            yield env
            if found == count:
                return


def _met(hypothesis: Node, evaluator: Evaluator, env: dict[str, Any]) -> bool | None:
    verdict = evaluator.holds(hypothesis, env)
    return True if verdict is None and hypothesis[0] == "eq" else verdict


def _draw(statement: Statement, evaluator: Evaluator, env: dict[str, Any], rng: random.Random, mild: bool) -> None:
    bounds, later = _bounds(statement)
    waiting = list(statement.variables)
    while waiting:
        ready = [v for v in waiting if all(free(b[2]) & set(waiting) <= {v} for b in bounds[v])]
        name = (ready or waiting)[0]
        waiting.remove(name)
        kind = statement.variables[name]
        if any(free(b[2]) & {*waiting, name} for b in bounds[name]):
            bounds[name] = [b for b in bounds[name] if not free(b[2]) & {*waiting, name}]
        env[name] = _family(kind, bounds[name], evaluator, env, rng, mild)
        for hypothesis in later:
            if name in free(hypothesis) and not free(hypothesis) & set(waiting):
                _adjust(statement, hypothesis, evaluator, env)


def _family(
    kind: Node, bounds: list[Node], evaluator: Evaluator, env: dict[str, Any], rng: random.Random, mild: bool
) -> Any:
    if kind[0] == "natural":
        return rng.randint(int(any(b[0] in ("above", "from") for b in bounds)), 4)
    if kind[0] == "index":
        size = evaluator.size(kind[1], env)
        if not size:
            raise Undefined("no index")
        return rng.randrange(size)
    if kind[0] == "family":
        return [_family(kind[2], bounds, evaluator, env, rng, mild) for _ in range(evaluator.size(kind[1], env))]
    for side, loops, limit in bounds:
        if side == "equal" and not loops:
            return evaluator.value(limit, env)
        if side == "root" and not loops:
            return real(evaluator.value(limit, env)) ** (arb(1) / 3)
    lows = [v for b in bounds if b[0] in ("above", "from") for v in _limits(b, evaluator, env)]
    highs = [v for b in bounds if b[0] in ("below", "to") for v in _limits(b, evaluator, env)]
    closed = any(b[0] in ("from", "to") for b in bounds) and not any(b[0] in ("above", "below") for b in bounds)
    step = fmpq(rng.randint(4, 12), 8)
    if not mild:
        step = fmpq(0) if closed and rng.random() < 0.2 else fmpq(rng.randint(1, 24), 8) * rng.choice(_SCALES)
    if lows and highs:
        low, high = largest(lows), smallest(highs)
        return low + (high - low) * fmpq(rng.randint(1, 15), 16)
    if lows:
        return largest(lows) + step
    if not mild and rng.random() < 0.1:  # nothing keeps it from 0, where Lean's conventions decide
        return fmpq(0)
    return smallest(highs) - step if highs else fmpq(rng.randint(-24, 24), 8)


def _limits(bound: Node, evaluator: Evaluator, env: dict[str, Any]) -> list[Any]:
    """The bound's value, for every index that it runs over."""
    _, loops, limit = bound
    envs = [env]
    for var, size in loops:
        envs = [{**e, var: i} for e in envs for i in range(evaluator.size(size, e))]
    return [evaluator.value(limit, e) for e in envs]


def _bounds(statement: Statement) -> tuple[dict[str, list[Node]], list[Node]]:
    """For each variable ``(side, loops, limit)``, and the hypotheses that are met by scaling."""
    order = list(statement.variables)
    bounds: dict[str, list[Node]] = {name: [] for name in order}
    later = []
    for hypothesis in statement.hypotheses:
        loops, relation = [], hypothesis
        while relation[0] == "forall":
            loops.append((relation[1][1], relation[2]))
            relation = relation[3]
        indices = {var for var, _ in loops}
        if relation[0] == "both":
            continue
        options = [o for o in _isolated(relation, order) if o[0] not in free(o[2])]
        bare = [o for o in options if o[3]]
        if options:
            name, side, limit, _ = max(bare or options, key=lambda o: order.index(o[0]))
            bounds[name].append((side, [lo for lo in loops if lo[0] in free(limit)] if indices else [], limit))
        else:
            later.append(hypothesis)
    return bounds, later


def _isolated(relation: Node, order: list[str]) -> Iterator[tuple[str, str, Node, bool]]:
    """Ways to read a relation as a bound on one variable: (name, side, limit, whether it stood alone)."""
    head, left, right = relation
    for term, other, sides in ((left, right, ("below", "to")), (right, left, ("above", "from"))):
        side = {"lt": sides[0], "le": sides[1], "eq": "equal"}[head]
        name = _name(term, order)
        if name:
            yield name, side, other, True
        match term:
            case ("div", a, ("number", c)) if _name(a, order):
                yield _name(a, order), side, ("mul", other, ("number", c)), False
            case ("mul", ("number", c), a) if _name(a, order):
                yield _name(a, order), side, ("div", other, ("number", c)), False
            case ("sub", a, b) if _name(a, order):
                yield _name(a, order), side, ("add", other, b), False
            case ("add", a, b) if _name(b, order) and head == "eq":
                yield _name(b, order), side, ("sub", other, a), False
            case ("natural_power", a, ("number", c)) if _name(a, order) and c == 3 and head == "eq":
                yield _name(a, order), "root", other, False


def _name(term: Node, order: list[str]) -> str:
    """The variable that a term is, as it stands or at bound indices."""
    if term[0] == "call" and all(index[0] == "var" for index in term[2:]):
        term = term[1]
    return term[1] if term[0] == "var" and term[1] in order else ""


def _adjust(statement: Statement, hypothesis: Node, evaluator: Evaluator, env: dict[str, Any]) -> None:
    """Scale a family so that its sums are 1, or do not exceed a number."""
    relation, loop = hypothesis, None
    while relation[0] == "forall":
        loop, relation = (relation[1][1], relation[2]), relation[3]
    if relation[1][0] != "total" or relation[2][0] != "number":
        return
    families = [v for v, kind in statement.variables.items() if kind[0] == "family" and v in free(relation[1])]
    if not families:
        return
    name, wanted = families[-1], relation[2][1]
    if relation[0] == "eq":
        def unit(row: list[Any], given: Any) -> list[Any]:
            if not row or given == 0:
                raise Undefined("nothing to divide")
            return [v * wanted / given for v in row]

        if loop is None:
            env[name] = unit(env[name], evaluator.value(relation[1], env))
        else:
            size = evaluator.size(loop[1], env)
            sums = [evaluator.value(relation[1], {**env, loop[0]: i}) for i in range(size)]
            env[name] = [unit(row, s) for row, s in zip(env[name], sums, strict=True)]
        return
    envs = [env] if loop is None else [{**env, loop[0]: i} for i in range(evaluator.size(loop[1], env))]
    sums = [evaluator.value(relation[1], e) for e in envs]
    most = max((abs(real(s)).upper() for s in sums), default=arb(0))
    if most > 0:
        scale = wanted / fmpq(math.ceil(float(most * 64)) + 1, 64)
        env[name] = [v * scale for v in env[name]]
