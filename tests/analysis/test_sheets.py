"""Pages of pictures."""

import numpy as np

from jaxvision.analysis.sheets import Cell, grid, join_pages, sheet

RED = np.zeros((4, 6, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


def count(page, colour):
    return int((np.asarray(page) == colour).all(-1).sum())


def test_every_picture_is_on_the_page_at_its_size():
    page = grid([Cell(RED)] * 5, columns=2, side=20)
    assert count(page, (255, 0, 0)) == 5 * 20 * 30


def test_pages_lie_side_by_side():
    page = grid([Cell(RED)], side=20)
    both = join_pages([page, page])
    assert both.size == (2 * page.width, page.height)
    assert count(both, (255, 0, 0)) == 2 * 20 * 30


def test_views_lie_side_by_side():
    page = sheet([("views", [Cell(np.stack([RED, RED, RED]))])], side=20)
    assert count(page, (255, 0, 0)) == 3 * 20 * 30


def test_floats_are_shown_in_their_range():
    half = np.full((4, 4, 3), 0.5)
    assert count(sheet([("", [Cell(half)])], side=10), (128, 128, 128)) == 100
    normalised = np.stack([np.full((4, 4), -3.0), np.full((4, 4), 3.0), np.full((4, 4), 0.0)], -1)
    assert count(sheet([("", [Cell(normalised)])], side=10), (0, 255, 128)) == 100


def test_words_are_written():
    plain, worded = (np.asarray(grid([Cell(RED, words)], side=60)) for words in ("", "a cat on a mat"))
    assert plain.shape == worded.shape
    assert (plain != worded).any()


def test_a_frame_lies_around_its_picture():
    plain, framed = (grid([Cell(RED, frame=frame)] * 2, side=20) for frame in (None, "#00ff00"))
    assert count(plain, (255, 0, 0)) == count(framed, (255, 0, 0))
    assert count(plain, (0, 255, 0)) == 0
    assert count(framed, (0, 255, 0)) == 2 * (26 * 36 - 20 * 30)
