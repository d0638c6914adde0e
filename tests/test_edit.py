"""What edits change, and that they change nothing else."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vivavoce.emotion.labels import EMOTIONS
from vivavoce.emotion.looks import look
from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit, blinking, mouth_share
from vivavoce.motion.space import FACE_MESH, IMPLICIT, KEYPOINT, Motion, MotionSpace, Part
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


def test_a_pose_asked_for_is_moved_about_instead_of_the_portraits():
    reference, at = rows(1), FACE_MESH.slice("rotation")
    still = edited(Edit(pose=(20.0, -5.0, 3.0), pose_scale=0.0), rows(), reference)
    torch.testing.assert_close(still[:, at], torch.tensor([20.0, -5.0, 3.0]).expand(40, 3))
    moving = edited(Edit(pose=(20.0, -5.0, 3.0)), rows(), reference)
    torch.testing.assert_close(moving[:, at], rows()[:, at] + torch.tensor([20.0, -5.0, 3.0]) - reference[:, at])
    assert changed_parts(rows(), moving) == {"rotation"}


def test_the_pose_means_the_same_in_both_spaces():
    """A nose that points out of the picture goes to the right for yaw, down for pitch; ears turn clockwise for roll."""
    from vivavoce.face.mesh import rotation_matrix
    from vivavoce.motion.keypoints import rotation

    for pose in ((20.0, 0.0, 0.0), (0.0, 15.0, 0.0), (0.0, 0.0, 10.0)):
        motion = Motion(Span(0, 1), KEYPOINT, torch.zeros(1, KEYPOINT.dim))
        row = Edit(pose=pose).starting(torch.zeros(1, KEYPOINT.dim), 0)(motion).rows
        matrix = rotation(row[0, KEYPOINT.slice("rotation")])
        points = torch.tensor([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
        ours = points.double() @ torch.from_numpy(rotation_matrix(np.array(pose))).T
        torch.testing.assert_close(
            torch.sign((points @ matrix).round(decimals=4))[:, :2], torch.sign(ours.round(decimals=4))[:, :2].float()
        )


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_an_emotion_moves_the_face_in_proportion_and_leaves_the_lips_as_open(emotion, strength):
    from vivavoce.face.model import FaceModel
    from vivavoce.motion.lips import opening

    at = FACE_MESH.slice("expression")
    change = (edited(Edit(emotion=emotion, emotion_strength=strength), rows()) - rows())[:, at]
    torch.testing.assert_close(change, strength * look(emotion)[at].expand_as(change), atol=1e-5, rtol=0)
    assert abs(float(change[0] @ opening(FaceModel.pretrained()))) < 0.004


def test_emotions_look_like_what_they_are_called():
    from vivavoce.face.mesh import BROWS
    from vivavoce.face.model import FaceModel

    model = FaceModel.pretrained()

    def moved(emotion: str, points: Sequence[int]) -> float:
        """Mean way down, in face widths."""
        return float(
            np.tensordot(look(emotion)[FACE_MESH.slice("expression")].numpy(), model.expression, 1)[points, 1].mean()
        )

    brows, corners = list(BROWS), [61, 291]
    assert moved("surprise", brows) < moved("fear", brows) < -0.02
    assert moved("anger", brows) > 0.02
    assert moved("happiness", corners) < -0.02
    assert moved("sadness", corners) > 0.015
    assert not look("neutral").any()


@pytest.mark.parametrize(
    "wrong",
    [{"pose": (60.0, 0.0, 0.0)}, {"pose": (0.0, float("nan"), 0.0)}, {"emotion_strength": 4.0}, {"emotion": "hunger"}],
)
def test_poses_and_emotions_that_make_no_face_are_refused(wrong):
    with pytest.raises(InputError, match=r"must be a number from|there is no emotion"):
        Edit(**wrong)


def test_gaze_and_mouth_work_on_keypoints_too_and_blinks_are_refused():
    motion = Motion(Span(0, 4), KEYPOINT, torch.randn(4, KEYPOINT.dim))
    reference = torch.zeros(1, KEYPOINT.dim)
    aside = Edit(gaze=(0.2, 0.0)).starting(reference, 0)(motion).rows - motion.rows
    points = aside[0, KEYPOINT.slice("expression")].view(21, 3)
    assert set(points.abs().sum(1).nonzero().flatten().tolist()) == {11, 15}
    assert (points[[11, 15], 0] > 0).all()
    wider = Edit(mouth_gain=2.0).starting(reference, 0)(motion).rows
    lips = KEYPOINT.slice("expression").start + 3 * 17
    torch.testing.assert_close(wider[:, lips], 2 * motion.rows[:, lips])
    with pytest.raises(InputError, match="blink rate"):
        Edit(blink_rate=10.0).starting(reference, 0)(motion)


@pytest.mark.parametrize(
    "edit",
    [
        Edit(pose_scale=0.0),
        Edit(pose=(5.0, 0.0, 0.0)),
        Edit(mouth_gain=0.5),
        Edit(blink_rate=9.0),
        Edit(gaze=(0.1, 0.0)),
    ],
)
def test_what_a_space_cannot_tell_is_refused_not_ignored(edit):
    code = torch.zeros(4, IMPLICIT.dim)
    with pytest.raises(InputError, match="lia-w20/1"):
        edit.starting(code[:1], 0)(Motion(Span(0, 4), IMPLICIT, code))
