"""Is it voiced, and how high: the peak of the autocorrelation around every frame."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

PER_FRAME = 640  # samples at 16 kHz, 25 frames per second
WINDOW = 1024  # samples one frame is judged by, centred on it
MARGIN = (WINDOW - PER_FRAME) // 2  # samples needed before a frame and after it
SHORTEST, LONGEST = 40, 228  # lags searched: 400 Hz down to 70 Hz
TRANSFORM = 2048
REFERENCE = 130.0  # Hz
PREFERENCE = 0.15  # penalty of the longest lag against the shortest: twice the true period scores as high as the period


@cache
def _window() -> Tensor:
    return torch.hann_window(WINDOW, periodic=False)


@cache
def _window_correlation() -> Tensor:
    spectrum = torch.fft.rfft(_window(), TRANSFORM)
    correlation = torch.fft.irfft(spectrum.abs().square(), TRANSFORM)
    return correlation[: LONGEST + 1] / correlation[0]


def voicing(sound: Float[Tensor, " samples"]) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Voicing in [0, 1] and pitch (octaves above 130 Hz, times voicing) of every 40 ms frame.

    ``sound`` starts ``MARGIN`` samples before the first frame and ends ``MARGIN`` after the last. The normalised
    autocorrelation is divided by the window's (Boersma, *Proc. Inst. Phonetic Sciences* 17, 1993).
    """
    framed = sound.unfold(0, WINDOW, PER_FRAME)
    framed = (framed - framed.mean(1, keepdim=True)) * _window().to(sound.device)
    spectrum = torch.view_as_real(torch.fft.rfft(framed, TRANSFORM)).square().sum(-1)
    correlation = torch.fft.irfft(torch.complex(spectrum, torch.zeros_like(spectrum)), TRANSFORM)[:, : LONGEST + 1]
    # The constant keeps rounding noise of digital silence from looking periodic.
    shape = correlation / (correlation[:, :1] + 1e-4) / _window_correlation().to(sound.device)
    lags = torch.arange(SHORTEST, LONGEST + 1, device=sound.device)
    candidates = shape[:, SHORTEST:]
    best = (candidates - PREFERENCE * (lags - SHORTEST) / (LONGEST - SHORTEST)).argmax(1)
    strength = candidates.gather(1, best[:, None])[:, 0].clamp(0, 1)
    octaves = torch.log2(16_000 / lags[best] / REFERENCE)
    return strength, octaves * strength
