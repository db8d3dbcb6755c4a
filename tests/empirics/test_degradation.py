"""A quantized model beside the model: transformers' own loss and bitsandbytes' own weights, token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from bitsandbytes import functional as kernels
from transformers import AutoModelForCausalLM

from empirics import functional
from empirics.experiments import degradation
from empirics.experiments.degradation import Subject, blocks, measure, open_subject, rounded
from empirics.inference import clustered_mean
from empirics.language_model import replaced
from empirics.store import Store
from empirics.texts import Text
from tests.empirics import tiny_checkpoint
from tests.tolerances import SUM, close

# Logits of order 10 are float32 sums of some dozens of terms, in batches of another shape.
LOSS = 2e-5


@pytest.fixture(scope="module", params=["bloom", "gpt2"])
def subject(request, tmp_path_factory) -> Subject:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    tiny_checkpoint.write(folder, request.param)
    return open_subject(folder, texts=tiny_checkpoint.texts(folder.parent))


@pytest.fixture(scope="module")
def found(subject) -> dict[str, degradation.Degradation]:
    return measure(subject, [blocks("nf4"), blocks("int8", "row", "rows"), rounded("bf16", torch.bfloat16)])[0]


def losses(network, subject) -> np.ndarray:
    """transformers' own loss of each text, times the tokens predicted; no text has two windows."""
    assert [s.text for s in subject.sequences] == list(range(len(subject.texts)))
    ids = [torch.from_numpy(s.ids)[None] for s in subject.sequences]
    with torch.no_grad():
        return np.array([float(network(i, labels=i).loss) * (i.shape[1] - 1) for i in ids])


def by_bitsandbytes(matrix: torch.Tensor, name: str) -> torch.Tensor:
    if name == "nf4":
        # Flattened: rows shorter than a block it mistakes.
        flat = kernels.quantize_4bit(matrix.flatten(), blocksize=64, quant_type="nf4")
        return kernels.dequantize_4bit(*flat).view(matrix.shape)
    codes, scale, _ = kernels.int8_vectorwise_quant(matrix.half())  # what LLM.int8() stores
    return codes.float() * scale[:, None] / 127


@pytest.mark.parametrize("name", ["nf4", "rows"])
def test_the_loss_change_is_that_of_other_libraries(subject, found, name):
    network = AutoModelForCausalLM.from_pretrained(subject.lm.checkpoint.folder, dtype=torch.float32).eval()
    before = losses(network, subject)
    squares = []
    for module in network.transformer.h.modules():
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
            turned = type(module).__name__ == "Conv1D"
            old = module.weight.data.T.contiguous() if turned else module.weight.data
            new = by_bitsandbytes(old, name)
            squares.append((float(((new - old).double() ** 2).sum()), old.numel()))
            module.weight.data = new.T.contiguous() if turned else new
    change, tags = losses(network, subject) - before, np.array([t.language for t in subject.texts])
    sizes = np.array([len(s.ids) - 1 for s in subject.sequences])
    one = found[name]
    for language in ("en", "sw"):
        mine = tags == language
        assert one.mean("loss_change", language).value == close(change[mine].sum() / sizes[mine].sum(), abs=LOSS)
    assert one.by_text("loss_change") == close(change / sizes, abs=LOSS)
    assert one.by_text("loss") == close(before / sizes, abs=LOSS)
    errors, counts = np.array(squares).T
    assert one.weight_mse == close(errors.sum() / counts.sum(), rel=1e-6)  # products rounded in float32


def test_estimates_are_those_of_the_tokens(subject, found):
    weights = blocks("nf4").weights(subject.lm)
    tokens, one = functional.compare(subject.lm, weights, subject.sequences), found["nf4"]
    for language in (None, "fr"):
        pairs = {
            "loss": tokens.loss(language), "loss_quantized": tokens.loss_quantized(language),
            "loss_change": tokens.loss_change(language), "kl_bits": tokens.kl_divergence(language),
            "logits_mse": tokens.logits_mse(language), "agreement": tokens.agreement(language),
        }  # fmt: skip
        for quantity, expected in pairs.items():
            mean = one.mean(quantity, language)
            assert (mean.n, mean.clusters) == (expected.n, expected.clusters)
            assert (mean.value, mean.standard_error) == close((expected.value, expected.standard_error), rel=1e-9)
            assert np.linalg.norm(one.influence(quantity, language)) == close(expected.standard_error, rel=1e-9)
        assert one.loss_change_p(language) == tokens.loss_change_p(language)


def test_the_error_of_a_text_is_that_of_independent_tokens(subject, found):
    weights = blocks("nf4").weights(subject.lm)
    tokens = functional.compare(subject.lm, weights, subject.sequences)
    change = tokens.nll_quantized - tokens.nll
    for text in (0, 7):
        mine = change[(tokens.text == text) & ~np.isnan(change)]
        expected = clustered_mean(mine, np.arange(len(mine))).standard_error
        assert found["nf4"].loss_change_error[text] == close(expected, rel=1e-6)


def test_an_influence_is_what_leaving_a_text_out_does(found):
    """To first order: a text that is left out takes its influence with it."""
    one = found["nf4"]
    moves = one.influence("kl_bits") / math.sqrt(18 / 17)
    totals, sizes = one.totals["kl_bits"], one.sizes["tokens"]
    for i in range(18):
        without = (totals.sum() - totals[i]) / (sizes.sum() - sizes[i])
        first_order = one.mean("kl_bits").value - moves[i] * sizes.sum() / (sizes.sum() - sizes[i])
        assert without == close(first_order, rel=SUM)


def test_a_checkpoint_in_bf16_does_not_notice_bf16(found):
    one = found["bf16"]
    assert one.weight_mse == one.relative_weight_mse == 0
    assert one.mean("kl_bits").value == one.mean("loss_change").value == 0
    assert one.mean("agreement").value == 1
    assert one.loss_change_p() == 1


def test_relative_errors(subject, found):
    new = blocks("nf4").weights(subject.lm)
    old = subject.lm.linear()
    error = sum(float(((new[n] - old[n]).double() ** 2).sum()) for n in old)
    energy = sum(float((p.double() ** 2).sum()) for p in old.values())
    assert found["nf4"].relative_weight_mse == close(error / energy, rel=SUM)
    assert found["nf4"].matrices.keys() == old.keys()


def test_matrices_have_a_row_for_each_output(subject):
    for name, matrix in degradation.matrices(subject.lm).items():
        inputs = subject.lm.network.get_parameter(name).shape[0 if subject.lm.checkpoint.model_type == "gpt2" else 1]
        assert matrix.shape[1] == inputs, name
    with replaced(subject.lm, {}):
        assert len(degradation.matrices(subject.lm)) == len(subject.lm.linear())


def test_what_is_stored_is_not_measured_again(subject, found, tmp_path, monkeypatch):
    with Store(tmp_path / "store.sqlite") as store:
        first, _ = measure(subject, [blocks("nf4")], store)
        monkeypatch.setattr(degradation, "compare", None)
        again, failures = measure(subject, [blocks("nf4")], store)
        assert not failures
        for key, totals in found["nf4"].totals.items():
            assert np.array_equal(first["nf4"].totals[key], totals)
            assert np.array_equal(again["nf4"].totals[key], totals)
        assert again["nf4"].matrices == found["nf4"].matrices
        other = Subject(subject.lm, subject.texts[:6], subject.sequences[:6])
        with pytest.raises(TypeError, match="not callable"):  # other texts are another measurement
            measure(other, [blocks("nf4")], store)


def test_what_cannot_be_measured_is_named(subject):
    infinite = degradation.Quantization("infinite", {}, lambda lm: {n: p / 0 for n, p in lm.linear().items()})
    found, failures = measure(subject, [infinite, blocks("int2")])
    assert list(found) == ["int2"]
    assert failures[0][0] == "infinite"
    assert "not finite" in failures[0][1]


def test_progress_and_unknown_names(subject):
    seen = []
    one = measure(subject, [blocks("int2"), blocks("int3")], None, lambda *given: seen.append(given))[0]["int2"]
    total = 2 * sum(len(s.ids) for s in subject.sequences)
    assert seen[-1] == ("int3", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    with pytest.raises(ValueError, match="kl"):
        one.mean("kl")
    with pytest.raises(ValueError, match="'he'"):
        one.mean("kl_bits", "he")


def test_one_text_has_no_error(subject):
    texts = [Text("en", "a", "The water is clean and cold.")]
    alone = Subject(subject.lm, texts, functional.encode(subject.lm, texts, 64))
    one = measure(alone, [blocks("nf4")])[0]["nf4"]
    assert math.isnan(one.mean("loss_change").standard_error)
    assert np.isnan(one.influence("loss_change")).all()
