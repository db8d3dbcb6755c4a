"""Every number that the derivations were checked with, reproduced by a public call to the last digit printed.

The numbers come from the derivations' own calculations, made before this code and not with it. Those that turned out
to be misprints are listed apart, each with the value that replaces it.
"""

import math
from decimal import Decimal

import pytest
from flint import arb, ctx

from theory import block_scaling, ggd, lattices, ledger, rate_distortion, scalar, shannon
from theory.codebooks import FP4, NF4, normal_float
from theory.sources import GGD

D = 0.00885


def nf4_ledger():
    source = GGD(2.0)
    mse = float(block_scaling.mse(NF4, 64, source))
    return ledger.gap_ledger(mse, 4, source, NF4, 64)


def step(name):
    return next(s.bits for s in nf4_ledger().steps if s.name == name)


GGD_TABLE = {
    1.0: ("1.942695040889", "0.104400544292", "2"),
    1.7: ("2.042875985668", "0.004219599513", "1.027456437249"),
    2.0: ("2.047095585181", "0", "1"),
}
SCALAR_TABLE = {
    1.0: (".176194881054", ".015372527060", ".4609953643", ".0253509746", "4.5"),
    1.7: (".128143988488", ".010539955007", ".3580433791", ".0135033020", "3.032470972"),
    2.0: (".117481847829", ".009501008008", ".3352006122", ".0115428844", "2.720699046"),
}
BLOCK_TABLE = {
    32: ("2.347079", ".00762342", ".01302622"),
    64: ("2.596111", ".00846005", ".01487052"),
    128: ("2.827558", ".00913562", ".01653273"),
}


def uniform_step(beta):
    levels = scalar.uniform(GGD(beta), 16).levels
    return levels[8] - levels[7]


def checks():
    for beta, (h, kl, j) in GGD_TABLE.items():
        yield f"1: h({beta})", h, lambda b=beta: ggd.entropy(b)
        yield f"1: KL({beta})", kl, lambda b=beta: ggd.kl_to_gaussian(b)
        yield f"1: J({beta})", j, lambda b=beta: ggd.fisher_information(b)
    yield "2: slope per bit", "1.386", lambda: -math.log(shannon.gaussian_distortion(1))
    yield "2: (b')", "0.2546", shannon.gap_log_concave
    yield "2: (e)", "0.000175", lambda: shannon.gap_fisher_refined(GGD(1.7), D)
    yield "2: (d)", "0.00653", lambda: shannon.gap_fisher_log(GGD(1.7), D)
    yield "2: (b)", "0.00422", lambda: shannon.gap_kl(GGD(1.7))
    for beta, (four, sixteen, width, uniform, constant) in SCALAR_TABLE.items():
        yield f"3: Lloyd-Max 4, {beta}", four, lambda b=beta: scalar.lloyd_max(GGD(b), 4).mse
        yield f"3: Lloyd-Max 16, {beta}", sixteen, lambda b=beta: scalar.lloyd_max(GGD(b), 16).mse
        yield f"3: uniform step, {beta}", width, lambda b=beta: uniform_step(b)
        yield f"3: uniform mse, {beta}", uniform, lambda b=beta: scalar.uniform(GGD(b), 16).mse
        yield f"3: Panter-Dite, {beta}", constant, lambda b=beta: scalar.panter_dite(GGD(b))
    yield "3: Gish-Pierce", "0.254614", lambda: lattices.space_filling_loss("Z")
    yield "3: Ziv", "0.7546", lambda: lattices.space_filling_loss("Z") + 0.5
    yield "3: fixed rate, high rate", "0.722", lambda: math.log2(scalar.panter_dite(GGD(2.0))) / 2
    for n, (mean, nf4, fp4) in BLOCK_TABLE.items():
        yield f"4: E S, {n}", mean, lambda n=n: block_scaling.absmax_mean(n, GGD(2.0))
        yield f"4: NF4, {n}", nf4, lambda n=n: block_scaling.mse(NF4, n, GGD(2.0))
        yield f"4: FP4, {n}", fp4, lambda n=n: block_scaling.mse(FP4, n, GGD(2.0))
    yield "4: NF4, beta 1.7", ".0087905402", lambda: block_scaling.mse(NF4, 64, GGD(1.7))
    yield "4: fp32 scales", "4.5", lambda: block_scaling.effective_bits(4, 64)
    yield "4: double quantization", "4.127", lambda: block_scaling.effective_bits(4, 64, 8, second_n=256)
    yield "4: NF4's construction", "0.00000019", lambda: abs(normal_float(4).levels - NF4.levels).max()
    yield "6: D4", ".076603", lambda: lattices.second_moment("D4")
    yield "6: E8", ".0716821", lambda: lattices.second_moment("E8")
    for name, bits in (("shape", "0"), ("shannon", "0"), ("scalar", "0.2546"), ("block-scaling", "-0.125"),
                       ("codebook", "0.041"), ("rows", "0")):  # fmt: skip
        yield f"7: {name}", bits, lambda name=name: step(name)
    yield "7: total", "0.557", lambda: nf4_ledger().total


# As printed, and what it is.
MISPRINTS = {
    "2: (a), log2 sqrt(pi e/2)": ("1.0472", "1.0471", shannon.gap_universal),
    "3: uniform step, 1.7": (".3580433812", ".3580433791", lambda: uniform_step(1.7)),
    "3: uniform step, 2.0": (".3352006119", ".3352006122", lambda: uniform_step(2.0)),
    "3: Max's 16 levels": (".009497", ".009501", lambda: scalar.lloyd_max(GGD(2.0), 16).mse),
    # As in the books. Decoding half a thousand million uniform draws refutes it by seventy standard errors.
    "6: Leech": (".0657710", ".0657524", lambda: lattices.second_moment("Leech")),
    "7: fixed rate": ("0.386", "0.387", lambda: step("fixed-rate")),
}


def agrees(value, printed):
    """To half a unit of the last digit printed, with a millionth of it for the ties of values that end there."""
    unit = 10.0 ** Decimal(printed).as_tuple().exponent
    return abs(float(value) - float(printed)) <= (0.5 + 1e-6) * unit


@pytest.mark.parametrize(("printed", "call"), [c[1:] for c in checks()], ids=[c[0] for c in checks()])
def test_printed_digits_are_reproduced(printed, call):
    assert agrees(call(), printed), (float(call()), printed)


@pytest.mark.parametrize("case", MISPRINTS)
def test_misprints_are_misprints(case):
    printed, right, call = MISPRINTS[case]
    assert agrees(call(), right)
    assert not agrees(call(), printed)


def test_thirty_digits_of_nf4():
    with ctx.workprec(128):
        ball = block_scaling.mse(NF4, 64, GGD(arb(2)))
        assert abs(ball - arb("0.008460052906613240931811029546")) < arb("5e-31")
        assert ball.rad() < 4e-34


def test_gap_at_four_bits_is_below_1e_7_bit():
    r = rate_distortion.solve(GGD(1.7), D, tol=1e-8)
    assert r.upper - shannon.lower_bound(GGD(1.7), D) < 1e-7


def test_laplace_bracket():
    """Printed: between 1.55824 and 1.55851. Below: R is 1.558171, which both ends of the certified bracket say."""
    r = rate_distortion.solve(GGD(1.0), 0.0998558)
    assert 1.558171 < r.lower <= r.upper < 1.558172
