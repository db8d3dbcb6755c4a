"""What the Lean source may hold: STATUS.toml lists it, `sorry` only where listed, and no axiom of our own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from theory.lean.parser import COMMENT, Declaration

_FORBIDDEN = re.compile(r"\b(axiom|native_decide|unsafe|opaque|implemented_by|ofReduceBool|csimp)\b")
AXIOMS = frozenset({"propext", "Classical.choice", "Quot.sound"})
"""Those of Mathlib, on which a proof may rest."""


def broken(
    folder: Path, declared: Mapping[str, Declaration], status: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, declaration, message) for each rule of the source that is broken."""
    for path in sorted((folder / "QuantGap").glob("*.lean")):
        for found in _FORBIDDEN.findall(COMMENT.sub("", path.read_text(encoding="utf-8"))):
            yield "axiom", path.name, f"uses {found}"
    for name in declared.keys() ^ status.keys():
        where = "STATUS.toml lists it, the source lacks it" if name in status else "is not in STATUS.toml"
        yield "status", name, where
    for name in declared.keys() & status.keys():
        declaration, entry = declared[name], status[name]
        for field in ("kind", "file"):
            if entry[field] != getattr(declaration, field):
                yield "status", name, f"is a {getattr(declaration, field)}, not {entry[field]} as STATUS.toml says"
        if entry["status"] not in ("checked", "unchecked", "statement only"):
            yield "status", name, f"has the unknown status {entry['status']!r}"
        if entry["dialect"] not in ("inside", "outside"):
            yield "status", name, f"has the unknown dialect {entry['dialect']!r}"
        if ("sorry" in declaration.proof.split()) != (entry["status"] == "statement only"):
            yield "sorry", name, f"is {entry['status']}: sorry is the proof of a `statement only` alone"
        if entry["status"] == "checked":
            digest = hashlib.sha256((folder / declaration.file).read_bytes()).hexdigest()
            if entry.get("sha256") != digest:
                yield "status", name, f"was checked in another version of {declaration.file}"
