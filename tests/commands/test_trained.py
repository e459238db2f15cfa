"""A trained model as a function of images: it says what `predict` says, in whatever form the images come."""

import io

import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.commands import predict
from jaxvision.data import any_image, decoding
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def model(trained):
    return jaxvision.load(trained[0])


@pytest.fixture
def odd_photos(tmp_path):
    """Photos that are easily misread: turned by EXIF, CMYK, grey, of 16 bits, with alpha, of a palette."""
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=turned.tobytes(), quality=95)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    image.convert("L").save(tmp_path / "grey.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.convert("P").save(tmp_path / "palette.gif")
    return sorted(tmp_path.iterdir())


def test_paths_bytes_and_pil_images_are_what_predict_reads(model, trained, odd_photos):
    expected = predict.run_predict(trained[0], [str(file) for file in odd_photos])
    for form in (lambda file: file, lambda file: file.read_bytes(), Image.open):
        found = model([form(file) for file in odd_photos])
        for file, one in zip(odd_photos, found):
            names, probabilities = zip(*expected[str(file)])
            assert [name for name, _ in one.top(5)] == list(names), file.name
            np.testing.assert_allclose([p for _, p in one.top(5)], probabilities, rtol=1e-4)


def test_arrays_of_every_form_are_the_same_image(model):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    expected = model(pixels).logits
    for same in (pixels / 255, np.dstack([pixels, pixels[..., 0]]), pixels.astype(np.uint16) * 257):
        np.testing.assert_allclose(model(same).logits, expected, rtol=1e-5)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_allclose(model({"bytes": file.getvalue(), "path": None}).logits, expected, rtol=1e-5)


def test_tensors_have_their_channels_first():
    class Tensor:  # as torch's
        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def detach(self):
            return self

        def cpu(self):
            return self.array

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(any_image.pixels_of(Tensor(np.float32(pixels.transpose(2, 0, 1)) / 255)), pixels)
    with pytest.raises(decoding.BadImage, match=r"channels must come last"):
        any_image.pixels_of(pixels.transpose(2, 0, 1))


def test_a_batch_of_mixed_sizes_equals_each_image_alone(model, odd_photos):
    images = [*map(Image.open, odd_photos), np.zeros((50, 40), np.uint8), np.ones((20, 90, 3), np.float32)]
    together = model(images)
    alone = np.stack([model(image).logits for image in images])
    np.testing.assert_allclose(together.logits, alone, rtol=1e-4, atol=1e-5)
    assert together.labels == [model(image).label for image in images]
    assert len(together[2:5]) == 3
    assert together[2].probability == pytest.approx(float(together.probabilities[2].max()))


def test_folders_and_patterns_are_several_images(model, odd_photos):
    folder = odd_photos[0].parent
    assert len(model(folder)) == len(model(str(folder / "*"))) == len(odd_photos)
    assert model(folder).names == tuple(map(str, odd_photos))
    assert model(str(odd_photos[0])).name == str(odd_photos[0])


def test_features_of_any_layer(model, odd_photos):
    assert model.features(odd_photos[0]).shape == model.layers["features"]
    assert model.features(odd_photos, layer="stages/1").shape == (len(odd_photos), *model.layers["stages/1"])
    np.testing.assert_allclose(model.features(odd_photos, layer="logits"), model(odd_photos).logits, rtol=1e-5)
    with pytest.raises(UserError, match="unknown layer 'stage/1'; did you mean 'stages/1'"):
        model.features(odd_photos[0], layer="stage/1")


def test_the_network_is_not_traced_at_each_call(model, monkeypatch):
    pixels = np.zeros((32, 32, 3), np.uint8)
    model(pixels)
    monkeypatch.setattr(model, "_averaged", lambda *arguments: 1 // 0)
    model(pixels)


def test_the_pure_function_is_reachable(model):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    out = model.outputs(model.variables, pixels)
    np.testing.assert_allclose(out["logits"], model(pixels).logits, rtol=1e-4, atol=1e-5)
    assert "10 classes" in repr(model)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere.jpg", "no file or folder 'nowhere.jpg'"),
        (7, "images are a int: give a path"),
        ([], "no images: there are none"),
        (b"no picture", "the image 0 cannot be read"),
        (np.zeros((4, 4, 3), int), "array of int64, not uint8"),
        (np.full((4, 4, 3), 255, np.uint16), "uint16 up to 255 only, which would be black"),
        (
            np.full((4, 4, 3), 2.0),
            "floats from 2 to 2, not from 0 to 1: divide pixels in 0 to 255 by 255, or give them as ",
        ),
        (np.full((4, 4, 3), 256.0), "floats from 256 to 256, not from 0 to 1: give pixels that are not normalised"),
        (np.full((4, 4, 3), -1.5), "floats from -1.5 to -1.5, not from 0 to 1: give pixels that are not normalised"),
        (
            np.zeros((2, 4, 4, 5), np.uint8),
            r"2 of 2 images cannot be read: 0 \(its image is an array of shape.*\); 1 \(",
        ),
        ([None], "is a NoneType"),
    ],
)
def test_mistakes_are_named(model, images, message):
    with pytest.raises(UserError, match=message):
        model(images)


def test_words_need_a_model_of_texts(model):
    with pytest.raises(UserError, match="holds no model of image and text"):
        model(np.zeros((4, 4, 3), np.uint8), labels=["a cat", "a dog"])


def test_images_that_cannot_be_read_may_be_left_out(model, odd_photos):
    broken = odd_photos[0].with_name("broken.jpg")
    broken.write_bytes(b"\xff\xd8\xff nothing more")
    with pytest.raises(UserError, match=r"1 of \d+ images cannot be read: .*broken.jpg \(.*\). Leave them out"):
        model(broken.parent)
    for i in range(6):
        broken.with_name(f"broken {i}.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    with pytest.raises(UserError, match=r"7 of \d+ images cannot be read: (.*broken.*jpg \(.*\);? ){5}and 2 more\. "):
        model.features(broken.parent)
    for i in range(6):
        broken.with_name(f"broken {i}.jpg").unlink()
    found = model(broken.parent, skip=True)
    assert len(found) == len(odd_photos)
    assert list(found.left_out) == [str(broken)]
