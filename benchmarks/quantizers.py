"""The closed forms and the quantizers of `theory`, beside the cost of what they are made of, in one run.

``python benchmarks/quantizers.py [--json FILE]``

Closed forms stand beside scipy.special's own time for the same special functions on the same arrays: the ratio is
what the formula costs on top. Lloyd-Max stands beside Lloyd's plain iteration, run until its distortion is within
1e-6 of the optimum. Best of three for ours; a baseline that takes seconds runs once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb, ctx
from rich.console import Console
from rich.table import Table
from scipy import special, stats

from theory import block_scaling, ggd, scalar
from theory.codebooks import NF4
from theory.sources import GGD

SIZE = 1_000_000


def best(call: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of several runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def entropy_in_special_functions(beta: np.ndarray) -> None:
    u = 1 / beta
    special.gammaln(u), special.gammaln(3 * u), special.gamma(u), np.log(u)


def plain_lloyd(n: int, until: float) -> int:
    """Lloyd's iteration for the Gaussian in scipy.stats.norm's functions; the number of rounds to that distortion."""
    levels, rounds, error = stats.norm.ppf((np.arange(n) + 0.5) / n) * 3**0.5, 0, 1.0
    while error > until * (1 + 1e-6):
        t = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        p, density = np.diff(special.ndtr(t)), np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
        levels, rounds = -np.diff(density) / p, rounds + 1
        error = 1 - p @ levels**2
    return rounds


def blocks(pairs: list[tuple[float, int]]) -> None:
    for beta, n in pairs:
        block_scaling.mse(NF4, n, GGD(beta))


def ball() -> None:
    ctx.prec = 128
    block_scaling.mse(NF4, 64, GGD(arb(2), arb(1)))
    ctx.prec = 53


def rows() -> list[tuple[str, float, float | None]]:
    """Name, our seconds, the baseline's seconds."""
    rng = np.random.default_rng(0)
    beta, x = rng.uniform(0.5, 4, SIZE), rng.exponential(1.0, SIZE)
    t = (x / ggd.alpha(1.7)) ** 1.7
    pairs = list(zip(rng.uniform(0.5, 8, 1000), 2 ** rng.integers(1, 13, 1000), strict=True))
    pairs = [(float(b), int(n)) for b, n in pairs]
    optimum = float(scalar.lloyd_max(GGD(2.0), 256).mse)
    return [
        ("entropy, 1e6 betas", best(lambda: ggd.entropy(beta)), best(lambda: entropy_in_special_functions(beta))),
        ("abs_cdf, 1e6 points", best(lambda: ggd.abs_cdf(x, 1.7)), best(lambda: special.gammainc(1 / 1.7, t))),
        ("block MSE, 1000 (beta, n)", best(lambda: blocks(pairs)), None),
        ("block MSE, 30 certified digits", best(ball), None),
        ("Lloyd-Max, 256 levels", best(lambda: scalar.lloyd_max(GGD(2.0), 256)),
         best(lambda: plain_lloyd(256, optimum), 1)),
        ("optimal ECSQ, 4 bits", best(lambda: scalar.optimal_ecsq(GGD(2.0), 4.0)), None),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the measurements there too")
    path = parser.parse_args().json
    found = rows()
    table = Table("what", "ours, ms", "baseline, ms", "ours / baseline")
    for name, ours, baseline in found:
        other = ("", "") if baseline is None else (f"{1e3 * baseline:.1f}", f"{ours / baseline:.3g}")
        table.add_row(name, f"{1e3 * ours:.1f}", *other)
    Console().print(table)
    if path:
        path.write_text(json.dumps([dict(zip(("what", "ours_s", "baseline_s"), r, strict=True)) for r in found]))


if __name__ == "__main__":
    main()
