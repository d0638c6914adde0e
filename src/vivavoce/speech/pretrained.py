"""Published wav2vec2 and HuBERT models: from a folder, or from the Hugging Face Hub where the user says so.

Only plain data is read (``config.json`` and weights, strictly name by name); ``transformers`` builds the network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import Checkpoint, matched, read
from vivavoce.speech.transformer import CLOCK, SpeechTransformer

CONFIG, FEATURES = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in order of preference
KINDS = ("hubert", "wav2vec2")  # ``model_type`` in config.json
HUB = "hub:"  # what a model of the Hub is called with: hub:OWNER/NAME
UNUSED = "masked_spec_embed"  # of training with hidden spans
# Heads for recognition and pre-training, which sit on top of the layers that are kept.
_HEADS = ("lm_head", "quantizer", "project_hid", "project_q", "classifier", "projector", "layer_weights", UNUSED)
_NORMS = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load(source: str | Path, device: str | torch.device = "cpu") -> SpeechTransformer:
    """The model in a folder that has ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.

    ``source`` may also be ``hub:OWNER/NAME``: that, and only that, downloads the model (once).

    Raises:
        InputError: there is no such model, it is of another kind or damaged, or ``transformers`` is not installed.
    """
    text = str(source)
    folder = _downloaded(text.removeprefix(HUB)) if text.startswith(HUB) else Path(source)
    return opened(folder)[0].to(device)


def opened(folder: Path) -> tuple[SpeechTransformer, Checkpoint]:
    """The model in ``folder``, frozen, and the file its weights came from. Raises as :func:`load` does."""
    if not folder.is_dir():
        raise InputError(f"there is no speech model folder {folder} (a model of the Hub is called {HUB}OWNER/NAME)")
    config = described(folder / CONFIG)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise InputError(f"{folder / CONFIG} is of a model of type {kind!r}; speech models are {' and '.join(KINDS)}")
    features = described(folder / FEATURES) if (folder / FEATURES).is_file() else {}
    if (rate := features.get("sampling_rate", CLOCK.sample_rate)) != CLOCK.sample_rate:
        raise InputError(f"{folder / FEATURES} asks for sound at {rate} Hz; only {CLOCK.sample_rate} Hz can be given")
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise InputError(f"{folder} has no weights (looked for {', '.join(WEIGHTS)})")
    found = read(file)
    network = SpeechTransformer(built(config, folder), normalised=bool(features.get("do_normalize", True)))
    wanted = {key: tuple(value.shape) for key, value in network.model.state_dict().items() if key != UNUSED}
    what = f"{file} (the {kind} speech model)"
    tensors = matched(found.tensors, wanted, what=what, rename=lambda key: renamed(key, kind))
    network.model.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False, assign=True)
    if UNUSED in network.model.state_dict():
        network.model.register_parameter(UNUSED, None)
    return network.eval().requires_grad_(False), found


def described(file: Path) -> dict[str, Any]:
    """A configuration file. Raises :class:`vivavoce.errors.InputError` when it is not there or no JSON object."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a configuration: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} is no configuration: it holds no names with values")
    return value


def renamed(key: str, kind: str) -> str | None:
    """Published name of a tensor -> that of the network, or ``None`` for heads that are left behind.

    Checkpoints of whole recognisers call the network ``hubert`` or ``wav2vec2``; older ones have another name for the
    two factors of the position convolution.
    """
    key = key.removeprefix(f"{kind}.")
    if key.partition(".")[0] in _HEADS:
        return None
    stem, _, leaf = key.rpartition(".")
    return f"{stem}.{_NORMS[leaf]}" if leaf in _NORMS else key


def built(config: dict[str, Any], folder: Path) -> torch.nn.Module:
    """The network that ``config`` (of ``folder``) describes, on the ``meta`` device: without weights."""
    kind = config["model_type"]
    try:
        from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model
    except ImportError as error:
        raise InputError("speech models need the package transformers: pip install 'vivavoce[speech]'") from error
    try:
        with torch.device("meta"):
            return HubertModel(HubertConfig(**config)) if kind == "hubert" else Wav2Vec2Model(Wav2Vec2Config(**config))
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder / CONFIG} does not describe a {kind} model: {error}") from error


def _downloaded(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f"{HUB}{name} is not the name of a model of the Hub (they look like {HUB}OWNER/NAME)")
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError("models of the Hub need the package transformers: pip install 'vivavoce[speech]'") from error
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=[CONFIG, FEATURES, *WEIGHTS]))
    except Exception as error:  # of the network, the Hub or the disk, each library its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"the model {name} cannot be had from the Hub: {reason}") from error
