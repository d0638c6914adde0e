"""What DiffTalk tells its denoiser: a window of speech around the frame, smoothed by attention, and face landmarks.

Shen et al. 2023; the encoder of a window and the attention over windows are those of AD-NeRF (Guo et al. 2021). The
defaults are the published sizes, made for DeepSpeech features; other features fit by their number and window.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.02  # of the activations below zero
_WIDTHS = (32, 32, 64, 64)  # channels of the convolutions, each of which halves the window
_NARROW = (16, 8, 4, 2, 1)  # channels of the attention


@dataclass(frozen=True, slots=True)
class TalkConfig:
    """Sizes; the defaults are the published ones."""

    features: int = 29  # numbers of one row of speech features
    window: int = 16  # rows around a frame: 1, 2, 4, 8 or 16
    frames: int = 8  # neighbouring frames: those from t - frames / 2 to t + frames / 2 - 1
    smooth: bool = True  # attention over the frames; without, frame t alone is heard
    seen: int = 32  # channels of a frame's code that the attention goes by
    landmarks: int = 39
    # Landmarks are taken as (place - centre) / unit; as published, in plain pixels of the 256 x 256 crop.
    centre: float = 0.0
    unit: float = 1.0
    width: int = 64  # of the audio's and of the landmarks' half of the context
    # The first channels of the audio's half stand for so many readings of the lips (motion/lips.py), foretold from
    # speech; they can then be learned without pictures, and be given where they are known. As published there are none.
    lips: int = 0

    @property
    def context(self) -> int:
        """Numbers of the token."""
        return 2 * self.width if self.landmarks else self.width


class AudioNet(nn.Module):
    """One window of speech features to a code."""

    def __init__(self, config: TalkConfig) -> None:
        super().__init__()
        halvings = config.window.bit_length() - 1
        if config.window != 1 << halvings or halvings > len(_WIDTHS):
            raise ValueError(f"a window has 1, 2, 4, 8 or 16 rows, not {config.window}")
        widths = [config.features, *_WIDTHS[len(_WIDTHS) - halvings :]]
        layers: list[nn.Module] = []
        for low, high in pairwise(widths):
            layers += [nn.Conv1d(low, high, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.encoder_conv = nn.Sequential(*layers)
        self.encoder_fc1 = nn.Sequential(nn.Linear(widths[-1], 64), nn.LeakyReLU(SLOPE), nn.Linear(64, config.width))

    def forward(self, speech: Float[Tensor, "b n f"]) -> Float[Tensor, "b w"]:
        """Codes of windows of ``n`` rows of features."""
        return self.encoder_fc1(self.encoder_conv(speech.mT)[:, :, 0])


class AudioAttention(nn.Module):
    """The weighted mean of the codes of neighbouring frames, by weights seen in the first of their channels."""

    def __init__(self, config: TalkConfig) -> None:
        super().__init__()
        self.seen = config.seen
        layers: list[nn.Module] = []
        for low, high in pairwise((config.seen, *_NARROW)):
            layers += [nn.Conv1d(low, high, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.attentionConvNet = nn.Sequential(*layers)
        self.attentionNet = nn.Sequential(nn.Linear(config.frames, config.frames), nn.Softmax(dim=-1))

    def forward(self, codes: Float[Tensor, "b k w"]) -> Float[Tensor, "b w"]:
        """One code for ``k`` frames."""
        weights = self.attentionNet(self.attentionConvNet(codes[:, :, : self.seen].mT))
        return (weights @ codes)[:, 0]


class LandmarkNet(nn.Module):
    """Places of landmarks to a code."""

    def __init__(self, config: TalkConfig) -> None:
        super().__init__()
        self.centre, self.unit = config.centre, config.unit
        self.encoder_fc1 = nn.Sequential(
            nn.Linear(2 * config.landmarks, 128),
            nn.LeakyReLU(SLOPE),
            nn.Linear(128, config.width),
            nn.LeakyReLU(SLOPE),
            nn.Linear(config.width, config.width),
        )

    def forward(self, places: Float[Tensor, "b p 2"]) -> Float[Tensor, "b w"]:
        """Codes of places x, y in pixels of the 256 x 256 crop."""
        return self.encoder_fc1((places.flatten(1) - self.centre) / self.unit)


class TalkConditions(nn.Module):
    """The context of the denoiser: one token, speech then landmarks."""

    def __init__(self, config: TalkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TalkConfig()
        self.audio = AudioNet(config)
        if config.smooth:
            self.smooth = AudioAttention(config)
        if config.landmarks:
            self.landmarks = LandmarkNet(config)

    def heard(self, speech: Float[Tensor, "b k n f"]) -> Float[Tensor, "b w"]:
        """The audio's half of the token; see :meth:`forward`."""
        codes = self.audio(speech.flatten(0, 1)).unflatten(0, speech.shape[:2])
        return self.smooth(codes) if self.config.smooth else codes[:, codes.shape[1] // 2]

    def token(
        self, heard: Float[Tensor, "b w"], places: Float[Tensor, "b p 2"] | None = None
    ) -> Float[Tensor, "b 1 c"]:
        """The token of what :meth:`heard` gave, or of that with other readings of the lips in its first channels."""
        told = heard if places is None else torch.cat([heard, self.landmarks(places)], dim=1)
        return told[:, None]

    def forward(
        self, speech: Float[Tensor, "b k n f"], places: Float[Tensor, "b p 2"] | None = None
    ) -> Float[Tensor, "b 1 c"]:
        """The token.

        Args:
            speech: for every one of ``frames`` neighbouring frames, a window of rows of features.
            places: landmarks in pixels of the 256 x 256 crop; exactly when the configuration has any.

        Raises:
            ValueError: landmarks are given to a network that has none, or missing for one that has.
        """
        if (places is None) != (self.config.landmarks == 0):
            raise ValueError(f"these conditions have {self.config.landmarks} landmarks")
        return self.token(self.heard(speech), places)


def reach(config: TalkConfig) -> tuple[int, int]:
    """Rows before and after a frame's own that its conditions hear, where features have one row a frame."""
    before = config.frames // 2 + config.window // 2
    return before, config.frames + config.window - 2 - before


def windowed(rows: Float[Tensor, "b r f"], config: TalkConfig) -> Float[Tensor, "b k n f"]:
    """Rows around frames, as many as :func:`reach` says -> a window for each of the neighbouring frames."""
    return rows.unfold(1, config.window, 1).transpose(2, 3)
