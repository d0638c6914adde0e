"""The person cut out of the picture, and the background behind: so that a turning head drags no wall along."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vivavoce.face.mesh import OVAL

Picture = UInt8[np.ndarray, "h w 3"]
Matte = Float32[np.ndarray, "h w"]

_COVERED = 0.93  # part of the face that a usable matte must call person
_DISTANT = 0.9  # part of the region beyond which a matte that covers it separates nothing


@dataclass(frozen=True, slots=True)
class Layers:
    """A picture as a person over a background."""

    foreground: UInt8[np.ndarray, "h w 4"]  # colours (not premultiplied) and opacity
    plate: UInt8[np.ndarray, "h w 3"]  # the background, filled in behind the person
    separate: bool  # False: no usable matte; the foreground is the whole picture


def split_layers(picture: Picture, matte: Matte | None, landmarks: np.ndarray, others: list[np.ndarray]) -> Layers:
    """Split ``picture`` into the person and what is behind.

    Args:
        picture: the region that is redrawn.
        matte: how much each pixel belongs to a person, in [0, 1], or ``None``.
        landmarks: the face that moves, ``[478 3]`` in pixels of ``picture``.
        others: the other faces; people nearer to them than to ``landmarks`` stay in the background.
    """
    opacity = None if matte is None else _refine(picture, matte)
    if opacity is None or not _usable(opacity, landmarks):
        opaque = np.full(picture.shape[:2], 255, np.uint8)
        return Layers(np.dstack([picture, opaque]), picture.copy(), separate=False)
    opacity = opacity * _ours(picture.shape[:2], landmarks, others)
    plate = _plate(picture, opacity)
    return Layers(_foreground(picture, opacity, plate), plate, separate=True)


def fill_smoothly(picture: Float32[np.ndarray, "h w c"], known: Matte) -> Float32[np.ndarray, "h w c"]:
    """Fill the unknown pixels with smooth continuations of the known ones (pull-push, Gortler et al. 1996).

    Args:
        picture: any channels.
        known: weight of each pixel in [0, 1]; those near 0 are replaced.
    """
    height, width = known.shape
    if min(height, width) < 2:
        total = float(known.sum())
        mean = (picture * known[..., None]).sum((0, 1)) / max(total, 1e-6)
        return np.where(known[..., None] > 0.5, picture, mean.astype(np.float32))
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(picture * known[..., None], half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1)
    coarse = sums / np.maximum(weight, 1e-6)[..., None]
    coarse = fill_smoothly(coarse, np.minimum(1, 2 * weight))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(picture.shape)
    return (fine + (picture - fine) * known[..., None]).astype(np.float32)


def _refine(picture: Picture, matte: Matte) -> Matte:
    """Snap the coarse matte to the edges of the picture: guided filter (He et al. 2010), colour as the guide."""
    guide = picture.astype(np.float32) / 255
    radius = max(4, round(0.016 * max(matte.shape)))

    def mean(a: np.ndarray) -> np.ndarray:
        return cv2.blur(a, (2 * radius + 1, 2 * radius + 1))

    mean_guide, mean_matte = mean(guide), mean(matte)
    cross = mean(guide * matte[..., None]) - mean_guide * mean_matte[..., None]
    outer = mean((guide[..., :, None] * guide[..., None, :]).reshape(*matte.shape, 9)).reshape(*matte.shape, 3, 3)
    covariance = outer - mean_guide[..., :, None] * mean_guide[..., None, :] + 2e-4 * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0].astype(np.float32)
    offset = mean_matte - (slope * mean_guide).sum(-1)
    refined = (mean(slope) * guide).sum(-1) + mean(offset)
    # Where the network itself is sure, believe it: the guide errs in shadows and on patterned clothes.
    sure = np.clip((np.abs(cv2.blur(matte, (2 * radius + 1,) * 2) - 0.5) - 0.42) / 0.06, 0, 1)
    refined = refined + (np.round(matte) - refined) * sure
    return np.clip((refined - 0.08) / 0.84, 0, 1).astype(np.float32)


def _usable(opacity: Matte, landmarks: np.ndarray) -> bool:
    oval = np.zeros(opacity.shape, np.uint8)
    cv2.fillPoly(oval, [np.round(landmarks[list(OVAL), :2]).astype(np.int32)], 1)
    inside = opacity[oval > 0]
    return bool(len(inside) and inside.mean() > _COVERED and opacity.mean() < _DISTANT)


def _ours(shape: tuple[int, int], landmarks: np.ndarray, others: list[np.ndarray]) -> Matte:
    """1 where a pixel is nearer to our face than to any other, counted in face sizes; a narrow ramp between."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)

    def distance(points: np.ndarray) -> np.ndarray:
        middle, extent = points[:, :2].mean(0), np.ptp(points[:, :2], axis=0).max()
        return np.hypot(columns - middle[0], rows - middle[1]) / max(1.0, extent)

    keep = np.ones(shape, np.float32)
    for other in others:
        margin = distance(other) - distance(landmarks)
        keep *= np.clip(0.5 + margin / 0.04, 0, 1).astype(np.float32)
    return keep


def _plate(picture: Picture, opacity: Matte) -> Picture:
    """The background, continued behind the person: at a quarter of the size what is near goes on (Telea 2004)."""
    reach = max(5, round(0.02 * max(opacity.shape))) | 1
    hole = cv2.dilate((opacity > 0.04).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    image, known = picture.astype(np.float32), 1 - hole.astype(np.float32)
    height, width = opacity.shape
    small = (max(2, width // 4), max(2, height // 4))
    share = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
    coarse = (
        cv2.resize(image * known[..., None], small, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-3)[..., None]
    )
    filled = cv2.inpaint(np.clip(coarse, 0, 255).astype(np.uint8), (share < 0.1).astype(np.uint8), 4, cv2.INPAINT_TELEA)
    filled = cv2.resize(cv2.GaussianBlur(filled, (0, 0), 1.2).astype(np.float32), (width, height))
    seam = cv2.GaussianBlur(known, (0, 0), 2)[..., None] * known[..., None]
    return np.clip(filled + (image - filled) * seam + 0.5, 0, 255).astype(np.uint8)


def _foreground(picture: Picture, opacity: Matte, plate: Picture) -> UInt8[np.ndarray, "h w 4"]:
    """Colours of the person alone: at the edge the background's share is taken out (Porter & Duff 1984, solved).

    The opacity is the one with which colours from further inside explain the picture best, together with the matte's;
    then the colours are those that give back the picture exactly.
    """
    image, behind = picture.astype(np.float32), plate.astype(np.float32)
    inner = fill_smoothly(image, (opacity > 0.97).astype(np.float32))
    span, differs = inner - behind, image - behind
    best = (differs * span).sum(-1) / np.maximum(np.square(span).sum(-1), 64.0)
    alpha = 0.5 * (np.clip(best, 0, 1) + opacity)
    # No colour is darker than black or lighter than white: what differs more from the background is more opaque.
    least = np.where(differs > 0, differs / np.maximum(255 - behind, 1), -differs / np.maximum(behind, 1)).max(-1)
    alpha = np.clip(np.maximum(alpha, least), 0, 1)
    alpha = np.ceil(np.where(opacity > 0.97, 1.0, np.where(opacity < 0.02, 0.0, alpha)) * 255)
    solved = behind + differs * 255 / np.maximum(alpha, 1)[..., None]
    colour = np.where(alpha[..., None] > 0, solved, inner)
    return np.dstack([np.clip(colour + 0.5, 0, 255), alpha]).astype(np.uint8)
