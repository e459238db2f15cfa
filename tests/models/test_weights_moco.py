"""Checkpoints of MoCo v2 and v3 under the authors' names: encoder, teacher, linear classifier, preprocessing."""

import json

import numpy as np
import pytest

from jaxvision import cli
from jaxvision.models import weights

WIDTH, DEPTH = 384, 1  # of a ViT-S with one of its twelve blocks


def drawn(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def batch_norm(name, width, affine=True):
    shapes = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return shapes | ({f"{name}.weight": (width,), f"{name}.bias": (width,)} if affine else {})


def vit():
    """timm's VisionTransformer with MoCo v3's head of three layers."""
    shapes = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 197, WIDTH), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    shapes |= {"patch_embed.proj.weight": (WIDTH, 3, 16, 16), "patch_embed.proj.bias": (WIDTH,)}
    for i in range(DEPTH):
        for layer, out, into in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 4 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 4 * WIDTH),
        ):
            shapes |= {f"blocks.{i}.{layer}.weight": (out, into), f"blocks.{i}.{layer}.bias": (out,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.weight": (WIDTH,), f"blocks.{i}.{norm}.bias": (WIDTH,)}
    head = {"head.0.weight": (64, WIDTH), "head.3.weight": (64, 64), "head.6.weight": (32, 64)}
    return shapes | head | batch_norm("head.1", 64) | batch_norm("head.4", 64) | batch_norm("head.7", 32, affine=False)


def resnet18():
    """torchvision's resnet18 without its classifier."""
    shapes = {"conv1.weight": (64, 3, 7, 7)} | batch_norm("bn1", 64)
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name, into = f"layer{stage}.{block}", width // 2 if stage > 1 and block == 0 else width
            shapes |= {f"{name}.conv1.weight": (width, into, 3, 3), f"{name}.conv2.weight": (width, width, 3, 3)}
            shapes |= batch_norm(f"{name}.bn1", width) | batch_norm(f"{name}.bn2", width)
            if into != width:
                shapes |= {f"{name}.downsample.0.weight": (width, into, 1, 1)}
                shapes |= batch_norm(f"{name}.downsample.1", width)
    return shapes


def checkpoint(encoders, shapes, prefix="state_dict.module."):
    """A checkpoint as the command for a pickle flattens it: two encoders that differ, and what lies beside them."""
    arrays = {"epoch": np.array(300)}
    for i, encoder in enumerate(encoders):
        arrays |= {f"{prefix}{encoder}.{name}": x + i for name, x in drawn(shapes).items()}
    return arrays | {f"{prefix}predictor.0.weight": np.zeros((64, 32), np.float32)}


def converted(tmp_path, arrays, *flags):
    weights.write(tmp_path / "in.safetensors", arrays)
    cli.main(["jaxvision", "convert", "--from=moco", *flags, str(tmp_path / "in.safetensors"), str(tmp_path / "out")])
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    return weights.read(tmp_path / "out" / "weights.safetensors"), meta


@pytest.mark.parametrize(("prefix", "offset"), [((), 0), (("--prefix=state_dict.module.momentum_encoder",), 1)])
def test_a_vit_of_moco_v3(tmp_path, prefix, offset):
    arrays = checkpoint(("base_encoder", "momentum_encoder"), vit())
    ours, meta = converted(tmp_path, arrays, "--model=vit:S/16", f"--option=depth={DEPTH}", *prefix)
    theirs = drawn(vit())
    np.testing.assert_array_equal(ours["params/cls"], theirs["cls_token"] + offset)
    np.testing.assert_array_equal(
        ours["params/encoder/block_00/mlp/dense_0/kernel"], theirs["blocks.0.mlp.fc1.weight"].T + offset
    )
    model = meta["model"]
    assert (model["num_heads"], model["posemb"], model["pool"], model["gelu"]) == (12, "learned", "token", "exact")
    assert meta["told_by"]["num_heads"] == "shapes in the file"
    assert meta["num_classes"] is None
    images = meta["preprocessing"]
    assert images["host"] == "decode|resize_short(256)|central_crop(224)"
    assert images["augment"] == "normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"


@pytest.mark.parametrize(
    ("encoders", "head"),
    [
        (("base_encoder", "momentum_encoder"), {"fc.0.weight": (64, 512), "fc.3.weight": (32, 64)}),
        (("encoder_q", "encoder_k"), {"fc.0.weight": (512, 512), "fc.0.bias": (512,), "fc.2.weight": (128, 512)}),
    ],
    ids=["v3", "v2"],
)
def test_a_resnet_of_moco(tmp_path, encoders, head):
    arrays = checkpoint(encoders, resnet18() | head)
    ours, meta = converted(tmp_path, arrays, "--model=resnet:18")
    theirs = drawn(resnet18() | head)
    np.testing.assert_array_equal(
        ours["params/stage2/block1/conv1/kernel"], theirs["layer2.0.conv1.weight"].transpose(2, 3, 1, 0)
    )
    assert meta["num_classes"] is None
    assert not any("projection" in name or "head" in name for name in ours)


def test_a_linear_classifier_of_moco(tmp_path):
    """The authors' checkpoints of linear classification have no encoder in their names."""
    shapes = resnet18() | {"fc.weight": (10, 512), "fc.bias": (10,)}
    ours, meta = converted(tmp_path, {f"module.{name}": x for name, x in drawn(shapes).items()}, "--model=resnet:18")
    assert meta["num_classes"] == 10
    assert ours["params/head/kernel"].shape == (512, 10)
