"""Lean source into declarations, and the statements of the dialect into trees.

A tree is a tuple whose head names the node: ``("add", a, b)``, ``("var", "beta")``, ``("number", fmpq(2))``.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flint import fmpq

try:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("to read the Lean statements: pip install 'quantgap[lean]'", name="lark") from missing

Node = tuple[Any, ...]


class LeanError(ValueError):
    """The Lean source, or its list in STATUS.toml, is not what it must be; `kind` names the rule."""

    def __init__(self, kind: str, declaration: str, message: str) -> None:
        super().__init__(f"{declaration}: {message}")
        self.kind, self.declaration, self.message = kind, declaration, message


@dataclass(frozen=True)
class Declaration:
    """A definition or a theorem as the source has it: `text` is its statement, for a definition with the value."""

    name: str
    kind: str
    file: str
    text: str
    proof: str

    @property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the statement, its blanks made single."""
        return hashlib.sha256(" ".join(self.text.split()).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Statement:
    """A parsed declaration: variables with their types in order, hypotheses, and the conclusion or the value."""

    name: str
    kind: str
    variables: Mapping[str, Node]
    hypotheses: tuple[Node, ...]
    body: Node


COMMENT = re.compile(r"/-.*?-/|--[^\n]*", re.DOTALL)
_HEAD = re.compile(r"(noncomputable def|def|theorem|lemma) (\S+)")
_OTHER = re.compile(r"import [\w.]+|namespace [\w.]+|end [\w.]+|#print axioms [\w.]+|macro \"\w+\" : tactic => .*")


def declarations(folder: Path) -> dict[str, Declaration]:
    """Every declaration of ``folder/QuantGap/*.lean``, by name below ``QuantGap``; what is none is an error."""
    found: dict[str, Declaration] = {}
    for path in sorted((folder / "QuantGap").glob("*.lean")):
        namespace = ""
        text = COMMENT.sub("", path.read_text(encoding="utf-8"))
        for chunk in re.split(r"\n(?=\S)", text):
            chunk = chunk.strip()
            head = _HEAD.match(chunk)
            if head is None:
                if chunk and not _OTHER.fullmatch(chunk):
                    raise LeanError("unparsable", path.name, f"neither a declaration nor a command: {chunk[:60]!r}")
                if chunk.startswith("namespace"):
                    namespace = chunk.removeprefix("namespace QuantGap").lstrip(".")
                continue
            name = f"{namespace}.{head[2]}" if namespace else head[2]
            if name in found:
                raise LeanError("status", name, "declared twice")
            kind = "def" if head[1].endswith("def") else "theorem"
            statement, _, proof = chunk.partition(":=")
            if not proof:
                raise LeanError("unparsable", name, "it has no :=")
            body = chunk if kind == "def" else statement
            found[name] = Declaration(name, kind, f"QuantGap/{path.name}", body.strip(), proof.strip())
    if not found:
        raise LeanError("status", str(folder), "holds no Lean declaration; is this a checkout of the project?")
    return found


def status(folder: Path) -> dict[str, dict[str, Any]]:
    """The table of STATUS.toml: declaration -> its entry."""
    return tomllib.loads((folder / "STATUS.toml").read_text(encoding="utf-8"))["declarations"]


@functools.cache
def _lark() -> Lark:
    return Lark((Path(__file__).parent / "grammar.lark").read_text(encoding="utf-8"), parser="lalr")


def parse(declaration: Declaration) -> Statement:
    """Read one declaration of the dialect.

    Raises
    ------
    LeanError
        Of kind "unparsable", where the statement leaves the dialect.
    """
    try:
        tree = _lark().parse(declaration.text)
    except UnexpectedInput as error:
        context = error.get_context(declaration.text, 30).split("\n")[0]
        raise LeanError("unparsable", declaration.name, f"outside the dialect near {context!r}") from error
    variables: dict[str, Node] = {}
    hypotheses = []
    parts: list[Any] = tree.children
    for child in parts[1 : -2 if declaration.kind == "def" else -1]:
        *names, of = child.children
        if of.data in ("real", "natural", "index", "family"):
            variables.update({str(name): _node(of) for name in names})
        else:
            hypotheses.append(_node(of))
    return Statement(declaration.name, declaration.kind, variables, tuple(hypotheses), _node(parts[-1]))


def expression(text: str) -> Node:
    """Read one term of the dialect.

    >>> expression("2 * x ^ 2")
    ('mul', ('number', 2), ('natural_power', ('var', 'x'), ('number', 2)))
    """
    return parse(Declaration("expression", "def", "", f"def expression : ℝ := {text}", "")).body


def _node(item: Any) -> Node:
    if isinstance(item, Token):
        return ("number", fmpq(int(item))) if item.type == "NUMBER" else ("var", str(item))
    assert isinstance(item, Tree)
    head = str(item.data)
    if head in ("var", "number"):
        return _node(item.children[0])
    bars = (str(c) if head == "bound" else _node(c) for c in item.children if getattr(c, "type", "")[:3] != "ABS")
    return _node(item.children[0]) if head == "reach" else (head, *bars)


def free(node: Node) -> set[str]:
    """The names that a tree uses, bound ones left out."""
    if node[0] == "var":
        return {node[1].split(".")[0] if node[1].endswith((".succ", ".castSucc")) else node[1]}
    if node[0] == "number":
        return set()
    inside = set().union(*(free(child) for child in node[1:]))
    return inside - {node[1][1]} if node[0] in BINDING else inside


BINDING = ("forall", "total", "prod", "over_line", "over_ray", "over_interval", "maximum", "minimum")
"""Nodes whose first child is the variable that they bind."""
