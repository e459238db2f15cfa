"""Import and export of weights: names and layouts as published, errors, heads, positions, and real files."""

import gzip
import io
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_bounds import bound
from PIL import Image
from weight_models import CLIP, MU, PAIR, SIGLIP, TEXT, TOKEN, abstract, drawn, equal, vit

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import weights


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
@pytest.mark.parametrize("release", ["augreg", "big_vision"])
def test_flax_vit_as_published(published, release, prefix):
    arrays = {prefix + name: x for name, x in published.arrays_of(published.flax_vit(release)).items()}
    params = weights.import_weights(arrays, "big_vision", "vit", abstract("vit", MU | TOKEN, 8)).variables["params"]
    attention = {"augreg": 1, "big_vision": 0}[release]
    block = f"{prefix}Transformer/encoderblock_1"
    ours, norm = params["encoder"]["block_01"], {"augreg": 2, "big_vision": 1}[release]
    query = arrays[f"{block}/MultiHeadDotProductAttention_{attention}/query/kernel"]
    np.testing.assert_array_equal(ours["attention"]["query"]["kernel"], query)
    np.testing.assert_array_equal(ours["mlp_norm"]["scale"], arrays[f"{block}/LayerNorm_{norm}/scale"])
    np.testing.assert_array_equal(params["head"]["kernel"], arrays[f"{prefix}head/kernel"])


def test_big_vision_with_stacked_layers(published):
    arrays = published.arrays_of(published.flax_vit("big_vision"))
    stacked = {name: x for name, x in arrays.items() if "encoderblock" not in name}
    for name in arrays:
        if "encoderblock_0" in name:
            both = [arrays[name], arrays[name.replace("_0/", "_1/", 1)]]
            stacked[name.replace("encoderblock_0", "encoderblock")] = np.stack(both)
    shapes = abstract("vit", MU | TOKEN, 8)
    assert equal(*(weights.import_weights(a, "big_vision", "vit", shapes).variables for a in (arrays, stacked)))


def test_bit_as_published(published):
    arrays = published.arrays_of(published.bit_file())
    shapes = abstract("bit", {"blocks": (1, 2), "width": 0.5}, 32)
    params = weights.import_weights(arrays, "bit", "bit", shapes).variables["params"]
    ours, unit = params["stage2"]["block1"], "resnet/block2/unit01/"
    np.testing.assert_array_equal(ours["conv2"]["kernel"], arrays[unit + "b/standardized_conv2d/kernel"])
    np.testing.assert_array_equal(ours["norm3"]["bias"], arrays[unit + "c/group_norm/beta"])
    np.testing.assert_array_equal(ours["shortcut_conv"]["kernel"], arrays[unit + "a/proj/standardized_conv2d/kernel"])
    np.testing.assert_array_equal(params["head"]["kernel"], arrays["resnet/head/conv2d/kernel"][0, 0])


def test_the_towers_of_clip_as_published(published):
    arrays = published.arrays_of(published.clip_file())
    tower = weights.import_weights(arrays, "openai_clip", "vit", abstract("vit", MU | CLIP, 8), head="new")
    params = tower.variables["params"]
    query, key, value = np.split(arrays["visual.transformer.resblocks.1.attn.in_proj_weight"], 3)
    attention = params["encoder"]["block_01"]["attention"]
    for name, rows in {"query": query, "key": key, "value": value}.items():
        np.testing.assert_array_equal(attention[name]["kernel"][:, 1, 3], rows[16 + 3])  # head 1, channel 3
    np.testing.assert_array_equal(params["pos_embedding"][0], arrays["visual.positional_embedding"])
    np.testing.assert_array_equal(params["cls"].ravel(), arrays["visual.class_embedding"])
    np.testing.assert_array_equal(params["embedding"]["kernel"][1, 2, 0], arrays["visual.conv1.weight"][:, 0, 1, 2])
    assert any("not of this model: visual.proj" in note for note in tower.notes)
    text = weights.import_weights(arrays, "openai_clip", "text_transformer", abstract("text_transformer", TEXT, 0))
    np.testing.assert_array_equal(text.variables["params"]["embedding"]["embedding"], arrays["token_embedding.weight"])
    width = text.variables["params"]["encoder"]["block_00"]["mlp"]["dense_0"]["kernel"]
    np.testing.assert_array_equal(width, arrays["transformer.resblocks.0.mlp.c_fc.weight"].T)


@pytest.mark.parametrize("text", ["", "text."])
def test_both_towers_of_clip_as_published(published, text):
    """Also with the names of open_clip's `CustomTextCLIP`, whose text tower has a prefix."""
    visual = {name: x for name, x in published.arrays_of(published.clip_file()).items() if name.startswith("visual.")}
    rest = {
        name: x
        for name, x in published.arrays_of(published.clip_file()).items()
        if name not in visual and name != "logit_scale"
    }
    scale = {"logit_scale": np.asarray(4.6, np.float32)}
    arrays = visual | {text + name: x for name, x in rest.items()} | scale
    imported = weights.import_weights(arrays, "openai_clip", "two_towers", abstract("two_towers", PAIR, 8))
    assert not imported.notes
    params = imported.variables["params"]
    assert params["logit_scale"].shape == ()
    assert params["logit_scale"] == scale["logit_scale"]
    np.testing.assert_array_equal(params["image_tower"]["projection"]["kernel"], arrays["visual.proj"])
    np.testing.assert_array_equal(params["text_tower"]["projection"]["kernel"], arrays[text + "text_projection"])
    alone = weights.import_weights(visual, "openai_clip", "vit", abstract("vit", MU | CLIP, 8), head="new")
    assert equal(params["image_tower"]["encoder"], alone.variables["params"]["encoder"])


@pytest.mark.parametrize("scan", [False, True])
def test_siglip_as_published(published, scan):
    arrays, shapes = published.siglip_file(scan), abstract("two_towers", SIGLIP, 8)
    imported = weights.import_weights(arrays, "big_vision", "two_towers", shapes)
    assert not imported.notes
    params = imported.variables["params"]
    assert params["logit_scale"] == arrays["params/t"][0]
    assert params["logit_bias"] == arrays["params/b"][0]
    np.testing.assert_array_equal(params["text_tower"]["projection"]["bias"], arrays["params/txt/head/bias"])
    kernel = params["text_tower"]["encoder"]["block_01"]["mlp"]["dense_0"]["kernel"]
    name = "params/txt/Encoder_0/encoderblock{}/MlpBlock_0/Dense_0/kernel"
    expected = arrays[name.format("")][1] if scan else arrays[name.format("_1")]
    np.testing.assert_array_equal(kernel, expected)
    alone = weights.import_weights(arrays, "big_vision", "text_transformer", abstract("text_transformer", TEXT, 0))
    assert equal(alone.variables["params"]["encoder"], params["text_tower"]["encoder"])


def test_text_positions_are_not_resized_as_if_they_were_an_image(published):
    shapes = abstract("text_transformer", TEXT | {"length": 6}, 0)
    with pytest.raises(UserError, match=r"misshapen  positional_embedding \[7, 32\], the model's is \[6, 32\]"):
        weights.import_weights(published.arrays_of(published.clip_file()), "openai_clip", "text_transformer", shapes)


def test_everything_that_does_not_fit_is_named():
    arrays = weights.export_weights(vit(), "timm", "vit")
    del arrays["blocks.0.norm1.weight"], arrays["blocks.1.attn.qkv.bias"]
    arrays |= {"fc_norm.weight": np.zeros(32), "blocks.1.mlp.fc1.weight": np.zeros((64, 32))}
    with pytest.raises(UserError) as error:
        weights.import_weights(arrays, "timm", "vit", abstract("vit", MU | TOKEN, 8))
    message = str(error.value)
    assert "2 missing, 1 misshapen, 1 surplus" in message
    assert "missing    blocks.0.norm1.weight [32] (our params/encoder/block_00/attention_norm/scale)" in message
    assert "missing    blocks.1.attn.qkv.bias" in message
    assert "surplus    fc_norm.weight [32]" in message
    assert "misshapen  blocks.1.mlp.fc1.weight [64, 32], the model's is [128, 32]" in message


def test_a_long_list_is_cut_and_counted():
    with pytest.raises(UserError) as error:
        weights.import_weights({"x": np.zeros(1)}, "timm", "vit", abstract("vit", MU | TOKEN, 8))
    count = len(weights.export_weights(vit(), "timm", "vit"))
    assert f"{count} missing, 0 misshapen, 1 surplus" in str(error.value)
    assert f"... and {count - 12} more missing" in str(error.value)
    assert "surplus    x [1]" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tim", "vit"), "unknown source of weights 'tim'; did you mean 'timm'"),
        (("bit", "vit"), "unknown model for weights of 'bit' 'vit'"),
    ],
)
def test_unknown_source_or_model(arguments, message):
    with pytest.raises(UserError, match=message):
        weights.import_weights({}, *arguments, abstract("vit", MU | TOKEN, 8))
    with pytest.raises(UserError, match="unknown value of head 'neww'; did you mean 'new'"):
        weights.import_weights({}, "timm", "vit", {}, head="neww")
    with pytest.raises(UserError, match="ignore: no array matches 'nothing'"):
        weights.import_weights({"a": np.zeros(1)}, "timm", "vit", {"params": {}}, ignore=("nothing",))


def test_a_head_is_replaced_only_when_asked():
    arrays = weights.export_weights(vit(), "timm", "vit")
    shapes = jax.eval_shape(models.build("vit", 7, **MU, **TOKEN).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(UserError, match=re.escape("head.bias [5], the model's is [7]")):
        weights.import_weights(arrays, "timm", "vit", shapes)
    imported = weights.import_weights(arrays, "timm", "vit", shapes, head="new")
    assert imported.variables["params"]["head"] == shapes["params"]["head"]  # left for the caller to initialise
    assert imported.notes == ("head: new; not used from the file: head.bias, head.weight",)
    fresh = drawn(shapes)
    filled = weights.import_weights(arrays, "timm", "vit", fresh, head="new").variables
    np.testing.assert_array_equal(filled["params"]["head"]["kernel"], fresh["params"]["head"]["kernel"])
    np.testing.assert_array_equal(filled["params"]["cls"], arrays["cls_token"])


def test_a_head_can_be_dropped_for_a_model_without_one():
    arrays = weights.export_weights(vit(), "timm", "vit")
    shapes = jax.eval_shape(models.build("vit", None, **MU, **TOKEN).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(UserError, match="2 surplus"):
        weights.import_weights(arrays, "timm", "vit", shapes)
    assert "head" not in weights.import_weights(arrays, "timm", "vit", shapes, head="drop").variables["params"]


def test_positions_are_resized_and_the_notes_say_so():
    variables = vit()
    arrays = weights.export_weights(variables, "timm", "vit")
    imported = weights.import_weights(arrays, "timm", "vit", abstract("vit", MU | TOKEN, 16))
    assert imported.notes == ("positions: 2x2 resized to 4x4, bicubic",)
    old, new = variables["params"]["pos_embedding"], imported.variables["params"]["pos_embedding"]
    np.testing.assert_array_equal(new[:, 0], old[:, 0])  # the class token's
    np.testing.assert_allclose(new[:, 1:].mean(), old[:, 1:].mean(), atol=1e-5)
    linear = weights.import_weights(arrays, "timm", "vit", abstract("vit", MU | TOKEN, 16), positions="bilinear")
    corners = linear.variables["params"]["pos_embedding"][0, 1:].reshape(4, 4, -1)[::3, ::3]
    np.testing.assert_allclose(corners.reshape(4, -1), old[0, 1:], atol=1e-6)


def test_a_class_token_can_be_left_out():
    arrays = weights.export_weights(vit(), "timm", "vit")
    shapes = abstract("vit", MU | {"pool": "gap", "posemb": "learned"}, 8)
    with pytest.raises(UserError, match="0 missing, 1 misshapen, 1 surplus"):
        weights.import_weights(arrays, "timm", "vit", shapes)
    imported = weights.import_weights(arrays, "timm", "vit", shapes, ignore=("^cls_token$",))
    np.testing.assert_array_equal(imported.variables["params"]["pos_embedding"], arrays["pos_embed"][:, 1:])
    assert set(imported.notes) == {
        "ignored: cls_token",
        "positions: 2x2 resized to 2x2, bicubic, 1 position(s) before the grid dropped",
    }


def test_scanned_and_unrolled_models_share_weights():
    shapes = {scan: abstract("vit", MU | TOKEN | {"scan": scan}, 8) for scan in (True, False)}
    unrolled = drawn(shapes[False])
    named = weights.export_weights(unrolled, "jaxvision", "vit")
    scanned = weights.import_weights(named, "jaxvision", "vit", shapes[True]).variables
    kernels = [unrolled["params"]["encoder"][f"block_0{i}"]["mlp"]["dense_0"]["kernel"] for i in (0, 1)]
    np.testing.assert_array_equal(scanned["params"]["encoder"]["blocks"]["mlp"]["dense_0"]["kernel"], kernels)
    back = weights.export_weights(scanned, "jaxvision", "vit")
    assert equal(weights.import_weights(back, "jaxvision", "vit", shapes[False]).variables, unrolled)


def test_half_precision_becomes_float32_and_the_notes_say_so():
    arrays = {k: x.astype(np.float16) for k, x in weights.export_weights(vit(), "timm", "vit").items()}
    imported = weights.import_weights(arrays, "timm", "vit", abstract("vit", MU | TOKEN, 8))
    assert {x.dtype for x in jax.tree.leaves(imported.variables)} == {np.dtype("float32")}
    assert imported.notes == (f"dtype: {len(jax.tree.leaves(imported.variables))} arrays converted from float16",)


def test_resnet8_of_mlperf_tiny(shared):
    logits = np.load(shared("weights/mlperf_tiny_resnet8_reference_logits.npz"))
    from_h5 = weights.read(shared("weights/mlperf_tiny_resnet8_cifar10.h5"))
    from_npz = weights.read(shared("weights/mlperf_tiny_resnet8_cifar10.npz"))
    assert from_h5.keys() == from_npz.keys()
    model = models.build("mlperf_resnet8", 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables = weights.import_weights(from_h5, "keras", "mlperf_resnet8", shapes).variables
    assert equal(variables, weights.import_weights(from_npz, "keras", "mlperf_resnet8", shapes).variables)
    images, labels = cifar_strips(shared("cifar10/data_batch_5.zip"))
    apply = jax.jit(lambda x: model.apply(variables, x)[1]["logits"])
    got = np.concatenate([apply(part) for part in np.split(images[5000:].astype(np.float32), 10)])
    want = logits[logits.files[0]]
    np.testing.assert_allclose(got, want, atol=bound("keras", "mlperf_resnet8") * np.abs(want).max())
    assert (got.argmax(1) == labels[5000:]).mean() == pytest.approx(0.9302, abs=1e-9)


def test_lenet5(shared):
    arrays = weights.read(shared("weights/lenet5_mnist.npz"))
    logits = np.load(shared("weights/lenet5_mnist_reference_logits_t10k.npz"))
    model = models.build("lenet", 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    variables = weights.import_weights(arrays, "lenet5", "lenet", shapes).variables
    pixels = np.frombuffer(gzip.decompress(shared("mnist/t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress(shared("mnist/t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    bilinear = Image.Resampling.BILINEAR
    images = [np.asarray(Image.fromarray(x).resize((32, 32), bilinear)) for x in pixels.reshape(-1, 28, 28)]
    images = np.stack(images)[..., None].astype(np.float32) / 255
    apply = jax.jit(lambda x: model.apply(variables, x)[1]["logits"])
    got = np.concatenate([apply(part) for part in np.split(images, 10)])
    want = logits[logits.files[0]]
    np.testing.assert_allclose(got, want, atol=bound("lenet5", "lenet") * np.abs(want).max())
    assert (got.argmax(1) == labels).mean() == pytest.approx(0.9907, abs=1e-9)
    with pytest.raises(UserError, match="is a pickle"):
        weights.read(shared("weights/lenet5_mnist.pth"))


def cifar_strips(path):
    """Images uint8 [N, 32, 32, 3] and labels [N] of a zip of strips."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("strip"))
        strips = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
        return np.concatenate(strips).reshape(-1, 32, 32, 3), np.load(io.BytesIO(archive.read("labels.npy")))
