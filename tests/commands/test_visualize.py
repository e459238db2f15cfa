"""Pictures of a run of any task, and of converted weights."""

import types

import numpy as np
import pytest
from PIL import Image

from jaxvision import experiment as experiments
from jaxvision import layout
from jaxvision.cli import main
from jaxvision.commands import convert, pages, pictures, train, visualize
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.explain.filters import first_kernel
from jaxvision.train.step import step_keys

FEW = dict(examples=20, perplexity=5)


def build(config, **changes):
    changed = override(config, {})
    with changed.unlocked():
        changed.update(changes)
    return experiments.build(changed)


def test_a_run_on_one_page(trained, tmp_path):
    page = visualize.run_visualize(trained[0], tmp_path, layer="stages/1", **FEW)
    text = (tmp_path / "index.md").read_text()
    assert "Step 6 of `supervised()`" in text
    assert "the output `stages/1` of 20 images of shapes validation" in text
    assert text.count("Left out") == 1
    assert "this model has none to show, it is not a Vision Transformer" in text
    for name in ("views", "neighbours", "embedding", "filters"):
        assert f"]({name}.png)" in text
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 50
    assert page.read_text().count("data:image/png;base64,") == 4


def test_converted_weights_have_no_views(trained, tmp_path, capsys):
    convert.run_convert(trained[0], tmp_path / "weights")
    words = ["jaxvision", "visualize", f"--workdir={tmp_path / 'weights'}", f"--out={tmp_path / 'out'}"]
    with pytest.raises(SystemExit):
        main(words)
    assert "which name no images: add --config=FILE.py with 'data'" in capsys.readouterr().err
    data = dict(name="shapes", options=dict(image_size=32, train=80, validation=24, test=8), split="validation")
    (tmp_path / "data.py").write_text(
        f"from ml_collections import ConfigDict\n\nget_config = lambda: ConfigDict({dict(data=data)!r})\n"
    )
    main([*words, f"--config={tmp_path / 'data.py'}", "--examples=20", "--perplexity=5"])
    text = (tmp_path / "out" / "index.md").read_text()
    assert "Left out: the training of these weights is not known" in text
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"neighbours.png", "embedding.png", "filters.png"}


def test_what_a_class_token_attends_to(config, tmp_path):
    """Of a run and of its weights."""
    vit = dict(name="vit", variant="Ti/8", width=16, depth=1, mlp_dim=16, num_heads=2, pool="token")
    config = override(config, {"train.total": "1 steps"})
    with config.unlocked():
        config.model = vit
    train.run_train(config, tmp_path / "run", quiet=True)
    visualize.run_visualize(tmp_path / "run", tmp_path / "pictures", **FEW)
    text = (tmp_path / "pictures" / "index.md").read_text()
    assert "attends to each patch in the last block, in each head." in text
    convert.run_convert(tmp_path / "run", tmp_path / "weights")
    data = dict(name="shapes", options=dict(image_size=32, train=80, validation=24, test=8), split="validation")
    visualize.run_visualize(tmp_path / "weights", tmp_path / "again", data=data, **FEW)
    pictures_of = [Image.open(tmp_path / folder / "attention.png") for folder in ("pictures", "again")]
    np.testing.assert_array_equal(*map(np.asarray, pictures_of))


def test_the_views_of_an_image_lie_beside_it(config):
    two = "views(2, ('flip_lr(1.0)', 'invert|invert'))|normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))"
    experiment = build(config, task=dict(name="simclr"), augment=two)
    cells = pictures.seen_images(experiment)
    raw, _ = pages.first_batch(experiment)
    assert len(cells) == 16
    for image, (original, flipped, same) in zip(raw["image"], cells):
        np.testing.assert_array_equal(original.image, image)
        np.testing.assert_allclose(flipped.image, image[:, ::-1] / 255, atol=1e-5)
        np.testing.assert_allclose(same.image, image / 255, atol=1e-5)


def test_the_small_crops_of_an_image_lie_behind_the_large_ones(config):
    crops = "multi_crop('random_resized_crop(16)|normalize(0.5, 0.5)', 'resize(8)|normalize(0.5, 0.5)', 2, 3)"
    experiment = build(config, task=dict(name="simclr"), augment=crops)
    for original, *seen in pictures.seen_images(experiment):
        assert [cell.image.shape[0] for cell in seen] == [16, 16, 8, 8, 8]
        np.testing.assert_allclose(seen[-1].image.mean(), original.image.mean() / 255, atol=0.02)


def test_turned_images_stand_with_their_answers(config):
    experiment = build(config, task=dict(name="rotation"), augment="normalize(0.5, 0.5)")
    for original, *turned in pictures.seen_images(experiment):
        for k, cell in enumerate(turned):
            assert cell.words == f"answer {k}"
            np.testing.assert_allclose(cell.image[0], np.rot90(original.image, k) / 255, atol=1e-5)


def test_what_a_task_shows_is_what_its_loss_is_of(config):
    experiment = build(config, task=dict(name="rotation", each="one"), augment="normalize(0.5, 0.5)")
    _, batch = pages.first_batch(experiment)
    asked = experiment.task.ask(batch, step_keys(experiment.seed, 0)[1])
    for (_, cell), answers in zip(pictures.seen_images(experiment), asked.answers):
        assert cell.words == f"answer {int(answers[0])}"
    assert len(np.unique(asked.answers)) > 1


def test_a_task_draws_images_of_its_own(config, tmp_path):
    config = override(config, {})
    with config.unlocked():
        del config.model
    experiment = build(
        config,
        task=dict(name="mae", decoder_width=16, decoder_depth=1, decoder_heads=2),
        model=dict(name="vit", variant="Ti/4", width=16, depth=1, num_heads=2),
        augment="normalize(0.5, 0.5)",
    )
    judged = experiment.judged()
    images = visualize._images(judged, visualize._section(judged, experiment, None, None), 20, 0)
    drawn = pictures.draw_task(experiment.task, images, experiment.initial_state().best_variables, seed=0)
    assert list(drawn) == ["image", "masked", "prediction", "with the patches seen"]
    assert {x.shape for x in drawn.values()} == {(8, *drawn["image"].shape[1:])}
    assert 0.5 < np.abs(drawn["image"]).max() < 1.001
    heading, text, _ = pictures.of_task(experiment, drawn, tmp_path / "task.png")
    assert heading == "## Reconstructions"
    assert "mean and variance" in text
    with Image.open(tmp_path / "task.png") as image:
        assert image.width > 4 * pictures.LARGE
    assert pictures.of_task(None, None, tmp_path / "none.png") == []


def test_images_scaled_one_by_one_can_be_looked_at(config):
    experiment = build(config, augment="standardize_image")
    _, batch = pages.first_batch(experiment)
    shown = pages.viewable(batch["image"], experiment)
    assert 0 <= shown.min() < 0.1 < 0.9 < shown.max() <= 1
    assert shown.std() > 0.1


def test_equal_features_are_called_a_collapse(trained, tmp_path):
    learned = visualize.features.Features(np.ones((20, 4)), np.zeros(20, np.int32), np.arange(20))
    info = experiments.sources.Info("a", "b", 20, ("cat",), 1)
    assert "collapsed" in pictures.maps(info, learned, 5.0, 0, tmp_path / "map.png")[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(layer="stage/1"), "unknown layer 'stage/1'; did you mean 'stages/1'"),
        (dict(examples=10, perplexity=5), "needs at least 16 images, not 10"),
        (dict(split="validaton"), "validaton"),
        (dict(data=dict(name="shapes")), "data.split"),
    ],
)
def test_errors_come_before_anything_is_written(trained, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        visualize.run_visualize(trained[0], tmp_path / "out", **FEW | options)
    assert not (tmp_path / "out").exists()


def test_filters_are_those_of_the_model_and_not_of_another_player():
    made_of = layout.Layout({"generator": layout.module_pattern("a_generator"), "backbone": ".*"}, ("backbone",))
    kernel = np.ones((3, 3, 3, 4), np.float32)
    params = {"a_generator": {"stem": {"kernel": kernel}}, "stem": {"kernel": 2 * kernel}}
    of_model = visualize._of_model(types.SimpleNamespace(layout=made_of), params)
    assert first_kernel(of_model)[0] == "stem/kernel"
    assert first_kernel(params)[0] == "a_generator/stem/kernel"
