"""Changes a user asks for between generator and renderer: pose, blinks, gaze, mouth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vivavoce.motion.space import Motion


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change in every motion row; the defaults change nothing."""

    pose_scale: float = 1.0  # head movement about the portrait's pose; 0 freezes the head
    mouth_gain: float = 1.0  # lip and jaw movement about the closed mouth

    def starting(self, reference: Float[Tensor, "s d"], seed: int) -> Callable[[Motion], Motion]:
        """The change for one stream, as a function to apply to its motion in order."""
        raise NotImplementedError
