"""MoDA as published: a speech model heard, the full-size transformer, LivePortrait's networks drawing."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.emotion.clip import reader
from vivavoce.emotion.text import feeling
from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit
from vivavoce.motion.windows import NAME, WINDOW, Emphasis, KeypointFlow, WindowGenerator, load, published_times
from vivavoce.nets.liveportrait import Networks
from vivavoce.render.keypoint import KeypointRenderer, Precision
from vivavoce.system import AudioEncoder, System
from vivavoce.systems.moda import found_device
from vivavoce.timeline import Clock

SPEECH = "speech"  # folder of the speech model among the weights
PHONES = "phones"  # our own speech encoder, for generators trained on it
EMPHASIS = 0.97  # of the sound: the release adds silence to it, and filters it on the way
STEPS = 10


def assemble(  # noqa: PLR0913  (one for every option of the command line)
    *,
    weights: Path,
    speech: str | None = None,
    emotion: str | None = None,
    emotion_model: Path | None = None,
    emotion_strength: float = 1.0,
    guidance_audio: float = 1.2,
    guidance_emotion: float = 1.2,
    steps: int = STEPS,
    lip_emphasis: bool = True,
    gaze: tuple[float, float] = (0.0, -5.0),
    stitch: bool = True,
    size: int | None = None,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    precision: Precision = "fp32",
    batch: int = 1,
    edit: Edit | None = None,
) -> System:
    """The ready system.

    ``weights`` is a folder into which ``vivavoce import moda`` and ``vivavoce import liveportrait`` wrote. ``speech``
    is the folder of the speech model, or ``hub:OWNER/NAME``, or ``phones`` for a generator trained on our own encoder;
    the model among the weights if ``None``. ``emotion`` and ``emotion_model`` are those of
    :func:`vivavoce.systems.moda.assemble`; what words say of strength counts as ``emotion_strength`` does.
    ``guidance_audio`` and ``guidance_emotion`` say how far the motion is pushed along what sound and emotion add; 1 is
    not at all. ``emotion_strength`` multiplies the latter. ``steps`` counts calls of the network per window of 80
    frames. ``lip_emphasis`` enlarges wide movements of the lips (:class:`vivavoce.motion.windows.Emphasis`), ``gaze``
    is added to where the eyes look (:func:`vivavoce.motion.keypoints.looking`). The others are those of
    :class:`vivavoce.render.keypoint.KeypointRenderer`.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used or do not fit each other.
    """
    if steps < 1:
        raise InputError(f"sampling needs 1 step or more, not {steps}")
    where = found_device(device)
    asked = feeling(emotion, reader(emotion_model))
    strength = emotion_strength if asked is None else emotion_strength * asked.strength
    flow = load(Path(weights) / f"{NAME}.safetensors").to(where)
    encoder = _encoder(Path(weights), speech, flow, where)
    generator = WindowGenerator(
        flow,
        times=published_times(steps),
        guidance=(("audio", guidance_audio), ("emotion", guidance_emotion * strength)),
        emotion=None if asked is None else asked.probabilities,
        emphasis=Emphasis(_silence(encoder, WINDOW)) if lip_emphasis else None,
        gaze=gaze,
    )
    renderer = KeypointRenderer(
        Networks.load(weights, where),
        size=size,
        crop=crop,
        face=face,
        stitch=stitch,
        precision=precision,
        batch=batch,
    )
    return System("moda-liveportrait", Clock(), encoder, generator, renderer, edit or Edit())


def _encoder(folder: Path, speech: str | None, flow: KeypointFlow, where: torch.device) -> AudioEncoder:
    """The speech encoder that ``flow`` was trained on."""
    if speech == PHONES:
        from vivavoce.speech.encoder import PhoneEncoder

        encoder: AudioEncoder = PhoneEncoder.pretrained(where)
    else:
        from vivavoce.speech.pretrained import load as load_speech
        from vivavoce.speech.transformer import TransformerEncoder

        source = speech or folder / SPEECH
        if speech is None and not (folder / SPEECH).is_dir():
            raise InputError(
                f"{folder} has no speech model (a folder called {SPEECH}); name one: the folder of the HuBERT model "
                f"that the checkpoint was trained with, or {PHONES} for a generator trained on our own encoder"
            )
        encoder = TransformerEncoder(load_speech(source, where), emphasis=EMPHASIS)
    heard = flow.net.config.audio
    if encoder.dim != heard:
        raise InputError(
            f"the speech model gives {encoder.dim} numbers a frame, but the motion generator was trained on {heard}"
        )
    return encoder


def _silence(encoder: AudioEncoder, frames: int) -> Float[Tensor, "t a"]:
    """What the encoder makes of ``frames`` frames without sound."""
    clock = Clock()
    quiet = torch.zeros(frames * clock.sample_rate // clock.fps)
    with torch.inference_mode():
        rows = [features.rows for features in encoder.features(clock, [quiet])]
    return torch.cat(rows)[:frames]
