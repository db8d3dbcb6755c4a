"""Moments against the inputs themselves, their errors against the jackknife, outputs against the library's own."""

import math

import numpy as np
import pytest
import torch

from empirics.activations import _summary, moments, outputs
from tests.empirics import tiny_models

Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"

# The network computes its norms in float32.
FLOAT32 = 1e-5


def inputs(lm, windows):
    """Of the first block's queries, from the embedding and its norm alone: one array for each window."""
    weight = lm.parameter("model.embed_tokens.weight").numpy()
    x = [weight[window.ids] for window in windows]
    return [row / np.sqrt((row**2).mean(1, keepdims=True) + lm.network.config.rms_norm_eps) for row in x]


@pytest.fixture(scope="module")
def lm():
    return tiny_models.model()


@pytest.fixture(scope="module")
def windows():
    return tiny_models.windows(texts=5, lengths=(9, 14))


def test_moments_of_the_first_layer(lm, windows):
    x = inputs(lm, windows)
    found, every = moments(lm, windows, [Q])[Q], np.concatenate(x)
    product = every.T @ every / len(every)
    assert found.square.value == pytest.approx((every**2).sum(1).mean(), rel=FLOAT32)
    assert found.mean_square.value == pytest.approx((every.mean(0) ** 2).sum(), rel=FLOAT32)
    assert found.eigenvalues == pytest.approx(np.linalg.eigvalsh(product)[::-1], abs=FLOAT32 * product.trace())
    assert found.effective_rank.value == pytest.approx(product.trace() ** 2 / (product**2).sum(), rel=FLOAT32)
    assert (found.square.n, found.square.clusters) == (len(every), 5)


def test_too_few_directions_are_singular(lm, windows):
    """12 tokens of the vocabulary cannot span the 16 inputs of the first block."""
    found = moments(lm, windows, [Q])[Q]
    assert found.condition.value == math.inf
    assert math.isnan(found.condition.standard_error)
    assert found.condition_bound == math.inf
    assert found.record()["condition"] == math.inf


@pytest.mark.parametrize("kind", ["llama", "bloom", "gpt2"])
def test_the_spectrum_of_every_layer(kind, windows):
    """Inputs as the test's own hooks see them, a window at a time and without padding."""
    lm, seen = tiny_models.model(kind), {}
    modules = {f"{path}.weight": module for path, module in lm.network.named_modules() if hasattr(module, "weight")}
    handles = []
    for name in lm.linear():
        store = seen.setdefault(name, [])
        handles.append(modules[name].register_forward_pre_hook(lambda _, args, store=store: store.append(args[0][0])))
    for window in windows:
        lm.network(input_ids=torch.as_tensor(window.ids)[None], use_cache=False)
    for handle in handles:
        handle.remove()
    found = moments(lm, windows)
    assert list(found) == list(lm.linear())
    for name, one in found.items():
        x = torch.cat(seen[name])
        spectrum = torch.linalg.svdvals(x).square().numpy() / len(x)
        assert one.eigenvalues == pytest.approx(spectrum, abs=FLOAT32 * spectrum.sum())
        bound = float(x.mean(0).square().sum() / spectrum[-1])
        if math.isfinite(one.condition.value):
            assert one.condition.value == pytest.approx(spectrum[0] / spectrum[-1], rel=0.01)
            assert one.condition_bound == pytest.approx(bound, rel=0.01)
        assert one.condition_bound <= one.condition.value
    assert any(math.isfinite(one.condition.value) for one in found.values())


def test_errors_are_those_of_the_jackknife():
    """Leave out a text at a time; 24 texts, so that both methods know their errors to a quarter."""
    lm, windows = tiny_models.model(), tiny_models.windows(texts=24, lengths=(30,))
    found = moments(lm, windows, [DOWN])[DOWN]
    without = [moments(lm, windows[:i] + windows[i + 1 :], [DOWN])[DOWN] for i in range(24)]
    for key in ("square", "mean_square", "effective_rank", "condition"):
        values = np.log([getattr(one, key).value for one in without])
        jackknife = math.sqrt(23 / 24 * ((values - values.mean()) ** 2).sum())
        ours = getattr(found, key).standard_error / getattr(found, key).value
        assert ours == pytest.approx(jackknife, rel=0.5 if key == "condition" else 0.1), key


def test_the_error_of_kappa_is_that_of_a_ratio():
    """Texts that differ in the size of their inputs only: the trace varies among them, kappa does not."""
    sizes, scale = np.full(6, 10), np.array([0.5, 1.0, 1.0, 1.5, 2.0, 3.0])
    found = _summary("x", np.zeros((6, 3)), 10 * scale[:, None] * [4.0, 2.0, 1.0], sizes)
    assert found.condition.value == pytest.approx(4)
    assert found.condition.standard_error < 1e-12
    assert found.square.standard_error == pytest.approx(7 * scale.std(ddof=1) / 6**0.5)


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_outputs_of_blocks(kind, windows):
    lm = tiny_models.model(kind)
    found = outputs(lm, windows)
    assert [(one.block, one.language) for one in found] == [(0, "en"), (0, "sw"), (1, "en"), (1, "sw")]
    runs = [lm.network(input_ids=torch.as_tensor(w.ids)[None], output_hidden_states=True) for w in windows]
    hidden = [run.hidden_states[1][0].abs().mean(1) for run in runs]
    for one, language in zip(found[:2], ("en", "sw"), strict=True):
        mine = [x for x, w in zip(hidden, windows, strict=True) if w.language == language]
        assert one.mean_absolute.value == pytest.approx(float(torch.cat(mine).mean()), rel=FLOAT32)
        assert one.mean_absolute.clusters == {"en": 3, "sw": 2}[language]
        assert one.mean_absolute.standard_error > 0
    assert found[2].record()["block"] == 1


def test_what_is_refused(lm):
    with pytest.raises(ValueError, match="0 windows"):
        moments(lm, [])
    with pytest.raises(ValueError, match="0 windows"):
        outputs(lm, [])
    with pytest.raises(ValueError, match="no linear layer"):
        moments(lm, tiny_models.windows(), ["model.embed_tokens.weight"])
