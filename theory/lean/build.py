"""The output of ``lake build``, judged: ``lake build | python -m theory.lean.build`` is ``make lean``.

Lean accepts a `sorry` with a warning, and an axiom without one: this fails on a `sorry` outside the list of
STATUS.toml, and on axioms beyond Mathlib's three under any declaration whose axioms `Summary.lean` prints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from theory.lean.parser import declarations, status
from theory.lean.rules import AXIOMS, broken

_SORRY = re.compile(r"(\w+\.lean):(\d+):\d+: declaration uses ['`]sorry['`]")
_PRINTED = re.compile(r"'QuantGap\.([\w.]+)' (does not depend on any axioms|depends on axioms: \[([^\]]*)\])")


def faults(output: str, folder: Path) -> Iterator[str]:
    """Yield what a build's output, and the source beside it, must not have."""
    declared, listed = declarations(folder), status(folder)
    yield from (f"{name}: {message}" for _, name, message in broken(folder, declared, listed))
    left_open = {name for name, entry in listed.items() if entry["status"] == "statement only"}
    yield from re.findall(r"^error: .*", output, re.MULTILINE)
    for file, line in _SORRY.findall(output):
        text = (folder / "QuantGap" / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        if not any(re.search(rf"\b{name.split('.')[-1]}\b", text) for name in left_open):
            yield f"{file}:{line}: sorry in a declaration that STATUS.toml does not list as `statement only`"
    printed = {name: set(re.findall(r"[\w.]+", axioms)) for name, _, axioms in _PRINTED.findall(output)}
    summary = (folder / "QuantGap/Summary.lean").read_text(encoding="utf-8")
    for name in re.findall(r"^#print axioms QuantGap\.(\S+)", summary, re.MULTILINE):
        if name not in printed:
            yield f"{name}: the build did not print its axioms"
    for name, axioms in printed.items():
        allowed = AXIOMS | ({"sorryAx"} if name in left_open else set())
        if axioms - allowed:
            yield f"{name}: rests on {', '.join(sorted(axioms - allowed))}"


def main() -> int:
    """Echo standard input; exit status 1 if it shows a fault."""
    output = sys.stdin.read()
    print(output, end="")
    found = list(faults(output, Path(__file__).parents[2] / "lean"))
    print("\n".join(f"error: {fault}" for fault in found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
