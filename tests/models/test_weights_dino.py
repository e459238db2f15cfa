"""Files of DINO and DINOv2 with the names and shapes of their authors' code: what is read, left out and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxvision import models
from jaxvision.commands import convert
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import folder, preprocessing

WIDTH, DEPTH, PATCH, SIDE = 128, 2, 4, 3  # two heads of 64; positions of 3x3 patches
SIZES = dict(width=WIDTH, depth=DEPTH, num_heads=2)


def vit(registers=0, scales=False):
    """vision_transformer.py of both repositories; dinov2's has layer scale, and registers in some networks."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + SIDE**2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if scales:
        shapes["mask_token"] = (1, WIDTH)
    if registers:
        shapes["register_tokens"] = (1, registers, WIDTH)
    layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.fc1": (4 * WIDTH, WIDTH)}
    layers["mlp.fc2"] = (WIDTH, 4 * WIDTH)
    for i in range(DEPTH):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.{leaf}": (WIDTH,) for leaf in ("weight", "bias")}
        for name, shape in layers.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        if scales:
            shapes |= {f"blocks.{i}.{scale}.gamma": (WIDTH,) for scale in ("ls1", "ls2")}
    return drawn(shapes)


def head():
    shapes = {f"head.mlp.{i}.{leaf}": (8,) * n for i in (0, 2, 4) for leaf, n in (("weight", 2), ("bias", 1))}
    return drawn({**shapes, "head.last_layer.weight_g": (16, 1), "head.last_layer.weight_v": (16, 8)})


def drawn(shapes):
    rng = np.random.default_rng(len(shapes))
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def shapes_of(side=SIDE, **options):
    module = models.build("vit", None, variant=f"S/{PATCH}", pool="token", posemb="learned", **SIZES, **options)
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side * PATCH, side * PATCH, 3)))


def test_registers_layer_scale_and_attention_get_their_places():
    arrays = vit(registers=4, scales=True)
    shapes = shapes_of(registers=4, layer_scale=1e-5)
    params = weights.import_weights(arrays, "dinov2", "vit", shapes, head="drop").variables["params"]
    np.testing.assert_array_equal(params["registers"], arrays["register_tokens"])
    np.testing.assert_array_equal(params["pos_embedding"], arrays["pos_embed"])
    block = params["encoder"]["block_01"]
    np.testing.assert_array_equal(block["attention_scale"]["scale"], arrays["blocks.1.ls1.gamma"])
    np.testing.assert_array_equal(block["mlp_scale"]["scale"], arrays["blocks.1.ls2.gamma"])
    query, key, value = np.split(arrays["blocks.1.attn.qkv.weight"], 3)
    for name, theirs in (("query", query), ("key", key), ("value", value)):
        np.testing.assert_array_equal(block["attention"][name]["kernel"].reshape(WIDTH, WIDTH), theirs.T)


@pytest.mark.parametrize("wrapper", ["module.", ""])
def test_a_checkpoint_of_pretraining_gives_the_teacher_without_its_head(wrapper):
    """main_dino.py saves these; the student is wrapped for several GPUs."""
    teacher, student = vit(), {name: x + 1 for name, x in vit().items()}
    parts = {f"teacher.backbone.{name}": x for name, x in teacher.items()}
    parts |= {f"student.{wrapper}backbone.{name}": x for name, x in student.items()}
    parts |= {f"teacher.{name}": x for name, x in head().items()}
    parts |= {f"student.{wrapper}{name}": x for name, x in head().items()}
    parts |= {"optimizer.state.0.exp_avg": np.zeros(3), "dino_loss.center": np.zeros((1, 16)), "epoch": np.array(3)}
    parts |= {"fp16_scaler.scale": np.array(65536.0)}
    read = lambda arrays, **options: weights.import_weights(arrays, "dino", "vit", shapes_of(), head="drop", **options)
    imported = read(parts)
    jax.tree.map(np.testing.assert_array_equal, imported.variables, read(teacher).variables)
    assert any("outside 'backbone.'" in note and "head.mlp.0" in note for note in imported.notes)
    other = read(parts, prefix=f"student.{wrapper}")
    jax.tree.map(np.testing.assert_array_equal, other.variables, read(student).variables)


def test_a_resnet_of_dino_has_no_classifier():
    module = models.build("resnet", None, variant=50, width=0.25)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    ones = jax.tree.map(lambda x: np.ones(x.shape, np.float32), variables)
    arrays = weights.export_weights(ones, "torchvision", "resnet")
    wrapped = {f"teacher.backbone.{name}": x for name, x in arrays.items()}
    wrapped |= {f"teacher.{name}": x for name, x in head().items()}
    for given in (arrays, wrapped):
        imported = weights.import_weights(given, "dino", "resnet", variables, head="drop")
        assert all(np.all(x == 1) for x in jax.tree.leaves(imported.variables))


def test_positions_of_another_size_are_resized():
    arrays = vit(scales=True)
    imported = weights.import_weights(arrays, "dinov2", "vit", shapes_of(5, layer_scale=1e-5), head="drop")
    assert imported.variables["params"]["pos_embedding"].shape == (1, 26, WIDTH)
    assert "positions: 3x3 resized to 5x5, bicubic" in imported.notes


def test_a_file_becomes_a_folder_with_its_preprocessing(tmp_path):
    """The options of the model come from the file, its images are prepared as the authors evaluate."""
    save_file(vit(registers=2, scales=True), tmp_path / "in.safetensors")
    sizes = [f"{key}={value}" for key, value in SIZES.items()]
    convert.run_convert(
        tmp_path / "in.safetensors", tmp_path / "out", source="dinov2", model=f"vit:S/{PATCH}", options=sizes
    )
    _, meta = folder.load(tmp_path / "out")
    assert meta["model"] == dict(
        name="vit", variant=f"S/{PATCH}", posemb="learned", pool="token", gelu="exact", layer_scale=1e-5, registers=2,
        **SIZES,
    ) | meta["model"]  # fmt: skip
    assert meta["preprocessing"]["augment"] == "normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    assert meta["preprocessing"]["host"] == "decode|resize_short(13, method='bicubic')|central_crop(12)"
    assert preprocessing.preset("dino", "vit").host == "decode|resize_short(256, method='bicubic')|central_crop(224)"


def test_blocks_in_chunks_and_gated_mlps_are_refused_with_a_reason():
    chunked = {name.replace("blocks.1.", "blocks.0.1."): x for name, x in vit(scales=True).items()}
    with pytest.raises(UserError, match="merge blocks.I.J to blocks.J"):
        weights.import_weights(chunked, "dinov2", "vit", shapes_of(layer_scale=1e-5), head="drop")
    gated = vit(scales=True) | {"blocks.0.mlp.w12.weight": np.ones((8, 8), np.float32)}
    with pytest.raises(UserError, match="Gated"):
        weights.import_weights(gated, "dinov2", "vit", shapes_of(layer_scale=1e-5), head="drop")
