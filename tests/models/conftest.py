"""Images, reference counts, and the names and shapes of published weights."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def images():
    """Two images of 16x16 pixels, standard normal."""
    return jax.random.normal(jax.random.key(7), (2, 16, 16, 3))


@pytest.fixture(scope="session")
def reference():
    """Rows of tests/reference/param_counts.json."""
    return json.loads((pathlib.Path(__file__).parents[1] / "reference" / "param_counts.json").read_text())


@pytest.fixture(scope="session")
def published():
    """What follows: files as published, for towers of width 32, two heads, depth 2, 2x2 patches of 4 pixels."""
    return sys.modules[__name__]


def flax_vit(release):
    """AugReg's files and those of big_vision: github.com/google-research/vision_transformer, big_vision."""
    attention, norm, mlp = {"augreg": (1, 2, 3), "big_vision": (0, 1, 0)}[release]
    positions = {"augreg": "Transformer/posembed_input/pos_embedding", "big_vision": "pos_embedding"}[release]
    names = {"cls": (1, 1, 32), "embedding/kernel": (4, 4, 3, 32), "embedding/bias": (32,), positions: (1, 5, 32)}
    for i in range(2):
        block = f"Transformer/encoderblock_{i}"
        for part in ("query", "key", "value"):
            names[f"{block}/MultiHeadDotProductAttention_{attention}/{part}/kernel"] = (32, 2, 16)
            names[f"{block}/MultiHeadDotProductAttention_{attention}/{part}/bias"] = (2, 16)
        names[f"{block}/MultiHeadDotProductAttention_{attention}/out/kernel"] = (2, 16, 32)
        names[f"{block}/MultiHeadDotProductAttention_{attention}/out/bias"] = (32,)
        for number, shape in enumerate([(32, 128), (128, 32)]):
            dense = f"{block}/MlpBlock_{mlp}/Dense_{number}"
            names |= {f"{dense}/kernel": shape, f"{dense}/bias": shape[1:]}
        for number in (0, norm):
            names |= {f"{block}/LayerNorm_{number}/{leaf}": (32,) for leaf in ("scale", "bias")}
    names |= {f"Transformer/encoder_norm/{leaf}": (32,) for leaf in ("scale", "bias")}
    return names | {"head/kernel": (32, 5), "head/bias": (5,)}


def clip_tower(prefix, width):
    """Blocks of both towers: github.com/openai/CLIP, clip/model.py."""
    names = {}
    for i in range(2):
        block = f"{prefix}transformer.resblocks.{i}"
        names |= {f"{block}.{norm}.{leaf}": (width,) for norm in ("ln_1", "ln_2") for leaf in ("weight", "bias")}
        names |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        names |= {f"{block}.attn.out_proj.weight": (width, width), f"{block}.attn.out_proj.bias": (width,)}
        names |= {f"{block}.mlp.c_fc.weight": (4 * width, width), f"{block}.mlp.c_fc.bias": (4 * width,)}
        names |= {f"{block}.mlp.c_proj.weight": (width, 4 * width), f"{block}.mlp.c_proj.bias": (width,)}
    return names


def clip_file():
    """A whole CLIP of two small towers."""
    visual = {"class_embedding": (32,), "positional_embedding": (5, 32), "conv1.weight": (32, 3, 4, 4)}
    norms = [f"{norm}.{leaf}" for norm in ("ln_pre", "ln_post") for leaf in ("weight", "bias")]
    visual |= {"proj": (32, 16)} | dict.fromkeys(norms, (32,))
    names = {f"visual.{name}": shape for name, shape in visual.items()} | clip_tower("visual.", 32)
    names |= {"positional_embedding": (7, 32), "token_embedding.weight": (20, 32), "text_projection": (32, 16)}
    return names | {"ln_final.weight": (32,), "ln_final.bias": (32,), "logit_scale": ()} | clip_tower("", 32)


def bit_file():
    """github.com/google-research/big_transfer, the .npz files."""
    names = {"resnet/root_block/standardized_conv2d/kernel": (7, 7, 3, 32)}
    inputs = {1: 32, 2: 128}
    for block, units in {1: 1, 2: 2}.items():
        inner, out = 32 * block, 128 * block
        for unit in range(1, units + 1):
            here, c = f"resnet/block{block}/unit{unit:02}", inputs[block] if unit == 1 else out
            kernels = {"a": (1, 1, c, inner), "b": (3, 3, inner, inner), "c": (1, 1, inner, out)}
            names |= {f"{here}/{part}/standardized_conv2d/kernel": shape for part, shape in kernels.items()}
            for part, channels in {"a": c, "b": inner, "c": inner}.items():
                names |= {f"{here}/{part}/group_norm/{leaf}": (channels,) for leaf in ("gamma", "beta")}
            if unit == 1:
                names[f"{here}/a/proj/standardized_conv2d/kernel"] = (1, 1, c, out)
    names |= {f"resnet/group_norm/{leaf}": (256,) for leaf in ("gamma", "beta")}
    return names | {"resnet/head/conv2d/kernel": (1, 1, 256, 5), "resnet/head/conv2d/bias": (5,)}


def arrays_of(names):
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in names.items()}


def siglip_file(scan):
    """github.com/google-research/big_vision: models/proj/image_text/two_towers.py, text_transformer.py and vit.py."""
    tower = {name: shape for name, shape in flax_vit("big_vision").items() if not name.startswith(("cls", "head"))}
    blocks = {name: shape for name, shape in tower.items() if name.startswith("Transformer/")}
    names = {f"img/{name}": shape for name, shape in tower.items()} | {"img/pos_embedding": (1, 4, 32)}
    pool = {"probe": (1, 1, 32), "LayerNorm_0/scale": (32,), "LayerNorm_0/bias": (32,)}
    attention = "MultiHeadDotProductAttention_0"
    for part in ("query", "key", "value"):
        pool |= {f"{attention}/{part}/kernel": (32, 2, 16), f"{attention}/{part}/bias": (2, 16)}
    pool |= {f"{attention}/out/kernel": (2, 16, 32), f"{attention}/out/bias": (32,)}
    pool |= {"MlpBlock_0/Dense_0/kernel": (32, 128), "MlpBlock_0/Dense_0/bias": (128,)}
    pool |= {"MlpBlock_0/Dense_1/kernel": (128, 32), "MlpBlock_0/Dense_1/bias": (32,)}
    names |= {f"img/MAPHead_0/{name}": shape for name, shape in pool.items()}
    names |= {name.replace("Transformer/", "txt/Encoder_0/"): shape for name, shape in blocks.items()}
    names |= {"txt/Embed_0/embedding": (20, 32), "txt/pos_embedding": (1, 7, 32)}
    names |= {"txt/head/kernel": (32, 32), "txt/head/bias": (32,), "t": (1,), "b": (1,)}
    arrays = {f"params/{name}": x for name, x in arrays_of(names).items()}
    if scan:
        first = [name for name in arrays if "encoderblock_0/" in name]
        both = lambda name: np.stack([arrays[name], arrays[name.replace("encoderblock_0/", "encoderblock_1/")]])
        layers = {name.replace("encoderblock_0/", "encoderblock/"): both(name) for name in first}
        arrays = {name: x for name, x in arrays.items() if "encoderblock_" not in name} | layers
    return arrays
