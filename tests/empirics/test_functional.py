"""The functional pass against transformers' own loss, torch.distributions in float64, and the texts one by one."""

import copy
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from transformers import BloomConfig, BloomForCausalLM

from empirics import functional
from empirics.functional import Sequence, Tokens, compare, compare_all, encode
from empirics.inference import clustered_mean
from empirics.language_model import LanguageModel, open_model, quantized_weights, replaced
from empirics.texts import Text, embedded
from tests.tolerances import close

# A loss of pocket-llama, up to 20 nats, is a logit of some hundred float32 products: measured 7e-6 from float64, and
# 3e-6 between batches of different shape.
LOGIT = 3e-5
# Relative. A divergence is quadratic in differences of logits, 0.1 to 0.5 here, each known to 1e-5: measured 8e-5.
DIVERGENCE = 5e-4

TEXTS = embedded(["en"])[:3] + embedded(["sw"])[:2] + [Text("en", "a word", "Yes")]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return open_model("pocket-llama")


@pytest.fixture(scope="module")
def weights(lm) -> dict[str, torch.Tensor]:
    return quantized_weights(lm, "int4")


@pytest.fixture(scope="module")
def sequences(lm) -> list[Sequence]:
    return encode(lm, TEXTS, 64)  # most texts in two windows


@pytest.fixture(scope="module")
def tokens(lm, weights, sequences) -> Tokens:
    return compare(lm, weights, sequences)


@pytest.fixture(scope="module")
def bloom(lm) -> LanguageModel:
    """Untrained, with the tokenizer of pocket-llama; it sees padding through its positions, unless masked."""
    torch.manual_seed(0)
    network = BloomForCausalLM(BloomConfig(vocab_size=2048, hidden_size=64, n_layer=2, n_head=2))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.2)
    return LanguageModel(lm.checkpoint, network.eval().requires_grad_(False), lm.tokenizer, network.device)


def alone(lm: LanguageModel, sequence: Sequence) -> torch.Tensor:
    """Logits of one sequence, without padding or batch."""
    with torch.no_grad():
        return lm.network(torch.from_numpy(sequence.ids)[None]).logits[0]


def test_windows_hold_every_token_once(lm):
    texts = [Text("en", "a", "My fellow citizens, " * 9), Text("sw", "b", "Habari za asubuhi.")]
    for context in (2, 7, 1000):
        windows = encode(lm, texts, context)
        assert all(2 <= len(w.ids) <= context and w.ids[0] == lm.tokenizer.bos_token_id for w in windows)
        for number, text in enumerate(texts):
            ids = np.concatenate([w.ids[1:] for w in windows if w.text == number])
            assert lm.tokenizer.decode(ids) == text.text
            assert {w.language for w in windows if w.text == number} == {text.language}


def test_without_a_start_token_the_first_has_no_prediction(lm):
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.bos_token = None
    text = Text("en", "a", "My fellow citizens, good morning to you all.")
    windows = encode(tokenizer, [text], 5)
    assert max(len(w.ids) for w in windows) == 5
    assert tokenizer.decode(np.concatenate([w.ids for w in windows])) == text.text
    with pytest.raises(ValueError, match=r"a word is too short for one prediction \(1 tokens\)"):
        encode(tokenizer, [Text("en", "a word", "A")], 5)


def test_texts_that_cannot_be_encoded_are_named(lm):
    with pytest.raises(ValueError, match=r"nothing is too short for one prediction \(0 tokens\)"):
        encode(lm, [*TEXTS, Text("en", "nothing", "")], 64)
    with pytest.raises(ValueError, match="no texts"):
        encode(lm, [], 64)
    with pytest.raises(ValueError, match="context = 1: a prediction takes 2 tokens"):
        encode(lm, TEXTS, 1)


def test_losses_are_transformers_own(lm, weights, sequences, tokens):
    start = 0
    for sequence in sequences:
        rows = slice(start, start := start + len(sequence.ids))
        ids = torch.from_numpy(sequence.ids)[None]
        with torch.no_grad():
            assert np.mean(tokens.nll[rows][:-1]) == close(float(lm.network(ids, labels=ids).loss), abs=LOGIT)
            with replaced(lm, weights):
                own = float(lm.network(ids, labels=ids).loss)
        assert np.mean(tokens.nll_quantized[rows][:-1]) == close(own, abs=LOGIT)
        assert np.isnan(tokens.nll[rows][-1])
        assert np.isnan(tokens.nll_quantized[rows][-1])
        assert (tokens.text[rows] == sequence.text).all()
        assert (tokens.language[rows] == sequence.language).all()
        assert tokens.position[rows].tolist() == list(range(len(sequence.ids)))
    assert start == len(tokens.nll)


def test_each_position_against_float64(lm, weights, sequences, tokens):
    network = copy.deepcopy(lm.network).double()
    double = LanguageModel(lm.checkpoint, network, lm.tokenizer, lm.device)
    ours, theirs = [], []
    for sequence in sequences:
        a = alone(double, sequence)
        with replaced(double, weights):
            b = alone(double, sequence)
        p, q = Categorical(logits=a), Categorical(logits=b)
        nll = -torch.stack([x.log_prob(torch.from_numpy(sequence.ids).roll(-1)) for x in (p, q)])
        nll[:, -1] = math.nan
        divergence, square = kl_divergence(p, q) / math.log(2), (a - b).square().mean(-1)
        ours.append(torch.stack([*nll, divergence, square, (a.argmax(-1) == b.argmax(-1)).double()]).numpy())
    theirs = np.concatenate(ours, axis=1)
    for found, expected in zip((tokens.nll, tokens.nll_quantized), theirs[:2], strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=LOGIT)
    np.testing.assert_allclose(tokens.kl, theirs[2], rtol=DIVERGENCE)
    np.testing.assert_allclose(tokens.logits_square, theirs[3], rtol=DIVERGENCE)
    assert (tokens.agree == theirs[4].astype(bool)).all()  # no two top logits as close as rounding
    assert 0 < tokens.agree.mean() < 1
    # In float64 throughout, nothing is left but the float32 in which positions are kept.
    exact = compare(double, {name: w.double() for name, w in weights.items()}, sequences)
    np.testing.assert_allclose(exact.kl, theirs[2], rtol=1e-6)
    np.testing.assert_allclose(exact.nll, theirs[0], rtol=1e-6)


@pytest.mark.parametrize(("scale", "spread"), [(3, 1e-4), (3, 1), (3, 30), (60, 60)])
def test_small_and_huge_divergences(scale, spread):
    """float32 logits as given: what the reduction itself loses, against float64."""
    rng = torch.Generator().manual_seed(0)
    a = scale * torch.randn(200, 500, generator=rng)
    b = a + spread * torch.randn(200, 500, generator=rng) + 5
    found = functional._reduce(a, b, torch.randint(500, (200,), generator=rng)).double()
    expected = kl_divergence(Categorical(logits=a.double()), Categorical(logits=b.double()))
    # At 1e-4, where b - a is known to 5e-7, a plain sum of p ln(p/q) would be off by 1e-7 of 5e-9. Where one
    # probability is almost 1, the float64 sum is itself off by rounding.
    torch.testing.assert_close(found[2], expected, rtol=1e-2 if spread < 1e-2 else 1e-5, atol=1e-13)
    torch.testing.assert_close(found[3], (a.double() - b.double()).square().mean(1), rtol=1e-5, atol=0)
    beyond_float32 = (b.log_softmax(1) - a.log_softmax(1)).amax(1) > 89  # the ratio of the probabilities
    assert bool(beyond_float32.any()) == (scale == 60)
    assert (found[2][~beyond_float32] > 0).all()


def test_the_same_model_has_no_distortion(lm, sequences):
    found = compare(lm, lm, sequences)
    assert (found.kl == 0).all()
    assert (found.logits_square == 0).all()
    assert found.agree.all()
    assert found.loss_change() == replace(found.loss_change(), value=0.0, standard_error=0.0)
    assert found.perplexity_ratio().interval() == (1, 1)


@pytest.mark.parametrize("family", ["lm", "bloom"])
def test_padding_and_batches_do_not_matter(request, family, sequences):
    model = request.getfixturevalue(family)
    other = quantized_weights(model, "int4")
    one, many = (compare(model, other, sequences, batch_tokens=size) for size in (1, 10_000))
    scale = 1.0 if family == "lm" else float(alone(model, sequences[0]).abs().max()) / 20
    for name in ("nll", "nll_quantized"):
        np.testing.assert_allclose(getattr(one, name), getattr(many, name), rtol=0, atol=scale * LOGIT)
    for name in ("kl", "logits_square"):
        np.testing.assert_allclose(getattr(one, name), getattr(many, name), rtol=DIVERGENCE)
    for name in ("text", "language", "position", "agree"):
        assert (getattr(one, name) == getattr(many, name)).all()


def test_memory_is_that_of_a_batch(lm, weights, sequences, monkeypatch):
    shapes, read = [], 0
    forward = lm.network.forward

    def recorded(*, attention_mask, **kwargs):
        nonlocal read
        output = forward(attention_mask=attention_mask, **kwargs)
        shapes.append(output.logits.shape[:2])
        read += int(attention_mask.sum())
        return output

    monkeypatch.setattr(lm.network, "forward", recorded)
    compare(lm, weights, sequences, batch_tokens=200)
    assert all(rows * columns <= 200 for rows, columns in shapes)
    assert sum(rows for rows, _ in shapes) == 2 * len(sequences)  # each once through either model
    lengths = sum(len(s.ids) for s in sequences)
    assert read == 2 * lengths  # the rest is padding, masked, and little
    assert read < sum(rows * columns for rows, columns in shapes) < 1.25 * read
    assert shapes[0][1] == max(len(s.ids) for s in sequences)  # the most expensive batch comes first


def identical(a: Tokens, b: Tokens) -> bool:
    pairs = ((getattr(a, f.name), getattr(b, f.name)) for f in fields(Tokens))
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)


def test_weights_a_model_and_a_second_run_give_the_same_numbers(lm, weights, sequences, tokens):
    other = LanguageModel(lm.checkpoint, copy.deepcopy(lm.network), lm.tokenizer, lm.device)
    for name, weight in weights.items():
        other.parameter(name).data = weight
    assert identical(compare(lm, other, sequences), tokens)
    assert identical(compare(lm, weights, sequences), tokens)
    name, weight = next(iter(weights.items()))
    several = compare_all(lm, {"all": weights, "model": other, "one": {name: weight}, "none": {}}, sequences)
    assert list(several) == ["all", "model", "one", "none"]
    assert identical(several["all"], tokens)
    assert identical(several["model"], tokens)
    assert identical(several["one"], compare(lm, {name: weight}, sequences))
    assert not several["none"].kl.any()


def test_progress_counts_the_tokens(lm, weights, sequences):
    seen = []
    compare(lm, weights, sequences, batch_tokens=100, progress=lambda *step: seen.append(step))
    total = sum(len(s.ids) for s in sequences)
    assert {step[2] for step in seen} == {total}
    done = [step[1] for step in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)


def test_estimates_are_clustered_by_text(tokens):
    assert tokens.languages == ["en", "sw"]
    known = ~np.isnan(tokens.nll)
    for language in (None, "en", "sw"):
        among = tokens.language == language if language else np.full(len(known), True)
        change = (tokens.nll_quantized - tokens.nll)[known & among]
        found = tokens.loss_change(language)
        assert found == clustered_mean(change, tokens.text[known & among])
        assert (found.clusters, found.n) == (len(set(tokens.text[among])), len(change))
        assert tokens.kl_divergence(language) == clustered_mean(tokens.kl[among], tokens.text[among])
        assert tokens.logits_mse(language).value == close(tokens.logits_square[among].mean(), rel=1e-12)
        assert tokens.agreement(language).value == close(tokens.agree[among].mean(), rel=1e-12)
        difference = tokens.loss_quantized(language).value - tokens.loss(language).value
        assert found.value == close(difference, abs=1e-12)
        ratio = tokens.perplexity_ratio(language)
        assert ratio.value == close(math.exp(difference), rel=1e-12)
        assert ratio.interval() == pytest.approx(np.exp(found.interval()), rel=1e-12)
        median = tokens.kl_quantiles([0.5], language)[0.5]
        assert median.value == np.quantile(tokens.kl[among], 0.5, method="inverted_cdf")
        assert 0 < median.standard_error < median.value
        assert 0 < tokens.loss_change_p(language) <= 1
    assert tokens.loss_change("sw").small
    with pytest.raises(ValueError, match="no language among the texts is called 'fr': there are en, sw"):
        tokens.loss_change("fr")


def test_every_estimate_has_a_name_with_its_unit(tokens):
    found = tokens.estimates("en")
    assert list(found) == [
        "loss_nats", "loss_quantized_nats", "loss_change_nats", "perplexity_ratio", "kl_bits",
        "kl_50_percent_bits", "kl_90_percent_bits", "kl_99_percent_bits", "logits_mse", "agreement",
    ]  # fmt: skip
    assert found["kl_90_percent_bits"] == tokens.kl_quantiles(language="en")[0.9]
    assert found["loss_change_nats"] == tokens.loss_change("en")


def test_other_vocabularies_are_refused(lm, bloom, sequences):
    torch.manual_seed(0)
    network = BloomForCausalLM(BloomConfig(vocab_size=2100, hidden_size=64, n_layer=1, n_head=2)).eval()
    larger = LanguageModel(lm.checkpoint, network, lm.tokenizer, network.device)
    with pytest.raises(ValueError, match=r"different vocabularies \(2048 and 2100 tokens\)"):
        compare(lm, larger, sequences)
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.add_tokens(["<|more|>"])
    with pytest.raises(ValueError, match=r"different vocabularies \(the same number of other tokens\)"):
        compare(lm, replace(bloom, tokenizer=tokenizer), sequences)


def test_sequences_that_do_not_fit_are_refused(lm, weights, sequences):
    with pytest.raises(ValueError, match="a sequence has 300 tokens and pocket-llama takes 256"):
        compare(lm, weights, [Sequence(0, "en", np.ones(300, dtype=np.int64))])
    with pytest.raises(ValueError, match="token id 2048 is outside the 2048 tokens of pocket-llama"):
        compare(lm, weights, [*sequences, Sequence(0, "en", np.array([1, 2048]))])
    with pytest.raises(ValueError, match="no sequences"):
        compare(lm, weights, [])
    with pytest.raises(ValueError, match=r"no parameter of pocket-llama is called 'lm_head\.wight'"):
        compare(lm, {"lm_head.wight": torch.zeros(1)}, sequences)


def test_logits_that_are_not_finite_are_refused_and_the_weights_put_back(lm, weights, sequences, tokens):
    name = "model.layers.5.mlp.down_proj.weight"
    bad = weights | {name: torch.full_like(weights[name], torch.inf)}
    with pytest.raises(ValueError, match=r"logits are not finite at \d+ positions \(bad\), first in text 0"):
        compare_all(lm, {"good": weights, "bad": bad}, sequences)
    assert identical(compare(lm, weights, sequences), tokens)


def test_a_batch_that_does_not_fit_says_what_to_do(lm, weights, sequences, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(functional, "_reduce", full)
    with pytest.raises(MemoryError, match="out of memory for a batch of logits: give batch_tokens below 512"):
        compare(lm, weights, sequences, batch_tokens=512)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_numbers_of_the_cpu(weights, sequences, tokens):
    gpu = open_model("pocket-llama", device="cuda")
    found = compare(gpu, weights, sequences)
    np.testing.assert_allclose(found.nll, tokens.nll, rtol=0, atol=LOGIT)
    np.testing.assert_allclose(found.kl, tokens.kl, rtol=DIVERGENCE)
    np.testing.assert_allclose(found.logits_square, tokens.logits_square, rtol=DIVERGENCE)
    assert identical(compare(gpu, weights, sequences), found)
    # A model on each side of the bus.
    other = open_model("pocket-llama")
    for name, weight in weights.items():
        other.parameter(name).data = weight
    np.testing.assert_allclose(compare(gpu, other, sequences).kl, tokens.kl, rtol=DIVERGENCE)
