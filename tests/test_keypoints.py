import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.motion import keypoints
from vivavoce.motion.space import KEYPOINT

ANGLES = st.tuples(*(st.floats(-80, 80) for _ in range(3)))


def rows(seed, count=1):
    generator = torch.Generator().manual_seed(seed)
    drawn = 0.1 * torch.randn(count, 70, generator=generator)
    drawn[:, KEYPOINT.slice("scale")] += 1.2
    drawn[:, KEYPOINT.slice("rotation")] *= 200
    return drawn


CANONICAL = 0.3 * torch.randn(21, 3, generator=torch.Generator().manual_seed(9))


def test_each_angle_turns_about_its_own_axis():
    down = keypoints.rotation(torch.tensor([90.0, 0, 0]))
    right, lean = keypoints.rotation(torch.tensor([0.0, 90, 0])), keypoints.rotation(torch.tensor([0.0, 0, 90]))
    x, y, z = torch.eye(3)
    assert torch.allclose(y @ down, z, atol=1e-6)
    assert torch.allclose(z @ right, x, atol=1e-6)
    assert torch.allclose(x @ lean, y, atol=1e-6)


@given(ANGLES)
@settings(deadline=None, max_examples=50)
def test_angles_are_read_back_from_their_rotation(degrees):
    turn = keypoints.rotation(torch.tensor(degrees, dtype=torch.float64))
    assert torch.allclose(turn @ turn.mT, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(keypoints.angles(turn), torch.tensor(degrees, dtype=torch.float64), atol=1e-6)


def test_bins_of_three_degrees_begin_at_minus_97_and_a_half():
    logits = torch.full((3, 66), -1e4)
    for n, at in enumerate((0, 33, 65)):
        logits[n, at] = 0
    assert keypoints.degrees(logits).tolist() == [-97.5, 1.5, 97.5]


def test_depth_of_the_translation_is_dropped():
    row = rows(1)
    moved = row.clone()
    moved[:, KEYPOINT.slice("translation")] += torch.tensor([0.1, -0.2, 5.0])
    shift = keypoints.placed(moved, CANONICAL) - keypoints.placed(row, CANONICAL)
    assert torch.allclose(shift, torch.tensor([0.1, -0.2, 0.0]).expand(1, 21, 3), atol=1e-6)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_any_keypoints_are_explained_by_an_expression(seed):
    row, other = rows(seed), keypoints.placed(rows(seed + 1), CANONICAL)
    explained = keypoints.explained(other, row, CANONICAL)
    assert torch.allclose(keypoints.placed(explained, CANONICAL), other, atol=1e-5)
    assert torch.equal(explained[:, KEYPOINT.slice("rotation")], row[:, KEYPOINT.slice("rotation")])


def test_a_driver_who_does_not_move_changes_nothing():
    own, driver = rows(1, 3), rows(2).expand(3, 70)
    moved = keypoints.transferred(driver, driver[0], own)
    assert torch.allclose(keypoints.placed(moved, CANONICAL), keypoints.placed(own, CANONICAL), atol=1e-5)


def test_a_face_that_drives_itself_repeats_itself():
    driver = rows(3, 4)
    own = driver[:1].expand(4, 70)
    for relative in (True, False):
        moved = keypoints.transferred(driver, driver[0], own, relative=relative)
        if relative:
            assert torch.allclose(moved, driver, atol=1e-3)
        else:
            assert torch.equal(moved[:, KEYPOINT.slice("rotation")], driver[:, KEYPOINT.slice("rotation")])
            assert torch.equal(moved[:, KEYPOINT.slice("scale")], own[:, KEYPOINT.slice("scale")])


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("region", "moved"), [("lips", keypoints.LIPS), ("eyes", keypoints.EYES), ("pose", ())])
def test_a_region_moves_its_keypoints_only(region, moved, relative):
    own, driver = rows(1, 2), rows(2, 2)
    out = keypoints.transferred(driver, rows(4)[0], own, relative=relative, region=region)
    change = (out - own)[:, KEYPOINT.slice("expression")].unflatten(1, (21, 3)).abs().amax((0, 2)) > 0
    assert change.nonzero().flatten().tolist() == sorted(moved)
    pose_changed = not torch.equal(out[:, KEYPOINT.slice("rotation")], own[:, KEYPOINT.slice("rotation")])
    assert pose_changed == (region == "pose")


def test_absolute_motion_leaves_the_shape_of_the_face():
    mask = keypoints.part_of_expression("all", relative=False)
    assert not mask[[0, 7, 10]].any()
    assert mask.sum() == 3 * 13 + 6
    assert keypoints.part_of_expression("all", relative=True).all()


def test_stitching_moves_each_keypoint_and_then_all():
    driving, change = torch.randn(2, 21, 3), torch.randn(2, 65)
    out = keypoints.stitched(change, driving)
    assert torch.allclose(out[1, 4], driving[1, 4] + change[1, 12:15] + torch.cat([change[1, 63:], torch.zeros(1)]))


def test_reach_is_the_root_of_the_volumes_ratio():
    assert keypoints.reach(2 * CANONICAL, CANONICAL) == pytest.approx(8**0.5)


def test_eyes_turn_mirrored_to_both_sides():
    at, row = KEYPOINT.slice("expression"), rows(1)
    right, left = (keypoints.looking(row, side, 0.0)[0, at] - row[0, at] for side in (10.0, -10.0))
    right, left = right.view(21, 3), left.view(21, 3)
    assert right[15, 0] == pytest.approx(0.01, abs=1e-6)
    assert left[11, 0] == pytest.approx(-0.01, abs=1e-6)
    assert right[11, 0] == pytest.approx(-float(left[15, 0]), abs=1e-6)
    assert torch.equal(keypoints.looking(row, 0.0, 0.0), row)


def test_a_single_picture_is_compared_with_lips_at_rest():
    row = rows(5)[0]
    rest = KEYPOINT.unpack(keypoints.at_rest(row))
    assert torch.equal(rest["rotation"], KEYPOINT.unpack(row)["rotation"])
    assert rest["expression"].abs().max() == pytest.approx(0.01509)
