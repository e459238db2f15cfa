"""What a stranger hands over ends well, or in the project's error: it starts no program and writes nothing elsewhere.

Here are texts: specs, durations, JSON, names, options. Files of every format are in `test_strange_files.py`.
"""

import json
import string
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxvision import augment, durations, models, path_names, scripts, storage
from jaxvision.commands import image_files, study
from jaxvision.data import host_ops
from jaxvision.data.sources import base, files, labels
from jaxvision.data.text import class_names, prompts
from jaxvision.data.text.host import images_only, sources_of, stand_in
from jaxvision.errors import MAX_LINE, UserError, listed, nearest, unknown
from jaxvision.launch import base as launchers
from jaxvision.launch import jobset, local, slurm, tpu
from jaxvision.models.weights import folder as weights
from jaxvision.models.weights import preprocessing
from jaxvision.reading import check_fields, parse_json
from jaxvision.specs import parse
from jaxvision.sweep import space
from jaxvision.sweep.runs import TrialRun

QUICK = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SECONDS = 30  # of one call, on a machine that does other things too; these take milliseconds
LONG = settings(QUICK, max_examples=4000, derandomize=False)

ANY_TEXT = st.text(st.characters(), max_size=60)  # surrogates, NUL and line ends too
NAMES = st.one_of(
    ANY_TEXT,
    st.sampled_from(
        [
            "..",
            ".",
            "/",
            "/etc/passwd",
            "../../x",
            "a/../../b",
            "~",
            "~nobody",
            "~no-such-user/x",
            "a\0b",
            "a\nb",
            "\ud800",
            "CON",
            "NUL.txt",
        ]
        + ["x" * 300, "é" * 200, "x/" * 3000, "gs://", "gs://b/../c", "-rf", "--help", "$(touch X)", "{0..99999999999}"]
        + ["C:\\x", "\\\\host\\x", "a|b", "*", "{a,b}" * 30, "file:///etc/passwd", " ", "", "\u202egnp.exe", "%2e%2e/x"]
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.floats(),
    st.sampled_from([10**6, 10**9, 2**31, 2**63, 10**30, 10**4000, -(10**4000), 1e308, 5e-324]),
)
LITERALS = st.recursive(
    st.one_of(NUMBERS, NAMES, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.lists(inner, max_size=3)),
    max_leaves=6,
)
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


def ends_well(function, *args, **kwargs):
    """What a call returns; None where it ends in an error of the project, whose lines a person can read."""
    began = time.monotonic()
    try:
        return function(*args, **kwargs)
    except UserError as error:
        message = str(error)
    finally:
        assert time.monotonic() - began < SECONDS
    assert all(len(line) <= MAX_LINE for line in message.split("\n"))
    assert len(message) <= 2 * MAX_LINE
    message.encode("utf-8", "backslashreplace")
    return None


def literal(value):
    try:
        return repr(value)
    except ValueError:
        return hex(value)


def calls(registry):
    """Calls of the operations of a registry with arguments that fit them or do not."""
    names = st.sampled_from([*sorted(registry.factories), "nothing"])
    args = st.lists(LITERALS, max_size=3)
    words = st.sampled_from(
        ["size", "n", "spec", "p", "length", "captions", "prompts", "padding", "max_pixels", "fill"]
    )
    kwargs = st.dictionaries(words, LITERALS, max_size=2)
    return st.builds(
        lambda name, a, k: f"{name}({', '.join([*map(literal, a), *(f'{key}={literal(v)}' for key, v in k.items())])})",
        names,
        args,
        kwargs,
    )


class Check(NamedTuple):
    test: Callable[[], None]
    settings: settings


def both(strategy, *more):
    """Runs a test of the values of strategies quickly by default, and with many where slow tests are asked for."""

    def decorate(test):
        made = lambda limits: Check(limits(given(strategy, *more)(test)), limits)
        checks = [
            pytest.param(made(QUICK), id="quick"),
            pytest.param(made(LONG), id="long", marks=pytest.mark.slow),
        ]
        return pytest.mark.parametrize("check", checks)(_run(test))

    return decorate


def _run(test):
    def run(check, scratch, record_property):
        check.test()
        if check.settings is LONG:
            record_property("promise", "what a stranger hands over ends in the project's error")
            record_property("injections", LONG.max_examples)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@both(st.one_of(ANY_TEXT, calls(host_ops.host_ops), st.lists(calls(host_ops.host_ops), max_size=3).map("|".join)))
def test_host_specs(spec):
    for use in (parse, host_ops.make_chain, images_only, stand_in, lambda s: sources_of(("image", "tokens"), s)):
        ends_well(use, spec)
    for use in (host_ops.host_ops.is_random, host_ops.host_ops.evaluation):
        ends_well(use, spec)


@both(st.one_of(ANY_TEXT, calls(augment.registry.ops), st.lists(calls(augment.registry.ops), max_size=3).map("|".join)))
def test_augmentations(spec):
    for use in (augment.make_augmentation, augment.evaluation, augment.needs_statistics):
        ends_well(use, spec)


SPECS = [
    "-" * 20_000 + "1",
    "|".join(["flip_lr"] * 10_000),
    "|" * 10_000,
    "(" * 10_000,
    "a(" * 300,
    "\ud800",
    "a('\ud800')",
]
SPECS += [
    "tokenize([])",
    "tokenize({1, 2})",
    "tokenize({[]: 1})",
    "class_captions(1.5)",
    "class_captions(" + "'a'," * 9999 + ")",
]
SPECS += ["views(1000000, 'flip_lr')", "views(2, " + "'views(2, " * 200, "randaugment(10**9)", "randaugment(1000000)"]
SPECS += ["five_crop(1000000)", "pad(10000000)", "resize(10000000)", "resize(0x" + "f" * 5000 + ")", "pad(-" * 500]
SPECS += [
    "a" * 20_000,
    "a(*b)",
    "a(**b)",
    "a.b(1)",
    "a[0](1)",
    "lambda: 0",
    "f'{1}'",
    "x := 1",
    "a(b'\\xff')",
    "a(1j)",
    "a(...)",
]
SPECS += ["multi_crop('flip_lr', 'flip_lr', 1000000, 1)", "augmix(3, 1000000)", "augmix(3, 3, 1000000)", "\0", "a\0(1)"]
SPECS += ["tokenize('bytes', 1000000000)", "tokenize(captions=1000000000, caption='all')", "tokenize(field=[])"]
SPECS += [
    "class_captions('" + "x" * 20_000 + "')",
    "tokenize('clip', path='" + "x" * 5000 + "')",
    "tokenize('clip', path='a\\0b')",
]
SPECS += ["random_crop(8, 10000000)", "random_short_side_crop(8, (8, 10000000))", "gaussian_blur(kernel=10000000)"]
SPECS += ["\\'" * 50_000, "a." * 50_000, "a" * 99_999 + ":", "9" * 4000 + "a" * 90_000, "'" + "\\\\" * 49_000]
# An evaluation was made of arguments that the operation does not take.
SPECS += ["views(0, 0)", "multi_crop(0, 0)", "multi_crop((), 0)", "views(1, ('flip_lr', ))", "random_crop([])"]
SPECS += ["random_resized_crop([])", "random_short_side_crop(())", "pick_caption([])", "random_resize_short(2, 1)"]
# A whole number that no float can be.
SPECS += [f"{name}({10**400})" for name in ("central_crop", "resize", "augmix", "views", "normalize", "tokenize")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: repr(spec[:20]) + str(len(spec)))
def test_specs_that_were_seen_to_fail(spec, scratch):
    """Each of these was a traceback, or did not return."""
    for use in (
        parse,
        host_ops.make_chain,
        augment.make_augmentation,
        stand_in,
        images_only,
        augment.evaluation,
        augment.needs_statistics,
    ):
        ends_well(use, spec)
    ends_well(sources_of, ("image", "tokens"), spec)


@both(
    st.one_of(
        ANY_TEXT,
        NUMBERS,
        LITERALS,
        st.builds(
            lambda n, u: f"{literal(n)} {u}",
            NUMBERS,
            st.sampled_from(["steps", "epochs", "examples", "percent", "step", "weeks", "\ud800"]),
        ),
    )
)
def test_durations(text):
    steps = ends_well(durations.steps, text, batch_size=3, examples=10**6, total=10**6)
    assert steps is None or (isinstance(steps, int) and steps >= 0)
    ends_well(durations.check, text, "train.total")
    durations.is_bare(text)


@pytest.mark.parametrize(
    "text",
    [
        "1e308 epochs",
        "9" * 20_000,
        "9" * 20_000 + " steps",
        10**400,
        10**5000,
        "nan steps",
        "1e15 steps",
        "x" * 20_000,
        "1 " + "y" * 20_000,
        [],
        None,
        "\ud800 steps",
    ],
    ids=range(12),
)
def test_durations_that_were_seen_to_fail(text):
    assert ends_well(durations.steps, text, batch_size=1, examples=10**6, total=10**6) is None


@both(NAMES, st.lists(NAMES, max_size=4))
def test_names_and_paths(name, others):
    if ends_well(path_names.check, name, "--out") is None:
        ends_well(storage.local, name, "--out")
    for use in (
        study.load_study,
        files.expand_braces,
        prompts.get_prompts,
        class_names.read_class_names,
        class_names.in_words,
    ):
        ends_well(use, name)
    ends_well(scripts.load, name, "get_config", "config")
    ends_well(files.split_files, study.Path("."), name)
    ends_well(files.split_files, study.Path("."), {"train": name})
    ends_well(base.parse_split, name, {"train": 3, "test": 2}, "the set")
    ends_well(labels.read_classes, name, study.Path("."))
    ends_well(labels.read_classes, [name, *others], study.Path("."))
    ends_well(files.directory, "folder", name, "images")
    for use in (lambda: unknown("thing", name, others), lambda: listed(name, others), lambda: nearest(name, others)):
        use()


def test_the_home_of_nobody_is_refused_in_words(scratch):
    of_classes = lambda name, what: labels.read_classes(name, study.Path("."))
    of_folder = lambda name, what: files.directory("folder", name, what)
    for use in (storage.local, storage.path, of_folder, of_classes):
        with pytest.raises(UserError, match="no user '~no-such-user' has a home folder"):
            use("~no-such-user/x", "--out")


@pytest.mark.parametrize("pattern", ["x/" * 3000, "**/" * 30 + "*.tar", "{" + "x/" * 3000 + ",y}"], ids=range(3))
def test_patterns_that_were_seen_to_fail(pattern, scratch):
    """pathlib and glob call themselves for every folder of a pattern, and for every `**` in every folder."""
    (scratch / "a/b/c/d/e/f/g/h").mkdir(parents=True)
    for files_of in ({"train": pattern}, "{split}/" + pattern):
        with pytest.raises(UserError, match="has .* more than"):
            files.split_files(scratch, files_of)
    with pytest.raises(UserError):
        image_files.find([f"{scratch}/*/{pattern}"])


def test_whole_numbers_that_no_float_can_be_are_refused_in_words():
    with pytest.raises(UserError, match="must be a whole number .*, which is too large"):
        models.build("vit", 10, depth=10**400)
    with pytest.raises(UserError, match="give two finite numbers"):
        space.uniform(0, 10**400)


@both(
    st.sampled_from(["vit", "resnet", "mixer", "convnext", "wide_resnet", "clip_resnet", "bit", "nothing"]),
    st.dictionaries(
        st.sampled_from(
            ["variant", "depth", "width", "blocks", "num_heads", "mlp_dim", "dropout", "patch", "channels", "groups"]
        ),
        LITERALS,
        max_size=2,
    ),
)
def test_options_of_models(name, options):
    ends_well(models.build, name, 10, **options)


OPTIONS = {
    slurm.script: ["nodes", "gpus", "cpus", "memory_gb", "minutes", "partition", "sbatch", "setup", "output", "tasks"],
    jobset.manifest: ["image", "nodes", "gpus", "queue", "claim", "mount", "env", "topology", "tpu", "restarts"],
    tpu.commands: ["accelerator", "zone", "project", "runtime", "slices", "spot", "source", "setup", "largest_mb"],
}


@both(st.sampled_from(list(OPTIONS)), NAMES, NAMES, st.data())
def test_options_of_launchers(function, name, word, data):
    keys = st.sampled_from(OPTIONS[function])
    given_options = data.draw(st.dictionaries(keys, st.one_of(LITERALS, st.dictionaries(NAMES, LITERALS)), max_size=3))
    needed = {jobset.manifest: {"image": "i"}, tpu.commands: {"accelerator": "v6e-8", "zone": "a"}}.get(function, {})
    made = ends_well(function, ["jaxvision", "train", word], name, **(needed | given_options))
    if function is jobset.manifest and made is not None:
        jobset.to_yaml(made)


def edited(document):
    """JSON texts: the document with one of its values replaced or left out, or anything."""
    places = [()]
    stack = [((), document)]
    while stack:
        place, value = stack.pop()
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            places.append((*place, key))
            stack.append(((*place, key), inner))

    def edit(place, new, drop):
        copy = json.loads(json.dumps(document))
        if not place:
            return json.dumps(new)
        *parents, last = place
        at = copy
        for key in parents:
            at = at[key]
        if drop:
            del at[last]
        else:
            at[last] = new
        return json.dumps(copy)

    whole = json.dumps(document)
    cut = st.integers(0, len(whole)).map(lambda n: whole[:n])
    huge = st.sampled_from(
        ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "1e999", "\ud800", "{}\0", '{"code": 1e400}']
    )
    return st.one_of(st.builds(edit, st.sampled_from(places), JSONS, st.booleans()), cut, huge, ANY_TEXT)


def written(folder, name, text):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return file


META = {
    "model": {"name": "vit", "variant": "Ti/16"},
    "num_classes": 3,
    "classes": ["a", "b"],
    "source": "timm",
    "preprocessing": {"host": "decode", "augment": "none"},
    "notes": [],
    "image_size": [8, 8],
}
TIMM = {
    "architecture": "vit_tiny",
    "pretrained_cfg": {
        "tag": "a",
        "input_size": [3, 8, 8],
        "mean": [0.5],
        "std": [0.5],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    },
    "model_args": {"act_layer": "gelu"},
}
CLIP = {
    "model_cfg": {
        "vision_cfg": {"layers": 2, "image_size": 8, "head_width": 4},
        "text_cfg": {"heads": 2},
        "quick_gelu": True,
    },
    "preprocess_cfg": {"mean": [0.5], "std": [0.5], "interpolation": "bicubic"},
}
COMMAND = {"command": ["a"], "job": "1-2@host", "attempts": 1, "lost": 0, "before": None}
JOB = {"pid": 1, "start": "2", "host": "other"}


@both(edited(META), edited(TIMM), edited(CLIP))
def test_json_beside_weights(meta, timm, clip):
    folder = study.Path("weights")
    written(folder, "meta.json", meta)
    ends_well(weights.read_meta, folder)
    written(folder, "config.json", timm)
    written(folder, "open_clip_config.json", clip)
    for source, model in (("timm", "vit"), ("open_clip", "vit"), ("open_clip", "two_towers")):
        if (neighbour := ends_well(preprocessing.read_neighbour, folder / "w", source, model)) is not None:
            ends_well(preprocessing.make_preprocessing, source, model, neighbour.images)


@both(edited(COMMAND), edited(JOB), edited({"code": 0}))
def test_json_of_launchers(command, job, code):
    run = study.Path("run")
    written(run, "launch/command.json", command)
    written(run, "launch/job.json", job)
    written(run, "launch/exit.json", code)
    written(run, "launch/slot.json", code.replace("code", "slot"))
    if (trial_run := ends_well(TrialRun, run, ["a"], "name")) is not None:
        ends_well(lambda: trial_run.adopt(_NoLauncher()))
    ends_well(launchers.status, run / "launch", alive=False)
    launcher = local.LocalLauncher(slots=1, gpus=0)
    ends_well(launcher.find, run / "launch", "name")
    if trial_run is not None and trial_run.job is not None:
        ends_well(launcher.poll, {trial_run.job: run / "launch"})


class _NoLauncher:
    def find(self, folder, name):
        return None


@both(edited(["a {}", "b {}"]))
def test_prompts_and_class_lists(text):
    ends_well(prompts.get_prompts, written(study.Path("."), "p.json", text))
    ends_well(prompts.get_prompts, written(study.Path("."), "p.txt", text))
    ends_well(class_names.read_class_names, "p.txt")
    ends_well(labels.read_classes, "p.txt", study.Path("."))


@both(edited({"a": 1, "b": [1, {"c": None}]}))
def test_any_json(text):
    value = ends_well(parse_json, text.encode("utf-8", "surrogatepass"), "file.json")
    if value is not None:
        ends_well(check_fields, value, "file.json", a=int, b=(list, type(None)))


def test_every_error_has_lines_that_can_be_read():
    letters = string.ascii_letters * 1000
    for error in (UserError(letters), unknown("thing", letters, [letters, "a"]), UserError("\n".join([letters] * 3))):
        assert all(len(line) <= MAX_LINE for line in str(error).split("\n"))
    assert str(UserError("a\nb")) == "a\nb"
    assert str(UserError()) == ""
