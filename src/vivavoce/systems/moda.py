"""MoDA in its compact size: phones heard, motion made by a flow, one photo drawn as a mesh. CPU, real time."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.emotion.clip import reader
from vivavoce.emotion.text import feeling
from vivavoce.errors import InputError
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.edit import Edit
from vivavoce.motion.flow import MotionFlow, calmed, pose_mask
from vivavoce.motion.flow import load as load_flow
from vivavoce.motion.generate import FlowGenerator, Gate, Lips
from vivavoce.motion.space import FACE_MESH
from vivavoce.sampling.samplers import uniform
from vivavoce.system import Source, System
from vivavoce.timeline import Clock

BACKENDS = ("auto", "torch")
DEVICES = ("auto", "cpu", "cuda", "mps")
# What the sound foretells of the mouth is in sync with it, and a sample's own ideas are not; the mean of many people
# moves less than any of them. These shares, and those of the other noise, were chosen on training speakers who were
# kept out of training, so that lips, lids and head move about as much as those of all training speakers.
LIP_NOISE = 0.5  # of the starting noise
LIP_TRUST = 0.3  # of a sample's difference from what was foretold
LIP_GAIN = 1.9  # of the movement about the mean
LID_NOISE = 1.55  # of the starting noise: with less, lids seldom close all the way
POSE_NOISE = 1.35
MEETING = (0.35, 0.75)  # probability of m, b or p from which lips are drawn together, and are together
STEPS = 5  # calls of the network per window: with fewer, lids close too seldom
EMOTION_GUIDANCE, MOST_GUIDANCE = 1.5, 5.0
PULL = 0.01  # share of the way back to the portrait's pose per frame: the head wanders, but not off


def assemble(  # noqa: PLR0913  a system's options, all by name
    *,
    size: int = 512,
    crop: bool = False,
    face: str | int = "largest",
    teeth: Source | None = None,
    emotion: str | None = None,
    emotion_model: Path | None = None,
    emotion_strength: float = 1.0,
    guidance_audio: float = 1.0,
    guidance_emotion: float = EMOTION_GUIDANCE,
    device: str = "auto",
    backend: str = "auto",
    edit: Edit | None = None,
) -> System:
    """The ready system.

    ``size``, ``crop``, ``face`` and ``teeth`` (a photo ``[1 3 h w]`` that shows the person's teeth) are the
    renderer's. ``emotion`` is one of :data:`vivavoce.emotion.labels.LABELS` or words of feeling
    (:mod:`vivavoce.emotion.text`), read by our own table or by the CLIP model in the folder ``emotion_model``: it moves
    the generator towards what it learned, and adds its look (:mod:`vivavoce.emotion.looks`) in proportion to
    ``emotion_strength``, in [0, 3].
    ``guidance_audio`` and ``guidance_emotion``, in [0, 5], say how far the motion is pushed along what sound and
    emotion add; 1 is not at all, and audio other than 1 costs another pass of the network. ``device`` is where the
    networks run: ``auto`` is the CPU, for which they are made small. ``backend`` is what runs them.

    Raises :class:`vivavoce.errors.InputError` for an emotion, guidance, device or backend that does not exist here.
    """
    from vivavoce.render.mesh import MeshRenderer
    from vivavoce.speech.encoder import PhoneEncoder, channel

    if backend not in BACKENDS:
        raise InputError(f"moda has no backend {backend!r}; it has {', '.join(BACKENDS)}")
    where = found_device(device)
    flow = load_flow("moda").to(where)
    asked = feeling(emotion, reader(emotion_model))
    shown = None if teeth is None else np.ascontiguousarray(teeth[0].permute(1, 2, 0).numpy())
    return System(
        name="moda",
        clock=Clock(),
        audio_encoder=PhoneEncoder.pretrained(where),
        generator=generator(
            flow,
            speech=channel("speech"),
            closed=(channel("closed first"), channel("closed second")),
            emotion=None if asked is None else asked.probabilities,
            guidance=scales(audio=guidance_audio, emotion=guidance_emotion),
        ),
        renderer=MeshRenderer(size=size, crop=crop, face=face, teeth=shown),
        edit=replace(edit or Edit(), emotion=asked, emotion_strength=emotion_strength),
    )


def scales(**wanted: float) -> tuple[tuple[str, float], ...]:
    """Guidance as the generator takes it, in the order given: conditions with a scale of 1 need none.

    Raises :class:`vivavoce.errors.InputError` for a scale outside [0, 5].
    """
    for name, scale in wanted.items():
        if not 0 <= scale <= MOST_GUIDANCE:  # also refuses NaN
            raise InputError(f"the guidance of {name} must be a number from 0 to {MOST_GUIDANCE:g}, not {scale:g}")
    return tuple((name, float(scale)) for name, scale in wanted.items() if scale != 1)


def generator(
    flow: MotionFlow,
    *,
    speech: int,
    closed: tuple[int, ...] = (),
    emotion: Float[Tensor, " e"] | None = None,
    guidance: tuple[tuple[str, float], ...] = (("emotion", EMOTION_GUIDANCE),),
) -> FlowGenerator:
    """The generator around ``flow``.

    ``speech`` is the column of the features that says whether somebody speaks, ``closed`` those that say that a sound
    with closed lips is heard.
    """
    rest, shut, opening = _mouth()

    def mouth(share: float) -> Tensor:
        return calmed(flow.std, rest, share).cpu()

    return FlowGenerator(
        flow,
        times=tuple(uniform(STEPS)),
        spread=mouth(LIP_NOISE) @ torch.diag(_liveliness()),
        trust=mouth(LIP_TRUST),
        emphasis=mouth(LIP_GAIN),
        guidance=guidance,
        emotion=emotion,
        gate=Gate(speech, shut),
        lips=Lips(opening, closed, sure=MEETING),
        pull=PULL * flow.pose.cpu(),
    )


def _liveliness() -> Float[Tensor, " d"]:
    """How much noise every number starts from, the mouth's own share aside."""
    out = torch.ones(FACE_MESH.dim)
    out[pose_mask(FACE_MESH).bool()] = POSE_NOISE
    out[FACE_MESH.slice("eyelids")] = LID_NOISE
    return out


@lru_cache(maxsize=1)
def _mouth() -> tuple[Tensor, Tensor, Tensor]:
    model, opening = FaceModel.pretrained(), torch.zeros(FACE_MESH.dim)
    opening[FACE_MESH.slice("expression")] = lips.opening(model)
    return lips.resting(model), lips.closed_rows(model), opening


def found_device(name: str) -> torch.device:
    """The device called ``name``. Raises :class:`InputError` when it does not exist or is not in this machine."""
    there = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in there:
        raise InputError(f"there is no device {name!r}; there are {', '.join(DEVICES)}")
    if not there[name]:
        usable = ", ".join(device for device in DEVICES if there[device])
        raise InputError(f"this machine has no {name} device that torch can use; it has {usable}")
    return torch.device("cpu" if name == "auto" else name)
