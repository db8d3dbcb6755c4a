"""The Lean statements held to the Python: parsed, evaluated in ball arithmetic, compared.

`run` reads ``lean/QuantGap/*.lean``. Each definition must equal its Python counterpart to 25 digits, each theorem
must hold at sampled points of its hypotheses, and each claim of `theory.claims` must name a declaration whose
statement has the recorded hash and, where both are closed forms, the same two sides. That is evidence about the
statements and says nothing of their proofs: one point where a theorem fails refutes it, points where it holds do not
prove it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq

from theory.claims import CLAIMS, Claim, Setting
from theory.lean import claims, counterparts, outside, rules, sampling
from theory.lean.evaluator import BITS, Evaluator
from theory.lean.operations import Undefined, decide, real
from theory.lean.parser import Declaration, LeanError, Node, Statement, declarations, expression, parse, status
from theory.lean.report import Failure, Report, Row

SOURCE = Path(__file__).parents[1] / "lean"
DIGITS = 25
MAX_UNDECIDED = 0.5
"""Largest share of a theorem's points that may stay undecided: with one component, or weight, many are equalities."""


def run(
    lean: Path | str = SOURCE, only: Collection[str] | None = None, samples: int = 24, seed: str = "quantgap"
) -> Report:
    """Hold the Lean statements to the Python.

    Parameters
    ----------
    lean : path
        Folder of the Lean project: ``QuantGap/*.lean`` and ``STATUS.toml``.
    only : collection of str, optional
        Declarations and claims to evaluate; the rules of the source are checked for all of them in any case.
    samples : int
        Points a statement; statements with integrals are evaluated at 2.
    seed : str
        Of the draws.

    Returns
    -------
    Report

    Raises
    ------
    LeanError
        If the folder holds no Lean declarations (a ValueError).

    Examples
    --------
    >>> report = run(only=["variance", "variance_eq"])
    >>> report.ok, [(row.name, row.points, row.undecided) for row in report.rows]
    (True, [('variance', 24, 0), ('variance_eq', 24, 0)])
    """
    failures: list[Failure] = []
    rows: list[Row] = []
    with ctx.workprec(BITS):
        check = _Check(Path(lean), samples, seed, failures)
        for name, declaration in check.declared.items():
            if only is None or name in only:
                rows += check.row(declaration)
        for claim in CLAIMS.values():
            if only is None or claim.id in only:
                check.claim(claim)
    return Report(tuple(rows), tuple(failures))


class _Check:
    def __init__(self, folder: Path, samples: int, seed: str, failures: list[Failure]) -> None:
        self.samples, self.seed, self.failures = samples, seed, failures
        self.declared: dict[str, Declaration] = {}
        self.status: dict[str, dict[str, Any]] = {}
        self.statements: dict[str, Statement] = {}
        try:
            self.declared, self.status = declarations(folder), status(folder)
        except LeanError as error:
            self._fail(error.kind, error.declaration, error.message)
        for broken in rules.broken(folder, self.declared, self.status):
            self._fail(*broken)
        for name, entry in self.status.items():
            for id in set(entry.get("claims", ())) - CLAIMS.keys():
                self._fail("claim", name, f"STATUS.toml names the claim {id}, which the registry lacks")
        for name, declaration in self.declared.items():
            if self._entry(name).get("dialect") != "outside":
                try:
                    self.statements[name] = parse(declaration)
                except LeanError as error:
                    self._fail(error.kind, error.declaration, error.message)
        definitions = {n: s for n, s in self.statements.items() if s.kind == "def"}
        self.integrals = {n for n, s in definitions.items() if _integral(s.body)}
        self.evaluator = Evaluator(definitions, counterparts.STAND_INS)
        # A definition that has a stand-in is itself evaluated as the Lean has it.
        self.own = {n: Evaluator(definitions, {k: v for k, v in counterparts.STAND_INS.items() if k != n})
                    for n in counterparts.STAND_INS}  # fmt: skip

    def _entry(self, name: str) -> Mapping[str, Any]:
        return self.status.get(name, {})

    def _fail(self, kind: str, declaration: str, message: str) -> None:
        self.failures.append(Failure(kind, declaration, message))

    def row(self, declaration: Declaration) -> Iterator[Row]:
        name = declaration.name
        if name not in self.statements:
            if self._entry(name).get("dialect") == "outside":
                yield self._outside(declaration)
            return
        statement = self.statements[name]
        if declaration.kind == "theorem":
            yield self._points(statement, "theorem", lambda env: self._relations(statement.body, env))
        elif name in counterparts.COUNTERPARTS:
            yield self._definition(name, counterparts.COUNTERPARTS[name])
        elif name in counterparts.NO_COUNTERPART:
            yield Row(name, "def", 0, 0, 0, note=counterparts.NO_COUNTERPART[name])
        else:
            self._fail("definition", name, "has neither a Python counterpart nor a reason for having none")

    def _definition(self, name: str, other: counterparts.Counterpart) -> Row:
        text = f"theorem {name} {other.binders} : {other.term} = 0"
        try:
            statement = parse(Declaration(name, "theorem", "", text, ""))
            term, evaluator = expression(other.term), self.own.get(name, self.evaluator)

            def compare(env: dict[str, Any]) -> Iterator[tuple[str, Any, Any, int]]:
                theirs = other.python(**{k: _ball(v) for k, v in env.items() if k in statement.variables})
                yield "eq", evaluator.value(term, env), theirs, other.digits

            return self._points(statement, "def", compare)
        except (LeanError, TypeError, ValueError, LookupError) as error:  # a changed signature, a refused argument
            self._fail("definition", name, f"cannot be compared: {error}")
            return Row(name, "def", 0, 0, 0)

    def _relations(self, node: Node, env: dict[str, Any]) -> Iterator[tuple[str, Any, Any, int]]:
        if node[0] == "both":
            for part in node[1:]:
                yield from self._relations(part, env)
        elif node[0] == "forall":
            for i in range(self.evaluator.size(node[2], env)):
                yield from self._relations(node[3], {**env, node[1][1]: i})
        else:
            yield node[0], self.evaluator.value(node[1], env), self.evaluator.value(node[2], env), DIGITS

    def _points(self, statement: Statement, kind: str, relations: Callable[..., Iterator[Any]]) -> Row:
        name, verdicts, least = statement.name, [], math.inf
        integrals = self.integrals - counterparts.STAND_INS.keys()
        slow = _integral(statement.body) or not integrals.isdisjoint(_heads(statement.body))
        slow |= kind == "def" and name in self.integrals
        count = 1 if not statement.variables else 2 if slow else self.samples
        for env in sampling.points(statement, self.evaluator, count, self.seed, mild=slow):
            verdict: bool | None = True
            try:
                for relation, a, b, wanted in relations(env):
                    holds, digits = _compare(relation, a, b, wanted)
                    least = min(least, digits)
                    if holds is False:
                        shown = ", ".join(f"{k} = {_show(v)}" for k, v in env.items())
                        rule = "definition" if kind == "def" else "violated"
                        self._fail(rule, name, f"{_show(a)} against {_show(b)} at {shown or 'no variables'}")
                    verdict = False if False in (holds, verdict) else None if None in (holds, verdict) else True
            except Undefined as error:
                if "unknown name" in str(error):
                    self._fail("unparsable", name, str(error))
                verdict = None
            verdicts.append(verdict)
            if verdict is False:
                break
        proved, undecided = verdicts.count(True), verdicts.count(None)
        if not verdicts:
            self._fail("vacuous", name, "no sampled point satisfies the hypotheses")
        elif undecided > MAX_UNDECIDED * len(verdicts):
            self._fail("undecided", name, f"{undecided} of {len(verdicts)} points undecided")
        return Row(name, kind, len(verdicts), proved, undecided, least)

    def _outside(self, declaration: Declaration) -> Row:
        name = declaration.name
        if name not in outside.OUTSIDE:
            self._fail("outside", name, "is marked as outside the dialect and has no numeric check")
            return Row(name, "outside", 0, 0, 0)
        digest, check = outside.OUTSIDE[name]
        if digest != declaration.digest:
            self._fail("hash", name, f"its statement has the hash {declaration.digest}, its check is for {digest}")
        verdicts = list(check(self.evaluator, random.Random(f"{self.seed} {name}")))
        if False in verdicts or True not in verdicts:
            self._fail("outside", name, "its numeric check fails")
        return Row(name, "outside", len(verdicts), verdicts.count(True), verdicts.count(None))

    def claim(self, claim: Claim) -> None:
        """A claim names a declaration, with the hash of its statement, that STATUS.toml says is this claim."""
        listed = [n for n, entry in self.status.items() if claim.id in entry.get("claims", ())]
        if claim.lean is None:
            if claim.id not in claims.UNSTATED or listed:
                self._fail("claim", claim.id, "names no Lean declaration, and is not listed as having none")
            return
        name, digest = claim.lean
        if name not in self.declared or listed != [name]:
            self._fail("claim", claim.id, f"names {name}; STATUS.toml says {', '.join(listed) or 'none'}")
        elif self.declared[name].digest != digest:
            now = self.declared[name].digest
            self._fail("hash", claim.id, f"was written for {name} with the hash {digest}, which is {now} now")
        proved = self._entry(name).get("status") == "checked"
        if (claim.status == "lean") != proved:
            self._fail("claim", claim.id, f"is {claim.status}, while {name} is {self._entry(name).get('status')}")
        if name in self.statements and claim.id not in claims.OTHER_FORM and "form" not in self._entry(name):
            self._sides(claim, self.statements[name])

    def _sides(self, claim: Claim, statement: Statement) -> None:
        rng = random.Random(f"{self.seed} {claim.id}")
        for _ in range(3):
            setting = claims.setting(claim, rng)
            env = claims.environment(setting)
            try:
                for side, function in ((1, claim.lhs), (2, claim.rhs)):
                    python = claims.in_units_of_lean(claim, function(Setting(**({"beta": arb(2)} | setting))))
                    lean, digits = self.evaluator.value(statement.body[side], env), claims.digits(claim)
                    holds, _ = _compare("eq", lean, python, digits)
                    if not holds:
                        where = f"{_show(lean)} in Lean, {_show(python)} in Python"
                        self._fail("sides", claim.id, f"{where}, with {', '.join(setting)} drawn")
                        return
            except Undefined as error:
                self._fail("sides", claim.id, f"{statement.name}: {error}")
                return


def _compare(relation: str, a: Any, b: Any, wanted: int) -> tuple[bool | None, float]:
    """Whether a relation holds (None: undecided), and the digits to which the sides of an equality agree."""
    if relation != "eq":
        return decide(relation, a, b), math.inf
    if not wanted:  # a table in float64
        return float(a.p) / float(a.q) == float(b), math.inf
    if isinstance(a, int | fmpq) and isinstance(b, int | fmpq):
        return bool(fmpq(a) == fmpq(b)), math.inf
    a, b = real(a), real(b)
    miss, scale = abs(a - b).upper(), max(abs(a).upper(), abs(b).upper())
    if a.contains(0) and b.contains(0):  # two sides that are both 0, as KL(N || N), agree as if they were 1
        scale = arb(1)
    digits = math.inf if miss == 0 else -float((miss / scale).log().mid()) / math.log(10)
    apart = wanted == DIGITS and not a.overlaps(b)
    return (False if apart else True if digits >= wanted else None if wanted == DIGITS else False), digits


def _ball(x: Any) -> Any:
    if isinstance(x, list):
        return np.array([_ball(v) for v in x], dtype=object)
    return x if isinstance(x, int) else real(x)


def _show(x: Any) -> str:
    return x.str(15) if isinstance(x, arb) else str(x)


def _heads(node: Node) -> Iterator[str]:
    if isinstance(node, tuple):
        yield node[1] if node[0] == "var" else node[0]
        for child in node[1:]:
            if isinstance(child, tuple):
                yield from _heads(child)


def _integral(node: Node) -> bool:
    return any(head.startswith("over_") for head in _heads(node))
