"""TGDM: a 3D face does what speech, a video or a picture says, and diffusion paints it with the portrait's texture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vivavoce import weights as packaged
from vivavoce.motion.edit import Edit
from vivavoce.nets.tgdm import NAME, Tgdm
from vivavoce.system import System
from vivavoce.systems import moda
from vivavoce.systems.reenact import EVERYTHING, POSE, Deaf, TrackedMotion
from vivavoce.timeline import Clock

STEPS = 1  # more make people who were never seen worse: docs/systems/tgdm.md


def assemble(  # noqa: PLR0913  (one for every option of the command line)
    *,
    weights: Path | None = None,
    steps: int = STEPS,
    guidance_face: float = 1.0,
    emotion: str | None = None,
    emotion_model: Path | None = None,
    emotion_strength: float = 1.0,
    guidance_audio: float = 1.0,
    guidance_emotion: float = moda.EMOTION_GUIDANCE,
    size: int | None = None,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    edit: Edit | None = None,
) -> System:
    """The ready system.

    ``weights`` is a folder with ``tgdm.safetensors``, as the recipe writes it, or that file; without, those that come
    with the package. ``steps`` counts calls of the painter a frame; ``guidance_face``, in [0, 5], says how far what is
    told of the face pushes what is painted (1: as learned; others cost twice the time). Speech and emotion become
    expressions by ``moda``'s generator, whose options are the emotion's and guidance of audio and emotion: see
    :func:`vivavoce.systems.moda.assemble`. ``size``, ``crop`` and ``face`` are those of
    :class:`vivavoce.render.texture.TextureRenderer`; the painter runs on ``device``.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used.
    """
    from vivavoce.render.texture import TextureRenderer

    networks = Tgdm.load(packaged.path(NAME) if weights is None else weights, moda.found_device(device))
    talker = moda.assemble(
        emotion=emotion,
        emotion_model=emotion_model,
        emotion_strength=emotion_strength,
        guidance_audio=guidance_audio,
        guidance_emotion=guidance_emotion,
        edit=edit,
    )
    renderer = TextureRenderer(networks, steps=steps, guidance=guidance_face, size=size, crop=crop, face=face)
    return replace(talker, name=NAME, renderer=renderer)


def follow(  # noqa: PLR0913  (one for every option of the command line)
    *,
    driving: Path,
    weights: Path | None = None,
    steps: int = STEPS,
    guidance_face: float = 1.0,
    relative: bool = False,
    size: int | None = None,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    edit: Edit | None = None,
) -> System:
    """A system whose motion is tracked from the video ``driving``; nothing is generated.

    ``relative`` takes the driver's whole face as changes from the first frame, otherwise the turns of the head alone,
    as :func:`vivavoce.systems.reenact.assemble` does. Other arguments are those of :func:`assemble`.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used.
    """
    from vivavoce.render.texture import TextureRenderer

    networks = Tgdm.load(packaged.path(NAME) if weights is None else weights, moda.found_device(device))
    renderer = TextureRenderer(networks, steps=steps, guidance=guidance_face, size=size, crop=crop, face=face)
    edit = replace(edit or Edit(), relative=EVERYTHING if relative else POSE)
    return System(NAME, Clock(), Deaf(), TrackedMotion(Path(driving)), renderer, edit)
