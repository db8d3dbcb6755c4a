"""Traces against full Jacobians in float64, against forward derivatives, and their errors against repetitions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from empirics.functional import encode
from empirics.gradients import Linearization, batches
from empirics.language_model import open_model
from empirics.texts import embedded
from empirics.traces import Traces, traces
from tests.empirics import tiny_models
from tests.tolerances import STANDARD_ERRORS

# RMSNorm and rotary embeddings are computed in float32, whatever the network's dtype; a few hundred such roundings.
FLOAT32 = 1e-5
Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


def everything(lm):
    """Every matrix: those of the blocks, embeddings and the head."""
    return [*lm.linear(), *lm.embedding()]


@pytest.fixture(scope="module", params=tiny_models.NETWORKS)
def exact(request):
    """A model, windows of two lengths, and the Jacobians of each window."""
    lm, windows = tiny_models.model(request.param), tiny_models.windows(texts=2, lengths=(3, 5))
    return lm, windows, [tiny_models.jacobians(lm, everything(lm), window) for window in windows]


def near(found, expected):
    return float((found - expected).abs().max()) <= FLOAT32 * float(expected.abs().max())


def trace(jacobians, name):
    tokens = sum(len(j[name]) for j in jacobians)
    return sum(float(j[name].square().sum()) for j in jacobians) / tokens


def test_derivatives_are_those_of_the_full_jacobian(exact):
    lm, windows, jacobians = exact
    generator = torch.Generator().manual_seed(0)
    (chosen, ids, mask), *rest = batches(windows, lm.device, 1000)
    assert not rest
    assert not mask.all(), "the test needs padding"
    found = Linearization(lm, everything(lm), ids, mask, twice=True)
    cotangent = torch.randn(found.logits.shape, generator=generator, dtype=torch.float64) * mask[..., None]
    factors = found.vjp(cotangent, again=True)
    for name in everything(lm):
        change = torch.randn(lm.parameter(name).shape, generator=generator, dtype=torch.float64)
        moved = found.jvp({name: change})
        for row, i in enumerate(chosen):
            j, n = jacobians[i][name], len(windows[i].ids)
            gradient = torch.tensordot(cotangent[row, :n], j, 2)
            ours = factors[name].rows[row].T @ factors[name].columns[row]
            assert near(ours, gradient)
            assert near(factors[name].square_norms()[row], gradient.square().sum())
            assert near(moved[row, :n], torch.tensordot(j, change, 2))


def test_the_derivative_along_several_matrices_is_the_sum(exact):
    lm, windows, jacobians = exact
    names = everything(lm)
    changes = {name: torch.randn_like(lm.parameter(name)) for name in names}
    ids = torch.as_tensor(windows[0].ids)[None]
    found = Linearization(lm, names, ids, torch.ones_like(ids), twice=True).jvp(changes)[0]
    assert near(found, sum(torch.tensordot(jacobians[0][name], changes[name], 2) for name in names))


@pytest.mark.parametrize("length", [3, 40])
def test_square_norms_either_way(length):
    """3 tokens of a 16 x 24 matrix take the products of tokens, 40 the gradient."""
    lm = tiny_models.model("gpt2", layers=1)
    ids = torch.randint(0, tiny_models.VOCABULARY, (2, length), generator=torch.Generator().manual_seed(1))
    found = Linearization(lm, lm.linear(), ids, torch.ones_like(ids))
    for factors in found.vjp(torch.randn_like(found.logits)).values():
        gradient = factors.rows.mT @ factors.columns
        assert factors.square_norms().numpy() == pytest.approx(gradient.square().sum((1, 2)).numpy(), rel=1e-12)


def test_traces_of_every_matrix(exact):
    lm, windows, jacobians = exact
    found = traces(lm, windows, everything(lm), relative_error=0.2, limit=60)
    assert list(found) == everything(lm)
    for name, one in found.items():
        assert one.status == "converged"
        assert one.standard_error <= 0.2 * one.value
        assert abs(one.value - trace(jacobians, name)) < STANDARD_ERRORS * one.standard_error
        assert (one.tokens, one.texts, one.probes) == (16, 2, len(found.samples))


def test_the_standard_error_covers():
    """100 seeds: of the 95 % intervals, as many hold the exact trace as a binomial allows, at 1 in 10,000."""
    lm, windows, names = tiny_models.model(layers=1), tiny_models.windows(texts=5, lengths=(3, 3)), [Q, DOWN]
    jacobians = [tiny_models.jacobians(lm, names, window) for window in windows]
    errors = {name: [] for name in names}
    for seed in range(100):
        for name, one in traces(lm, windows, names, relative_error=0.01, seed=seed, limit=4).items():
            errors[name].append((one.value - trace(jacobians, name)) / one.standard_error)
    for found in errors.values():
        inside = np.sum(np.abs(found) < stats.t.ppf(0.975, 10 * (4 - 1)))
        # The law of a squared norm is skewed: in small samples 93 % is what t gives it.
        assert stats.binom.ppf(1e-4, 100, 0.93) <= inside <= 100
        # Nor are they too wide: the spread of 100 is known to 7 %.
        assert 0.75 < np.std(found) < 1.4


def test_the_error_over_texts_is_clustered():
    lm, windows = tiny_models.model(layers=1), tiny_models.windows(texts=4, lengths=(3, 6))
    found = traces(lm, windows, relative_error=0.5)
    one, each = found[Q], found.samples[..., found.names.index(Q)].mean(0)
    totals, sizes = each.reshape(4, 2).sum(1), np.full(4, 9)
    assert one.value == pytest.approx(each.sum() / 36)
    beyond = totals - one.value * sizes
    assert one.text_error == pytest.approx(math.sqrt(4 / 3 * (beyond @ beyond)) / 36)
    alone = traces(lm, windows[:2], relative_error=0.5)[Q]
    assert math.isnan(alone.text_error)
    assert alone.standard_error > 0


def test_the_error_of_a_sum_has_the_shared_probes_in_it():
    rng = np.random.default_rng(0)
    common = rng.normal(10, 1, (50, 6, 1))
    made = Traces(["a", "b"], np.concatenate([common, common], 2), tiny_models.windows(), 0.05)
    both = made.summary(made.samples.sum(-1))
    assert both.value == pytest.approx(2 * made["a"].value)
    assert both.standard_error == pytest.approx(2 * made["a"].standard_error)
    assert made["a"].standard_error == pytest.approx(math.sqrt(6 / 50) / 36, rel=0.1)


def test_probes_depend_on_the_seed_and_not_on_the_batches():
    lm, windows = tiny_models.model(layers=1), tiny_models.windows()
    together, apart, other = (
        traces(lm, windows, relative_error=0.9, seed=seed, batch_tokens=tokens)
        for seed, tokens in ((3, 1000), (3, 1), (4, 1000))
    )
    assert together.samples == pytest.approx(apart.samples, rel=FLOAT32)
    assert together.samples == pytest.approx(traces(lm, windows, relative_error=0.9, seed=3).samples, rel=0, abs=0)
    assert not np.allclose(together.samples, other.samples, rtol=0.01)
    assert len(np.unique(together.samples[..., 0].round(9))) == together.samples[..., 0].size, "draws are repeated"


def test_a_limit_is_no_convergence():
    lm, windows = tiny_models.model(layers=1), tiny_models.windows()
    calls = []
    found = traces(lm, windows, relative_error=0.01, limit=8, progress=lambda *call: calls.append(call))
    assert {one.status for one in found.values()} == {"probe limit"}
    assert found[Q].probes == 8
    assert found[Q].relative_error > 0.01
    assert calls[-1] == ("traces", 48, 48)
    assert traces(lm, windows, relative_error=0.9)[Q].record()["status"] == "converged"


def test_forward_derivatives_agree_on_the_embedded_model():
    """tr(G) = E|J v|^2 over random signs v of the weights, by torch's forward mode: no backward pass."""
    lm = open_model("pocket-llama")
    windows = encode(lm, embedded(["en"])[:2], 10)[:5]
    found = traces(lm, windows, ["model.layers.3.self_attn.o_proj.weight"], relative_error=0.12)
    (name,), generator = found, torch.Generator().manual_seed(0)
    ids, samples = torch.stack([torch.as_tensor(window.ids) for window in windows]), []
    for _ in range(20):
        signs = torch.empty_like(lm.parameter(name)).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
        with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            dual = {name: forward_ad.make_dual(lm.parameter(name).detach(), signs)}
            out = torch.func.functional_call(lm.network, dual, (), {"input_ids": ids, "use_cache": False}).logits
            samples.append(float(forward_ad.unpack_dual(out).tangent.square().sum()) / ids.numel())
    error = math.hypot(np.std(samples, ddof=1) / math.sqrt(20), found[name].standard_error)
    assert abs(np.mean(samples) - found[name].value) < STANDARD_ERRORS * error
    assert error < 0.2 * found[name].value, "the test has become blind"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["model.layers.7.mlp.up_proj.weight"]}, "parameter"),
        ({"names": ["model.norm.weight"]}, "not the weight of a linear layer"),
        ({"names": []}, "0 matrices"),
        ({"relative_error": 0.0}, "relative_error"),
        ({"limit": 1}, "limit"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        traces(tiny_models.model(layers=1), tiny_models.windows(), **options)


def test_no_tokens_and_no_numbers():
    lm = tiny_models.model(layers=1)
    with pytest.raises(ValueError, match="0 windows"):
        traces(lm, [])
    lm.parameter(Q)[0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        traces(lm, tiny_models.windows())
    with pytest.raises(KeyError):
        traces(tiny_models.model(layers=1), tiny_models.windows(), [Q], relative_error=0.9)["another"]
