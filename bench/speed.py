"""Speed and memory of the whole pipeline: ``python bench/speed.py [--seconds 60] [--json]`` is ``vivavoce bench``."""

from __future__ import annotations

import sys

from vivavoce.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
