import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.recipes import model_names
from jaxvision.recipes.model_names import find_model


@pytest.mark.parametrize(
    ("text", "name", "variant"),
    [
        ("resnet18", "resnet", "18"),
        ("ResNet-50", "resnet", "50"),
        ("resnet", "resnet", None),
        ("resnet50d", "resnet", "50d"),
        ("resnext50_32x4d", "resnet", "resnext50_32x4d"),
        ("resnet:se50", "resnet", "se50"),
        ("resnet_v2-50", "resnet_v2", "50"),
        ("resnetv2_101", "resnet_v2", "101"),
        ("vit-s16", "vit", "S/16"),
        ("vit_b_16", "vit", "B/16"),
        ("vit:Ti/4", "vit", "Ti/4"),
        ("vit-ti14", "vit", "Ti/14"),
        ("vit-so400m14", "vit", "So400m/14"),
        ("vit-g14", "vit", "g/14"),
        ("vit-G14", "vit", "G/14"),
        ("convnext-t", "convnext", "tiny"),
        ("convnext_base", "convnext", "base"),
        ("mixer-b16", "mixer", "B/16"),
        ("bit-r50x1", "bit", "R50x1"),
        ("wide_resnet-28-10", "wide_resnet", "28-10"),
        ("wideresnet16-4", "wide_resnet", "16-4"),
        ("nin", "nin", None),
    ],
)
def test_short_names(text, name, variant):
    assert find_model(text) == {"name": name} | ({"variant": variant} if variant else {})


@pytest.mark.parametrize(
    ("text", "near"),
    [("resnet19", "resnet18"), ("vitt-s16", "vit-s16"), ("convnext-tiney", "convnext-tiny"), ("restnet50", "resnet50")],
)
def test_unknown_ones_suggest(text, near):
    with pytest.raises(UserError, match=f"unknown model '{text}'; did you mean '{near}'"):
        find_model(text)


def test_the_choices_are_sorted_and_complete():
    with pytest.raises(UserError) as refused:
        find_model("resnet19")
    choices = str(refused.value).partition("Choices: ")[2].partition(", and those of ")
    shown = choices[0].split(", ")
    assert shown == model_names.short_names("resnet")
    assert shown.index("resnet18") < shown.index("resnet34") < shown.index("resnet50") < shown.index("resnet101")
    assert {"vit", "convnext", "resnet_v2"} <= set(choices[2].split(", "))
    with pytest.raises(UserError) as refused:
        find_model("qqqq")
    every = ", ".join(sorted(models.NAMES))
    assert str(refused.value).startswith(f"unknown model 'qqqq'. Choices: {every}, or a variant, as in resnet50")


def test_every_short_name_that_is_suggested_is_understood():
    names = [short for name in models.NAMES for short in model_names.short_names(name)]
    assert len(names) > 40
    for name in names:
        section = find_model(name)
        assert models.NAMES[section["name"]]
