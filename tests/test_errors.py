from jaxvision.errors import UserError, nearest, unknown


def test_unknown_names_value_choices_and_nearest():
    error = unknown("model", "resnte", ["vit", "resnet", "bit"])
    assert isinstance(error, UserError)
    assert str(error) == "unknown model 'resnte'; did you mean 'resnet'? Choices: bit, resnet, vit"


def test_no_guess_where_nothing_is_near():
    assert nearest("zzz", ["vit", "resnet"]) == ""
    assert str(unknown("model", "zzz", ["vit"])) == "unknown model 'zzz'. Choices: vit"


def test_values_that_are_not_strings():
    assert str(unknown("depth", 19, [18, 34])) == "unknown depth 19. Choices: 18, 34"
