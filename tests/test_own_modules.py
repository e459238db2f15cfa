"""A user's own parts by name: where their modules are looked for, what is refused, what is told before an import."""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment, components, evals, losses, models, own_modules, registry, scripts, tasks
from jaxvision.data import host_ops, loader, sources, text
from jaxvision.errors import UserError
from jaxvision.optim import optimizers

TINY = """
import flax.linen as nn


class Tiny(nn.Module):
    num_classes: int | None
    width: int

    @nn.compact
    def __call__(self, images, train=False):
        features = nn.Dense(self.width)(images.mean((1, 2)))
        out = {} if self.num_classes is None else {"logits": nn.Dense(self.num_classes, name="head")(features)}
        return features, out


def tiny(*, num_classes, dtype, width: int = 8):
    return Tiny(num_classes, width)


def without_classes(*, dtype, **options):
    return Tiny(None, 8)


def not_a_module(*, num_classes, dtype):
    return "a text"


def fails(*, num_classes, dtype):
    return 1 / 0


def crossing(logits, labels):
    return ((logits.argmax(-1) == labels) * 1.0)
"""


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_module_in_folders_without_init_files_is_found(own_folder):
    write(own_folder, "outer_folder/inner_folder/some_models.py", TINY)
    assert own_modules.find("outer_folder.inner_folder.some_models") == str(
        own_folder / "outer_folder" / "inner_folder" / "some_models.py"
    )


def test_a_model_beside_the_working_directory_is_built_and_its_options_are_checked(own_folder):
    write(own_folder, "my_models.py", TINY)
    module = models.build("my_models:tiny", 5, width=4)
    assert isinstance(module, nn.Module)
    assert (module.num_classes, module.width) == (5, 4)
    with pytest.raises(UserError, match="unknown option of model 'my_models:tiny' 'widht'; did you mean 'width'"):
        models.build("my_models:tiny", 5, widht=4)
    with pytest.raises(UserError, match="model 'my_models:tiny': width must be a whole number, not 'wide'"):
        models.build("my_models:tiny", 5, width="wide")


def test_a_module_in_a_package_and_beside_a_config(own_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    write(folder, "my_package/__init__.py", "raise RuntimeError('the parent is imported too early')\n")
    write(folder, "my_package/deep.py", TINY)
    config = write(folder, "a_config.py", "def get_config():\n    return dict()\n")
    assert own_modules.find("my_package.deep") is None
    scripts.load(str(config), "get_config", "config")
    assert own_modules.find("my_package.deep") == str(folder / "my_package" / "deep.py")  # and nothing was executed
    write(folder, "my_package/__init__.py", "")
    assert models.build("my_package.deep:tiny", 2).num_classes == 2


def test_what_is_installed_comes_before_the_working_directory(own_folder):
    write(own_folder, "optax.py", "raise SystemExit('the user has shadowed a library')\n")
    assert own_modules.find("optax") != str(own_folder / "optax.py")
    assert Path(own_modules.find("optax")).parent.name == "optax"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_models:tinny", "my_models.py defines no 'tinny'; did you mean 'tiny'?"),
        ("my_models:without_classes", "has no parameter num_classes, which the program gives to each model"),
        ("my_models:not_a_module", "returned a str, not a flax.linen.Module"),
        ("my_models:fails", r"my_models.py:\d+: ZeroDivisionError: division by zero"),
        ("broken:tiny", r"cannot be imported: .*broken.py:2: NameError: name 'nothing' is not defined"),
        ("needs:tiny", "install 'a_library_that_is_not_here', which it imports"),
        ("nowhere.inside:tiny", "there is no module 'nowhere' where Python looks, nor in the working directory"),
        ("my_models.inside:tiny", "'my_models' is .*my_models.py, and has no module 'my_models.inside'"),
        ("os:system", "in the module 'os' of Python itself"),
        ("subprocess:run", "of Python itself"),
        ("jaxvision.storage:write", "is inside jaxvision: give the short name of the built-in part"),
        ("my_models.py:tiny", "must name the module as Python imports it, without .py: 'my_models:tiny'"),
        ("folder/my_models.py:tiny", "as in 'folder.my_models:tiny'"),
        ("my_models.tiny", "as in 'my_models:tiny'"),
        ("tinny", "Choices: .*; or one of your own, 'package.module:function'"),
    ],
)
def test_what_cannot_be_had_is_one_error(own_folder, name, message):
    write(own_folder, "my_models.py", TINY)
    write(own_folder, "broken.py", "import flax\nnothing\n")
    write(own_folder, "needs.py", "import a_library_that_is_not_here\n")
    with pytest.raises(UserError, match=message):
        models.build(name, 5)


def test_functions_that_were_not_written_as_parts_are_never_called(own_folder):
    """A config that somebody else wrote may name any function that is installed here."""
    write(
        own_folder,
        "tools.py",
        "def anything(*args, **kwargs):\n    raise SystemExit('it was called')\n\nread_pickle = anything\n",
    )
    for resolve in (models.build, tasks.get_task, evals.get_evaluator, losses.get_loss):
        with pytest.raises(UserError, match="has no parameter"):
            resolve("tools:anything", *([5] if resolve is models.build else []))
    with pytest.raises(UserError, match="has no parameters data_dir, split, fields"):
        sources.open_source("tools:read_pickle", "train", data_dir=str(own_folder))
    with pytest.raises(UserError, match="has no parameter parts"):
        optimizers.OPTIMIZERS.resolve("tools:anything")


def test_a_loss_that_takes_no_smoothing(own_folder):
    write(own_folder, "my_models.py", TINY)
    assert losses.smoothed("my_models:crossing", 0.0) is losses.get_loss("my_models:crossing")
    with pytest.raises(UserError, match="has no parameter smoothing"):
        losses.smoothed("my_models:crossing", 0.1)


def test_code_that_came_with_a_folder_is_not_run(own_folder, capsys):
    workdir = own_folder / "downloaded"
    write(workdir, "evil.py", "raise SystemExit('it was executed')\n")
    write(own_folder, "my_models.py", TINY)
    scripts.close(workdir)
    with pytest.raises(UserError, match="is in the folder that the command reads. Code in such a folder is not run"):
        models.build("downloaded.evil:tiny", 5)
    (own_folder / "link").symlink_to(workdir)
    with pytest.raises(UserError, match="Code in such a folder is not run"):
        models.build("link.evil:tiny", 5)
    models.build("my_models:tiny", 5)
    message = capsys.readouterr().err
    assert message == f"own code: the config names my_models:tiny, in {own_folder / 'my_models.py'}\n"


def test_a_working_directory_that_is_closed_is_not_searched(own_folder, monkeypatch):
    workdir = own_folder / "downloaded"
    write(workdir, "evil.py", "raise SystemExit('it was executed')\n")
    config = write(workdir, "config.py", "def get_config():\n    return dict()\n")
    monkeypatch.chdir(workdir)
    scripts.load(str(config), "get_config", "config")
    assert str(workdir) in sys.path
    scripts.close(workdir)
    assert str(workdir) not in sys.path
    with pytest.raises(UserError, match="no module 'evil' where Python looks"):
        models.build("evil:tiny", 5)


def test_what_a_config_asks_for_is_told_without_importing_it(own_folder):
    file = write(own_folder, "my_ops.py", "raise SystemExit('it was executed')\n")
    config = {
        "model": {"name": "gone.away:net"},
        "evals": {"val": {"name": "my_ops:judge", "host": "decode|my_ops:blur(3)|views(2, 'my_ops:fog')"}},
        "init": {"model": "resnet:R50"},
        "data": {"name": "cifar10:3.0.2", "data_dir": "gs://bucket"},
    }
    assert own_modules.own_parts(config) == {
        "gone.away": ["gone.away:net"],
        "my_ops": ["my_ops:judge", "my_ops:blur", "my_ops:fog"],
    }
    assert own_modules.announcements(config, {"gone.away": "/home/a/project/gone/away.py"}) == [
        "own code: the config names gone.away:net, but the module gone.away cannot be found",
        f"own code: the config names my_ops:judge, my_ops:blur, my_ops:fog, in {file}",
    ]
    with pytest.raises(
        UserError, match="was trained with /home/a/project/gone/away.py. Run the command in /home/a/pro"
    ):
        models.build("gone.away:net", 5)
    assert own_modules.files(config) == {"my_ops": str(file)}


def test_a_built_in_part_needs_no_list(own_folder, monkeypatch):
    """A file where the walker looks is all that a model is."""
    write(
        own_folder,
        "models/brand_new.py",
        "from jaxvision.registry import part\n"
        + TINY.replace("def tiny", '@part("model", small={"width": 2})\ndef tiny'),
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(own_folder / "models")])
    monkeypatch.setattr(models.NAMES, "_factories", None)
    try:
        assert {"tiny", "vit"} <= set(models.NAMES)
        assert models.build("tiny", 5, **models.NAMES.small("tiny")).width == 2
    finally:
        sys.modules.pop("jaxvision.models.brand_new", None)


def test_two_files_of_one_name_are_an_error(own_folder, monkeypatch):
    for file in ("one", "two"):
        write(
            own_folder,
            f"kinds/{file}.py",
            'from jaxvision.registry import part\n@part("thing", "same")\ndef make(): ...\n',
        )
    write(own_folder, "kinds/__init__.py", "")
    monkeypatch.syspath_prepend(own_folder)
    with pytest.raises(ValueError, match="kinds.two and kinds.one both hold the thing same"):
        list(registry.PartRegistry("thing", ["kinds"]))


OPS = """
from jaxvision.data.host_ops import host_ops


@host_ops.register(evaluation="")
def darker(by: int = 2):
    def apply(example, rng):
        return {**example, "image": example["image"] // by}

    return apply


def forgotten():
    return lambda example, rng: example
"""


def test_a_host_operation_of_ones_own(own_folder):
    write(own_folder, "my_ops.py", OPS)
    image = np.full((4, 4, 3), 200, np.uint8)
    made = host_ops.make_chain("my_ops:darker(by=4)|resize(2)")
    assert made({"image": image}, None)["image"].tolist() == np.full((2, 2, 3), 50).tolist()
    assert host_ops.host_ops.evaluation("my_ops:darker(4)|resize(2)") == "resize(2)"
    assert host_ops.host_ops.is_random("my_ops:darker")
    assert "darker" not in host_ops.host_ops.factories
    with pytest.raises(UserError, match=r"'my_ops:darker\(4.5\)': by must be a whole number, not 4.5"):
        host_ops.make_chain("my_ops:darker(4.5)")
    with pytest.raises(UserError, match=r"is named 'buy'; did you mean 'by'\? Usage: my_ops:darker\(by=2\)"):
        host_ops.make_chain("my_ops:darker(buy=4)")


def test_an_operation_must_be_registered(own_folder):
    """A spec gives its arguments to what it names, so that it must not name whatever is installed."""
    write(own_folder, "my_ops.py", OPS)
    with pytest.raises(UserError, match="decorate it with @host_ops.register.., from jaxvision.data.host_ops.host_ops"):
        host_ops.make_chain("my_ops:forgotten")
    with pytest.raises(UserError, match="decorate it with @ops.register.., from jaxvision.augment.ops"):
        augment.make_augmentation("my_ops:forgotten")
    for spec in ("shutil:rmtree('/')", "os:system('true')"):
        with pytest.raises(UserError, match="of Python itself"):
            host_ops.make_chain(spec)


MORE = """
import jax
import optax

from jaxvision.augment import ops, photometric
from jaxvision.data.text import Tokenizer


def quarter(parts, *, share: float = 0.25):
    return [optax.scale(share), parts.decay, parts.rate]


@ops.register(evaluation="invert")
def glow(by: float = 2.0):
    return photometric(lambda rng, image: image * by)


class Letters(Tokenizer):
    vocabulary = 100

    def pieces(self, text):
        return [ord(letter) - ord("a") + 3 for letter in text]
"""


def test_an_optimizer_an_augmentation_and_a_tokenizer_of_ones_own(own_folder):
    write(own_folder, "more_parts.py", MORE)
    params = {"kernel": jnp.ones(2)}
    made = lambda **options: optimizers.make_optimizer(
        name="more_parts:quarter", learning_rate=1.0, params=params, total=1, steps=int, **options
    )
    tx = made(share=0.5).tx
    assert tx.update(params, tx.init(params), params)[0]["kernel"].tolist() == [-0.5, -0.5]
    with pytest.raises(UserError, match="unknown option of optimizer 'more_parts:quarter' 'shares'; did you mean"):
        made(shares=0.5)

    batch = {"image": jnp.full((1, 2, 2, 3), 0.25), "label": jnp.zeros(1, jnp.int32)}
    assert augment.make_augmentation("more_parts:glow(4.0)")(jax.random.key(0), batch)["image"].max() == 1
    nested = augment.make_augmentation("views(2, 'more_parts:glow|flip_lr')")(jax.random.key(0), batch)["image"]
    assert (nested.shape, float(nested.max())) == ((1, 2, 2, 2, 3), 0.5)
    assert augment.evaluation("more_parts:glow|flip_lr") == "invert"

    assert text.make_tokenizer("more_parts:Letters", length=5)("abc").tolist() == [[3, 4, 5, 0, 0]]
    tokens = host_ops.make_chain("tokenize('more_parts:Letters', length=4)")({"text": "ab"}, None)["tokens"]
    assert tokens.tolist() == [3, 4, 0, 0]


@pytest.mark.slow
def test_worker_processes_find_a_data_set_of_ones_own(own_folder):
    write(own_folder, "my_data.py", SOURCE)
    write(own_folder, "my_ops.py", OPS)
    source = sources.open_source("my_data:Grey", "train")
    spec = "my_ops:darker(2)"
    batches = [list(loader.eval_batches(source, spec, batch_size=4, processes=n, threads=0)) for n in (0, 2)]
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        assert one["image"].max() == 100


SOURCE = """
import numpy as np

from jaxvision.data import Info, Source


class Grey(Source):
    def __init__(self, data_dir, split, fields):
        self.info = Info("grey", split, 8, ("one",), 1)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"image": np.full((2, 2, 3), 200, np.uint8), "label": 0}
"""


TEXT = """
import flax.linen as nn

from jaxvision.registry import part


class Words(nn.Module):
    @nn.compact
    def __call__(self, tokens, train=False):
        return nn.Embed(300, 8)(tokens).mean(1), {}


def words(*, dtype):
    return Words()


@part("pair model")
def pair(*, dtype):
    return Words()
"""


def test_a_text_tower_and_a_pair_of_ones_own(own_folder):
    write(own_folder, "my_text.py", TEXT)
    section = models.PAIR_NAMES.small("two_towers") | {"text": {"name": "my_text:words"}}
    module = models.build("two_towers", None, **section)
    inputs = jnp.zeros((2, 16, 16, 3)), jnp.zeros((2, 5), jnp.int32)
    out, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), *inputs)
    assert out["text_projection"].shape == (2, 16)
    components.check_tokenizer(section, text.make_tokenizer("bytes", 5))
    assert models.is_pair("my_text:pair")
    with pytest.raises(UserError, match="the model 'my_text:pair' has no classes"):
        models.build("my_text:pair", 5)
