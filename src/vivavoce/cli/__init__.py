"""The command line: parse, run one command, turn what went wrong into one line and an exit code.

Exit codes: 0 done; 2 the input or the command is wrong; 1 our bug; 130 stopped by Ctrl-C, 143 by a request to end.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from vivavoce.cli.arguments import parser
from vivavoce.cli.progress import one_line
from vivavoce.errors import InputError

DONE, BUG, WRONG, STOPPED = 0, 1, 2, 130
DEBUG = "VIVAVOCE_DEBUG"  # set to 1 to see tracebacks

# Imported when used: ``vivavoce --help`` needs none of it.
COMMANDS = {
    "animate": "vivavoce.cli.produce:animate",
    "reenact": "vivavoce.cli.produce:reenact",
    "dub": "vivavoce.cli.dub:dub",
    "swap": "vivavoce.cli.swap:swap",
    "import": "vivavoce.cli.weights:convert",
    "bench": "vivavoce.cli.study:bench",
    "evaluate": "vivavoce.cli.study:evaluate",
    "prepare": "vivavoce.cli.study:prepare",
    "train": "vivavoce.cli.study:train",
    "describe": "vivavoce.cli.study:describe",
    "doctor": "vivavoce.cli.study:doctor",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with _ending_politely():
            arguments = parser().parse_args(_joined(words))
            module, _, function = COMMANDS[arguments.command].partition(":")
            code = getattr(importlib.import_module(module), function)(arguments)
            sys.stdout.flush()  # while a reader that has gone is still expected
            return code
    except InputError as error:
        return _failed(words, str(error), WRONG)
    except KeyboardInterrupt:
        return _failed(words, "stopped; nothing was left behind", STOPPED)
    except MemoryError:
        return _failed(words, "there is not enough memory for this; try a smaller picture or --size", WRONG)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if os.environ.get(DEBUG) == "1":
            raise
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _failed(words, f"this is a bug in Vivavoce: {what} (set {DEBUG}=1 to see where)", BUG)


def _failed(words: list[str], message: str, code: int) -> int:
    line = one_line(message)
    sys.stderr.write(f"vivavoce: {line}\n")
    if "--json" in words:
        sys.stdout.write(json.dumps({"error": line}) + "\n")
    return code


@contextmanager
def _ending_politely() -> Iterator[None]:
    """A request to end unwinds like Ctrl-C does, so that no half-written file stays."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _joined(words: list[str]) -> list[str]:
    """``--gaze -0.1,0.2`` and ``--pose -10,0,0`` as one word; argparse would take the value for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--gaze", "--pose"):
            joined[-1] = f"{joined[-1]}={word}"
        else:
            joined.append(word)
    return joined
