"""Does this mouth say this sound? Two small encoders that agree where lips and audio belong together.

The expert of MoDA's adaptive lip-motion sync loss (ALSE, arXiv 2507.03256), which judges motion, not pictures. The
paper does not describe its networks; these follow the pair of encoders of SyncNet (Chung and Zisserman 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

SPAN = 5  # frames that are judged together
SURE = 0.4  # cosine of the true lips above which a stretch is worth learning from (the paper's threshold)


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """Numbers per frame that come in, and the width of the embeddings."""

    audio: int
    lips: int
    width: int = 256
    dropout: float = 0.2


class SyncExpert(nn.Module):
    """Cosine between what is heard and what the lips do, for every stretch of five frames."""

    audio_mean: Tensor
    audio_std: Tensor
    lips_std: Tensor

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        self.hear = _encoder(config.audio, config.width, config.dropout)
        self.see = _encoder(config.lips, config.width, config.dropout)
        self.sharpness = nn.Parameter(torch.tensor(10.0).log())  # cosines lie within 1; logits must not
        self.threshold = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("audio_mean", torch.zeros(config.audio))
        self.register_buffer("audio_std", torch.ones(config.audio))
        self.register_buffer("lips_std", torch.ones(config.lips))

    def forward(self, audio: Float[Tensor, "b t a"], lips: Float[Tensor, "b t k"]) -> Float[Tensor, "b u"]:
        """Cosines of the ``t - 4`` stretches; lips count about their own mean, which says who speaks."""
        heard = self.hear(((audio - self.audio_mean) / self.audio_std).mT)
        seen = self.see(((lips - lips.mean(1, keepdim=True)) / self.lips_std).mT)
        return functional.cosine_similarity(heard, seen, dim=1)

    def telling(self, audio: Float[Tensor, "b t a"], lips: Float[Tensor, "b t k"], shift: int) -> Float[Tensor, ""]:
        """Loss of telling true pairs from lips that are ``shift`` frames late (cross entropy, for training)."""
        true = self(audio, lips)
        late = self(audio, lips.roll(shift, 1))
        logits = self.sharpness.exp() * (torch.cat([true, late], 1) - self.threshold)
        wanted = torch.cat([torch.ones_like(true), torch.zeros_like(late)], 1)
        return functional.binary_cross_entropy_with_logits(logits, wanted)

    def disagreement(
        self,
        audio: Float[Tensor, "b t a"],
        made: Float[Tensor, "b t k"],
        true: Float[Tensor, "b t k"],
        valid: Bool[Tensor, "b t"],
    ) -> Float[Tensor, ""]:
        """``-log((1 + cosine) / 2)`` of the made lips, over stretches whose true lips agree with the sound.

        Silence, off-screen voices and bad tracking teach nothing: there even the true lips do not agree.
        """
        with torch.no_grad():
            whole = valid.float().unfold(1, SPAN, 1).amin(2)
            worth = whole * (self(audio, true) > SURE)
        loss = -torch.log(((1 + self(audio, made)) / 2).clamp(min=1e-4))
        return (loss * worth).sum() / worth.sum().clamp(min=1)


def _encoder(given: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(given, width, 1),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Conv1d(width, width, SPAN),
        nn.GELU(),
        nn.Conv1d(width, width, 1),
    )
