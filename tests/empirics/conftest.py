"""Small checkpoints, written by transformers itself."""

from pathlib import Path

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 layers in bf16, the head of its own, one file."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-llama"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sharded(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in several shards and an index."""
    folder = tmp_path_factory.mktemp("checkpoints") / "sharded-llama"
    LlamaForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).save_pretrained(folder, max_shard_size="20KB")
    return folder


@pytest.fixture(scope="session")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-bloom"
    BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2)).save_pretrained(folder)
    return folder
