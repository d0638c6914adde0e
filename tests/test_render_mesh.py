"""The mesh renderer on a real face: what must stay, what must move, and what must be said."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.face.mesh import LEFT_EYE, RIGHT_EYE
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.render.likeness import limited_angles
from vivavoce.render.mesh import MeshRenderer
from vivavoce.system import Drive
from vivavoce.timeline import Span

DEMO = Path(__file__).parent.parent / "assets" / "demo_portrait.jpg"


@cache
def demo() -> torch.Tensor:
    rgb = cv2.cvtColor(cv2.imread(str(DEMO)), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous()


@cache
def prepared():
    return MeshRenderer(size=320).portrait(demo())


def changed(row, **parts):
    named = {name: part.clone() for name, part in FACE_MESH.unpack(row).items()}
    for name, value in parts.items():
        named[name] = torch.as_tensor(value, dtype=torch.float32).expand_as(named[name])
    return FACE_MESH.pack(named)


def turned(row, yaw=0.0, pitch=0.0, roll=0.0):
    return changed(row, rotation=FACE_MESH.unpack(row)["rotation"] + torch.tensor([yaw, pitch, roll]))


def drive(rows, start=0):
    return Drive(Motion(Span(start, start + len(rows)), FACE_MESH, rows), torch.zeros(len(rows), 1))


def draw(*rows, portrait=None):
    portrait = portrait or prepared()
    return torch.cat([f.rgb for f in MeshRenderer(size=320).frames(portrait, [drive(torch.stack(rows))])])


def region(portrait):
    return portrait.cache["framing.pixels"].tolist()[4:]


def psnr(a, b):
    return float(-10 * torch.log10((a.float() - b.float()).square().mean() / 255**2))


def moving_rows(count):
    reference = prepared().reference[0]
    rng = torch.Generator().manual_seed(3)
    rows = reference + 0.3 * torch.randn(count, FACE_MESH.dim, generator=rng)
    rows[:, FACE_MESH.slice("scale")] = 1
    rows[:, FACE_MESH.slice("translation")] *= 0.05
    rows[:, FACE_MESH.slice("gaze")] *= 0.1
    return rows


def test_nothing_moves_when_the_motion_is_the_portraits_own():
    portrait = prepared()
    (frame,) = draw(portrait.reference[0])
    picture = portrait.cache["picture"].permute(2, 0, 1)
    left, top, right, bottom = region(portrait)
    assert psnr(frame[:, top:bottom, left:right], picture[:, top:bottom, left:right]) > 45


def test_outside_the_region_every_pixel_is_the_pictures():
    portrait = prepared()
    (frame,) = draw(turned(portrait.reference[0], yaw=15, roll=8))
    picture = portrait.cache["picture"].permute(2, 0, 1)
    left, top, right, bottom = region(portrait)
    outside = torch.ones_like(picture, dtype=torch.bool)
    outside[:, top:bottom, left:right] = False
    assert outside.any()
    assert (frame == picture)[outside].all()
    assert (frame != picture)[~outside].float().mean() > 0.2


def test_output_keeps_the_framing_with_even_sides():
    height, width = draw(prepared().reference[0]).shape[-2:]
    assert height % 2 == width % 2 == 0
    assert width / height == pytest.approx(demo().shape[3] / demo().shape[2], rel=0.01)


def eye_mask(portrait, reach):
    """Pixels of the output within ``reach`` eye widths of an eye."""
    left, top, _, _ = region(portrait)
    points = portrait.cache["landmarks"][0].numpy()[:, :2] + [left, top]
    mask = np.zeros(portrait.cache["picture"].shape[:2], np.uint8)
    for ring in (LEFT_EYE, RIGHT_EYE):
        cv2.fillPoly(mask, [np.round(points[list(ring)]).astype(np.int32)], 1)
        width = np.ptp(points[list(ring), 0])
    size = 2 * int(reach * width) + 1
    return torch.from_numpy(cv2.dilate(mask, np.ones((size, size))) > 0)


@pytest.mark.parametrize(("part", "value"), [("eyelids", 0.0), ("eyelids", 0.5), ("gaze", (0.12, 0.0))])
def test_blinks_and_glances_change_the_eyes_only(part, value):
    portrait = prepared()
    still, moved = draw(portrait.reference[0], changed(portrait.reference[0], **{part: value}))
    differs = (still != moved).any(0)
    near = eye_mask(portrait, 0.35)
    assert differs.any()
    assert not differs[~near].any()


def test_closed_lids_hide_the_eyeballs():
    portrait = prepared()
    still, closed = draw(portrait.reference[0], changed(portrait.reference[0], eyelids=0.0))
    inside = eye_mask(portrait, 0.0)
    contrast = [float(frame.float().mean(0)[inside].std()) for frame in (still, closed)]
    assert contrast[1] < 0.7 * contrast[0]


def test_the_split_of_the_motion_does_not_change_the_frames():
    rows = moving_rows(6)
    renderer, portrait = MeshRenderer(size=320), prepared()
    whole = [*renderer.frames(portrait, [drive(rows)])]
    pieces = [*renderer.frames(portrait, [drive(rows[:1]), drive(rows[1:4], 1), drive(rows[4:], 4)])]
    assert torch.equal(torch.cat([f.rgb for f in whole]), torch.cat([f.rgb for f in pieces]))
    assert [(f.span.start, f.span.stop) for f in pieces] == [(0, 1), (1, 4), (4, 6)]


def test_preparing_twice_gives_the_same_portrait():
    again = MeshRenderer(size=320).portrait(demo())
    assert all(torch.equal(value, again.cache[name]) for name, value in prepared().cache.items())
    assert torch.equal(again.reference, prepared().reference)


def test_head_turns_to_the_right_of_the_picture():
    from vivavoce.face.track import FaceTracker

    reference = prepared().reference[0]
    noses = []
    for frame in draw(turned(reference, yaw=-12), turned(reference, yaw=12)):
        (face, *_) = FaceTracker().faces(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()))
        noses.append((face.landmarks[1, 0] - face.landmarks[[234, 454], 0].mean()) / face.width)
    assert noses[1] - noses[0] > 0.1


def test_the_square_view_has_the_size_asked_for():
    renderer = MeshRenderer(size=256, crop=True)
    portrait = renderer.portrait(demo())
    (frames,) = renderer.frames(portrait, [drive(portrait.reference)])
    assert frames.rgb.shape == (1, 3, 256, 256)


def two_people():
    one = demo()[..., : demo().shape[2]]
    smaller = torch.nn.functional.interpolate(one.float(), scale_factor=0.7, mode="area").round().to(torch.uint8)
    canvas = torch.full((1, 3, one.shape[2], one.shape[3] + smaller.shape[3]), 128, dtype=torch.uint8)
    canvas[..., : one.shape[3]] = one
    canvas[..., : smaller.shape[2], one.shape[3] :] = smaller
    return canvas


def test_only_the_chosen_face_moves():
    both = two_people()
    for which, (start, stop) in (("left", (0, 0.5)), ("right", (0.65, 1))):
        portrait = MeshRenderer(size=320, face=which).portrait(both)
        width = portrait.cache["picture"].shape[1]
        still, moved = draw(portrait.reference[0], turned(portrait.reference[0], yaw=12), portrait=portrait)
        columns = (still != moved).any(0).float().mean(0)
        assert columns[int(start * width) : int(stop * width)].max() > 0.1
        other = columns[int(0.65 * width) :] if which == "left" else columns[: int(0.5 * width)]
        assert other.mean() < 0.02


def test_a_face_that_is_not_there_and_none_at_all():
    with pytest.raises(InputError, match="1 face"):
        MeshRenderer(face=3).portrait(demo())
    with pytest.raises(InputError, match="no face"):
        MeshRenderer().portrait(torch.full((1, 3, 200, 200), 90, dtype=torch.uint8))


def test_a_turned_head_is_damped_and_the_user_told():
    reference = prepared().reference[0]
    frame = draw(turned(reference, yaw=-22))
    profile = MeshRenderer(size=320).portrait(cv_squeezed(frame))
    assert any("turned" in warning for warning in profile.warnings)
    assert not any("turned" in warning for warning in prepared().warnings)


def cv_squeezed(frame):
    """The picture narrowed, as a head turned still further looks."""
    height, width = frame.shape[-2:]
    narrow = torch.nn.functional.interpolate(frame.float(), size=(height, int(width * 0.8)), mode="area")
    return narrow.round().to(torch.uint8)


def test_the_more_a_head_is_turned_the_less_it_may_turn_back():
    room = [
        limited_angles(np.array([own, 0.0, 0.0]), np.array([own - 40, 0.0, 0.0]))[0] - own for own in (0, 10, 20, 30)
    ]
    assert sorted(room) == room
    assert room[0] < -18
    assert room[-1] > -6
    small = limited_angles(np.array([2.0, 1.0, 0.0]), np.array([6.0, 4.0, -5.0]))
    np.testing.assert_allclose(small, [6, 4, -5])


def test_a_video_portrait_keeps_its_own_head_and_changes_its_lips():
    first = prepared().cache["picture"].permute(2, 0, 1)
    source = torch.stack([first, first.roll(2, -1), first.roll(4, -1)])
    renderer = MeshRenderer(size=320, paints_mouth=False)
    portrait = renderer.portrait(source)
    assert portrait.reference.shape == (3, FACE_MESH.dim)
    order = [0, 1, 2, 1, 0]
    same = torch.cat([f.rgb for f in renderer.frames(portrait, [drive(portrait.reference[order])])])
    for frame, n in zip(same, order, strict=True):
        assert psnr(frame, source[n, :, : frame.shape[1], : frame.shape[2]]) > 40
    opened = portrait.reference[order].clone()
    opened[:, FACE_MESH.slice("expression")] += 2.0
    talking = torch.cat([f.rgb for f in renderer.frames(portrait, [drive(opened)])])
    top = region(portrait)[1]
    brow = int(portrait.cache["landmarks"][0, 9, 1]) + top
    assert torch.equal(same[:, :, : brow - 5], talking[:, :, : brow - 5])
    assert (same != talking).any()


def test_frames_follow_the_reference_that_the_portrait_holds():
    """A caller who knows the person better may replace the reference; motion is relative to it."""
    portrait = prepared()
    shifted = replace(portrait, reference=portrait.reference + 0.5)
    assert torch.equal(draw(portrait.reference[0]), draw(shifted.reference[0], portrait=shifted))
