"""What people really type, and what happens on the way: full disks, Ctrl-C, folders that are not there."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import film, sine, wav
from outcomes import made, one_line, refused

from vivavoce.media import write

# --- what is typed -------------------------------------------------------------------------------------------------

WRONG_WORDS = {
    "nothing": ("", "required: COMMAND"),
    "an unknown command": ("speak P A", "invalid choice: 'speak'"),
    "no files": ("animate", "required"),
    "no output": ("animate P A", "-o/--output"),
    "an unknown option": ("animate P A -o O --loud", "--loud"),
    "an abbreviated option": ("animate P A -o O --see 3", "--see"),
    "size 0": ("animate P A -o O --size 0", "128 to 1024"),
    "size -1": ("animate P A -o O --size -1", "128 to 1024"),
    "size 10000": ("animate P A -o O --size 10000", "128 to 1024"),
    "an odd size": ("animate P A -o O --size 511", "even"),
    "a size that is no number": ("animate P A -o O --size big", "'big'"),
    "a face that is no place": ("animate P A -o O --face middle", "largest, left, right"),
    "a face below zero": ("animate P A -o O --face=-1", "largest, left, right"),
    "a face that is not there": ("animate P A -o O --face 7", "no face 7"),
    "an unknown emotion": ("animate P A -o O --emotion hangry", "'hangry'"),
    "an unknown system": ("animate P A -o O --system modar", "did you mean 'moda'"),
    "an unknown device": ("animate P A -o O --device gpu", "'gpu'"),
    "an unknown backend": ("animate P A -o O --backend magic", "'magic'"),
    "a pose scale that is no number": ("animate P A -o O --pose-scale nan", "0 to 3"),
    "an endless pose scale": ("animate P A -o O --pose-scale inf", "0 to 3"),
    "a negative mouth gain": ("animate P A -o O --mouth-gain -1", "0 to 2"),
    "too many blinks": ("animate P A -o O --blink-rate 1000", "0 to 120"),
    "half a gaze": ("animate P A -o O --gaze 0.1", "two numbers"),
    "a gaze out of the eye": ("animate P A -o O --gaze 5,0", "-0.3 to 0.3"),
    "a frozen head that moves": ("animate P A -o O --freeze-head --pose-scale 1", "not allowed with"),
    "a negative seed": ("animate P A -o O --seed -1", "whole number"),
    "an endless seed": ("animate P A -o O --seed 9999999999999999999999", "whole number"),
    "a broken seed": ("animate P A -o O --seed 1.5", "whole number"),
    "teeth that are no picture": ("animate P A -o O --teeth A", "not a picture"),
    "a sheet that is no png": ("animate P A -o O --sheet D/x.jpg", ".png"),
    "a sheet in no folder": ("animate P A -o O --sheet D/no/x.png", "folder that exists"),
    "portrait and output are one": ("animate V A -o V", "both input and output"),
    "an output that is a folder": ("animate P A -o D/..", "must be an .mp4"),
    "an output folder that does not exist": ("animate P A -o D/no/such/a.mp4", "does not exist"),
    "an output of another kind": ("animate P A -o D/a.avi", ".mp4"),
    "an output without a name": ("animate P A -o D/", ".mp4"),
    "an output whose name is too long": (f"animate P A -o D/{'x' * 300}.mp4", "cannot be written"),
    "driving by sound": ("reenact P A -o O", "must be a video"),
    "driving by a picture": ("reenact P P -o O", "not of a known kind"),
    "a system that needs a driving video": ("animate P A -o O --system reenact", "reenact"),
    "no recipe": ("train", "required"),
    "no data": ("evaluate", "--data"),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_commands_that_cannot_be_right(vivavoce_cli, place, portrait, speech, case):
    words, said = WRONG_WORDS[case]
    given_ = film(place / "in" / "v.mp4", frames=3)
    out = place / "out"
    names = {"P": portrait, "A": speech, "V": given_, "O": out / "a.mp4", "D": out}
    typed = [str(names.get(word, word)).replace("D/", f"{out}/") for word in words.split()]
    refused(vivavoce_cli(*typed), place, said)


def test_an_output_that_is_a_folder(vivavoce_cli, place, portrait, speech):
    (place / "out" / "a.mp4").mkdir()
    outcome = vivavoce_cli("animate", portrait, speech, "-o", place / "out" / "a.mp4")
    assert outcome.code == 2
    assert "is a folder" in outcome.err
    one_line(outcome.err)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_to(vivavoce_cli, place, portrait, speech):
    outcome = vivavoce_cli("animate", portrait, speech, "-o", "/proc/self/a.mp4")
    refused(outcome, place, "/proc/self")


def test_an_output_that_is_a_device(vivavoce_cli, place, portrait, speech):
    (place / "in" / "full.mp4").symlink_to("/dev/full")
    outcome = vivavoce_cli("animate", portrait, speech, "-o", place / "in" / "full.mp4")
    refused(outcome, place, "is not a file")


def test_an_output_behind_a_link_is_written_where_it_points(vivavoce_cli, place, portrait, speech):
    (place / "in" / "link.mp4").symlink_to(place / "out" / "a.mp4")
    made(vivavoce_cli("animate", portrait, speech, "-o", place / "in" / "link.mp4"), place, 13)
    assert (place / "in" / "link.mp4").is_symlink()


@given(
    st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["animate", "-o", "--size", "--json", "x.mp4", "--seed"])))
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_words_are_refused_in_one_line(vivavoce_cli, words):
    if any(word.startswith(("-h", "--h", "--v")) for word in words):
        return
    outcome = vivavoce_cli(*words)
    assert outcome.code == 2
    one_line(outcome.err)


# --- what happens on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_on_the_way(vivavoce_cli, place, portrait, speech, monkeypatch, number):
    def failing(*shown):
        yield next(real(*shown))
        av.error.err_check(-number)

    real = write._pictures
    monkeypatch.setattr(write, "_pictures", failing)
    outcome = vivavoce_cli("animate", portrait, speech, "-o", place / "out" / "a.mp4")
    refused(outcome, place, os.strerror(number))


def child(code, **variables):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_file_that_may_not_grow(place):
    """A real limit of the system, hit while the index, the frames or the end is written."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from vivavoce.errors import InputError
from vivavoce.media.write import write_video
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
clip = Clip(Span(0, 20), torch.randint(0, 256, (20, 3, 128, 128), dtype=torch.uint8), torch.zeros(12800))
target = Path({str(place / "out")!r}) / "a.mp4"
write_video(target, [clip], Clock())
whole = target.stat().st_size
target.unlink()
for limit in [0, 20, 1000, *range(whole // 7, whole, whole // 7), whole - 1000, whole - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_video(target, [clip], Clock())
        print("written in spite of", limit, "of", whole)
    except InputError as error:
        assert "could not be written" in str(error), error
    assert not list(target.parent.iterdir()), list(target.parent.iterdir())
print("done")
"""
    out, err = child(code).communicate(timeout=100)
    assert (out.strip(), err) == ("done", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_nothing_behind(place, portrait, number, code):
    speech = wav(place / "in" / "long.wav", sine(220, 60.0, 16_000)[None], 16_000)
    (place / "out" / "a.mp4").write_bytes(b"an older video")
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells may have it ignored
        "from vivavoce import registry; registry.BUILT_IN['moda'] = 'fake_system:assemble'\n"
        f"from vivavoce.cli import main; sys.argv[1:] = {['animate', str(portrait), str(speech)]!r}\n"
        f"sys.argv += ['-o', {str(place / 'out' / 'a.mp4')!r}]; sys.exit(main())"
    )
    running = child(program, FAKE_SYSTEM_SECONDS_PER_CLIP="0.1")
    deadline = time.monotonic() + 60
    while len(list((place / "out").iterdir())) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)  # into the middle of the video
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == code
    assert "Traceback" not in err
    if code == 130:
        one_line(err)
    assert [entry.name for entry in (place / "out").iterdir()] == ["a.mp4"]
    assert (place / "out" / "a.mp4").read_bytes() == b"an older video"
