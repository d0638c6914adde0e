"""Tiny wav2vec2 and HuBERT model folders in the published layout, filled with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from golden import weights as golden
from safetensors.torch import save_file
from torch import Tensor

CHANNELS, WIDTH, INNER, LAYERS = 12, 32, 48, 3
KERNELS = (10, 3, 3, 3, 3, 2, 2)
TINY = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": INNER,
    "conv_dim": [CHANNELS] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def shapes(*, large: bool = False) -> dict[str, tuple[int, ...]]:
    """Published names and shapes, without the prefix; ``large`` models have biases and norms in every convolution."""
    out: dict[str, tuple[int, ...]] = {"masked_spec_embed": (WIDTH,)}

    def pair(name: str, *weight: int) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = weight, weight[:1]

    for n, kernel in enumerate(KERNELS):
        at = f"feature_extractor.conv_layers.{n}"
        out[f"{at}.conv.weight"] = (CHANNELS, 1 if n == 0 else CHANNELS, kernel)
        if large:
            out[f"{at}.conv.bias"] = (CHANNELS,)
        if large or n == 0:
            pair(f"{at}.layer_norm", CHANNELS)
    pair("feature_projection.layer_norm", CHANNELS)
    pair("feature_projection.projection", WIDTH, CHANNELS)
    out["encoder.pos_conv_embed.conv.bias"] = (WIDTH,)
    out["encoder.pos_conv_embed.conv.weight_g"] = (1, 1, 16)
    out["encoder.pos_conv_embed.conv.weight_v"] = (WIDTH, WIDTH // 4, 16)
    pair("encoder.layer_norm", WIDTH)
    for n in range(LAYERS):
        at = f"encoder.layers.{n}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            pair(f"{at}.attention.{name}", WIDTH, WIDTH)
        pair(f"{at}.layer_norm", WIDTH)
        pair(f"{at}.feed_forward.intermediate_dense", INNER, WIDTH)
        pair(f"{at}.feed_forward.output_dense", WIDTH, INNER)
        pair(f"{at}.final_layer_norm", WIDTH)
    return out


def tensors(kind: str = "hubert", *, large: bool = False) -> dict[str, Tensor]:
    """Random weights by published name."""
    return {f"{kind}.{key}": golden.weight(7, f"hubert.{key}", shape) for key, shape in shapes(large=large).items()}


def folder(path: Path, kind: str = "hubert", *, large: bool = False, pickled: bool = False, **change: Any) -> Path:
    """A model folder; ``change`` goes to ``config.json``."""
    path.mkdir(parents=True, exist_ok=True)
    bigger = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True} if large else {}
    (path / "config.json").write_text(json.dumps({"model_type": kind, **TINY, **bigger, **change}))
    (path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    made = tensors(kind, large=large)
    if pickled:
        torch.save(made, path / "pytorch_model.bin")
    else:
        save_file(made, path / "model.safetensors")
    return path
