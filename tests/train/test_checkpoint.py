"""Checkpoints: what is saved comes back, bit for bit, into any sharding; what does not fit is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.train import compiling
from jaxvision.train import state as states
from jaxvision.train.checkpoint import Checkpoints, Saved


@pytest.fixture
def init(regression, adam):
    batch = {"image": jax.ShapeDtypeStruct((2, 80, 80, 3), jnp.float32)}
    return states.initializer(regression, adam, batch, seed=0, ema=True)


def at(state, step):
    return state._replace(step=jnp.int32(step))


def test_comes_back_into_another_sharding(tmp_path, init, mesh):
    state = states.create(init, mesh(1), "replicated")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (3, 4, 5):
            checkpoints.save(at(state, step), {"note": step})
    target = states.abstract(init, mesh(8, data=1, fsdp=8), "fsdp")
    saved = Saved(tmp_path)
    assert saved.steps() == [4, 5]
    assert saved.meta() == {"note": 5}
    assert saved.meta(4) == {"note": 4}
    restored = saved.restore(target)
    assert restored.step == 5
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(lambda x, t: np.testing.assert_equal(x.sharding == t.sharding, True), restored, target)
    jax.tree.map(np.testing.assert_array_equal, restored, at(state, 5))
    assert not restored.params["w"].sharding.is_fully_replicated


def test_replicas_share_the_writing_of_large_arrays_and_small_ones_need_no_program(tmp_path, mesh):
    on_all = jax.sharding.NamedSharding(mesh(8), jax.sharding.PartitionSpec())
    put = lambda size: jax.device_put(np.arange(size, dtype=np.float32), on_all)
    state = states.TrainState(
        jax.device_put(np.int32(3), on_all), {f"of {n}": put(8 * n) for n in (1, 2, 3)}, {}, (), None
    )
    large = state._replace(step=jax.device_put(np.int32(4), on_all), params={"large": put(2**21)})  # 8 MiB
    with Checkpoints(tmp_path) as checkpoints:
        before = compiling.seconds()
        checkpoints.save(state, {})
        checkpoints.wait()
        assert compiling.seconds() == before
        checkpoints.save(large, {})
        checkpoints.wait()
        assert compiling.seconds() > before
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_all), large)
    jax.tree.map(np.testing.assert_array_equal, Saved(tmp_path).restore(target), large)


def test_what_does_not_fit_is_named(tmp_path, init, mesh):
    state = states.create(init, mesh(1), "replicated")
    target = states.abstract(init, mesh(1), "replicated")
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {})
    leaf = target.params["b"]
    wrong = {"new": leaf, "w": jax.ShapeDtypeStruct((5,), jnp.float32, sharding=leaf.sharding)}
    with pytest.raises(UserError) as error:
        Saved(tmp_path).restore(target._replace(params=wrong))
    for part in ("missing params/new ()", "surplus params/b ()", "params/w is (19200,), the config's is (5,)"):
        assert part in str(error.value)


def test_steps_that_are_not_there(tmp_path, init, mesh):
    target = states.abstract(init, mesh(1), "replicated")
    with pytest.raises(UserError, match="no checkpoint in"):
        Saved(tmp_path).restore(target)
    assert not any(tmp_path.iterdir())  # a reader makes nothing
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(states.create(init, mesh(1), "replicated"), {})
    with pytest.raises(UserError, match=r"no checkpoint of step 7 .* Steps: 0"):
        Saved(tmp_path).restore(target, 7)


def test_statistics_come_back_as_they_were(tmp_path, init, mesh):
    statistics = {"mean": np.array([0.1, 0.2, 0.3]), "mean_image": np.random.default_rng(0).random((4, 4, 3))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(states.create(init, mesh(8), "replicated"), {"note": 1, "statistics": statistics})
    meta = Saved(tmp_path).meta()
    assert meta["note"] == 1
    jax.tree.map(np.testing.assert_array_equal, meta["statistics"], statistics)
