import pytest

from jaxvision.errors import MAX_CHOICES, SYNONYMS, UserError, closest, listed, nearest, unknown


def test_unknown_names_value_choices_and_nearest():
    error = unknown("model", "resnte", ["vit", "resnet", "bit"])
    assert isinstance(error, UserError)
    assert str(error) == "unknown model 'resnte'; did you mean 'resnet'? Choices: resnet, bit, vit"


def test_no_guess_where_nothing_is_near():
    assert nearest("zzz", ["vit", "resnet"]) == ""
    assert str(unknown("model", "zzz", ["vit"])) == "unknown model 'zzz'. Choices: vit"


def test_values_that_are_not_strings():
    assert str(unknown("depth", 19, [18, 34])) == "unknown depth 19. Choices: 18, 34"


def test_of_many_choices_a_dozen_are_named_the_nearest_first():
    runs = [f"{arm}_{size}_seed{seed}" for arm in ("vit", "resnet") for size in (400, 4000) for seed in range(20)]
    message = str(unknown("run", "resnet_4000_sed7", runs))
    assert "did you mean 'resnet_4000_seed7'? Choices: resnet_4000_seed7, " in message
    assert message.count("_seed") == 1 + MAX_CHOICES
    assert message.endswith(f"and {len(runs) - MAX_CHOICES} more")


def test_choices_that_are_numbers_stand_in_their_order():
    assert listed(7, [152, 18, 101]) == "18, 101, 152"


@pytest.mark.parametrize(
    ("value", "choices", "meant"),
    [
        ("lr", ["name", "learning_rate", "b1"], "learning_rate"),
        ("optimizer.wd", ["optimizer.weight_decay", "model.weight_decay"], "optimizer.weight_decay"),
        ("train.epochs", ["train.total", "train.ema"], "train.total"),
        ("bs", ["data", "batch_size"], "batch_size"),
        ("ResNet", ["vit", "resnet"], "resnet"),
        ("lr", ["b1", "b2"], None),
    ],
)
def test_words_of_other_libraries_and_other_cases_lead_to_ours(value, choices, meant):
    assert closest(value, choices) == meant


def test_a_message_does_not_repeat_what_is_too_long():
    assert len(str(unknown("model", "x" * 20_000, ["vit"]))) < 300


def test_synonyms_are_never_names_that_they_stand_for():
    assert not set(SYNONYMS) & {name for names in SYNONYMS.values() for name in names} - {"model", "name"}


@pytest.mark.parametrize(
    ("written", "choices", "meant"),
    [
        ("imgsz", ("name", "image_size"), "image_size"),
        ("optimizer.beta_2", ("optimizer.b1", "optimizer.b2"), "optimizer.b2"),
        ("accumulate_grad_batches", ("train.accumulate", "train.total"), "train.accumulate"),
        ("RandomHorizontalFlip", ("flip_ud", "flip_lr", "resize"), "flip_lr"),
        ("inception_crop", ("central_crop", "random_resized_crop"), "random_resized_crop"),
        ("CrossEntropyLoss", ("squared_error", "softmax_cross_entropy"), "softmax_cross_entropy"),
        ("output_dir", ("workdir", "config"), "workdir"),
    ],
)
def test_words_of_other_libraries(written, choices, meant):
    assert closest(written, choices) == meant
