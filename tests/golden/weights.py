"""Random weights and inputs that are the same everywhere: pure functions of (seed, name, shape).

Golden outputs were recorded from the published implementations filled with these; tests fill ours with the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# Last layers are smaller where they say places, so that keypoints stay in the picture as trained ones do
SMALL = {
    **{f"motion_extractor.detector.fc_{head}": 0.15 for head in ("kp", "exp", "t", "scale")},
    "appearance_feature_extractor.second": 0.3,
    **{f"appearance_feature_extractor.resblocks_3d.3dr{n}.conv2": 0.3 for n in range(6)},
    "spade_generator.conv_img.0": 0.3,  # and pictures that are not all black and white
    **{f"retarget_{net}": 0.05 for net in ("shoulder.mlp.6", "mouth.mlp.6", "eye.mlp.10")},
}


def generator(seed: int, name: str) -> np.random.Generator:
    """PCG64 seeded by the name's SHA-256, so that no value depends on the order in which values are drawn."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words.tolist()])))


def normal(seed: int, name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """Gaussian inputs of standard deviation ``scale``."""
    return torch.from_numpy(generator(seed, name).standard_normal(shape, np.float32) * np.float32(scale))


def uniform(seed: int, name: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform inputs in [low, high)."""
    return torch.from_numpy((generator(seed, name).random(shape, np.float32) * (high - low) + low).astype(np.float32))


def weight(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """One weight by its published name: sizes that keep activations near one through any depth.

    Counters are 0; variances lie in [0.5, 1.5); the two vectors of a spectral norm and the weight they belong to are
    drawn so that the norm they measure is near one, whatever the shape.
    """
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == "running_var":
        return uniform(seed, name, shape, 0.5, 1.5)
    if leaf in ("weight_u", "weight_v"):
        vector = 1 + normal(seed, name, shape, 0.1)
        return vector / vector.norm()
    scale = SMALL.get(name.rpartition(".")[0], 1.0)
    if name == "motion_extractor.detector.fc_scale.bias":
        return 1 + normal(seed, name, shape, 0.1 * scale)
    if len(shape) < 2 or leaf in ("gamma", "beta"):
        middle = 1.0 if leaf == "weight" else 0.0
        return middle + normal(seed, name, shape, 0.1 * scale)
    fan_in = int(np.prod(shape[1:]))
    drawn = normal(seed, name, shape, 1.4 * scale / fan_in**0.5)
    return drawn + 1 / (shape[0] * fan_in) ** 0.5 if leaf == "weight_orig" else drawn


def weights(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A whole state dictionary: ``shapes`` maps published names to shapes."""
    return {name: weight(seed, name, tuple(shape)) for name, shape in shapes.items()}
