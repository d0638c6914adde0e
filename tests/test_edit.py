"""What edits change, and that they change nothing else."""

import numpy as np
import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit, blinking, mouth_share
from vivavoce.motion.space import FACE_MESH, Motion, MotionSpace, Part
from vivavoce.timeline import Span


def rows(count: int = 40) -> torch.Tensor:
    return torch.randn(count, FACE_MESH.dim, generator=torch.Generator().manual_seed(1))


def edited(edit: Edit, motion: torch.Tensor, reference: torch.Tensor | None = None, cuts: int = 40) -> torch.Tensor:
    reference = torch.zeros(1, FACE_MESH.dim) if reference is None else reference
    change = edit.starting(reference, seed=3)
    pieces = [(at, part) for at, part in zip(range(0, len(motion), cuts), motion.split(cuts), strict=True)]
    return torch.cat([change(Motion(Span(at, at + len(p)), FACE_MESH, p)).rows for at, p in pieces])


def changed_parts(before: torch.Tensor, after: torch.Tensor) -> set[str]:
    a, b = FACE_MESH.unpack(before), FACE_MESH.unpack(after)
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_the_default_changes_nothing():
    assert torch.equal(edited(Edit(), rows()), rows())


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (Edit(pose_scale=0.5), {"rotation", "translation", "scale"}),
        (Edit(mouth_gain=1.5), {"expression"}),
        (Edit(blink_rate=20.0), {"eyelids"}),
        (Edit(gaze=(0.1, 0.0)), {"gaze"}),
        (Edit(relative=("expression",)), {"expression"}),
    ],
)
def test_an_edit_changes_its_own_parts_only(edit, parts):
    assert changed_parts(rows(), edited(edit, rows())) == parts


def test_a_frozen_head_stays_in_the_portraits_pose():
    reference = rows(1)
    after = FACE_MESH.unpack(edited(Edit(pose_scale=0.0), rows(), reference))
    for name in ("rotation", "translation", "scale"):
        torch.testing.assert_close(after[name], FACE_MESH.unpack(reference)[name].expand_as(after[name]))


def test_relative_parts_start_at_the_portraits_own():
    reference = rows(1) * 3
    at = FACE_MESH.slice("rotation")
    after = edited(Edit(relative=("rotation",)), rows(), reference)
    torch.testing.assert_close(after[0, at], reference[0, at])
    torch.testing.assert_close(after[5, at] - after[0, at], rows()[5, at] - rows()[0, at])


@pytest.mark.parametrize("cuts", [1, 7, 13])
def test_cutting_the_stream_does_not_matter(cuts):
    edit = Edit(pose_scale=0.3, mouth_gain=0.7, blink_rate=40.0, gaze=(0.1, -0.1), relative=("rotation",))
    torch.testing.assert_close(edited(edit, rows(60), cuts=60), edited(edit, rows(60), cuts=cuts))


@pytest.mark.parametrize("rate", [6.0, 15.0, 30.0, 60.0])
def test_blinks_come_at_the_rate_asked_for(rate):
    lids = blinking(0, 25 * 60 * 5, rate, seed=11)
    closed = (lids < 0.1).int()
    assert int((closed.diff() == 1).sum()) == pytest.approx(5 * rate, abs=2)
    assert blinking(0, 100, 0.0, seed=1).eq(1).all()


def test_the_mouth_share_is_the_mouth_and_not_the_brows():
    from vivavoce.face.mesh import BROWS, INNER_LIPS
    from vivavoce.face.model import FaceModel

    model = FaceModel.pretrained()
    some = torch.randn(32, generator=torch.Generator().manual_seed(2))
    whole = model.displacement(some.double().numpy(), np.zeros(2))
    mouth = model.displacement((mouth_share() @ some).double().numpy(), np.zeros(2))
    lips, brows = list(INNER_LIPS), list(BROWS)
    assert abs(mouth[lips] - whole[lips]).mean() < 0.1 * abs(whole[lips]).mean()
    assert abs(mouth[brows]).mean() < 0.35 * abs(whole[brows]).mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"pose_scale": float("nan")},
        {"pose_scale": -1.0},
        {"mouth_gain": 3.0},
        {"blink_rate": 500.0},
        {"gaze": (1.0, 0.0)},
    ],
)
def test_values_that_make_no_face_are_refused(wrong):
    with pytest.raises(InputError, match="must be a number from"):
        Edit(**wrong)


def test_other_spaces_are_refused_by_name():
    space = MotionSpace("other/1", (Part("all", "latent", (3,)),))
    with pytest.raises(InputError, match="not in other/1"):
        Edit(mouth_gain=1.2).starting(torch.zeros(1, 3), 0)(Motion(Span(0, 2), space, torch.zeros(2, 3)))
