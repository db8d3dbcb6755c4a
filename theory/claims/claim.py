"""What an entry of the registry is, and the boxes in which claims are tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from theory.arithmetic import Number
from theory.domain import COUNT, FISHER_SHAPE, LOG_CONCAVE_SHAPE, SHAPE, Domain


@dataclass(frozen=True)
class Claim:
    """``lhs(setting) <= rhs(setting)`` for every setting in the domain.

    Attributes
    ----------
    id : str
    statement : str
        For a reader, in the symbols of the field.
    lhs, rhs : callable
        The two sides, of a `Setting`, in its arithmetic.
    domain : mapping of str to Domain
        The arguments of the `Setting` and where they lie. ``codebook`` stands for every codebook with both ends.
    model : {"any", "iid", "row-conditional"}
        What a tensor must be for the claim to speak of it.
    status : {"lean", "paper", "numeric"}
    reference : str
        Keys of references.bib, or the docstring that proves it.
    lean : (str, str) or None
        The Lean declaration below ``QuantGap``, and the hash of its statement when the claim was last compared with
        it: `theory.crosscheck` fails if either side is edited alone.
    measured : bool
        Whether a side is a quantity that is measured on a tensor.
    arithmetics : tuple of str
        In which the sides can be evaluated.
    """

    id: str
    statement: str
    lhs: Callable[[Any], Number]
    rhs: Callable[[Any], Number]
    domain: Mapping[str, Domain]
    model: Literal["any", "iid", "row-conditional"]
    status: Literal["lean", "paper", "numeric"]
    reference: str
    lean: tuple[str, str] | None = None
    measured: bool = False
    arithmetics: tuple[str, ...] = field(default=("float", "ball"))


def within(domain: Domain, box: Domain) -> Domain:
    """The part of a claim's domain in which it is tested: no wider than `box`."""
    low_open = domain.low_open and domain.low >= box.low
    return Domain(max(domain.low, box.low), box.high, low_open, high_open=False, integer=domain.integer)


def closed(low: float, high: float, integer: bool = False) -> Domain:
    return Domain(low, high, low_open=False, high_open=False, integer=integer)


BETA = within(SHAPE, closed(0.3, 20))
FISHER = within(FISHER_SHAPE, closed(0.3, 20))
LOG_CONCAVE = within(LOG_CONCAVE_SHAPE, closed(0.3, 20))
BLOCK_BETA = closed(0.5, 8)
BLOCK_LOG_CONCAVE = within(LOG_CONCAVE_SHAPE, BLOCK_BETA)
RATE = closed(0.25, 8)
DISTORTION = closed(1e-4, 0.95)
BLOCK = closed(2, 4096, integer=True)
LEVELS = closed(2, 64, integer=True)
POWER = closed(1, 8)
POINT = closed(-8, 8)
CODEBOOK = COUNT
"""Stands for every codebook that has both ends."""

FLOAT_ONLY = ("float",)
