"""50-digit values of the GGD from quadrature of its density: an oracle that shares no code with `theory`.

    python tests/theory/reference_tables.py            # writes reference_tables.csv beside this file

No Gamma function is called: every value is an integral of ``exp(-t**beta)``. After a double-exponential
change of variable the integrand is analytic in a strip about the real line, where the trapezoidal rule
converges like ``exp(-2 pi d / h)``. The script computes everything twice, at two precisions and two steps, and
refuses to write a digit on which the two disagree.

A row is ``quantity, arguments, value``: the arguments are those of the `theory` function, doubles whose
exact values are meant (so that 1.999 near the Gaussian is the same number for every arithmetic).
"""

from __future__ import annotations

import csv
import functools
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

from mpmath import mp, mpf

DIGITS = 50
TABLE = Path(__file__).with_suffix(".csv")
BETAS = (0.3, 0.4, 0.55, 0.7, 0.8, 1.0, 1.15, 1.3, 1.5, 1.7, 1.85, 1.99, 1.999, 2.0, 2.001, 2.1, 2.5, 3.0,
         4.0, 5.5, 8.0, 12.0, 20.0)  # fmt: skip
SIGMAS = (1.0, 0.0125, 3.0)
MOMENTS = (-0.5, 0.5, 1.0, 2.0, 3.0, 4.0, 7.0)
POINTS = (0.001, 0.25, 1.0, 1.75, 2.5, 6.0)
PROBABILITIES = (1e-300, 1e-10, 0.01, 0.3, 0.4999, 0.5 + 2.0**-30, 0.75, 0.999)
OTHER_LAWS = ((2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.3, 1.0, 2.0), (4.0, 0.5, 1.25))  # beta2, sigma1, sigma2
DEEPEST = 650  # a tail exp(-y) beyond it is below the smallest double

Row = tuple[str, tuple[float, ...], mpf]


@functools.cache
def nodes(digits: int, fineness: float, reach: float) -> list[tuple[mpf, mpf]]:
    """Points and weights on (0, reach): ``w = exp(s - exp(-s))`` at the points of a trapezoidal rule in s."""
    nats = digits * mp.log(10)
    step = 2 * mp.pi * mpf("1.1") / nats / fineness
    first, last = int(-mp.log(60 * nats) / step), int(mp.log(reach) / step) + 1
    found = []
    for i in range(first, last + 1):
        decay = mp.exp(-i * step)
        w = mp.exp(i * step - decay)
        found.append((w, step * w * (1 + decay)))
    return found


class Law:
    """The law of unit standard deviation with density proportional to exp(-|x/alpha|**beta)."""

    def __init__(self, beta: float, digits: int, fineness: float):
        self.beta, self.digits, self.fineness = mpf(beta), digits, fineness
        self.nats = digits * mp.log(10)
        self.bulk = nodes(digits, fineness, float(2 * self.nats + 100 / self.beta))
        # y = t**beta, so that exp(-t**beta) dt = exp(-y) (t/y) dy / beta
        self.points = [(t := y ** (1 / self.beta), y, dy * mp.exp(-y) * t / y / self.beta) for y, dy in self.bulk]
        self.mass, second = self.integral(lambda t, y: 1), self.integral(lambda t, y: t * t)
        self.alpha = mp.sqrt(self.mass / second)

    def integral(self, f) -> mpf:
        """int_0^inf f(t, t**beta) exp(-t**beta) dt."""
        return mp.fsum(w * f(t, y) for t, y, w in self.points)

    def mean(self, f) -> mpf:
        """E f(|X/alpha|, |X/alpha|**beta)."""
        return self.integral(f) / self.mass

    def total(self, k: int) -> mpf:
        return self.alpha**k * self.mean(lambda t, y: t**k)

    def tail(self, k: int, x: mpf) -> mpf:
        """E |X|**k; |X| > x, by y = (x/alpha)**beta + w."""
        start, c = (x / self.alpha) ** self.beta, (k + 1) / self.beta - 1
        if start < 0.3:  # a branch point too near
            return self.total(k) - self.head(k, x)
        sum_ = mp.fsum((start + w) ** c * mp.exp(-w) * dw for w, dw in self.bulk)
        return self.alpha**k * mp.exp(-start) * sum_ / self.beta / self.mass

    def head(self, k: int, x: mpf) -> mpf:
        """E |X|**k; |X| <= x, by y = (x/alpha)**beta exp(-w)."""
        end, e = (x / self.alpha) ** self.beta, (k + 1) / self.beta
        if end > 30:  # exp(-y) is huge off the real line
            return self.total(k) - self.tail(k, x)
        rule = nodes(self.digits + 25, self.fineness, float((self.nats + 60) / e))
        sum_ = mp.fsum(mp.exp(-end * mp.exp(-w) - e * w) * dw for w, dw in rule)
        return self.alpha**k * end**e * sum_ / self.beta / self.mass

    def density(self, x: mpf) -> mpf:
        return mp.exp(-((x / self.alpha) ** self.beta)) / (2 * self.alpha * self.mass)

    def quantile_of_tail(self, q: mpf) -> mpf:
        """x > 0 with P(|X| > x) = q: Newton's method from a bisection on a coarser rule."""
        near = q > mpf("0.9")  # there it is 1 - q that carries the digits

        def excess(x: mpf) -> mpf:  # increasing in x
            return self.head(0, x) - (1 - q) if near else mp.log(q / self.tail(0, x))

        if self.digits <= 20:
            low, high = mpf(0), mpf(1)
            while excess(high) < 0:
                low, high = high, 2 * high
            while high - low > high / 2**36:
                x = (low + high) / 2
                low, high = (x, high) if excess(x) < 0 else (low, x)
            return x
        x = law_of(float(self.beta), 20, 1.0).quantile_of_tail(q)
        for _ in range(3):  # 36 bits, 72, 144, 288
            x -= excess(x) / (2 * self.density(x)) * (1 if near else self.tail(0, x))
        return x


law_of = functools.cache(Law)


def rows(beta: float, digits: int, fineness: float) -> Iterator[Row]:
    """Every row whose law is that of `beta`, computed with `digits` and a step that is `fineness` as fine."""
    law = law_of(beta, digits, fineness)
    gauss = law_of(2.0, digits, fineness)
    b, a, bits = law.beta, law.alpha, 1 / mp.log(2)
    normalizer = mp.log(2 * a * law.mass)  # -ln p = normalizer + y
    surprise = law.mean(lambda t, y: normalizer + y)
    score = law.mean(lambda t, y: (b * y / t) ** 2) / a**2 if beta > 0.5 else None
    gaussian = mp.log(2 * gauss.alpha * gauss.mass) + law.mean(lambda t, y: (a * t / gauss.alpha) ** 2)
    yield "kurtosis", (beta,), law.mean(lambda t, y: t**4) * a**4
    yield "kl_to_gaussian", (beta,), (gaussian - surprise) * bits
    for sigma in SIGMAS:
        yield "alpha", (beta, sigma), a * sigma
        yield "entropy", (beta, sigma), (surprise + mp.log(sigma)) * bits
        yield "entropy_power", (beta, sigma), mp.exp(2 * surprise - 1) / (2 * mp.pi) * mpf(sigma) ** 2
        if score is not None:
            yield "fisher_information", (beta, sigma), score / mpf(sigma) ** 2
            yield "fisher_excess", (beta, sigma), (score - 1) / mpf(sigma) ** 2
        for k in MOMENTS:
            yield "abs_moment", (k, beta, sigma), law.mean(lambda t, y, k=k: t**k) * (a * sigma) ** k
    for beta2, sigma1, sigma2 in OTHER_LAWS:
        if beta2 != beta or sigma1 != sigma2:
            other = law_of(beta2, digits, fineness)
            ratio, b2 = a * sigma1 / (other.alpha * sigma2), mpf(beta2)
            cross = law.mean(lambda t, y, r=ratio, b2=b2: (r * t) ** b2)
            shift = mp.log(other.alpha * sigma2 * other.mass / (a * sigma1 * law.mass))
            value = shift + cross - law.mean(lambda t, y: y)
            yield "kl", (beta, beta2, sigma1, sigma2), value * bits
    for i, point in enumerate(POINTS):
        sigma = SIGMAS[i % len(SIGMAS)]
        x, s = mpf(point * sigma), mpf(sigma)
        if (x / s / a) ** b > DEEPEST:
            continue
        tail, head = law.tail(0, x / s), law.head(0, x / s)
        assert abs(tail + head - 1) < mpf(10) ** (4 - digits)
        yield "pdf", (float(x), beta, sigma), law.density(x / s) / s
        yield "abs_cdf", (float(x), beta, sigma), head
        yield "cdf", (float(x), beta, sigma), 1 - tail / 2
        yield "cdf", (-float(x), beta, sigma), tail / 2
        for k in (0, 1, 2):
            yield "partial_moment", (k, 0.0, float(x), beta, sigma), law.head(k, x / s) * s**k / 2
            yield "partial_moment", (k, -mp.inf, -float(x), beta, sigma), (-s) ** k * law.tail(k, x / s) / 2
    for i, p in enumerate(PROBABILITIES):
        sigma = SIGMAS[i % len(SIGMAS)]
        side, q = (-1, 2 * mpf(p)) if p < 0.5 else (1, 2 * (1 - mpf(p)))
        yield "quantile", (p, beta, sigma), side * sigma * law.quantile_of_tail(q)


def verified(beta: float) -> list[tuple[str, tuple[float, ...], str]]:
    """The rows of `beta` as text, after two computations that agree to `DIGITS` digits."""
    with mp.workdps(DIGITS + 25):
        pairs = zip(rows(beta, DIGITS + 22, 1.25), rows(beta, DIGITS + 15, 1.1), strict=True)
        table = []
        for (name, args, x), (_, _, y) in pairs:
            if name in ("kl_to_gaussian", "fisher_excess") and beta == 2:
                assert abs(x) < mpf(10) ** -(DIGITS + 5)
                x = y = mpf(0)
            if abs(x - y) > abs(x) * mpf(10) ** -(DIGITS + 1):
                raise ArithmeticError(f"{name}{args}: {x} and {y} disagree")
            table.append((name, args, mp.nstr(x, DIGITS)))
        return table


def read() -> dict[str, list[tuple[tuple[float, ...], str]]]:
    """The table: quantity -> [(arguments, 50 digits)]."""
    table: dict[str, list[tuple[tuple[float, ...], str]]] = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            arguments = tuple(map(float, row["arguments"].split()))
            table.setdefault(row["quantity"], []).append((arguments, row["value"]))
    return table


def main() -> None:
    with TABLE.open("w", newline="") as file, multiprocessing.Pool() as pool:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("quantity", "arguments", "value"))
        for beta, table in zip(BETAS, pool.imap(verified, BETAS), strict=True):
            print(f"beta = {beta}: {len(table)} rows", file=sys.stderr)
            for name, args, value in table:
                writer.writerow((name, " ".join(repr(float(v)) for v in args), value))


if __name__ == "__main__":
    main()
