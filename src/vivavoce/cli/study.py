"""``bench``, ``evaluate``, ``train`` and ``doctor``: thin doors to the modules that do the work."""

from __future__ import annotations

import argparse
import json
import sys


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


def train(arguments: argparse.Namespace) -> int:
    """``vivavoce train RECIPE --out DIR [--resume]``."""
    from vivavoce.train.loop import run

    run(arguments.recipe, arguments.out, arguments.resume)
    return 0
