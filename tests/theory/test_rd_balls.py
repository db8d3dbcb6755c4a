"""R(D) in balls: closed forms, integrals by another rule, bounds sampled, brackets from bad atoms and short tails."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from flint import acb, arb, ctx
from mpmath import mp
from scipy import integrate

from theory import rd_ball_integrals, rd_balls, shannon
from theory.arithmetic import MPMATH, midpoint
from theory.blahut_arimoto import Reproduction
from theory.rate_distortion import curve, solve
from theory.rd_ball_integrals import Law, Mixture, gather, over_atoms, over_density, transform
from theory.rd_search import Search
from theory.sources import GGD, Histogram, ScaleMixture

BITS = 128  # of the balls that a float64 end is held against
SHARP = 1e-10  # radius of an integral at the default rules: measured 1e-12
QUADRATURE = 1e-9  # scipy's quad over smooth pieces, summed


@pytest.fixture(autouse=True)
def _precision():
    with ctx.workprec(BITS):
        yield


def brackets(r, truth: arb) -> bool:
    return r.certified and bool(arb(r.lower) <= truth) and bool(truth <= arb(r.upper))


def run(source, D: float, tol: float = 7e-7) -> Search:
    search = Search(source, math.sqrt(source.variance), D / source.variance, False, tol)
    with np.errstate(under="ignore", over="ignore"):
        search.run(None)
    return search


@pytest.mark.parametrize("D", [1e-3, 0.01, 0.1, 0.5, 0.95, 0.99999])
def test_gaussian(D):
    r = solve(GGD(2.0), D, certify=True)
    assert r.status == "converged"
    assert r.upper - r.lower <= 1e-6
    assert brackets(r, -arb(D).log() / arb(2).log() / 2)


@pytest.mark.parametrize("beta", [0.5, 0.7, 1.0, 1.7, 4.0, 8.0])
@pytest.mark.parametrize("D", [0.01, 0.1, 0.5, 0.95])
def test_between_the_shannon_bound_and_the_gap_bounds(beta, D):
    plain, r = solve(GGD(beta), D), solve(GGD(beta), D, certify=True)
    assert r.converged
    assert r.upper - r.lower <= 1e-6
    assert r.lower <= plain.upper
    assert plain.lower <= r.upper
    law = GGD(arb(beta))
    slb = shannon.lower_bound(law, arb(D))
    assert arb(r.upper) > slb
    assert arb(r.lower) < slb + shannon.gap_upper_bound(law, arb(D))


@pytest.mark.parametrize(
    "source", [GGD(1.2, 3e-3), GGD(0.8, 40.0), ScaleMixture(GGD(1.4), [0.3, 1.0, 3.0], [1, 2, 1])]
)
def test_any_scale_and_both_questions(source):
    D = 0.2 * source.variance
    r = solve(source, D, certify=True)
    assert r.converged
    assert r.lower <= solve(source, D).upper
    assert solve(source, D).lower <= r.upper
    asked = solve(source, rate=r.upper, certify=True)
    assert asked.converged
    assert asked.certified
    assert asked.D_upper == asked.D
    assert asked.D_lower <= D <= asked.D_upper * (1 + 4e-6)
    assert asked.lower <= asked.rate == asked.upper


@pytest.mark.parametrize("D", [1e-6, 0.1, 0.5, 0.9])
def test_two_equal_atoms(D):
    p = (1 + (1 - arb(D)).sqrt()) / 2
    truth = 1 + (p * p.log() + (1 - p) * (1 - p).log()) / arb(2).log()
    r = solve(Histogram([-1.0, 1.0], [3, 3]), D, certify=True)
    assert r.converged
    assert brackets(r, truth)


def test_histograms():
    source = Histogram([-1.0, 0.0, 2.0], [1, 2, 1])
    assert brackets(solve(source, 1e-300, certify=True), arb("1.5"))
    at_entropy = solve(source, rate=1.5 + 1e-9, certify=True)
    assert (at_entropy.D_lower, at_entropy.status) == (0.0, "converged")
    assert at_entropy.D_upper < 1e-300
    x = np.unique(np.random.default_rng(1).standard_normal(400).astype(np.float16)).astype(float)
    many = Histogram(np.append(x, 12.0), np.ones(len(x) + 1))
    for D in (1e-3, 0.3):
        r, plain = solve(many, D, certify=True), solve(many, D)
        assert r.converged
        assert r.lower <= plain.upper
        assert plain.lower <= r.upper


def example(beta: float = 0.7) -> tuple[Law, Mixture]:
    """A mixture that is good for nothing, of 11 atoms, in kernel widths."""
    y = np.array([0.0, 0.9, 2.1, 3.0, 4.4, 5.5])
    q = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.07])
    with ctx.workprec(rd_ball_integrals.WIDE):
        return Law(GGD(beta), arb(2)), Mixture.of(Reproduction(y, q, 0.5), folded=True)


def by_quadrature(beta: float, y0: float, cut: float) -> list:
    """E ln c, D_s and g(y0) for `example` over |x| < cut, by mpmath."""
    density = GGD(beta, 2.0).within(MPMATH).pdf
    _, atoms = example(beta)
    pairs = [(midpoint(y), midpoint(q)) for y, q in zip(atoms.y, atoms.q, strict=True)]

    def c(x):
        return mp.fsum(q * mp.exp(-((x - y) ** 2) / 2) for y, q in pairs)

    def error(x):
        return mp.fsum(q * (x - y) ** 2 * mp.exp(-((x - y) ** 2) / 2) for y, q in pairs) / c(x)

    def both(x):
        return (mp.exp(-((x - y0) ** 2) / 2) + mp.exp(-((x + y0) ** 2) / 2)) / c(x)

    pieces = [0, *(mpmath.mpf(2) ** -k for k in range(24, 0, -4)), *range(1, int(cut) + 1), cut]
    return [
        mp.quad(lambda x, f=f: density(x) * f(x), pieces)
        for f in (lambda x: 2 * mp.log(c(x)), lambda x: 2 * error(x), both)
    ]


def at(body, y: float, h: float, i: int = 0) -> arb:
    box = math.floor(y / h)
    ((value,),) = transform(body.inverse, [box], [(arb(y) - rd_ball_integrals.centre(box, h), (i,))], h)
    return value


def holds(ball: arb, truth, slack: float = 1e-17) -> bool:
    """Kernels further than `REACH` were dropped from the channel: e**-40 of it."""
    return ball.overlaps(arb(mp.nstr(truth, 25)) + arb(0, slack * float(1 + abs(truth))))


@pytest.mark.parametrize(("beta", "h"), [(0.7, 0.4), (1.0, 0.3), (4.0, 0.25)])
def test_integrals(beta, h):
    law, atoms = example(beta)
    cut = 6.0
    body = over_density(law, round(cut / h), atoms, cut / round(cut / h))
    with mp.workdps(22):
        log, square, g = by_quadrature(beta, 1.3, cut)
    for ball, truth in ((body.log, log), (body.square, square), (at(body, 1.3, cut / round(cut / h)), g)):
        assert ball.rad() < SHARP
        assert holds(rd_ball_integrals.widen(ball, body.error), truth)
    assert body.error < SHARP


@pytest.mark.parametrize(("name", "value"), [("_GAUSS", 2), ("_CHEBYSHEV", 3), ("_TERMS", 4)])
def test_remainders_cover_poor_rules(monkeypatch, name, value):
    """With rules so poor that their error shows, only the bounds of it keep the truth inside."""
    monkeypatch.setattr(rd_ball_integrals, name, value)
    law, atoms = example()
    body = over_density(law, 15, atoms, 0.4)
    with mp.workdps(22):
        log, square, g = by_quadrature(0.7, 1.3, 6.0)
    assert holds(body.log, log)
    assert holds(body.square, square)
    assert holds(rd_ball_integrals.widen(at(body, 1.3, 0.4), body.error), g)
    misses = [abs(float(b.mid()) - float(t)) for b, t in ((body.log, log), (body.square, square))]
    assert max(misses) > 1e-9


def test_bounds_on_the_disk():
    """Every quantity that a quadrature bound rests on, against values at random complex points."""
    law, atoms = example(1.7)
    rng, h = np.random.default_rng(3), 0.4
    r, y0 = rd_ball_integrals._RADIUS * arb(h), 0.9
    columns = [(arb(0), (0, 1)), (r, (0, 2)), (-r, (0, 2))]
    placed = gather(zip(atoms.y, atoms.q, strict=True), h)
    for box, row in enumerate(transform(placed, range(-14, 14), columns, h), start=-14):
        row[3] += row[2]
        row[5] += row[4]
        log, square, inverse = rd_ball_integrals._suprema(row, r)
        u, most = rd_ball_integrals.centre(box, h), 0.0
        for angle, part in zip(rng.uniform(0, 2 * math.pi, 60), rng.uniform(0.5, 1, 60), strict=True):
            z = acb(float(u)) + acb(math.cos(angle), math.sin(angle)) * float(r) * part
            kernels = [q * (-((z - y) ** 2) / 2).exp() for y, q in zip(atoms.y, atoms.q, strict=True)]
            c = sum(kernels, acb(0))
            n = sum((k * (z - y) ** 2 for k, y in zip(kernels, atoms.y, strict=True)), acb(0))
            kernel = (-((z - y0) ** 2) / 2).exp() / c
            assert abs(c.log()) <= log
            assert abs(n / c) <= square
            assert abs(kernel) <= inverse
            assert abs(kernel * (z - y0)) <= 2 * inverse
            assert abs(kernel * ((z - y0) ** 2 - 1)) <= 3 * inverse
            if box > 2:
                assert abs((-((z / law.parts[0][2]) ** law.beta)).exp() * law.parts[0][1]) <= law.bound(u, r)
            most = max(most, float(abs(c.log()) / log))
        assert most > 0.4  # and they are not idle


def test_transform():
    rng, h = np.random.default_rng(5), 0.5
    points = [(arb(x), arb(m)) for x, m in zip(rng.uniform(-3, 7, 50), rng.normal(size=50), strict=True)]
    columns = [(arb(t), (0, 1, 2)) for t in (-0.25, 0.1, 0.6)]
    for box, row in zip((-4, 0, 5), transform(gather(points, h), (-4, 0, 5), columns, h), strict=True):
        values = iter(row)
        for t, _ in columns:
            v = [rd_ball_integrals.centre(box, h) + t - x for x, _ in points]
            k = [m * (-a * a / 2).exp() for a, (_, m) in zip(v, points, strict=True)]
            for factor in (lambda a: 1, lambda a: -a, lambda a: a * a - 1):
                ball = next(values)
                assert ball.contains(sum((factor(a) * b for a, b in zip(v, k, strict=True)), arb(0)).mid())
                assert ball.rad() < SHARP


@pytest.mark.parametrize("gap", [0.3, 1.5, 4.0])
def test_supremum(gap):
    """Against g from its definition, densely: above it, and by no more than the tolerance."""
    source = Histogram([-gap, 0.0, 1.7 * gap], [1, 2, 1])
    atoms = Mixture.of(Reproduction(np.array([-0.37 * gap, 0.9 * gap]), np.array([0.7, 0.3]), 0.5), folded=False)
    body = over_atoms(source, arb(1), atoms, 0.58)
    sup = float(rd_balls.supremum(body, range(-20, 20), 0.58, 1e-6))
    x = source.values
    c = np.exp(-((x[:, None] - [-0.37 * gap, 0.9 * gap]) ** 2) / 2) @ [0.7, 0.3]
    y = np.linspace(-2 * gap, 3 * gap, 200_001)
    g = np.exp(-((y[:, None] - x) ** 2) / 2) @ (source.probabilities / c)
    assert g.max() <= sup <= g.max() * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_bad_atoms_still_bracket(seed):
    rng, search = np.random.default_rng(seed), run(GGD(2.0), 0.3)
    point, r = search.points[-1]
    worse = Reproduction(r.y, r.q * rng.uniform(0.5, 1.5, len(r.y)), r.s)
    search.points, search.last = [(point, worse)], worse
    lower, upper, *_ = rd_balls.certify(search, 0.3, 7e-7)
    truth = -arb(0.3).log() / arb(2).log() / 2
    assert lower < truth < upper
    assert 1e-4 < upper - lower < 0.5


@pytest.mark.parametrize("start", [0.05, 1.5, 2.5, 3.5])
def test_a_heavy_tail_is_paid_for(start):
    search = run(GGD(2.0), 0.3)
    search.body = replace(search.body, tail=replace(search.body.tail, start=start))
    (point, r), inside = search.points[-1], math.erf(start / math.sqrt(2))
    search.points = [(point, replace(r, q=inside * r.q))]  # the rest of the output law is the tail's
    lower, upper, *_ = rd_balls.certify(search, 0.3, 7e-7)
    truth = -arb(0.3).log() / arb(2).log() / 2
    assert lower < truth < upper
    assert upper < 1.2


def test_lower_end_from_its_lambda():
    """With S = sup + delta, lambda = 1/(c S) in the body and delta/(P S) in a heavy tail: its mean logarithm by
    quadrature, and E lambda K <= 1 at y in either.
    """
    tol, start, source = 1e-3, 2.0, GGD(2.0)
    search = run(source, 0.3)
    search.body = replace(search.body, tail=replace(search.body.tail, start=start))
    r = search.last
    end = rd_balls.Certificate(search, r, tol)
    sup, mass, delta = (
        float(rd_balls.supremum(end.body, end.hull, end.h, tol)),
        2 * float(source.cdf(-start)),
        tol / 20,
    )
    y, q = np.append(-r.y, r.y), np.append(r.q, r.q) / 2

    def weight(x: float) -> float:
        c = float(np.exp(-r.s * (x - y) ** 2) @ q)
        return (1 / c if abs(x) < start else delta / mass) / (sup + delta)

    def expect(f) -> float:
        edges = [-8.0, -start, 0.0, start, 8.0]
        parts = [
            integrate.quad(lambda x: float(source.pdf(x)) * f(x), a, b, epsabs=1e-12, epsrel=1e-11)[0]
            for a, b in pairwise(edges)
        ]
        return math.fsum(parts)

    assert abs(float(end.intercept()) - expect(lambda x: math.log(weight(x)))) < QUADRATURE
    for y0 in (0.0, 0.7, 1.4, start, 2.5, 4.0):
        assert expect(lambda x, y0=y0: weight(x) * math.exp(-r.s * (x - y0) ** 2)) <= 1


def test_weights_of_a_mixture_add_up_exactly():
    source = ScaleMixture(GGD(1.4), [0.3, 0.5, 0.7, 1.0, 3.0], [0.1, 0.3, 0.7, 1.1, 1.3])
    assert sum(map(Fraction, source.weights.tolist())) != 1
    with ctx.workprec(rd_ball_integrals.WIDE):
        assert abs(Law(source, arb(1)).moment(0, arb(0), arb.pos_inf()) - 1) < 1e-60


def test_a_cliff_inside_a_panel():
    """A scale of 1e-3 under a kernel of width 1: what its channel achieves, by adaptive quadrature, is bracketed."""
    source = ScaleMixture(GGD(8.0), [1e-3, 1.0, 2.0])
    D = 0.95 * source.variance
    r = solve(source, D, certify=True)
    edges = [0.0, 1e-3, 1.5e-3, 1.7e-3, 1.9e-3, 2.2e-3, 3e-3, 0.5, 1, 1.5, 1.8, 2, 2.5, 3, 3.5, 4, 5]

    def intercept(x: float) -> float:
        return -float(source.pdf(x)) * math.log(np.exp(-r.slope * (x - r.levels) ** 2) @ r.weights)

    parts = [integrate.quad(intercept, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in pairwise(edges)]
    achieved = (2 * math.fsum(parts) - r.slope * D) / math.log(2)
    assert r.lower <= achieved + QUADRATURE
    assert abs(achieved - r.upper) < 1e-6


def test_ends_are_rounded_outward():
    third = arb(1) / 3
    assert arb(rd_balls.down(third)) < third < arb(rd_balls.up(third))
    assert rd_balls.up(arb.nan()) == math.inf == -rd_balls.down(arb.nan())
    r = solve(GGD(1.0, 0.1), 0.1**2, certify=True)  # the float variance, which is not the variance
    assert r.certified
    assert 0 <= r.lower <= r.upper < 1e-15
    zero = solve(GGD(1.0, 0.1), rate=0.0, certify=True)
    assert arb(zero.D_lower) < arb(0.1) ** 2 < arb(zero.D_upper)


@pytest.mark.parametrize("kwargs", [{"D": 1e-12}, {"rate": 25.0}, {"D": 0.3, "tol": 1e-13}])
def test_what_is_not_reached_is_said(kwargs):
    r = solve(GGD(2.0), **kwargs, certify=True)
    assert r.certified
    assert r.status.startswith("tolerance not reached")
    assert "in balls" in r.status
    truth = -arb(r.D).log() / arb(2).log() / 2
    assert arb(r.lower) <= truth
    assert abs(r.upper - float(truth)) < 1e-6  # where there is no channel, the Gaussian's


def test_curve_and_tight_tolerance():
    for r in curve(GGD(1.7), [0.05, 0.3], tol=1e-9, certify=True):
        assert r.certified
        assert r.converged
        assert r.upper - r.lower <= 1e-9
    assert not solve(GGD(1.7), 0.3).certified


def test_other_sources_are_refused():
    with pytest.raises(TypeError, match="GGD"):
        Law(Histogram([0.0, 1.0], [1, 1]), arb(1))
    with pytest.raises(TypeError, match="float64"):
        solve(GGD(arb(1)), 0.1, certify=True)
