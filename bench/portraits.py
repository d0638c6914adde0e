"""Every portrait of a data folder speaks: are the videos playable, in step and still faces? With sheets to look at.

python bench/portraits.py DATA --out DIR [--speech de.wav ru.wav ...] [--limit N]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import av
import torch

import vivavoce
from vivavoce.data.clips import Recording, recordings
from vivavoce.errors import InputError
from vivavoce.face.track import FaceTracker
from vivavoce.media.sheet import contact_sheet
from vivavoce.system import Portrait, System

SPEECH = ("en_timit_f.wav", "ru.wav", "noisy_cafe_0db.wav")
CHECKED = 10  # every so many frames a face is searched in the finished file
SHOWN = 8  # frames of each video on its sheet


def main() -> int:
    """Make every video; write ``results.json`` and one sheet per portrait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speech", nargs="+", default=SPEECH)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    talker, tracker, rows = vivavoce.load("moda"), FaceTracker(), []
    spoken = [r for r in recordings(given.data, kinds=("speech",)) if r.path.name in given.speech]
    for photo in recordings(given.data, kinds=("portrait",))[: given.limit]:
        try:
            portrait = talker.renderer.portrait(vivavoce.read_source(photo.path))
        except InputError as error:
            rows.append({"portrait": photo.name, "refused": str(error)})
            continue
        made = [_speak(talker, portrait, photo, speech, given.out, tracker) for speech in spoken]
        contact_sheet(given.out / f"{photo.name}.png", torch.cat([frames for _, frames in made]))
        rows += [row for row, _ in made]
        sys.stdout.write(f"{json.dumps(rows[-1])}\n")
    (given.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    done = [row for row in rows if "refused" not in row]
    checked = sum(row["checked"] for row in done)
    sys.stdout.write(
        f"{len(done)} videos of {len(rows)}; playable and in step {sum(row['in_step'] for row in done)}; "
        f"face found in {sum(row['found'] for row in done) / max(1, checked):.4f} of {checked} frames\n"
    )
    return 0


def _speak(
    talker: System, portrait: Portrait, photo: Recording, speech: Recording, out: Path, tracker: FaceTracker
) -> tuple[dict, torch.Tensor]:
    target, began = out / f"{photo.name}.{speech.name}.mp4", time.perf_counter()
    sound = vivavoce.read_audio(speech.path)
    written = vivavoce.write_video(target, talker.stream(portrait, sound, seed=1), talker.clock)
    took = time.perf_counter() - began
    pictures, found, checked = [], 0, 0
    with av.open(str(target)) as box:
        codecs = {stream.type: stream.codec_context.name for stream in box.streams}
        lengths = {stream.type: float(stream.duration * stream.time_base) for stream in box.streams}
        for n, frame in enumerate(box.decode(video=0)):
            if n % CHECKED == 0:
                rgb = frame.to_ndarray(format="rgb24")
                checked, found = checked + 1, found + bool(tracker.faces(rgb))
            if n % max(1, written.frames // SHOWN) == 0 and len(pictures) < SHOWN:
                pictures.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1))
    in_step = abs(lengths["video"] - lengths["audio"]) <= 1 / talker.clock.fps and n + 1 == written.frames
    row = {
        "portrait": photo.name,
        "speech": speech.name,
        "codecs": codecs,
        "frames": written.frames,
        "in_step": bool(in_step and codecs == {"video": "h264", "audio": "aac"}),
        "found": found,
        "checked": checked,
        "fps": round(written.frames / took, 1),
        "warnings": list(portrait.warnings),
    }
    return row, torch.stack(pictures)


if __name__ == "__main__":
    sys.exit(main())
