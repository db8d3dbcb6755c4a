"""What the HTML page says: the words, and the numbers in them, from a run. How it looks is in templates/."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from empirics import plots
from empirics.checks import ROUNDING, SIGMAS, Verdict
from empirics.engine import Results
from empirics.measure import Measurement
from empirics.plots import BAND, LABELS, clean, signed
from theory.claims import CLAIMS, Claim
from theory.ledger import STEPS, Ledger

MEANINGS = {
    "shape": "A generalized Gaussian of the fitted exponent instead of a Gaussian of the same variance: by how much"
    " the Shannon lower bound is lower. Never positive.",
    "shannon": "From that lower bound to the source’s true distortion-rate function, computed with a certificate.",
    "scalar": "Weights coded one at a time, with an entropy code, instead of many together.",
    "fixed-rate": "Every index is equally long, without an entropy code: Lloyd-Max levels.",
    "block-scaling": "The best codebook when each block is divided by its largest weight. It saves bits at the"
    " nominal rate, which does not count the scales.",
    "codebook": "This quantizer’s codebook instead of the best one for the fitted source.",
    "rows": "Rows have variances of their own: predicted with the exponent within rows instead of the pooled one.",
    "unexplained": "The measured distortion against that prediction.",
    "format": "Plain rounding to the checkpoint’s format, with scales of its own for each block, instead of the best"
    " codebook.",
    "scales": "The grid that is stored, every weight at its nearest point: scales that are searched, clipped, spread"
    " over channels, or themselves rounded.",
    "method": "The indices that are stored, where they are not the nearest: errors that compensate one another.",
}
READINGS = {
    "iid": "This says that the matrix is not iid generalized Gaussian. It does not say that the inequality is wrong.",
    "row-conditional": "This says that the rows are not generalized Gaussian with one exponent. It does not say that"
    " the inequality is wrong.",
    "any": "The claim assumes nothing of the weights: look for a mistake in the measurement or in the software.",
}
"""What a violated claim says, by the model that it assumes."""


def counted(number: int, noun: str) -> str:
    """A number of things: 1 tensor, 2 matrices."""
    return f"{number:,} {noun if number == 1 else noun.replace('trix', 'trice') + 's'}"


def short(name: str) -> str:
    """A tensor's name without what every name has."""
    return clean(re.sub(r"^model\.|\blayers\.|\.weight$", "", name)) or clean(name)


def plus_minus(value: float, error: float | None) -> str:
    """A value and its standard error, to one digit of the error and three decimals at least; None is not known."""
    if error is None:
        return f"{value:.3f} ± ?"
    digits = min(max(3, -math.floor(math.log10(error))), 9) if error > 0 else 3
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def gap_error(measurement: Measurement) -> float:
    """Standard error of a gap, in bits."""
    return measurement.mse_error / (2 * math.log(2) * measurement.measured_mse)


def total_error(measurements: Sequence[Measurement]) -> float:
    """Standard error of the gap of the whole model, in bits: the matrices are independent."""
    everything = sum(m.statistics.weights for m in measurements)
    return math.hypot(*(m.statistics.weights / everything * gap_error(m) for m in measurements))


def mean_residual(measurements: Sequence[Measurement], model: str) -> float:
    """Geometric mean over weights of measured over predicted MSE, less 1; `model` is "iid" or "row"."""
    everything = sum(m.statistics.weights for m in measurements)
    logs = (m.statistics.weights * math.log1p(getattr(m, f"residual_{model}")) for m in measurements)
    return math.expm1(math.fsum(logs) / everything)


def answer(results: Results, totals: dict[str, Ledger]) -> list[str]:
    """How far, where the largest part goes, and what theory does not explain."""
    if not totals:
        return ["Nothing could be measured: the reasons are below."]
    first, *others = sorted(totals, key=lambda q: totals[q].effective_total)
    total = totals[first]
    scales = total.effective_bits - total.bits
    said = [
        f"With {first}, a weight takes {total.effective_bits:.4g} bits, its part of the block’s scale included; an"
        f" ideal code for Gaussian weights reaches the same error with {total.bits - total.total:.3f} bits. The gap"
        f" is {total.effective_total:.3f} bits a weight, or {total.total:.3f} when the scales are not counted."
    ]
    if others:
        listed = [f"{q} is at {totals[q].effective_total:.3f} ({totals[q].total:.3f} without scales)" for q in others]
        said[0] += f" {', '.join(listed)}."
    worst = max(total.steps[:-1], key=lambda step: step.bits)
    best = min(total.steps[:-1], key=lambda step: step.bits)
    where = f"The scales cost {scales:.3f} bits. Of the rest" if scales else f"Of the gap of {first}"
    where += f" the largest part is “{LABELS.get(worst.name, worst.name)}”, {signed(worst.bits)}"
    back = f"; “{LABELS.get(best.name, best.name)}” gives back {-best.bits:.3f}" if best.bits < 0 else ""
    said.append(f"{where}{back}.")
    chosen = results.of(first)
    left = {m.statistics.name: m.ledger.steps[-1].bits for m in chosen}
    extreme = max(left, key=lambda name: abs(left[name]))
    said.append(
        f"What theory does not explain is {signed(total.steps[-1].bits)} bits on average over the weights."
        f" In a matrix it is {math.fsum(map(abs, left.values())) / len(left):.3f} on average, signs aside, and"
        f" {signed(left[extreme])} in the worst, {short(extreme)}."
    )
    return said


def agreement(measurements: Sequence[Measurement]) -> str:
    """Where the predictions and the measurements of one quantizer disagree."""
    row = sum(100 * abs(m.residual_row) <= BAND for m in measurements)
    iid = sum(100 * abs(m.residual_iid) <= BAND for m in measurements)
    worst = sorted(measurements, key=lambda m: -abs(m.residual_row))[:3]
    named = ", ".join(
        f"{short(m.statistics.name)} ({signed(100 * m.residual_row, 1)} ±"
        f" {100 * m.mse_error / m.predicted_mse_row:.1f} %)"
        for m in worst
    )
    count = counted(len(measurements), "matrix")
    return (
        f"{row} of {count} {'is' if row == 1 else 'are'} within {BAND:g} % of the row-conditional prediction, and"
        f" {iid} of the iid one. The row-conditional prediction is furthest off for {named}."
    )


@dataclass(frozen=True)
class Judged:
    """A claim and what became of it.

    Attributes
    ----------
    claim : Claim
    holds : int
    violated : list of Verdict
    reasons : list of (str, int)
        Why it did not apply, and how often.
    tightest : Verdict or None
        Of the smallest margin.
    """

    claim: Claim
    holds: int
    violated: list[Verdict]
    reasons: list[tuple[str, int]]
    tightest: Verdict | None

    @property
    def inapplicable(self) -> int:
        return sum(count for _, count in self.reasons)


def judged(verdicts: Sequence[Verdict]) -> list[Judged]:
    """The verdicts, claim by claim, in the registry's order."""
    rows = []
    for claim in CLAIMS.values():
        mine = [v for v in verdicts if v.claim == claim.id]
        applied = [v for v in mine if v.verdict != "inapplicable"]
        sampled = all(v.standard_error for v in applied)
        rows.append(
            Judged(
                claim,
                sum(v.verdict == "holds" for v in mine),
                [v for v in mine if v.verdict == "violated"],
                Counter(v.reason for v in mine if v.verdict == "inapplicable").most_common(),
                min(applied, key=lambda v: _margin(v, sampled), default=None),
            )
        )
    return rows


def _margin(verdict: Verdict, sampled: bool) -> float:
    """In standard errors, or relative to the larger side when nothing is sampled."""
    unit = verdict.standard_error if sampled else max(abs(verdict.lhs or 0), abs(verdict.rhs or 0))
    return (verdict.margin or 0) / unit if unit else 0.0


def margin(verdict: Verdict) -> str:
    """The margin of a verdict, in a reader's units."""
    if verdict.standard_error:
        return f"{signed(_margin(verdict, True), 1)} s.e."
    relative = _margin(verdict, False)
    return "0, but for rounding" if abs(relative) <= ROUNDING else f"{100 * relative:+.2g} %".replace("-", "−")


def relation(verdict: Verdict) -> str:
    """How the left side stands to the right one."""
    close = not verdict.standard_error and abs(_margin(verdict, False)) <= ROUNDING
    return "≈" if close else "≤" if (verdict.margin or 0) >= 0 else ">"


def power(measurements: Sequence[Measurement]) -> int:
    """The power of ten in which the smallest MSE has one digit before the point."""
    return math.floor(math.log10(min(m.measured_mse for m in measurements)))


def image(figure: Figure) -> str:
    """A figure as a data URI: the picture's ids cannot meet the page's."""
    return "data:image/svg+xml;base64," + base64.b64encode(plots.svg(figure)).decode()


def environment() -> Environment:
    """The templates, with the words and signs that they share."""
    made = Environment(
        loader=PackageLoader("empirics"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: clean(value) if type(value) is str else value,
    )  # fmt: skip
    made.filters.update(
        signed=signed, short=short, gap_error=gap_error, margin=margin, relation=relation,
        sign=lambda text: text.replace("<=", "≤").replace(">=", "≥"), minus=lambda n: str(n).replace("-", "−"),
        label=lambda name: LABELS.get(name, name), meaning=lambda name: MEANINGS.get(name, ""),
    )  # fmt: skip
    made.globals.update(plus_minus=plus_minus, power=power, counted=counted)
    made.globals.update(mean_residual=mean_residual, total_error=total_error)
    return made


def render(results: Results, verdicts: Sequence[Verdict]) -> str:
    """The page."""
    totals = {q: results.total(q) for q in results.quantizers}
    figures = {}
    if results.measurements:
        figures["waterfall"] = image(plots.waterfall(totals, ""))
        figures["predictions"] = image(plots.predictions(results.measurements))
    if any(m.statistics.layer is not None for m in results.measurements):
        figures["depth"] = image(plots.depth(results.measurements))
    statistics = {m.statistics.name: m.statistics for m in results.measurements}
    context: dict[str, Any] = {
        "results": results,
        "totals": totals,
        "weights": sum(found.weights for found in statistics.values()),
        "matrices": len(statistics),
        "answer": answer(results, totals),
        "figures": figures,
        "agreement": {q: agreement(results.of(q)) for q in totals},
        "judged": judged(verdicts),
        "verdicts": Counter(v.verdict for v in verdicts),
        "readings": READINGS,
        "steps": STEPS,
        "names": {"nominal": plots.NOMINAL, "side": plots.SIDE, "effective": plots.EFFECTIVE},
        "sigmas": SIGMAS,
    }
    return environment().get_template("ledger.html").render(context)
