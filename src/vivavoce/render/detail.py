"""Detail finer than what networks paint: taken from the portrait, and carried along with what they take from it."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


def finer(picture: UInt8[np.ndarray, "s s 3"], side: int) -> Float32[np.ndarray, "s s 3"]:
    """What ``picture`` loses when it is made ``side`` pixels wide and large again, in grey levels."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    return picture - _enlarged(small, picture.shape[0])


def laid(
    painted: Float32[np.ndarray, "h h 3"],
    flow: Float32[np.ndarray, "h h 2"],
    taken: Float32[np.ndarray, "h h"],
    detail: Float32[np.ndarray, "s s 3"],
) -> UInt8[np.ndarray, "s s 3"]:
    """``painted`` as large as ``detail``, which comes along from where the flow takes each place.

    Args:
        painted: grey levels in [0, 255], but for rounding.
        flow: x and y of places in the source, in half widths of the picture, its edges at -1 and 1.
        taken: how much of each place is taken from the source; the rest is invented and has no detail.
        detail: what :func:`finer` found in the source.
    """
    side = detail.shape[0]
    where = cv2.resize(
        (flow + 1) * np.float32(side / 2) - np.float32(0.5), (side, side), interpolation=cv2.INTER_LINEAR
    )
    x, y = cv2.split(where)
    carried = cv2.remap(detail, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    share = cv2.resize(taken, (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.add(_enlarged(painted, side), cv2.multiply(carried, cv2.merge([share] * 3)), dtype=cv2.CV_8U)


def _enlarged(small: Float32[np.ndarray, "h h 3"], side: int) -> Float32[np.ndarray, "s s 3"]:
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
