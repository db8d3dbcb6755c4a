"""How much faster than Blahut-Arimoto? Same source, one process, one thread.

    OMP_NUM_THREADS=1 python benchmarks/rate_distortion.py [--seconds 20]

Plain Blahut-Arimoto works on the source discretized at the quadrature nodes, with a dense kernel. Its dual gap is the
logarithm of the largest g over that grid: no supremum between atoms, no tail, no quadrature error, so it is a gap for
its own problem only. Two races, in both of which ours stops at 1e-6 bit for the continuous source over all real y:

- one slope: it is told the slope that ours found and given ours' first atoms; the times are when its gap fell to 1e-4
  and to 1e-6 bit;
- the whole task, R at a given D to 1e-4 bit: both alphabets are the quadrature nodes, as plain Blahut-Arimoto is
  used, and the slope is found by bisection, the weights warm from slope to slope.

A ``>`` says that it was stopped by the limit (five times as long for the whole task). Then dit, where ``make bench``
installed it, at our slope on a grid of 400 points: it stops when the distortion moves by less than 1e-5 of itself,
so what counts is how far above our certified R, at the distortion it found, its rate is.
"""

import argparse
import math
import time

import numpy as np

try:
    from dit.rate_distortion.blahut_arimoto import blahut_arimoto as dit_blahut_arimoto
except ImportError:
    dit_blahut_arimoto = None

from theory import rd_certificate
from theory.rate_distortion import RateDistortion, solve
from theory.sources import GGD

CASES = [
    (0.6, 0.1),
    (1.0, 0.5),
    (1.0, 0.1),
    (1.0, 0.01),
    (1.0, 0.001),
    (1.7, 0.5),
    (1.7, 0.1),
    (1.7, 0.00885),
    (2.0, 0.1),
    (4.0, 0.05),
    (4.0, 0.001),
]
GOALS = (1e-4, 1e-6)  # bits


def blahut_arimoto(beta: float, s: float, limit: float) -> tuple[list[float], int, float]:
    """Seconds to each goal (limit and beyond if not reached), iterations, and final gap in bits."""
    b = rd_certificate.body(GGD(beta), 1.0, s, 1e-6)
    x, p = b.coarse.x, b.coarse.p
    y = rd_certificate.grid(b.hull, 0.5 / math.sqrt(2 * s), 1.0)
    start = time.perf_counter()
    kernel = (np.exp(-s * (x[:, None] - y) ** 2) + np.exp(-s * (x[:, None] + y) ** 2)) / 2
    q = np.full(len(y), 1 / len(y))
    reached: list[float] = []
    done = 0
    while True:
        g = (p / (kernel @ q)) @ kernel
        q *= g
        done += 1
        if done % 20 == 0:
            gap, elapsed = math.log2(float(g.max())), time.perf_counter() - start
            while len(reached) < len(GOALS) and gap <= GOALS[len(reached)]:
                reached.append(elapsed)
            if len(reached) == len(GOALS) or elapsed > limit:
                return reached + [elapsed] * (len(GOALS) - len(reached)), done, gap


def bracket(kernel: np.ndarray, p: np.ndarray, q: np.ndarray, d2: np.ndarray, s: float) -> tuple[float, float, float]:
    """Distortion, rate and dual intercept (nats) of weights q at slope s, for the discretized source."""
    c = kernel @ q
    u = p / c
    g = u @ kernel
    D = float(u @ ((kernel * d2) @ q))
    mean_log = float(p @ np.log(c))
    return D, -s * D - mean_log, -mean_log - math.log(float(g.max()))


def whole_task(beta: float, D: float, limit: float) -> float:
    """Seconds until plain Blahut-Arimoto, both alphabets the quadrature nodes, has R(D) to 1e-4 bit: it is not given
    the slope, but finds it by bisection, warm starts from slope to slope.
    """
    b = rd_certificate.body(GGD(beta), 1.0, 0.5 / D, 1e-6)
    x, p = b.coarse.x, b.coarse.p / b.coarse.p.sum()
    near, far = (x[:, None] - x) ** 2, (x[:, None] + x) ** 2
    start = time.perf_counter()
    low, high = math.log(0.05 / D), math.log(5 / D)
    q = np.full(len(x), 1 / len(x))
    lower, upper = 0.0, math.inf
    while upper - lower > 1e-4 * math.log(2):
        s = math.exp((low + high) / 2)
        to_near, to_far = np.exp(-s * near), np.exp(-s * far)
        kernel = (to_near + to_far) / 2
        d2 = (to_near * near + to_far * far) / np.maximum(2 * kernel, 1e-300)
        while True:
            for _ in range(20):
                q *= (p / (kernel @ q)) @ kernel
            Ds, rate, intercept = bracket(kernel, p, q, d2, s)
            if time.perf_counter() - start > limit:
                return math.inf
            if rate - (intercept - s * Ds) < 5e-5 * math.log(2):
                break
        lower = max(lower, intercept - s * D)
        if Ds <= D:
            upper, high = min(upper, rate), math.log(s)
        else:
            low = math.log(s)
    return time.perf_counter() - start


def by_dit(beta: float, s: float) -> tuple[float, float, float]:
    """Seconds, distortion and rate of dit's Blahut-Arimoto."""
    x = np.linspace(-8, 8, 400)
    p = GGD(beta).pdf(x)
    d2 = (x[:, None] - x) ** 2
    start = time.perf_counter()
    found, _ = dit_blahut_arimoto(p / p.sum(), s / math.log(2), lambda *_: d2, max_iters=100_000, restarts=1)
    return time.perf_counter() - start, float(found.distortion), float(found.rate)


def timed(beta: float, D: float) -> tuple[float, RateDistortion]:
    start = time.perf_counter()
    r = solve(GGD(beta), D)
    return time.perf_counter() - start, r


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="most time for one Blahut-Arimoto run")
    limit = parser.parse_args().seconds
    solve(GGD(2.0), 0.1)  # imports and first calls are not the algorithm
    print("                      ours               told the slope              theirs / ours    whole task")
    print(" beta       D  seconds width steps   s to 1e-4 s to 1e-6   steps  gap   1e-4   1e-6      s to 1e-4 / ours")
    for beta, D in CASES:
        ours, r = timed(beta, D)
        times, steps, gap = blahut_arimoto(beta, r.slope, limit)
        late = [">" if t > limit else " " for t in times]
        whole = whole_task(beta, D, 5 * limit)
        late += [" " if math.isfinite(whole) else ">"]
        whole = min(whole, 5 * limit)
        print(
            f"{beta:5.1f} {D:7.5f} {ours:8.3f} {r.upper - r.lower:.0e} {r.iterations:4d}"
            f"  {late[0]}{times[0]:8.2f} {late[1]}{times[1]:8.2f} {steps:8d} {gap:.0e}"
            f" {late[0]}{times[0] / ours:5.1f} {late[1]}{times[1] / ours:6.0f}  {late[2]}{whole:9.2f}"
            f" {whole / ours:7.0f}",
            flush=True,
        )
    if dit_blahut_arimoto is not None:
        print("\n beta       D  dit, s  ours, s  its rate - R, bits")
        for beta, D in ((1.0, 0.1), (1.7, 0.1), (2.0, 0.1), (2.0, 0.01)):
            seconds, reached, rate = by_dit(beta, solve(GGD(beta), D).slope)
            ours, r = timed(beta, reached)
            print(f"{beta:5.1f} {reached:7.5f} {seconds:7.2f} {ours:8.3f}  {rate - r.upper:.1e}", flush=True)


if __name__ == "__main__":
    main()
