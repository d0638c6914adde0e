"""Pictures with no face, too many or hardly any, on the real tracker and renderer."""

from pathlib import Path

import numpy as np
import pytest
from outcomes import made, refused
from PIL import Image

from vivavoce import weights

ASSETS = Path(__file__).parents[1] / "assets"
needs_moda = pytest.mark.skipif("moda" not in weights.names(), reason="the motion generator's weights are not trained")


@pytest.fixture(scope="module")
def photo():
    """Head and shoulders, 400 pixels."""
    return Image.open(ASSETS / "demo_portrait.jpg").convert("RGB").resize((400, 400))


def side_by_side(photo, count):
    row = Image.new("RGB", (400 * count, 400), "grey")
    for n in range(count):
        row.paste(photo, (400 * n, 0))
    return row


def landscape(seed=0):
    rng = np.random.default_rng(seed)
    hills = np.cumsum(rng.normal(0, 3, 300)) + 120
    sky = np.arange(240)[:, None] < hills[None]
    return Image.fromarray(np.where(sky[..., None], (120, 160, 220), (40, 110, 50)).astype(np.uint8))


def animate(cli, place, speech, image, *words):
    image.save(place / "in" / "people.png")
    out = place / "out" / "a.mp4"
    return cli("animate", place / "in" / "people.png", speech, "-o", out, "--size", "256", *words)


@needs_moda
def test_no_face_is_said(real_cli, place, speech):
    refused(animate(real_cli, place, speech, landscape()), place, "no face was found")


@needs_moda
@pytest.mark.parametrize("which", ["largest", "2"])
def test_one_of_three_faces_speaks(real_cli, place, speech, photo, which):
    made(animate(real_cli, place, speech, side_by_side(photo, 3), "--face", which), place, frames=13)


@needs_moda
def test_a_fourth_of_three_faces_is_not_there(real_cli, place, speech, photo):
    refused(animate(real_cli, place, speech, side_by_side(photo, 3), "--face", "3"), place, "no face 3", "3 faces")


@needs_moda
@pytest.mark.parametrize("side", [16, 40])
def test_a_tiny_face_is_refused_or_speaks(real_cli, place, speech, photo, side):
    wide = Image.new("RGB", (400, 300), (90, 120, 90))
    wide.paste(photo.resize((side, side)), (200, 150))
    outcome = animate(real_cli, place, speech, wide)
    if outcome.code:
        refused(outcome, place, "face")
    else:
        made(outcome, place, frames=13)


@needs_moda
def test_teeth_without_a_face_are_refused(real_cli, place, speech, photo):
    landscape().save(place / "in" / "teeth.png")
    refused(animate(real_cli, place, speech, photo, "--teeth", place / "in" / "teeth.png"), place, "teeth")


def test_own_teeth_are_taken_in_reenactment_too(real_cli, place, photo):
    photo.save(place / "in" / "p.png")
    words = ("-o", place / "out" / "a.mp4", "--size", "256", "--teeth", place / "in" / "p.png")
    driving = place / "in" / "p.gif"
    photo.save(driving, save_all=True, append_images=[photo.rotate(4), photo.rotate(8)], duration=40)
    made(real_cli("reenact", place / "in" / "p.png", driving, *words), place, frames=3)


def test_a_driving_video_without_a_face_is_refused(real_cli, place, photo):
    from media_files import film

    photo.save(place / "in" / "p.png")
    driving = film(place / "in" / "d.mp4", frames=10, half=True)
    outcome = real_cli("reenact", place / "in" / "p.png", driving, "-o", place / "out" / "a.mp4", "--size", "256")
    refused(outcome, place, "face")
