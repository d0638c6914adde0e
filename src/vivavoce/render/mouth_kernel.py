"""The inner loops of the mouth: each pixel between the lips is cavity, tongue, lower or upper tooth, lit and shaded."""

from __future__ import annotations

import math

import numpy as np

from vivavoce.render.raster import kernel

ONE, ZERO = np.float32(1), np.float32(0)
# Channels of a layer: colour, opacity, row and column in the grid of looks, share of the lip's wet inside.
RED, OPACITY, ROW, COLUMN, WET, LAYER = 0, 3, 4, 5, 6, 7


@kernel
def draw_interior(  # noqa: PLR0913, PLR0915, PLR0917
    corner,
    inverse,
    lips,
    arches,
    upper,
    lower,
    tongue,
    colours,
    frame,
    levels,
    layer,
    sums,
):
    """Draw what lies between the lips.

    Args:
        corner: float32 ``[2]``, x and y of the box's first pixel in the mouth's frame.
        inverse: float32 ``[2 2]``, pixels to the mouth's frame (face widths; x along, y down the face).
        lips: float32 ``[n 4]``: x (rising, evenly spaced), y of the upper and lower lip, landmark index in [0, 1].
        arches: float32 ``[2 n 4]``, for the upper and lower row at the x of ``lips``: arc length, y of the incisal
            edge, brightness, and whether there is a tooth at all.
        upper: float32 ``[h w 4]``, premultiplied row of teeth (see teeth.py).
        lower: the same for the lower row.
        tongue: float32 ``[h w]``, its texture, mean 0, over the mouth's frame.
        colours: float32 ``[4 3]``: white tooth, cavity, tongue and inner lip in the light of this picture, 0-255.
        frame: float32 ``[5]``: pixels per face width of the pictures, y of the upper row's picture above its edges,
            y of the lower row's, half the length of a row, and opacity of the lips' edge per face width.
        levels: float32 ``[7]``: height, middle, half width and brightness of the tongue, brightness of all, share of
            light kept in the corners, and depth of the upper lip's shadow.
        layer: float32 ``[h w 7]``, written; see above.
        sums: float32 ``[3 rows columns]``, zero at the start: luminance, redness and number of pixels per cell.
    """
    height, width, count = layer.shape[0], layer.shape[1], lips.shape[0]
    rows, columns = sums.shape[1], sums.shape[2]
    first, step = lips[0, 0], (lips[count - 1, 0] - lips[0, 0]) / np.float32(count - 1)
    per_unit, sharp = frame[0], frame[4]
    tongue_high, tongue_x, tongue_wide, tongue_light, light, corners, shade = levels
    for py in range(height):
        for px in range(width):
            layer[py, px, OPACITY] = ZERO
            x = corner[0] + inverse[0, 0] * px + inverse[0, 1] * py
            y = corner[1] + inverse[1, 0] * px + inverse[1, 1] * py
            at = (x - first) / step
            if at <= 0 or at >= count - 1:
                continue
            i = int(at)
            f = np.float32(at - i)
            g = ONE - f
            top, bottom = lips[i, 1] * g + lips[i + 1, 1] * f, lips[i, 2] * g + lips[i + 1, 2] * f
            gap = bottom - top
            t, b = y - top, bottom - y
            alpha = min(max(t * sharp + np.float32(0.7), ZERO), ONE) * min(max(b * sharp + np.float32(1.0), ZERO), ONE)
            alpha *= min(max(gap * sharp - np.float32(0.3), ZERO), ONE)
            if alpha <= np.float32(0.002):
                continue
            t, b, gap = max(t, ZERO), max(b, ZERO), max(gap, np.float32(1e-4))
            across = lips[i, 3] * g + lips[i + 1, 3] * f
            side = abs(2 * across - ONE)
            # Light enters between the lips: least right under the upper lip and in the corners.
            lit = (ONE - shade * math.exp(-t / np.float32(0.011))) * (
                ONE - np.float32(0.22) * math.exp(-b / np.float32(0.006))
            )
            lit *= light * (ONE - (ONE - corners) * side * side * side)
            # Cavity: darkest under the upper teeth, a little of the tongue's red further down.
            low = ONE - b / gap
            deep = (
                np.float32(0.55) + np.float32(0.9) * low * low + min(gap * np.float32(5), ONE) * np.float32(0.5) * lit
            )
            red, green, blue = colours[1, 0] * deep, colours[1, 1] * deep, colours[1, 2] * deep
            # Tongue: a dome that rises behind the lower teeth and darkens towards the throat.
            u = (x - tongue_x) / tongue_wide
            dome = bottom + np.float32(0.012) - tongue_high * (ONE - np.float32(0.55) * u * u * u * u)
            on = min(max((y - dome) / np.float32(0.03) + np.float32(0.5), ZERO), ONE)
            on *= min(max((np.float32(1.35) - abs(u)) * np.float32(1.7), ZERO), ONE)
            if on > 0:
                on = on * on * (3 - 2 * on)
                depth = min(max((y - dome) / max(tongue_high, np.float32(0.01)), ZERO), ONE)
                gy, gx = int((y + np.float32(0.2)) * per_unit), int((x + np.float32(0.36)) * per_unit)
                rough = ZERO
                if 0 <= gy < tongue.shape[0] and 0 <= gx < tongue.shape[1]:
                    rough = tongue[gy, gx]
                groove = np.float32(0.12) * math.exp(-u * u * np.float32(60)) * depth
                rise = ONE - (ONE - depth) * (ONE - depth)
                own = (np.float32(0.18) + np.float32(0.77) * rise - groove + rough) * (
                    ONE - np.float32(0.4) * min(u * u, ONE)
                )
                own *= tongue_light * min(lit * np.float32(1.15), np.float32(1.1))
                red += (colours[2, 0] * own - red) * on
                green += (colours[2, 1] * own - green) * on
                blue += (colours[2, 2] * own - blue) * on
            # Teeth: the lower row first, then the upper one in front of it.
            for k in (1, 0):
                there = arches[k, i, 3] * g + arches[k, i + 1, 3] * f
                if there <= 0:
                    continue
                picture = upper if k == 0 else lower
                ty = (y - (arches[k, i, 1] * g + arches[k, i + 1, 1] * f) + frame[1 + k]) * per_unit - np.float32(0.5)
                tx = (arches[k, i, 0] * g + arches[k, i + 1, 0] * f + frame[3]) * per_unit - np.float32(0.5)
                if ty <= 0 or tx <= 0 or ty >= picture.shape[0] - 1 or tx >= picture.shape[1] - 1:
                    continue
                j, m = int(ty), int(tx)
                fy, fx = np.float32(ty - j), np.float32(tx - m)
                w00, w01, w10, w11 = (ONE - fy) * (ONE - fx), (ONE - fy) * fx, fy * (ONE - fx), fy * fx
                through = ONE - there * (
                    picture[j, m, 3] * w00
                    + picture[j, m + 1, 3] * w01
                    + picture[j + 1, m, 3] * w10
                    + picture[j + 1, m + 1, 3] * w11
                )
                own = there * lit * (arches[k, i, 2] * g + arches[k, i + 1, 2] * f)
                dark = ONE - min(own, ONE)  # what reaches a tooth in the shade has been reflected by lips and tongue
                red = red * through + own * colours[0, 0] * (
                    picture[j, m, 0] * w00
                    + picture[j, m + 1, 0] * w01
                    + picture[j + 1, m, 0] * w10
                    + picture[j + 1, m + 1, 0] * w11
                )
                green = green * through + own * (ONE - np.float32(0.16) * dark) * colours[0, 1] * (
                    picture[j, m, 1] * w00
                    + picture[j, m + 1, 1] * w01
                    + picture[j + 1, m, 1] * w10
                    + picture[j + 1, m + 1, 1] * w11
                )
                blue = blue * through + own * (ONE - np.float32(0.18) * dark) * colours[0, 2] * (
                    picture[j, m, 2] * w00
                    + picture[j, m + 1, 2] * w01
                    + picture[j + 1, m, 2] * w10
                    + picture[j + 1, m + 1, 2] * w11
                )
            # The wet inside of the lips takes over at the edge.
            wet = np.float32(0.5) * (
                math.exp(-b / np.float32(0.0045)) + np.float32(0.6) * math.exp(-t / np.float32(0.003))
            )
            row = min(max(t / gap * rows - np.float32(0.5), ZERO), np.float32(rows - 1.001))
            column = min(max(across * columns - np.float32(0.5), ZERO), np.float32(columns - 1.001))
            layer[py, px, 0], layer[py, px, 1], layer[py, px, 2] = red, green, blue
            layer[py, px, OPACITY], layer[py, px, ROW], layer[py, px, COLUMN] = alpha, row, column
            layer[py, px, WET] = min(wet, np.float32(0.65))
            j, m = int(row + np.float32(0.5)), int(column + np.float32(0.5))
            sums[0, j, m] += np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
            sums[1, j, m] += red - np.float32(0.5) * (green + blue)
            sums[2, j, m] += ONE


@kernel
def compose_interior(image, layer, relight, lip, opacity, colourful):
    """Light ``layer`` as ``relight`` says and put it into ``image``, in place.

    Args:
        image: uint8 ``[h w 3]``.
        layer: float32 ``[h w 7]`` of :func:`draw_interior`.
        relight: float32 ``[2 rows columns]``: factor on the colours, and red to add (0-255).
        lip: float32 ``[3]``, colour of the inside of the lips, 0-255.
        opacity: of the whole layer, in [0, 1].
        colourful: 0 for a picture in greys, 1 for one in colours.
    """
    for py in range(layer.shape[0]):
        for px in range(layer.shape[1]):
            alpha = layer[py, px, OPACITY] * opacity
            if alpha <= 0:
                continue
            i, j = int(layer[py, px, ROW]), int(layer[py, px, COLUMN])
            fy, fx = layer[py, px, ROW] - i, layer[py, px, COLUMN] - j
            w00, w01, w10, w11 = (ONE - fy) * (ONE - fx), (ONE - fy) * fx, fy * (ONE - fx), fy * fx
            gain = (
                relight[0, i, j] * w00
                + relight[0, i, j + 1] * w01
                + relight[0, i + 1, j] * w10
                + relight[0, i + 1, j + 1] * w11
            )
            red = (
                relight[1, i, j] * w00
                + relight[1, i, j + 1] * w01
                + relight[1, i + 1, j] * w10
                + relight[1, i + 1, j + 1] * w11
            )
            grey = np.float32(0.299) * layer[py, px, 0] + np.float32(0.587) * layer[py, px, 1]
            grey += np.float32(0.114) * layer[py, px, 2]
            shade = max(ONE - gain, ZERO) * colourful  # light between lips has been reflected by flesh
            for c in range(3):
                tint = layer[py, px, c] - grey + red * (np.float32(0.667) if c == 0 else np.float32(-0.333)) / gain
                warmth = np.float32(0.10) if c == 0 else np.float32(-0.08 - 0.06 * (c - 1))
                value = max((grey + tint * colourful) * gain * (ONE + warmth * shade), ZERO)
                value += (lip[c] - value) * layer[py, px, WET]
                value = image[py, px, c] + (value - image[py, px, c]) * alpha
                image[py, px, c] = np.uint8(min(value + np.float32(0.5), np.float32(255)))
