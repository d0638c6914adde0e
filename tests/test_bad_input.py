"""What people really give: every case ends with one clear line or with a valid video, and never with half a file."""

import errno
import itertools
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
import wave
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import film, picture, sine, wav
from PIL import Image

from vivavoce.errors import InputError, InputWarning
from vivavoce.media import write
from vivavoce.media.read import read_audio, read_source

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def place(tmp_path):
    """Folders for what is given and for what comes out."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def speech(place):
    return wav(place / "in" / "speech.wav", sine(220, 0.5, 16_000)[None], 16_000)


@pytest.fixture
def portrait(place):
    return picture(place / "in" / "portrait.png", 64, 48)


def one_line(err):
    assert err.startswith("vivavoce: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert len(err) < 600
    assert err[:-1].isprintable()


def refused(outcome, place, *said):
    assert outcome.code == 2, outcome
    one_line(outcome.err)
    for words in said:
        assert words in outcome.err
    assert outcome.out == ""
    assert list((place / "out").iterdir()) == []


def made(outcome, place, frames=None):
    """A video that plays, sound and picture equally long; returns the number of frames."""
    assert outcome.code == 0, outcome
    assert [entry.name for entry in (place / "out").iterdir()] == ["a.mp4"]
    with av.open(str(place / "out" / "a.mp4")) as box:
        shown = sum(1 for _ in box.decode(video=0))
        seconds = [float(stream.duration * stream.time_base) for stream in box.streams]
    assert shown >= 1
    assert seconds == pytest.approx([shown / 25] * 2, abs=0.04)
    assert frames is None or abs(shown - frames) <= 1
    return shown


def unless_refused(use, path):
    """What ``use`` gives, or None when it refuses ``path`` by name; anything else it raises is a bug."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        try:
            return use()
        except InputError as error:
            if str(path) not in str(error):
                raise
            return None


# --- portraits -----------------------------------------------------------------------------------------------------


def png_header(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (head, body)
    )
    return PNG + b"".join(chunks)


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def written(path, data):
    path.write_bytes(data)
    return path


def saved(path, image, **how):
    image.save(path, **how)
    return path


def noise(width, height, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def folder(path):
    path.mkdir()
    return path


def pipe(path):
    os.mkfifo(path)
    return path


def cover(path):
    """A song with a picture on its cover."""
    with av.open(str(path), "w") as box:
        track = box.add_stream("libmp3lame", rate=44_100, layout="mono")
        art = box.add_stream("png", rate=1)
        art.width, art.height, art.pix_fmt = 64, 64, "rgb24"
        art.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(noise(64, 64), format="rgb24")
        image.pts, image.time_base = 0, Fraction(1)
        box.mux(art.encode(image))
        sound = av.AudioFrame.from_ndarray(sine(220, 0.5, 44_100)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 44_100, 0, Fraction(1, 44_100)
        box.mux(track.encode(sound))
        box.mux(track.encode())
    return path


REFUSED_PORTRAITS = {
    "missing": (lambda d: d / "nobody.jpg", "no file"),
    "a folder": (lambda d: folder(d / "x.png"), "is a folder"),
    "empty": (lambda d: written(d / "x.jpg", b""), "is empty"),
    "one byte": (lambda d: written(d / "x.jpg", b"\xff"), "not of a known kind"),
    "text called .png": (lambda d: written(d / "x.png", b"hello there, I am no picture\n" * 50), "not of a known kind"),
    "a web page": (lambda d: written(d / "x.jpg", b"<!DOCTYPE html><html>404</html>"), "not of a known kind"),
    "a drawing program": (lambda d: written(d / "x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "known kind"),
    "postscript": (lambda d: written(d / "x.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "known kind"),
    "a playlist": (lambda d: written(d / "x.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n"), "not of a known kind"),
    "random bytes": (lambda d: written(d / "x.jpg", noise(50, 50).tobytes()), "not of a known kind"),
    "half a jpeg": (lambda d: cut(picture(d / "x.jpg", 300, 200), 0.5), "damaged"),
    "half a png": (lambda d: cut(saved(d / "x.png", Image.fromarray(noise(90, 90))), 0.5), "damaged"),
    "half a webp": (lambda d: cut(saved(d / "x.webp", Image.fromarray(noise(90, 90))), 0.5), "damaged"),
    "a png header": (lambda d: written(d / "x.png", png_header(64, 64)), "damaged"),
    "a bomb": (lambda d: written(d / "x.png", png_header(100_000, 100_000)), "megapixels"),
    "larger than accepted": (lambda d: written(d / "x.png", png_header(16_000, 10_000)), "128 megapixels"),
    "one pixel": (lambda d: saved(d / "x.png", Image.fromarray(noise(1, 1))), "1x1"),
    "a line": (lambda d: saved(d / "x.png", Image.fromarray(noise(30_000, 2))), "30000x2"),
    "a tiny film": (lambda d: film(d / "x.mp4", frames=3, size=(16, 16)), "16x16"),
    "half a film": (lambda d: cut(film(d / "x.mp4", frames=25), 0.4), "damaged"),
    "sound": (lambda d: wav(d / "x.wav", sine(220, 0.5, 16_000)[None], 16_000), "only sound"),
    "a song with a cover": (lambda d: cover(d / "x.mp3"), "only sound"),
    "a pipe": (lambda d: pipe(d / "x.png"), "not a regular file"),
    "an impossible name": (lambda d: d / ("x" * 300 + ".png"), "x.png"),
    "a name with a zero byte": (lambda d: d / "x\0.png", "no file"),
    "no face": (lambda d: saved(d / "x.png", Image.new("RGB", (64, 64), "blue")), "no face"),
}


@pytest.mark.parametrize("case", REFUSED_PORTRAITS)
def test_portraits_that_cannot_be_used(vivavoce_cli, place, speech, case):
    make, said = REFUSED_PORTRAITS[case]
    refused(vivavoce_cli("animate", make(place / "in"), speech, "-o", place / "out" / "a.mp4"), place, said)


def animation(path):
    shades = [Image.fromarray(noise(64, 48) // (n + 1)) for n in range(4)]
    shades[0].save(path, save_all=True, append_images=shades[1:], duration=80)
    return path


def clear_palette(path):
    image = Image.fromarray(noise(64, 48)).quantize(16)
    image.info["transparency"] = 0
    image.save(path, transparency=0)
    return path


ACCEPTED_PORTRAITS = {
    "grey": lambda d: saved(d / "x.png", Image.fromarray(noise(64, 48)).convert("L")),
    "grey and alpha": lambda d: saved(d / "x.png", Image.fromarray(noise(64, 48)).convert("LA")),
    "16 bits": lambda d: saved(d / "x.png", Image.fromarray(noise(64, 48)[..., 0].astype(np.uint16) * 257)),
    "32-bit tiff": lambda d: saved(d / "x.tiff", Image.fromarray(noise(64, 48)[..., 0].astype(np.float32))),
    "black and white": lambda d: saved(d / "x.png", Image.fromarray(noise(64, 48)).convert("1")),
    "cmyk": lambda d: saved(d / "x.jpg", Image.fromarray(noise(64, 48)).convert("CMYK")),
    "palette with a transparent colour": lambda d: clear_palette(d / "x.png"),
    "alpha": lambda d: saved(d / "x.webp", Image.fromarray(noise(64, 48, 4), "RGBA")),
    "odd size": lambda d: saved(d / "x.png", Image.fromarray(noise(61, 47))),
    "very wide": lambda d: saved(d / "x.png", Image.fromarray(noise(6000, 40))),
    "animated gif": lambda d: animation(d / "x.gif"),
    "animated webp": lambda d: animation(d / "x.webp"),
    "a video": lambda d: film(d / "x.mp4", frames=30, half=True),
    "a png called .jpg": lambda d: picture(d / "x.png", 64, 48).rename(d / "x.jpg"),
    "no suffix, spaces and letters of the world": lambda d: picture(d / "x.png", 64, 48).rename(d / "Frau Müller 李"),
}


@pytest.mark.parametrize("case", ACCEPTED_PORTRAITS)
def test_unusual_portraits_that_work(vivavoce_cli, place, speech, case):
    portrait = ACCEPTED_PORTRAITS[case](place / "in")
    made(vivavoce_cli("animate", portrait, speech, "-o", place / "out" / "a.mp4"), place, frames=13)


@given(
    st.binary(min_size=1, max_size=300),
    st.sampled_from([b"", PNG, b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBP"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_a_portrait_are_read_or_refused(tmp_path, data, start):
    path = written(tmp_path / "x.png", start + data)
    assert unless_refused(lambda: read_source(path).ndim, path) in {4, None}


# --- sound ---------------------------------------------------------------------------------------------------------


def plain_wav(path, samples, rate=16_000, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


REFUSED_SOUND = {
    "missing": (lambda d: d / "nothing.wav", "no file"),
    "a folder": (lambda d: folder(d / "x.wav"), "is a folder"),
    "empty": (lambda d: written(d / "x.wav", b""), "is empty"),
    "zero length": (lambda d: plain_wav(d / "x.wav", b""), "no sound"),
    "half a header": (lambda d: cut(plain_wav(d / "x.wav", b""), 0.5), "x.wav"),
    "text": (lambda d: written(d / "x.wav", b"to be spoken: good morning\n" * 40), "not of a known kind"),
    "a picture": (lambda d: picture(d / "x.png", 64, 48), "not of a known kind"),
    "a silent film": (lambda d: film(d / "x.mp4", frames=10), "no sound in it"),
    "half an m4a": (lambda d: cut(wav(d / "x.m4a", sine(220, 2.0, 44_100)[None], 44_100, codec="aac"), 0.5), "damaged"),
    "a playlist": (lambda d: written(d / "x.m3u8", b"#EXTM3U\n#EXTINF:1,\nspeech.wav\n"), "not of a known kind"),
    "a list of files": (lambda d: written(d / "x.txt", b"ffconcat version 1.0\nfile speech.wav\n"), "known kind"),
}


@pytest.mark.parametrize("case", REFUSED_SOUND)
def test_sound_that_cannot_be_used(vivavoce_cli, place, portrait, speech, case):
    make, said = REFUSED_SOUND[case]
    refused(vivavoce_cli("animate", portrait, make(place / "in"), "-o", place / "out" / "a.mp4"), place, said)


def broken_numbers(path, share):
    samples = sine(220, 0.5, 16_000)[None].copy()
    samples[0, : int(share * 8_000)] = np.nan
    return wav(path, samples, 16_000, codec="pcm_f32le")


def endless(path):
    """A WAV as a live recorder writes it: its header says four gigabytes."""
    data = bytearray(plain_wav(path, (sine(220, 0.5, 16_000) * 9000).astype("<i2").tobytes()).read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    return written(path, bytes(data))


ACCEPTED_SOUND = {
    "silence": (lambda d: plain_wav(d / "x.wav", bytes(16_000)), 13),
    "one sample": (lambda d: plain_wav(d / "x.wav", bytes(2)), 1),
    "8 bits": (lambda d: plain_wav(d / "x.wav", bytes(range(256)) * 20, 8_000, width=1), 16),
    "24 bits": (lambda d: plain_wav(d / "x.wav", bytes(48_000), 32_000, width=3), 13),
    "telephone": (lambda d: wav(d / "x.wav", sine(220, 0.5, 8_000)[None], 8_000), 13),
    "studio": (lambda d: wav(d / "x.wav", np.tile(sine(220, 0.5, 96_000), (6, 1)), 96_000), 13),
    "16 channels": (lambda d: plain_wav(d / "x.wav", bytes(2 * 16 * 8_000), channels=16), 13),
    "mp3": (lambda d: wav(d / "x.mp3", sine(220, 0.5, 44_100)[None], 44_100, codec="libmp3lame"), None),
    "flac": (lambda d: wav(d / "x.flac", sine(220, 0.5, 44_100)[None], 44_100, codec="flac"), 13),
    "ogg": (lambda d: wav(d / "x.ogg", sine(220, 0.5, 48_000)[None], 48_000, codec="libopus"), 13),
    "m4a": (lambda d: wav(d / "x.m4a", sine(220, 0.5, 44_100)[None], 44_100, codec="aac"), 13),
    "a film with sound": (lambda d: film(d / "x.mkv", frames=20, sound_at=[(0.0, 0.5)]), 13),
    "a song with a cover": (lambda d: cover(d / "x.mp3"), None),
    "some samples that are no numbers": (lambda d: broken_numbers(d / "x.wav", 0.01), 13),
    "no sample that is a number": (lambda d: broken_numbers(d / "x.wav", 1.0), 13),
    "a truncated wav": (lambda d: cut(plain_wav(d / "x.wav", bytes(32_000)), 0.5), 13),
    "a truncated mp3": (
        lambda d: cut(wav(d / "x.mp3", sine(220, 1.0, 44_100)[None], 44_100, codec="libmp3lame"), 0.5),
        None,
    ),
    "a length that is not true": (lambda d: endless(d / "x.wav"), 13),
    "called .txt": (lambda d: plain_wav(d / "x.wav", bytes(16_000)).rename(d / "x.txt"), 13),
}


@pytest.mark.parametrize("case", ACCEPTED_SOUND)
def test_unusual_sound_that_works(vivavoce_cli, place, portrait, case):
    make, frames = ACCEPTED_SOUND[case]
    made(vivavoce_cli("animate", portrait, make(place / "in"), "-o", place / "out" / "a.mp4"), place, frames)


@given(st.lists(st.tuples(st.integers(0, 43), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_a_wav_header_is_read_or_refused(tmp_path, damage):
    data = bytearray(plain_wav(tmp_path / "x.wav", bytes(3200)).read_bytes())
    for at, value in damage:
        data[at] = value
    path = written(tmp_path / "x.wav", bytes(data))
    pieces = unless_refused(lambda: list(itertools.islice(read_audio(path), 100)), path)
    assert all(piece.isfinite().all() for piece in pieces or [])


# --- what is typed -------------------------------------------------------------------------------------------------

WRONG_WORDS = {
    "nothing": ("", "required: COMMAND"),
    "an unknown command": ("speak P A", "invalid choice: 'speak'"),
    "no files": ("animate", "required"),
    "no output": ("animate P A", "-o/--output"),
    "an unknown option": ("animate P A -o O --loud", "--loud"),
    "an abbreviated option": ("animate P A -o O --see 3", "--see"),
    "size 0": ("animate P A -o O --size 0", "128 to 1024"),
    "size -1": ("animate P A -o O --size -1", "128 to 1024"),
    "size 10000": ("animate P A -o O --size 10000", "128 to 1024"),
    "an odd size": ("animate P A -o O --size 511", "even"),
    "a size that is no number": ("animate P A -o O --size big", "'big'"),
    "a face that is no place": ("animate P A -o O --face middle", "largest, left, right"),
    "a face below zero": ("animate P A -o O --face=-1", "largest, left, right"),
    "a face that is not there": ("animate P A -o O --face 7", "no face 7"),
    "an unknown emotion": ("animate P A -o O --emotion hangry", "'hangry'"),
    "an unknown system": ("animate P A -o O --system modar", "did you mean 'moda'"),
    "an unknown device": ("animate P A -o O --device gpu", "'gpu'"),
    "an unknown backend": ("animate P A -o O --backend magic", "'magic'"),
    "a pose scale that is no number": ("animate P A -o O --pose-scale nan", "0 to 3"),
    "an endless pose scale": ("animate P A -o O --pose-scale inf", "0 to 3"),
    "a negative mouth gain": ("animate P A -o O --mouth-gain -1", "0 to 2"),
    "too many blinks": ("animate P A -o O --blink-rate 1000", "0 to 120"),
    "half a gaze": ("animate P A -o O --gaze 0.1", "two numbers"),
    "a gaze out of the eye": ("animate P A -o O --gaze 5,0", "-0.3 to 0.3"),
    "a frozen head that moves": ("animate P A -o O --freeze-head --pose-scale 1", "not allowed with"),
    "a negative seed": ("animate P A -o O --seed -1", "whole number"),
    "an endless seed": ("animate P A -o O --seed 9999999999999999999999", "whole number"),
    "a broken seed": ("animate P A -o O --seed 1.5", "whole number"),
    "teeth that are no picture": ("animate P A -o O --teeth A", "not a picture"),
    "a sheet that is no png": ("animate P A -o O --sheet D/x.jpg", ".png"),
    "a sheet in no folder": ("animate P A -o O --sheet D/no/x.png", "folder that exists"),
    "portrait and output are one": ("animate V A -o V", "both input and output"),
    "an output that is a folder": ("animate P A -o D/..", "must be an .mp4"),
    "an output folder that does not exist": ("animate P A -o D/no/such/a.mp4", "does not exist"),
    "an output of another kind": ("animate P A -o D/a.avi", ".mp4"),
    "an output without a name": ("animate P A -o D/", ".mp4"),
    "an output whose name is too long": (f"animate P A -o D/{'x' * 300}.mp4", "cannot be written"),
    "driving by sound": ("reenact P A -o O", "must be a video"),
    "driving by a picture": ("reenact P P -o O", "not of a known kind"),
    "a system that needs a driving video": ("animate P A -o O --system reenact", "reenact"),
    "no recipe": ("train", "required"),
    "no data": ("evaluate", "--data"),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_commands_that_cannot_be_right(vivavoce_cli, place, portrait, speech, case):
    words, said = WRONG_WORDS[case]
    given_ = film(place / "in" / "v.mp4", frames=3)
    out = place / "out"
    names = {"P": portrait, "A": speech, "V": given_, "O": out / "a.mp4", "D": out}
    typed = [str(names.get(word, word)).replace("D/", f"{out}/") for word in words.split()]
    refused(vivavoce_cli(*typed), place, said)


def test_an_output_that_is_a_folder(vivavoce_cli, place, portrait, speech):
    folder(place / "out" / "a.mp4")
    outcome = vivavoce_cli("animate", portrait, speech, "-o", place / "out" / "a.mp4")
    assert outcome.code == 2
    assert "is a folder" in outcome.err
    one_line(outcome.err)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_to(vivavoce_cli, place, portrait, speech):
    outcome = vivavoce_cli("animate", portrait, speech, "-o", "/proc/self/a.mp4")
    refused(outcome, place, "/proc/self")


def test_an_output_that_is_a_device(vivavoce_cli, place, portrait, speech):
    (place / "in" / "full.mp4").symlink_to("/dev/full")
    outcome = vivavoce_cli("animate", portrait, speech, "-o", place / "in" / "full.mp4")
    refused(outcome, place, "is not a file")


def test_an_output_behind_a_link_is_written_where_it_points(vivavoce_cli, place, portrait, speech):
    (place / "in" / "link.mp4").symlink_to(place / "out" / "a.mp4")
    made(vivavoce_cli("animate", portrait, speech, "-o", place / "in" / "link.mp4"), place, 13)
    assert (place / "in" / "link.mp4").is_symlink()


@given(
    st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["animate", "-o", "--size", "--json", "x.mp4", "--seed"])))
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_words_are_refused_in_one_line(vivavoce_cli, words):
    if any(word.startswith(("-h", "--h", "--v")) for word in words):
        return
    outcome = vivavoce_cli(*words)
    assert outcome.code == 2
    one_line(outcome.err)


# --- what happens on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_on_the_way(vivavoce_cli, place, portrait, speech, monkeypatch, number):
    def failing(*shown):
        yield next(real(*shown))
        av.error.err_check(-number)

    real = write._pictures
    monkeypatch.setattr(write, "_pictures", failing)
    outcome = vivavoce_cli("animate", portrait, speech, "-o", place / "out" / "a.mp4")
    refused(outcome, place, os.strerror(number))


def child(code, **variables):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_file_that_may_not_grow(place):
    """A real limit of the system, hit while the index, the frames or the end is written."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from vivavoce.errors import InputError
from vivavoce.media.write import write_video
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
clip = Clip(Span(0, 20), torch.randint(0, 256, (20, 3, 128, 128), dtype=torch.uint8), torch.zeros(12800))
target = Path({str(place / "out")!r}) / "a.mp4"
write_video(target, [clip], Clock())
whole = target.stat().st_size
target.unlink()
for limit in [0, 20, 1000, *range(whole // 7, whole, whole // 7), whole - 1000, whole - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_video(target, [clip], Clock())
        print("written in spite of", limit, "of", whole)
    except InputError as error:
        assert "could not be written" in str(error), error
    assert not list(target.parent.iterdir()), list(target.parent.iterdir())
print("done")
"""
    out, err = child(code).communicate(timeout=100)
    assert (out.strip(), err) == ("done", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_nothing_behind(place, portrait, number, code):
    speech = wav(place / "in" / "long.wav", sine(220, 60.0, 16_000)[None], 16_000)
    (place / "out" / "a.mp4").write_bytes(b"an older video")
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells may have it ignored
        "from vivavoce import registry; registry.BUILT_IN['moda'] = 'fake_system:assemble'\n"
        f"from vivavoce.cli import main; sys.argv[1:] = {['animate', str(portrait), str(speech)]!r}\n"
        f"sys.argv += ['-o', {str(place / 'out' / 'a.mp4')!r}]; sys.exit(main())"
    )
    running = child(program, FAKE_SYSTEM_SECONDS_PER_CLIP="0.1")
    deadline = time.monotonic() + 60
    while len(list((place / "out").iterdir())) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)  # into the middle of the video
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == code
    assert "Traceback" not in err
    if code == 130:
        one_line(err)
    assert [entry.name for entry in (place / "out").iterdir()] == ["a.mp4"]
    assert (place / "out" / "a.mp4").read_bytes() == b"an older video"
