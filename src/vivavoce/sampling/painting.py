"""Paint a latent: from noise to what a denoiser of lower faces makes of a masked frame, a reference and speech."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.nets.difftalk import DiffTalk
from vivavoce.sampling.ddim import Kept, ddim, published_steps, spread_steps
from vivavoce.sampling.samplers import multistep, uniform

Latents = Float[Tensor, "b c h w"]
MOST_STEPS = 500
LAST = 999.0  # the denoiser's time of pure noise


def paint(
    net: DiffTalk,
    start: Latents,
    masked: Latents,
    reference: Latents,
    context: Float[Tensor, "b m k"],
    *,
    steps: int,
    kept: Kept | None = None,
    published: bool = False,
) -> Latents:
    """Clean latents.

    Args:
        net: the networks; what their output means is in their configuration.
        start: standard normal noise.
        masked: latents of the frames with what is painted hidden.
        reference: latents of pictures of the same people.
        context: of :class:`vivavoce.nets.talk_conditions.TalkConditions`.
        steps: calls of the denoiser.
        kept: what stays as it is, blended in before every step; for denoisers that tell noise.
        published: take ``steps`` as latent diffusion does, which begins below the noisiest; for those too.

    Raises:
        InputError: not 1 to 500 steps.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"mouths are painted in 1 to {MOST_STEPS} steps, not {steps}")
    if net.config.painting.predicts == "noise":
        table = net.config.schedule.table()
        count, given = len(table.betas), seen(net, masked, reference)
        chosen = published_steps(count, steps) if published else spread_steps(count, steps)

        def noise(x: Latents, step: float) -> Latents:
            return net.unet(x, torch.full((len(x),), step, device=x.device), given, context)

        return ddim(noise, start, table, chosen, kept)

    def velocity(flat: Float[Tensor, "b c n"], t: float) -> Float[Tensor, "b c n"]:
        x = flat.view(start.shape)
        end = clean(net, x, torch.full((len(x),), t, device=x.device), masked, reference, context)
        return (end.flatten(2) - flat) / (1 - t)

    return multistep(velocity, start.flatten(2), uniform(steps)).view(start.shape)


def clean(
    net: DiffTalk,
    x: Latents,
    t: Float[Tensor, " b"],
    masked: Latents,
    reference: Latents,
    context: Float[Tensor, "b m k"],
) -> Latents:
    """The clean latents that ``x``, at times ``t`` of straight paths from noise (0) to data (1), is taken for.

    What the network tells is added to the reference, if it sees one.
    """
    given = seen(net, masked, reference)
    return given[:, -reference.shape[1] :] + net.unet(x, (1 - t) * LAST, given, context)


def seen(net: DiffTalk, masked: Latents, reference: Latents) -> Float[Tensor, "b g h w"]:
    """What the denoiser sees beside the noisy latents; zeros for what its configuration keeps from it."""
    sees = net.config.painting.sees
    pair = (("masked", masked), ("reference", reference))
    return torch.cat([one if name in sees else torch.zeros_like(one) for name, one in pair], 1)
