"""A checkpoint small enough to be quantized a dozen times in a second, and texts in three languages."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from empirics import pocket

VOCABULARY = 2048  # of pocket-llama's tokenizer
FAMILIES = {
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=6, n_head=2)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=0)
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64,
        )
    ),
}  # fmt: skip
PASSAGES = {
    "en": "The water is clean.\n\nWe went to the market early and bought bread.\n\nChildren learn by asking"
    " questions.\n\nA bridge was built over the river last year.\n\nPlease close the door.\n\nIt rains often.",
    "fr": "L'eau est propre.\n\nNous sommes allés tôt au marché acheter du pain.\n\nLes enfants apprennent en posant"
    " des questions.\n\nUn pont a été construit l'an dernier.\n\nFermez la porte.\n\nIl pleut souvent au printemps.",
    "sw": "Maji ni safi.\n\nTulienda sokoni mapema kununua mkate.\n\nWatoto hujifunza kwa kuuliza maswali."
    "\n\nDaraja lilijengwa mwaka jana.\n\nTafadhali funga mlango.\n\nMvua hunyesha mara nyingi hapa.",
}


def write(folder: Path, family: str) -> Path:
    """Weights of heavy tails that grow with depth, in bf16; nothing is constant, and nothing is near 0."""
    torch.manual_seed(0)
    network = FAMILIES[family]()
    for i, parameter in enumerate(network.parameters()):
        torch.nn.init.normal_(parameter, 0.05, 0.2)
        parameter.data *= parameter.abs() ** (0.02 * i)
    network.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(pocket.__file__).parent / "llama" / name, folder)
    return folder


def texts(folder: Path, languages: tuple[str, ...] = ("en", "fr", "sw")) -> list[str]:
    """As --text takes them: six paragraphs in each language."""
    for language in languages:
        (folder / f"{language}.txt").write_text(PASSAGES[language], encoding="utf-8")
    return [f"{language}={folder / language}.txt" for language in languages]
