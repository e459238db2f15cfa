"""Questions about distant objects: the scenes show what the labels say, and nothing else tells the answer."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from jaxvision.data import open_source, shapes, shapes_cells
from jaxvision.errors import UserError

QUESTIONS = list(shapes_cells.QUESTIONS)
N = 1500
# SHA-256 of images, masks, captions and labels of the first 50 examples, before there were questions.
KIND = {
    "train": "36f92b0e96830e9017a3ed0b03f12ede954823a0433e1a271a17514e432bca1e",
    "validation": "02f2ccfd54f902b166f0f6af41adb2f4dcf0d1cc882d042f068aaa152eb2cda5",
    "test": "ebd6a6483e66c106b4a517d07f037f2d60b0c2b12dbdc022d7949051f8b368cc",
}

# The same of the first 8 examples of each question.
DIGESTS = {
    "same": "f40ff2ed0c7203fd21357ec6bcf56bf1a2794fbffcdfb5cf189d817b71eb6469",
    "larger": "6770c85afa0bb90facd7d14907c3dca35a319d085ad245a4fc925319db728604",
    "nearest": "dd3e5200821cd2100f97004ac43310cad22ec393cd10e4ed3c16a61eeabe5747",
    "count": "0bce7d8e581a48771a8d71373dcd808842966497fbb2fb44a4cc3d43ecc626b9",
    "kind_same": "d0dd1a2f799bfdc0c5437369c9258f6b60bfaf8d77b6f98fa9bd499c65e20c66",
    "kind_of_larger": "dd864337587b12c90984cdbc42e0715dc4ca870a40c21aaa96838219b5d54995",
    "odd_one": "819ac2f6bebc7f0b1233b48dd673e491495bf2e404f6d344467bb1c285a31a76",
    "alone": "cbca410a528d337bebb6ee3960ef6dff1cc98ad1f7f9d7989211eff20b87a632",
}


def digest(split, count, question):
    examples = [shapes.render(split, i, question=question) for i in range(count)]
    parts = (
        e["image"].tobytes() + e["instance_mask"].tobytes() + e["caption"].encode() + bytes([e["label"]])
        for e in examples
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def samples():
    """The scenes and answers of each question."""
    return {q: [shapes_cells.sample(q, "train", i) for i in range(N)] for q in QUESTIONS}


@pytest.mark.parametrize("split", shapes.SPLITS)
def test_scenes_without_a_question_are_the_old_ones(split):
    assert digest(split, 50, "kind") == KIND[split]


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_example_has_a_pinned_digest(question):
    assert digest("train", 8, question) == DIGESTS[question]


def test_questions_splits_and_indices_have_scenes_of_their_own():
    images = [
        shapes.render(split, i, question=q)["image"].tobytes()
        for q in shapes.QUESTIONS
        for split in shapes.SPLITS
        for i in range(4)
    ]
    assert len(set(images)) == len(images)


def true_answer(question, scene):
    """The answer, from the objects alone."""
    objects = scene.objects
    kinds = [o.kind for o in objects]
    left, right = (pick(objects, key=lambda o: o.centre[0]) for pick in (min, max))
    larger = max(objects, key=lambda o: o.radius)
    if question == "same":
        return "same" if left.kind == right.kind else "different"
    if question == "larger":
        return "left" if larger is left else "right"
    if question == "nearest":
        middle = sorted(objects, key=lambda o: o.centre[0])[1]
        squared = lambda o: sum((a - b) ** 2 for a, b in zip(o.centre, middle.centre))
        return "left" if squared(left) < squared(right) else "right"
    if question == "count":
        return ("one", "two", "three", "four", "five", "six")[len(objects) - 1]
    if question == "kind_same":
        return f"{left.kind}, {'same' if left.kind == right.kind else 'different'}"
    if question in ("kind_of_larger", "alone"):
        return larger.kind
    assert sorted(Counter(kinds).values()) == [1, 3]
    return min(kinds, key=kinds.count)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_label_answers_the_question(samples, question):
    classes = shapes_cells.QUESTIONS[question].classes
    for scene, answer in samples[question]:
        assert classes[answer] == true_answer(question, scene)


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_equally_frequent(samples, question):
    classes = shapes_cells.QUESTIONS[question].classes
    counts = Counter(answer for _, answer in samples[question])
    expected = N / len(classes)
    assert set(counts) == set(range(len(classes)))
    assert chi2([[counts[a] for a in range(len(classes))]], np.full((1, len(classes)), expected)) < 30


def chi2(counts, expected):
    return float(((np.asarray(counts) - expected) ** 2 / expected).sum())


def independence(values, answers):
    """The p of a chi-squared test that a category and the answer are independent."""
    table = np.array([[np.sum((values == v) & (answers == a)) for a in np.unique(answers)] for v in np.unique(values)])
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    return stats.chi2.sf(chi2(table, expected), max(1, (table.shape[0] - 1) * (table.shape[1] - 1)))


def fifths(values):
    """Cuts numbers into five groups of equal size."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") * 5 // len(values)


# Numbers that have nothing to do with any question, of the leftmost object and of the scene.
LOOKS = {
    "red": lambda o, scene: o.paint[0][0],
    "green": lambda o, scene: o.paint[0][1],
    "blue": lambda o, scene: o.paint[0][2],
    "tilt": lambda o, scene: o.axis[1],
    "aspect": lambda o, scene: o.aspect,
    "background": lambda o, scene: sum(scene.background.paint[0]),
    "light": lambda o, scene: sum(scene.light.colour),
    "noise": lambda o, scene: scene.grain.amplitude,
    "row": lambda o, scene: int(3 * o.centre[1]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_looks_do_not_tell_the_answer(samples, question):
    answers = np.array([answer for _, answer in samples[question]])
    looks = dict(LOOKS)
    if question == "count":  # the more objects, the higher the first of them
        del looks["row"]
    if question not in ("larger", "kind_of_larger", "count"):
        looks["radius"] = lambda o, scene: o.radius
    for name, look in looks.items():
        values = [look(min(s.objects, key=lambda o: o.centre[0]), s) for s, _ in samples[question]]
        groups = np.array(values) if name == "row" else fifths(values)
        assert independence(groups, answers) > 1e-4, name


@pytest.mark.parametrize(
    ("question", "relation"), [("same", lambda a: a), ("kind_same", lambda a: a % 2), ("nearest", lambda a: a)]
)
def test_no_object_alone_tells_a_relation(samples, question, relation):
    answers = np.array([relation(answer) for _, answer in samples[question]])
    for position in range(len(samples[question][0][0].objects)):
        for look in (lambda o: o.kind, lambda o: str([int(3 * c) for c in o.centre])):
            values = np.array([look(scene.objects[position]) for scene, _ in samples[question]])
            assert independence(values, answers) > 1e-4


def test_the_size_of_one_object_is_only_a_hint(samples):
    """The best threshold on the left object's radius: 50 % would be no hint, 100 % an answer without a relation."""
    radii, answers = zip(*((scene.objects[0].radius, answer) for scene, answer in samples["larger"]))
    right = [np.mean((np.array(radii) < edge) == np.array(answers)) for edge in sorted(radii)[::10]]
    assert 0.65 < max(right) < 0.8


@pytest.mark.parametrize("question", QUESTIONS)
def test_objects_are_apart_within_the_frame_and_large_enough_to_see(question):
    for i in range(40):
        example = shapes.render("validation", i, question=question)
        mask = example["instance_mask"][:, :, 0]
        scene, _ = shapes_cells.sample(question, "validation", i)
        areas = np.bincount(mask.ravel(), minlength=len(scene.objects) + 1)[1:]
        assert areas.min() >= 6
        alone = [shapes.shapes_render.draw(scene._replace(objects=(o,)), 32)[1].sum() for o in scene.objects]
        assert areas.tolist() == alone  # no object hides a part of another
        for o in scene.objects:
            extent = o.radius * max(o.aspect, 1 / o.aspect)
            assert all(extent <= c <= 1 - extent for c in o.centre)
        assert [o["label"] for o in example["objects"]] == [o.kind for o in scene.objects]


@pytest.mark.parametrize("question", QUESTIONS)
def test_captions_name_every_object_and_its_place(samples, question):
    for scene, _ in samples[question][:50]:
        text = shapes_cells.caption(scene)
        assert all(f"a {o.colour} {o.kind} " in text for o in scene.objects)
        assert text.count(" at the ") + text.count(" in the middle") == len(scene.objects)
        assert text.endswith("background")


def test_a_prepared_set_holds_the_answers(tmp_path):
    options = dict(train=6, validation=2, test=2, question="odd_one")
    source = open_source("shapes", "train", data_dir=str(tmp_path), options=options | dict(text="caption"))
    assert source.info.classes == shapes_cells.KINDS
    for i in range(6):
        example = shapes.render("train", i, question="odd_one")
        assert (source[i]["label"], source[i]["text"]) == (example["label"], example["caption"])
    assert (tmp_path / "shapes" / "32px-6-2-2-odd_one").is_dir()
    plain = open_source("shapes", "train", data_dir=str(tmp_path), options=dict(train=6, validation=2, test=2))
    assert plain.info.classes == shapes.CLASSES
    assert (tmp_path / "shapes" / "32px-6-2-2").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(question="odd"), "unknown question of shapes 'odd'; did you mean 'odd_one'"),
        (dict(question="same", label="colour"), "takes no label='colour': leave out"),
        (dict(question="same", scenes="seen"), "takes no scenes='seen': leave out"),
    ],
)
def test_wrong_questions_are_refused_before_anything_is_rendered(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        open_source("shapes", "train", data_dir=str(tmp_path), options=options)
    assert not any(tmp_path.iterdir())
