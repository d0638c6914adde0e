"""Arithmetic of the keypoint space: rows to keypoints and back, one face's motion put on another's.

Conventions of LivePortrait (Guo et al. 2024): keypoints are row vectors in half widths of the picture, x right, y down,
z in; ``x = scale (canonical R + expression) + translation``, of whose translation only x and y count.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import ConvexHull
from torch import Tensor

from vivavoce.motion.space import KEYPOINT
from vivavoce.nets.motion_extractor import Heads

POINTS = 21
LIPS = (6, 12, 14, 17, 19, 20)
EYES = (11, 13, 15, 16, 18)
Region = Literal["all", "expression", "lips", "eyes", "pose"]
REGIONS: tuple[Region, ...] = ("all", "expression", "lips", "eyes", "pose")
# What of an expression is a performance and not a face's own shape: taken over when motion is absolute.
_PERFORMED_WHOLE = (1, 2, 6, *range(11, 21))
_PERFORMED_AXES = ((3, 1), (4, 1), (5, 2), (8, 2), (9, 1), (9, 2))  # (keypoint, axis)
# Expression of lips at rest that a single driving picture is compared with (the main entries of the published
# constant, in canonical units): (keypoint, axis, value).
_LIPS_AT_REST = (
    (19, 1, -0.01509), (19, 2, -0.002549), (20, 1, 0.005628), (20, 2, 0.002726), (20, 0, 0.000223), (7, 1, 0.002633),
    (7, 0, -0.000541), (14, 0, -0.000833), (14, 1, -0.001796), (17, 0, -0.000637), (17, 1, -0.001166), (1, 1, 0.000468),
    (3, 1, -0.000457), (9, 2, -0.000409),
)  # fmt: skip
_GAZE_X = ((11, 0, 0.0007), (15, 0, 0.001))  # per unit of looking to the right, and the other way round to the left
# Per unit of looking up; the lids follow.
_GAZE_Y = ((11, 1, -0.0005), (15, 1, -0.0005), (13, 1, -0.00015), (16, 1, -0.00015))


def rotation(degrees: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Pitch, yaw, roll in degrees -> the matrix ``(Rz(roll) Ry(yaw) Rx(pitch))^T`` that row vectors are put before."""
    pitch, yaw, roll = torch.deg2rad(degrees).unbind(-1)
    (cx, cy, cz), (sx, sy, sz) = ((f(pitch), f(yaw), f(roll)) for f in (torch.cos, torch.sin))
    rows = (
        (cz * cy, sz * cy, -sy),
        (cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx),
        (cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def angles(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Inverse of :func:`rotation` for yaw within ±90 degrees."""
    pitch = torch.atan2(matrix[..., 1, 2], matrix[..., 2, 2])
    yaw = torch.asin((-matrix[..., 0, 2]).clamp(-1, 1))
    roll = torch.atan2(matrix[..., 0, 1], matrix[..., 0, 0])
    return torch.rad2deg(torch.stack([pitch, yaw, roll], -1))


def degrees(logits: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Expected angle over bins of 3 degrees; the first bin is -97.5."""
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    return (logits.float().softmax(-1) * bins).sum(-1) * 3 - 97.5


def decoded(heads: Heads) -> tuple[Float[Tensor, "b 70"], Float[Tensor, "b 21 3"]]:
    """What the motion extractor says -> rows of the space, and the person's canonical keypoints."""
    turned = torch.stack([degrees(heads.pitch), degrees(heads.yaw), degrees(heads.roll)], -1)
    parts = (heads.expression, heads.scale, heads.translation, turned)
    return torch.cat([part.float() for part in parts], -1), heads.canonical.float().unflatten(-1, (POINTS, 3))


def placed(rows: Float[Tensor, "*b 70"], canonical: Float[Tensor, "*c 21 3"]) -> Float[Tensor, "*d 21 3"]:
    """Keypoints of motion rows, for the person with these canonical ones (shapes before the last are broadcast)."""
    part = KEYPOINT.unpack(rows)
    turned = canonical @ rotation(part["rotation"])
    return part["scale"].unsqueeze(-1) * (turned + part["expression"]) + _moved(part["translation"])


def explained(
    points: Float[Tensor, "*b 21 3"], rows: Float[Tensor, "*b 70"], canonical: Float[Tensor, "*c 21 3"]
) -> Float[Tensor, "*b 70"]:
    """``rows`` with the expression that makes :func:`placed` give ``points``; pose, scale and place are kept."""
    part = KEYPOINT.unpack(rows)
    turned = canonical @ rotation(part["rotation"])
    expression = (points - _moved(part["translation"])) / part["scale"].unsqueeze(-1) - turned
    return KEYPOINT.pack({**part, "expression": expression})


def transferred(
    driver: Float[Tensor, "t 70"],
    first: Float[Tensor, "70"],
    own: Float[Tensor, "t 70"],
    *,
    relative: bool = True,
    region: Region = "all",
) -> Float[Tensor, "t 70"]:
    """A driver's motion on another face.

    Args:
        driver: what the driver does.
        first: what the driver does when the motion begins; with ``relative`` only changes from it count.
        own: the other face's own motion at these frames.
        relative: add the changes to the face's own motion. Otherwise pose and performance are the driver's,
            while the face keeps its scale and what belongs to its shape.
        region: what moves; the rest stays as in ``own``.
    """
    theirs, begin, mine = (KEYPOINT.unpack(rows) for rows in (driver, first.expand_as(driver), own))
    out = dict(mine)
    if region in ("all", "pose"):
        out["rotation"], out["translation"] = theirs["rotation"], theirs["translation"]
        if relative:
            turn = rotation(theirs["rotation"]) @ rotation(begin["rotation"]).mT
            out["rotation"] = angles(turn @ rotation(mine["rotation"]))
            out["translation"] = mine["translation"] + theirs["translation"] - begin["translation"]
    if region == "all" and relative:
        out["scale"] = mine["scale"] * theirs["scale"] / begin["scale"]
    moves = part_of_expression(region, relative=relative).to(driver.device)
    expression = theirs["expression"]
    if relative:
        expression = mine["expression"] + expression - begin["expression"]
    out["expression"] = torch.where(moves, expression, mine["expression"])
    return KEYPOINT.pack(out)


def part_of_expression(region: Region, *, relative: bool) -> Bool[Tensor, "21 3"]:
    """Which numbers of an expression a region moves."""
    mask = torch.zeros(POINTS, 3, dtype=torch.bool)
    if region in ("all", "expression"):
        mask[list(range(POINTS) if relative else _PERFORMED_WHOLE)] = True
        for point, along in _PERFORMED_AXES:
            mask[point, along] = True
    elif region in ("lips", "eyes"):
        mask[list(LIPS if region == "lips" else EYES)] = True
    return mask


def at_rest(row: Float[Tensor, "70"]) -> Float[Tensor, "70"]:
    """The beginning that a single driving picture is compared with: its own pose, lips at rest."""
    part = KEYPOINT.unpack(row)
    expression = torch.zeros_like(part["expression"])
    for point, along, value in _LIPS_AT_REST:
        expression[point, along] = value
    return KEYPOINT.pack({**part, "expression": expression})


def reach(source: Float[Tensor, "21 3"], begin: Float[Tensor, "21 3"]) -> float:
    """How much wider the source face moves than one that begins at ``begin``: root of the hulls' volume ratio."""
    volumes = [ConvexHull(points.double().cpu().numpy()).volume for points in (source, begin)]
    return float(np.sqrt(volumes[0] / volumes[1]))


def stitched(change: Float[Tensor, "b 65"], driving: Float[Tensor, "b 21 3"]) -> Float[Tensor, "b 21 3"]:
    """Driving keypoints with what the stitching network wants changed: each by itself, then all together."""
    moved = driving + change[:, :-2].unflatten(-1, (POINTS, 3))
    return moved + torch.nn.functional.pad(change[:, None, -2:], (0, 1))


def looking(rows: Float[Tensor, "*b 70"], right: float, up: float) -> Float[Tensor, "*b 70"]:
    """Turn the eyes: ``right`` and ``up`` in the published editor's units, in which 15 is far aside.

    The eyeballs' keypoints shift; to each side the eye on that side shifts more.
    """
    expression = torch.zeros(POINTS, 3)
    for point, along, step in _GAZE_X if right > 0 else tuple((26 - p, a, s) for p, a, s in _GAZE_X):
        expression[point, along] += step * right
    for point, along, step in _GAZE_Y:
        expression[point, along] += step * up
    at = KEYPOINT.slice("expression")
    changed = rows.clone()
    changed[..., at] += expression.flatten().to(rows.device)
    return changed


def _moved(translation: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 1 3"]:
    """Depth is dropped: the picture does not show it."""
    return (translation * translation.new_tensor([1.0, 1.0, 0.0])).unsqueeze(-2)
