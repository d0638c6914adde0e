"""Still pictures and short animations: any common file in, upright sRGB bytes out."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.media.container import existing

# Formats Pillow decodes by itself; EPS and WMF are left out because they run other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "MPO", "JPEG2000", "TGA", "QOI")
KINDS = "JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP"
MIN_SIDE = 32  # px; nothing smaller shows a face
MAX_SIDE = 4096  # px; longer pictures are scaled down to this
MAX_PIXELS = 128_000_000  # a 108-megapixel phone picture passes, a decompression bomb does not


def read_image(path: str | Path, *, long_side: int = MAX_SIDE) -> UInt8[Tensor, "1 3 h w"]:
    """One upright sRGB picture. The first one of a file that holds several.

    EXIF orientation and colour profiles are applied, grey, 16-bit, CMYK and palette pictures converted, and
    transparent parts laid on white. Pictures longer than ``long_side`` pixels are scaled down to it.

    Raises :class:`vivavoce.errors.InputError` when ``path`` is not a picture, is damaged, has a side under 32
    pixels or more than 128 megapixels.
    """
    path = Path(path)
    with _opened(path) as picture:
        return _tensor(_loaded(path, picture, long_side))[None]


def is_picture(path: Path) -> bool:
    """Does the file start like one of the picture formats we read? Says nothing about whether it is whole."""
    existing(path)
    try:
        with Image.open(path, formats=_formats()):
            return True
    except Image.DecompressionBombError:
        return True
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return False


def read_animation(path: Path, *, seconds_apart: float, frames: int, long_side: int) -> UInt8[Tensor, "s 3 h w"]:
    """Pictures of an animated GIF, WebP or PNG as shown every ``seconds_apart`` seconds; at most ``frames``.

    A still picture gives one frame. Raises :class:`vivavoce.errors.InputError` like :func:`read_image`.
    """
    with _opened(path) as picture:
        # A photo with a depth map or a preview beside it (MPO, multi-page TIFF) is no animation.
        if getattr(picture, "n_frames", 1) == 1 or picture.format not in {"GIF", "WEBP", "PNG", "AVIF"}:
            return _tensor(_loaded(path, picture, MAX_SIDE))[None]
        return stacked(_shown(path, picture, seconds_apart, long_side), frames)


def stacked(frames: Iterable[UInt8[Tensor, "3 h w"]], limit: int) -> UInt8[Tensor, "s 3 h w"]:
    """The first ``limit`` of ``frames`` as one tensor, without holding any of them twice."""
    film: Tensor | None = None
    count = 0
    for frame in itertools.islice(frames, limit):
        if film is None:
            film = torch.empty(limit, *frame.shape, dtype=torch.uint8)  # what stays unwritten takes no memory
        film[count] = frame
        count += 1
    if film is None:
        raise InputError("a portrait needs at least one frame")
    return film[:count]


def _shown(path: Path, film: Image.Image, seconds_apart: float, long_side: int) -> Iterator[UInt8[Tensor, "3 h w"]]:
    now = 0.0  # time at which the next picture is taken
    ends = 0.0  # time at which the current one disappears
    for picture in ImageSequence.Iterator(film):
        # Browsers show frames without a duration for a tenth of a second.
        ends += (picture.info.get("duration") or 100) / 1000
        if now < ends:
            frame = _tensor(_loaded(path, picture.copy(), long_side))
            while now < ends:
                yield frame
                now += seconds_apart


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _opened(path: Path) -> Image.Image:
    existing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=_formats())
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: at most {MAX_PIXELS // 1_000_000} megapixels are accepted") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} is damaged or not a picture of a known kind ({KINDS})") from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path} has {width}x{height} pixels: at most {MAX_PIXELS // 1_000_000} megapixels are accepted"
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path} has only {width}x{height} pixels: a face needs at least {MIN_SIDE} each way")
    return picture


def _loaded(path: Path, picture: Image.Image, long_side: int) -> Image.Image:
    """Decode, shrink, turn upright, convert to RGB."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and transparency; nothing the user can act on
            picture.draft("RGB", (long_side, long_side))  # JPEG: decode at a fraction when that is enough
            picture.load()
            picture = _eight_bit(picture)
            if max(picture.size) > long_side:
                scale = long_side / max(picture.size)
                size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
                if picture.mode == "P":
                    picture = picture.convert("RGBA")
                picture = picture.resize(size, Image.Resampling.LANCZOS)
            return _srgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: at most {MAX_PIXELS // 1_000_000} megapixels are accepted") from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError) as error:
        # What Pillow's decoders raise for damaged data; all of it means the same to the user.
        raise InputError(f"{path} is a damaged picture: {error}") from error


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey scaled to 0-255 (Pillow would clip them)."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = values.max(initial=0.0)
    full = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    if picture.mode.startswith("I"):
        full = max(full, 65535.0 if "16" in picture.mode else 255.0)
    bytes_ = (values / full * 255).round().clip(0, 255).astype(np.uint8)
    grey = Image.fromarray(bytes_)
    grey.info = dict(picture.info)
    return grey


def _srgb(picture: Image.Image) -> Image.Image:
    """RGB in sRGB; transparent parts on white."""
    if "transparency" in picture.info or picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"}:
        clear = picture.convert("RGBA")
        paper = Image.new("RGBA", clear.size, "white")
        paper.alpha_composite(clear)
        return _profiled(paper.convert("RGB"), picture.info.get("icc_profile"))
    if picture.mode in {"RGB", "CMYK", "L"}:
        return _profiled(picture, picture.info.get("icc_profile"))
    return picture.convert("RGB")


def _profiled(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Through the colour profile where it is there and sound, else as if it were sRGB."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            shown = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            shown = None  # a profile for another kind of picture, or a broken one
        if shown is not None:
            return shown
    return picture.convert("RGB")


def _tensor(picture: Image.Image) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
