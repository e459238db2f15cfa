"""What is told before a run starts, and what is an error then; as a user meets them, and by its parts."""

from functools import partial

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxvision import cautions, checks, components, inputs, models, tasks
from jaxvision import experiment as experiments
from jaxvision.commands import evaluate, train
from jaxvision.data import loader, resident
from jaxvision.data.sources import BadExample, Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import dataset
from jaxvision.optim import optimizers
from jaxvision.sections import DataSection, TrainSection
from jaxvision.tasks.task import Joint, Task


class Listed(Source):
    """A source whose labels lie in memory."""

    def __init__(self, labels, classes, multi_label=False, side=2):
        self._labels, self._side = labels, side
        names = classes if isinstance(classes, tuple) else ()
        count = len(classes) if isinstance(classes, tuple) else classes
        self.info = Info("pets", "train", len(labels), names, count, multi_label)

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        return {"image": np.full((self._side, self._side, 3), index, np.uint8), "label": self._labels[index]}

    def _read_labels(self):
        return np.array(self._labels, np.float32 if self.info.multi_label else np.int32)


class Stored(Listed):
    """One whose labels lie beside the images, which are dear to read."""

    _read_labels = Source._read_labels


def test_classes_without_an_example_are_counted_and_three_are_named():
    names = tuple("abcdefgh")
    assert cautions.warn_of_classes(Listed([0, 2, 3, 4, 5, 6, 7], names), True) == [
        "warning: 1 of the 8 classes have no example in train of pets: 'b'"
    ]
    (warning,) = cautions.warn_of_classes(Listed([0, 7, 7], names), True)
    assert warning.endswith("6 of the 8 classes have no example in train of pets: 'b', 'c', 'd' and 3 more")
    (warning,) = cautions.warn_of_classes(Listed([0, 2], 3), False)  # classes without names
    assert warning.endswith("1 of the 3 classes have no example in train of pets: 1")
    (warning,) = cautions.warn_of_classes(Listed([[1, 0, 0], [1, 0, 1]], ("x", "y", "z"), multi_label=True), True)
    assert warning.endswith("1 of the 3 classes have no example in train of pets: 'y'")
    assert cautions.warn_of_classes(Listed(list(range(8)), names), True) == []


def test_labels_that_are_all_equal_are_told():
    (warning,) = cautions.warn_of_classes(Listed([1, 1, 1], ("cat", "owl")), True)
    assert warning == (
        "warning: all 3 examples of train of pets are of the class 'owl', of 2 classes: no other class can be learned"
    )
    assert "a model that always predicts it" in cautions.warn_of_classes(Listed([1, 1], ("cat", "owl")), False)[0]


def test_labels_that_are_dear_to_read_are_not_looked_at():
    source = Stored([1, 1], ("cat", "owl"))
    assert cautions.warn_of_classes(source, True) == []
    assert len(source.labels) == 2  # somebody needed them
    assert len(cautions.warn_of_classes(source, True)) == 1
    assert cautions.warn_of_classes(Listed([0], None), True) == []


TEACHER = dict(name="nin", blocks=3, width=0.05)


@pytest.mark.parametrize(
    ("name", "options", "reads"),
    [
        ("supervised", {}, True),
        ("probe", {}, True),
        ("simclr", {}, False),
        ("simclr", dict(loss="supervised_contrastive"), True),
        ("distill", dict(teacher=TEACHER), False),
        ("distill", dict(teacher=TEACHER, alpha=0.5), True),
    ],
)
def test_tasks_that_read_labels(name, options, reads):
    task = tasks.get_task(name)(model=partial(models.build, "nin", blocks=3, width=0.05), num_classes=3, **options)
    assert task.labelled == reads


class Captioned(Source):
    """A source of captions; None is an example that cannot be read."""

    def __init__(self, captions):
        self._captions, self.read = captions, []
        self.info = Info("pets", "train", len(captions), (), None)

    def __len__(self):
        return len(self._captions)

    def __getitem__(self, index):
        self.read.append(index)
        if self._captions[index] is None:
            raise BadExample("no caption")
        return {"words": self._captions[index]}


def test_captions_that_are_all_equal_are_told():
    host = "decode|tokenize('bytes', 8, field='words')"
    (warning,) = cautions.warn_of_captions(Captioned(["a pet", None, ("a pet",)]), host)
    assert warning.startswith("warning: all 2 captions that were compared of train of pets are 'a pet': ")
    (warning,) = cautions.warn_of_captions(Captioned([("a", "b")] * 1000), host)
    assert warning.startswith("warning: all 256 captions that were compared of train of pets are ('a', 'b'): ")
    varied = Captioned(["a cat"] * 900 + ["a dog"] * 100)  # in the order of their classes
    assert cautions.warn_of_captions(varied, host) == []
    different = Captioned([str(i) for i in range(1000)])
    assert cautions.warn_of_captions(different, host) == []
    assert len(different.read) == 2
    for captions, spec in (["a"], host), ([None, None], host), (["a", "a"], "decode|class_captions|tokenize('bytes')"):
        assert cautions.warn_of_captions(Captioned(captions), spec) == []


def of_optimizer(total=100, warmup=0, **section):
    section = dict(name="sgd", learning_rate=0.1) | section
    params = {"head": {"kernel": np.ones(2), "bias": np.ones(1)}}
    made = optimizers.make_optimizer(**section, params=params, total=total, steps=int, warmup=warmup)
    return cautions.warn_of_optimizer(section, made, params, total, warmup)


FIRST_ONLY = ((r"head/kernel$", 0.0), (r".*", 0.0))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (dict(learning_rate=0.0), "the learning rate is 0 at every step: nothing"),
        (dict(total=1, warmup=1), "since the warm-up begins at 0 and takes the whole run"),
        (dict(total=4, warmup=4), "the learning rate reaches 0.075 and never optimizer.learning_rate=0.1"),
        (dict(total=0), "train.total is 0 steps"),
        (dict(weight_decay=0.1, decay_rules=FIRST_ONLY), "optimizer.weight_decay=0.1 decays nothing"),
        (dict(weight_decay=0.1, freeze=(("kernel", True), (".*", False))), "optimizer.weight_decay=0.1 decays nothing"),
        (dict(lr_rules=FIRST_ONLY), "optimizer.lr_rules give 0 to every parameter"),
        (dict(lr_rules=(("bias", 1.0), (".*", 0.0)), freeze=(("bias", True), (".*", False))), "lr_rules give 0"),
        ({}, None),
        (dict(schedule="cosine", warmup=50, weight_decay=0.1), None),
        (dict(total=2, warmup=1), None),
        (dict(lr_rules=(("bias", 1.0), (".*", 0.0))), None),
        (dict(schedule="step(1, factor=0.0)"), None),  # the first step learns
    ],
)
def test_optimizers_that_change_or_decay_nothing(section, words):
    warnings = of_optimizer(**section)
    assert len(warnings) == (words is not None)
    assert all(line.startswith("warning: ") and words in line for line in warnings)


def test_an_image_that_would_be_mixed_with_itself():
    assert "cutmix mixes" in cautions.warn_of_augmentation("flip_lr|cutmix(1.0)", 1)[0]
    assert cautions.warn_of_augmentation("flip_lr|cutmix(1.0)", 2) == cautions.warn_of_augmentation("flip_lr", 1) == []


def test_a_batch_larger_than_the_set_names_both_numbers():
    data = lambda size: DataSection("folder", "train", size)
    info = Listed([0] * 12, 2).info
    inputs.check_size(data(12), info)
    with pytest.raises(
        UserError, match=r"data.batch_size=64 is larger .* has 12 examples, and each would come 5.3 times"
    ):
        inputs.check_size(data(64), info)


@pytest.mark.parametrize("joint", [False, True])
def test_a_loss_that_compares_examples_needs_two_of_them_at_a_time(joint):
    task = Task(None, Joint(None, None) if joint else None, None, least=2)
    check = lambda size, n: components.check_compared(task, TrainSection("1 step", accumulate=n), size)
    check(2, 1)
    check(8, 4)
    with pytest.raises(UserError, match="at least 2, but data.batch_size is 1: raise it"):
        check(1, 1)
    if joint:  # its microbatches are compared all with all
        check(4, 4)
    else:
        with pytest.raises(UserError, match=r"batch_size is 4 in 4 microbatches \(train.accumulate\), of 1 each"):
            check(4, 4)


def test_memory_follows_the_size_of_a_split_not_that_of_a_batch(mesh, monkeypatch):
    """A small split of large images is read and judged in batches of its size."""
    asked = []

    def batches(*arguments, batch_size, **options):
        asked.append(batch_size)
        return loader.eval_batches(*arguments, batch_size=batch_size, **options)

    source = Listed([0, 1, 0], 2, side=8)
    monkeypatch.setattr(resident, "eval_batches", batches)
    loaded = resident.load_arrays(source, "decode")
    assert asked == [16]
    np.testing.assert_array_equal(loaded["image"][:, 0, 0, 0], [0, 1, 2])
    opened = dataset.EvalSet(source, host="decode", augment="", batch_size=1 << 20, mesh=mesh(2))
    (batch,) = opened.batches()
    assert batch["image"].shape == opened.batch["image"].shape == (4, 8, 8, 3)
    assert batch["mask"].tolist() == [True] * 3 + [False]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Eight images of each of three classes in either split, but none of the last in validation."""
    root, rng = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    for split in ("train", "validation"):
        for label in ("cat", "dog", "owl"):
            (root / split / label).mkdir(parents=True)
            for i in range(0 if (split, label) == ("validation", "owl") else 8):
                image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8))
                image.save(root / split / label / f"{i}.png")
    return root


def config(root, **changes):
    c = ConfigDict()
    c.data = dict(name="folder", data_dir=str(root), split="train", batch_size=8)
    c.model = dict(name="lenet")
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1)
    c.train = dict(total="1 step")
    c.evals = dict(val=dict(name="classify", split="validation"))
    for section, values in changes.items():
        c[section].update(values)
    return c


def test_a_run_tells_them_once_before_its_first_step(pets, tmp_path, capsys):
    knn = dict(name="knn", split="train[20:]", train_split="train[:22]", k=(1,))
    again = dict(name="classify", split="validation")
    c = config(pets, data=dict(split="train[:21]"), optimizer=dict(learning_rate=0.0), evals=dict(knn=knn, again=again))
    train.run_train(c, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    all_owls = f"warning: all 4 examples of train[20:] of {pets.name} are of the class 'owl', of 3 classes: "
    judges = (
        "warning: evals.knn evaluates on images that {} is trained on: {} of the 4 examples of train[20:] are in {} too"
    )
    assert warnings == [
        "warning: the learning rate is 0 at every step: nothing is learned",
        f"warning: 1 of the 3 classes have no example in validation of {pets.name}: 'owl'",
        f"{all_owls}a model that always predicts it is always right",
        judges.format("it", 2, "train[:22]"),
        judges.format("the run", 1, "train[:21]"),
    ]
    assert lines.index(warnings[-1]) < next(i for i, line in enumerate(lines) if line.startswith("step 1/1"))
    evaluate.run_evaluate(tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("warning: ")] == warnings[1:]
    assert lines.index(warnings[-1]) < next(i for i, line in enumerate(lines) if line.startswith("step 1 "))
    evaluate.run_evaluate(tmp_path / "run", form="json")
    shown = capsys.readouterr()
    assert "warning" not in shown.out
    assert shown.err.count("warning: ") == 4


def test_a_healthy_run_tells_nothing(pets):
    experiment = experiments.build(config(pets, optimizer=dict(weight_decay=0.1, schedule="cosine")))
    assert checks.cautions_of(experiment) == []


def test_one_class_is_an_error_before_anything_is_written(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / "data" / split / "cat").mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (32, 32)).save(tmp_path / "data" / split / "cat" / f"{i}.png")
    with pytest.raises(UserError, match="this data set has one class, so every answer is right"):
        train.run_train(config(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dict(subset={}), "data.subset is empty: say dict"),
        (dict(fields=("image", "label", "label")), "data.fields names 'label' 2 times"),
        (dict(split="train+train"), "holds examples of 'train' twice"),
    ],
)
def test_what_would_be_read_otherwise_than_it_says_is_an_error(pets, data, message):
    with pytest.raises(UserError, match=message):
        experiments.build(config(pets, data=data))
    if "subset" in data:
        with pytest.raises(UserError, match="give one of them"):
            experiments.build(
                config(pets, evals=dict(val=dict(name="classify", split="train", subset={})))
            ).evaluations()


def test_a_batch_of_more_than_the_set_is_an_error_before_anything_is_written(pets, tmp_path):
    with pytest.raises(UserError, match="data.batch_size=1,000,000 is larger than the training set"):
        train.run_train(config(pets, data=dict(batch_size=1_000_000)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
