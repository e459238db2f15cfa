"""Names in files: what stands before a layout's, sets of weights in one file, what the errors offer, odd arrays."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import mapping, prefixes, tables
from jaxvision.models.weights.table import OURS

VIT = {"variant": "mu/4", "depth": 2, "pool": "token", "posemb": "learned"}


def shapes(name="vit", size=8, **options):
    model = models.build(name, 5, **(VIT if name == "vit" else {}) | options)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def drawn(tree):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), tree)


@pytest.fixture(scope="module")
def timm_vit():
    return weights.export_weights(drawn(shapes()), "timm", "vit")


def prefixed(prefix, arrays):
    return {prefix + name: x for name, x in arrays.items()}


def read(arrays, source="timm", **options):
    return weights.import_weights(arrays, source, "vit", shapes(), **options)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "backbone.", "model.", "encoder.", "net.", "module._orig_mod.", "a/b/", "0."]
)
def test_a_prefix_of_all_names_is_taken_off_and_told(prefix, timm_vit):
    imported = read(prefixed(prefix, timm_vit))
    jax.tree.map(np.testing.assert_array_equal, imported.variables, read(timm_vit).variables)
    assert imported.notes == (f"names: {prefix!r} removed from all {len(timm_vit)} arrays",)
    selected, notes = mapping.select(prefixed(prefix, timm_vit), "timm", "vit")
    assert (selected.keys(), notes) == (timm_vit.keys(), imported.notes)
    assert mapping.options(selected, "timm", "vit")["pool"] == "token"


def test_a_wrapper_called_like_a_word_of_the_layout():
    """torchvision's own names begin with `encoder.`, too."""
    variables = drawn(shapes())
    arrays = weights.export_weights(variables, "torchvision", "vit")
    for prefix in ("encoder.", "module.encoder."):
        imported = weights.import_weights(prefixed(prefix, arrays), "torchvision", "vit", shapes())
        jax.tree.map(np.testing.assert_array_equal, imported.variables, variables)


@pytest.mark.parametrize(("source", "model"), [(s, m) for s, of in tables.TABLES.items() for m in of])
def test_no_layout_loses_words_of_its_own(source, model):
    """Every beginning that a rule leaves stays, though all names of a (cut down) file may share it."""
    for table in tables.TABLES[source][model]:
        for begin in prefixes._beginnings(table):
            if begin.strip("/"):
                arrays = {
                    begin.replace("/", ".") + "x.weight": np.zeros(2),
                    begin.replace("/", ".") + "y.z": np.zeros(2),
                }
                assert prefixes.select(arrays, [table]).arrays.keys() == arrays.keys()
    assert prefixes.select({"params/a/b": np.zeros(2), "params/a/c": np.zeros(2)}, [OURS]).prefix == ""


def test_the_prefix_of_a_layout_is_none_of_a_wrapper():
    clip = {"pre_norm": True, "patch_bias": False}
    variables = drawn(shapes(**clip))
    arrays = weights.export_weights(variables, "openai_clip", "vit")
    assert all(name.startswith("visual.") for name in arrays)
    assert weights.import_weights(arrays, "openai_clip", "vit", shapes(**clip)).notes == ()
    wrapped = weights.import_weights(prefixed("module.", arrays), "openai_clip", "vit", shapes(**clip))
    assert wrapped.notes == (f"names: 'module.' removed from all {len(arrays)} arrays",)
    jax.tree.map(np.testing.assert_array_equal, wrapped.variables, variables)


def test_the_counter_of_an_averaged_model_is_no_weight(timm_vit):
    """torch.optim.swa_utils.AveragedModel."""
    imported = read(prefixed("module.", timm_vit) | {"n_averaged": np.array(7)})
    assert imported.notes == (f"names: 'module.' removed from {len(timm_vit)} arrays; not used: n_averaged",)


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("state_dict_ema.", "state_dict."),
        ("model_ema.", "model."),
        ("ema_state_dict.", "state_dict."),
        ("params_ema.", "params."),
        ("teacher.", "student."),
        ("model_ema.module.", "model.module."),
    ],
)
def test_of_several_sets_the_average_is_taken_and_the_other_offered(taken, left, timm_vit):
    trained = {name: x + 1 for name, x in timm_vit.items()}
    optimizer = {"optimizer.state.0.exp_avg": np.zeros(3), "epoch": np.array(3)}
    arrays = prefixed(left, trained) | prefixed(taken, timm_vit) | optimizer
    imported = read(arrays)
    jax.tree.map(np.testing.assert_array_equal, imported.variables, read(timm_vit).variables)
    first, second = taken.partition(".")[0], left.partition(".")[0]
    assert (
        f"names: '{first}.' is one of several sets of weights, and used; {second}. has {len(timm_vit)}"
        in imported.notes[1]
    )
    assert f"--prefix={second}." in imported.notes[1]
    for asked in (left, second):  # with the inner wrapper, or the key alone
        other = read(arrays, prefix=asked)
        jax.tree.map(np.testing.assert_array_equal, other.variables, read(trained).variables)
        assert other.notes[0].startswith(f"names: {left!r} removed from {len(timm_vit)} arrays; not used: ")


def test_a_part_of_the_file_is_offered_with_its_counts(timm_vit):
    backbone = {name: x for name, x in timm_vit.items() if not name.startswith("head.")}
    arrays = prefixed("backbone.", backbone) | {"head.mlp.0.weight": np.zeros((7, 32), np.float32)}
    with pytest.raises(UserError) as error:
        read(arrays)
    count = len(backbone)
    hint = f"after 'backbone.' the file has {count} of the model's {count + 2} names: --prefix=backbone."
    assert hint in str(error.value)
    imported = read(arrays, prefix="backbone", head="new")
    assert imported.notes[0] == f"names: 'backbone.' removed from {count} arrays; not used: head.mlp.0.weight"
    with pytest.raises(UserError, match=r"has the prefix 'bakbone'. Prefixes: backbone., head."):
        read(arrays, prefix="bakbone")
    with pytest.raises(UserError, match=r"head='new' replaces the file's head by a new one."):
        read(arrays, prefix="backbone")


def test_the_average_is_offered_first(timm_vit):
    arrays = prefixed("student.backbone.", timm_vit) | prefixed("teacher.backbone.", timm_vit)
    arrays |= {"teacher.head.0.weight": np.zeros((2, 2)), "student.head.0.weight": np.zeros((2, 2))}
    with pytest.raises(UserError) as error:
        read(arrays)
    offers = [line.split("'")[1] for line in str(error.value).splitlines() if line.startswith("after")]
    assert offers == ["teacher.backbone.", "student.backbone."]


def test_an_empty_prefix_leaves_names_as_they_are(timm_vit):
    with pytest.raises(UserError, match="after 'module.' the file has"):
        read(prefixed("module.", timm_vit), prefix="")


def test_ignored_names_may_be_those_of_the_file(timm_vit):
    arrays = prefixed("module.", timm_vit) | {"extra.weight": np.zeros(3)}
    for pattern in (r"^extra\.", "extra"):
        assert "ignored: extra.weight" in read(arrays, ignore=(pattern,)).notes
    inside = prefixed("module.", timm_vit | {"extra.weight": np.zeros(3)})
    for pattern in (r"^module\.extra\.", r"^extra\."):
        assert any(note.startswith("ignored: ") for note in read(inside, ignore=(pattern,)).notes)


def test_some_of_each_kind_of_misfit_is_listed(timm_vit):
    arrays = {name.replace("blocks.", "block.").replace("norm1", "normA"): x for name, x in timm_vit.items()}
    arrays |= {f"other.{i}": np.zeros(1) for i in range(30)}
    with pytest.raises(UserError) as error:
        read(arrays)
    lines = str(error.value).splitlines()
    kinds = [line.split()[0] for line in lines if line.startswith("  ")]
    assert kinds == ["missing"] * 12 + ["..."] + ["surplus"] * 12 + ["..."]
    assert "24 missing, 0 misshapen, 54 surplus" in lines[0]
    missing = next(line for line in lines if "missing    blocks.0.attn.qkv.weight [96, 32]" in line)
    assert missing.endswith("nearest surplus: block.0.attn.qkv.weight)")


def test_the_library_that_the_names_are_of_is_named(timm_vit):
    with pytest.raises(UserError, match=rf"{len(timm_vit)} of the model's \d+ names are as 'timm' writes them"):
        read(timm_vit, "torchvision")
    with pytest.raises(UserError, match="are as 'timm' writes them"):
        read(prefixed("module.", timm_vit), "big_vision")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_floats_of_any_width_are_read(dtype, timm_vit):
    imported = read({name: x.astype(dtype) for name, x in timm_vit.items()})
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(imported.variables))
    assert any(f"converted from {np.dtype(dtype).name}" in note for note in imported.notes)
    np.testing.assert_array_equal(imported.variables["params"]["cls"], timm_vit["cls_token"].astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_, np.complex64])
def test_whole_numbers_are_no_weights(dtype, timm_vit):
    name = "blocks.1.mlp.fc1.weight"
    with pytest.raises(UserError, match=rf"1 of {len(timm_vit)} arrays are not of floats, such as {name} of "):
        read(timm_vit | {name: timm_vit[name].astype(dtype)})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_named(value, timm_vit):
    broken = timm_vit["norm.bias"].astype(np.float64)
    broken[3] = value
    with pytest.raises(UserError, match=r"norm.bias holds 1 numbers of 32 that are NaN, infinite or beyond float32"):
        read(timm_vit | {"norm.bias": broken})
    read(timm_vit | {"unused": broken}, ignore=("unused",))  # what is not used may be anything


def test_axes_of_length_one_do_not_matter(timm_vit):
    wrapped = timm_vit | {"blocks.0.mlp.fc1.weight": timm_vit["blocks.0.mlp.fc1.weight"][:, :, None, None]}
    wrapped["norm.weight"] = timm_vit["norm.weight"][:, None, None]
    jax.tree.map(np.testing.assert_array_equal, read(wrapped).variables, read(timm_vit).variables)
    swapped = timm_vit | {"blocks.0.mlp.fc1.weight": timm_vit["blocks.0.mlp.fc1.weight"].T}
    with pytest.raises(UserError, match=r"misshapen  blocks.0.mlp.fc1.weight \[32, 128\], the model's is \[128, 32\]"):
        read(swapped)


def test_biases_that_were_left_out_are_zero_if_all_are(timm_vit):
    without = {name: x for name, x in timm_vit.items() if not name.endswith("attn.qkv.bias")}
    imported = read(without)
    assert imported.notes == ("not in the file, so zero: blocks.0.attn.qkv.bias, blocks.1.attn.qkv.bias",)
    assert not np.any(imported.variables["params"]["encoder"]["block_01"]["attention"]["query"]["bias"])
    with pytest.raises(UserError, match=r"missing    blocks.0.attn.qkv.bias \[96\]"):
        read(without | {"blocks.1.attn.qkv.bias": timm_vit["blocks.1.attn.qkv.bias"]})


def test_options_follow_from_shapes_and_from_what_is_absent():
    tokens, patch = {"cls_token": np.zeros((1, 1, 8))}, {"patch_embed.proj.weight": np.zeros((8, 3, 4, 4))}
    arrays = {**tokens, **patch, "reg_token": np.zeros((1, 3, 8)), "pos_embed": np.zeros((1, 16, 8))}
    options = mapping.options(arrays | {"fc_norm.weight": np.zeros(8)}, "timm", "vit")
    assert options == {
        **{"posemb": "learned", "gelu": "exact", "pool": "gap", "fc_norm": True, "class_token": True},
        **{"patch_bias": False, "registers": 3, "cls_position": False},
    } | {key: options[key] for key in options if key == "norm_epsilon"}
    placed = tokens | {"patch_embed.proj.bias": np.zeros(8), "pos_embed": np.zeros((1, 17, 8))}
    assert not {"cls_position", "registers", "patch_bias"} & mapping.options(placed, "timm", "vit").keys()
    assert mapping.options({"stem.0.weight": np.zeros(3)}, "timm", "convnext")["layer_scale"] is None


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            "torchvision",
            {"registers": 2},
            "'torchvision' has no names for registers of this model .*: jaxvision, timm, open_clip, dinov2$",
        ),
        ("timm", {"parallel": "mlp"}, r"no names for attention and MLP side by side \(parallel='mlp'\)"),
        ("openai_clip", {"qk_norm": True}, r"'openai_clip' has no names for norms of queries and keys \(qk_norm\)"),
        ("big_vision", {"distilled": True}, "no names for a distillation token"),
        ("keras", {}, "unknown model for weights of 'keras' 'vit'. .*: jaxvision, timm, torchvision, open_clip, "),
    ],
)
def test_what_a_library_has_no_names_for_is_not_written(target, options, message):
    with pytest.raises(UserError, match=message):
        weights.export_weights(drawn(shapes(**options)), target, "vit")


def test_a_pair_of_towers_that_a_library_cannot_name():
    text = {"name": "text_transformer", "variant": "mu", "vocab_size": 9, "length": 4}
    model = models.build("two_towers", None, image={"name": "resnet", "variant": 8}, text=text, embedding=8)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 4), jnp.int32))
    for call in (
        lambda: weights.import_weights({"x": np.zeros(2)}, "open_clip", "two_towers", variables),
        lambda: weights.export_weights(drawn(variables), "open_clip", "two_towers"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert "'open_clip' has no names for this 'two_towers', only for a ViT or ConvNeXt of timm" in str(error.value)
        assert str(error.value).endswith("Libraries with names for it: jaxvision, big_vision")
