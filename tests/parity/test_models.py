"""Models against torchvision and timm: the same weights give the same logits.

Run with torch 2.13.0 for CPUs, torchvision and timm on the path. None of them is needed otherwise.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def torch():
    """torch, ready for the import of torchvision and timm; skips the test where one of the three is missing."""
    torch = pytest.importorskip("torch", reason="parity tests need torch")
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        # torchvision on the package index has compiled operations for CUDA alone. Its models do not use them,
        # but its import fails unless these are declared.
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("roi_align(Tensor x, Tensor rois, float scale, int h, int w, int ratio, bool aligned) -> Tensor")
    pytest.importorskip("torchvision", reason="parity tests need torchvision", exc_type=Exception)
    pytest.importorskip("timm", reason="parity tests need timm", exc_type=Exception)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    yield torch
    library._destroy()


RESNET = (
    (r"^stem_conv", "conv1"),
    (r"^stem_norm", "bn1"),
    (r"^stage(\d)/block(\d+)", lambda m: f"layer{m[1]}/{int(m[2]) - 1}"),
    (r"/norm(\d)", r"/bn\1"),
    (r"shortcut_conv", "downsample/0"),
    (r"shortcut_norm", "downsample/1"),
    (r"^head", "fc"),
    (r"mean$", "running_mean"),
    (r"var$", "running_var"),
)
VIT = (
    (r"^pos_embedding", "pos_embed"),
    (r"^cls", "cls_token"),
    (r"^embedding", "patch_embed/proj"),
    (r"^encoder/norm", "norm"),
    (r"^encoder/block_(\d+)", lambda m: f"blocks/{int(m[1])}"),
    (r"attention_norm", "norm1"),
    (r"mlp_norm", "norm2"),
    (r"attention/out", "attn/proj"),
    (r"attention", "attn"),
    (r"dense_0", "fc1"),
    (r"dense_1", "fc2"),
)
BIT = (
    (r"^stem_conv", "stem/conv"),
    (r"^stage(\d)/block(\d+)", lambda m: f"stages/{int(m[1]) - 1}/blocks/{int(m[2]) - 1}"),
    (r"shortcut_conv", "downsample/conv"),
    (r"^head", "head/fc"),
)


def convert(state, variables, rules):
    """Fills `variables` from a torch state dict: renamed by `rules`, kernels with their output axis last."""
    state = {name: value.detach().numpy() for name, value in state.items()}
    for name in [n for n in state if ".qkv." in n]:
        parts = np.split(state.pop(name), 3)
        state.update({name.replace("qkv", part): x for part, x in zip(("query", "key", "value"), parts)})
    unused = {name for name in state if not name.endswith("num_batches_tracked")}

    def leaf(path, x):
        name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for pattern, replacement in (*rules, (r"(kernel|scale)$", "weight")):
            name = re.sub(pattern, replacement, name)
        name = name.replace("/", ".")
        unused.remove(name)
        value = state[name]
        axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim))
        return jnp.asarray(value.transpose(axes).reshape(x.shape))

    filled = jax.tree.map_with_path(leaf, variables)
    assert not unused
    return filled


def compare(torch, reference, model, rules, size, train=False):
    with torch.no_grad():
        for name, value in reference.state_dict().items():  # in general position: no scale is 0 or 1
            if value.ndim == 1 and value.is_floating_point():
                value += 0.3 * torch.rand_like(value)
            elif value.ndim == 2:
                value *= 3  # as small as they start, the two forms of GELU could not be told apart
            elif name.startswith("head") or "token" in name:
                value += 0.02 * torch.randn_like(value)
        images = torch.randn(2, 3, size, size)
        # State before the forward pass: in training it moves the running statistics.
        state = {name: value.clone() for name, value in reference.state_dict().items()}
        want = reference.train(train)(images).numpy()
    x = images.permute(0, 2, 3, 1).numpy()
    variables = convert(state, jax.eval_shape(model.init, jax.random.key(0), x), rules)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"])[0][1]["logits"])
    got = apply(variables, x)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=1e-4 * max(1, np.abs(want).max()), rtol=0)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layers", [18, 50])
def test_resnet_equals_torchvision(torch, layers, train):
    import torchvision

    reference = getattr(torchvision.models, f"resnet{layers}")()
    compare(torch, reference, models.build("resnet", 1000, variant=layers), RESNET, 96, train)


def test_vit_equals_timm(torch):
    import timm

    reference = timm.create_model("vit_tiny_patch16_224")
    model = models.build("vit", 1000, variant="Ti/16", pool="token", posemb="learned", gelu="exact")
    compare(torch, reference, model, VIT, 224)


def test_bit_equals_timm(torch):
    import timm

    reference = timm.create_model("resnetv2_50x1_bit", num_classes=10)
    compare(torch, reference, models.build("bit", 10, variant="R50x1"), BIT, 96)
