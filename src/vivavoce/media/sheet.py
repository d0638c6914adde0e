"""A contact sheet: a few frames of a video on one picture, to judge it at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.system import Clip

Box = tuple[int, int, int, int]  # left, top, right, bottom in px
REMEMBERED = 720  # px; longest side of the frames kept for a sheet
GAP = 4  # px of white between pictures


def contact_sheet(
    path: str | Path,
    frames: UInt8[Tensor, "n 3 h w"],
    box: Box | None = None,
    *,
    columns: int = 8,
    width: int = 240,
) -> None:
    """Write ``frames`` side by side as a PNG, each ``width`` pixels wide.

    With ``box`` (say, around the mouth) a row of close-ups follows every row of frames. Raises
    :class:`vivavoce.errors.InputError` when there are no frames, the box is empty or the file cannot be written.
    """
    if not len(frames) or columns < 1 or width < 1:
        raise InputError("a contact sheet needs at least one frame, one column and one pixel")
    rows = []
    for part in frames.split(columns):
        rows.append(_row(part, columns, width))
        if box:
            rows.append(_row(_cut(part, box), columns, width))
    space = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    page = np.concatenate([piece for row in rows for piece in (row, space)][:-1])
    try:
        Image.fromarray(page).save(path, format="PNG")
    except OSError as error:
        raise InputError(f"the sheet {path} could not be written: {error.strerror or error}") from error


def _cut(frames: UInt8[Tensor, "n 3 h w"], box: Box) -> UInt8[Tensor, "n 3 hb wb"]:
    left, top, right, bottom = (max(0, side) for side in box)
    close = frames[:, :, top:bottom, left:right]
    if not close.numel():
        raise InputError(f"the box {box} is outside the {frames.shape[3]}x{frames.shape[2]} frames")
    return close


def _small(picture: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h2 w2"]:
    """A copy that is at most REMEMBERED pixels long."""
    scale = min(1.0, REMEMBERED / max(picture.shape[1:]))
    size = (max(1, round(picture.shape[2] * scale)), max(1, round(picture.shape[1] * scale)))
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
    return torch.from_numpy(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)).permute(2, 0, 1)


def _row(frames: UInt8[Tensor, "n 3 h w"], columns: int, width: int) -> np.ndarray:
    """One row of the page [height, columns * (width + gap) - gap, 3]; missing pictures stay white."""
    height = max(1, round(width * frames.shape[2] / frames.shape[3]))
    row = np.full((height, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    kind = cv2.INTER_AREA if width < frames.shape[3] else cv2.INTER_CUBIC
    for index, frame in enumerate(frames):
        picture = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
        left = index * (width + GAP)
        row[:, left : left + width] = cv2.resize(picture, (width, height), interpolation=kind)
    return row


def moving_box(frames: UInt8[Tensor, "n 3 h w"]) -> Box | None:
    """The square in which nearly all movement is, or None when that is most of the picture or nothing moves."""
    change = frames.float().mean(1).std(0, correction=0)
    height, width = change.shape
    if change.max() < 1:
        return None
    moving = (change - 0.2 * change.max()).clamp(min=0)  # the rest is noise and the odd hair
    left, right = _middle(moving.sum(0))
    top, bottom = _middle(moving.sum(1))
    half = round(0.7 * max(right - left, bottom - top) + 8)
    if 2 * half > 0.7 * min(height, width):
        return None
    x = min(max((left + right) // 2, half), width - half)
    y = min(max((top + bottom) // 2, half), height - half)
    return x - half, y - half, x + half, y + half


def _middle(weight: Float[Tensor, " n"]) -> tuple[int, int]:
    """Where the middle 96% of ``weight`` begin and end."""
    share = weight.cumsum(0) / weight.sum()
    return int((share < 0.02).sum()), int((share < 0.98).sum())


def watched(clips: Iterable[Clip], count: int) -> tuple[Iterator[Clip], Callable[[], UInt8[Tensor, "n 3 h w"]]]:
    """``clips`` unchanged, and a function that gives about ``count`` frames spread evenly over what has passed.

    Remembers at most twice ``count`` frames, scaled down to 720 pixels, however long the video gets: when it has
    too many, every second goes.
    """
    kept: dict[int, Tensor] = {}
    apart = 1

    def passing() -> Iterator[Clip]:
        nonlocal apart
        for clip in clips:
            for frame, picture in zip(range(clip.span.start, clip.span.stop), clip.rgb, strict=True):
                if frame % apart == 0:
                    kept[frame] = _small(picture)
                if len(kept) > 2 * count:
                    apart *= 2
                    for old in [number for number in kept if number % apart]:
                        del kept[old]
            yield clip

    def frames() -> UInt8[Tensor, "n 3 h w"]:
        order = sorted(kept)
        picked = torch.linspace(0, len(order) - 1, min(count, len(order))).round().int().tolist()
        return torch.stack([kept[order[index]] for index in picked])

    return passing(), frames
