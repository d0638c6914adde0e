"""DiffTalk: the lower face is painted by latent diffusion, into a film or into what the mesh renderer draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit
from vivavoce.motion.surrounded import Surrounded
from vivavoce.nets.difftalk import DiffTalk
from vivavoce.nets.talk_conditions import reach
from vivavoce.system import Source, System
from vivavoce.timeline import Clock

NAME = "difftalk"
STEPS = 4
ANCHOR = 50


def assemble(  # noqa: PLR0913  (one for every option of the command line)
    *,
    weights: Path,
    steps: int = STEPS,
    reference: Source | None = None,
    progressive: bool = True,
    anchor: int = ANCHOR,
    lips: str = "heard",
    size: int = 512,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    edit: Edit | None = None,
) -> System:
    """The ready system.

    Args:
        weights: folder with ``difftalk.safetensors``, as the recipe writes it, or that file.
        steps: calls of the denoiser a frame.
        reference: a picture ``[1 3 h w]`` of the same person that shows how the mouth looks; otherwise the portrait, or
            the plainest picture of the film's beginning.
        progressive: every frame is the reference of the next, lest the picture flicker.
        anchor: frames after which the reference is the first one again, lest errors grow; 0: never.
        lips: ``heard``: what the networks make of the sound; ``motion``: lips as the motion generator moves them.
        size: see :class:`vivavoce.render.mesh.MeshRenderer`.
        crop: as there.
        face: as there.
        device: where the networks run; ``auto`` is the CPU.
        edit: what the user changes in the motion. Its gain of the mouth's movement also scales lips that are heard.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used.
    """
    from vivavoce.render.latent import LatentRenderer
    from vivavoce.render.mesh import MeshRenderer
    from vivavoce.speech.encoder import PhoneEncoder
    from vivavoce.systems import moda

    networks = DiffTalk.load(weights, moda.found_device(device))
    encoder = PhoneEncoder.pretrained()
    conditions = networks.config.conditions
    if conditions.features != encoder.dim:
        raise InputError(
            f"these weights hear {conditions.features} numbers at a time, the phone encoder gives {encoder.dim}: "
            "weights made for other speech features, such as the published ones, can be imported, but do not speak"
        )
    change = edit or Edit()
    talker = moda.assemble(edit=change)
    around = Surrounded(talker.generator, *reach(conditions))
    shown = None if reference is None else np.ascontiguousarray(reference[0].permute(1, 2, 0).numpy())
    renderer = LatentRenderer(
        MeshRenderer(size=size, crop=crop, face=face),
        networks,
        around.heard,
        steps=steps,
        progressive=progressive,
        anchor=anchor,
        lips=lips,
        gain=change.mouth_gain if lips == "heard" else 1.0,
        reference=shown,
    )
    return System(NAME, Clock(), encoder, around, renderer, talker.edit)
