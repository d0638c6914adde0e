"""What goes in comes out: pictures, films and sound through real files made here."""

import io
import math
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import film, picture, sine, wav
from PIL import Image

import vivavoce
from vivavoce.errors import InputError, InputWarning
from vivavoce.media import sound as sound_module
from vivavoce.media.read import contents, read_audio, read_image, read_soundtrack, read_source, read_video
from vivavoce.media.sheet import contact_sheet, watched
from vivavoce.media.write import PROVENANCE, write_video
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span

CLOCK = Clock()


def heard(path: Path, rate: int = 16_000) -> torch.Tensor:
    return torch.cat(list(read_audio(path, rate)))


def clips(frames: int, height: int = 64, width: int = 64, hop: int = 7, level: float = 0.3):
    ramp = torch.linspace(0, 255, width).expand(3, height, width)
    for start in range(0, frames, hop):
        stop = min(start + hop, frames)
        rgb = torch.stack([(ramp + 5 * n) % 256 for n in range(start, stop)]).to(torch.uint8)
        pcm = torch.full((CLOCK.sample(stop) - CLOCK.sample(start),), level)
        yield Clip(Span(start, stop), rgb, pcm)


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


# --- sound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_width_gives_the_same_sound(tmp_path, rate, channels):
    path = wav(tmp_path / "a.wav", np.tile(sine(440, 0.5, rate), (channels, 1)), rate)
    pcm = heard(path)
    assert abs(len(pcm) - 8000) <= 2
    assert pcm.dtype == torch.float32
    truth = torch.from_numpy(sine(440, 0.5, 16_000))[: len(pcm)]
    assert (pcm[: len(truth)] - truth)[200:-200].abs().max() < 0.02


def test_sound_keeps_its_place_when_resampled(tmp_path):
    click = np.zeros((1, 44_100), np.float32)
    click[0, 22_050] = 0.9
    assert heard(wav(tmp_path / "a.wav", click, 44_100)).argmax() == pytest.approx(8000, abs=1)


@pytest.mark.parametrize("kind", [("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "libopus"), ("m4a", "aac")])
def test_compressed_sound(tmp_path, kind):
    suffix, codec = kind
    path = wav(tmp_path / f"a.{suffix}", np.tile(sine(300, 1.0, 48_000), (2, 1)), 48_000, codec=codec)
    pcm = heard(path)
    assert abs(len(pcm) - 16_000) < 1_300  # lossy formats pad to whole packets
    truth = sine(300, 1.0, 16_000)
    shared = min(len(pcm), 15_000)
    lag = np.correlate(pcm.numpy()[2000:shared], truth[2100 : shared - 100], "valid").argmax() - 100
    assert abs((lag + 26) % 53 - 26) < 10  # in step within a fifth of a period


@given(
    st.integers(640, 3000),
    st.sampled_from([8_000, 11_025, 16_000, 44_100]),
    st.sampled_from([1, 2, 6]),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_wav_is_read_in_bounds_and_whole(tmp_path, length, rate, channels):
    samples = np.random.default_rng(length).uniform(-1, 1, (channels, length))
    pcm = heard(wav(tmp_path / "a.wav", samples, rate))
    assert abs(len(pcm) - length * 16_000 / rate) <= 3
    assert pcm.abs().max() <= 1


def test_pieces_are_bounded(tmp_path):
    path = wav(tmp_path / "a.wav", np.zeros((1, 200_000), np.float32), 16_000)
    sizes = [len(piece) for piece in read_audio(path)]
    assert sum(sizes) == 200_000
    assert max(sizes) <= sound_module.PIECE


def test_loud_stereo_is_mixed_without_clipping(tmp_path):
    loud = np.full((2, 1600), 0.9, np.float32)
    assert heard(wav(tmp_path / "a.wav", loud, 16_000)).max() == pytest.approx(0.9, abs=0.001)


def test_speech_in_the_centre_of_surround_sound_is_heard_and_the_bass_is_not(tmp_path):
    surround = np.zeros((6, 1600), np.float32)
    surround[2], surround[3] = 0.5, 0.9  # FL FR FC LFE BL BR
    pcm = heard(wav(tmp_path / "a.wav", surround, 16_000))
    assert 0.1 < pcm.mean() < 0.25


def test_samples_that_are_no_numbers_become_silence(tmp_path):
    broken = sine(440, 0.2, 16_000)[None].copy()
    broken[0, 100], broken[0, 200], broken[0, 300] = np.nan, np.inf, -np.inf
    path = wav(tmp_path / "a.wav", broken, 16_000, codec="pcm_f32le")
    with pytest.warns(InputWarning, match="3 samples were not numbers"):
        pcm = heard(path)
    assert pcm.isfinite().all()
    assert pcm[[100, 200, 300]].tolist() == [0, 0, 0]
    assert pcm[150] == pytest.approx(float(broken[0, 150]), abs=1e-6)


def test_sound_far_beyond_full_scale_is_clipped_and_told(tmp_path):
    path = wav(tmp_path / "a.wav", 5 * sine(440, 0.2, 16_000)[None], 16_000, codec="pcm_f32le")
    with pytest.warns(InputWarning, match="beyond full scale"):
        assert heard(path).abs().max() == 1


def test_a_gap_in_a_recording_is_filled_with_silence(tmp_path):
    path = film(tmp_path / "a.mkv", frames=75, sound_at=[(0.0, 0.5), (2.0, 0.5)])
    pcm = heard(path)
    assert abs(len(pcm) - 2.5 * 16_000) < 1_200
    assert pcm[10_000:30_000].abs().max() < 0.05
    assert pcm[33_500:38_000].abs().max() > 0.2


def test_sound_that_starts_late_in_a_film_stays_late(tmp_path):
    path = film(tmp_path / "a.mkv", frames=50, sound_at=[(1.0, 0.5)])
    pcm = heard(path)
    assert abs(len(pcm) - 1.5 * 16_000) < 1_200
    assert pcm[:15_000].abs().max() < 0.05
    track = torch.cat(list(read_soundtrack(path).blocks), 1)
    assert abs(track.shape[1] / read_soundtrack(path).sample_rate - 1.5) < 0.08


def test_a_cover_picture_is_not_a_film(tmp_path):
    path = wav(tmp_path / "a.wav", sine(440, 0.2, 16_000)[None], 16_000)
    assert not contents(path).picture
    with pytest.raises(InputError, match="only sound"):
        read_video(path)


@pytest.mark.parametrize(
    ("rate", "channels", "kept"), [(8_000, 1, (16_000, 1)), (44_100, 2, (44_100, 2)), (96_000, 6, (48_000, 2))]
)
def test_the_soundtrack_keeps_rate_and_width_where_players_can(tmp_path, rate, channels, kept):
    path = wav(tmp_path / "a.wav", np.tile(sine(440, 0.3, rate), (channels, 1)), rate)
    track = read_soundtrack(path)
    assert (track.sample_rate, track.channels) == kept
    blocks = torch.cat(list(track.blocks), 1)
    assert blocks.shape[0] == kept[1]
    assert abs(blocks.shape[1] / kept[0] - 0.3) < 0.001


# --- writing -------------------------------------------------------------------------------------------------------


def test_a_written_video_is_what_was_given(tmp_path):
    path = tmp_path / "a.mp4"
    seen: list[int] = []
    written = write_video(path, clips(33), CLOCK, on_frame=seen.append)
    assert (written.frames, written.seconds, written.width, written.height) == (33, 33 / 25, 64, 64)
    assert seen == list(range(1, 34))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
    with av.open(str(path)) as box:
        film_, track = box.streams.video[0], box.streams.audio[0]
        assert (film_.codec_context.name, film_.pix_fmt, film_.average_rate) == ("h264", "yuv420p", 25)
        assert (track.codec_context.name, track.sample_rate, track.channels) == ("aac", 16_000, 1)
        assert film_.duration * film_.time_base == Fraction(33, 25)
        assert abs(track.duration * track.time_base - Fraction(33, 25)) < Fraction(1, 1000)
        assert box.metadata["comment"] == PROVENANCE
        assert "AI-generated" in PROVENANCE
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is all there


def test_written_pictures_and_sound_come_back(tmp_path):
    write_video(tmp_path / "a.mp4", clips(30, 96, 128), CLOCK)
    frames = torch.stack(list(read_video(tmp_path / "a.mp4"))).float()
    truth = torch.cat([clip.rgb for clip in clips(30, 96, 128)]).float()
    assert frames.shape == truth.shape
    assert (frames - truth).abs().mean() < 6
    pcm = heard(tmp_path / "a.mp4")
    assert abs(len(pcm) - 30 * 640) <= 1
    assert pcm[2000:17_000].mean() == pytest.approx(0.3, abs=0.05)


def test_colours_survive(tmp_path):
    """The conversion to YUV and what the file says about it agree: BT.709, video range."""
    colours = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [250, 250, 250], [5, 5, 5]], dtype=torch.uint8)
    for colour in colours:
        rgb = colour[None, :, None, None].expand(3, 3, 64, 64).contiguous()
        write_video(tmp_path / "a.mp4", [Clip(Span(0, 3), rgb, torch.zeros(1920))], CLOCK)
        shown = next(iter(read_video(tmp_path / "a.mp4")))
        assert (shown[:, 32, 32].int() - colour.int()).abs().max() <= 5
    with av.open(str(tmp_path / "a.mp4")) as box:
        assert box.streams.video[0].codec_context.colorspace == 1


def test_odd_sizes_are_completed(tmp_path):
    written = write_video(tmp_path / "a.mp4", clips(5, 65, 67), CLOCK)
    assert (written.height, written.width) == (66, 68)


def test_clips_that_change_size_are_refused_and_nothing_stays(tmp_path):
    with pytest.raises(ValueError, match="change size"):
        write_video(tmp_path / "a.mp4", [*clips(5), *clips(5, 96, 96)], CLOCK)
    assert not list(tmp_path.iterdir())


def test_better_sound_replaces_the_models_sound_and_lasts_as_long_as_the_picture(tmp_path):
    stereo = np.stack([sine(440, 1.0, 44_100), np.zeros(44_100, np.float32)])
    path = wav(tmp_path / "a.wav", stereo, 44_100)
    for frames in (20, 25, 40):  # shorter, equal, longer than the sound
        write_video(tmp_path / "a.mp4", clips(frames), CLOCK, sound=read_soundtrack(path))
        with av.open(str(tmp_path / "a.mp4")) as box:
            track = box.streams.audio[0]
            assert (track.sample_rate, track.channels) == (44_100, 2)
            assert abs(track.duration * track.time_base - Fraction(frames, 25)) < Fraction(1, 1000)
    left, right = torch.cat(list(read_soundtrack(tmp_path / "a.mp4").blocks), 1)
    assert left[5_000:40_000].abs().max() > 0.4
    assert right[5_000:40_000].abs().max() < 0.02
    assert left[50_000:].abs().max() < 0.02


def test_a_stream_can_be_played_while_it_is_written():
    class Pipe:
        """Write only, like a socket."""

        def __init__(self):
            self.data = b""

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe, lengths = Pipe(), []

    def watched_clips():
        for clip in clips(100, hop=10):
            lengths.append(len(pipe.data))
            yield clip

    written = write_video(pipe, watched_clips(), CLOCK, fragment=True)
    assert written.frames == 100
    assert lengths[3] > 0  # bytes are out while later clips do not exist yet
    assert lengths == sorted(lengths)
    assert pipe.data.count(b"moof") >= 10
    with av.open(io.BytesIO(pipe.data[: lengths[-1]])) as box:  # cut off in the middle it plays up to there
        assert sum(1 for _ in box.decode(video=0)) > 60
    with pytest.raises(InputError, match="fragment"):
        write_video(pipe, clips(5), CLOCK)


def test_a_buffer_that_can_seek_gets_a_plain_file():
    buffer = io.BytesIO()
    write_video(buffer, clips(10), CLOCK)
    with av.open(io.BytesIO(buffer.getvalue())) as box:
        assert sum(1 for _ in box.decode(video=0)) == 10


@given(st.integers(1, 60), st.integers(1, 13), st.sampled_from([Fraction(25), Fraction(30), Fraction(30000, 1001)]))
@settings(max_examples=12, deadline=None)
def test_sound_is_as_long_as_the_picture_at_any_rate(frames, hop, fps):
    clock = Clock(fps)
    spans = [Span(start, min(start + hop, frames)) for start in range(0, frames, hop)]
    made = (
        Clip(
            s,
            torch.zeros(len(s), 3, 32, 32, dtype=torch.uint8),
            torch.zeros(clock.sample(s.stop) - clock.sample(s.start)),
        )
        for s in spans
    )
    buffer = io.BytesIO()
    assert write_video(buffer, made, clock).frames == frames
    with av.open(io.BytesIO(buffer.getvalue())) as box:
        film_, track = box.streams.video[0], box.streams.audio[0]
        assert abs(film_.duration * film_.time_base - track.duration * track.time_base) < 1 / fps


def test_damaged_samples_in_clips_do_not_stop_the_encoder():
    clip = Clip(Span(0, 5), torch.zeros(5, 3, 32, 32, dtype=torch.uint8), torch.full((3200,), float("nan")))
    assert write_video(io.BytesIO(), [clip], CLOCK).frames == 5


def test_a_finished_video_replaces_an_old_one_only_when_complete(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, clips(5), CLOCK)
    before = path.read_bytes()

    def failing():
        yield from clips(20)
        raise RuntimeError("the renderer broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_video(path, failing(), CLOCK)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


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
