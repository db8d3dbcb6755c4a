"""Allocations against every possible one, and the gain against two comparisons."""

from itertools import product

import numpy as np
import pytest

from empirics.allocation import allocate, apply
from empirics.amplification import first_order
from empirics.functional import compare
from empirics.inference import clustered_mean
from empirics.language_model import quantized_weights
from empirics.traces import traces
from tests.empirics import tiny_models
from theory.geometry import predicted_logits_mse

NAMES = [f"model.layers.0.{part}.weight" for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")]
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def lm():
    return tiny_models.model(layers=1)


@pytest.fixture(scope="module")
def windows():
    return tiny_models.windows(texts=4, lengths=(6,))


@pytest.fixture(scope="module")
def found(lm, windows):
    return traces(lm, windows, relative_error=0.1, limit=100)


def test_no_allocation_within_the_budget_predicts_less(lm, windows):
    found = traces(lm, windows, NAMES, relative_error=0.2)
    one = allocate(lm, found, bits=4, block_size=16, choices=range(2, 7))
    counts = np.array([share.weights for share in one.shares])
    for share in one.shares:
        error = quantized_weights(lm, "int3", 16, [share.name])[share.name] - lm.parameter(share.name)
        assert share.mses[3] == pytest.approx(float(error.square().mean()))
        assert share.variance == pytest.approx(float(lm.parameter(share.name).square().mean()))
    best = min(
        float(predicted_logits_mse([found[n].value for n in NAMES],
                                   [s.mses[b] for s, b in zip(one.shares, bits, strict=True)], lm.vocabulary))
        for bits in product(range(2, 7), repeat=3) if counts @ bits <= 4 * counts.sum()
    )  # fmt: skip
    assert one.bound <= best * (1 + 1e-12) <= one.predicted.value * (1 + 2e-12)
    assert one.predicted.value <= best * 1.3, "not near the best, though the bound is no proof against it"
    if one.status == "optimal":
        assert one.predicted.value == pytest.approx(best)


def test_the_budget_is_that_of_the_uniform_allocation(lm, found):
    for bits in (3, 4):
        one = allocate(lm, found, bits=bits, block_size=64)
        counts = np.array([share.weights for share in one.shares])
        spent = float(counts @ [share.bits for share in one.shares] / counts.sum())
        assert one.bits == pytest.approx(spent)
        assert bits - 0.5 < spent <= bits
        # Each matrix of 128 to 384 weights is whole blocks of 64, with a scale of 32 bits.
        assert one.uniform_effective_bits == pytest.approx(bits + 0.5)
        assert one.effective_bits == pytest.approx(spent + 0.5)
        ideal = [share.ideal_bits for share in one.shares]
        assert float(counts @ ideal / counts.sum()) == pytest.approx(bits)
        assert np.corrcoef(ideal, [share.bits for share in one.shares])[0, 1] > 0.8


def test_the_predicted_gain(lm, found):
    one = allocate(lm, found, bits=4, block_size=16)
    mses = {bits: [share.mses[bits or share.bits] for share in one.shares] for bits in (0, 4)}
    predicted = {bits: float(predicted_logits_mse([t.value for t in found.values()], m, lm.vocabulary))
                 for bits, m in mses.items()}  # fmt: skip
    assert one.predicted.value == pytest.approx(predicted[0])
    assert one.predicted_uniform.value == pytest.approx(predicted[4])
    assert one.predicted_gain == pytest.approx(predicted[4] / predicted[0])
    assert one.predicted_gain > 1.2
    # Both predictions rest on the same probes, so that less than their errors is left in the ratio.
    relative = [t.standard_error / t.value for t in (one.predicted, one.predicted_uniform)]
    assert 0 < one.predicted_gain_error / one.predicted_gain < np.hypot(*relative)
    records = one.records()
    assert [record["name"] for record in records] == list(found)
    assert records[0]["mse"] == one.shares[0].mses[records[0]["bits"]]


def test_applied_for_real(lm, windows, found):
    one = allocate(lm, found, bits=5, block_size=16)
    got = apply(lm, one, windows)
    ours = compare(lm, one.weights(lm), windows)
    theirs = compare(lm, quantized_weights(lm, "int5", 16), windows)
    assert got.measured.value == pytest.approx(ours.logits_mse().value, rel=1e-9)
    assert got.measured_uniform.value == pytest.approx(theirs.logits_mse().value, rel=1e-9)
    assert got.gain.value == pytest.approx(theirs.logits_mse().value / ours.logits_mse().value)
    assert got.loss_change.value == pytest.approx(ours.loss_change().value, rel=1e-9)
    assert got.loss_change_uniform.value == pytest.approx(theirs.loss_change().value, rel=1e-9)
    saved = theirs.nll_quantized - ours.nll_quantized
    known = ~np.isnan(saved)
    assert got.loss_saved == clustered_mean(saved[known], ours.text[known])
    changes = {
        label: {name: weight - lm.parameter(name) for name, weight in weights.items()}
        for label, weights in (("ours", one.weights(lm)), ("theirs", quantized_weights(lm, "int5", 16)))
    }
    linear = {label: squares.mean() for label, squares in first_order(lm, changes, windows).items()}
    assert got.first_order_gain.value == pytest.approx(linear["theirs"] / linear["ours"], rel=FLOAT32)
    # At 5 bits first order holds; the error of single matrices is far from isotropic.
    assert got.gain.value > 1
    assert got.gain.value == pytest.approx(one.predicted_gain, rel=0.6)
    weights = one.weights(lm)
    for share in one.shares:
        levels = len(weights[share.name].flatten()[:16].unique())
        assert levels <= 2**share.bits - 1


def test_equal_matrices_get_equal_bits(lm, windows):
    """Where one matrix is all there is, the allocation is the uniform one, and there is no gain."""
    one = allocate(lm, traces(lm, windows, NAMES[:1], relative_error=0.5), bits=4)
    assert [share.bits for share in one.shares] == [4]
    assert one.predicted_gain == 1
    assert one.predicted_gain_error == 0
    assert one.status == "optimal"


@pytest.mark.parametrize("choices", [range(5, 9), (2, 4, 8)])
def test_what_is_refused(lm, found, choices):
    with pytest.raises(ValueError, match="choices"):
        allocate(lm, found, bits=4, choices=choices)


def test_widths_that_no_quantizer_has(lm, found):
    with pytest.raises(ValueError, match="int9"):
        allocate(lm, found, bits=4, choices=range(2, 10))
