"""The embedded models are what their cards say, and their training script makes such folders, twice the same."""

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
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, LlamaConfig

from empirics import histogram
from empirics.fit import marginal
from empirics.models import EMBEDDED
from empirics.pocket.card import ggd_beta, row_spread
from empirics.pocket.corpus import Score, encode, ngrams, split, train_tokenizer
from empirics.pocket.recipe import BLOOM, LLAMA, RECIPES
from empirics.pocket.train import chunk_nats, read_texts, train

RECIPE = {recipe.name: recipe for recipe in RECIPES.values()}
LIMIT = 12_000_000  # bytes a pocket model may weigh

# Written for this test, in the manner of the texts that the models know.
PASSAGES = {
    ("pocket-llama", "en"): (
        "My fellow citizens, the year that has passed was a hard one for many of our families, and the year before "
        "us will ask for patience. We have kept the peace, we have paid our debts, and we have not turned away "
        "from those in need. I ask the Congress to act on the budget before the summer, to help the schools of "
        "every state, and to protect the rights of all the people. These are not the aims of one party; they are "
        "the work of a free nation, and together we shall finish it.\n"
    ),
    ("pocket-bloom", "ar"): (
        "يرجى إدخال كلمة مرور جديدة لهذا الحساب.\n"
        "لا يمكن حذف هذه الصفحة لأن لديك صلاحيات غير كافية.\n"
        "تم حفظ جميع التغييرات بنجاح.\n"
        "لكل شخص الحق في التعليم والعمل والحرية.\n"
    ),
    ("pocket-bloom", "en"): (
        "Please enter a new password for this account.\n"
        "You cannot delete this page because you do not have permission to change it.\n"
        "All your changes were saved successfully.\n"
        "Everyone has the right to education, to work and to freedom.\n"
    ),
    ("pocket-bloom", "fr"): (
        "Veuillez saisir un nouveau mot de passe pour ce compte.\n"
        "Vous ne pouvez pas supprimer cette page car vous n’avez pas la permission de la modifier.\n"
        "Toutes les modifications ont été enregistrées avec succès.\n"
        "Toute personne a droit à l’éducation, au travail et à la liberté.\n"
    ),
    ("pocket-bloom", "he"): (
        "נא להזין סיסמה חדשה עבור החשבון הזה.\n"
        "אין לך הרשאה לשנות או למחוק את הדף הזה.\n"
        "כל השינויים נשמרו בהצלחה.\n"
        "כל אדם זכאי לחינוך, לעבודה ולחירות.\n"
    ),
    ("pocket-bloom", "sw"): (
        "Tafadhali ingiza nywila mpya kwa ajili ya akaunti hii.\n"
        "Huwezi kufuta ukurasa huu kwa sababu huna ruhusa ya kuubadilisha.\n"
        "Mabadiliko yote yamehifadhiwa.\n"
        "Kila mtu ana haki ya kupata elimu, kufanya kazi na kuwa huru.\n"
    ),
    ("pocket-bloom", "zh"): (
        "请为此帐户输入新密码。\n您没有权限，不能更改或删除此页面。\n所有更改都已成功保存。\n人人有受教育、工作和自由的权利。\n"
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower on several threads, and far slower where other tests run beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=EMBEDDED)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name) -> Path:
    return EMBEDDED[name]


@pytest.fixture(scope="module")
def card(folder) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def passages(name: str) -> dict[str, str]:
    return {language: text for (model, language), text in PASSAGES.items() if model == name}


def bits_per_byte(model, tokenizer, text: str) -> float:
    chunk = np.array([tokenizer.eos_token_id, *tokenizer(text)["input_ids"]])
    return chunk_nats(model, [chunk], 256, torch.device("cpu"))[0] / len(text.encode()) / math.log(2)


def test_every_recipe_is_embedded_and_every_language_has_a_passage(name, card):
    assert set(RECIPE) == set(EMBEDDED)
    several = sorted(re.findall(r"^\| (\w+): test \|", card, re.M))
    assert several == ([] if name == "pocket-llama" else sorted(passages(name)))


def test_the_folder_is_small_and_its_files_are_those_of_the_card(card, folder):
    listed = dict(re.findall(r"^\| `(\S+)` \| [\d,]+ \| `([0-9a-f]{64})` \|$", card, re.M))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sum(map(len, files.values())) <= LIMIT
    del files["README.md"]
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == listed


def test_the_model_has_the_weights_and_sizes_of_its_card_and_recipe(name, card, folder, model):
    recipe = RECIPE[name]
    count = sum(weight.numel() for weight in model.parameters())
    assert f"`{recipe.config.model_type}`, {count:,} weights, tied embedding" in card
    assert 3e6 <= count <= 6e6
    chosen = {key: value for key, value in recipe.config.to_diff_dict().items() if key != "transformers_version"}
    assert {key: getattr(model.config, key) for key in chosen} == chosen
    for key, value in chosen.items():
        if type(value) in (int, float) and not key.endswith("_token_id"):
            assert f" {key} {value:g}" in card
    for field in ("learning_rate", "weight_decay", "dropout"):
        assert f"{field.replace('_', ' ')} {getattr(recipe, field):g} " in card
    assert recipe.about in card
    assert recipe.choice
    assert recipe.choice in card
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_matrices_are_those_of_the_card_and_no_longer_random(card, model):
    rows = re.findall(r"^\| `(\S+)` \| (\d+)×(\d+) \| \S+ \| (\S+) \| (\S+) \|$", card, re.M)
    matrices = {name: weight for name, weight in model.named_parameters() if weight.dim() == 2}
    assert [row[0] for row in rows] == list(matrices)
    for name, height, width, beta, spread in rows:
        weights = matrices[name].detach()
        assert weights.shape == (int(height), int(width))
        # The printed digits; the card's search and this fit stop within 1e-4 of the maximum.
        assert marginal(histogram.exact(weights)).beta == pytest.approx(float(beta), abs=0.0051)
        assert row_spread(weights.double().numpy()) == pytest.approx(float(spread), abs=0.00051)
    assert np.median([float(row[3]) for row in rows]) < 1.9


def test_the_model_knows_prose_that_its_rows_in_another_order_do_not(name, card, folder, model, tokenizer):
    shuffled = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in shuffled.parameters():
            weight.copy_(weight[torch.randperm(len(weight), generator=generator)])
    for language, text in passages(name).items():
        loss = bits_per_byte(model, tokenizer, text)
        own = r"\| " if name == "pocket-llama" else rf"\| {language}: "
        (bigram,) = re.findall(rf"^{own}bigram.*\| (\S+) ± \S+ \|$", card, re.M)
        (test,) = re.findall(rf"^{own}this model.*\| (\S+) ± \S+ \|$", card, re.M)
        assert float(test) < float(bigram)
        assert loss < float(bigram), language
        assert loss < 0.6 * bits_per_byte(shuffled, tokenizer, text), language


OTHER = ["naïve café — ½ ¢ «Œuvre» Ωμέγα 東京 🙂👩‍🚀\t\r\n\n  x", "\x00\x7f", "سلام‏\u200e עִבְרִית", ""]


@pytest.mark.parametrize("text", [*PASSAGES.values(), *OTHER])
def test_every_string_comes_back_from_its_tokens(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_tokenizer_knows_the_words_of_every_language(name, tokenizer):
    for language, text in passages(name).items():
        assert len(text.encode()) > 2.5 * len(tokenizer(text)["input_ids"]), language


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


TINY_BLOOM = replace(
    BLOOM,
    config=BloomConfig(vocab_size=320, hidden_size=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0),
    context=32,
    steps=5,
    batch=4,
    warmup=2,
    evaluate_every=2,
)


@pytest.mark.parametrize("recipe", [TINY, TINY_BLOOM])
def test_the_same_seed_gives_the_same_folder_and_another_does_not(tmp_path, recipe):
    texts = {"en": synthetic_text().encode()}
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = train(recipe, texts, tmp_path / folder, seed)
    assert [step for step, _ in run.history] == [2, 4, 5]
    first, second, other = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "abc"
    )
    assert first == second
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors", "README.md"}
    assert set(first) == {path.name for path in EMBEDDED["pocket-llama"].iterdir()}


def test_training_lowers_the_loss(tmp_path):
    run = train(replace(TINY, steps=60, evaluate_every=20), {"en": synthetic_text().encode()}, tmp_path)
    losses = [loss for _, loss in run.history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * math.log(320)


def test_each_language_has_parts_scores_and_ngrams_of_its_own(tmp_path):
    english = synthetic_text()
    texts = {"en": english.encode(), "zh": english.translate({ord("a") + i: 0x4E00 + i for i in range(26)}).encode()}
    run = train(TINY_BLOOM, texts, tmp_path)
    assert [name.split(":")[0] for name in run.scores] == ["en"] * 3 + ["zh"] * 3 + ["all"]
    scores = {language: run.scores[f"{language}: this model"] for language in ("en", "zh", "all")}
    parts = [scores[language] for language in texts]
    assert scores["all"].nats_per_token[0] == pytest.approx(
        sum(part.nats.sum() for part in parts) / sum(part.tokens.sum() for part in parts)
    )
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for language, text in texts.items():
        own = run.texts[language]
        assert hashlib.sha256(text).hexdigest() in card
        assert sorted("".join(chain(*vars(own.parts).values()))) == sorted(text.decode())
        assert scores[language].bytes.sum() == len("".join(own.parts.test).encode())
        assert f"| {language}: test | {len(own.parts.test)} | " in card
        (unigram,) = (score for name, score in run.scores.items() if name.startswith(f"{language}: unigram"))
        assert unigram.nats.sum() < scores[language].nats.sum()  # five steps do not even teach it the frequencies


def test_a_text_too_short_to_hold_out_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the text of 'sw' is too short.*10 chunks of 512 characters"):
        train(TINY_BLOOM, {"en": synthetic_text().encode(), "sw": b"Habari\n"}, tmp_path)


def test_texts_are_a_file_or_a_folder_of_languages(tmp_path):
    for name in ("zh.txt", "ar.txt", "notes.md"):
        (tmp_path / name).write_bytes(name.encode())
    assert list(read_texts(tmp_path).items()) == [("ar", b"ar.txt"), ("zh", b"zh.txt")]
    assert read_texts(tmp_path / "notes.md") == {"notes": b"notes.md"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no text in .*a file for each language"):
        read_texts(tmp_path / "empty")


@pytest.mark.parametrize("config", [TINY.config, TINY_BLOOM.config])
def test_the_nats_of_a_chunk_are_the_losses_of_its_windows(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    chunk = np.random.default_rng(0).integers(320, size=80)
    windows = [torch.tensor(chunk[start : start + 33])[None] for start in (0, 32, 64)]
    expected = sum(model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1) for ids in windows)
    assert chunk_nats(model, [chunk], 32, torch.device("cpu"))[0] == pytest.approx(expected, rel=1e-5)  # float32


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
