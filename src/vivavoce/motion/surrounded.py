"""Motion of another generator, each frame with what is heard around it: for renderers that hear."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.motion.through import Through
from vivavoce.system import Drive, Features, Portrait

KEYS = 1 << 24  # numbers that single precision tells apart


class Heard(NamedTuple):
    """What the audio of a drive of :class:`Surrounded` says."""

    rows: Float[Tensor, "t r f"]  # features around every frame; silence is zeros
    key: int  # follows from the stream's seed: chance that a renderer takes is to follow from it


@dataclass(frozen=True)
class Surrounded(Through):
    """``generator``, whose drives bring the features from ``before`` frames before each frame to ``after`` after it.

    ``waits`` is how many of those after it are waited for; the others are as the last of these. All, if not said.
    """

    before: int
    after: int
    waits: int | None = None

    @property
    def lookahead(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return max(self.generator.lookahead, self.ahead)

    @property
    def ahead(self) -> int:
        """Frames after each one whose features are waited for."""
        return self.after if self.waits is None else min(self.waits, self.after)

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`; what the rows of audio hold, :meth:`heard` tells."""
        source, passing = iter(features), deque[Features]()
        held, first = torch.zeros(self.before, self.audio_dim), -self.before  # rows from frame ``first`` on
        key = float(np.random.SeedSequence([seed, 1]).generate_state(1)[0] % KEYS)

        def pull() -> bool:
            nonlocal held
            new = next(source, None)
            if new is None:
                return False
            held = torch.cat([held, new.rows])
            passing.append(new)
            return True

        def passed() -> Iterator[Features]:
            while passing or pull():
                yield passing.popleft()

        for drive in self.generator.drives(portrait, passed(), seed=seed):
            span, count = drive.motion.span, self.before + 1 + self.ahead
            while first + len(held) < span.stop + self.ahead and pull():
                pass
            missing = span.stop + self.ahead - first - len(held)
            rows = torch.cat([held, held.new_zeros(max(0, missing), held.shape[1])])
            at = span.start - self.before - first
            around = rows[at : at + len(span) + count - 1].unfold(0, count, 1).transpose(1, 2)
            around = torch.cat([around, around[:, -1:].expand(-1, self.after - self.ahead, -1)], 1)
            audio = torch.cat([around.flatten(1), around.new_full((len(span), 1), key)], 1)
            held, first = held[len(span) + at :].clone(), first + len(span) + at
            yield Drive(drive.motion, audio)

    def heard(self, audio: Float[Tensor, "t a"]) -> Heard:
        """What the audio of a drive says."""
        count = self.before + 1 + self.after
        return Heard(audio[:, :-1].unflatten(1, (count, -1)), int(audio[0, -1]))
