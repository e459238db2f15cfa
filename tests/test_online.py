"""The online probe and k-NN: they learn, they say what they are asked, and the training is bit for bit as without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import OPTIMISED
from ml_collections import ConfigDict

from experiments.own_parts.clips import make_clips
from experiments.own_parts.gan import make_gan
from jaxvision import components, layout, models, online, transfer
from jaxvision import experiment as experiments
from jaxvision.commands import train
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.sections import OnlineKnn, OnlineProbe
from jaxvision.tasks import get_task
from jaxvision.tasks.task import Task
from jaxvision.train import state as states
from jaxvision.train.saved import Saved
from jaxvision.train.step import make_train_step

CLASSES, B, STEPS = 3, 8, 3
NIN = partial(models.build, "nin", blocks=3, width=1 / 12)
VIT = partial(models.build, "vit", variant="Ti/4", width=16, depth=1, mlp_dim=16, num_heads=2)
VIEWS = {"image": Field("image", (None, None, 3), "float32", views=2), "label": Field("label", (), "int32", CLASSES)}
WATCHERS = {
    "probe": online.make_probe(OnlineProbe(learning_rate=0.1), CLASSES),
    "knn": online.make_knn(OnlineKnn(size=20, k=3), CLASSES),
}
JITTED = {
    name: watcher._replace(judge=jax.jit(watcher.judge), update=jax.jit(watcher.update))
    for name, watcher in WATCHERS.items()
}
TASKS = {  # task, number of microbatches: BatchNorm, a teacher, a queue, a loss over pairs, several players
    "supervised": (lambda: get_task("supervised")(model=NIN, num_classes=CLASSES), 1),
    "byol": (lambda: get_task("byol")(model=NIN, total_steps=STEPS, hidden=16, projection_dim=8), 1),
    "moco": (lambda: get_task("moco")(model=VIT, queue_size=16, projection_dim=8, norm_splits=2), 2),
    "moco_v3": (lambda: get_task("moco_v3")(model=VIT, total_steps=STEPS, hidden=16, projection_dim=8), 2),
    "gan": (lambda: make_gan(model=VIT, latent=6, widths=(8, 4)), 1),
}
TEXT = dict(name="text_transformer", variant="mu", depth=1, width=16, num_heads=2, vocab_size=9, length=4)
TOWERS = partial(models.build, "two_towers", image=dict(name="vit", **VIT.keywords), text=TEXT, embedding=8)
OTHERS = {  # questions about pieces of an image, a frozen network, masks, crops of two sizes, texts, clips
    "rotation": (lambda: get_task("rotation")(model=NIN), 1),
    "jigsaw": (lambda: get_task("jigsaw")(model=NIN, grid=2, permutations=4, part_dim=8), 1),
    "context": (lambda: get_task("context")(model=NIN, hidden=16), 1),
    "distill": (lambda: get_task("distill")(model=NIN, num_classes=CLASSES, teacher=dict(name="nin", blocks=3)), 1),
    "mae": (lambda: get_task("mae")(model=VIT, decoder_width=16, decoder_depth=1, decoder_heads=2), 2),
    "swav": (lambda: get_task("swav")(model=NIN, steps=int, prototypes=6, hidden=16, projection_dim=8), 1),
    "image_text": (lambda: get_task("image_text")(model=TOWERS), 2),
    "clips": (lambda: make_clips(model=NIN, fields=fields_of(data("clips"), "clips")), 1),
}
VIEWED, SHAPES = ("byol", "moco", "moco_v3", "swav"), {"clips": (B, 4, 16, 16, 3)}


def data(name):
    rng = np.random.default_rng(0)
    shape = (B, 2, 8, 8, 3) if name in VIEWED else SHAPES.get(name, (B, 16, 16, 3))
    more = {
        "swav": {"local_image": np.zeros((B, 2, 4, 4, 3), np.float32)},
        "image_text": {"tokens": np.ones((B, 4), np.int32), "tokens_mask": np.ones((B, 4), bool)},
    }
    made = {"image": rng.normal(size=shape).astype(np.float32), "label": np.arange(B, dtype=np.int32) % CLASSES}
    return made | more.get(name, {})


def fields_of(batch, name):
    views = {"image": 2, "local_image": 2} if name in VIEWED else {}
    made = {field: VIEWS.get(field, VIEWS["image"])._replace(views=views.get(field, 0)) for field in batch}
    return {field: of._replace(shape=batch[field].shape[1:]) if field == "image" else of for field, of in made.items()}


def run(task, batch, accumulate=1, steps=STEPS):
    tx = {name: optax.sgd(0.1, momentum=0.9) for name in task.players} or optax.sgd(0.1, momentum=0.9)
    state = jax.jit(states.initializer(task, tx, batch, 0, True))()
    step = make_train_step(task, lambda rng, batch: batch, tx, seed=0, ema=0.9, accumulate=accumulate)
    step, seen = jax.jit(step, compiler_options=OPTIMISED), []
    for _ in range(steps):
        state, metrics = step(state, batch)
        seen.append(jax.device_get(metrics))
    return jax.device_get(state), seen


@pytest.mark.parametrize("name", [*TASKS, *OTHERS])
def test_every_kind_of_task_is_watched(name):
    """A step is traced, which compiles nothing."""
    make, accumulate = (TASKS | OTHERS)[name]
    batch = data(name)
    task = online.beside(make(), WATCHERS, fields_of(batch, name))
    tx = {player: optax.sgd(0.1) for player in task.players} or optax.sgd(0.1)
    step = make_train_step(task, lambda rng, batch: batch, tx, seed=0, accumulate=accumulate)
    state = jax.eval_shape(states.initializer(task, tx, batch, 0, False))
    after, metrics = jax.eval_shape(step, state, batch)
    assert {"online/probe_loss", "online/probe_top1", "online/knn_top1"} <= set(metrics)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize("name", [n if n == "supervised" else pytest.param(n, marks=pytest.mark.slow) for n in TASKS])
def test_the_training_is_bit_for_bit_as_without(name):
    """Parameters, statistics, teacher, queue, optimizer, average, and every metric."""
    make, accumulate = TASKS[name]
    batch = data(name)
    alone, metrics = run(make(), batch, accumulate)
    watched, more = run(online.beside(make(), WATCHERS, fields_of(batch, name)), batch, accumulate)
    learned = watched.model_state.pop("online")
    watched.ema.pop("online")
    jax.tree.map(np.testing.assert_array_equal, watched, alone)
    for mine, theirs in zip(metrics, more):
        assert set(theirs) - set(mine) == {"online/probe_loss", "online/probe_top1", "online/knn_top1"}
        jax.tree.map(np.testing.assert_array_equal, mine, {key: theirs[key] for key in mine})
    assert np.any(learned["probe"]["weights"]["kernel"])
    np.testing.assert_allclose(more[0]["online/probe_loss"], np.log(CLASSES), rtol=1e-5)
    assert more[-1]["online/probe_loss"] < more[0]["online/probe_loss"]
    labels = learned["knn"]["labels"]["rows"]
    assert sorted(labels) == sorted(np.tile(batch["label"], 3)[-20:])


def points(n, seed=0, spread=0.3):
    """Features around three corners that a line separates, with their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n).astype(np.int32)
    return np.eye(CLASSES)[labels] * 100 + 1000 + 100 * spread * rng.normal(size=(n, CLASSES)), labels


def of_features():
    """A task that learns nothing: its features are the images."""
    return Task(
        lambda rng, batch: {"params": {"w": jnp.zeros(())}},
        lambda variables, batch, rng: (0 * variables["params"]["w"], ({}, {})),
        lambda variables, batch: {"features": batch["image"].astype(jnp.float32)},
    )


def test_they_learn_what_can_be_told_apart():
    """Far from 0 and on another scale than 1. Metrics are those before the update, so the first are chance."""
    task = online.beside(of_features(), WATCHERS, {})
    tx, state = optax.sgd(0.1), None
    step, tops = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0)), []
    for i in range(40):
        features, labels = points(32, seed=i)
        batch = {"image": jnp.asarray(features, jnp.float32), "label": labels}
        state = states.initializer(task, tx, batch, 0, False)() if state is None else state
        state, metrics = step(state, batch)
        tops.append((float(metrics["online/probe_top1"]), float(metrics["online/knn_top1"])))
    assert tops[0] == (float(np.mean(points(32)[1] == 0)), 0.0)  # of equal logits the first counts
    assert min(tops[-1]) > 0.9


def test_the_vote_is_by_hand():
    section = OnlineKnn(size=6, k=3, temperature=0.5)
    watcher = online.make_knn(section, CLASSES)
    rng = np.random.default_rng(1)
    bank, bank_labels = rng.normal(size=(8, 4)), np.array([0, 1, 2, 0, 1, 2, -1, 1], np.int32)
    state = watcher.init(4)
    for rows in (slice(0, 4), slice(4, 8)):
        state = watcher.update(state, jnp.asarray(bank[rows]), jnp.asarray(bank_labels[rows]))
    queries, labels = rng.normal(size=(16, 4)), rng.integers(0, CLASSES, 16).astype(np.int32)
    right = []
    held = [i for i in range(2, 8) if bank_labels[i] >= 0]  # the last six, less the one without a label
    for query, label in zip(queries, labels):
        cosines = {i: query @ bank[i] / np.linalg.norm(query) / np.linalg.norm(bank[i]) for i in held}
        votes = np.zeros(CLASSES)
        for i in sorted(cosines, key=cosines.get)[-3:]:
            votes[bank_labels[i]] += np.exp(cosines[i] / 0.5)
        right.append(votes.argmax() == label)
    got = watcher.judge(state, jnp.asarray(queries), jnp.asarray(labels))
    np.testing.assert_allclose(got["knn_top1"], np.mean(right), rtol=1e-6)
    assert 0 < np.mean(right) < 1


def test_images_without_a_label_do_not_count_and_mixed_labels_are_the_largest():
    features, labels = points(12)
    some = np.where(np.arange(12) < 6, labels, -1).astype(np.int32)
    for watcher in JITTED.values():
        state = watcher.update(watcher.init(CLASSES), jnp.asarray(features), jnp.asarray(labels))
        every = watcher.judge(state, jnp.asarray(features), jnp.asarray(some))
        none = watcher.judge(state, jnp.asarray(features), jnp.full(12, -1))
        assert not any(none.values())
        assert all(np.isfinite(list(every.values())))
    mixed = {"label": jnp.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])}
    assert online._labels(mixed).tolist() == [1, 0]


def test_features_that_are_not_finite_leave_the_probe_as_it_is():
    watcher = JITTED["probe"]
    state = watcher.update(watcher.init(2), jnp.eye(2), jnp.arange(2))
    after = watcher.update(state, jnp.full((2, 2), jnp.nan), jnp.arange(2))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_eight_devices_see_what_one_sees(mesh):
    batch, tx = data("supervised"), optax.sgd(0.1)
    watched = get_task("supervised")(model=VIT, num_classes=CLASSES)
    task = online.beside(watched, WATCHERS, fields_of(batch, "supervised"))
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0))

    def after_two_steps(devices):
        state = replicate(states.initializer(task, tx, batch, 0, False)(), devices)
        for _ in range(2):
            state, metrics = step(state, shard_batch(batch, devices))
        return state.model_state["online"], {key: x for key, x in metrics.items() if key.startswith("online/")}

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, after_two_steps(mesh()), after_two_steps(mesh(devices=1)))


def config(task, **sections):
    c = dict(
        data=dict(name="shapes", options=dict(train=48, validation=16, test=8), split="train", batch_size=16),
        augment="views(2, 'flip_lr')|normalize(0.5, 0.5)" if task["name"] == "byol" else "normalize(0.5, 0.5)",
        model=dict(name="nin", blocks=3, width=0.05),
        task=task,
        optimizer=dict(name="sgd", learning_rate=0.1),
        train=dict(total="2 steps", checkpoint_every="0 steps", ema=0.9),
        online=dict(probe={}, knn=dict(size=32, k=5)),
    )
    return ConfigDict({**c, **sections})


@pytest.fixture(scope="module")
def byol(tmp_path_factory):
    """The task, and a folder for the rendered images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("shapes")))
        yield dict(name="byol", hidden=16, projection_dim=8)


@pytest.mark.slow  # pytest -m slow tests/test_online.py
def test_no_other_run_takes_them_over(byol, tmp_path):
    """A run that is watched starts another that is watched, with other options, and one that is not."""
    train.run_train(config(byol), tmp_path / "byol", quiet=True)
    donated = Saved(tmp_path / "byol").variables()
    assert donated["online/probe/weights/kernel"].any()
    init = dict(weights=str(tmp_path / "byol"))
    knn = dict(knn=dict(layer="stages/1", size=20))
    for task, more in ((dict(name="supervised"), {"head": "new"}), (byol, {})):
        for watched in (None, knn):
            loaded = experiments.build(config(task, online=watched, init=init | more)).load_pretrained()
            kept = loaded.variables["params"]["stage1"]
            jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y), kept, nested(donated, "params/stage1"))
            if watched:
                leaves = jax.tree.leaves(loaded.variables["online"])
                assert len(leaves) == 4
                assert not any(isinstance(x, np.ndarray) for x in leaves)  # new in every run
    arrays, meta = transfer.open_own(tmp_path / "byol")
    kept, others = transfer.of_model(arrays, layout.from_json(meta["parts"]))  # as other libraries get it
    assert any(name.startswith("params/stage1/") for name in kept)
    assert {name for name in arrays if name.startswith("online/")} <= set(others)


def nested(flat, prefix):
    tree = {}
    for path, x in flat.items():
        if path.startswith(f"{prefix}/"):
            *inside, leaf = path.removeprefix(f"{prefix}/").split("/")
            place = tree
            for name in inside:
                place = place.setdefault(name, {})
            place[leaf] = x
    return tree


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(online={}), "neither probe nor knn: c.online = dict"),
        (dict(online=dict(prob={})), "online.*prob.*did you mean 'probe'"),
        (dict(online=dict(probe=dict(rate=1.0))), "rate.*online.probe"),
        (dict(online=dict(knn=dict(k=0))), "online.knn.k must be"),
        (dict(online=dict(knn={})), "online.knn.size=4,096 holds all 48 images .* lower it"),
        (dict(online=dict(probe=dict(layer="stages/7"))), "unknown layer 'stages/7'"),
    ],
)
def test_mistakes_are_named(byol, changes, message):
    with pytest.raises(UserError, match=message):
        experiments.build(config(dict(name="supervised"), **changes))


def test_a_set_without_one_label_for_each_image_is_refused(byol):
    c = config(byol)
    c.data.fields = ("image",)
    with pytest.raises(UserError, match="a batch has only the fields image: add 'label' to data.fields"):
        experiments.build(c)
    labelled = {"label": Field("label", (), "int32")}
    with pytest.raises(UserError, match="names no classes: set data.classes"):
        online.check_labels(labelled, None, False)
    with pytest.raises(UserError, match="images of this set have many"):
        online.check_labels(labelled, 3, True)
    assert components.read_online(None) == (None, None)
