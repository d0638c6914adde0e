"""Recordings -> implicit motion codes, frame by frame, as the renderer's networks read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from vivavoce.data.clips import Recording
from vivavoce.data.crops import standing
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.media.read import read_video
from vivavoce.render.aligned import crop, image
from vivavoce.render.implicit import SQUARE, ImplicitRenderer
from vivavoce.streams import inferring
from vivavoce.timeline import Clock

AT_ONCE = 16  # frames


@dataclass(frozen=True, slots=True)
class Codes:
    """Motion of one clip. Frame n is frame n of the prepared clip of the same name."""

    name: str
    speaker: str
    codes: Float32[np.ndarray, "t d"]
    valid: Bool[np.ndarray, " t"]  # the face was seen


def extract(
    pairs: Iterable[tuple[Recording, Prepared]], renderer: ImplicitRenderer, out: Path, report: Callable[[str], None]
) -> None:
    """Read the codes of every recording into ``out`` unless that is already done; resumable, clip by clip.

    Each is seen through a square that stands still, like the frames that the networks learned from.
    """
    out.mkdir(parents=True, exist_ok=True)
    for recording, clip in pairs:
        target = out / f"{recording.name}.npz"
        if target.exists():
            continue
        codes = np.concatenate(list(inferring(_read(recording, clip, renderer))))[: len(clip.valid)]
        found = Codes(clip.name, clip.speaker, codes, clip.valid[: len(codes)])
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **{field.name: getattr(found, field.name) for field in fields(found)})
        part.replace(target)
        report(f"{recording.name}: {len(codes)} frames")


def _read(recording: Recording, clip: Prepared, renderer: ImplicitRenderer) -> Iterator[Float32[np.ndarray, "_t d"]]:
    square = standing(clip, SQUARE[:2])

    def seen(frame: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 s s"]:
        inside = upright.within(square, frame.shape[2], frame.shape[1])
        return crop(image(frame), inside, renderer.side, renderer.side)

    crops = (seen(frame) for frame in read_video(recording.path, Clock().fps))
    while some := list(islice(crops, AT_ONCE)):
        yield renderer.watched(torch.stack(some)).numpy()


def load(file: Path) -> Codes:
    """Read what :func:`extract` wrote. Raises :class:`InputError` for any other file."""
    try:
        with np.load(file, allow_pickle=False) as found:
            values: dict[str, Any] = {field.name: found[field.name] for field in fields(Codes)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} holds no motion codes: {error}") from error
    values |= {name: str(value) for name, value in values.items() if not value.ndim}
    return Codes(**values)
