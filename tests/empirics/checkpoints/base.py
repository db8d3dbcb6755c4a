"""The tiny Llama that the checkpoints of this folder were made from. numpy never changes the RandomState stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 32,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_bias": False,
    "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "dtype": "bfloat16",
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}  # fmt: skip
LAYER = "model.layers.0."
SHAPES = {
    LAYER + "self_attn.q_proj.weight": (64, 64), LAYER + "self_attn.k_proj.weight": (32, 64),
    LAYER + "self_attn.v_proj.weight": (32, 64), LAYER + "self_attn.o_proj.weight": (64, 64),
    LAYER + "mlp.gate_proj.weight": (128, 64), LAYER + "mlp.up_proj.weight": (128, 64),
    LAYER + "mlp.down_proj.weight": (64, 128),
}  # fmt: skip
"""What is quantized."""


def weights() -> dict[str, torch.Tensor]:
    """Heavy tails, rows of unequal variance, activations of unequal size: what real models have. bf16."""
    rng = np.random.RandomState(0)
    made = {"model.embed_tokens.weight": rng.standard_normal((32, 64))}
    for name, shape in SHAPES.items():
        rows = np.exp(0.3 * rng.standard_normal((shape[0], 1)))
        made[name] = 0.05 * rows * rng.standard_t(6, shape)
    # No weight below 0: the zero point of asymmetric formats is then 0.
    made[LAYER + "mlp.gate_proj.weight"][[3, 7]] = np.abs(made[LAYER + "mlp.gate_proj.weight"][[3, 7]])
    for norm in ("model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.norm"):
        made[f"{norm}.weight"] = np.exp(0.8 * rng.standard_normal(64))
    return {name: torch.from_numpy(value).bfloat16() for name, value in made.items()}


def inputs(columns: int, rows: int = 2) -> torch.Tensor:
    """What every matrix is multiplied with, float32 but of values that bf16 can hold."""
    values = np.random.RandomState(columns).standard_normal((rows, columns))
    return torch.from_numpy(values).bfloat16().float()


def block_weights() -> torch.Tensor:
    """Two rows of 256 weights, for formats whose blocks are so long. Float32."""
    return torch.from_numpy(0.05 * np.random.RandomState(2).standard_t(6, (2, 256)).astype(np.float32))


def save(folder: Path) -> Path:
    """Write the model as transformers would."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    save_file(weights(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def products(x: torch.Tensor, dense: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What a linear layer of these weights returns, and how far from it one in arithmetic of that precision may be.

    Each weight, each product and each partial sum may be rounded by `eps` of itself: at most 3 eps of the sum of
    magnitudes if errors add up, and they do not.
    """
    return x @ dense.T, 3 * eps * (x.abs() @ dense.abs().T)
