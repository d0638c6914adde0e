"""DiffTalk: the lower face is painted by latent diffusion, into a film or into what the mesh renderer draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vivavoce import weights as packaged
from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit
from vivavoce.motion.surrounded import Surrounded
from vivavoce.nets.difftalk import DiffTalk
from vivavoce.nets.talk_conditions import reach
from vivavoce.system import Source, System
from vivavoce.timeline import Clock

NAME = "difftalk"
STEPS = 1
ANCHOR = 50


def assemble(  # noqa: PLR0913  (one for every option of the command line)
    *,
    weights: Path | None = None,
    steps: int = STEPS,
    reference: Source | None = None,
    progressive: bool = False,
    anchor: int | None = None,
    lips: str | None = None,
    size: int = 512,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    edit: Edit | None = None,
) -> System:
    """The ready system.

    ``weights`` is a folder with ``difftalk.safetensors``, as the recipe writes it, or that file; without, those that
    come with the package. ``steps`` counts calls of the denoiser a frame. ``reference``, a picture ``[1 3 h w]`` of the
    same person, shows how the mouth looks; otherwise the portrait does, or some pictures of the film's beginning, of
    which each frame is painted after the nearest (:mod:`vivavoce.render.references`). With ``progressive`` every frame
    is the reference of the next, and those of the beginning are it again every
    ``anchor`` frames (0: never; 50 if not said). ``lips`` follow the ``motion`` of the generator, which is nearer to
    what people do (docs/systems/difftalk.md), or are ``heard`` by the networks; weights that know no readings of the
    lips only hear. ``size``, ``crop`` and ``face`` are those of :class:`vivavoce.render.mesh.MeshRenderer`; the
    networks run on ``device``. The gain of ``edit`` for the mouth's movement also scales lips that are heard.

    Raises:
        InputError: a value that does not exist, an anchor for what is not progressive, or weights that cannot be used.
    """
    if anchor is not None and not progressive:
        raise InputError("going back to the reference every so many frames (--anchor) is for --progressive")
    from vivavoce.render.latent import LatentRenderer
    from vivavoce.render.mesh import MeshRenderer
    from vivavoce.speech.encoder import PhoneEncoder
    from vivavoce.systems import moda

    networks = DiffTalk.load(packaged.path(NAME) if weights is None else weights, moda.found_device(device))
    encoder = PhoneEncoder.pretrained()
    conditions = networks.config.conditions
    _check(conditions.features, encoder.dim)
    lips = lips or ("motion" if conditions.lips else "heard")
    change = edit or Edit()
    talker = moda.assemble(edit=change)
    around = Surrounded(talker.generator, *reach(conditions), waits=talker.generator.lookahead)
    shown = None if reference is None else np.ascontiguousarray(reference[0].permute(1, 2, 0).numpy())
    renderer = LatentRenderer(
        MeshRenderer(size=size, crop=crop, face=face),
        networks,
        around.heard,
        steps=steps,
        progressive=progressive,
        anchor=ANCHOR if anchor is None else anchor,
        lips=lips,
        gain=change.mouth_gain if lips == "heard" else 1.0,
        reference=shown,
    )
    return System(NAME, Clock(), encoder, around, renderer, talker.edit)


def _check(features: int, given: int) -> None:
    """Refuse weights that cannot hear."""
    if features != given:
        raise InputError(
            f"these weights hear {features} numbers at a time, the phone encoder gives {given}: weights made for other "
            "speech features, such as the published ones, can be imported, but do not speak"
        )
