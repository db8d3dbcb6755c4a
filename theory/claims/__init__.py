r"""The registry of inequalities: each one once, with its two sides, its domain and how it is known.

A claim compares two quantities of a `Setting`: a source, a codebook, a rate. The property tests draw settings from
the claim's domain, in floats and in balls; `empirics.checks` puts a measured tensor in the setting's place, so that
the same two sides judge a real model. A claim that names a `model` holds for tensors that follow it:

- ``any``: no assumption on the weights at all;
- ``iid``: the weights are iid draws of a GGD;
- ``row-conditional``: rows are GGD with scales of their own.

Proof status is ``lean`` (machine-checked), ``paper`` (cited, or proved in the docstring named) or ``numeric``: in
balls at every point that was sampled from the claim's domain, which proves it there and not in between. It is about
the inequality, never about a measurement. A claim that names its Lean statement is ``lean`` only where
``lean/STATUS.toml`` says that the proof was checked; `theory.crosscheck` holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from theory.claims import blocks, geometry, laws, quantizers, rates
from theory.claims.claim import Claim
from theory.claims.setting import Setting
from theory.domain import unknown

__all__ = ["CLAIMS", "Claim", "Setting", "get", "markdown"]

_ALL = (*laws.CLAIMS, *rates.CLAIMS, *quantizers.CLAIMS, *blocks.CLAIMS, *geometry.CLAIMS)

CLAIMS: Mapping[str, Claim] = MappingProxyType({claim.id: claim for claim in _ALL})
"""Every inequality of `theory`, by id."""


def get(id: str) -> Claim:
    """Return the claim of that id.

    Raises
    ------
    ValueError
        If there is none; near misses are suggested.

    Examples
    --------
    >>> get("ggd.stam").status
    'paper'
    """
    if id not in CLAIMS:
        raise unknown("claim", id, CLAIMS)
    return CLAIMS[id]


def markdown() -> str:
    """The registry as a Markdown table: what the README shows (``python -m theory.claims``)."""
    rows = ["| claim | inequality | assumes | known by | source |", "|---|---|---|---|---|"]
    for claim in CLAIMS.values():
        source = claim.reference.strip("[]")
        statement = claim.statement.replace("|", chr(92) + "|")
        rows.append(f"| `{claim.id}` | {statement} | {claim.model} | {claim.status} | {source} |")
    return "\n".join(rows)
