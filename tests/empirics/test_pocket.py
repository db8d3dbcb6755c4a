"""The embedded model is what its card says, and its training script makes such folders, twice the same."""

import hashlib
import json
import math
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from empirics.pocket.card import ggd_beta, row_spread
from empirics.pocket.corpus import Score, encode, ngrams, split, train_tokenizer
from empirics.pocket.recipe import LLAMA
from empirics.pocket.train import chunk_nats, train

FOLDER = Path(__file__).parents[2] / "empirics" / "pocket" / "llama"
LIMIT = 12_000_000  # bytes a pocket model may weigh

# Written for this test, in the manner of the text the model knows.
PASSAGE = (
    "My fellow citizens, the year that has passed was a hard one for many of our families, and the year before "
    "us will ask for patience. We have kept the peace, we have paid our debts, and we have not turned away "
    "from those in need. I ask the Congress to act on the budget before the summer, to help the schools of "
    "every state, and to protect the rights of all the people. These are not the aims of one party; they are "
    "the work of a free nation, and together we shall finish it.\n"
)


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower on several threads, and far slower where other tests run beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def card() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def nats_per_byte(model, tokenizer, text: str) -> float:
    chunk = np.array([tokenizer.eos_token_id, *tokenizer(text)["input_ids"]])
    return chunk_nats(model, [chunk], LLAMA.context, torch.device("cpu"))[0] / len(text.encode())


def test_the_folder_is_small_and_its_files_are_those_of_the_card(card):
    listed = dict(re.findall(r"^\| `(\S+)` \| [\d,]+ \| `([0-9a-f]{64})` \|$", card, re.M))
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert sum(map(len, files.values())) <= LIMIT
    del files["README.md"]
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == listed


def test_the_model_has_the_weights_and_sizes_of_its_card_and_recipe(card, model):
    count = sum(weight.numel() for weight in model.parameters())
    assert f"`llama`, {count:,} weights, tied embedding" in card
    assert 3e6 <= count <= 6e6
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads", "vocab_size"):
        assert getattr(model.config, name) == getattr(LLAMA.config, name)
        assert f" {name} {getattr(LLAMA.config, name)}" in card
    for field in ("learning_rate", "weight_decay", "dropout"):
        assert f"{field.replace('_', ' ')} {getattr(LLAMA, field):g} " in card
    assert json.loads((FOLDER / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_matrices_are_those_of_the_card_and_no_longer_random(card, model):
    rows = re.findall(r"^\| `(\S+)` \| (\d+)×(\d+) \| \S+ \| (\S+) \| (\S+) \|$", card, re.M)
    matrices = {name: weight for name, weight in model.named_parameters() if weight.dim() == 2}
    assert [row[0] for row in rows] == list(matrices)
    for name, height, width, beta, spread in rows:
        weights = matrices[name].detach().double().numpy()
        assert weights.shape == (int(height), int(width))
        assert ggd_beta(weights) == pytest.approx(float(beta), abs=0.0051)
        assert row_spread(weights) == pytest.approx(float(spread), abs=0.00051)
    assert np.median([float(row[3]) for row in rows]) < 1.9


def test_the_model_knows_prose_that_its_rows_in_another_order_do_not(model, tokenizer):
    loss = nats_per_byte(model, tokenizer, PASSAGE)
    shuffled = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in shuffled.parameters():
            weight.copy_(weight[torch.randperm(len(weight), generator=generator)])
    assert loss / math.log(2) < 1.6  # bits per byte; the card's test part takes 1.32, a bigram 1.74
    assert loss < 0.6 * nats_per_byte(shuffled, tokenizer, PASSAGE)


@pytest.mark.parametrize("text", [PASSAGE, "naïve café — ½ ¢ «Œuvre» Ωμέγα 東京 🙂👩‍🚀\t\r\n\n  x", "\x00\x7f", ""])
def test_every_string_comes_back_from_its_tokens(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def synthetic_text() -> str:
    words = [a + b + c for a in "bdgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st")]
    draws = np.random.default_rng(0)
    return "\n".join(" ".join(draws.choice(words, 12)) + "." for _ in range(600))


TINY = replace(
    LLAMA,
    config=LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
    context=32,
    chunk=512,
    steps=5,
    batch=4,
    warmup=2,
    evaluate_every=2,
)


def test_the_same_seed_gives_the_same_folder_and_another_does_not(tmp_path):
    text = synthetic_text().encode()
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = train(TINY, text, tmp_path / folder, seed)
    assert [step for step, _ in run.history] == [2, 4, 5]
    first, second, other = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "abc"
    )
    assert first == second
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors", "README.md"}
    assert set(first) == {path.name for path in FOLDER.iterdir()}


def test_training_lowers_the_loss(tmp_path):
    run = train(replace(TINY, steps=60, evaluate_every=20), synthetic_text().encode(), tmp_path)
    losses = [loss for _, loss in run.history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * math.log(320)


def test_the_parts_hold_the_whole_text_and_share_no_line():
    lines = [f"line {i}\n" for i in range(500)]
    parts = split("".join(lines), chunk=30, period=10)
    pieces = {role: [line for run in runs for line in run.splitlines(True)] for role, runs in vars(parts).items()}
    assert sorted(chain(*pieces.values())) == sorted(lines)
    assert len(pieces["validation"]) == pytest.approx(50, abs=5)
    assert len(pieces["test"]) == pytest.approx(50, abs=5)


def test_ngrams_are_probabilities_and_the_bigram_sees_order():
    texts = ["abababababababab\n" * 4, "abababab\n", "ababab\n"]
    tokenizer = train_tokenizer(texts[:1], 257)  # bytes and the separator: no merge
    train_, validation, test = (encode(tokenizer, [text]) for text in texts)
    unigram, bigram = ngrams(train_, validation, test, 257).values()
    assert bigram[0] < 0.5 * unigram[0]
    # Over every next token after one context the probabilities sum to one.
    nexts = [np.array([test[0][1], token]) for token in range(257)]
    for nats in ngrams(train_, validation, nexts, 257).values():
        assert np.exp(-nats).sum() == pytest.approx(1)


def test_the_standard_error_is_that_of_the_mean_when_chunks_are_equal():
    nats = np.array([10.0, 12.0, 14.0, 20.0])
    mean, error = Score(nats, np.full(4, 5), np.full(4, 20)).nats_per_token
    assert mean == pytest.approx(nats.mean() / 5)
    assert error == pytest.approx(nats.std(ddof=1) / math.sqrt(4) / 5)


@pytest.mark.parametrize("beta", [0.8, 1.0, 1.5, 2.0])
def test_the_fit_finds_the_shape_that_was_drawn(beta):
    draws = np.random.default_rng(1)
    magnitude = draws.gamma(1 / beta, size=200_000) ** (1 / beta)
    weights = 0.03 * magnitude * draws.choice([-1, 1], magnitude.size)
    assert ggd_beta(weights) == pytest.approx(beta, rel=0.02)


def test_equal_rows_are_worth_nothing_and_scaled_ones_their_arithmetic_over_geometric_mean():
    rows = np.array([[1.0, -1.0], [1.0, 1.0]])
    assert row_spread(rows) == pytest.approx(0)
    assert row_spread(rows * [[1.0], [2.0]]) == pytest.approx(0.5 * math.log2(2.5 / 2))
