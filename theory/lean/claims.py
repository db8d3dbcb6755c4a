"""The claims of `theory.claims` beside the Lean statements: which have none, and how the sides correspond."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from flint import arb, fmpq

from theory.claims import Claim
from theory.units import to_nats

UNSTATED: Mapping[str, str] = {}
"""Claims without a Lean statement of their own, and why: none."""

OTHER_FORM: Mapping[str, str] = {
    "block.absmax-mean-lower": "Lean compares F of both sides",
    "block.absmax-mean-upper": "Lean compares F of both sides",
    "block.error-pointwise": "Lean says it of one weight, the claim of the worst",
    "geometry.waterfilling-above-gm": "Lean compares logarithms",
    "scalar.lloyd-max-above-slb": "Lean says it of any levels, the claim of the best",
}
"""Claims whose sides are the Lean statement's only after a step that the reason names."""

_NATS = ("ggd.kl-nonnegative",)


def setting(claim: Claim, rng: random.Random) -> dict[str, Any]:
    """Arguments of a `Setting` in the claim's domain, rational as balls where the claim takes balls."""
    drawn: dict[str, Any] = {}
    for name, domain in claim.domain.items():
        low, high = max(float(domain.low), -4.0), min(float(domain.high), 6.0)
        if domain.integer:
            drawn[name] = rng.randint(math.ceil(low), int(high))
        elif name == "spectrum":
            drawn[name] = np.array([rng.randint(1, 64) / 8 for _ in range(4)])
        else:
            drawn[name] = arb(low) + arb(high - low) * fmpq(rng.randint(1, 15), 16)
    if "larger_beta" in drawn:
        drawn["larger_beta"] = drawn["beta"] + arb(fmpq(rng.randint(1, 8), 4))
    return drawn


def environment(setting: Mapping[str, Any]) -> dict[str, Any]:
    """The Lean variables of a setting; sigma is 1, the two points of a midpoint have weights 1/2."""
    one, half = fmpq(1), fmpq(1, 2)
    env: dict[str, Any] = {"sigma": one, "sigma1": one, "sigma2": one, "a": one, "s": half, "t": half}
    env |= {k: v for k, v in setting.items() if k in ("beta", "D", "n", "q", "x", "y")}
    if "larger_beta" in setting:
        env |= {"beta1": setting["beta"], "beta2": setting["larger_beta"]}
    if "spectrum" in setting:
        env |= {"n": len(setting["spectrum"]), "lam": [arb(v) for v in setting["spectrum"]]}
    return env


def in_units_of_lean(claim: Claim, value: Any) -> Any:
    """A side of the claim, in nats where the Lean statement is."""
    return to_nats(value) if claim.id in _NATS else arb(value)


def digits(claim: Claim) -> int:
    """To which the sides must agree: those of balls, or of float64."""
    return 25 if "ball" in claim.arithmetics else 13
