"""The import of weights against torchvision and timm: their state dict, read from a file, gives their logits.

Run with torch 2.13.0 for CPUs, torchvision and timm on the path. None of them is needed otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_bounds import bound

from jaxvision import models
from jaxvision.models import weights
from jaxvision.models.weights import mapping, properties

pytestmark = pytest.mark.parity
SMALL_VIT = {"embed_dim": 64, "depth": 3, "num_heads": 2, "num_classes": 10, "img_size": 32, "patch_size": 8}
VIT = {"variant": "mu/8", "width": 64, "depth": 3}
GMLP = {"variant": "Ti/16", "scan": True}
SMALL_SWIN = {"num_classes": 10, "img_size": 56, "embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4)}
SWIN = {"blocks": (1, 2), "channels": 16, "num_heads": 2}
CASES = {  # name in timm, its options, our model and options, side of the images
    "vit": ("vit_tiny_patch16_224", SMALL_VIT, "vit", VIT, 32),
    "vit_map": ("vit_base_patch16_siglip_224", SMALL_VIT | {"class_token": False}, "vit", VIT, 32),
    "vit_layer_scale_qk_norm": (
        "vit_base_patch32_clip_224",
        SMALL_VIT | {"init_values": 0.1, "qk_norm": True},
        "vit",
        VIT,
        32,
    ),
    "vit_pairs": ("vit_small_patch16_36x1_224", SMALL_VIT, "vit", VIT, 32),
    "deit": ("deit_tiny_distilled_patch16_224", SMALL_VIT, "vit", VIT, 32),
    "resnet18": ("resnet18", {"num_classes": 10}, "resnet", {"variant": 18}, 64),
    "resnext50_32x4d": ("resnext50_32x4d", {"num_classes": 10}, "resnet", {"variant": "resnext50_32x4d"}, 64),
    "seresnet50": ("seresnet50", {"num_classes": 10}, "resnet", {"variant": "se50"}, 64),
    "resnet50d": ("resnet50d", {"num_classes": 10}, "resnet", {"variant": "50d"}, 64),
    "resnetv2_50": ("resnetv2_50", {"num_classes": 10}, "resnet_v2", {"variant": 50}, 64),
    "bit": ("resnetv2_50x1_bit", {"num_classes": 10}, "bit", {"variant": "R50x1"}, 64),
    "mixer": ("mixer_s32_224", {"num_classes": 10, "img_size": 64}, "mixer", {"variant": "S/32"}, 64),
    "resmlp": ("resmlp_12_224", {"num_classes": 10, "img_size": 64}, "resmlp", {"scan": True}, 64),
    "gmlp": ("gmlp_ti16_224", {"num_classes": 10, "img_size": 64}, "gmlp", GMLP, 64),
    "swin": ("swin_tiny_patch4_window7_224", SMALL_SWIN, "swin", SWIN, 56),
    "swin_v2": ("swinv2_tiny_window8_256", SMALL_SWIN | {"img_size": 64}, "swin_v2", SWIN, 64),
    "convnext": ("convnext_tiny", {"num_classes": 10}, "convnext", {"variant": "tiny"}, 64),
}


def assert_same_logits(torch, reference, path, source, name, options, size, architecture=None):
    """Our logits, with the weights in the file `path`, equal those of `reference` within the bound of the model.

    That of BiT is larger: its weights are divided by their deviation. tests/parity/test_properties.py shows that a
    wrong epsilon or GELU makes more.
    """
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        want = reference(images).numpy()
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    arrays = weights.read(path)
    right = properties.options({"name": name}, properties.stated(arrays, source, name, architecture))
    model = models.build(name, want.shape[1], **right | options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = weights.import_weights(arrays, source, name, shapes).variables
    got = jax.jit(lambda v, x: model.apply(v, x)[1]["logits"])(variables, x)
    np.testing.assert_allclose(got, want, atol=bound(source, name) * np.abs(want).max(), rtol=0)
    return variables


@pytest.mark.parametrize("case", CASES)
def test_timm_weights_give_timms_logits_and_go_back(torch, sensitive, case, tmp_path):
    import timm
    from safetensors.torch import save_model

    name_in_timm, their_options, name, options, size = CASES[case]
    reference = sensitive(timm.create_model(name_in_timm, **their_options))
    save_model(reference, str(tmp_path / "in.safetensors"))
    path = tmp_path / "in.safetensors"
    variables = assert_same_logits(torch, reference, path, "timm", name, options, size, name_in_timm)
    weights.write(tmp_path / "out.safetensors", weights.export_weights(variables, "timm", name))
    back = weights.read(tmp_path / "out.safetensors")
    state = {k: v for k, v in reference.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[key], value.numpy()) for key, value in state.items())


@pytest.mark.parametrize(("source", "name"), [("torchvision", "resnet"), ("torchvision", "vit")])
def test_torchvision_weights_give_torchvisions_logits(torch, sensitive, source, name, tmp_path):
    import torchvision
    from safetensors.torch import save_model

    if name == "vit":
        vit = torchvision.models.VisionTransformer
        reference = vit(32, 8, num_layers=3, num_heads=2, hidden_dim=64, mlp_dim=256, num_classes=10)
        torch.nn.init.normal_(reference.heads.head.weight)
        options = VIT
    else:
        reference, options = torchvision.models.resnet18(num_classes=10), {"variant": 18}
    save_model(sensitive(reference), str(tmp_path / "in.safetensors"))
    assert_same_logits(torch, reference, tmp_path / "in.safetensors", source, name, options, 32)


@pytest.mark.parametrize("release", ["augreg", "big_vision"])
def test_timms_own_reader_of_flax_weights_gives_the_same_logits(torch, release, tmp_path):
    import timm

    options = VIT | {"pool": "token", "posemb": "learned"}
    model = models.build("vit", 10, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)
    table = dict(zip(("big_vision", "augreg"), mapping.tables_of("big_vision", "vit")))[release]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "tables_of", lambda *_: [table])
        np.savez(tmp_path / "w.npz", **weights.export_weights(variables, "big_vision", "vit"))
    reference = timm.create_model("vit_tiny_patch16_224", **SMALL_VIT)
    reference.load_pretrained(str(tmp_path / "w.npz"))
    for module in reference.modules():  # timm's are exact; those of the release are the approximation
        if isinstance(module, torch.nn.GELU):
            module.approximate = "tanh"
    assert_same_logits(torch, reference.eval(), tmp_path / "w.npz", "big_vision", "vit", VIT, 32)


def test_timms_own_reader_of_bit_weights_gives_the_same_logits(torch, tmp_path):
    import timm

    model = models.build("bit", 10, variant="R50x1")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)
    np.savez(tmp_path / "w.npz", **weights.export_weights(variables, "bit", "bit"))
    reference = timm.create_model("resnetv2_50x1_bit", num_classes=10)
    reference.load_pretrained(str(tmp_path / "w.npz"))
    assert_same_logits(torch, reference.eval(), tmp_path / "w.npz", "bit", "bit", {"variant": "R50x1"}, 64)
