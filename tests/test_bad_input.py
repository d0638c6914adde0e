"""What people really give: every file ends with one clear line or with a valid video, and never with half a file."""

import itertools
import os
import struct
import wave
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from media_files import film, picture, sine, wav
from outcomes import made, refused, unless_refused
from PIL import Image

from vivavoce.media.read import read_audio, read_source

PNG = b"\x89PNG\r\n\x1a\n"


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
    "65 channels": (lambda d: plain_wav(d / "x.wav", bytes(6500), channels=65), "65 channels"),
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
@example([(22, 65)])  # channels
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_a_wav_header_is_read_or_refused(tmp_path, damage):
    data = bytearray(plain_wav(tmp_path / "x.wav", bytes(3200)).read_bytes())
    for at, value in damage:
        data[at] = value
    path = written(tmp_path / "x.wav", bytes(data))
    pieces = unless_refused(lambda: list(itertools.islice(read_audio(path), 100)), path)
    assert all(piece.isfinite().all() for piece in pieces or [])
