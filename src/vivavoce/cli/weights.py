"""``import``: other projects' published checkpoints into a folder of ours."""

from __future__ import annotations

import argparse
import json
import sys

from vivavoce.importing import run


def convert(arguments: argparse.Namespace) -> int:
    """``vivavoce import KIND DIR --out WEIGHTS``."""
    written = run(arguments.kind, arguments.source, arguments.out)
    if arguments.json:
        sys.stdout.write(json.dumps({"written": [str(file) for file in written]}) + "\n")
    else:
        sys.stdout.writelines(f"{file}\n" for file in written)
    return 0
