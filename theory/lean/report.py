"""What the cross-check reports."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What became of one declaration.

    Attributes
    ----------
    name, kind : str
        `kind` is "def", "theorem" or "outside" (the dialect).
    points : int
        At which it was evaluated.
    proved : int
        Of them, where the relation is certain, or an equality's sides agree to 25 digits.
    undecided : int
        Where the balls overlap, or one could not be had.
    digits : float
        Least number of digits to which equal sides agree; infinite where they are rational or there are none.
    note : str
        The Python counterpart's absence, explained.
    """

    name: str
    kind: str
    points: int
    proved: int
    undecided: int
    digits: float = math.inf
    note: str = ""


@dataclass(frozen=True)
class Failure:
    """A rule that a declaration breaks.

    `kind`: "unparsable", "status", "axiom", "sorry", "definition", "violated", "vacuous", "undecided", "outside",
    "claim", "hash" or "sides".
    """

    kind: str
    declaration: str
    message: str


@dataclass(frozen=True)
class Report:
    """Rows, one a declaration, and failures; `ok` when there is none."""

    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]

    @property
    def ok(self) -> bool:
        return not self.failures

    def summary(self) -> str:
        """One line of counts."""
        kinds = {kind: [r for r in self.rows if r.kind == kind] for kind in ("def", "theorem", "outside")}
        proved, undecided = (sum(getattr(r, a) for r in kinds["theorem"]) for a in ("proved", "undecided"))
        return (
            f"{len(kinds['def'])} definitions, {len(kinds['theorem'])} theorems ({proved} points hold, {undecided} "
            f"undecided), {len(kinds['outside'])} outside the dialect, {len(self.failures)} failures"
        )
