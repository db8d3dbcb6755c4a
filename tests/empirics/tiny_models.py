"""Tiny language models in memory, and their Jacobians a logit at a time: nothing of `empirics.gradients` in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from empirics.functional import Sequence
from empirics.language_model import LanguageModel
from empirics.models import Checkpoint

VOCABULARY = 12


def _llama(tied: bool, layers: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


NETWORKS = {
    "llama": lambda layers: _llama(False, layers),
    "tied llama": lambda layers: _llama(True, layers),
    "bloom": lambda layers: BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=layers, n_head=2)
    ),
    "gpt2": lambda layers: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=layers, n_head=2, n_positions=64, bos_token_id=0,
                   eos_token_id=0)
    ),
}  # fmt: skip


def model(kind: str = "llama", layers: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> LanguageModel:
    """Weights large enough that nothing in the network is nearly linear."""
    torch.manual_seed(seed)
    network = NETWORKS[kind](layers).to(dtype).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.mul_(8)
    checkpoint = Checkpoint(kind, Path(), "none", (), {}, {})
    return LanguageModel(checkpoint, network, None, torch.device("cpu"))


def windows(texts: int = 3, lengths: tuple[int, ...] = (5, 7), seed: int = 0) -> list[Sequence]:
    """As many windows of each text as there are lengths."""
    rng = np.random.default_rng(seed)
    return [
        Sequence(text, ("en", "sw")[text % 2], rng.integers(0, VOCABULARY, length))
        for text in range(texts)
        for length in lengths
    ]


def jacobians(lm: LanguageModel, names: list[str], window: Sequence) -> dict[str, torch.Tensor]:
    """Derivative of each logit with respect to each parameter: shape (tokens, vocabulary, *parameter)."""
    parameters = [lm.parameter(name).requires_grad_() for name in names]
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        logits = lm.network(input_ids=torch.as_tensor(window.ids)[None], use_cache=False).logits[0].flatten()
        rows = torch.autograd.grad(logits, parameters, torch.eye(len(logits)).to(logits), is_grads_batched=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return {name: row.view(-1, VOCABULARY, *row.shape[1:]) for name, row in zip(names, rows, strict=True)}
