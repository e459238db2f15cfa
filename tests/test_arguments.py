"""Whatever stands in a config or a spec ends in the project's own words, or works: no factory raises Python's."""

import inspect
import io
import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxvision import arguments, augment, durations, models, tasks
from jaxvision import config as configs
from jaxvision.arguments import Range
from jaxvision.augment import gallery
from jaxvision.data.host_ops import BadImage, host_ops
from jaxvision.errors import UserError
from jaxvision.optim import optimizers, rules, schedules
from jaxvision.specs import Call, parse
from jaxvision.sweep import searches

NEVER = [b"x", 1j, math.nan, object()]  # right for no argument of any factory
PERHAPS = ["abc", "", 2.5, -1, 0, 1, None, (), [], {}, True, math.inf, (1, 2, 3, 4, 5), ["abc"], {"abc": 1}]


def tried(function, make, use=lambda made: None, skip=()):
    """Calls `make(name, value)` with values of every kind for each parameter, and `use` with what it accepts."""
    wrong = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in skip or parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in NEVER + PERHAPS:
            try:
                made = make(name, value)
                use(made)
            except (UserError, BadImage) as error:
                if len(str(error)) > 1000:
                    wrong.append(f"{name}={value!r} gives a message of {len(str(error)):,} characters")
            except Exception as error:
                wrong.append(f"{name}={value!r} raises {type(error).__name__}: {error}")
            else:
                if any(value is never for never in NEVER):
                    wrong.append(f"{name}={value!r} is accepted")
    assert not wrong, "\n".join(wrong)


def called(name, factory, args, kwargs):
    """A call of `factory` with one argument set: `(argument, value) -> Call`."""
    parameters = inspect.signature(factory).parameters
    base = {**dict(zip(parameters, args)), **kwargs}

    def call(argument, value):
        if parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL:
            return Call(name, (value,), {})
        return Call(name, (), {**base, argument: value})

    return call


@pytest.mark.parametrize("name", augment.ops.factories)
def test_arguments_of_augmentations(name):
    statistics = dict(
        mean=np.zeros(3),
        std=np.ones(3),
        color_values=np.ones(3),
        color_vectors=np.eye(3),
        mean_image=np.zeros((16, 16, 3)),
        pixel_values=np.ones(768),
        pixel_vectors=np.eye(768),
    )
    tokens = jnp.zeros((2, 3, 4), jnp.int32)
    batch = {"image": jnp.zeros((2, 16, 16, 3), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
    batch |= {"tokens": tokens, "tokens_mask": tokens == 0}
    examples = gallery.example_specs(16)
    base = parse(examples[name][0])[0] if name in examples else Call(name)
    call = called(name, augment.ops.factories[name], base.args, base.kwargs)
    tried(
        augment.ops.factories[name],
        lambda argument, value: augment.make_augmentation([call(argument, value)], 10, statistics),
        lambda op: jax.eval_shape(op, jax.random.key(0), batch),
    )


NEEDED = {"resize": 8, "resize_short": 8, "central_crop": 8, "random_crop": 8, "random_resized_crop": 8, "pad": 2}


@pytest.mark.parametrize("name", host_ops.factories)
def test_arguments_of_host_operations(name):
    png = io.BytesIO()
    Image.new("RGB", (20, 30)).save(png, "png")
    image = png.getvalue() if name == "decode" else np.zeros((30, 20, 3), np.uint8)
    example = {"image": image, "label": 1, "text": "a cat", "/class_name": "cat"}
    args = (8, 9) if name == "random_resize_short" else (NEEDED[name],) if name in NEEDED else ()
    call = called(name, host_ops.factories[name], args, {})

    def make(argument, value):
        host_ops.evaluation([call(argument, value)])
        return host_ops.build([call(argument, value)])[0]

    tried(host_ops.factories[name], make, lambda op: op(example, np.random.default_rng(0)))


PARAMS = {"block_00": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, "head": {"kernel": jnp.ones((4, 2))}}


def optimizer(section):
    steps = lambda duration: durations.steps(duration, batch_size=10, examples=100, total=100)
    section = {"name": "sgd", "learning_rate": 0.1, **section}
    return configs.call(optimizers.make_optimizer, section, "optimizer", steps=steps, total=100, params=PARAMS)


def update(made):
    jax.eval_shape(lambda: made.tx.update(PARAMS, made.tx.init(PARAMS), PARAMS))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_arguments_of_optimizers(name):
    make = lambda argument, value: optimizer({"name": name, argument: value})
    tried(optimizers.OPTIMIZERS[name], make, update, skip=["parts"])


def test_the_section_optimizer():
    make = lambda argument, value: optimizer({argument: value})
    tried(optimizers.make_optimizer, make, update, skip=optimizers.GIVEN)


@pytest.mark.parametrize("name", schedules.decays.factories)
def test_arguments_of_schedules(name):
    call = called(name, schedules.decays.factories[name], (), {})
    tried(
        schedules.decays.factories[name],
        lambda *arguments: optimizer({"schedule": [call(*arguments)]}),
        lambda made: update(made),
    )


@pytest.mark.parametrize("registry", [searches.registry, searches.pruning, rules.freezings], ids=lambda r: r.kind)
def test_arguments_of_what_searches_prunes_and_freezes(registry):
    for name, factory in registry.factories.items():
        call = called(name, factory, (), {})
        tried(factory, lambda *arguments, call=call: registry.build([call(*arguments)]))


@pytest.mark.parametrize("name", models.NAMES | models.TEXT_NAMES | models.PAIR_NAMES)
def test_options_of_models(name):
    kinds = models.NAMES, models.TEXT_NAMES, models.PAIR_NAMES
    builder = kinds[0].resolve(name, *kinds[1:])
    small = {name: kind.small(name) for kind in kinds for name in kind}

    def make(option, value):
        options = {**small.get(name, {}), option: value}
        if name in models.TEXT_NAMES:
            return models.build_text(name, **options)
        return models.build(name, None if name in models.PAIR_NAMES else 10, **options)

    tried(builder, make, skip=["num_classes", "dtype"])


@pytest.mark.parametrize("name", tasks.TASKS)
def test_options_of_tasks(name):
    small = tasks.TASKS.small(name)
    model = lambda classes, **options: models.build("resnet", classes, variant="8", **options)
    steps = lambda duration: durations.steps(duration, batch_size=10, examples=100, total=100)
    offers = dict(model=model, num_classes=10, multi_label=False, total_steps=100, steps=steps, over_batch=None)
    offers |= dict(dtype=jnp.float32, freeze=None, fields={})

    def make(option, value):
        section = {**small, option: value}
        asked = {key: offers[key] for key in inspect.signature(tasks.get_task(name)).parameters if key in offers}
        return configs.call(tasks.get_task(name), section, "task", **asked)

    tried(tasks.get_task(name), make, skip=offers)


@pytest.mark.parametrize(
    ("value", "annotation", "right"),
    [
        (3, int, True),
        (np.int64(3), int, True),
        (3.0, int, False),
        (True, int, False),
        ("3", int, False),
        (np.float32(0.5), float, True),
        (math.nan, float, False),
        (jnp.ones(()), float, True),
        (jnp.ones(3), float, False),
        (True, bool, True),
        (np.bool_(True), bool, True),
        (1, bool, False),
        (None, int | None, True),
        ("ab", tuple[str, ...], False),
        (("a", "b"), tuple[str, ...], True),
        (["a", 1], tuple[str, ...], False),
        ([1, 2], int | tuple[int, int], True),
        ([1, 2, 3], int | tuple[int, int], False),
        ({"a": 1}, dict, True),
        (ConfigDict({"a": 1}), dict, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (1, Annotated[float, Range(0, 1)], True),
        (1, Annotated[float, Range(0, 1, below=True)], False),
        (object(), object, True),
    ],
)
def test_what_fits_an_annotation(value, annotation, right):
    assert arguments.fits(value, annotation) is right


def test_words_for_mistakes():
    with pytest.raises(UserError, match="config key optimizer.weight_decay must be a number of at least 0, not 'abc'"):
        optimizer({"weight_decay": "abc"})
    with pytest.raises(UserError, match=r"b1 must be a number in \[0, 1\), not 1.5"):
        optimizer({"name": "adam", "b1": 1.5})
    with pytest.raises(UserError, match="not '3e-4': write 3e-4 without quotes"):
        optimizer({"learning_rate": "3e-4"})
    with pytest.raises(UserError, match=r"host operation \"resize\('big'\)\": size must be a whole number or two"):
        host_ops.build("resize('big')")
    with pytest.raises(UserError, match=r"'random_crop\(32.5\)': size must .* not 32.5"):
        host_ops.build("random_crop(32.5)")
    with pytest.raises(UserError, match=r"missing argument alpha. Usage: mixup\(alpha, per_example=False\)"):
        augment.make_augmentation("mixup", 10)
    with pytest.raises(UserError, match="no argument is named 'alfa'; did you mean 'alpha'"):
        augment.make_augmentation("mixup(alfa=1)", 10)
    with pytest.raises(UserError, match="3 arguments without a name, but it takes at most 2"):
        augment.make_augmentation("mixup(1, True, 3)", 10)
    with pytest.raises(UserError, match="the argument alpha is given twice"):
        augment.make_augmentation("mixup(1, alpha=2)", 10)


def test_a_whole_number_is_a_number():
    """jax.random.bernoulli refuses the integer 1."""
    batch = {"image": jnp.arange(12, dtype=jnp.uint8).reshape(1, 2, 2, 3)}
    once = augment.make_augmentation("flip_lr(1)")(jax.random.key(0), batch)["image"]
    np.testing.assert_array_equal(once, augment.make_augmentation("flip_lr(1.0)")(jax.random.key(0), batch)["image"])


@pytest.mark.parametrize("value", [True, np.True_, np.array(True)])
def test_truth_values_are_no_numbers(value):
    assert not arguments.fits(value, float)
    assert not arguments.fits(value, int)
    assert not arguments.fits((value, value), tuple[float, float])
    assert not arguments.fits(np.array(1.5), int)
    assert arguments.fits(np.array(1.5), float)
