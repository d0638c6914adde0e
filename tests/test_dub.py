"""A dubbed film: lips anew, the rest to the pixel as it was, in bounded memory, however long film and speech are."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.errors import InputError
from vivavoce.face.mesh import BROWS, LEFT_EYE, RIGHT_EYE
from vivavoce.face.model import FaceModel
from vivavoce.media.read import read_image
from vivavoce.motion.parts import share
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.render.mesh import MeshRenderer
from vivavoce.render.shots import FADE, patch, shots
from vivavoce.system import Drive, FilmRenderer, Portrait
from vivavoce.timeline import Span

DEMO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"
COUNT = 12


class Swaying:
    """The demo's portrait moved two pixels to the side every picture; ``blank`` pictures show nobody."""

    def __init__(self, blank: tuple[int, ...] = ()) -> None:
        self.blank, self.asked = blank, 0

    def pictures(self) -> Iterator[torch.Tensor]:
        n = 0
        while True:
            self.asked += 1
            picture = still().roll(2 * (n % 6), -1)
            yield torch.full_like(picture, 90) if n in self.blank else picture
            n += 1


@cache
def still() -> torch.Tensor:
    return read_image(DEMO, long_side=420)[0]


@cache
def prepared() -> Portrait:
    return MeshRenderer().filmed(Swaying())


def drive(rows: torch.Tensor) -> Drive:
    return Drive(Motion(Span(0, len(rows)), FACE_MESH, rows), torch.zeros(len(rows), 0))


def wide_open(count: int) -> torch.Tensor:
    """Lips opened wide, brows, head and eyes moved as well."""
    from vivavoce.motion.lips import opening

    rows = prepared().reference.expand(count, -1).clone()
    reading = opening(FaceModel.pretrained())
    rows[:, FACE_MESH.slice("expression")] += 0.1 * reading / reading.square().sum()
    for name in ("rotation", "translation", "eyelids", "gaze"):
        rows[:, FACE_MESH.slice(name)] += 0.3
    return rows


@cache
def dubbed() -> torch.Tensor:
    return torch.cat([f.rgb for f in MeshRenderer().frames(prepared(), [drive(wide_open(COUNT))])])


def film(count: int = COUNT) -> torch.Tensor:
    return torch.stack(list(islice(Swaying().pictures(), count)))


def test_the_mesh_renderer_can_dub():
    assert isinstance(MeshRenderer(), FilmRenderer)
    assert len(prepared().source) == 1  # of the film only one picture is held


def test_outside_the_lower_face_every_pixel_stays():
    before, after = film(), dubbed()
    assert after.shape == before.shape
    for n, (was, now) in enumerate(zip(before, after, strict=True)):
        changed = (was != now).any(0)
        assert changed.any()
        points = prepared().cache["first"].numpy() + np.array([2.0 * (n % 6), 0, 0])
        rows, columns = torch.nonzero(changed, as_tuple=True)
        eyes = points[[*LEFT_EYE, *RIGHT_EYE, *BROWS], 1].max()
        width = float(np.linalg.norm(points[234] - points[454]))
        assert int(rows.min()) > eyes  # eyes, brows, hair
        assert int(rows.max()) < points[152, 1] + 0.3 * width
        assert abs(columns.float() - float(points[2, 0])).max() < 0.75 * width


def test_lips_open_as_asked():
    from vivavoce.face.mesh import lip_opening
    from vivavoce.face.track import FaceTracker

    tracker, model = FaceTracker(), FaceModel.pretrained()

    def gap(picture: torch.Tensor) -> float:
        points = tracker.faces(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))[0].landmarks
        return lip_opening(model.canonical(points)[0])

    assert gap(dubbed()[5]) > gap(film()[5]) + 0.05


def test_what_the_film_does_already_leaves_it_as_it_is():
    renderer = MeshRenderer(paints_mouth=False)
    same = torch.cat([f.rgb for f in renderer.frames(prepared(), [drive(prepared().reference.expand(4, -1))])])
    assert (same.float() - film(4).float()).abs().mean() < 0.3


@pytest.mark.parametrize("cuts", [1, 5])
def test_cutting_the_motion_does_not_matter(cuts):
    rows = wide_open(COUNT)
    drives = [
        Drive(Motion(Span(at, at + len(part)), FACE_MESH, part), torch.zeros(len(part), 0))
        for at, part in zip(range(0, COUNT, cuts), rows.split(cuts), strict=True)
    ]
    assert torch.equal(torch.cat([f.rgb for f in MeshRenderer().frames(prepared(), drives)]), dubbed())


def test_no_more_of_the_film_is_read_than_is_needed():
    from dataclasses import replace

    watched = Swaying()
    portrait = replace(prepared(), film=watched)
    frames = MeshRenderer().frames(portrait, [drive(wide_open(2)), drive(wide_open(2))])
    assert isinstance(frames, Generator)
    next(frames)
    frames.close()
    assert watched.asked < 40


def test_where_the_face_is_lost_the_film_is_shown_as_it_is():
    from dataclasses import replace

    from vivavoce.face.track import Face, FaceTracker

    hidden = Swaying(blank=(14, 15))
    seen = [s.seen for s in islice(shots(hidden, Face(prepared().cache["first"].numpy()), FaceTracker()), 30)]
    assert seen[14] == seen[15] == 0
    assert all(a >= b for a, b in pairwise(seen[:15]))  # fading out
    assert seen[14 - FADE - 1] == 1
    assert seen[29] == 1
    portrait = replace(prepared(), film=hidden)
    made = torch.cat([f.rgb for f in MeshRenderer().frames(portrait, [drive(wide_open(20))])])
    assert torch.equal(made[14], torch.full_like(made[14], 90))


def test_a_film_without_a_face_is_refused():
    with pytest.raises(InputError, match="no face was found"):
        MeshRenderer().filmed(Swaying(blank=tuple(range(200))))
    with pytest.raises(InputError, match="there is no face 3"):
        MeshRenderer(face=3).filmed(Swaying())
    with pytest.raises(InputError, match="keeps its framing"):
        MeshRenderer(crop=True).filmed(Swaying())


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-300, 700), y=st.floats(-300, 700), width=st.floats(20, 600), turn=st.floats(-60, 60))
def test_the_patch_fades_to_nothing_inside_the_picture(x, y, width, turn):
    """Wherever the face is: no hard edge but at the border of the picture."""
    from vivavoce.face.mesh import Pose, rotation_matrix

    mean = FaceModel.pretrained().mean
    points = Pose(width, rotation_matrix(np.array([turn, 0.0, turn / 3])), np.array([x, y, 0.0])).apply(mean)
    part = patch(points, (400, 500))
    if part is None:
        return
    rows, columns = part.box
    weight = part.weight
    assert weight.shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert weight.min() >= 0
    assert weight.max() <= 1
    for edge, inside in (
        (weight[0], rows.start > 0),
        (weight[-1], rows.stop < 400),
        (weight[:, 0], columns.start > 0),
        (weight[:, -1], columns.stop < 500),
    ):
        assert not inside or edge.max() == 0


def test_shares_of_a_motion_add_up():
    rows = torch.randn(20, FACE_MESH.dim, generator=torch.Generator().manual_seed(0))
    parts = [rows @ share(FACE_MESH, name) for name in ("pose", "brows", "eyes", "lips")]
    torch.testing.assert_close(sum(parts), rows, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="no part 'ears'"):
        share(FACE_MESH, "ears")
