"""The tracker's graphs: shared, so making trackers costs no memory, and not remembering the picture before."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_image

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(read_image(ASSETS / "demo_portrait.jpg")[0].permute(1, 2, 0).numpy())


def resident():
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell how much memory a process holds")
    return int(statm.read_text().split()[1]) * 4096 / 2**20


def test_trackers_do_not_pile_up_in_memory(photo):
    FaceTracker().faces(photo)
    FaceTracker().person(photo)
    before = resident()
    for _ in range(3):
        FaceTracker().faces(photo)
        FaceTracker().person(photo)
        gc.collect()
    assert resident() < before + 30  # MiB; each set of graphs takes 50 and more


def test_what_was_seen_before_changes_nothing(photo):
    tracker, other = FaceTracker(), np.ascontiguousarray(photo[:300, 100:420, ::-1])
    face, matte = tracker.faces(photo)[0].landmarks, tracker.person(photo)
    tracker.faces(other)
    tracker.person(other)
    np.testing.assert_array_equal(tracker.faces(photo)[0].landmarks, face)
    np.testing.assert_array_equal(tracker.person(photo), matte)


def test_threads_take_turns(photo):
    want = FaceTracker().faces(photo)[0].landmarks
    found = []
    threads = [threading.Thread(target=lambda: found.append(FaceTracker().faces(photo)[0].landmarks)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(np.array_equal(one, want) for one in found)
