"""Sound to one row of speech features per video frame, streaming: which phone, how loud, voiced, speech at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.speech import mel, phones
from vivavoce.speech.network import PhoneConfig, PhoneNetwork
from vivavoce.speech.pitch import MARGIN as PITCH_MARGIN
from vivavoce.speech.pitch import voicing
from vivavoce.streams import windows
from vivavoce.system import Features
from vivavoce.timeline import Clock, Pcm, Span

CLOCK = Clock()  # 25 frames per second, 16 kHz: the grid the network was trained on
PER_FRAME = 640  # samples of one frame
HALF = PER_FRAME // 2
LOOKAHEAD = 4  # frames (0.16 s): the network's reach, the analysis window's overhang and half a row of rounding
QUIETEST = -62.0  # dBFS below which sound is taken for silence whatever it resembles

HALVES = ("first", "second")
OTHERS = ("loudness first", "loudness second", "level", "voicing", "pitch", "speech")


def channels(hidden: int) -> tuple[str, ...]:
    """Name of every feature, in order, for a hidden layer of ``hidden`` numbers.

    A frame has two halves of 20 ms. ``hidden first 0`` ...: the hidden layer, unit variance. ``closed first`` ...:
    probability of the groups of phones that look alike (:data:`vivavoce.speech.phones.GROUPS`). ``loudness``: power
    of the half above the speaker's running level, 20 dB = 1. ``level``: power of the frame, (dBFS + 40) / 20.
    ``voicing``: 0 to 1. ``pitch``: octaves above 130 Hz times voicing. ``speech``: probability that somebody speaks.
    """
    deep = [f"hidden {half} {n}" for half in HALVES for n in range(hidden)]
    seen = [f"{group} {half}" for half in HALVES for group in phones.GROUP_NAMES]
    return (*deep, *seen, *OTHERS)


CHANNELS = channels(PhoneConfig().hidden)


def channel(name: str) -> int:
    """Column of the packaged encoder's feature called ``name``."""
    return CHANNELS.index(name)


@dataclass(frozen=True, slots=True)
class PhoneEncoder:
    """:class:`vivavoce.system.AudioEncoder` made of the phone network and a little signal processing.

    ``hop`` frames are computed at a time: any value gives the same features up to rounding; small values cost more
    computing per second, large ones delay. Memory and computing do not grow with the length of the sound.
    """

    network: PhoneNetwork
    hop: int = 5
    lookahead: int = LOOKAHEAD

    @staticmethod
    def pretrained(device: str | torch.device = "cpu", *, hop: int = 5) -> PhoneEncoder:
        """The packaged weights."""
        config = weights.metadata("phones")["config"]
        blocks = tuple(tuple(block) for block in config.pop("blocks"))
        network = PhoneNetwork(PhoneConfig(**config, blocks=blocks))
        weights.load_into(network, "phones")
        return PhoneEncoder(network.to(device), hop)

    def __post_init__(self) -> None:
        """Refuse a hop that is none, and a look-ahead the network does not keep to."""
        if self.hop < 1:
            raise InputError(f"hop is {self.hop} frames but must be at least 1")
        needed = self.network.ahead * mel.STEP + mel.AFTER
        if self.lookahead * PER_FRAME < needed:
            raise ValueError(f"the network needs {needed} samples of future, more than {self.lookahead} frames")

    @property
    def dim(self) -> int:
        """Features per frame; their names are :func:`channels`."""
        return len(channels(self.network.config.hidden))

    def features(self, clock: Clock, sound: Iterable[Pcm]) -> Iterator[Features]:
        """See :class:`vivavoce.system.AudioEncoder`.

        Samples that are not finite count as silence and those beyond [-1, 1] as clipped. The last, partial frame
        gets a row too. Raises :class:`vivavoce.errors.InputError` for another clock than 25 frames per second at
        16 kHz.
        """
        if clock != CLOCK:
            raise InputError(
                f"the phone encoder hears 16000 Hz at 25 frames per second, not {clock.sample_rate} Hz at {clock.fps}"
            )
        device = next(self.network.parameters()).device
        level, memory = mel.Level.start().to(device), self.network.start()
        ahead = self.network.ahead
        clean = (torch.nan_to_num(chunk.float(), 0.0, 0.0, 0.0).clamp(-1, 1) for chunk in sound)
        cuts = windows(clean, before=PITCH_MARGIN, hop=self.hop * PER_FRAME, after=self.lookahead * PER_FRAME)
        for cut in cuts:
            heard = cut.rows.to(device)
            # Rows up to the look-ahead of the frames before are in the network's memory already.
            first = 0 if cut.start == 0 else ahead
            last = self.hop * PER_FRAME // mel.STEP + ahead
            fresh = heard[PITCH_MARGIN + first * mel.STEP - mel.BEFORE : PITCH_MARGIN + last * mel.STEP + mel.AFTER]
            rows, running, level = mel.normalised(mel.log_mel(fresh[None]), level)
            logits, hidden, memory = self.network(rows, memory)
            table = _table(logits[0], hidden[0], running[0, -2 * self.hop :], heard, self.hop)
            start, count = cut.start // PER_FRAME, -(-cut.valid // PER_FRAME)
            yield Features(Span(start, start + count), table[:count].cpu())


def _table(
    logits: Float[Tensor, "u 29"],
    hidden: Float[Tensor, "u h"],
    running: Float[Tensor, " u"],
    heard: Float[Tensor, " s"],
    hop: int,
) -> Float[Tensor, "t a"]:
    """Feature rows of ``hop`` frames; ``heard`` starts ``PITCH_MARGIN`` samples before them."""
    own = heard[PITCH_MARGIN : PITCH_MARGIN + hop * PER_FRAME]
    likely = logits.softmax(-1)
    groups = likely.new_zeros(len(likely), len(phones.GROUPS))
    groups.index_add_(1, torch.tensor(phones.GROUP_OF, device=likely.device), likely)
    decibels = 10 * torch.log10(own.unflatten(0, (-1, HALF)).square().mean(1) + 1e-9)
    # The running level is a mean of logarithms over bands: 10 / ln 10 makes it decibels of one band.
    loudness = ((decibels - running * 4.343 - 40) / 20).clamp(-3, 3)
    frame = 10 * torch.log10(own.unflatten(0, (-1, PER_FRAME)).square().mean(1) + 1e-9)
    voiced, pitch = voicing(heard[: 2 * PITCH_MARGIN + hop * PER_FRAME])
    speech = (1 - likely[:, phones.SILENCE]).unflatten(0, (-1, 2)).mean(1)
    speech = speech * torch.sigmoid((frame - QUIETEST) / 2)
    frames = [part.unflatten(0, (-1, 2)).flatten(1) for part in (hidden, groups, loudness)]
    return torch.cat([*frames, torch.stack([(frame + 40) / 20, voiced, pitch, speech], 1)], 1)
