"""Video out: what is written comes back, at the right time, in the right colours, or not at all."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import CLOCK, clips, heard, sine, wav

from vivavoce.errors import InputError
from vivavoce.media.read import read_soundtrack, read_video
from vivavoce.media.write import PROVENANCE, write_video
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span


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


@pytest.mark.parametrize("fragment", [False, True])
def test_sound_and_picture_start_together(tmp_path, fragment):
    """The encoder's lead-in is cut off on playing: a click stays in the frame it belongs to."""
    rgb = torch.zeros(20, 3, 64, 64, dtype=torch.uint8)
    rgb[8] = 255
    pcm = torch.zeros(20 * 640)
    pcm[8 * 640 : 8 * 640 + 32] = 0.9
    halves = [Clip(Span(n, n + 10), rgb[n : n + 10], pcm[n * 640 : (n + 10) * 640]) for n in (0, 10)]
    write_video(tmp_path / "a.mp4", halves, CLOCK, fragment=fragment)
    brightness = [float(frame.float().mean()) for frame in read_video(tmp_path / "a.mp4")]
    assert len(brightness) == 20
    assert int(np.argmax(brightness)) == 8
    assert abs(int(heard(tmp_path / "a.mp4").abs().argmax()) - 8 * 640 - 16) < 64


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
