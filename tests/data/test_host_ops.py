import io
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxvision.data import decoding, host_ops, resizing
from jaxvision.data.host_ops.resize import random_box
from jaxvision.errors import UserError
from jaxvision.specs import Call


def run(spec, image, seed=0):
    return host_ops.make_chain(spec)({"image": image, "label": 3}, np.random.default_rng(seed))["image"]


def decode(data):
    return run("decode", data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_decode_lossless_kinds(kind, encode, photo):
    image = photo(0) // 64 * 64 if kind == "GIF" else photo(0)
    decoded = decode(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), image, atol=40 if kind == "GIF" else 0)


def test_jpeg_pixels_are_those_of_pillow(encode, photo):
    data = encode(photo(0), "JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode_and_kind", ["L JPEG", "L PNG", "CMYK JPEG", "P PNG", "RGBA PNG", "LA PNG", "1 PNG"])
def test_every_colour_mode_becomes_rgb(mode_and_kind, photo):
    mode, kind = mode_and_kind.split()
    file = io.BytesIO()
    original = Image.fromarray(photo(0)).convert(mode)
    original.save(file, kind, quality=95)
    decoded = decode(file.getvalue())
    assert decoded.shape == (60, 80, 3)
    assert np.abs(decoded.astype(int) - np.asarray(original.convert("RGB"))).mean() < 6


def test_sixteen_bit_grey_keeps_its_high_byte(encode):
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode(encode(grey))[:, :, 1], grey >> 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation, encode, photo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(1), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode(data), np.asarray(ImageOps.exif_transpose(image)))


def broken(kind, encode, photo):
    data = encode(photo(0, 300, 400), kind)
    yield b""
    yield b"no picture at all"
    yield data[:20]
    yield data[: len(data) // 2]
    if kind == "JPEG":
        middle = len(data) // 2
        yield data[:middle] + bytes(300) + data[middle + 300 :]  # libjpeg alone would go on with grey


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_files_are_refused(kind, encode, photo):
    for data in broken(kind, encode, photo):
        with pytest.raises(host_ops.BadImage):
            decode(data)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_decode_leaves_arrays_but_gives_them_three_channels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(run("decode", image), np.broadcast_to(image.reshape(5, 7, -1), (5, 7, 3)))


def test_a_damaged_cmyk_jpeg_is_refused(photo):
    file = io.BytesIO()
    Image.fromarray(photo(0, 300, 400)).convert("CMYK").save(file, "JPEG")
    data = file.getvalue()
    with pytest.raises(host_ops.BadImage):
        decode(data[:4000] + bytes(300) + data[4300:])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_of_too_many_pixels_are_refused_by_their_header(kind, encode, photo, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # Pillow's own limit, which warns, plays no part
    data = encode(photo(0), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("decode(max_pixels=4800)", data).shape == (60, 80, 3)
    with pytest.raises(host_ops.BadImage, match=r"80x60 pixels, and decode\(max_pixels=4799\)"):
        run("decode(max_pixels=4799)", data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_fast_decoding_is_close_to_the_same_crop_of_the_whole(orientation, encode, photo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(1, 301, 403), "JPEG", quality=95, exif=exif)
    for op in ["resize((20, 30))", "resize_short(40)", "random_resized_crop(24)", "random_resize_short(20, 60)"]:
        for seed in range(4):
            whole, fast = run(f"decode|{op}", data, seed), run(f"decode(fast=True)|{op}", data, seed)
            assert whole.shape == fast.shape
            assert 0 < np.abs(whole.astype(int) - fast).mean() < 5


def test_fast_decoding_draws_and_cuts_the_same_where_nothing_is_reduced(encode, photo):
    jpeg, png = encode(photo(0), "JPEG", quality=95), encode(photo(0))
    for op in ["random_resized_crop(60)", "random_crop(9)", "pad(1)", ""]:
        whole, fast = (run("|".join(filter(None, [spec, op])), jpeg) for spec in ["decode", "decode(fast=True)"])
        np.testing.assert_allclose(fast.astype(int), whole, atol=40)
        assert np.abs(fast.astype(int) - whole).mean() < 6  # of a hundred between two pictures
    np.testing.assert_array_equal(run("decode(fast=True)|resize(9)", png), run("decode|resize(9)", png))


def test_fast_decoding_reads_no_more_than_it_needs(encode, photo):
    image = decoding.read_image(encode(photo(0, 301, 403), "JPEG"), 10**6)
    assert image.shape == (301, 403, 3)
    assert image.cut((0, 0, 301, 403), (75, 90)).shape == (150, 202, 3)
    assert image.cut((0, 0, 301, 403), (18, 18)).shape == (38, 50, 3)
    assert image.cut((297, 399, 4, 4), (1, 1)).shape == (2, 2, 3)
    assert image.cut((3, 5, 200, 100), (60, 20)).shape == (200, 100, 3)


@pytest.mark.parametrize("cut", [0.5, 0.98])
def test_fast_decoding_refuses_truncated_files(cut, encode, photo):
    data = encode(photo(0, 301, 403), "JPEG")
    with pytest.raises(host_ops.BadImage):
        run("decode(fast=True)|resize(20)", data[: int(cut * len(data))])


@pytest.mark.parametrize("method", resizing.METHODS)
def test_methods_of_resizing(method, photo):
    image = photo(0)
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], (60, 80, 3))
    shrunk = run(f"resize((15, 20), method={method!r})", ramp)
    np.testing.assert_allclose(shrunk[2:-2, :, 0], (6 + 16 * np.arange(2, 13))[:, None].repeat(20, 1), atol=1)
    np.testing.assert_array_equal(run(f"resize((60, 80), method={method!r})", image), image)
    stripes = np.tile(np.array([0, 0, 0, 200], np.uint8)[None, :, None], (64, 16, 3))
    mean = run(f"resize(16, method={method!r})", stripes)[4:-4, 4:-4].mean()
    assert abs(mean - 50) < 2 if method != "opencv_linear" else mean < 1  # it looks at the middle two of four


def test_random_resize_short_draws_every_length(photo):
    shapes = {run("random_resize_short(6, 9)", photo(0, 60, 90), seed).shape[:2] for seed in range(60)}
    assert shapes == {(6, 9), (7, 10), (8, 12), (9, 13)}


def test_resizes(photo):
    assert run("resize(10)", photo(0)).shape == (10, 10, 3)
    assert run("resize((10, 20))", photo(0)).shape == (10, 20, 3)
    assert run("resize_short(30)", photo(0, 60, 81)).shape == (30, 40, 3)
    assert run("resize_short(30)", photo(0, 81, 60)).shape == (40, 30, 3)
    stripes = np.tile(np.array([0, 200], np.uint8)[None, :, None], (64, 32, 3))
    np.testing.assert_allclose(run("resize(16)", stripes)[4:-4, 4:-4], 100, atol=2)  # antialiased


def test_crops_cut_where_they_say():
    rows, columns = np.mgrid[:10, :15].astype(np.uint8)
    image = np.stack([rows, columns, rows], axis=2)
    cut = run("central_crop((4, 5))", image)
    assert cut.shape == (4, 5, 3)
    assert cut[0, 0].tolist() == [3, 5, 3]
    corners = {tuple(run("random_crop(10)", image, seed)[0, 0]) for seed in range(60)}
    assert corners == {(0, c, 0) for c in range(6)}
    padded = {run("random_crop((10, 15), padding=2)", image + 1, seed)[0, 0].tolist()[0] for seed in range(60)}
    assert padded == {0, 1, 2, 3}
    assert run("pad(2, value=9)", image)[1, 1].tolist() == [9, 9, 9]


def test_random_resized_crop_draws_areas_and_ratios_of_the_paper():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box((350, 350), (0.08, 1), (3 / 4, 4 / 3), rng) for _ in range(2000)])
    top, left, height, width = boxes.T
    share, ratio = height * width / 350**2, width / height
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 350).all()
    assert (left + width <= 350).all()
    assert 0.079 < share.min() < 0.1
    assert share.max() > 0.9
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.02


def test_random_resized_crop_of_an_extreme_picture_takes_the_middle(photo):
    assert random_box((10, 1000), (0.5, 1), (3 / 4, 4 / 3), np.random.default_rng(0)) == (0, 493, 10, 13)
    assert run("random_resized_crop(8)", photo(0, 3, 900)).shape == (8, 8, 3)


def test_draws_depend_on_the_generator_alone(photo):
    for spec in ["random_resized_crop(16)", "random_crop(16, 4)"]:
        np.testing.assert_array_equal(run(spec, photo(0), 5), run(spec, photo(0), 5))
        assert (run(spec, photo(0), 5) != run(spec, photo(0), 6)).any()


def test_evaluation_specs(photo):
    evaluation = host_ops.host_ops.evaluation
    assert evaluation("decode|random_resized_crop(224)") == "decode|resize_short(256)|central_crop(224)"
    assert evaluation("random_resized_crop((20, 28))") == "resize_short(32)|central_crop((20, 28))"
    assert evaluation("decode|random_crop(32, padding=4)") == "decode|central_crop(32)"
    assert evaluation("random_resize_short(256, 480)|random_crop(224)") == "resize_short(256)|central_crop(224)"
    assert evaluation("random_resized_crop(7, method='bicubic')") == "resize_short(8, method='bicubic')|central_crop(7)"
    assert not host_ops.host_ops.is_random("decode|resize(32)|central_crop(3)|pad(1)|resize_short(3)")
    for spec in ["random_resized_crop(224)", "random_resized_crop((20, 28))", "random_crop(32, 4)"]:
        assert run(evaluation(spec), photo(0)).shape == run(spec, photo(0)).shape


def test_corner_crop_keeps_what_patches_fill(photo):
    image = photo(3)
    np.testing.assert_array_equal(run("corner_crop((4, 5))", image), image[:4, :5])
    with pytest.raises(UserError, match="cannot cut 700x700 out of an image"):
        run("corner_crop(700)", image)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("decode|rezise(3)", "did you mean 'resize'"),
        ("resize(0)", "number of pixels"),
        ("resize('3')", "size must be a whole number or two whole numbers, not '3': write 3 without quotes"),
        ("resize((3, 4, 5))", "a whole number or two whole numbers"),
        ("resize(32.0)", "size must be a whole number or two whole numbers, not 32.0"),
        ("resize(True)", "a whole number or two whole numbers, not True"),
        ("central_crop((8, 8.5))", "a whole number or two whole numbers"),
        ("resize_short(1e2)", "size must be a whole number, not 100.0"),
        ("resize_short((3, 4))", "size must be a whole number, not"),
        ("pad(2.0)", "padding must be a whole number"),
        ("random_resized_crop(3, area=0.5)", "area must be two numbers, not 0.5"),
        ("random_resized_crop(3, ratio=('a', 'b'))", "ratio must be two numbers"),
        ("random_resize_short(9, 8)", "low is at most high"),
        ("resize(3, method='bilinaer')", "did you mean 'bilinear'"),
        ("decode(max_pixels=0)", "max_pixels"),
        ("random_resized_crop(3, area=(0, 1))", "area"),
        ("random_resized_crop(3, ratio=(2, 1))", "ratio"),
        ("random_crop(3, -1)", "padding"),
        ("pad(1, 300)", "value"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(UserError, match=message):
        host_ops.make_chain(spec)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_sizes_may_be_integers_of_numpy(kind, photo):
    eight = kind(8)
    specs = {
        "resize": (eight,),
        "resize_short": (eight,),
        "central_crop": ((eight, kind(6)),),
        "random_crop": (eight, kind(1)),
        "random_resized_crop": (eight,),
        "random_resize_short": (eight, kind(9)),
        "pad": (eight, kind(3)),
    }
    for name, args in specs.items():
        spec = str(Call(name, args))  # as a config makes it of a number that it computed
        assert run([Call(name, args)], photo(0)).shape == run(spec, photo(0)).shape


def test_opencv_is_asked_for_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'jaxvision\[opencv\]'"):
        host_ops.make_chain("resize(3, method='opencv_area')")


def test_wrong_images(encode, photo):
    with pytest.raises(UserError, match="70x70 out of an image of 60x80"):
        run("central_crop(70)", photo(0))
    with pytest.raises(UserError, match="decode at the start"):
        run("resize(3)", encode(photo(0)))


def test_other_fields_pass(photo):
    example = {"image": photo(0), "label": 3, "text": "a cat"}
    out = host_ops.make_chain("decode|random_resized_crop(4)")(example, np.random.default_rng(0))
    assert out["label"] == 3
    assert out["text"] == "a cat"
    assert example["image"].shape == (60, 80, 3)


@pytest.mark.parametrize(("method", "resample"), [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")])
def test_resize_filters_are_pillows(method, resample):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    want = np.asarray(Image.fromarray(image).resize((30, 20), Image.Resampling[resample]))
    for spec in (f"resize((20, 30), method={method!r})", f"resize_short(20, method={method!r})"):
        np.testing.assert_array_equal(run(spec, image), want)


def test_a_field_that_an_example_does_not_have_is_named():
    with pytest.raises(UserError, match=r"host operation resize\(8\) needs the field 'image'; the fields are label"):
        host_ops.make_chain("resize(8)")({"label": 0}, None)
