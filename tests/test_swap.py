"""Faces swapped on small random weights: what stays, what is refused, and what the file says."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
import torch
from demo_media import PHOTO, SPEECH, film, photo
from PIL import Image
from tgdm_weights import tiny

from vivavoce.cli import main
from vivavoce.cli.swap import NOTE
from vivavoce.errors import InputError
from vivavoce.face.mesh import OVAL
from vivavoce.media.read import read_video
from vivavoce.render.swap import Box, Swapper


def rgb(picture: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def test_a_box_is_cut_and_laid_back_bit_for_bit():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
    for left, top in ((5, 3), (-7, -9), (50, 30), (100, 0)):
        box = Box(left, top, 24)
        cut = box.cut(picture)
        assert cut.shape == (24, 24, 3)
        assert np.array_equal(box.laid(cut, picture), picture)
    marked = Box(-7, -9, 24).laid(np.zeros((24, 24, 3), np.uint8), picture)
    assert marked[:15, :17].max() == 0
    assert np.array_equal(marked[15:], picture[15:])


def test_all_but_the_face_and_its_outline_stays_bit_for_bit():
    target = rgb(photo())
    swapper = Swapper(tiny(), rgb(photo(240).flip(2)), steps=1)
    made = swapper.picture(target)
    changed = (made != target).any(2)
    rows, columns = np.nonzero(changed)
    face = swapper.tracker.faces(target)[0].landmarks
    oval = face[list(OVAL), :2]
    middle, reach = oval.mean(0), 0.6 * np.ptp(oval, axis=0)  # the outline bends out to 1.55 radii, at most
    assert 0.02 < changed.mean() < 0.4
    assert np.abs(columns - middle[0]).max() < 1.6 * reach[0]
    assert np.abs(rows - middle[1]).max() < 1.6 * reach[1]


def test_the_face_meant_is_the_one_that_changes():
    pair = torch.cat([photo(), photo().flip(2)], 2)
    swapper = Swapper(tiny(), rgb(photo()), steps=1)
    half = pair.shape[2] // 2
    for which, there in (("left", slice(0, half)), ("1", slice(half, None))):
        changed = (swapper.picture(rgb(pair), which) != rgb(pair)).any(2)
        assert changed[:, there].sum() == changed.sum() > 0
    with pytest.raises(InputError):
        swapper.picture(rgb(pair), "5")
    with pytest.raises(InputError, match="no face"):
        Swapper(tiny(), np.full((200, 200, 3), 127, np.uint8))


def test_every_picture_of_a_film_comes_out_and_those_without_the_face_as_they_were():
    pictures = [photo().roll(n, 2) for n in range(5)] + [torch.zeros_like(photo())] * 9
    swapper = Swapper(tiny(), rgb(photo()), steps=1)
    made = list(swapper.film(iter(pictures), iter(pictures)))
    assert len(made) == len(pictures)
    changed = [bool((one != rgb(was)).any()) for one, was in zip(made, pictures, strict=True)]
    assert changed[:3] == [True] * 3
    assert not any(changed[5:])


def test_without_consent_nothing_is_done(tiny_tgdm, tmp_path, capsys):
    out = tmp_path / "out.png"
    line = ["swap", str(PHOTO), str(PHOTO), "-o", str(out), "--weights", str(tiny_tgdm), "--steps", "1", "--json"]
    assert main(line) == 2
    assert "--i-have-consent" in json.loads(capsys.readouterr().out)["error"]
    assert not out.exists()


def test_pictures_say_what_they_are(tiny_tgdm, tmp_path, capsys):
    target, out = tmp_path / "target.png", tmp_path / "out.png"
    Image.fromarray(rgb(photo())).save(target)
    line = ["swap", str(PHOTO), str(target), "--weights", str(tiny_tgdm), "--steps", "1", "--json", "--i-have-consent"]
    assert main([*line, "-o", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["note"] == NOTE
    with Image.open(out) as made:
        assert made.info["Comment"] == made.info["Title"] == NOTE
        assert made.size == photo().shape[:0:-1]
    assert main([*line, "-o", str(tmp_path / "out.jpg")]) == 2
    assert main([*line, "-o", str(target)]) == 2
    assert main([*line, "-o", str(out), "--face", "7"]) == 2
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_the_weights_that_ship_are_used_where_none_are_given(tmp_path, capsys):
    target, out = tmp_path / "target.png", tmp_path / "out.png"
    Image.fromarray(rgb(photo())).save(target)
    assert main(["swap", str(PHOTO), str(target), "--json", "--i-have-consent", "-o", str(out)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["width"], report["height"]) == photo().shape[:0:-1]
    with Image.open(out) as made:  # the same person: little changes
        assert 0 < np.abs(np.asarray(made).astype(int) - rgb(photo())).mean() < 3


def test_films_keep_size_and_length_and_say_what_they_are(tiny_tgdm, tmp_path):
    shot, out = film(tmp_path / "film.mp4", 6), tmp_path / "out.mp4"
    line = ["swap", str(PHOTO), str(shot), "--weights", str(tiny_tgdm), "--steps", "1", "--i-have-consent"]
    assert main([*line, "-o", str(out)]) == 0
    before, after = (torch.stack(list(read_video(path, 25))) for path in (shot, out))
    assert before.shape == after.shape
    with av.open(str(out)) as box:
        assert box.metadata["comment"] == box.metadata["title"] == NOTE
    assert main([*line, "-o", str(tmp_path / "out.png")]) == 2
    assert main(["swap", str(PHOTO), str(SPEECH), *line[3:], "-o", str(out)]) == 2
