"""Speech with a driver: what it leads moves like it, what it does not lead stays the speech's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fake_system import Puppet, assemble
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.errors import InputError
from vivavoce.motion.parts import PARTS, share
from vivavoce.motion.space import FACE_MESH, KEYPOINT, MotionSpace
from vivavoce.system import Features, Portrait
from vivavoce.systems.driven import DRIVABLE, Driven, driven
from vivavoce.timeline import Clock, Span

DEMO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"
FILM = DEMO.with_name("demo_speech.wav")  # any file that is no picture: the watcher below does not look


@dataclass(frozen=True)
class Watcher:
    """Reads known motion off any driver; counts nothing, sees nothing."""

    rows: torch.Tensor

    def follow(self, pictures: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        del pictures
        yield from self.rows.split(3)


def made(driver: Path, rows: torch.Tensor, parts: tuple[str, ...], portrait: Portrait) -> torch.Tensor:
    speech = Puppet()
    generator = Driven(speech, Watcher(rows), driver, parts)
    heard = [Features(Span(at, at + 5), torch.full((5, 1), 0.1 * at)) for at in (0, 5, 10)]
    return torch.cat([d.motion.rows for d in generator.drives(portrait, heard, seed=3)])


def spoken(portrait: Portrait) -> torch.Tensor:
    heard = [Features(Span(at, at + 5), torch.full((5, 1), 0.1 * at)) for at in (0, 5, 10)]
    return torch.cat([d.motion.rows for d in Puppet().drives(portrait, heard, seed=3)])


def somebody(seed: int) -> tuple[Portrait, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    own = torch.randn(1, FACE_MESH.dim, generator=rng)
    return Portrait(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), own, {}), torch.randn(
        15, FACE_MESH.dim, generator=rng
    )


@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from(DRIVABLE), min_size=1), st.integers(0, 100))
def test_only_what_is_driven_changes(parts, seed):
    portrait, rows = somebody(seed)
    free = [part for part in PARTS if part not in parts]
    after = made(FILM, rows, tuple(parts), portrait)
    change = after - spoken(portrait)
    torch.testing.assert_close(
        change @ share(FACE_MESH, *free), change - change @ share(FACE_MESH, *parts), atol=1e-4, rtol=0
    )
    for name in ("rotation", "eyelids", "interior"):
        led = {"rotation": "pose", "eyelids": "eyes", "interior": "lips"}[name] in parts
        assert bool(change[:, FACE_MESH.slice(name)].abs().max() > 1e-6) == led


def test_a_film_moves_the_head_from_the_portraits_pose():
    portrait, rows = somebody(1)
    after = FACE_MESH.unpack(made(FILM, rows, DRIVABLE, portrait))
    own, driver = FACE_MESH.unpack(portrait.reference), FACE_MESH.unpack(rows)
    torch.testing.assert_close(after["rotation"], own["rotation"] + driver["rotation"] - driver["rotation"][:1])
    torch.testing.assert_close(after["eyelids"], driver["eyelids"])


def test_a_picture_gives_its_own_pose_and_leaves_the_place():
    portrait, rows = somebody(2)
    one = rows[:1].expand(30, -1)
    after = FACE_MESH.unpack(made(DEMO, one, DRIVABLE, portrait))
    own, driver = FACE_MESH.unpack(portrait.reference), FACE_MESH.unpack(one)
    torch.testing.assert_close(after["rotation"], driver["rotation"][:15])
    torch.testing.assert_close(after["translation"], own["translation"].expand(15, -1))


def test_the_real_follower_reads_a_picture_and_a_film_there_and_back(tmp_path):
    from vivavoce.media.read import read_image
    from vivavoce.media.write import write_video
    from vivavoce.render.mesh import MeshRenderer
    from vivavoce.system import Clip

    still = read_image(DEMO, long_side=300)
    film = tmp_path / "film.mp4"
    moved = torch.cat([still.roll(3 * n, -1) for n in range(8)])
    write_video(film, [Clip(Span(0, 8), moved, torch.zeros(8 * 640))], Clock())
    portrait = MeshRenderer(size=128).portrait(still)
    at = FACE_MESH.slice("translation").start
    for driver in (film, DEMO):
        generator = Driven(Puppet(), MeshRenderer(), driver, ("pose",))
        heard = [Features(Span(n, n + 5), torch.zeros(5, 1)) for n in range(0, 25, 5)]
        x = torch.cat([d.motion.rows for d in generator.drives(portrait, heard, seed=0)])[:, at]
        if driver == film:
            assert x[7] > x[0] + 0.05
            assert abs(x[14] - x[0]) < 0.03  # back where it began
        else:
            assert x.max() - x.min() < 1e-5


def test_what_cannot_be_driven_is_refused(tmp_path):
    class NoFollower:
        space = FACE_MESH

        def portrait(self, source): ...
        def frames(self, portrait, drives): ...

    from dataclasses import replace

    system = assemble()
    with pytest.raises(InputError, match="'mouth' cannot be driven; pose, brows, eyes can"):
        driven(system, DEMO, ("pose", "mouth"))
    with pytest.raises(InputError, match="nothing to drive"):
        driven(system, DEMO, ())
    with pytest.raises(InputError, match="cannot follow a driving video"):
        driven(replace(system, renderer=NoFollower()), DEMO)


@pytest.mark.parametrize("space", [FACE_MESH, KEYPOINT])
def test_shares_are_there_for_both_spaces(space: MotionSpace):
    rows = torch.randn(5, space.dim)
    torch.testing.assert_close(sum(rows @ share(space, part) for part in PARTS), rows, atol=1e-4, rtol=0)
    pose = space.unpack(rows @ share(space, "pose"))
    assert all(
        (value.abs().max() > 0) == (name in ("rotation", "translation", "scale")) for name, value in pose.items()
    )


def test_other_spaces_have_no_parts():
    from vivavoce.motion.space import Part

    with pytest.raises(InputError, match="the parts of other/1 are not known"):
        share(MotionSpace("other/1", (Part("all", "latent", (3,)),)), "pose")
