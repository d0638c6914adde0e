import numpy as np
import pytest
import torch

from vivavoce.data import crops
from vivavoce.data import pairs as pairs_module
from vivavoce.data.pairs import paired
from vivavoce.recipes.implicit import pretend


@pytest.fixture
def drawn(tmp_path):
    """Two frames of a drawn face, and the file they are in."""
    pairs = pretend(3, np.random.default_rng(0))
    jpeg = [crops.cv2.imencode(".jpg", p.permute(1, 2, 0).numpy()[..., ::-1])[1].ravel() for p in pairs.pictures[0]]
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(
            file,
            name="a",
            speaker="s",
            jpeg=np.concatenate(jpeg),
            ends=np.cumsum([len(one) for one in jpeg]),
            pose=np.zeros((2, 3), np.float32),
            landmarks=pairs.landmarks[0].numpy(),
            person=np.full((2, 32, 32), 255, np.uint8),
        )
    return pairs, (tmp_path / "a.npz",)


def test_pairs_come_from_one_person_and_mirror_with_their_landmarks(drawn):
    pairs, files = drawn
    found = paired(files, 12, np.random.default_rng(1))
    plain = next(n for n in range(12) if torch.allclose(found.landmarks[n], pairs.landmarks[0]))
    mirrored = next(
        n for n in range(12) if torch.allclose(found.landmarks[n], pairs.landmarks[0] * torch.tensor([-1.0, 1.0]))
    )
    assert torch.equal(found.pictures[plain], found.pictures[mirrored].flip(-1))


def test_views_move_landmarks_with_what_they_lie_on(drawn):
    _, files = drawn
    plain, both, each = (paired(files, 60, np.random.default_rng(1), views=n) for n in (0, 1, 2))
    assert torch.equal(paired(files, 60, np.random.default_rng(1), views=2).pictures, each.pictures)
    picture = np.zeros((3, 64, 64), np.uint8)
    picture[:, 20:24, 40:44] = 255
    landmarks = np.full((478, 2), [(42 - 32) / 32, (22 - 32) / 32], np.float32)
    view = np.array([[0.9, 0.1, 0.2], [-0.1, 0.9, -0.1]])
    seen, places, person = pairs_module._seen(picture, landmarks, picture[0], view)
    rows, columns = np.nonzero(seen[0] > 127)
    middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    np.testing.assert_allclose((places[0] + 1) * 32, middle, atol=0.6)
    assert np.array_equal(person, seen[0])

    def share(found):  # of the landmarks' change between the frames that one shift of all explains
        change = found.landmarks[:, 1] - found.landmarks[:, 0]
        return float(change.mean(1).norm(dim=-1).mean())

    assert share(each) > share(both) + 0.02  # each frame in a view of its own: faces are elsewhere
    assert abs(share(both) - share(plain)) < 0.03


def test_one_picture_is_its_own_pair(tmp_path, drawn):
    pairs, files = drawn
    with np.load(files[0]) as found:
        values = dict(found)
    one = {**values, "jpeg": values["jpeg"][: values["ends"][0]], "ends": values["ends"][:1]}
    one |= {name: values[name][:1] for name in ("pose", "landmarks", "person")}
    with (tmp_path / "b.npz").open("wb") as file:
        np.savez(file, **one)
    alone = paired((tmp_path / "b.npz",), 2, np.random.default_rng(0))
    assert torch.equal(alone.pictures[:, 0], alone.pictures[:, 1])
    assert pairs.pictures.shape[1] == 2


def test_light_scales_colours_and_leaves_shapes():
    picture = np.arange(192, dtype=np.uint8).reshape(3, 8, 8) // 2
    lit = pairs_module._lit(picture, np.random.default_rng(0))
    assert not np.array_equal(lit, picture)
    for before, after in zip(picture, lit, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.999
