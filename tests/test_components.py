"""What is checked when the parts of an experiment are put together."""

import pytest

from jaxvision import components
from jaxvision.data import text
from jaxvision.errors import UserError


def two_towers(**options):
    tower = dict(name="text_transformer", width=16, depth=1, num_heads=2, length=16, **options)
    return dict(name="two_towers", image=dict(name="resnet", variant="8"), text=tower)


@pytest.mark.parametrize(
    "options", [dict(vocab_size=259, end_token=2), dict(vocab_size=300, end_token=2), dict(vocab_size=259, pool="gap")]
)
def test_a_tower_that_reads_what_the_tokenizer_makes(options):
    components.check_tokenizer(two_towers(**options), text.make_tokenizer("bytes", 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(vocab_size=100, end_token=2), "259 ids, the text tower 100: set model.text.vocab_size to 259"),
        (dict(vocab_size=259), "at the greatest id, as in CLIP; .* end with 2: set model.text.end_token to 2"),
        (dict(vocab_size=259, end_token=7), "at 7; the tokenizer's texts end with 2"),
    ],
)
def test_a_tower_that_would_misread_it_is_an_error(options, message):
    with pytest.raises(UserError, match=message):
        components.check_tokenizer(two_towers(**options), text.make_tokenizer("bytes", 16))
