"""Paint a face: from noise to what a face painter makes of a known picture, a drawn face and a person's texture."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.nets.tgdm import LAST, Sight, Tgdm
from vivavoce.sampling.ddim import ddim, spread_steps
from vivavoce.sampling.samplers import multistep, uniform

Latents = Float[Tensor, "b c h w"]
MOST_STEPS = 500
MOST_GUIDANCE = 5.0


def paint(net: Tgdm, start: Latents, sight: Sight, *, steps: int, guidance: float = 1.0) -> Latents:
    """Clean latents.

    Args:
        net: the networks; what their output means is in their configuration.
        start: standard normal noise, shared by the frames of a video so that they do not flicker.
        sight: what is to be painted.
        steps: calls of the painter.
        guidance: how far what is told of the face and its texture pushes; 1 is as learned, others cost a second call.

    Raises:
        InputError: not 1 to 500 steps, or a guidance outside [0, 5].
    """
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"faces are painted in 1 to {MOST_STEPS} steps, not {steps}")
    if not 0 <= guidance <= MOST_GUIDANCE:  # also refuses NaN
        raise InputError(f"the guidance of the face must be a number from 0 to {MOST_GUIDANCE:g}, not {guidance:g}")
    if net.config.predicts == "noise":
        table = net.config.table

        def noise(x: Latents, step: float) -> Latents:
            return guided(net, x, torch.full((len(x),), step, device=x.device), sight, guidance)

        return ddim(noise, start, table, spread_steps(len(table.betas), steps))

    def velocity(flat: Float[Tensor, "b c n"], t: float) -> Float[Tensor, "b c n"]:
        x = flat.view(start.shape)
        step = torch.full((len(x),), (1 - t) * LAST, device=x.device)
        end = sight.known + guided(net, x, step, sight, guidance)
        return (end.flatten(2) - flat) / (1 - t)

    return multistep(velocity, start.flatten(2), uniform(steps)).view(start.shape)


def guided(net: Tgdm, x: Latents, step: Float[Tensor, " b"], sight: Sight, guidance: float) -> Latents:
    """What the painter tells at ``x``, pushed along what coefficients and textures add to it."""
    told = net.painter(x, step, sight.given, sight.face, sight.textures)
    if guidance == 1:
        return told
    blind = net.painter(x, step, sight.given, sight.face, sight.textures, torch.zeros(len(x), device=x.device))
    return blind + guidance * (told - blind)
