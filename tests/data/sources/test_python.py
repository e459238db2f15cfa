"""Objects of a Python program as a data set: arrays, indexables, tables of `datasets`; each is read as it is."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import sources
from jaxvision.data.sources import objects, python
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 6, 8, 3), np.uint8)
LABELS = np.arange(12) % 3


@contextlib.contextmanager
def opened(data, split="train", fields=None, classes=None):
    with python.offered(data, classes) as options:
        yield sources.open_source("python", split, options=options, fields=fields)


class Pairs:
    """As a set of torchvision: images of PIL, targets, names of classes."""

    classes = ["cat", "dog", "owl"]

    def __init__(self, targets=LABELS):
        self.targets = list(targets)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return Image.fromarray(PICTURES[index]), self.targets[index]


class Nameless:
    """Knows neither its classes nor its labels."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


@pytest.mark.parametrize("data", [dict(image=PICTURES, label=LABELS), (PICTURES, LABELS)], ids=["dict", "pair"])
def test_arrays_are_read_without_a_copy(data):
    with opened(data) as source:
        assert len(source) == 12
        assert source.info.num_classes == 3
        assert np.shares_memory(source[4]["image"], PICTURES)
        assert [source[i]["label"] for i in range(12)] == source.labels.tolist() == LABELS.tolist()
        assert source.fields["image"].shape == (6, 8, 3)


def test_other_fields_names_of_classes_and_several_labels():
    captions = [f"picture {i}" for i in range(12)]
    names = np.array(["owl", "cat", "dog"])[LABELS]
    with opened(dict(image=PICTURES, label=names, text=captions, age=np.arange(12.0))) as source:
        assert source.info.classes == ("cat", "dog", "owl")
        assert source[1] | {"image": None} == {"image": None, "label": 0, "text": "picture 1", "age": 1.0}
        assert source.fields["text"].kind == "text"
    hot = np.eye(4)[LABELS]
    with opened((PICTURES, hot)) as source:
        assert source.info.multi_label
        np.testing.assert_array_equal(source.labels, hot)


def test_a_set_of_torchvision_gives_its_classes_and_a_subset_too():
    class Subset:
        dataset, indices = Pairs(), [3, 1, 7]

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return self.dataset[self.indices[index]]

    for data, labels in ((Pairs(), LABELS), (Subset(), LABELS[[3, 1, 7]])):
        with opened(data) as source:
            assert source.info.classes == ("cat", "dog", "owl")
            assert source.labels.tolist() == labels.tolist()
    with opened(Pairs()) as source:
        np.testing.assert_array_equal(source[2]["image"], PICTURES[2])


class Transformed(Pairs):
    """As a set of torchvision with a `target_transform`: its examples have other labels than its attribute."""

    def __getitem__(self, index):
        return Image.fromarray(PICTURES[index]), 1 - self.targets[index] % 2


def test_the_label_of_an_example_counts_if_an_attribute_says_another():
    with opened(Transformed(), classes=2) as source:
        assert source.info.classes == ()
        assert [source[i]["label"] for i in range(12)] == source.labels.tolist() == (1 - LABELS % 2).tolist()
    with opened(Transformed()) as source:
        assert source.info.num_classes is None

    class Names(Pairs):
        def __getitem__(self, index):
            return Image.fromarray(PICTURES[index]), self.classes[self.targets[index]]

    with opened(Names(), classes=("owl", "dog", "cat")) as source:
        assert [source[i]["label"] for i in range(12)] == (2 - LABELS).tolist()


def test_a_rare_label_that_differs_from_the_attribute_is_an_error():
    class Relabelled(Pairs):
        def __init__(self):
            super().__init__(np.arange(100) % 3)

        def __getitem__(self, index):
            return PICTURES[index % 12], 2 if index == 51 else self.targets[index]

    with opened(Relabelled()) as source:
        assert source[50]["label"] == 2
        with pytest.raises(
            UserError, match=r"data\[51\] has the label 2, but its attribute .* says 0: make them equal"
        ):
            source[51]


def test_dicts_files_and_bytes_are_examples(tmp_path):
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    file = io.BytesIO(content)
    examples = [
        {"img": str(tmp_path / "a.png"), "target": 1},
        {"img": content, "target": 0},
        {"img": Image.open(file), "target": 1},
    ]
    with opened(Nameless(examples), classes=("no", "yes")) as source:
        assert [source[i]["label"] for i in range(3)] == [1, 0, 1]
        assert source[0]["image"] == source[1]["image"] == content
        np.testing.assert_array_equal(source[2]["image"], PICTURES[0])


def test_splits_and_slices():
    data = dict(train=(PICTURES, LABELS), validation=Pairs(LABELS[:4]))
    with opened(data, "train[50%:]+validation") as source:
        assert len(source) == 10
        assert source.labels.tolist() == [*LABELS[6:], *LABELS[:4]]
        assert source.describe(6) == "example 0 of data['validation']"
    with (
        pytest.raises(UserError, match=r"no split of that name; did you mean 'validation'"),
        opened(data, "validatoin"),
    ):
        pass


def test_the_fingerprint_follows_the_content():
    def of(data):
        with python.offered(data) as options:
            return options["splits"]["train"]

    one = of((PICTURES, LABELS))
    assert one == of(dict(label=LABELS.copy(), image=PICTURES.copy()))
    changed = PICTURES.copy()
    changed[7, 3, 3, 1] ^= 1
    assert one != of((changed, LABELS))
    assert one != of((PICTURES, LABELS[::-1]))
    assert one.startswith("arrays, 12 examples, ")


def test_the_fingerprint_follows_all_labels_where_they_are_known():
    def of(data):
        with python.offered(data) as options:
            return options["splits"]["train"]

    class Many(Pairs):
        def __getitem__(self, index):
            return PICTURES[index % 12], self.targets[index]

    labels = np.arange(100) % 3
    changed = labels.copy()
    changed[51] = 2
    assert of(Many(labels)) == of(Many(list(labels))) != of(Many(changed))
    files = [PICTURES[i % 12] for i in range(100)]
    assert of((files, labels)) == of((list(files), labels)) != of((files, changed))


def test_the_fingerprint_of_a_table_is_its_own_and_its_labels():
    class Dataset:  # as of `datasets`, without images
        _fingerprint = "1"

    one = object.__new__(objects.Table)
    one._table, one.labels = Dataset(), [0, 1]
    before = one.digest()
    one.labels = [1, 0]
    relabelled = one.digest()
    one._table._fingerprint = "2"
    assert len({before, relabelled, one.digest()}) == 3


def test_the_digest_of_an_example_follows_type_and_shape():
    pixels = np.zeros((4, 6), np.uint8)
    same = [pixels, pixels.T, pixels.astype(bool)]
    assert len({python.digest_of({"image": x}) for x in same}) == 3


def test_objects_are_readable_only_while_they_are_offered():
    with python.offered((PICTURES, LABELS)) as options:
        sources.open_source("python", "train", options=options)
    with pytest.raises(UserError, match=r"objects of a Python program.*arrays, 12 examples.*with the same objects"):
        sources.open_source("python", "train", options=options)


def test_a_broken_example_is_a_bad_one_and_a_failing_set_an_error():
    broken = Nameless([(PICTURES[0], 0), (b"", 0), (None, 1)])
    with opened(broken, classes=2) as source, pytest.raises(BadExample, match="is a NoneType"):
        source[2]

    class Failing(Pairs):
        def __getitem__(self, index):
            return super().__getitem__(index if index < 5 else 1 // 0)

    with pytest.raises(UserError, match=r"data\[.*\] raises ZeroDivisionError"), opened(Failing()) as source:
        source[7]


def test_random_transforms_are_refused():
    class Random(Pairs):
        def __getitem__(self, index):
            return RNG.integers(0, 256, (4, 4, 3), np.uint8), 0

    with (
        pytest.raises(UserError, match=r"different each time that it is read.*take random transforms out"),
        opened(Random()),
    ):
        pass


def test_transforms_that_seldom_change_an_example_are_refused():
    class Rare(Pairs):
        def __init__(self):
            super().__init__(np.arange(100) % 3)
            self.reads = 0

        def __getitem__(self, index):
            self.reads += index == 99
            return PICTURES[(index + (index == 99 and self.reads % 5 == 0)) % 12], self.targets[index]

    with pytest.raises(UserError, match=r"data\[99\] is different each time"), opened(Rare()):
        pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dict(image=PICTURES, label=LABELS[:3]), r"have one length, not \{'image': 12, 'label': 3\}"),
        ((PICTURES, np.array([-1] * 12)), "-1 is negative"),
        (iter([1]), r"without a length: a stream cannot be shuffled"),
        (7, "data is a int; give dict"),
        ([], "data holds no examples"),
        (Nameless([7]), r"it is a int, 7: give dict"),
        (Nameless([{"label": 3}]), "has label, but no image"),
        (dict(train=[], test=[]), r"data\['train'\] holds no examples"),
        ({"a.b": (PICTURES, LABELS)}, "names of splits are words"),
        ((PICTURES.astype(float), LABELS), "in the first example, its image has floats from 0 to 2.*not from 0 to 1"),
    ],
)
def test_mistakes_are_named(data, message):
    with pytest.raises(UserError, match=message), opened(data):
        pass


def test_a_table_of_hugging_face_keeps_its_files_encoded():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine_label": datasets.ClassLabel(names=["cat", "dog", "owl"]),
            "caption": datasets.Value("string"),
        }
    )
    rows = {"img": [Image.fromarray(x) for x in PICTURES], "fine_label": LABELS, "caption": ["a"] * 12}
    table = datasets.Dataset.from_dict(rows, features)
    with opened(table.shuffle(seed=0).select(range(8))) as source:
        assert source.info.classes == ("cat", "dog", "owl")
        assert isinstance(source[0]["image"], bytes)
        assert source[0]["text"] == "a"
        assert len(source.labels) == 8
    with opened(datasets.DatasetDict(train=table, test=table), "test", fields=("image",)) as source:
        assert list(source[3]) == ["image"]
    with (
        pytest.raises(UserError, match=r"no column of images: its columns are a \(Value\)"),
        opened(datasets.Dataset.from_dict({"a": [1]})),
    ):
        pass


def test_a_dataset_of_torch_with_tensors():
    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(
        torch.from_numpy(PICTURES).permute(0, 3, 1, 2) / 255, torch.from_numpy(LABELS)
    )
    with opened(tensors, classes=3) as source:
        np.testing.assert_array_equal(source[5]["image"], PICTURES[5])
        assert source[5]["label"] == LABELS[5]
