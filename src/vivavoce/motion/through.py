"""Generators that change what another generator makes."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.motion.space import MotionSpace
from vivavoce.system import MotionGenerator


@dataclass(frozen=True)
class Through:
    """What such generators have of the one they change."""

    generator: MotionGenerator

    @property
    def space(self) -> MotionSpace:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.generator.space

    @property
    def audio_dim(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.generator.audio_dim

    @property
    def hop(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.generator.hop

    @property
    def lookahead(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.generator.lookahead
