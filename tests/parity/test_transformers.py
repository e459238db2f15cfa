"""Transformers, mixers and ConvNeXt against timm: the same weights give the same logits and gradients.

Run with torch 2.13.0 for CPUs, torchvision and timm on the path. None of them is needed otherwise.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.patches import resize_patches
from jaxvision.models.positions import resize_positions
from jaxvision.models.transformer import BlockOptions, TransformerBlock

pytestmark = pytest.mark.parity

MLP = ((r"dense_0", "fc1"), (r"dense_1", "fc2"))
VIT = (
    (r"^pos_embedding", "pos_embed"),
    (r"^cls", "cls_token"),
    (r"^distillation_token", "dist_token"),
    (r"^distillation_head", "head_dist"),
    (r"^registers", "reg_token"),
    (r"^pre_norm", "norm_pre"),
    (r"^embedding", "patch_embed/proj"),
    (r"^encoder/norm", "norm"),
    (r"^encoder/block_(\d+)", lambda m: f"blocks/{int(m[1])}"),
    (r"(attention|mlp)_scale/scale", lambda m: f"ls{1 + (m[1] == 'mlp')}/gamma"),
    (r"attention_norm", "norm1"),
    (r"mlp_norm", "norm2"),
    (r"attention/out", "attn/proj"),
    (r"attention/query_norm", "attn/q_norm"),
    (r"attention/key_norm", "attn/k_norm"),
    (r"attention", "attn"),
    *MLP,
)
MIXER = (
    (r"^embedding", "stem/proj"),
    (r"^encoder/norm", "norm"),
    (r"^encoder/block_(\d+)", lambda m: f"blocks/{int(m[1])}"),
    (r"token_norm", "norm1"),
    (r"channel_norm", "norm2"),
    (r"token_mlp", "mlp_tokens"),
    (r"channel_mlp", "mlp_channels"),
    *MLP,
)
CONVNEXT = (
    (r"^stem_conv", "stem/0"),
    (r"^stem_norm", "stem/1"),
    (r"^stage(\d)", lambda m: f"stages/{int(m[1]) - 1}"),
    (r"block(\d+)", lambda m: f"blocks/{int(m[1]) - 1}"),
    (r"downsample_norm", "downsample/0"),
    (r"downsample/(kernel|bias)", r"downsample/1/\1"),
    (r"depthwise", "conv_dw"),
    (r"scale/scale", "gamma"),
    (r"^norm", "head/norm"),
    (r"^head/(kernel|bias)", r"head/fc/\1"),
    *MLP,
)
CLIP_RESNET = (
    (r"^stem_conv(\d)", r"stem/conv\1/conv"),
    (r"^stem_norm(\d)", r"stem/conv\1/bn"),
    (r"^stage(\d)/block(\d+)", lambda m: f"stages/{int(m[1]) - 1}/{int(m[2]) - 1}"),
    (r"shortcut_(conv|norm)", r"shortcut/conv/\1"),
    (r"^(stages.*)/(conv|norm)([13])/", r"\1/conv\3_1x1/\2/"),
    (r"^(stages.*)/(conv|norm)2/", r"\1/conv2_kxk/\2/"),
    (r"/norm/", "/bn/"),
    (r"^pool/pos_embedding", "head/pos_embed"),
    (r"^pool/attention/(query|key|value|out)", lambda m: "head/" + {"out": "proj"}.get(m[1], m[1][0])),
    (r"mean$", "running_mean"),
    (r"var$", "running_var"),
)
PAPER = {"pool": "token", "posemb": "learned", "gelu": "exact"}


def timm_vit(model, image_size, **options):
    """timm's vision transformer of the size of one of ours, with 10 classes."""
    import timm

    o = model.block
    sizes = {"embed_dim": model.width, "depth": model.depth, "num_heads": o.num_heads, "patch_size": model.patch}
    return timm.models.VisionTransformer(
        image_size, num_classes=10, mlp_ratio=o.mlp_dim / model.width, **sizes | options
    )


LARGE = [pytest.param(variant, marks=pytest.mark.slow) for variant in ("B/16", "B/32")]  # S with more of everything


@pytest.mark.parametrize("variant", ["Ti/16", "S/16", "Ti/32", "S/32", *LARGE])
def test_vit_equals_timm(torch, compare, variant):
    model = models.build("vit", 10, variant=variant, **PAPER)
    compare(timm_vit(model, 96), model, VIT, 96, gradient=variant == "S/16")


@pytest.mark.parametrize(
    ("options", "timm_options"),
    [
        ({"layer_scale": 1e-4, "cls_position": False}, {"init_values": 1e-4, "no_embed_class": True}),
        ({"qk_norm": True}, {"qk_norm": True}),
        ({"registers": 3, "cls_position": False}, {"reg_tokens": 3, "no_embed_class": True}),
        ({"pre_norm": True, "patch_bias": False}, {"pre_norm": True}),
        ({"pool": "gap"}, {"global_pool": "avg", "fc_norm": False, "class_token": False}),
    ],
    ids=lambda options: "-".join(options),
)
def test_option_of_vit_equals_timms(torch, compare, options, timm_options):
    model = models.build("vit", 10, **{"variant": "mu/8", "depth": 2, "posemb": "learned", **PAPER, **options})
    compare(timm_vit(model, 32, **timm_options), model, VIT, 32)


def test_pairs_of_parallel_branches_equal_timms(torch, compare):
    from timm.models.vision_transformer import ParallelThingsBlock

    model = models.build("vit", 10, variant="mu/8", depth=2, parallel="pairs", layer_scale=0.1, **PAPER)
    reference = timm_vit(model, 32, block_fn=ParallelThingsBlock, init_values=0.1)
    branches = (
        (r"/(attention|mlp)(_scale|_norm|)(_2|)/", lambda m: f"/{m[1]}{m[2]}/{1 if m[3] else 0}/"),
        (r"/attention(_scale/\d/scale|_norm/\d|/\d)", r"/attns\1"),
        (r"/mlp(_scale/\d/scale|_norm/\d|/\d)", r"/ffns\1"),
        (r"/(attns|ffns)_scale/(\d)/scale", r"/\1/\2/ls/gamma"),
        (r"/(attns|ffns)_norm/(\d)", r"/\1/\2/norm"),
        (r"/attns/(\d)/(query|key|value|out)", r"/attns/\1/attention/\2"),
        (r"/ffns/(\d)/dense", r"/ffns/\1/mlp/dense"),
    )
    compare(reference, model, (*branches, *VIT), 32)


def test_mlp_beside_attention_equals_timms(torch):
    from timm.models.vision_transformer import ParallelScalingBlock

    theirs = ParallelScalingBlock(32, 2, qkv_bias=True, qk_norm=True, init_values=0.1).eval()
    options = BlockOptions(2, 128, gelu="exact", qk_norm=True, layer_scale=0.1, parallel="mlp")
    block = TransformerBlock(options, jnp.float32)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 32)).astype(np.float32)
    shapes = jax.eval_shape(functools.partial(block.init, train=False), jax.random.key(0), x, 1.0)["params"]
    p = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes)
    attention, mlp = p["attention"], p["mlp"]
    inner = [mlp["dense_0"], *(attention[name] for name in ("query", "key", "value"))]
    state = {
        "in_proj.weight": np.concatenate([layer["kernel"].reshape(32, -1).T for layer in inner]),
        "in_proj.bias": np.concatenate([layer["bias"].ravel() for layer in inner]),
        "attn_out_proj.weight": attention["out"]["kernel"].reshape(32, 32).T,
        "attn_out_proj.bias": attention["out"]["bias"],
        "mlp_out_proj.weight": mlp["dense_1"]["kernel"].T,
        "mlp_out_proj.bias": mlp["dense_1"]["bias"],
        "ls.gamma": p["branch_scale"]["scale"],
    }
    for name, norm in {"in": p["norm"], "q": attention["query_norm"], "k": attention["key_norm"]}.items():
        state |= {f"{name}_norm.weight": norm["scale"], f"{name}_norm.bias": norm["bias"]}
    theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    with torch.no_grad():
        want = theirs(torch.tensor(x)).numpy()
    got = jax.jit(functools.partial(block.apply, train=False))({"params": p}, x, 1.0)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_distilled_deit_equals_timm(torch, compare):
    import timm

    reference = timm.create_model("deit_tiny_distilled_patch16_224", img_size=96, num_classes=10)
    model = models.build("vit", 10, variant="Ti/16", distilled=True, **PAPER)
    compare(reference, model, VIT, 96)


def test_mixer_equals_timm(torch, compare):
    import timm

    reference = timm.create_model("mixer_s32_224", num_classes=10)
    compare(reference, models.build("mixer", 10, variant="S/32", gelu="exact"), MIXER, 224)


def test_convnext_equals_timm(torch, compare):
    import timm

    reference = timm.create_model("convnext_tiny", num_classes=10)
    compare(reference, models.build("convnext", 10, variant="tiny"), CONVNEXT, 64, gradient=True)


class FeaturesAsLogits:
    """A model without a head, for a comparison of logits with one whose last layer is the pooling."""

    def __init__(self, model):
        self.model, self.init = model, model.init

    def apply(self, *args, **kwargs):
        (features, _), updated = self.model.apply(*args, **kwargs)
        return (features, {"logits": features}), updated


def test_clip_resnet_equals_timm(torch, compare):
    import timm

    reference = timm.create_model("resnet50_clip", img_size=64)
    compare(reference, FeaturesAsLogits(models.build("clip_resnet", None)), CLIP_RESNET, 64)


def test_causal_text_transformer_equals_torch(torch):
    model = models.build_text("text_transformer", variant="mu", depth=2, vocab_size=50, length=9)
    tokens = np.random.default_rng(0).integers(0, 50, (3, 9))
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    params = jax.tree.map(np.asarray, variables["params"])
    layer = torch.nn.TransformerEncoderLayer(
        32, 2, 128, 0.0, lambda x: x * torch.sigmoid(1.702 * x), norm_first=True, batch_first=True
    )
    encoder = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(32), enable_nested_tensor=False)
    state = {}
    for i in range(2):
        p = params["encoder"][f"block_{i:02}"]
        qkv = [p["attention"][name] for name in ("query", "key", "value")]
        state |= {
            f"layers.{i}.self_attn.in_proj_weight": np.concatenate([x["kernel"].reshape(32, 32).T for x in qkv]),
            f"layers.{i}.self_attn.in_proj_bias": np.concatenate([x["bias"].reshape(32) for x in qkv]),
            f"layers.{i}.self_attn.out_proj.weight": p["attention"]["out"]["kernel"].reshape(32, 32).T,
            f"layers.{i}.self_attn.out_proj.bias": p["attention"]["out"]["bias"],
        }
        for ours, theirs in {"attention_norm": "norm1", "mlp_norm": "norm2"}.items():
            state[f"layers.{i}.{theirs}.weight"], state[f"layers.{i}.{theirs}.bias"] = p[ours]["scale"], p[ours]["bias"]
        for ours, theirs in {"dense_0": "linear1", "dense_1": "linear2"}.items():
            state[f"layers.{i}.{theirs}.weight"] = p["mlp"][ours]["kernel"].T
            state[f"layers.{i}.{theirs}.bias"] = p["mlp"][ours]["bias"]
    norm = params["encoder"]["norm"]
    state |= {"norm.weight": norm["scale"], "norm.bias": norm["bias"]}
    encoder.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    embedded = torch.tensor(params["embedding"]["embedding"][tokens] + params["pos_embedding"])
    mask = torch.nn.Transformer.generate_square_subsequent_mask(9)
    with torch.no_grad():
        want = encoder.eval()(embedded, mask=mask, is_causal=True).numpy()
    features, out = jax.jit(model.apply)(variables, tokens)
    np.testing.assert_allclose(out["tokens"], want, atol=1e-5)
    np.testing.assert_allclose(features, want[np.arange(3), tokens.argmax(1)], atol=1e-5)


@pytest.mark.parametrize("new", [(3, 5), (9, 12), (4, 6)])
@pytest.mark.parametrize("prefix", [0, 2])
def test_resized_positions_equal_timms(torch, new, prefix):
    from timm.layers import resample_abs_pos_embed

    positions = np.random.default_rng(0).normal(size=(1, prefix + 24, 8)).astype(np.float32)
    want = resample_abs_pos_embed(torch.tensor(positions), list(new), [4, 6], prefix).numpy()
    np.testing.assert_allclose(resize_positions(positions, (4, 6), new, prefix), want, atol=1e-5)


@pytest.mark.parametrize("patch", [3, 8, 12])
def test_resized_patches_equal_timms(torch, patch):
    from timm.layers.patch_embed import resample_patch_embed

    kernel = np.random.default_rng(0).normal(size=(8, 8, 3, 4)).astype(np.float32)
    want = resample_patch_embed(
        torch.tensor(kernel.transpose(3, 2, 0, 1)), [patch, patch], interpolation="bilinear", antialias=False
    )
    np.testing.assert_allclose(resize_patches(kernel, patch), want.numpy().transpose(2, 3, 1, 0), atol=1e-5)
