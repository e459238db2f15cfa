import pytest

from jaxvision.errors import UserError
from jaxvision.specs import Call, Registry, parse


@pytest.fixture
def ops():
    registry = Registry("op")

    @registry.register()
    def add(n, times=1):
        return lambda x: x + n * times

    @registry.register(evaluation="")
    def noise(scale=1.0):
        return lambda x: x

    @registry.register(evaluation=lambda size, jitter=0: f"add({size})")
    def jittered(size, jitter=0):
        return lambda x: x + size

    return registry


def test_parse():
    assert parse("flip|crop(32, padding=4)|mix(0.2, names=('a', 'b'))") == [
        Call("flip"),
        Call("crop", (32,), {"padding": 4}),
        Call("mix", (0.2,), {"names": ("a", "b")}),
    ]
    assert parse("") == parse("  ") == parse("none") == []
    assert parse("none|flip|none") == [Call("flip")]
    assert parse("shift(-1)") == [Call("shift", (-1,))]


@pytest.mark.parametrize("spec", ["flip", "crop(32, padding=4)", "mix(0.2, names=('a', 'b'))"])
def test_a_call_prints_as_it_is_written(spec):
    assert str(parse(spec)[0]) == spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flip|", "cannot read the spec"),
        ("flip crop", "cannot read the spec"),
        ("a.b(1)", "write a name or a call"),
        ("3", "write a name or a call"),
        ("flip + crop", "write a name or a call"),
        ("crop(size)", "must be literals"),
        ("crop(__import__('os'))", "must be literals"),
        ("crop(**{'size': 3})", "must be literals"),
        (3, "a spec is a string"),
    ],
)
def test_unreadable_specs(spec, message):
    with pytest.raises(UserError, match=message):
        parse(spec)


def test_build_keeps_the_order(ops):
    first, second = ops.build("add(2)|add(3, times=2)")
    assert (first(0), second(0)) == (2, 6)


def test_unknown_names_and_arguments(ops):
    with pytest.raises(UserError, match=r"unknown op 'ad'; did you mean 'add'\? Choices: add, jittered, noise"):
        ops.build("ad(2)")
    with pytest.raises(UserError, match=r"op 'add\(1, time=2\)': .*'time'.*Usage: add\(n, times=1\)"):
        ops.build("add(1, time=2)")
    with pytest.raises(UserError, match="missing argument n. Usage: add"):
        ops.build("add")


def test_arguments_are_of_the_annotated_kind(ops):
    @ops.register(evaluation=lambda size, p=0.5: f"cut({size})")
    def cut(size: int | tuple[int, int], p: float = 0.5, *marks: int):
        return size, p, marks

    assert ops.build("cut((32, 16), 1, 3, 4)") == [((32, 16), 1.0, (3, 4))]
    assert ops.named(Call("cut", (32,))) == Call("cut", (), {"size": 32, "p": 0.5, "marks": ()})
    with pytest.raises(UserError, match="size must be a whole number or two whole numbers, not 32.0"):
        ops.build("cut(32.0)")
    with pytest.raises(UserError, match="p must be a number, not 'x'"):
        ops.evaluation("cut(8, p='x')")
    with pytest.raises(UserError, match="marks must be a list of whole numbers, not"):
        ops.build("cut(8, 0.5, 1, True)")


def test_evaluation_replaces_random_operations(ops):
    assert ops.evaluation("jittered(4, jitter=2)|noise|add(1, times=3)") == "add(4)|add(1, times=3)"
    assert ops.evaluation("noise") == ""
    assert ops.is_random("add(1)|noise")
    assert not ops.is_random("add(1)")
    with pytest.raises(UserError, match="Usage: noise"):
        ops.evaluation("noise(1, 2)")


def test_calls_are_a_spec_too(ops):
    calls = parse("add(2)|noise")
    assert parse(calls) is calls
    assert ops.build(calls)[0](1) == ops.build("add(2)|noise")[0](1) == 3


def test_a_named_call_has_every_argument(ops):
    assert ops.named(Call("add", (3,))) == Call("add", (), {"n": 3, "times": 1})
    with pytest.raises(UserError, match="Usage: add"):
        ops.named(Call("add"))


@pytest.mark.parametrize("spec", ["flip_lr|", "|flip_lr", "flip_lr||flip_ud", "flip_lr | "])
def test_a_missing_operation_is_told(spec):
    with pytest.raises(UserError, match="an operation is missing next to a '|'"):
        parse(spec)
