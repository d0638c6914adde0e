"""What was measured, and its tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

REGIONS = ("frame", "face", "eyes", "mouth")


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and the range it must lie in."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value is known and inside, both ends included."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= self.value <= high  # also false for nan

    @property
    def wanted(self) -> str:
        """The range in words."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured. Figures are means over frames unless their name says otherwise."""

    data: str
    split: str
    system: str
    clips: list[str]
    seconds: float
    reenactment: dict[str, float]
    talking: dict[str, dict[str, float]]  # by what made the motion
    seen: dict[str, float]  # of drawn and tracked frames
    bars: list[Bar]
    by_clip: dict[str, dict[str, float]]


COLUMNS = {
    "opening": "lip opening r",
    "width": "lip width r",
    "lag": "lag, frames",
    "lip_error": "lip error, face widths",
    "amplitude": "amplitude",
    "closure": "m b p closed",
    "closure_seen": "any closure",
    "wrongly_closed": "wrongly closed",
    "opening_in_pauses": "open in pauses",
    "blinks_per_minute": "blinks/min",
    "turning": "head °/s",
    "moving": "head widths/s",
    "lip_speed": "lips widths/s",
}
WORDS = """\
Every frame counts the same. Correlations are Pearson's, per clip. Lip opening and width are read from the motion in
the pose-free frame, in face widths. *Lag* is where the correlation of the opening, averaged over clips, peaks;
positive is late. *m b p closed*: share of the closures that are seen in the true lips and heard as m, b or p in which
the generated lips close too, within a frame (below a fifth of the true speaker's wide opening, its 95th percentile);
*any closure* does not ask what is heard; *wrongly closed* is the share of frames closed where the true lips are over
half open. *Open in pauses* is the median in silent stretches of the recordings, as a share of wide open; opening in
silence (above) is measured in three seconds of nothing after each clip. *One sample* is what a user gets, averaged
over seeds.
"""


def markdown(results: Results) -> str:
    """The tables: bars, speech-driven motion, self-reenactment, clip by clip."""
    clips = f"{len(results.clips)} clips, {results.seconds:.0f} s"
    parts = [
        f"# {results.system} on people never seen in training ({results.split}: {clips})",
        _bars(results.bars),
        "## Speech-driven motion against what the person really did",
        _talking(results.talking),
        WORDS,
        _seen(results.seen),
        "## Self-reenactment: the first frame moved like the rest of the video",
        _redrawn(results.reenactment),
        "## By clip",
        _clips(results.by_clip),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _bars(bars: Sequence[Bar]) -> str:
    rows = [(bar.what, _number(bar.value), bar.wanted, "yes" if bar.met else "**no**") for bar in bars]
    return table(("figure", "reached", "wanted", "met"), rows)


def _talking(made: Mapping[str, Mapping[str, float]]) -> str:
    rows = [(name, *(_number(figures.get(key, math.nan)) for key in COLUMNS)) for name, figures in made.items()]
    return table(("motion by", *COLUMNS.values()), rows)


def _seen(found: Mapping[str, float]) -> str:
    if not found:
        return "All of this is read from drawn frames that were tracked again."
    return (
        f"Of {found['frames']:.0f} frames drawn from sound and tracked again, {100 * found['face_found']:.1f}% show a "
        f"face; the lip opening seen in them correlates by {found['correlation']:.2f} with the one meant (lag "
        f"{found['lag']:.0f}, gain {found['gain']:.2f}) and by {found['truth']:.2f} with the true one."
    )


def _redrawn(figures: Mapping[str, float]) -> str:
    names = dict.fromkeys(key.split("/")[0] for key in figures if key.endswith("/psnr"))
    rows = []
    for name in names:
        both = [(figures.get(f"{name}/{r}/psnr", math.nan), figures.get(f"{name}/{r}/ssim", math.nan)) for r in REGIONS]
        rows.append((name, *(f"{psnr:.2f} / {ssim:.3f}" for psnr, ssim in both)))
    inside = [
        (key, _number(figures.get(f"vivavoce/{key}", math.nan)), _number(figures.get(f"truth/{key}", math.nan)))
        for key in ("sharpness", "change")
    ]
    regions = table(("PSNR dB / SSIM", *REGIONS), rows)
    return regions + "\n\n" + table(("inside the lips, grey levels", "redrawn", "truth"), inside)


def _clips(by_clip: Mapping[str, Mapping[str, float]]) -> str:
    keys = {
        "frames": "frames",
        "opening": "lip opening r",
        "width": "lip width r",
        "lag": "lag",
        "closure": "m b p closed",
        "vivavoce/face/psnr": "face dB",
        "first frame/face/psnr": "first frame, face dB",
        "vivavoce/mouth/psnr": "mouth dB",
        "plain warp/mouth/psnr": "plain warp, mouth dB",
        "face found": "face found",
    }
    rows = [(name, *(_number(figures.get(key, math.nan)) for key in keys)) for name, figures in by_clip.items()]
    return table(("clip", *keys.values()), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "?"
    return f"{value:.0f}" if value == round(value) and abs(value) >= 2 else f"{value:.3g}"
