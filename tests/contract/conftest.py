"""Every system that comes with its weights, with a real face, prepared once.

A new system only has to be registered to be tested. Those for weights that users bring keep the same promises at a
longer latency, tried on toy weights in ``test_moda_liveportrait.py`` and ``test_liveportrait.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vivavoce import registry
from vivavoce.media.read import read_audio, read_image
from vivavoce.media.write import write_video
from vivavoce.system import Clip, Portrait, System
from vivavoce.timeline import Clock, Pcm, Span

ASSETS = Path(__file__).parents[2] / "assets"
SIZE = 256  # px of the head view: small, so that the whole contract takes about a minute
RATE = 16_000


@dataclass(frozen=True)
class Subject:
    """One system under test."""

    system: System
    portrait: Portrait
    hears: bool  # what is said changes the picture; not so for motion tracked from a driving video

    def stream(self, sound: Any, seed: int = 0) -> Iterator[Clip]:
        return self.system.stream(self.portrait, sound, seed=seed)


@pytest.fixture(scope="session")
def portrait_photo() -> Tensor:
    return read_image(ASSETS / "demo_portrait.jpg")


@pytest.fixture(scope="session")
def driving(tmp_path_factory: pytest.TempPathFactory, portrait_photo: Tensor) -> Path:
    """A second of the portrait swaying from side to side."""
    photo = torch.nn.functional.interpolate(portrait_photo.float(), (SIZE, SIZE), mode="area").to(torch.uint8)
    sway = torch.cat([photo.roll(shift, 3) for shift in (*range(12), *range(12, -1, -1))])
    path = tmp_path_factory.mktemp("driving") / "sway.mp4"
    write_video(path, [Clip(Span(0, len(sway)), sway, torch.zeros(len(sway) * 640))], Clock())
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Painting by diffusion takes its time where other work shares the processor."""
    for item in items:
        if "[difftalk" in item.name or "[tgdm" in item.name:
            item.add_marker(pytest.mark.timeout(400))


# What keeps the contract short where pictures are painted: fewer calls, and no second subject that differs in nothing
# but where its motion comes from.
QUICK: dict[str, dict[str, Any]] = {"tgdm": {"steps": 1}}
ONCE = ("tgdm",)


def complete(names: Iterable[str]) -> list[str]:
    return [name for name in names if "weights" not in registry.needs(name)]


@pytest.fixture(
    scope="session",
    params=[
        *complete(registry.names()),
        *(f"{name} a video" for name in complete(registry.DRIVEN) if name not in ONCE),
    ],
)
def subject(request: pytest.FixtureRequest, portrait_photo: Tensor) -> Subject:
    name, _, driven = request.param.partition(" ")
    options: dict[str, Any] = {"driving": request.getfixturevalue("driving")} if driven else {}
    system = registry.load(name, size=SIZE, crop=True, **options, **QUICK.get(name, {}))
    with torch.inference_mode():
        return Subject(system, system.renderer.portrait(portrait_photo), hears=not driven)


@pytest.fixture(scope="session")
def speech() -> Callable[..., Pcm]:
    """The first frames of the demo speech, and ``extra`` samples of the next."""
    whole = torch.cat(list(read_audio(ASSETS / "demo_speech.wav", RATE)))

    def first(frames: int, extra: int = 0) -> Pcm:
        return whole[: frames * 640 + extra].clone()

    return first
