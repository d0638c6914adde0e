"""What several threads do side by side comes out as if one had done it."""

import threading
import time

import pytest
import torch

from vivavoce.threads import alone, side_by_side


def test_items_come_out_in_order_whoever_is_done_first():
    assert list(side_by_side(lambda n: (time.sleep(0.002 * (n % 3)), n)[1], range(20))) == list(range(20))


def test_no_more_is_begun_than_threads_and_one():
    begun = []

    def items():
        for n in range(20):
            begun.append(n)
            yield n

    made = side_by_side(lambda n: n, items())
    assert next(made) == 0
    assert len(begun) == torch.get_num_threads() + 1
    made.close()
    assert len(begun) == torch.get_num_threads() + 1


def test_each_works_alone_in_inference_mode_and_others_are_left_as_they_were():
    before = torch.get_num_threads()
    found = list(side_by_side(lambda _: (torch.get_num_threads(), torch.is_inference_mode_enabled()), range(4)))
    assert found == [(1, True)] * 4
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [before, before]


def test_what_goes_wrong_is_told_to_whoever_asked():
    def draw(n):
        if n == 2:
            raise ValueError("no such face")
        return n

    made = side_by_side(draw, range(5))
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ValueError, match="no such face"):
        next(made)


def test_one_piece_of_work_alone():
    assert alone(lambda a, b: (a - b, torch.get_num_threads()), 5, b=3) == (2, 1)
