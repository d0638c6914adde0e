"""Pictures and films in, contact sheets out: through real files made here."""

import math
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from media_files import clips, film, heard, picture, sine, wav
from PIL import Image

import vivavoce
from vivavoce.errors import InputError
from vivavoce.media.read import read_image, read_source, read_video
from vivavoce.media.sheet import contact_sheet, moving_box, watched

# --- the package ---------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, vivavoce; print([m for m in ('torch', 'av', 'numba', 'mediapipe', 'cv2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_exists():
    assert set(vivavoce.__all__) <= set(dir(vivavoce))
    for name in vivavoce.__all__:
        assert getattr(vivavoce, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        vivavoce.no_such_name  # noqa: B018


# --- pictures ------------------------------------------------------------------------------------------------------


def test_a_png_comes_back_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.shape == (1, 3, 40, 50)
    assert np.array_equal(read[0].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32] = 255  # bright top left corner
    turn = {  # how the camera stored it
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = Image.fromarray(np.ascontiguousarray(turn(upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png")[0].permute(1, 2, 0).numpy(), upright)


def test_transparent_parts_lie_on_white(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:20] = (200, 0, 0, 255)
    pixels[20:30] = (0, 0, 0, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")[0]
    assert read[:, 0, 0].tolist() == [200, 0, 0]
    assert read[:, 25, 0].tolist() == pytest.approx([127, 127, 127], abs=1)
    assert read[:, 35, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("mode", "make"),
    [
        ("L", lambda g: Image.fromarray((g * 255).astype(np.uint8))),
        ("I;16", lambda g: Image.fromarray((g * 65535).astype(np.uint16))),
        ("LA", lambda g: Image.fromarray((g * 255).astype(np.uint8)).convert("LA")),
        ("P", lambda g: Image.fromarray((g * 255).astype(np.uint8)).convert("P")),
        ("RGBA", lambda g: Image.fromarray((g * 255).astype(np.uint8)).convert("RGBA")),
    ],
)
def test_every_kind_of_png_looks_the_same(tmp_path, mode, make):
    grey = np.tile(np.linspace(0, 1, 64), (48, 1))
    image = make(grey)
    assert image.mode == mode
    image.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")[0].float() / 255
    assert (read - torch.tensor(grey)).abs().max() < 0.01


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tiff", "gif", "ppm", "avif", "jp2"])
def test_common_formats(tmp_path, suffix):
    path = picture(tmp_path / f"a.{suffix}", 96, 64)
    read = read_image(path)[0].float()
    original = read_image(picture(tmp_path / "b.png", 96, 64))[0].float()
    assert read.shape == (3, 64, 96)
    assert (read - original).abs().mean() < 6


def test_cmyk_and_floating_point_tiff(tmp_path):
    grey = Image.fromarray(np.full((40, 40), 100, np.uint8))
    grey.convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    assert read_image(tmp_path / "c.jpg").float().mean() == pytest.approx(100, abs=4)
    Image.fromarray(np.full((40, 40), 0.5, np.float32)).save(tmp_path / "f.tiff")
    assert read_image(tmp_path / "f.tiff").float().mean() == pytest.approx(128, abs=1)


def test_colour_profiles_are_applied(tmp_path):
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40), (10, 200, 30)).save(path, icc_profile=lab.tobytes())
    assert read_image(path)[0, :, 0, 0].tolist() == pytest.approx([10, 200, 30], abs=1)
    Image.new("RGB", (40, 40), (10, 200, 30)).save(path, icc_profile=b"no profile at all")
    assert read_image(path)[0, :, 0, 0].tolist() == [10, 200, 30]


def test_large_pictures_are_scaled_down(tmp_path):
    picture(tmp_path / "a.jpg", 5000, 500)
    assert read_image(tmp_path / "a.jpg").shape == (1, 3, 410, 4096)
    assert read_image(tmp_path / "a.jpg", long_side=500).shape == (1, 3, 50, 500)


def test_animated_gif_is_a_short_film(tmp_path):
    shades = [Image.new("RGB", (40, 40), (value,) * 3) for value in (0, 120, 240)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[80, 200, 40])
    film_ = read_source(tmp_path / "a.gif")
    assert [int(frame.float().mean().round()) for frame in film_] == [0, 0, 120, 120, 120, 120, 120, 240]
    assert len(read_source(tmp_path / "a.gif", frames=3)) == 3
    assert len(read_image(tmp_path / "a.gif")) == 1


# --- films ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(24000, 1001), Fraction(25), Fraction(30), Fraction(60)])
def test_films_are_put_on_the_clock_by_time(tmp_path, rate):
    path = film(tmp_path / "a.mp4", frames=int(rate * 2), rate=rate)
    shown = [int(frame.float().mean().round()) for frame in read_video(path)]
    assert abs(len(shown) - 50) <= 1
    # Frame n of the file has brightness 2 n: what is on screen in the middle of every frame time.
    wanted = [2 * (math.ceil((n + Fraction(1, 2)) / 25 * rate) - 1) for n in range(len(shown))]
    assert all(abs(a - b) <= 1 for a, b in zip(shown, wanted, strict=True))


def test_irregular_time_stamps(tmp_path):
    path = film(tmp_path / "a.mp4", frames=4, rate=Fraction(25), stamps=[0, 1, 11, 12])
    shown = [int(frame.float().mean().round()) for frame in read_video(path)]
    assert len(shown) == 13
    assert shown[1:11] == [shown[1]] * 10
    assert shown[12] > shown[11] > shown[10]


def test_turned_films_come_upright(tmp_path):
    path = film(tmp_path / "a.mp4", frames=3, size=(64, 48), half=True)
    upright = next(iter(read_video(path)))
    assert upright.shape == (3, 48, 64)
    data = path.read_bytes()
    straight = b"\x00\x01\x00\x00" + bytes(12) + b"\x00\x01\x00\x00" + bytes(12) + b"\x40\x00\x00\x00"
    turned = bytes(4) + b"\x00\x01\x00\x00" + bytes(4) + b"\xff\xff\x00\x00" + bytes(16) + b"\x40\x00\x00\x00"
    at = data.index(straight, data.index(b"tkhd"))  # the matrix of the track's header
    (tmp_path / "b.mp4").write_bytes(data[:at] + turned + data[at + 36 :])
    side = next(iter(read_video(tmp_path / "b.mp4")))
    assert side.shape == (3, 64, 48)
    assert (side.float() - torch.rot90(upright, -1, (1, 2)).float()).abs().mean() < 2


def test_long_films_are_cut_and_scaled_for_a_portrait(tmp_path):
    path = film(tmp_path / "a.mp4", frames=30, size=(1024, 96))
    assert read_source(path, frames=20).shape == (20, 3, 68, 720)


def test_reading_a_film_holds_one_frame(tmp_path):
    frames = read_video(film(tmp_path / "a.mp4", frames=50))
    first = next(frames)
    assert first.shape == (3, 64, 64)
    frames.close()  # and lets go of the file


# --- contact sheets ------------------------------------------------------------------------------------------------


def test_a_sheet_shows_frames_and_close_ups(tmp_path):
    frames = torch.cat([clip.rgb for clip in clips(5)])
    contact_sheet(tmp_path / "a.png", frames, (16, 16, 48, 32), columns=3, width=60)
    page = np.asarray(Image.open(tmp_path / "a.png"))
    assert page.shape == (2 * (60 + 30) + 3 * 4, 3 * 60 + 2 * 4, 3)
    with pytest.raises(InputError, match="outside"):
        contact_sheet(tmp_path / "b.png", frames, (100, 100, 120, 120))
    with pytest.raises(InputError, match="at least one frame"):
        contact_sheet(tmp_path / "b.png", frames[:0])


def test_close_ups_are_taken_where_something_moves():
    frames = torch.full((6, 3, 120, 200), 90, dtype=torch.uint8)
    for n in range(6):
        frames[n, :, 40:60, 140:165] = 40 * n
    left, top, right, bottom = moving_box(frames)
    assert (left <= 140, top <= 40, right >= 165, bottom >= 60) == (True,) * 4
    assert right - left == bottom - top < 60
    assert moving_box(frames[:1]) is None
    assert moving_box(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)) is None


@pytest.mark.parametrize("length", [1, 5, 16, 333])
def test_watched_frames_are_spread_over_the_video(length):
    shown, frames = watched(clips(length, 32, 32), 8)
    assert sum(len(clip.span) for clip in shown) == length
    assert 1 <= len(frames()) <= 8
    assert len(frames()) >= min(length, 5)


def test_no_warning_without_reason(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heard(wav(tmp_path / "a.wav", sine(440, 0.2, 16_000)[None], 16_000))
        list(read_video(film(tmp_path / "a.mp4", frames=5)))
        read_source(picture(tmp_path / "a.png", 64, 64))
