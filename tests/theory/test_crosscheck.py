"""The cross-check holds for the project, and fails for each thing that it is there to notice.

A mutant is one edit of a copy of the Lean, or of a Python function; each must be reported, with its own kind.
"""

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flint import arb, ctx, fmpq

from theory import block_maximum, codebooks, crosscheck, ggd, lattices, scalar, shannon
from theory.claims import CLAIMS
from theory.lean import build, claims, counterparts, outside
from theory.lean.evaluator import Evaluator
from theory.lean.operations import Undefined
from theory.lean.parser import Declaration, declarations, expression, parse, status
from theory.lean.report import Failure, Report, Row
from theory.lean.sampling import points

LEAN = crosscheck.SOURCE
DECLARED = declarations(LEAN)
STATUS = status(LEAN)


@pytest.fixture(scope="module")
def report():
    return crosscheck.run()


def test_the_lean_and_the_python_agree(report):
    assert report.ok, report.failures
    assert {row.name for row in report.rows} == set(DECLARED) == set(STATUS)
    kinds = {kind: sum(row.kind == kind for row in report.rows) for kind in ("def", "theorem", "outside")}
    assert kinds["outside"] == len(outside.OUTSIDE)
    assert kinds["def"] == len(counterparts.COUNTERPARTS) + len(counterparts.NO_COUNTERPART)
    for row in report.rows:
        assert row.points or row.note, row
        assert row.proved + row.undecided == row.points


def test_few_points_are_undecided(report):
    theorems = [row for row in report.rows if row.kind == "theorem"]
    assert sum(r.undecided for r in theorems) < 0.03 * sum(r.points for r in theorems)


def test_equalities_agree_to_25_digits(report):
    of_balls = [r for r in report.rows if r.name not in ("effectiveBits", "entropyMixedUnits", "fp4LargestHalfGap")]
    assert min(r.digits for r in of_balls) >= 25


def test_the_command_prints_the_table_and_fails_with_it(report, monkeypatch):
    typer = pytest.importorskip("typer.testing")
    cli = pytest.importorskip("empirics.cli")
    row, failure = Row("a_theorem", "theorem", 3, 2, 0, 26.4), Failure("violated", "a_theorem", "1 against [2]")
    for found, code in ((report, 0), (Report((row,), (failure,)), 1)):
        monkeypatch.setattr(crosscheck, "run", lambda found=found: found)
        shown = typer.CliRunner().invoke(cli.app, ["check", "--lean"])
        assert shown.exit_code == code
        assert found.rows[-1].name in shown.stdout
        assert found.summary() in " ".join(shown.stdout.split())
        assert ("a_theorem: 1 against [2]" in shown.stderr) == bool(code)
        document = typer.CliRunner().invoke(cli.app, ["check", "--lean", "--json"])
        assert json.loads(document.stdout)["ok"] == found.ok


def test_every_claim_has_a_statement_or_a_reason():
    for claim in CLAIMS.values():
        assert (claim.lean is None) == (claim.id in claims.UNSTATED), claim.id
    assert set(claims.OTHER_FORM) <= set(CLAIMS)


# One edit of one file: the text, what it becomes, the kinds that must be reported, and what to evaluate.
SOURCE_MUTANTS = {
    "constant of a definition": (
        "GGD", "exp (2 / beta - 1) / Real.pi", "exp (2 / beta - 1) / 3", "definition", ["entropyPower"],
    ),
    "sign of a definition": (
        "GGD", "Real.Gamma (2 - 1 / beta)", "Real.Gamma (2 + 1 / beta)", "definition", ["fisherInformation"],
    ),
    "nats for bits": (
        "GGD", "entropyNats beta sigma / Real.log 2", "entropyNats beta sigma", "definition", ["entropyBits"],
    ),
    "integrand": (
        "BlockGGD", "(1 - absCdf s beta sigma ^ n)", "(1 - absCdf s beta sigma) ^ n", "definition", ["absmaxMean"],
    ),
    "end of an integral": ("BlockGGD", "2 * (∫ x in (0 : ℝ)..s", "2 * (∫ x in (0 : ℝ)..2", "definition", ["absCdf"]),
    "minimum for maximum": ("Scalar", "(⨅ i : Fin n", "(⨆ i : Fin n", "definition", ["quantizerMse"]),
    "maximum for minimum": ("Block", "⨆ i : Fin n, |x i|", "⨅ i : Fin n, |x i|", "violated", ["le_absmax"]),
    "entry of NF4": ("Codebooks", "550579 / 1048576", "550578 / 1048576", "definition", ["nf4"]),
    "sign in NF4": ("Codebooks", "-550579 / 1048576", "550579 / 1048576", "violated", ["nf4_increasing"]),
    "half-gap of NF4": (
        "Codebooks", "5097039 / 33554432", "5097038 / 33554432", "violated", ["nf4_gap_attained", "nf4_gap_le"],
    ),
    "entry of FP4": ("Codebooks", "-1 / 192, 0, 1 / 192", "-1 / 192, 0, 1 / 191", "definition", ["fp4"]),
    "constant of a theorem": ("GGD", "9 / 5 ≤ kurtosis beta", "2 ≤ kurtosis beta", "violated", ["kurtosis_ge"]),
    "sign of a theorem": (
        "GGDIntegral", "p - q ≤ p * Real.log p - p", "p + q ≤ p * Real.log p - p", "violated",
        ["sub_le_mul_log_sub"],
    ),
    "integral of the density": (
        "GGDIntegral", "pdf x beta sigma = 1 :=", "pdf x beta sigma = 2 :=", "violated", ["integral_pdf"],
    ),
    "flipped inequality": (
        "Shannon", "gapFisherLog D J ≤ gapFisherLinear D J", "gapFisherLinear D J ≤ gapFisherLog D J", "violated",
        ["gapFisherLog_le_linear"],
    ),
    "flipped sums": (
        "Certificate", "mutualInformation n m p w ≤ meanDivergence n m p w q",
        "meanDivergence n m p w q ≤ mutualInformation n m p w", "violated", ["information_le_meanDivergence"],
    ),
    "half for whole": ("Quantizer", "≤ step / 2", "≤ step / 3", "violated", ["uniform_error"]),
    "dropped hypothesis": (
        "Shannon", "(R sigma : ℝ) (hsigma : 0 < sigma)", "(R sigma : ℝ)", "violated",
        ["gaussianRate_gaussianDistortion"],
    ),
    "dropped normalization": (
        "Certificate", "(hq : ∀ j : Fin m, 0 < q j) (hq1 : ∑ j : Fin m, q j = 1) :\n    mut",
        "(hq : ∀ j : Fin m, 0 < q j) :\n    mut", "violated", ["information_le_meanDivergence"],
    ),
    "weakened hypothesis": (
        "GGDIntegral", "(hbeta : 1 ≤ beta) (ha", "(hbeta : 0 < beta) (ha", "violated", ["rpow_abs_convex"],
    ),
    "weakened dual constraint": (
        "Certificate", "* Real.exp (-s * d i j) ≤ 1)\n    (hD", "* Real.exp (-s * d i j) ≤ 9)\n    (hD", "violated",
        ["rate_lower_end"],
    ),
    "strengthened hypothesis of a claim": (
        "Claims", "(hbeta : 1 ≤ beta)", "(hbeta : 2 ≤ beta)", "hash", ["ggd.kl-log-concave"],
    ),
    "contradictory hypotheses": (
        "Quantizer", "(hstep : 0 < step) :\n    |x", "(hstep : 0 < step) (h : step < 0) :\n    |x", "vacuous",
        ["uniform_error"],
    ),
    "other claim's sides": (
        "GGD", "1 ≤ fisherInformation beta sigma * sigma ^ 2",
        "1 ≤ fisherInformation beta sigma * sigma ^ 2 + 0 * sigma", "hash", ["ggd.cramer-rao"],
    ),
    "constant of Ziv": ("RateBounds", "4 * Real.pi / 12)) /", "3 * Real.pi / 12)) /", "definition", ["zivLoss"]),
    "moment of a lattice": ("Lattices", "929 / 12960", "929 / 12961", "definition", ["latticeMoment"]),
    "mixture of channels": (
        "FiniteEntropy", "(1 - t) * w2 i j\n", "t * w2 i j\n", "violated", ["mutualInformation_convex"],
    ),
    "maximum in water-filling": (
        "Waterfilling", ", min theta (w i) ≤ ∑", ", max theta (w i) ≤ ∑", "violated",
        ["reverse_waterfilling_optimal"],
    ),
    "rate of the rows": (
        "Converse", "distortionLowerBound (h i) (R i)) / (k", "distortionLowerBound (h i) (1 + R i)) / (k",
        "violated", ["distortionLowerBound_mean_le"],
    ),
    "statement outside the dialect": ("Gaussian", "kurtosis 2 = 3", "kurtosis 2 = 3 ∨ True", "unparsable", []),
    "unknown function": ("Gaussian", "kurtosis 2 = 3", "kurtoses 2 = 3", "unparsable", ["kurtosis_gaussian"]),
    "unknown command": ("Gaussian", "namespace QuantGap", "set_option maxHeartbeats 0", "unparsable", []),
    "edited statement outside": (
        "GapTheorem", "≤ Real.log (1 + theta * J0) / 2", "≤ Real.log (1 + theta * J0) / 3", "hash",
        ["entropy_gain"],
    ),
    "missing declaration": ("Gaussian", "theorem kurtosis_gaussian", "theorem kurtosis_of_gaussian", "status", []),
    "axiom": ("Gaussian", "theorem kurtosis_gaussian", "axiom kurtosis_gaussian", "axiom", []),
    "native_decide": ("Codebooks", "by\n", "by\n  native_decide\n", "axiom", []),
    "undeclared sorry": ("Gaussian", "kurtosis 2 = 3 := by\n", "kurtosis 2 = 3 := by\n  sorry\n", "sorry", []),
    "theorem for definition": (
        "Shannon", "theorem two_mul_log_two_pos :\n    0 < 2 * Real.log 2",
        "def two_mul_log_two_pos : ℝ :=\n  2 * Real.log 2", "status", [],
    ),
}  # fmt: skip


def kinds(folder, only):
    return {failure.kind for failure in crosscheck.run(folder, only=only).failures}


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(LEAN, tmp_path / "lean"))


@pytest.mark.parametrize("mutant", SOURCE_MUTANTS)
def test_an_edit_of_the_lean_is_noticed(mutant, copy):
    file, old, new, kind, only = SOURCE_MUTANTS[mutant]
    path = copy / "QuantGap" / f"{file}.lean"
    text = path.read_text()
    assert old in text, "the mutant has nothing to change"
    assert not kinds(copy, only)
    path.write_text(text.replace(old, new, 1))
    assert kind in kinds(copy, only)


STATUS_MUTANTS = {
    "proved, and called open": ("status = \"unchecked\"", "status = \"statement only\"", "sorry", []),
    "called outside": ("dialect = \"inside\"", "dialect = \"outside\"", "outside", ["absmax"]),
    "unknown claim": ('claims = ["ggd.stam"]', 'claims = ["ggd.stamm"]', "claim", []),
    "claim moved": ("claims = [\"ggd.stam\"]", "claims = [\"ggd.cramer-rao\"]", "claim", ["ggd.stam"]),
}  # fmt: skip


@pytest.mark.parametrize("mutant", STATUS_MUTANTS)
def test_an_edit_of_the_status_is_noticed(mutant, copy):
    old, new, kind, only = STATUS_MUTANTS[mutant]
    path = copy / "STATUS.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert kind in kinds(copy, only)


def test_a_checked_declaration_is_of_the_file_that_was_checked(copy):
    entry = '[declarations.alpha]\nkind = "def"\nfile = "QuantGap/GGD.lean"\nstatus = "'
    digest = hashlib.sha256((copy / "QuantGap/GGD.lean").read_bytes()).hexdigest()
    path = copy / "STATUS.toml"
    path.write_text(path.read_text().replace(entry + "un", entry))
    assert kinds(copy, []) == {"status"}
    path.write_text(path.read_text().replace(entry, entry.replace("status", f'sha256 = "{digest}"\nstatus')))
    assert not kinds(copy, [])


def scaled(module, name, factor):
    true = getattr(module, name)
    return module, name, lambda *args, **kwargs: true(*args, **kwargs) * factor


PYTHON_MUTANTS = {
    "kurtosis": (*scaled(ggd, "kurtosis", fmpq(2**80 + 1, 2**80)), "kurtosis", "definition"),
    "fisher information": (*scaled(ggd, "fisher_information", 2), "fisherInformation", "definition"),
    "entropy in other units": (*scaled(ggd, "entropy", math.log(2)), "entropyBits", "definition"),
    "distribution function": (*scaled(ggd, "abs_cdf", 0.5), "absCdf", "definition"),
    "gap": (*scaled(shannon, "gap_fisher_log", 2), "gapFisherLog", "definition"),
    "panter-dite": (*scaled(scalar, "panter_dite", 1.001), "panterDite", "definition"),
    "block maximum": (*scaled(block_maximum, "absmax_mean", 1.001), "absmaxMean", "definition"),
    "moment bound": (*scaled(block_maximum, "moment_bound", 1.001), "momentBound", "definition"),
    "sphere bound": (*scaled(lattices, "sphere_bound", 1.001), "sphereBound", "definition"),
    "table": (codebooks, "NF4", codebooks.AF4_64, "nf4", "definition"),
    "side of a claim": (*scaled(ggd, "entropy_power", 2), "ggd.stam", "sides"),
    "refused argument": (ggd, "kl", lambda beta: beta, "klNats", "definition"),
}


@pytest.mark.parametrize("mutant", PYTHON_MUTANTS)
def test_an_edit_of_the_python_is_noticed(mutant, monkeypatch):
    module, name, replacement, declaration, kind = PYTHON_MUTANTS[mutant]
    assert not kinds(LEAN, [declaration])
    monkeypatch.setattr(module, name, replacement)
    assert kind in kinds(LEAN, [declaration])


def test_a_lean_claim_is_machine_checked(monkeypatch):
    monkeypatch.setitem(vars(CLAIMS["ggd.stam"]), "status", "lean")
    assert kinds(LEAN, ["ggd.stam"]) == {"claim"}


def term(text, **env):
    return Evaluator({}, {}).value(expression(text), env)


@pytest.mark.parametrize(
    ("text", "value"),
    [("-2 ^ 2", -4), ("-(3 : ℝ) * 2 + 1", -5), ("1 / 2 / 2", fmpq(1, 4)), ("2 - 1 - 1", 0), ("1 / 0", 0),
     ("Real.log 0", 0), ("2 * ∑ i ∈ Finset.range 3, (i : ℝ) * 2 + 1", 13),
     ("∑ i : Fin 2, ∑ j : Fin 2, x i * x j - 1", 8),
     ("∏ i : Fin 2, x i", 2), ("⨆ i : Fin 2, x i - 1", 1), ("min |1 - 3| |-1|", 1), ("(0 : ℝ) ^ (0 : ℝ)", 1),
     ("Real.sqrt (-1)", 0), ("Real.Gamma 0", 0), ("round (5 / 2)", 3), ("round (-(5 / 2))", -2), ("f 1", 2)],
)  # fmt: skip
def test_terms_mean_what_lean_means(text, value):
    assert term(text, x=[fmpq(1), fmpq(2)], f=lambda x: 2 * x) == value


def test_integrals_against_known_values():
    with ctx.workprec(160):
        assert abs(term("∫ x : ℝ, Real.exp (-x ^ 2)") - arb.pi().sqrt()) < arb(2) ** -80
        assert abs(term("∫ x in Set.Ioi (0 : ℝ), x ^ (1 / 2 : ℝ) * Real.exp (-x)") - arb(1.5).gamma()) < arb(2) ** -80
        assert abs(term("∫ x in 1..3, |x - 2|") - 1) < arb(2) ** -80
        with pytest.raises(Undefined):
            term("∫ x : ℝ, 1")


def test_points_satisfy_the_hypotheses():
    text = (
        "theorem t (n : ℕ) (p lam : Fin n → ℝ) (a b : ℝ) (hn : 0 < n) (hp : ∀ i : Fin n, 0 ≤ p i)"
        " (h1 : ∑ i : Fin n, p i = 1) (hl : ∀ i : Fin n, 0 < lam i)"
        " (hs : ∑ i : Fin n, p i * lam i ≤ 1) (ha : 1 / 2 < a) (hb : b < a ^ 2) : 0 = 0"
    )
    drawn = list(points(parse(Declaration("t", "theorem", "", text, "")), Evaluator({}, {}), 40, "seed"))
    assert len(drawn) == 40
    for env in drawn:
        assert sum(env["p"], fmpq(0)) == 1
        assert sum((p * v for p, v in zip(env["p"], env["lam"], strict=True)), fmpq(0)) <= 1
        assert env["a"] > fmpq(1, 2)
        assert env["b"] < env["a"] ** 2


def build_log(name="Summary.bracket", axioms="propext, Classical.choice, Quot.sound"):
    summary = (LEAN / "QuantGap/Summary.lean").read_text()
    printed = re.findall(r"^#print axioms QuantGap\.(\S+)", summary, re.MULTILINE)
    lines = (f"'QuantGap.{n}' depends on axioms: [{axioms if n == name else 'propext'}]" for n in printed)
    return "\n".join(f"info: QuantGap/Summary.lean:70:0: {line}" for line in lines)


def test_the_log_of_a_build_is_judged():
    assert not list(build.faults(build_log(), LEAN))
    assert "rests on sorryAx" in next(build.faults(build_log(axioms="propext, sorryAx"), LEAN))
    assert "rests on Lean.ofReduceBool" in next(build.faults(build_log(axioms="Lean.ofReduceBool"), LEAN))
    assert "did not print" in next(build.faults(build_log().replace("Summary.bracket'", "other'"), LEAN))
    assert list(build.faults(build_log() + "\nerror: the build failed", LEAN)) == ["error: the build failed"]
    lines = (LEAN / "QuantGap/GGD.lean").read_text().splitlines()
    for name, faulty in (("kurtosis_antitone", False), ("kurtosis_ge", True)):
        line = next(i for i, text in enumerate(lines, 1) if text.startswith(f"theorem {name} "))
        warning = f"\nwarning: QuantGap/GGD.lean:{line}:8: declaration uses 'sorry'"
        assert bool(list(build.faults(build_log() + warning, LEAN))) == faulty


def test_the_lean_builds():
    if shutil.which("lake") is None:
        pytest.skip("the Lean build was not run: there is no lake on the PATH")
    subprocess.run(["lake", "exe", "cache", "get"], cwd=LEAN, check=True)
    output = subprocess.run(["lake", "build"], cwd=LEAN, capture_output=True, text=True, check=False)
    assert not output.returncode, output.stdout
    assert not list(build.faults(output.stdout + output.stderr, LEAN))


def test_theory_alone_does_without_lark():
    code = (
        "import sys; sys.modules['lark'] = None\n"
        "import theory, theory.claims, theory.ggd\n"
        "try:\n    import theory.crosscheck\nexcept ModuleNotFoundError as e:\n    print(e)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'quantgap[lean]'" in output.stdout
