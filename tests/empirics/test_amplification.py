"""First order against full Jacobians and small steps, isotropic against draws of the error, and what is measured."""

import math

import numpy as np
import pytest
import torch

from empirics.amplification import ALL, as_notebook, first_order, measure, scaled, sweep
from empirics.functional import compare, encode
from empirics.inference import clustered_mean, clustered_ratio
from empirics.language_model import open_model, quantized_weights, replaced
from empirics.texts import embedded
from empirics.traces import traces
from tests.empirics import tiny_models
from tests.tolerances import STANDARD_ERRORS
from theory import geometry

Q, DOWN, HEAD = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"

# The network computes its norms in float32, and functional.compare its sums.
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def lm():
    return tiny_models.model(layers=1)


@pytest.fixture(scope="module")
def windows():
    return tiny_models.windows(texts=4, lengths=(3, 5))


@pytest.fixture(scope="module")
def found(lm, windows):
    return traces(lm, windows, [*lm.linear(), HEAD], relative_error=0.1, limit=100)


def noise(lm, names, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(lm.parameter(name).shape, generator=generator).double() for name in names}


@pytest.mark.parametrize("kind", ["llama", "bloom", "gpt2"])
def test_first_order_is_the_jacobian_times_the_change(kind, windows):
    lm = tiny_models.model(kind)
    names = list(lm.linear())[:3]
    change = noise(lm, names, 0.1)
    ours = first_order(lm, {"three": change, "one": {names[1]: change[names[1]]}}, windows)
    j = [tiny_models.jacobians(lm, names, window) for window in windows]
    for label, chosen in (("three", names), ("one", names[1:2])):
        exact = [sum(torch.tensordot(row[n], change[n], 2) for n in chosen).square().mean(1) for row in j]
        assert ours[label] == pytest.approx(torch.cat(exact).numpy(), rel=FLOAT32)


def test_measured_is_what_compare_measures(lm, windows, found):
    weights = quantized_weights(lm, "int3", 8)
    rows = measure(lm, weights, windows, found)
    assert [row.name for row in rows] == [ALL, *lm.linear()]
    for row in (rows[0], rows[3]):
        names = weights if row.name == ALL else [row.name]
        tokens = compare(lm, {name: weights[name] for name in names}, windows)
        assert row.measured.value == pytest.approx(tokens.logits_mse().value, rel=1e-9)
        assert row.measured.standard_error == pytest.approx(tokens.logits_mse().standard_error, rel=1e-9)
        assert row.loss_change.value == pytest.approx(tokens.loss_change().value, rel=1e-9)
        errors = [(weights[name] - lm.parameter(name)).flatten() for name in names]
        assert row.weight_mse == pytest.approx(float(torch.cat(errors).square().mean()), rel=1e-12)
        assert row.weights == len(torch.cat(errors))
        assert row.amplification.value == pytest.approx(row.measured.value / row.weight_mse)


def test_measured_against_two_forward_passes(lm, windows, found):
    weights = quantized_weights(lm, "int3", 8, [Q])
    squares = []
    for window in windows:
        ids = torch.as_tensor(window.ids)[None]
        before = lm.network(input_ids=ids).logits
        with replaced(lm, weights):
            squares.append((lm.network(input_ids=ids).logits - before)[0].square().mean(1))
    row = measure(lm, weights, windows, found, each=False)[0]
    assert row.measured.value == pytest.approx(float(torch.cat(squares).mean()), rel=FLOAT32)


def test_isotropic_is_the_mean_over_isotropic_errors(lm, windows, found):
    """200 normal changes of every matrix: the mean of |J dW|^2/V is sum_l m_l tr(G_l)/V."""
    sizes = {name: 0.01 * (1 + i) for i, name in enumerate(lm.linear())}
    changes = {
        str(seed): {name: sizes[name] * dw for name, dw in noise(lm, sizes, 1.0, seed).items()} for seed in range(200)
    }
    means = [squares.mean() for squares in first_order(lm, changes, windows).values()]
    predicted = found.summary(
        geometry.predicted_logits_mse(found.samples[..., :-1], [s**2 for s in sizes.values()], lm.vocabulary)
    )
    error = math.hypot(np.std(means, ddof=1) / math.sqrt(200), predicted.standard_error)
    assert error < 0.15 * predicted.value, "the test has become blind"
    assert abs(np.mean(means) - predicted.value) < STANDARD_ERRORS * error


def test_isotropic_uses_the_change_that_is_made(lm, windows, found):
    weights = {name: lm.parameter(name) + dw for name, dw in noise(lm, [Q, DOWN], 0.05).items()}
    both, *each = measure(lm, weights, windows, found)
    for row in each:
        m = float((weights[row.name] - lm.parameter(row.name)).square().mean())
        assert row.isotropic.value == pytest.approx(m * found[row.name].value / lm.vocabulary)
        assert row.isotropic.standard_error == pytest.approx(m * found[row.name].standard_error / lm.vocabulary)
    assert both.isotropic.value == pytest.approx(sum(row.isotropic.value for row in each))
    counts = [row.weights for row in each]
    expected = geometry.predicted_amplification(
        [found[Q].value, found[DOWN].value], lm.vocabulary, [row.weight_mse for row in each], counts
    )
    notebook = as_notebook([both, *each], DOWN)
    assert notebook["predicted"] == pytest.approx(expected)
    assert notebook["reported"] == pytest.approx(both.measured.value / each[1].weight_mse)
    assert notebook["measured"] == pytest.approx(both.measured.value / both.weight_mse)
    with pytest.raises(ValueError, match="no 'all'"):
        as_notebook(each, DOWN)


def test_ratios_are_paired(lm, windows, found):
    row = measure(lm, quantized_weights(lm, "int2", 8), windows, found, each=False)[0]
    assert row.measured_over_first_order.value == pytest.approx(row.measured.value / row.first_order.value)
    assert row.first_order_over_isotropic.value == pytest.approx(row.first_order.value / row.isotropic.value)
    assert row.measured_over_isotropic.value == pytest.approx(row.measured.value / row.isotropic.value)
    assert row.measured_over_first_order.clusters == 4
    record = row.record()
    assert record["isotropic_error"] == row.isotropic.standard_error
    assert record["measured_over_first_order_error"] == row.measured_over_first_order.standard_error


def test_first_order_holds_for_small_changes_and_not_for_large(lm, windows, found):
    weights = {name: lm.parameter(name) + dw for name, dw in noise(lm, lm.linear(), 1.0).items()}
    rows = scaled(lm, weights, [0.001, 0.01, 1.0], windows, found)
    off = [abs(row.measured_over_first_order.value - 1) for row in rows.values()]
    assert off[0] < 0.01
    assert off[0] < off[1] < off[2]
    assert rows[0.001].first_order.value == pytest.approx(1e-6 * rows[1.0].first_order.value, rel=1e-4)
    assert rows[0.001].first_order_holds is True
    assert rows[1.0].first_order_holds is False


def test_a_change_of_the_head_is_all_first_order(lm, windows, found):
    """The logits are linear in it, however large the change."""
    weights = {HEAD: lm.parameter(HEAD) * -3 + 1}
    row = measure(lm, weights, windows, found, each=False)[0]
    assert row.measured_over_first_order.value == pytest.approx(1, abs=FLOAT32)
    assert row.measured_over_first_order.standard_error < FLOAT32


def test_sweep_over_bits(lm, windows, found):
    blocks = traces(lm, windows, relative_error=0.5)
    rows = sweep(lm, ["int2", "int4", "int8"], windows, blocks, 8)
    assert list(rows) == ["int2", "int4", "int8"]
    assert rows["int2"].measured.value > rows["int4"].measured.value > rows["int8"].measured.value
    assert rows["int8"].measured_over_first_order.value == pytest.approx(1, abs=0.02)


def test_the_ratio_is_that_of_means_with_the_error_of_the_delta_method():
    """2,000 samples of 40 clusters: its spread is the standard error that it states."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(2000):
        size = rng.gamma(3, 1, (40, 1)) + 0.2 * rng.normal(size=(40, 5))
        top, clusters = 2 * size + rng.normal(size=(40, 5)), np.repeat(np.arange(40), 5)
        one = clustered_ratio(top.ravel(), size.ravel(), clusters)
        values.append(one.value)
        errors.append(one.standard_error)
    assert np.mean(values) == pytest.approx(2, abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.06)
    assert one.value == pytest.approx(top.sum() / size.sum())
    assert clustered_ratio(top.ravel(), np.ones(200), clusters).standard_error == pytest.approx(
        clustered_mean(top.ravel(), clusters).standard_error
    )


def test_matrices_that_do_not_change_are_left_out(lm, windows, found):
    weights = {Q: lm.parameter(Q) * 1.01, DOWN: lm.parameter(DOWN).clone()}
    assert [row.name for row in measure(lm, weights, windows, found)] == [ALL, Q]
    with pytest.raises(ValueError, match="the model's own"):
        measure(lm, {DOWN: lm.parameter(DOWN).clone()}, windows, found)


def test_traces_of_other_tokens_or_matrices_are_refused(lm, windows, found):
    weights = {Q: lm.parameter(Q) * 1.01}
    with pytest.raises(ValueError, match="other sequences"):
        measure(lm, weights, windows[:-1], found)
    with pytest.raises(ValueError, match="other sequences"):
        measure(lm, weights, windows[::-1], found)
    with pytest.raises(ValueError, match="no trace of model"):
        measure(lm, {"model.embed_tokens.weight": lm.parameter("model.embed_tokens.weight") * 2}, windows, found)


def test_the_embedded_model():
    """NF4 is a small change: first order holds to a few percent in every matrix of a block, and of all together."""
    lm = open_model("pocket-llama")
    windows = encode(lm, embedded(["en"])[:2], 12)[:6]
    names = [name for name in lm.linear() if ".layers.2." in name]
    rows = measure(lm, quantized_weights(lm, "nf4", 64, names), windows, traces(lm, windows, names, 0.3))
    for row in rows:
        assert row.measured_over_first_order.value == pytest.approx(1, abs=0.1)
        assert row.first_order_over_isotropic.value == pytest.approx(1, abs=0.7)
    assert len(rows) == 8
