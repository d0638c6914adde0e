"""Commands that measure, describe, prepare, train or check: thin doors to the modules that do the work."""

from __future__ import annotations

import argparse
import json
import sys

from vivavoce.cli.progress import say
from vivavoce.errors import InputError


def doctor(arguments: argparse.Namespace) -> int:
    """``vivavoce doctor``: 0 when a video can be made here, 2 when something needed is missing."""
    from vivavoce.doctor import examine

    checks = examine()
    healthy = all(check.state != "missing" for check in checks)
    if arguments.json:
        found = [{"name": c.name, "state": c.state, "found": c.found, "remedy": c.remedy} for c in checks]
        sys.stdout.write(json.dumps({"healthy": healthy, "checks": found}) + "\n")
    else:
        for check in checks:
            remedy = f" -> {check.remedy}" if check.remedy else ""
            sys.stdout.write(f"{check.state:8} {check.name:18} {check.found}{remedy}\n")
    return 0 if healthy else 2


def describe(arguments: argparse.Namespace) -> int:
    """``vivavoce describe --system NAME [--weights DIR]``: what a system is made of."""
    from vivavoce.evaluate.describe import describe as described

    found = described(arguments.system, arguments.weights)
    sys.stdout.write((json.dumps(found.report()) if arguments.json else found.lines()) + "\n")
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """``vivavoce bench``: speed and memory of the whole pipeline."""
    from vivavoce.evaluate import speed

    portrait = arguments.portrait or speed.demo_portrait()
    task = speed.Task(
        portrait, arguments.system, arguments.size, arguments.seconds, arguments.device, arguments.weights
    )
    figures = speed.measure(task)
    sys.stdout.write((json.dumps(speed.report(figures)) if arguments.json else speed.lines(figures)) + "\n")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """``vivavoce evaluate --data DIR``: quality on people never seen in training."""
    from vivavoce.evaluate import suite

    try:
        results = suite.run(
            arguments.data,
            arguments.split,
            arguments.out,
            system=arguments.system,
            weights=arguments.weights,
            limit=arguments.limit,
            report=_nothing if arguments.json else say,
        )
        written = (arguments.out / ("results.json" if arguments.json else "results.md")).read_text()
    except OSError as error:
        raise InputError(f"the tables cannot be written to {arguments.out}: {error.strerror or error}") from error
    sys.stdout.write(written)
    if not arguments.json:
        met = sum(bar.met for bar in results.bars)
        sys.stdout.write(f"\n{met} of {len(results.bars)} bars met; written to {arguments.out}\n")
    return 0


def _nothing(line: str) -> None:
    del line


def prepare(arguments: argparse.Namespace) -> int:
    """``vivavoce prepare DATA --out DIR``: recordings become what recipes read; resumable, clip by clip."""
    from vivavoce.data.clips import recordings
    from vivavoce.data.prepare import prepare as prepare_all

    if arguments.weights:
        _prepare_with(arguments)
        return 0
    prepare_all(recordings(arguments.data, kinds=("talking", "driving")), arguments.out, say)
    return 0


def _prepare_with(arguments: argparse.Namespace) -> None:
    """Motion as networks see it whose weights are given."""
    from vivavoce.data.clips import recordings
    from vivavoce.systems import ifmdm

    if any((arguments.weights / file).is_file() for file in ifmdm.FILES):
        from vivavoce.data import codes
        from vivavoce.recipes.moda import clips
        from vivavoce.render.implicit import ImplicitRenderer

        known = {clip.name: clip for clip in clips()}
        found = recordings(arguments.data, kinds=("talking", "driving"))
        pairs = ((recording, known[recording.name]) for recording in found if recording.name in known)
        codes.extract(pairs, ImplicitRenderer(ifmdm.networks(arguments.weights, "auto")), arguments.out, say)
        return
    from vivavoce.data.keypoints import prepare as prepare_keypoints
    from vivavoce.nets.liveportrait import Networks
    from vivavoce.render.keypoint import KeypointRenderer

    renderer = KeypointRenderer(Networks.load(arguments.weights))
    prepare_keypoints(recordings(arguments.data, kinds=("talking",)), renderer, arguments.out, say)


def train(arguments: argparse.Namespace) -> int:
    """``vivavoce train RECIPE --out DIR [--resume]``."""
    from vivavoce.train.loop import run

    run(arguments.recipe, arguments.out, arguments.resume)
    return 0
