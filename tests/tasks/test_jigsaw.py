"""Jigsaw: the set of permutations against naive loops and a bound, and tiles that lie where the answers say."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.tasks import jigsaw, pretext
from jaxvision.tasks.jigsaw import permutation_set


def resnet(k):
    return models.build("resnet", k, variant=8, width=0.25)


def distance(p, q):
    return sum(a != b for a, b in zip(p, q))


@pytest.mark.parametrize(("tiles", "count", "seed"), [(3, 6, 0), (4, 10, 1), (4, 24, 2), (5, 12, 3)])
def test_greedy_choice_against_loops(tiles, count, seed):
    """Algorithm 1 of the paper, with the ties as the docstring breaks them."""
    chosen = [tuple(p) for p in permutation_set(count, tiles, seed).tolist()]
    left = list(itertools.permutations(range(tiles)))
    left.remove(chosen[0])
    for i in range(1, count):
        distances = [[distance(p, q) for q in chosen[:i]] for p in left]
        ranks = [(sum(row), min(row)) for row in distances]
        assert chosen[i] == left[ranks.index(max(ranks))]
        left.remove(chosen[i])


def pair_sum_bound(count, tiles):
    """The largest sum of distances over pairs: at each place, every tile as often as every other."""
    often, rest = divmod(count, tiles)
    agreeing = rest * (often + 1) * often // 2 + (tiles - rest) * often * (often - 1) // 2
    return tiles * (count * (count - 1) // 2 - agreeing)


@pytest.mark.parametrize(("count", "mean"), [(9, 9.0), (100, 8.08)])
def test_the_sum_of_distances_is_the_largest_there_is(count, mean):
    """The mean over pairs of 100 is that of the paper's set, 8.08."""
    orders = permutation_set(count)
    assert all(sorted(order) == list(range(9)) for order in orders.tolist())
    distances = [(p != q).sum() for p, q in itertools.combinations(orders, 2)]
    assert min(distances) > 0
    assert sum(distances) == pair_sum_bound(count, 9)
    assert np.mean(distances) == pytest.approx(mean, abs=0.005)


def test_the_set_follows_from_its_seed_and_smaller_sets_begin_it():
    jigsaw.permutation_set.cache_clear()
    first = permutation_set(12, 4, seed=5)
    jigsaw.permutation_set.cache_clear()
    np.testing.assert_array_equal(first, permutation_set(12, 4, seed=5))
    np.testing.assert_array_equal(first[:7], permutation_set(7, 4, seed=5))
    assert (first != permutation_set(12, 4, seed=6)).any()
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


@pytest.mark.parametrize("grid", [2, 3])
def test_tiles_stand_in_the_order_of_the_answer(monkeypatch, grid):
    """Each tile has the value of its cell, so what stands side by side reads as the permutation itself."""
    monkeypatch.setattr(pretext, "make_pretext", lambda described, model, **widths: described)
    monkeypatch.setattr(jigsaw, "standardize", lambda tiles: tiles)
    described = jigsaw.make_jigsaw(model=resnet, permutations=20, questions=3, grid=grid, tile=0.8, channel_jitter=0)
    cells = np.arange(grid**2, dtype=np.float32).reshape(grid, grid).repeat(10, axis=0).repeat(10, axis=1)
    images = jnp.asarray(np.broadcast_to(cells[None, :, :, None], (30, *cells.shape, 3)))
    parts, beside, answers = jax.device_get(jax.jit(described.ask)(jax.random.key(0), images))
    orders = permutation_set(20, grid**2)
    for b in range(30):
        assert len(set(answers[b].tolist())) == 3
        for order, answer in zip(beside[b], answers[b]):
            shown = parts[b, order]
            assert (shown == shown[:, :1, :1, :1]).all()
            np.testing.assert_array_equal(shown[:, 0, 0, 0], orders[answer])
    assert set(answers.ravel().tolist()) == set(range(20))


def test_tiles_lie_anywhere_in_their_cell_and_channels_off_by_the_jitter():
    corners = jigsaw.tile_corners(jax.random.key(0), 400, (30, 30), grid=3, size=6, channels=3, jitter=0)
    assert (corners == corners[:, :, :1]).all()
    within = np.asarray(corners[:, :, 0]) - 10 * np.stack(np.divmod(np.arange(9), 3), axis=-1)
    assert set(np.unique(within)) == {0, 1, 2, 3, 4}
    off = jigsaw.tile_corners(jax.random.key(0), 400, (30, 30), grid=3, size=6, channels=3, jitter=2) - corners
    assert set(np.unique(off)) == {-2, -1, 0, 1, 2}
    assert (off != off[:, :, :1]).any()


def test_a_channel_never_leaves_the_image():
    corners = jigsaw.tile_corners(jax.random.key(0), 200, (30, 31), grid=3, size=10, channels=3, jitter=4)
    assert corners.min() == 0
    assert corners.max(axis=(0, 1, 2)).tolist() == [20, 21]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(permutations=1), "from 2 to 362880, not 1"),
        (dict(permutations=25, grid=2), "from 2 to 24, not 25"),
        (dict(questions=0), "from 1 to 100, not 0"),
        (dict(grid=4), "grid must be 2 or 3"),
        (dict(tile=1.5), "task.tile must be a share"),
        (dict(channel_jitter=-1), "task.channel_jitter must be a share"),
        (dict(model=lambda k: models.build("vit", k, variant="Ti/4", posemb="learned")), "set model.posemb"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        jigsaw.make_jigsaw(**{"model": resnet, **options})
