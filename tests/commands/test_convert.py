"""`jaxvision convert`: folders of weights from foreign files, and foreign files from our weights."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import cli, models
from jaxvision.commands import convert
from jaxvision.commands.restore import open_weights
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import folder, preprocessing

TOKEN = {"pool": "token", "posemb": "learned"}
CLIP = TOKEN | {"pre_norm": True, "patch_bias": False}
OPTIONS = ("depth=2", "width=16")


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
    """A ViT of two blocks for images of 16 pixels, named as in timm, with random weights."""
    model = models.build("vit", 3, variant="mu/4", depth=2, width=16, **TOKEN)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    path = tmp_path_factory.mktemp("timm") / "in.safetensors"
    weights.write(path, weights.export_weights(variables, "timm", "vit"))
    return path


def test_a_timm_file_becomes_a_folder_and_goes_back(timm_file, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--from=timm", "--model=vit:mu/4", *(f"--option={o}" for o in OPTIONS), str(timm_file), str(out)]
    cli.main(["jaxvision", "convert", *words])
    assert "decode|resize_short(17, method='bicubic')|central_crop(16) | normalize(0.5, 0.5)" in capsys.readouterr().out
    meta = json.loads((out / "meta.json").read_text())
    untold = {"gelu": "exact", "norm_epsilon": 1e-6}
    assert meta["model"] == {"name": "vit", "variant": "mu/4", "depth": 2, "width": 16, **TOKEN, **untold}
    assert (meta["num_classes"], meta["source"]) == (3, "timm")
    assert meta["preprocessing"]["size"] == 16  # from the number of positions
    assert meta["input"] == {"file": "in.safetensors", "sha256": hashlib.sha256(timm_file.read_bytes()).hexdigest()}
    cli.main(["jaxvision", "convert", "--to=timm", str(out), str(tmp_path / "back.safetensors")])
    there, back = weights.read(timm_file), weights.read(tmp_path / "back.safetensors")
    assert there.keys() == back.keys()
    assert all(np.array_equal(there[name], back[name]) for name in there)


def test_the_folder_is_enough_to_build_and_fill_the_model(timm_file, tmp_path):
    convert.run_convert(timm_file, tmp_path / "out", source="timm", model="vit:mu/4", options=OPTIONS)
    arrays, meta = folder.load(tmp_path / "out")
    model = models.build(num_classes=meta["num_classes"], **meta["model"])
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    filled = weights.import_weights(arrays, "jaxvision", "vit", shapes).variables
    np.testing.assert_array_equal(filled["params"]["head"]["kernel"].T, weights.read(timm_file)["head.weight"])


def test_flags_decide_over_presets(timm_file, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    images = {"size": 24, "crop": 1.0, "interpolation": "bilinear", "normalize": "imagenet"}
    names = tmp_path / "names.txt"
    meta = convert.run_convert(
        timm_file, tmp_path / "out", source="timm", model="vit:mu/4", options=OPTIONS, classes=names, **images
    )
    assert meta["preprocessing"]["host"] == "decode|resize_short(24)|central_crop(24)"
    assert meta["preprocessing"]["augment"] == "normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    assert meta["notes"] == ["positions: 4x4 resized to 6x6, bicubic"]
    assert meta["classes"] == ["cat", "dog", "bird"]


@pytest.mark.parametrize(
    ("source", "host"),
    [
        ("openai_clip", "decode|resize_short(16, method='bicubic')|central_crop(16)"),
        ("big_vision", "decode|resize(16)"),
    ],
)
def test_both_towers_with_their_preprocessing(source, host, tmp_path):
    """From the file to a folder, and from that to embeddings."""
    image = dict(name="vit", variant="mu/4", depth=1, width=16, posemb="learned", pool="token", num_heads=2)
    text = dict(name="text_transformer", variant="mu", depth=1, width=16, vocab_size=9, length=5, num_heads=2)
    # What leaves no array is the source's own.
    usual = {"openai_clip": dict(gelu="quick", norm_epsilon=1e-5), "big_vision": dict(gelu="tanh", norm_epsilon=1e-6)}
    image, text = image | usual[source], text | usual[source]
    text |= dict(causal=False, pool="last") if source == "big_vision" else {}
    if source == "openai_clip":  # whose heads have 64 channels
        image, text = image | CLIP | dict(width=64, num_heads=1), text | dict(width=64, num_heads=1)
    built = dict(image=image, text=text, embedding=8, bias=None if source == "openai_clip" else -10.0)
    built["text_projection"] = "linear" if source == "openai_clip" else "affine"
    built |= {} if source == "openai_clip" else dict(embedding=16, image_projection="none")
    model = models.build("two_towers", None, **built)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 5), int))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    arrays = weights.export_weights(variables, source, "two_towers")
    weights.write(tmp_path / "in.safetensors", arrays)
    options = [f"{key}={value!r}" for key, value in built.items()]
    path = tmp_path / "out"
    meta = convert.run_convert(tmp_path / "in.safetensors", path, source=source, model="two_towers", options=options)
    assert meta["preprocessing"]["host"] == host
    assert meta["notes"] == []
    judged, state, _ = open_weights(path)
    batch = {"image": jnp.ones((2, 16, 16, 3)), "tokens": jnp.ones((2, 5), int)}
    out = jax.jit(judged.task.outputs)(state.variables, batch)
    direct = jax.jit(model.apply)(variables, batch["image"], batch["tokens"])
    for name in ("image", "text"):
        x = direct[f"{name}_projection"]
        x /= jnp.linalg.norm(x, axis=-1, keepdims=True)
        np.testing.assert_allclose(out[f"{name}_embedding"], x, rtol=1e-4, atol=1e-5)


def test_an_option_of_a_tower_leaves_the_others_as_the_source_has_them(tmp_path):
    """open_clip's GELU is exact unless a model says otherwise, OpenAI's and that of the variants is not."""
    small = dict(depth=1, width=16, num_heads=2)
    text = dict(vocab_size=9, length=5) | small
    model = models.build("two_towers", None, variant="clip_vit_b32", image=small, text=text)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 5), int))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    weights.write(tmp_path / "in.safetensors", weights.export_weights(variables, "open_clip", "two_towers"))
    options = [f"image={small}", f"text={text}"]
    arguments = dict(source="open_clip", model="two_towers:clip_vit_b32", options=options)
    meta = convert.run_convert(tmp_path / "in.safetensors", tmp_path / "out", **arguments)
    assert meta["model"]["image"] == {**small, "gelu": "exact", "norm_epsilon": 1e-5, **CLIP}
    of_text = {"causal": True, "pool": "end", "end_token": None}
    assert meta["model"]["text"] == {**text, "gelu": "exact", "norm_epsilon": 1e-5, **of_text}


def test_a_head_can_be_dropped(timm_file, tmp_path):
    meta = convert.run_convert(
        timm_file, tmp_path / "out", source="timm", model="vit:mu/4", options=OPTIONS, head="drop"
    )
    assert meta["num_classes"] is None
    assert not [name for name in folder.load(tmp_path / "out")[0] if "head" in name]


def test_a_run_becomes_a_folder_with_its_preprocessing(trained, tmp_path):
    meta = convert.run_convert(trained[0], tmp_path / "out")
    arrays, saved = folder.load(tmp_path / "out")
    assert saved["model"] == meta["model"] == {"name": "resnet", "variant": "8", "width": 0.25}
    assert saved["preprocessing"] == {"host": "decode", "augment": "normalize(0.5, 0.5)"}
    assert len(saved["classes"]) == saved["num_classes"]
    assert "batch_stats/stem_norm/mean" in arrays


@pytest.mark.parametrize(
    ("prefix", "flags", "note"),
    [
        ("module._orig_mod.", [], "names: 'module._orig_mod.' removed from all "),
        ("model_ema.", ["--prefix=model_ema"], "names: 'model_ema.' removed from "),
    ],
)
def test_what_stands_before_the_names_is_taken_off_and_printed(prefix, flags, note, timm_file, tmp_path, capsys):
    arrays = {prefix + name: x for name, x in weights.read(timm_file).items()}
    if flags:
        arrays["model.head.weight"] = np.zeros((2, 2), np.float32)
    weights.write(tmp_path / "wrapped.th", arrays)
    words = ["--from=timm", "--model=vit:mu/4", *(f"--option={o}" for o in OPTIONS), *flags]
    cli.main(["jaxvision", "convert", *words, str(tmp_path / "wrapped.th"), str(tmp_path / "out")])
    assert note in capsys.readouterr().out
    plain = convert.run_convert(timm_file, tmp_path / "plain", source="timm", model="vit:mu/4", options=OPTIONS)
    converted, meta = folder.load(tmp_path / "out")
    assert (meta["model"], meta["preprocessing"]["host"]) == (plain["model"], plain["preprocessing"]["host"])
    for name, array in folder.load(tmp_path / "plain")[0].items():
        np.testing.assert_array_equal(converted[name], array)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["IN"], "IN and OUT are missing"),
        (["IN", "OUT", "MORE"], "unexpected word 'MORE'"),
        (["--from=timm", "IN", "OUT"], "--model is missing: add --model=NAME:VARIANT"),
        (["--from=timm", "--model=vitt", "IN", "OUT"], "unknown model 'vitt'; did you mean 'vit'"),
        (["--from=timm", "--model=vit:mu/4", "--option=depth", "IN", "OUT"], "--option must be KEY=VALUE, not 'depth'"),
        (["--from=timm", "--model=vit:mu/4", "IN", "OUT"], "not fit the model 'vit': 0 missing"),
        (["--from=timm", "--model=vit:mu/4", "--head=new", "IN", "OUT"], "unknown value of --head 'new'"),
        (["--to=tim", "IN", "OUT"], "unknown target of --to 'tim'; did you mean 'timm'"),
        (["--model=vit", "IN", "OUT"], "give --from=LIBRARY, or only --to"),
        (["--prefix=x", "IN", "OUT"], "give --from=LIBRARY, or only --to"),
        (
            ["--from=timm", "--model=vit:mu/4", "--prefix=modul", "IN", "OUT"],
            "no array of the file has the prefix 'modul'",
        ),
        (["--from=timm", "--model=vit:mu/4", "--std=1,x,1", "IN", "OUT"], "--std must be numbers"),
        (["--from=timm", "--model=vit:mu/4", "absent.npz", "OUT"], "no file of weights 'absent.npz'"),
    ],
)
def test_wrong_words_are_one_line_and_nothing_is_written(words, message, timm_file, tmp_path, capsys):
    places = {"IN": str(timm_file), "OUT": str(tmp_path / "out")}
    with pytest.raises(SystemExit) as stop:
        cli.main(["jaxvision", "convert", *(places.get(word, word) for word in words)])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(timm_file, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        convert.run_convert(timm_file, tmp_path / "out", source="timm", model="vit:mu/4", options=OPTIONS)


def cifar_file(path, source, **options):
    """A CIFAR ResNet of 8 layers with random weights, named as by `source`."""
    model = models.build("resnet", 10, variant=8, width=0.25, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.uniform(0.5, 1, x.shape).astype(x.dtype), shapes)
    weights.write(path, weights.export_weights(variables, source, "resnet"))


def test_a_resnet_of_cifar_is_not_prepared_as_one_of_imagenet(tmp_path, capsys):
    cifar_file(tmp_path / "in.safetensors", "timm")
    words = ["convert", "--from=timm", "--model=resnet:8", "--option=width=0.25", "IN", "OUT"]
    places = {"IN": str(tmp_path / "in.safetensors"), "OUT": str(tmp_path / "out")}

    def run(*more):
        return cli.main(["jaxvision", *(places.get(word, word) for word in words), *more])

    for more, message in (([], "--option=shortcut=..., 'A'"), (["--option=shortcut=A"], "Set --mean and --std")):
        with pytest.raises(SystemExit) as stop:
            run(*more)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    run("--option=shortcut=A", "--mean=0.49,0.48,0.45", "--std=0.2,0.2,0.2", "--interpolation=bilinear")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["preprocessing"]["host"] == "decode|resize_short(32)|central_crop(32)"
    assert meta["preprocessing"]["augment"] == "normalize((0.49, 0.48, 0.45), 0.2)"
    assert meta["properties"]["shortcut"] == "A"
    assert meta["told_by"]["shortcut"] == "--option"
    assert meta["told_by"]["images.mean"] == "--mean"


def test_a_file_that_does_not_fit_is_told_so_before_anything_else_is_asked(tmp_path):
    cifar_file(tmp_path / "in.safetensors", "timm")
    arrays = weights.read(tmp_path / "in.safetensors")
    weights.write(tmp_path / "part.safetensors", {k: x for k, x in arrays.items() if not k.startswith("layer3")})
    arguments = dict(source="timm", model="resnet:8", options=["width=0.25"])
    with pytest.raises(UserError, match="do not fit the model 'resnet'") as error:
        convert.run_convert(tmp_path / "part.safetensors", tmp_path / "out", **arguments)
    assert "--option=shortcut" not in str(error.value)
    assert "--mean" not in str(error.value)


@pytest.mark.parametrize(("side", "size", "host"), [(30, 30, "|corner_crop(28)"), (28, 28, ""), (99, 28, "")])
def test_a_side_that_patches_do_not_fill_is_kept_and_told(side, size, host, tmp_path):
    """As in timm's `vit_so400m_patch14_siglip_384`; a side that means other positions gives way to the positions."""
    model = models.build("vit", 3, variant="mu/14", depth=2, width=16, **TOKEN)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    weights.write(tmp_path / "in.safetensors", weights.export_weights(variables, "timm", "vit"))
    config = {"architecture": "vit_x", "pretrained_cfg": {"input_size": [3, side, side], "crop_pct": 1.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    meta = convert.run_convert(
        tmp_path / "in.safetensors", tmp_path / "out", source="timm", model="vit:mu/14", options=OPTIONS
    )
    assert meta["preprocessing"]["size"] == size
    assert meta["preprocessing"]["host"].endswith(f"central_crop({size}){host}")
    assert any("patches of 14 pixels cover the first 28 of" in note for note in meta["notes"]) == bool(host)
    assert not any("resized" in note for note in meta["notes"])


@pytest.mark.parametrize(("words", "size"), [(32_000, 384), (256_000, 378)])
def test_siglip_at_384_pixels_is_told_by_its_words(words, size):
    image = dict(variant="So400m/14", posemb="learned", pool="map", depth=1)
    text = dict(variant="So400m", vocab_size=words, length=64)
    model = models.build("two_towers", None, variant="siglip_vit_b16", image=image, text=text, embedding=1152)
    arrays = {"visual.trunk.pos_embed": np.broadcast_to(np.float32(0), (1, 729, 1152))}
    assert convert._native_size(arrays, "open_clip", "two_towers", model, None)["size"].value == size
    stated_size = preprocessing.stated(arrays, "open_clip", "two_towers", "ViT-SO400M-14-SigLIP-384/webli")["size"]
    assert convert._native_size(arrays, "open_clip", "two_towers", model, stated_size)["size"].value == 384


def test_the_layout_of_the_published_resnets_says_where_the_zero_channels_lie(tmp_path, capsys):
    cifar_file(tmp_path / "in.safetensors", "pytorch_resnet_cifar10", shortcut="zeros_centred")
    arguments = dict(source="pytorch_resnet_cifar10", model="resnet:8", options=["width=0.25"])
    meta = convert.run_convert(tmp_path / "in.safetensors", tmp_path / "out", **arguments)
    assert meta["model"]["shortcut"] == "zeros_centred"
    assert meta["preprocessing"]["augment"] == "normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    assert "shortcut              zeros_centred" in capsys.readouterr().out
    convert.run_convert(tmp_path / "out", tmp_path / "back.safetensors", target="pytorch_resnet_cifar10")
    there, back = (weights.read(tmp_path / f"{name}.safetensors") for name in ("in", "back"))
    assert all(np.array_equal(there[name], back[name]) for name in there)
    with pytest.raises(UserError, match=r"something else .*\s+shortcut: 'zeros_centred' here"):
        convert.run_convert(tmp_path / "out", tmp_path / "other.safetensors", target="timm")


def test_writing_says_what_the_other_library_must_be_told(timm_file, tmp_path):
    run = lambda out, **options: convert.run_convert(
        timm_file, tmp_path / out, source="timm", model="vit:mu/4", **options
    )
    run("exact", options=OPTIONS)
    run("tanh", options=(*OPTIONS, "gelu=tanh"))
    notes = convert.run_convert(tmp_path / "exact", tmp_path / "a.safetensors", target="timm")["notes"]
    assert not any("NOTE" in note for note in notes)
    notes = convert.run_convert(tmp_path / "tanh", tmp_path / "b.safetensors", target="timm")["notes"]
    assert any("build the network of timm with gelu='tanh'; its default is 'exact'" in note for note in notes)
    with pytest.raises(UserError, match="vit_tiny_patch16_224 would compute .*\\n  gelu: 'tanh' here, 'exact' there"):
        convert.run_convert(
            tmp_path / "tanh", tmp_path / "c.safetensors", target="timm", architecture="vit_tiny_patch16_224"
        )
    with pytest.raises(
        UserError, match="vit_base_patch16_clip_224 would compute something else .*\n  norm_epsilon: 1e-06"
    ):
        convert.run_convert(
            tmp_path / "exact", tmp_path / "c.safetensors", target="timm", architecture="vit_base_patch16_clip_224"
        )


@pytest.mark.parametrize(("grid", "size"), [(7, 224), (9, 288), (12, 384), (14, 448)])
def test_clips_resnets_keep_the_size_that_their_positions_are_for(grid, size, tmp_path):
    """RN50, RN50x4, RN50x16 and RN50x64."""
    options = dict(blocks=(1, 1, 1, 1), channels=8, features=16)
    model = models.build("clip_resnet", None, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    assert shapes["params"]["pool"]["pos_embedding"].shape[1] == 1 + grid**2
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    weights.write(tmp_path / "in.safetensors", weights.export_weights(variables, "openai_clip", "clip_resnet"))
    arguments = dict(source="openai_clip", model="clip_resnet", options=[f"{k}={v!r}" for k, v in options.items()])
    meta = convert.run_convert(tmp_path / "in.safetensors", tmp_path / "out", **arguments)
    assert meta["preprocessing"]["size"] == size
    assert not any("resized" in note for note in meta["notes"])


@pytest.mark.parametrize(
    ("architecture", "gelu", "reason"),
    [
        (None, "exact", "assumed: usual of timm, and the file cannot tell"),
        ("vit_base_patch16_clip_224.openai_ft_in1k", "exact", "assumed: usual of timm, and vit_base_"),
        ("vit_base_patch16_clip_quickgelu_224.openai", "quick", "architecture vit_base_patch16_clip_quickgelu_224"),
    ],
)
@pytest.mark.parametrize("source_of_gelu", ["flag", "config"])
def test_what_timms_clip_computes_is_told_by_its_architecture(source_of_gelu, architecture, gelu, reason, tmp_path):
    model = models.build("vit", 3, variant="mu/4", depth=2, width=16, **CLIP)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    weights.write(tmp_path / "in.safetensors", weights.export_weights(variables, "timm", "vit"))
    name, _, tag = (architecture or "").partition(".")
    if source_of_gelu == "config" and name:
        (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": {"tag": tag}}))
    arguments = dict(source="timm", model="vit:mu/4", options=OPTIONS)
    arguments |= dict(architecture=architecture) if source_of_gelu == "flag" else {}
    meta = convert.run_convert(tmp_path / "in.safetensors", tmp_path / "out", **arguments)
    assert meta["properties"]["norm_epsilon"] == meta["model"]["norm_epsilon"] == 1e-5  # by the norm before the blocks
    assert meta["properties"]["gelu"] == meta["model"]["gelu"] == gelu
    assert meta["told_by"]["gelu"].startswith(reason)
    assert meta["preprocessing"]["mean"] == preprocessing.CLIP["mean"]
