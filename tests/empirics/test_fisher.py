"""Fisher information against the exact expectation over the vocabulary, from full Jacobians in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from empirics.fisher import fisher
from tests.empirics import tiny_models
from tests.tolerances import STANDARD_ERRORS

Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


def unlikely(lm, window):
    """The same first token, then always the least likely: the text's labels are unlike those of the model."""
    ids = torch.as_tensor(window.ids[:1])
    while len(ids) < len(window.ids):
        ids = torch.cat([ids, lm.network(input_ids=ids[None]).logits[0, -1:].argmin(1)])
    return replace(window, ids=ids.numpy())


@pytest.fixture(scope="module")
def exact():
    """A model, windows, and each matrix's exact diagonal, summed over tokens: for sampled labels and the text's."""
    lm = tiny_models.model(layers=1)
    lm.parameter("lm_head.weight").mul_(4)  # surer of its next token
    windows = [unlikely(lm, window) for window in tiny_models.windows(texts=4, lengths=(3, 5))]
    sums = {labels: dict.fromkeys((Q, DOWN), 0.0) for labels in ("sampled", "text")}
    for window in windows:
        ids = torch.as_tensor(window.ids)
        p = lm.network(input_ids=ids[None]).logits[0].softmax(-1)
        for name, j in tiny_models.jacobians(lm, [Q, DOWN], window).items():
            scores = j - torch.einsum("tv,tvij->tij", p, j)[:, None]  # of each label at each token
            sums["sampled"][name] += torch.einsum("tv,tvij->ij", p, scores.square())
            sums["text"][name] += scores[range(len(ids) - 1), ids[1:]].square().sum(0)
    return lm, windows, sums


@pytest.mark.parametrize("labels", ["sampled", "text"])
def test_trace_and_diagonal(exact, labels):
    lm, windows, sums = exact
    found = fisher(lm, windows, [Q, DOWN], labels, draws=60)
    tokens = sum(len(window.ids) - (labels == "text") for window in windows)
    for name, one in found.items():
        true = sums[labels][name] / tokens
        assert one.trace.tokens == tokens
        assert one.diagonal.shape == true.shape
        assert abs(one.trace.value - float(true.sum())) < STANDARD_ERRORS * one.trace.standard_error
        assert one.trace.standard_error < 0.1 * one.trace.value, "the test has become blind"
        assert float(one.diagonal.sum()) == pytest.approx(one.trace.value, rel=1e-5)
        # A square of a normal has a relative deviation of sqrt 2; 60 draws of 8 windows, of which some matter more.
        assert float((one.diagonal - true).norm() / true.norm()) < STANDARD_ERRORS * math.sqrt(2 / (60 * 4))


def test_the_two_kinds_differ(exact):
    """Otherwise the test above could not tell them apart."""
    *_, sums = exact
    ratio = [float(sums["text"][name].sum() / sums["sampled"][name].sum()) for name in (Q, DOWN)]
    assert min(abs(np.log(ratio))) > 0.5


def test_concentration_is_bracketed(exact):
    lm, windows, sums = exact
    for name, one in fisher(lm, windows, [Q, DOWN], draws=40).items():
        true = sums["sampled"][name].flatten()
        top = math.ceil(0.01 * len(true))
        share = float(true.sort(descending=True).values[:top].sum() / true.sum())
        assert one.concentration.clusters == 2, "half of the four texts"
        assert 0 < one.concentration.value < share + STANDARD_ERRORS * one.concentration.standard_error
        assert share < one.concentration_high * 1.1
        assert one.record()["concentration_high"] > one.record()["concentration"] > 0.01


def test_noise_alone_concentrates_only_the_upper_bound():
    """Of few draws, the top 1 % by the estimate that is summed holds more than the top 1 % by other texts."""
    lm, windows = tiny_models.model(layers=1), tiny_models.windows(texts=8, lengths=(2,))
    for one in fisher(lm, windows, [DOWN], draws=2).values():
        assert one.concentration_high > one.concentration.value


def test_one_text_bounds_nothing_from_below():
    lm, windows = tiny_models.model(layers=1), tiny_models.windows(texts=1)
    one = fisher(lm, windows, [Q], draws=2)[Q]
    assert math.isnan(one.concentration.value)
    assert 0 < one.concentration_high <= 1


def test_seeds_and_progress():
    lm, windows, calls = tiny_models.model(layers=1), tiny_models.windows(), []
    first, again, other = (
        fisher(lm, windows, [Q], draws=2, seed=seed, progress=lambda *call: calls.append(call))[Q].trace.value
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert calls[-1] == ("Fisher information", 12, 12)


def test_what_is_refused():
    lm, windows = tiny_models.model(layers=1), tiny_models.windows()
    with pytest.raises(ValueError, match="labels = 'true'"):
        fisher(lm, windows, labels="true")
    with pytest.raises(ValueError, match="draws"):
        fisher(lm, windows, draws=1)
    with pytest.raises(ValueError, match="0 windows"):
        fisher(lm, tiny_models.windows(lengths=(1,)), labels="text")
