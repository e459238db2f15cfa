"""The evaluator against plain NumPy, on sizes that do not divide and on several devices."""

import jax.numpy as jnp
import numpy as np
import pytest
from coded import Coded, ReadsPixels

from jaxvision.data.sources import Info
from jaxvision.errors import UserError
from jaxvision.evals import classify, dataset, get_evaluator


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("n", [5, 16, 37])
def test_every_example_counts_once(mesh, devices, n):
    source = Coded(n)
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh(devices))
    run = classify.make_classify(task=ReadsPixels(7), data=data, topk=(1, 3, 50))
    for _ in range(2):  # the second time from what stayed on the devices
        result = run({"scale": jnp.float32(3.0)})
        logits = source.scores / 255 * 3.0
        order = np.argsort(-logits, axis=1, kind="stable")
        ranks = np.argmax(order == source.true[:, None], axis=1)
        exp = np.exp(logits)
        loss = -np.log(exp[np.arange(n), source.true] / exp.sum(1))
        want = {"top1": np.mean(ranks < 1), "top3": np.mean(ranks < 3), "loss": loss.mean(), "examples": n}
        assert result.keys() == want.keys()  # 50 classes are more than there are: no top50
        for name, value in want.items():
            assert result[name] == pytest.approx(value, rel=1e-5), name


def test_constant_and_broken_logits_are_not_right():
    labels = jnp.array([0, 1, 2])
    assert classify.rank(jnp.zeros((3, 3)), labels).tolist() == [0, 1, 2]
    assert classify.rank(jnp.full((3, 3), jnp.nan), labels).tolist() == [3, 3, 3]
    assert classify.rank(jnp.array([[jnp.nan, 1.0, 9.0]] * 3), labels).tolist() == [3, 3, 3]


def test_a_set_without_classes(mesh):
    source = Coded(5)
    source.info = source.info._replace(num_classes=None)
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh(1))
    with pytest.raises(UserError, match="names no classes"):
        classify.make_classify(task=ReadsPixels(7), data=data)


def test_unknown_evaluator():
    with pytest.raises(UserError, match="did you mean 'classify'"):
        get_evaluator("clasify")


def judged(source, mesh, k=7, **options):
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh(1))
    return classify.make_classify(task=ReadsPixels(k), data=data, **options)({"scale": jnp.float32(3.0)})


def test_only_some_classes_are_candidates_and_images_of_others_are_left_out(mesh):
    source, kept = Coded(37), [1, 4, 6]
    result = judged(source, mesh, only=(4, "1", 6), topk=(1, 2, 5))
    (prefix,) = {name.rpartition("/")[0] for name in result} - {""}
    assert prefix.startswith("only_")
    among = np.isin(source.true, kept)
    logits, labels = source.scores[among][:, kept] / 255 * 3.0, np.searchsorted(kept, source.true[among])
    ranks = np.argmax(np.argsort(-logits, axis=1, kind="stable") == labels[:, None], axis=1)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    want = {"top1": np.mean(ranks < 1), "top2": np.mean(ranks < 2), "loss": loss.mean()}
    assert result == pytest.approx({f"{prefix}/{k}": v for k, v in want.items()} | {"examples": among.sum()}, rel=1e-5)


def test_a_set_with_some_of_the_classes_is_matched_by_name(mesh):
    """Four classes of seven in another order: the same images with the labels of training give the same numbers."""
    names, trained = tuple("fbda"), Info("training", "train", 9, tuple("abcdefg"), 7)
    some = Coded(37)
    some.true = np.random.default_rng(0).integers(0, 4, 37)
    some.info = some.info._replace(num_classes=4, classes=names)
    whole = Coded(37)
    whole.info = whole.info._replace(classes=trained.classes)
    whole.true = np.array([trained.classes.index(names[k]) for k in some.true])
    assert judged(some, mesh, trained=trained, only=names) == judged(whole, mesh, only=("a", 1, 3, 5))
    with pytest.raises(UserError, match="has 4 classes, the training set 'training' has 7: .* choose them with 'only'"):
        judged(some, mesh, trained=trained)
    some.info = some.info._replace(classes=tuple("wxyz"))
    with pytest.raises(UserError, match="no class in common by name, such as 'w' and 'a'"):
        judged(some, mesh, trained=trained, only=("a", "b"))
    some.info = some.info._replace(classes=())
    with pytest.raises(UserError, match="which are the same is not known"):
        judged(some, mesh, trained=trained, only=("a", "b"))


def test_no_image_of_the_candidates(mesh):
    source = Coded(5)
    source.true = np.zeros(5, int)
    with pytest.raises(UserError, match=r"has no image of the classes of only=\(1, 2\)"):
        judged(source, mesh, only=(1, 2))
