"""Weights of masked autoencoders: the authors' names, without the decoder and with it, and a norm behind the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import mapping, preprocessing
from jaxvision.tasks import get_task

D, E = 32, 16  # widths of encoder and decoder; patches of 4 pixels, images of 8


def vit(num_classes=None, **options):
    options = {"pool": "token", "posemb": "learned", "gelu": "exact", **options}
    return models.build("vit", num_classes, variant="mu/4", depth=1, **options)


def shapes(**options):
    return jax.eval_shape(vit(5, **options).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def block(name, d):
    arrays = {f"{name}.norm{i}.{leaf}": (d,) for i in (1, 2) for leaf in ("weight", "bias")}
    layers = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}
    for layer, shape in layers.items():
        arrays |= {f"{name}.{layer}.weight": shape, f"{name}.{layer}.bias": shape[:1]}
    return arrays


ENCODER = {"cls_token": (1, 1, D), "pos_embed": (1, 5, D), "norm.weight": (D,), "norm.bias": (D,)}
ENCODER |= {"patch_embed.proj.weight": (D, 3, 4, 4), "patch_embed.proj.bias": (D,), **block("blocks.0", D)}
DECODER = {"mask_token": (1, 1, E), "decoder_pos_embed": (1, 5, E), "decoder_norm.weight": (E,)}
DECODER |= {"decoder_norm.bias": (E,), "decoder_embed.weight": (E, D), "decoder_embed.bias": (E,)}
DECODER |= {"decoder_pred.weight": (48, E), "decoder_pred.bias": (48,), **block("decoder_blocks.0", E)}


@pytest.fixture(scope="module")
def full():
    """A checkpoint with the names of facebookresearch/mae, as its dictionary `model`, with the decoder."""
    rng = np.random.default_rng(0)
    return {f"model.{name}": rng.normal(size=x).astype(np.float32) for name, x in {**ENCODER, **DECODER}.items()}


def test_a_checkpoint_with_its_decoder_fills_a_plain_vit(full):
    imported = weights.import_weights(full, "timm", "vit", shapes(), head="new")
    params = imported.variables["params"]
    np.testing.assert_array_equal(params["cls"], full["model.cls_token"])
    qkv = full["model.blocks.0.attn.qkv.weight"]
    query = params["encoder"]["block_00"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(query.reshape(D, D), qkv[:D].T)
    left = next(note for note in imported.notes if note.startswith("not of this model"))
    assert "decoder_embed.weight" in left or "mask_token" in left
    selected, _ = mapping.select(full, "timm", "vit")
    assert mapping.options(selected, "timm", "vit") == {"posemb": "learned", "gelu": "exact", "pool": "token"}
    stated = preprocessing.stated(selected, "timm", "vit")
    assert stated["mean"] == ((0.485, 0.456, 0.406), "names in the file")


def test_it_fills_the_task_with_its_decoder(full):
    task = get_task("mae")(model=vit, decoder_width=E, decoder_depth=1, decoder_heads=2)
    ours = jax.eval_shape(task.init, jax.random.key(0), {"image": jnp.zeros((1, 8, 8, 3))})
    imported = weights.import_weights(full, "timm", "vit", ours)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(imported.variables))
    decoder = imported.variables["params"]["decoder"]
    np.testing.assert_array_equal(decoder["mask_token"], full["model.mask_token"])
    np.testing.assert_array_equal(decoder["embedding"]["kernel"], full["model.decoder_embed.weight"].T)
    np.testing.assert_array_equal(decoder["encoder"]["norm"]["scale"], full["model.decoder_norm.weight"])
    mlp = decoder["encoder"]["block_00"]["mlp"]
    np.testing.assert_array_equal(mlp["dense_0"]["kernel"], full["model.decoder_blocks.0.mlp.fc1.weight"].T)
    np.testing.assert_array_equal(decoder["prediction"]["kernel"], full["model.decoder_pred.weight"].T)
    incomplete = {name: x for name, x in full.items() if name != "model.decoder_pred.bias"}
    with pytest.raises(UserError, match=r"missing    decoder_pred.bias \[48\]"):
        weights.import_weights(incomplete, "timm", "vit", ours)


@pytest.mark.parametrize("source", ["timm", "jaxvision"])
def test_a_norm_behind_the_mean_is_new_with_the_head(source):
    """As in the fine-tuning of BEiT and MAE: pretraining has a norm of tokens, which is left out."""
    pretrained = jax.tree.map(lambda x: np.full(x.shape, 2, np.float32), shapes())
    arrays = weights.export_weights(pretrained, source, "vit")
    pooled = shapes(pool="gap", class_token=True, fc_norm=True)
    imported = weights.import_weights(arrays, source, "vit", pooled, head="new")
    params = imported.variables["params"]
    fresh = {name for name, x in params.items() if not isinstance(jax.tree.leaves(x)[0], np.ndarray)}
    assert fresh == {"head", "fc_norm"}
    norm = "norm.weight" if source == "timm" else "params/encoder/norm/scale"
    assert norm in next(note for note in imported.notes if note.startswith("head: new, with its norm"))
    with pytest.raises(UserError, match="fc_norm"):
        weights.import_weights(arrays, source, "vit", pooled)


def test_a_norm_behind_the_mean_is_taken_if_the_weights_have_one():
    pooled = shapes(pool="gap", class_token=True, fc_norm=True)
    tuned = jax.tree.map(lambda x: np.full(x.shape, 2, np.float32), pooled)
    imported = weights.import_weights(weights.export_weights(tuned, "timm", "vit"), "timm", "vit", pooled, head="new")
    np.testing.assert_array_equal(imported.variables["params"]["fc_norm"]["scale"], 2)
    assert not isinstance(imported.variables["params"]["head"]["kernel"], np.ndarray)
