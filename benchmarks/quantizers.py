"""The closed forms and the quantizers of `theory`, beside the cost of what they are made of, in one run.

``python benchmarks/quantizers.py [--json FILE]``

Closed forms stand beside scipy.special's own time for the same special functions on the same arrays (the ratio is
what the formula costs on top) and beside scipy.stats.gennorm. Lloyd-Max stands beside Lloyd's plain iteration, run
until its distortion is within 1e-6 of the optimum, and beside komm's, whose own distortion is printed. The block
distortion stands beside mpmath's quadrature of the definition at 30 digits. Best of three for ours; a baseline that
takes seconds runs once. ``make bench`` installs komm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb, ctx
from mpmath import mp
from rich.console import Console
from rich.table import Table
from scipy import special, stats

from theory import block_scaling, ggd, scalar
from theory.codebooks import NF4
from theory.sources import GGD

try:
    import komm
except ImportError:
    komm = None

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


def komm_lloyd_max(n: int) -> float:
    """Its distortion, relative to the optimum's."""
    levels = komm.LloydMaxQuantizer(input_pdf=stats.norm.pdf, input_range=(-8, 8), num_levels=n).levels
    return float(scalar.mse(levels, GGD(2.0)) / scalar.lloyd_max(GGD(2.0), n).mse) - 1


def block_mse_in_mpmath() -> mp.mpf:
    """NF4, blocks of 64, Gaussian: the integral over the maximum of the error on the truncated law, by mp.quad."""
    with mp.workdps(30):
        levels = [mp.mpf(float(level)) for level in NF4.levels]
        edges = [mp.mpf(-1), *((a + b) / 2 for a, b in pairwise(levels)), mp.mpf(1)]

        def integrand(s: mp.mpf) -> mp.mpf:
            inside = mp.erf(s / mp.sqrt(2))
            error = mp.mpf(0)
            for level, a, b in zip(levels, edges[:-1], edges[1:], strict=True):
                m0 = mp.ncdf(b * s) - mp.ncdf(a * s)
                m1 = mp.npdf(a * s) - mp.npdf(b * s)
                m2 = m0 + a * s * mp.npdf(a * s) - b * s * mp.npdf(b * s)
                error += m2 - 2 * level * s * m1 + (level * s) ** 2 * m0
            return 63 * inside**62 * 2 * mp.npdf(s) * error

        return mp.quad(integrand, [0, 1, 2, 3, 4, 6, 9, 13])


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
    p = rng.uniform(0, 1, 100_000)
    t = (x / ggd.alpha(1.7)) ** 1.7
    pairs = list(zip(rng.uniform(0.5, 8, 1000), 2 ** rng.integers(1, 13, 1000), strict=True))
    pairs = [(float(b), int(n)) for b, n in pairs]
    optimum = float(scalar.lloyd_max(GGD(2.0), 256).mse)
    return [
        ("entropy, 1e6 betas", best(lambda: ggd.entropy(beta)), best(lambda: entropy_in_special_functions(beta))),
        ("abs_cdf, 1e6 points", best(lambda: ggd.abs_cdf(x, 1.7)), best(lambda: special.gammainc(1 / 1.7, t))),
        ("abs_cdf, 1e6 points, against gennorm", best(lambda: ggd.abs_cdf(x, 1.7)),
         best(lambda: stats.gennorm.cdf(x, 1.7), 1)),
        ("quantile, 1e5 points, against gennorm", best(lambda: ggd.quantile(p, 1.7)),
         best(lambda: stats.gennorm.ppf(p, 1.7), 1)),
        ("block MSE, 1000 (beta, n)", best(lambda: blocks(pairs)), None),
        ("block MSE, 30 certified digits, against mp.quad", best(ball), best(block_mse_in_mpmath, 1)),
        ("Lloyd-Max, 256 levels", best(lambda: scalar.lloyd_max(GGD(2.0), 256)),
         best(lambda: plain_lloyd(256, optimum), 1)),
        *([] if komm is None else [
            (f"Lloyd-Max, {n} levels, against komm ({komm_lloyd_max(n):.0e} above the optimum)",
             best(lambda n=n: scalar.lloyd_max(GGD(2.0), n)), best(lambda n=n: komm_lloyd_max(n), 1))
            for n in (16, 64)
        ]),
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
