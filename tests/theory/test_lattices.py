"""Second moments of lattices: by decoding uniform draws, by quadrature, against bounds and published digits."""

import itertools
import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from tests.tolerances import CLOSED_FORM, STANDARD_ERRORS, close
from theory import lattices
from theory.lattices import LATTICES, nearest_point, second_moment, space_filling_loss, sphere_bound, zador_upper

# As printed: nine digits by Agrell and Allen (2023), seven by Conway and Sloane (Sphere Packings).
PRINTED = {
    "Z": "0.083333333", "A2": "0.080187537", "A3": "0.0787451", "A3*": "0.078543281", "D4": "0.076603235",
    "D5*": "0.075625443", "E6": "0.0743467", "E6*": "0.074243697", "E7": "0.0732306", "E7*": "0.073116493",
    "E8": "0.071682099", "K12": "0.070095600", "BW16": "0.068297622",
}  # fmt: skip
OMEGA, THETA = complex(-0.5, math.sqrt(0.75)), 1j * math.sqrt(3)


def eisenstein(z):
    """Nearest Eisenstein integer, over a 3 x 3 neighbourhood of the rounded coordinates."""
    b = np.rint(z.imag / OMEGA.imag)
    a = np.rint(z.real + b / 2)
    near = np.stack([a + i + (b + j) * OMEGA for i in (-1, 0, 1) for j in (-1, 0, 1)])
    return np.take_along_axis(near, np.abs(near - z).argmin(axis=0)[None], 0)[0]


def span(generator, q=2):
    return [np.array(u) @ generator % q for u in itertools.product(range(q), repeat=len(generator))]


def integers_mod_2(words, x):
    """Squared distance of x to the integer vectors that are a codeword modulo 2."""
    return np.min([((x - w - 2 * np.rint((x - w) / 2)) ** 2).sum(-1) for w in words], axis=0)


def eisenstein_mod(base, words, z):
    return np.min([(abs(z - w - base * eisenstein((z - w) / base)) ** 2).sum(-1) for w in words], axis=0)


def even_quotient(words, scale, x, parity):
    """Squared distance to the vectors w + scale k, sum of k of the given parity for the word w."""
    best = np.full(len(x), np.inf)
    for w in words:
        k = np.rint((x - w) / scale)
        error = np.abs((x - w) / scale - k)
        wrong = (k.sum(-1) + parity(w)) % 2 != 0
        best = np.minimum(best, scale**2 * ((error**2).sum(-1) + wrong * (1 - 2 * error.max(-1))))
    return best


HAMMING = np.array([[1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1]])
POINTS = np.array(list(itertools.product((0, 1), repeat=4)))
REED_MULLER = [(POINTS @ np.array(a) + b) % 2 for a in itertools.product((0, 1), repeat=4) for b in (0, 1)]
FIELD = (0, 1, OMEGA, OMEGA**2)
HEXACODE = [np.array([a, b, c, *(a * t * t + b * t + c for t in FIELD[1:])])
            for a, b, c in itertools.product(FIELD, repeat=3)]  # fmt: skip
GOLAY = span(np.array([[0] * s + [1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1] + [0] * (11 - s) + [0] for s in range(12)]))
GOLAY = np.array([[*w[:23], w[:23].sum() % 2] for w in GOLAY])


def leech(x):
    """Vectors m + 2c + 4k of Z**24, m = 0 or 1, c of the Golay code, sum of k = m modulo 2; in units of 1/sqrt(8)."""
    best = np.full(len(x), np.inf)
    for m in (0, 1):
        k = np.stack([np.rint((x - m - 2 * c) / 4) for c in (0, 1)])
        error = np.abs(np.stack([(x - m - 2 * c) / 4 for c in (0, 1)]) - k)
        cost = (error[0] ** 2).sum(-1, keepdims=True) + (error[1] ** 2 - error[0] ** 2) @ GOLAY.T
        wrong = (k[0].sum(-1, keepdims=True) + (k[1] - k[0]) @ GOLAY.T) % 2 != m
        best = np.minimum(best, np.where(wrong, np.inf, cost).min(-1))
        i, j = np.nonzero(wrong & (cost < best[:, None]))
        worst = np.where(GOLAY[j] == 1, error[1][i], error[0][i]).max(-1)
        np.minimum.at(best, i, cost[i, j] + 1 - 2 * worst)
    return 16 * best


def uniform(rng, draws, n, period):
    return rng.uniform(0, period, (draws, n))


def uniform_complex(rng, draws, n, period):
    return period * (rng.uniform(size=(draws, n)) + OMEGA * rng.uniform(size=(draws, n)))


CELL = math.sqrt(0.75)
# name: (draws, generator of draws, its period, squared distance, cell volume)
DECODERS = {
    "A3": (10**5, uniform, 2, lambda x: even_quotient([np.zeros(3)], 1, x, lambda w: 0), 2.0),
    "A3*": (10**5, uniform, 2, lambda x: integers_mod_2([np.zeros(3), np.ones(3)], x), 4.0),
    "D5*": (10**5, uniform, 2, lambda x: integers_mod_2([np.zeros(5), np.ones(5)], x), 16.0),
    "E6": (10**5, uniform_complex, THETA, lambda z: eisenstein_mod(THETA, [k * np.ones(3) for k in range(3)], z),
           (3 * CELL) ** 3 / 3),
    "E6*": (10**5, uniform_complex, THETA,
            lambda z: eisenstein_mod(THETA, span(np.array([[1, 0, 2], [0, 1, 2]]), 3), z), (3 * CELL) ** 3 / 9),
    "E7": (10**5, uniform, 2, lambda x: integers_mod_2(span(HAMMING), x), 16.0),
    "E7*": (10**5, uniform, 2,
            lambda x: integers_mod_2([w for w in itertools.product((0, 1), repeat=7) if not (HAMMING @ w % 2).any()],
                                     x), 8.0),
    "K12": (2 * 10**4, uniform_complex, 2, lambda z: eisenstein_mod(2, HEXACODE, z), (4 * CELL) ** 6 / 64),
    "BW16": (10**5, uniform, 4, lambda x: even_quotient(REED_MULLER, 2, x, lambda w: w.sum() / 2), 2.0**12),
    "Leech": (20_000, uniform, 8, leech, 2.0**36),
}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_second_moment_by_decoding_uniform_draws(name):
    draws, draw, period, distance, volume = DECODERS[name]
    n = LATTICES[name].dimension
    x = draw(np.random.default_rng(7), draws, n // (2 if draw is uniform_complex else 1), period)
    error = np.concatenate([distance(part) for part in np.array_split(x, max(draws // 2000, 1))]) / n
    assert abs(error.mean() - second_moment(name, volume)) < STANDARD_ERRORS * error.std() / math.sqrt(draws)


@pytest.mark.parametrize(("name", "volume"), [("Z", 1), ("A2", CELL), ("D4", 2), ("E8", 1)])
def test_second_moment_by_the_public_decoder(name, volume):
    n, draws = LATTICES[name].dimension, 200_000
    x = np.random.default_rng(3).uniform(-40, 40, (draws, n))
    error = ((x - nearest_point(name, x)) ** 2).mean(-1)
    assert abs(error.mean() - second_moment(name, volume)) < STANDARD_ERRORS * error.std() / math.sqrt(draws)


def test_hexagon_by_integration():
    """A twelfth of the cell of A2: the triangle under the line from 0 to (1/2, 1/(2 sqrt 3))."""
    x, y = sympy.symbols("x y")
    part = sympy.integrate(x**2 + y**2, (y, 0, x / sympy.sqrt(3)), (x, 0, sympy.Rational(1, 2)))
    volume = sympy.sqrt(3) / 2
    assert sympy.simplify(12 * part / volume / 2 - second_moment("A2", volume)) == 0


@pytest.mark.parametrize("name", PRINTED)
def test_printed_digits(name):
    digits = len(PRINTED[name]) - 2
    assert abs(second_moment(name) - float(PRINTED[name])) <= 0.5000001 * 10.0**-digits


@pytest.mark.parametrize("name", LATTICES)
def test_between_the_bounds(name):
    n = LATTICES[name].dimension
    assert sphere_bound(n) <= second_moment(name) * (1 + CLOSED_FORM) <= zador_upper(n) * (1 + CLOSED_FORM)


@pytest.mark.parametrize("name", [name for name in LATTICES if name != "Leech"])
def test_four_arithmetics_agree(name):
    with mp.workdps(40):
        fine = second_moment(name, mpf(3))
        assert second_moment(name, arb(3)).overlaps(arb(str(fine), arb(str(fine)) * 1e-38))
        assert abs(mpf(sympy.N(second_moment(name, sympy.Integer(3)), 40)) / fine - 1) < mpf(10) ** -38
    assert float(second_moment(name, 3.0)) == close(float(fine), rel=CLOSED_FORM)


def test_leech_is_an_estimate_and_says_so():
    ball = second_moment("Leech", arb(1))
    assert ball.contains(arb(second_moment("Leech")))
    assert float(ball.rad()) > 1e-6
    for one in (mpf(1), sympy.Integer(1)):
        with pytest.raises(TypeError, match="few digits"):
            second_moment("Leech", one)


def test_sphere_bound_is_the_ball_by_quadrature():
    for n in (1, 2, 3, 8, 24):
        volume = mp.pi ** (mpf(n) / 2) / mp.gamma(mpf(n) / 2 + 1)
        moment = mp.quad(lambda r, n=n, v=volume: r**2 * n * v * r ** (n - 1), [0, 1]) / n / volume
        assert float(sphere_bound(n)) == close(float(moment / volume ** (mpf(2) / n)), rel=CLOSED_FORM)


def test_bounds_in_every_dimension():
    n = np.arange(1, 5000)
    low, high = sphere_bound(n), zador_upper(n)
    limit = 1 / (2 * math.pi * math.e)
    assert (np.diff(low) < 0).all()
    assert (np.diff(high) < 0).all()
    assert (limit < low).all()
    assert (low < high).all()
    assert high[-1] < limit * 1.01
    with mp.workdps(40):
        fine = arb(str(sphere_bound(mpf(24))))
    assert abs(sphere_bound(arb(24)) - fine) < 1e-15
    assert float(sphere_bound(sympy.Integer(24))) == close(float(fine), rel=CLOSED_FORM)


def test_space_filling_loss():
    assert space_filling_loss("Z") == close(math.log2(2 * math.pi * math.e / 12) / 2, rel=CLOSED_FORM)
    assert abs(space_filling_loss(sphere_bound(10.0**7))) < 2e-6
    assert abs(space_filling_loss(second_moment("E8", arb(1))) - space_filling_loss("E8")) < CLOSED_FORM
    assert space_filling_loss("A2", base=math.e) == close(space_filling_loss("A2") * math.log(2), rel=CLOSED_FORM)


BASES = {
    "Z": np.eye(3),
    "A2": np.array([[1, 0], [0.5, CELL]]),
    "D4": np.array([[2, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], float),
    "E8": np.array([[2] + [0] * 7, *([0] * i + [-1, 1] + [0] * (6 - i) for i in range(6)), [0.5] * 8], float),
}


@given(st.sampled_from(sorted(BASES)), st.data())
def test_nearest_point_is_a_lattice_point_and_no_neighbour_is_nearer(name, data):
    basis = BASES[name]
    x = np.array(data.draw(st.lists(st.floats(-50, 50), min_size=len(basis), max_size=len(basis))))
    found = nearest_point(name, x)
    coordinates = np.linalg.solve(basis.T, found)
    assert np.abs(coordinates - np.rint(coordinates)).max() < 1e-9
    # Voronoi-relevant vectors, the shortest ones in these lattices: none brings the point nearer.
    reach = itertools.product((-1, 0, 1), repeat=len(basis)) if name != "E8" else ()
    neighbours = [np.array(u) @ basis for u in reach]
    if name == "E8":
        pairs = itertools.combinations(range(8), 2)
        neighbours = [s * np.eye(8)[i] + t * np.eye(8)[j] for i, j in pairs for s in (1, -1) for t in (1, -1)]
        neighbours += [np.array(s) / 2 for s in itertools.product((1, -1), repeat=8) if np.prod(s) > 0]
    best = min(((x - found - v) ** 2).sum() for v in neighbours)
    assert ((x - found) ** 2).sum() <= best + 1e-9


def test_bad_input():
    with pytest.raises(ValueError, match="no lattice is called 'E9': there are Z, A2"):
        second_moment("E9")
    with pytest.raises(ValueError, match=r"volume = 0.0 is outside \(0, inf\)"):
        second_moment("E8", 0.0)
    for f in (sphere_bound, zador_upper):
        with pytest.raises(ValueError, match=r"n = 1\.5 is outside integers"):
            f(1.5)
    with pytest.raises(ValueError, match=r"moment = -1\.0"):
        space_filling_loss(-1.0)
    with pytest.raises(ValueError, match="no lattice with a decoder"):
        nearest_point("Leech", np.zeros(24))
    with pytest.raises(ValueError, match="8 coordinates of E8"):
        nearest_point("E8", np.zeros(4))
    with pytest.raises(ValueError, match=r"x\[1\] = nan"):
        nearest_point("Z", [0.0, math.nan])
    assert lattices.nearest_point("D4", np.zeros((2, 3, 4))).shape == (2, 3, 4)
