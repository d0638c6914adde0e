"""Causal front end: log-mel rows and a running normaliser that never looks ahead.

Row ``i`` owns samples ``[160 i, 160 (i + 1))`` (10 ms at 16 kHz) and is computed from the 400 samples
``[160 i - 120, 160 i + 280)`` around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

SAMPLE_RATE = 16_000  # Hz
STEP = 160  # samples per row
WINDOW = 400  # samples one row is computed from
BEFORE = (WINDOW - STEP) // 2  # samples needed before a row's own
AFTER = WINDOW - STEP - BEFORE  # samples needed after a row's own
BANDS = 64
TRANSFORM = 512  # points of the Fourier transform
LOWEST, HIGHEST = 60.0, 7_600.0  # Hz
FLOOR = 1e-9  # power added before the logarithm: a little above 16-bit rounding noise in one band

GROUP = 2  # rows (20 ms) between moves of the running mean
QUIET = -13.0  # mean log power per band the normaliser starts from: speech at about -40 dBFS
SILENT = -16.0  # the normaliser never falls below this: what is quieter stays quiet
MARGIN = 1.5  # natural-log units below the running mean within which a group still counts as active
EAGER = 16.0  # groups of evidence the starting point is worth
PATIENT = 200.0  # active groups (4 s) the running mean remembers
LEAK = 1 / 500  # share by which an inactive group pulls the mean down (10 s to follow)
SPREAD = 3.0  # typical deviation of a row from the mean; normalised rows are divided by it


def mel(hertz: Tensor) -> Tensor:
    """Frequency on the mel scale (O'Shaughnessy, *Speech Communication*, 1987)."""
    return 2595.0 * torch.log10(1.0 + hertz / 700.0)


@cache
def centres() -> Tensor:
    """Centre frequency of every band in hertz, with the outer edges of the first and the last band around them."""
    edges = mel(torch.tensor([LOWEST, HIGHEST], dtype=torch.float64))
    steps = torch.linspace(float(edges[0]), float(edges[1]), BANDS + 2, dtype=torch.float64)
    return 700.0 * (10.0 ** (steps / 2595.0) - 1.0)


@cache
def filterbank() -> Tensor:
    """Triangular mel filters ``[bins, bands]``; each sums to one, so a band is a weighted mean of bin powers."""
    bins = torch.arange(TRANSFORM // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / TRANSFORM
    points = centres()
    rising = (bins[:, None] - points[:-2]) / (points[1:-1] - points[:-2])
    falling = (points[2:] - bins[:, None]) / (points[2:] - points[1:-1])
    bank = torch.minimum(rising, falling).clamp(min=0.0)
    return (bank / bank.sum(0)).float()


@cache
def window() -> Tensor:
    """Hann window scaled so that a sine of amplitude 1 has power 1 in its bin."""
    hann = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    return (2.0 * hann / hann.sum()).float()


def power_rows(sound: Float[Tensor, "*b samples"]) -> Float[Tensor, "*b rows bins"]:
    """Power spectra of all rows that lie wholly inside ``sound``, whose first sample is ``BEFORE`` ahead of a row."""
    framed = sound.unfold(-1, WINDOW, STEP) * window().to(sound.device)
    spectrum = torch.view_as_real(torch.fft.rfft(framed, TRANSFORM))
    return spectrum.square().sum(-1)


def log_mel(sound: Float[Tensor, "*b samples"]) -> Float[Tensor, "*b rows 64"]:
    """Natural-log mel power of all rows wholly inside ``sound`` (see :func:`power_rows` for where they lie)."""
    return torch.log(power_rows(sound) @ filterbank().to(sound.device) + FLOOR)


@dataclass(frozen=True, slots=True)
class Level:
    """What the running normaliser remembers: the mean active row and how many active groups it has seen."""

    mean: Float[Tensor, "b 64"]
    seen: Float[Tensor, "b 1"]

    @staticmethod
    def start(batch: int = 1) -> Level:
        """Before any sound: quiet speech with a flat spectrum, trusted little."""
        return Level(torch.full((batch, BANDS), QUIET), torch.full((batch, 1), EAGER))

    def to(self, device: torch.device) -> Level:
        """The same on another device."""
        return Level(self.mean.to(device), self.seen.to(device))


def normalised(
    rows: Float[Tensor, "b t 64"], level: Level
) -> tuple[Float[Tensor, "b t 64"], Float[Tensor, "b g"], Level]:
    """Subtract the running mean of active sound: removes gain, microphone and room colour, causally.

    ``t`` is even: the mean moves once per 20 ms group, and both rows of a group are measured against the mean that
    already includes them. A group is active when its mean log power is at most ``MARGIN`` below the running mean's;
    an inactive one only pulls the mean down slowly, never below ``SILENT``.

    Returns the normalised rows (about unit scale), the running mean over all bands of every group, and the level to
    go on with, so that any split into calls gives the same rows.
    """
    groups = rows.unflatten(1, (-1, GROUP))
    heard = groups.mean(2)
    loud = heard.mean(-1, keepdim=True)
    quietened = heard.clamp(min=SILENT)
    mean, seen, means = level.mean, level.seen, []
    for n in range(heard.shape[1]):
        active = loud[:, n] > mean.mean(-1, keepdim=True) - MARGIN
        seen = torch.where(active, (seen + 1).clamp(max=PATIENT), seen)
        pull = torch.where(active, 1 / seen, LEAK)
        mean = mean + pull * (torch.where(active, heard[:, n], quietened[:, n]) - mean)
        means.append(mean)
    track = torch.stack(means, 1)
    return ((groups - track[:, :, None]) / SPREAD).flatten(1, 2), track.mean(-1), Level(mean, seen)
