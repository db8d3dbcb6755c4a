"""The base as a GGUF file, written by the gguf library in the order of llama.cpp's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.empirics.checkpoints import base

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm",
    "model.layers.0.input_layernorm": "blk.0.attn_norm", "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q", "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
    "model.layers.0.self_attn.v_proj": "blk.0.attn_v", "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate", "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
    "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
}  # fmt: skip


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp has them: of each head, the pairs that rotary embeddings turn are neighbours."""
    halves = weights.reshape(heads, 2, len(weights) // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(weights.shape)


def write(path: Path, kind: str, architecture: str = "llama", **replaced: Any) -> Path:
    """Every matrix of the base in a type that the gguf library quantizes; `replaced`: tensors by GGUF's names."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(32)
    for name, tensor in base.weights().items():
        module, values = NAMES[name.removesuffix(".weight")], tensor.float().numpy()
        heads = {"blk.0.attn_q": 4, "blk.0.attn_k": 2}.get(module)
        if heads and architecture == "llama":
            values = permuted(values, heads)
        if values.ndim == 1:
            writer.add_tensor(f"{module}.weight", values)
        else:
            chosen = gguf.GGMLQuantizationType[replaced.get(module.rpartition(".")[2], kind)]
            writer.add_tensor(f"{module}.weight", gguf.quantize(values, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
