import jax
import pytest

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.optim.rules import DECAY_RULES, freeze_rules, layer_decay


def tree(*names):
    root = {}
    for name in names:
        *folders, leaf = name.split("/")
        node = root
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = 0
    return root


def blocks_of(count, first=("embedding", "pos_embedding", "cls", "registers")):
    return first, *((f"encoder/block_{i:02}",) for i in range(count))


STAGES = {"": (("stem_conv",), ("stage1",), ("stage2",), ("stage3",))}


def by_name(values):
    return dict(zip(paths.names(values), jax.tree.leaves(values)))


def test_kernels_decay_and_nothing_else():
    params = tree("pos_embedding", "cls", "embedding/kernel", "embedding/bias", "encoder/norm/scale", "pool/probe")
    values = by_name(paths.match(DECAY_RULES, params, "decay_rules", check_unused=False))
    assert [name for name, value in values.items() if value] == ["embedding/kernel"]


def test_layer_decay_of_a_vit():
    """Twelve blocks at 0.75, BEiT's fine-tuning of ViT-B: 0.75 ** 13 at the input, 1 at the head."""
    blocks = [f"encoder/block_{i:02}/mlp/dense_0/kernel" for i in range(12)]
    others = ["embedding/kernel", "pos_embedding", "cls", "encoder/norm/scale", "pool/probe", "head/bias"]
    others += ["projection/dense_0/kernel"]
    values = by_name(layer_decay(tree(*blocks, *others), 0.75, {"": blocks_of(12)}))
    assert [values[name] for name in blocks] == [0.75 ** (12 - i) for i in range(12)]
    assert [values[name] for name in others] == [0.75**13] * 3 + [1.0] * 4


def test_layer_decay_of_a_resnet():
    names = ["stem_conv/kernel", "stage1/block1/conv1/kernel", "stage3/block2/norm1/scale", "norm/scale", "head/kernel"]
    values = by_name(layer_decay(tree(*names, "stage2/block1/conv1/kernel"), 0.5, STAGES))
    assert [values[name] for name in names] == [0.5**4, 0.5**3, 0.5, 1.0, 1.0]


def test_layer_decay_counts_the_layers_of_each_tower():
    """Towers of different depth: each has its last block one layer below its head."""
    images = ["image_tower/embedding/kernel", *(f"image_tower/encoder/block_{i:02}/kernel" for i in range(2))]
    texts = ["text_tower/pos_embedding", *(f"text_tower/encoder/block_{i:02}/kernel" for i in range(3))]
    top = ["image_tower/projection/kernel", "text_tower/encoder/norm/scale", "logit_scale", "logit_bias"]
    order = {"image_tower": blocks_of(2), "text_tower": blocks_of(3)}
    both = by_name(layer_decay(tree(*images, *texts, *top), 0.5, order))
    assert [both[name] for name in images] == [0.5**3, 0.5**2, 0.5]
    assert [both[name] for name in texts] == [0.5**4, 0.5**3, 0.5**2, 0.5]
    assert [both[name] for name in top] == [1.0] * 4
    one = by_name(layer_decay(tree(*images, *texts, *top), {"image_tower": 0.5}, order))
    assert [one[name] for name in images + texts + top] == [both[name] for name in images] + [1.0] * 8
    with pytest.raises(UserError, match="unknown tower in layer_decay 'image'; did you mean 'image_tower'"):
        layer_decay(tree(*images), {"image": 0.5}, order)


def test_layer_decay_refuses_what_it_cannot_place():
    message = "find no parameter under encoder/block_00, which layer_order of the model names"
    with pytest.raises(UserError, match=message):
        layer_decay(tree("embedding/kernel", "encoder/blocks/mlp/dense_0/kernel"), 0.5, {"": blocks_of(1)})
    with pytest.raises(UserError, match="must be in"):
        layer_decay(tree("head/kernel"), 0.0, {"": ()})


def trained(params, spec, order=None):
    """The parameters that a spec of init.freeze leaves to be trained."""
    frozen = paths.match(freeze_rules(params, spec, lambda: order), params, "freeze")
    return [name for name, value in by_name(frozen).items() if not value]


def test_freezing_all_but_the_last_blocks_of_a_vit():
    blocks = [f"encoder/block_0{i}/mlp/dense_0/kernel" for i in range(3)]
    ends = ["encoder/norm/scale", "head/kernel", "pool/pos_embedding"]
    params = tree("embedding/kernel", "pos_embedding", "registers", *blocks, *ends)
    order = {"": blocks_of(3)}
    assert trained(params, "all_but_last(2)", order) == sorted(blocks[1:] + ends)
    assert trained(params, "all_but_last(0)", order) == sorted(ends)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("all_but_lasd(1)", "unknown value of init.freeze 'all_but_lasd'; did you mean 'all_but_last'"),
        ("all_but_last", "missing argument blocks"),
        ("all_but_last(-1)", "at least 0, not -1"),
        ("all_but_last(5)", "freezes nothing"),
        ("all_but_last(1)|all_but_last(1)", "must be one call"),
    ],
)
def test_wrong_freeze(spec, message):
    params = tree("stem_conv/kernel", "stage1/block1/conv1/kernel", "head/kernel")
    with pytest.raises(UserError) as error:
        freeze_rules(params, spec, lambda: {"": (("stem_conv",), ("stage1",))})
    assert message in str(error.value)
