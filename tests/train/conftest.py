"""A task without labels: the engine must not need any."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.data.order import indices
from jaxvision.parallel.rules import shardings
from jaxvision.tasks.task import Task
from jaxvision.train import feed as feeds
from jaxvision.train import finite, loop
from jaxvision.train import state as states
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.journal import Journal
from jaxvision.train.metrics import Records, read
from jaxvision.train.progress import Reporter
from jaxvision.train.step import make_runner, make_train_step
from jaxvision.train.throughput import Throughput


@pytest.fixture
def regression():
    """Predicts the mean brightness of an image from its pixels; counts its steps in a second collection."""

    def init(rng, batch):
        size = batch["image"][0].size
        return {
            "params": {"w": 0.01 * jax.random.normal(rng, (size,)), "b": jnp.zeros(())},
            "counter": {"n": jnp.zeros(())},
        }

    def predict(variables, batch):
        flat = batch["image"].reshape(len(batch["image"]), -1)
        return flat @ variables["params"]["w"] + variables["params"]["b"]

    def loss(variables, batch, rng):
        noise = 0.01 * jax.random.normal(rng, (len(batch["image"]),))
        error = predict(variables, batch) + noise - batch["image"].mean((1, 2, 3))
        return jnp.mean(error**2), (
            {"bias": variables["params"]["b"]},
            {"counter": {"n": variables["counter"]["n"] + 1}},
        )

    return Task(init, loss, lambda variables, batch: {"prediction": predict(variables, batch)})


@pytest.fixture
def images():
    """37 images of 4 x 4."""
    return {"image": np.random.default_rng(0).integers(0, 256, (37, 4, 4, 3), np.uint8)}


@pytest.fixture
def adam():
    return optax.adam(1e-2)


@pytest.fixture
def train(regression, images, adam, mesh, tmp_path):
    """`train(name, **options)`: a run of 12 steps in a folder of that name, from its latest checkpoint."""

    def go(
        name,
        *,
        chunk=1,
        on_step=lambda step: None,
        arrays=images,
        evaluate=None,
        evaluations=None,
        schedule=(12, 4, 6),
        max_skipped=10,
        **options,
    ):
        options.setdefault("reporter", Reporter(0, 12, quiet=True))
        options.setdefault("extra", lambda step: {"step_squared": float(step**2)})
        one = mesh(1)
        order = partial(indices, 0, len(arrays["image"]))
        feed = feeds.from_arrays(arrays, order, one, batch_size=8, max_steps=chunk)
        feed = feed._replace(examples=lambda step: (order(step * 8, step * 8 + 8), "image {}".format))
        scale = lambda rng, batch: {**batch, "image": batch["image"] / 255.0}
        raw = {"image": jax.ShapeDtypeStruct((8, *arrays["image"].shape[1:]), np.float32)}
        init = states.initializer(regression, adam, raw, 0, False)
        step = make_train_step(regression, scale, adam, seed=0, max_skipped=max_skipped)
        placed = shardings(jax.eval_shape(init), one, "replicated")

        def run(state, constants, item):
            on_step(int(state.step))
            return runner(state, constants, item)

        folder = tmp_path / name
        with Checkpoints(folder) as checkpoints:
            target = states.abstract(init, one, "replicated")
            reader = Saved(folder)
            state = reader.restore(target) if checkpoints.steps() else states.create(init, one, "replicated")
            saved = reader.meta()["progress"] if checkpoints.steps() else None
            runner = make_runner(step, feed.fetch, placed, finite.from_json((saved or {}).get("guard")))
            records = Records(folder, int(state.step), lines=saved["lines"] if saved else None)
            options.setdefault("journal", Journal(int(state.step), saved))
            state, results = loop.Loop(
                state,
                run,
                feed,
                loop.Schedule(*schedule),
                evaluations=evaluations or [loop.Evaluation("val", 5, evaluate or (lambda s: {"step": float(s.step)}))],
                checkpoints=checkpoints,
                meta={},
                records=records,
                throughput=Throughput(8, None),
                **options,
            ).run()
            records.close()
            return jax.device_get(state), results, read(folder / "metrics.jsonl"), checkpoints.steps()

    return go
