"""What a mouth shows beside its lips: where the teeth and the tongue are. Told by the interior channels."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vivavoce import weights
from vivavoce.render.mouth_place import Place

OVERBITE = 0.012  # closed teeth: the lower edges lie this far above the upper ones
RESTING = 0.012  # and the upper edges this far below the line where closed lips meet, in face widths


@dataclass(frozen=True, slots=True)
class State:
    """Numbers that the painter draws. Lengths in face widths; lights relative to the light on the face."""

    upper: float = 0.018  # upper incisal edges below the line where closed lips meet
    lower: float = 0.0  # lower incisal edges below where jaw and lower lip put them
    upper_light: float = 1.0
    lower_light: float = 0.8
    tongue: float = 0.4  # its height, in openings
    tongue_light: float = 0.8
    opacity: float = 1.0  # less where what the tracker calls open is lip

    @staticmethod
    def of(values: Float[np.ndarray, " 7"]) -> State:
        """From numbers in the order of the fields, held to what a mouth can show."""
        return State(*(float(v) for v in np.clip(values, LOWEST, HIGHEST)))

    def values(self) -> Float[np.ndarray, " 7"]:
        """In the order of the fields."""
        return np.array(astuple(self))


LOWEST = np.array([-0.010, -0.05, 0.35, 0.25, 0.0, 0.2, 0.0])
HIGHEST = np.array([0.060, 0.04, 1.50, 1.40, 1.1, 1.5, 1.0])


def features(interior: Float[np.ndarray, " 6"], opening: float) -> Float[np.ndarray, " 15"]:
    """What the state is a linear function of: 1, the opening and its square, the channels, and both together."""
    wide = float(np.clip((opening - 0.06) / 0.04, -1.3, 2.5))
    channels = np.clip(np.asarray(interior, np.float64), -3.0, 3.0)
    return np.concatenate([[1.0, wide, wide * wide], channels, wide * channels])


@cache
def reader(name: str | Path = "mouth") -> Float[np.ndarray, "7 15"]:
    """Learned map from :func:`features` to a state. Raises :class:`vivavoce.errors.InputError` if it is not there."""
    return weights.read(name)[0]["reader"].double().numpy()


def state_of(interior: Float[np.ndarray, " 6"], opening: float) -> State:
    """State that people whose mouth interior looks so have on average.

    The averages count tongues and wet lips among the lower teeth, and lips among the tongues, so both are lowered
    again; and what is more likely open than closed is drawn open.
    """
    values = reader() @ features(interior, opening)
    values[1] += 0.006 + 0.08 * max(0.0, opening - 0.04)
    values[4] -= 0.1
    values[6] = np.clip(max((values[6] - 0.2) / 0.25, (opening - 0.015) / 0.03), 0, 1)
    return State.of(values)


def lower_edge(place: Place, resting_chin: float) -> float:
    """Height (y) of the lower incisal edges in the mouth's frame: half with the chin, half with the lower lip."""
    chin = float(np.clip(place.chin - resting_chin, 0.3 * place.drop, 1.3 * place.drop))
    return RESTING - OVERBITE + 0.45 * place.drop + 0.5 * chin
