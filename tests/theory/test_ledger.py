"""The gap ledger: steps add up, check values, invariances, refusals."""

import math

import pytest

from theory import block_scaling, rate_distortion, scalar, shannon
from theory.codebooks import BOF4S_64, FP4, NF4, integer
from theory.ledger import STEPS, STORED, average, gap_ledger, stored_ledger
from theory.sources import GGD


@pytest.mark.parametrize("beta", [0.8, 1.0, 1.3, 1.7, 2.0, 3.0])
@pytest.mark.parametrize("codebook", [NF4, FP4, integer(4), integer(4, symmetric=False), BOF4S_64])
def test_steps_add_up_to_the_total(beta, codebook):
    found = gap_ledger(0.0091, 4, GGD(beta), codebook, 64, row_source=GGD(1.9))
    assert tuple(step.name for step in found.steps) == STEPS
    # 1e-13: eight logarithms of ratios, each within a few roundings of its size.
    assert math.fsum(step.bits for step in found.steps) == pytest.approx(found.total, abs=1e-13)
    assert found.total == pytest.approx(0.5 * math.log2(0.0091 * 4**4), abs=1e-15)
    assert 0 <= found.uncertainty < 1e-4


def test_gaussian_nf4_check_values():
    # THEORY: 0 + 0 + 0.2546 + 0.386 - 0.125 + 0.041 + 0 = 0.557 bit.
    source = GGD(2.0)
    found = gap_ledger(block_scaling.mse(NF4, 64, source), 4, source, NF4, 64)
    shares = {step.name: step.bits for step in found.steps}
    expected = {"shape": 0, "shannon": 0, "scalar": 0.2546, "fixed-rate": 0.386, "block-scaling": -0.125,
                "codebook": 0.041, "rows": 0, "unexplained": 0}  # fmt: skip
    for name, value in expected.items():
        assert shares[name] == pytest.approx(value, abs=6e-4), name
    assert found.total == pytest.approx(0.557, abs=5e-4)
    assert found.effective_total == pytest.approx(found.total + 0.5)


def test_each_distortion_is_the_public_function_of_its_step():
    source, within = GGD(1.4), GGD(1.8)
    d = {s.name: s.distortion for s in gap_ledger(0.01, 4, source, FP4, 32, row_source=within).steps}
    assert d["shape"] == pytest.approx(shannon.distortion_lower_bound(source, 4), rel=1e-14)
    assert d["shape"] <= d["shannon"] <= d["shape"] * 4 ** shannon.gap_upper_bound(source, d["shape"])
    assert d["scalar"] == pytest.approx(scalar.ecsq(source, rate=4).mse, rel=1e-12)
    assert d["fixed-rate"] == pytest.approx(scalar.lloyd_max(source, 16).mse, rel=1e-12)
    assert d["codebook"] == pytest.approx(block_scaling.mse(FP4, 32, source), rel=1e-12)
    assert d["rows"] == pytest.approx(block_scaling.mse(FP4, 32, within), rel=1e-12)
    assert d["unexplained"] == 0.01


def test_the_shannon_step_ends_at_what_can_be_achieved():
    source = GGD(0.6)  # heavy tails: here the Shannon lower bound is not tight
    d = {s.name: s.distortion for s in gap_ledger(0.01, 4, source, NF4, 64).steps}
    bracket = rate_distortion.solve(source, rate=4)
    assert d["shannon"] == pytest.approx(bracket.D_upper, rel=1e-12)
    assert d["shannon"] > 1.0001 * d["shape"]


def test_units_do_not_matter():
    one = gap_ledger(0.009, 4, GGD(1.7), NF4, 64)
    scaled = gap_ledger(0.009 * 0.02**2, 4, GGD(1.7, 0.02), NF4, 64)
    assert [s.bits for s in scaled.steps] == pytest.approx([s.bits for s in one.steps], abs=1e-12)
    assert scaled.steps[-1].distortion == pytest.approx(0.009 * 0.02**2)


def test_average_is_weighted_by_size():
    a, b = (gap_ledger(d, 4, GGD(2.0), NF4, 64) for d in (0.008, 0.010))
    mean = average([a, b], [1, 3])
    assert mean.total == pytest.approx((a.total + 3 * b.total) / 4, abs=1e-15)
    assert math.fsum(s.bits for s in mean.steps) == pytest.approx(mean.total, abs=1e-13)
    assert mean.steps[-1].distortion == pytest.approx(0.008**0.25 * 0.010**0.75, rel=1e-12)


def test_an_average_over_rates_is_that_of_the_whole_model():
    a, b = gap_ledger(0.008, 4, GGD(2.0), NF4, 64), gap_ledger(0.0001, 8, GGD(1.7), integer(8), 32)
    mean = average([a, b], [1, 3])
    assert (mean.bits, mean.effective_bits) == (7.0, (4.5 + 3 * 9.0) / 4)
    assert math.fsum(s.bits for s in mean.steps) == pytest.approx(mean.total, abs=1e-13)
    # By definition: half the log of the distortion, less that of the Gaussian limit, at the mean rate.
    assert mean.total == pytest.approx(mean.bits + (math.log2(0.008) + 3 * math.log2(0.0001)) / 8, abs=1e-13)


@pytest.mark.parametrize("codebook", [None, NF4])
def test_a_checkpoint_has_the_same_first_steps_and_three_of_its_own(codebook):
    source, within = GGD(1.6, 0.03), GGD(1.9)
    rounded, nearest, stored = (v * 0.03**2 for v in (0.0091, 0.0087, 0.0140))
    found = stored_ledger(rounded, nearest, stored, 4, source, 64, 4.25, codebook=codebook, row_source=within)
    plain = gap_ledger(rounded, 4, source, NF4, 64, row_source=within)
    assert [s.name for s in found.steps] == [*(STEPS if codebook else (*STEPS[:5], "format")), *STORED]
    assert [s.bits for s in found.steps[:5]] == pytest.approx([s.bits for s in plain.steps[:5]], abs=1e-14)
    assert [s.distortion for s in found.steps[-3:]] == [rounded, nearest, stored]
    assert found.steps[-2].bits == pytest.approx(math.log2(0.0087 / 0.0091) / 2, abs=1e-12)
    assert found.steps[-1].bits == pytest.approx(math.log2(0.0140 / 0.0087) / 2, abs=1e-12)
    assert math.fsum(s.bits for s in found.steps) == pytest.approx(found.total, abs=1e-13)
    assert found.total == pytest.approx(math.log2(0.0140 * 4**4) / 2, abs=1e-13)
    assert found.effective_total == pytest.approx(found.total + 0.25, abs=1e-15)
    if codebook:
        assert [s.bits for s in found.steps[:8]] == pytest.approx([s.bits for s in plain.steps], abs=1e-14)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match=r"D = 0.0 is outside \(0, inf\)"):
        gap_ledger(0.0, 4, GGD(2.0), NF4, 64)
    with pytest.raises(ValueError, match="block_size"):
        gap_ledger(0.01, 4, GGD(2.0), NF4, 0)
    with pytest.raises(ValueError, match="nearest = nan"):
        stored_ledger(0.01, math.nan, 0.01, 4, GGD(2.0), 64, 4.5)
    plain, stored = gap_ledger(0.01, 4, GGD(2.0), NF4, 64), stored_ledger(0.01, 0.01, 0.01, 4, GGD(2.0), 64, 4.5)
    with pytest.raises(ValueError, match=r"the same steps, not of .*unexplained; .*method"):
        average([plain, stored], [1, 1])
    with pytest.raises(ValueError, match="none"):
        average([], [])
