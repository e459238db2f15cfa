"""Every config of configs/, with every argument it lists in `ARGS`: header, build, and two steps of a small copy.

By default a file is built with its first argument, and one config of each family of tasks takes the steps. `pytest -m
slow tests/test_configs.py` has the others.
"""

import math
import re
import runpy
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict
from shrinking import shrink

from jaxvision import augment, evaluations, models
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import train
from jaxvision.data import host_ops
from jaxvision.errors import UserError

ROOT = Path(__file__).parents[1]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.py"))
FILES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "configs").rglob("*.py")) if path not in SWEEPS}
ARGS = {name: runpy.run_path(str(path)).get("ARGS", ()) for name, path in FILES.items()}
EVERY = [f"{name}:{arg}" if arg else name for name in FILES for arg in ARGS[name] or ("",)]
EVALUATIONS = [name for name in EVERY if name.startswith("configs/evaluation/")]
CONFIGS = [name for name in EVERY if name not in EVALUATIONS]
FIRST = {f"{name}:{args[0]}" if args else name for name, args in ARGS.items()}
# Tasks of a kind: their configs differ in the loss, the question or the draw of patches, which tests/tasks tests.
FAMILIES = {"barlow_twins": "siamese", "vicreg": "siamese", "simsiam": "siamese", "mae": "masked", "simmim": "masked"}
FAMILIES |= {"context": "pretext", "jigsaw": "pretext", "rotation": "pretext"}
FAMILIES |= {"byol": "teacher", "moco_v3": "teacher", "moco": "queue", "nnclr": "queue"}
FAMILIES |= {"dino": "multi_crop", "swav": "multi_crop"}

PARAMETERS = [
    ("supervised/resnet50_imagenet2012.py", {}, 25_557_032),
    ("supervised/vit_b16_imagenet2012.py", {"model.pool": "token", "model.posemb": "learned"}, 86_567_656),
    ("supervised/resnet_cifar10.py:20", {}, 269_722),
    ("supervised/resnet_cifar10.py:56", {}, 853_018),
    ("supervised/mnist_bn_net.py", {}, 1_200_330),
    ("supervised/cifar10_linear.py", {}, 30_730),
]


@pytest.fixture(scope="module", autouse=True)
def shapes_cache(tmp_path_factory):
    """All small copies share one rendered data set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("shapes")))
        yield


def load(name, overrides=None):
    return configs.load(str(ROOT / name), overrides)


def _small(name):
    parts = models.PAIR_NAMES if name in models.PAIR_NAMES else models.NAMES
    return parts.small(name)


def small_configs():
    """Returns (name, small copy). Configs that differ only in size, place of the data or evaluations appear once.

    All but the first of each family of tasks are marked slow.
    """
    unique = {}
    for name in CONFIGS:
        config = load(name)
        small = shrink(config, _small(config.model.name))
        trained = ConfigDict({key: value for key, value in small.items() if key != "evals"})
        unique.setdefault(configs.fingerprint(trained), (name, small))
    kinds = [FAMILIES.get(small.task.name, small.task.name) for _, small in unique.values()]
    for i, (name, small) in enumerate(unique.values()):
        yield pytest.param(name, small, id=name, marks=[pytest.mark.slow] if kinds[i] in kinds[:i] else [])


@pytest.mark.parametrize("name", FILES)
def test_header_says_what_a_reader_needs(name):
    header = FILES[name].read_text().split('"""')[1]
    entries = re.findall(r"^([A-Z]\w+):", header, re.MULTILINE)
    assert entries == ["Run", "Source", "Expected", "Cost"]
    assert name in header  # the command is this file's


@pytest.mark.parametrize("name", [name for name in FILES if ARGS[name]])
def test_unknown_argument_names_the_choices(name):
    with pytest.raises(UserError, match=ARGS[name][0]):
        load(f"{name}:nonsense")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluations_are_of_known_protocols_and_specs(name):
    for _, _, _, options in evaluations.read_entries(load(name).evals):
        host_ops.make_chain(options.get("train_host") or "decode")
        augment.make_augmentation(options.get("train_augment") or "")


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_builds_without_its_data(name):
    config = load(name)
    experiment = experiments.build(config, training_data="ignored")
    batch = experiment.batch["image"]
    assert batch.shape[0] == config.data.batch_size
    assert experiment.total > experiment.durations(config.optimizer.get("warmup", 0))
    augmented = jax.eval_shape(experiment.augment, jax.random.key(0), experiment.batch)
    views = (2,) if config.augment.startswith(("views(2", "multi_crop(")) else ()
    frames = (4,) if "clips" in name else ()
    assert augmented["image"].shape[:-3] == (config.data.batch_size, *views, *frames)


@pytest.mark.parametrize(("name", "overrides", "count"), PARAMETERS)
def test_parameter_count(name, overrides, count):
    experiment = experiments.build(load(f"configs/{name}", overrides), training_data="ignored")
    params = jax.eval_shape(experiment.init).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_rotnet_is_trained_as_in_the_paper():
    """Gidaris et al. 2018: 128 images at four angles; rates for 60, 60, 40 and 40 epochs, as in their code."""
    experiment = experiments.build(load("configs/self_supervised/rotnet_cifar10.py"), training_data="ignored")
    seen = jax.eval_shape(experiment.augment, jax.random.key(0), experiment.batch)
    assert jax.eval_shape(experiment.task.ask, seen, jax.random.key(0)).pieces.shape == (128, 4, 32, 32, 3)
    starts = [experiment.durations(f"{epoch} epochs") for epoch in (0, 60, 120, 160, 200)]
    assert starts[-1] == experiment.total
    for start, end, rate in zip(starts, starts[1:], (0.1, 0.02, 0.004, 0.0008)):
        for step in (start, end - 1):
            assert float(experiment.optimizer.learning_rate(step)) == pytest.approx(rate)


@pytest.mark.usefixtures("shares_no_program")
@pytest.mark.parametrize(("name", "config"), list(small_configs()))
def test_two_steps(name, config, tmp_path):
    results = train.run_train(config, tmp_path, quiet=True)
    classified = [evaluation for evaluation, section in config.evals.items() if section.name == "classify"]
    assert set(results) >= {f"{evaluation}/top1" for evaluation in classified}
    assert {result.split("/")[0] for result in results} == set(config.evals)
    assert all(math.isfinite(value) for value in results.values())
