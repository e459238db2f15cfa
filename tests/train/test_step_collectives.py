"""What the devices send each other in a compiled step on eight simulated devices: nothing that the layout does not ask.

The CPU compiler joins many arrays in one all-reduce, and an all-reduce and a slice stand for a reduce-scatter there;
see `analysis.collectives`.
"""

from collections import Counter
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxvision import augment, models
from jaxvision.analysis.collectives import collectives
from jaxvision.losses import contrastive, image_text
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import batch_sharding, chunk_sharding
from jaxvision.parallel.rules import shardings
from jaxvision.tasks import get_task
from jaxvision.train import feed, finite
from jaxvision.train import state as states
from jaxvision.train import step as steps

BATCH = 32
VIT = dict(name="vit", variant="mu/8", depth=1, width=64, mlp_dim=256, num_heads=2)
TEXT = dict(name="text_transformer", variant="mu", depth=1, width=16, num_heads=2, vocab_size=9, length=4)
RESNET = dict(name="resnet", variant="8", width=0.25)


def shape(*dims, dtype="float32", sharding=None):
    return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)


def supervised(name, **options):
    return get_task("supervised")(model=partial(models.build, name, **options), num_classes=8)


def compile_step(task, mesh, rules="replicated", more=(), pixels=16, **options):
    """Returns the shapes of the state and the collectives of the jitted step, as a run compiles it."""
    images = shape(BATCH, pixels, pixels, 3)
    batch = {"image": images, "label": shape(BATCH, dtype="int32"), "mask": shape(BATCH, dtype="bool")}
    batch |= dict(more)
    tx = optax.sgd(0.1, momentum=0.9)
    init = states.initializer(task, tx, batch, 0, False)
    step = steps.make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options)
    placed = shardings(jax.eval_shape(init), mesh, rules)
    runner = steps.make_runner(step, lambda constants, item: item, placed, finite.start())
    items = jax.tree.map(lambda x: shape(1, *x.shape, dtype=x.dtype, sharding=chunk_sharding(mesh)), batch)
    state = states.abstract(init, mesh, rules)
    return state, collectives(runner.lower(state, (), items).compile(), mesh)


def sent(found, kind, *axes):
    """Bytes of each array that is sent by a kind of collective over some axes, with the number of times."""
    each = Counter()
    for one in found:
        if one.kind == kind and one.axes == axes:
            for size in one.sizes:
                each[size] += one.times
    return each


def nbytes(leaf, parts=1):
    return leaf.size * leaf.dtype.itemsize // parts


def sizes(leaves, parts=1):
    return Counter(nbytes(leaf, parts) for leaf in leaves)


def only_scalars(found):
    return max(found, default=0) <= 4


def kinds(found):
    return {(one.kind, one.axes) for one in found}


def test_data_parallel_sums_each_gradient_once(mesh):
    state, found = compile_step(supervised(**VIT), mesh())
    assert kinds(found) == {("all-reduce", ("data",))}
    assert len(found) == 1
    rest = sent(found, "all-reduce", "data") - sizes(jax.tree.leaves(state.params))
    assert only_scalars(rest)  # the loss and top1
    assert not sizes(jax.tree.leaves(state.params)) - sent(found, "all-reduce", "data")


def test_batch_norm_adds_its_statistics(mesh):
    """Mean and mean square of each channel in the forward pass; at most two more sums in the backward pass, besides
    the gradients of scale and bias."""
    state, found = compile_step(supervised(**RESNET), mesh())
    assert kinds(found) == {("all-reduce", ("data",))}
    means = [
        leaf for path, leaf in jax.tree.leaves_with_path(state.model_state) if "mean" in jax.tree_util.keystr(path)
    ]
    forward = [one for one in found if "transpose" not in one.source and "norm" in one.source]
    assert Counter(one.bytes for one in forward) == Counter(2 * nbytes(leaf) for leaf in means)
    statistics = sum(map(nbytes, means))
    rest = sum(one.bytes for one in found) - sum(map(nbytes, jax.tree.leaves(state.params))) - 2 * statistics
    assert rest - 2 * statistics <= 16


def test_fsdp_gathers_parameters_and_scatters_gradients(mesh):
    """Each split parameter is gathered once, and kept for the backward pass. Its gradient is summed over fsdp, where
    each device keeps its part, and this part over the copies of the model.

    XLA gathers the smaller operand of a product, so the activations here are larger than the parameters, as in use.
    """
    state, found = compile_step(supervised(**VIT), mesh(fsdp=4), "fsdp", pixels=64)
    split = [x for x in jax.tree.leaves(state.params) if x.sharding.spec]
    whole = [x for x in jax.tree.leaves(state.params) if not x.sharding.spec]
    assert len(split) == 2  # the kernels of the MLP
    everywhere = ("data", "fsdp")
    assert kinds(found) == {("all-gather", ("fsdp",))} | {("all-reduce", x) for x in (("fsdp",), ("data",), everywhere)}
    assert sent(found, "all-gather", "fsdp") == sizes(split)
    for leaves, parts, axes in ((split, 1, ("fsdp",)), (split, 4, ("data",)), (whole, 1, everywhere)):
        summed = sent(found, "all-reduce", *axes)
        assert not sizes(leaves, parts) - summed
        assert only_scalars(summed - sizes(leaves, parts))


def test_tensor_rules_sum_two_activations_of_a_block_each_way(mesh):
    """Megatron's count (Shoeybi et al. 2019, sec. 3), but the CPU compiler sends the gradients of the inputs of query,
    key and value one by one; the GPU compiler adds them first (`AllReduceReassociate`). Nothing else of the batch."""
    state, found = compile_step(supervised(**VIT), mesh(tensor=2), "tensor")
    assert kinds(found) == {("all-reduce", ("tensor",)), ("all-reduce", ("data",))}
    tokens = BATCH // 4 * 4 * 64 * 4  # 4 tokens of width 64 for each of the 8 images of a device
    along = [one for one in found if one.axes == ("tensor",)]
    assert only_scalars(sent(along, "all-reduce", "tensor") - Counter({tokens: 2 + 1 + 3}))
    by_layer = Counter()
    for one in along:
        by_layer["attention" in one.source, "transpose" in one.source] += sum(size == tokens for size in one.sizes)
    assert by_layer == {(True, False): 1, (False, False): 1, (False, True): 1, (True, True): 3}
    parts = Counter(4 * prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(state.params))
    assert not parts - sent(found, "all-reduce", "data")
    assert only_scalars(sent(found, "all-reduce", "data") - parts)


def test_towers_send_gradients_and_embeddings_only(mesh):
    """Not the tokens, of which one of each text is picked."""
    devices = mesh()
    model = partial(models.build, "two_towers", image=VIT, text=TEXT, embedding=32)
    task = get_task("image_text")(model=model, over_batch=partial(over_batch, mesh=devices))
    state, found = compile_step(task, devices, more={"tokens": shape(BATCH, 4, dtype="int32")})
    embeddings = Counter({BATCH * 32 * 4: 2})
    assert sent(found, "all-gather", "data") == embeddings
    assert sent(found, "reduce-scatter", "data") == embeddings
    assert only_scalars(sent(found, "all-reduce", "data") - sizes(jax.tree.leaves(state.params)))
    assert len(kinds(found)) == 3


DIM = 32
MINE = BATCH // 8  # rows of a device


def of_loss(mesh, loss, *arrays):
    """The collectives of a loss over the batch and its gradient."""
    devices = mesh()
    placed = [x if not x.shape else shape(*x.shape, sharding=batch_sharding(devices)) for x in arrays]
    total = lambda *x: sum(out.mean() for out in jax.tree.leaves(over_batch(loss, devices)(*x)))
    gradient = jax.value_and_grad(total, argnums=tuple(range(len(arrays))))
    return collectives(jax.jit(gradient).lower(*placed).compile(), devices)


def pairs():
    return shape(BATCH, DIM), shape(BATCH, DIM), shape(), shape()


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(("name", "gathered", "numbers"), [("softmax", 2, 3), ("sigmoid", 1, 4)])
def test_gathered_pairs(mesh, name, gathered, numbers, chunk):
    """The softmax compares both ways, so it needs all images and all texts; chunks send no more.

    The numbers are loss, accuracy, and the gradients of scale and bias, which the softmax does not depend on.
    """
    found = of_loss(mesh, partial(image_text.LOSSES[name], chunk=chunk), *pairs())
    everyone = Counter({BATCH * DIM * 4: gathered})
    assert sent(found, "all-gather", "data") == everyone
    assert sent(found, "reduce-scatter", "data") == everyone
    assert sent(found, "all-reduce", "data") == {4: numbers}  # not once for each chunk
    assert len(kinds(found)) == 3


@pytest.mark.parametrize(("name", "results"), [("softmax", 1), ("sigmoid", 0)])
def test_pairs_around_the_ring(mesh, name, results):
    """On 8 devices, texts and their indices make 7 hops forward and 7 back, and their gradients 8. The softmax also
    sends a number for each text: 8 hops forward, and this number and its gradient 7 back."""
    found = of_loss(mesh, partial(image_text.LOSSES[name], ring=True), *pairs())
    assert {kind for kind, _ in kinds(found)} == {"collective-permute", "all-reduce"}
    expected = Counter({MINE * DIM * 4: 7 + 7 + 8, MINE * 4: 7 + 7 + results * (8 + 7 + 7)})
    assert sent(found, "collective-permute", "data") == expected
    assert only_scalars(sent(found, "all-reduce", "data"))


@pytest.mark.parametrize("chunk", [None, 2])
def test_views(mesh, chunk):
    """Every view, and the number of its image."""
    found = of_loss(mesh, partial(contrastive.nt_xent, chunk=chunk), shape(BATCH, 2, DIM))
    views = 2 * BATCH
    assert sent(found, "all-gather", "data") == {views * DIM * 4: 1, views * 4: 1}
    assert sent(found, "reduce-scatter", "data") == {views * DIM * 4: 1}
    assert only_scalars(sent(found, "all-reduce", "data"))
    assert len(kinds(found)) == 3


def test_images_stay_where_they_are_augmented(mesh):
    """Mixing takes one image from the next device, and its label; the rest needs no other device."""
    devices = mesh()
    sharding = batch_sharding(devices)
    batch = {
        "image": shape(BATCH, 20, 20, 3, dtype="uint8", sharding=sharding),
        "label": shape(BATCH, dtype="int32", sharding=sharding),
        "mask": shape(BATCH, dtype="bool", sharding=sharding),
    }
    spec = "random_crop(16, 2)|flip_lr|color_jitter(0.4, 0.4, 0.4, 0.1)|random_erasing|normalize(0.5, 0.5)|mixup(0.2)"
    op = augment.make_augmentation(spec, 10)
    key = jax.eval_shape(lambda: jax.random.key(0))
    compiled = jax.jit(lambda key, batch: op(key, batch), out_shardings=sharding).lower(key, batch).compile()
    found = collectives(compiled, devices)
    assert kinds(found) == {("collective-permute", ("data",))}
    assert sent(found, "collective-permute", "data") == {16 * 16 * 3 * 4: 1, 10 * 4: 1}


def test_rows_of_a_set_on_the_devices_are_picked_on_each(mesh):
    devices = mesh()
    arrays = {"image": jnp.zeros((64, 4, 4, 3), jnp.uint8), "label": jnp.zeros(64, jnp.int32)}
    fed = feed.from_arrays(arrays, lambda start, stop: None, devices, batch_size=BATCH, max_steps=2)
    indices = shape(BATCH, dtype="int32", sharding=batch_sharding(devices))
    constants = jax.tree.map(lambda x: shape(*x.shape, dtype=x.dtype, sharding=x.sharding), fed.constants)
    lowered = jax.jit(fed.fetch, out_shardings=batch_sharding(devices)).lower(constants, indices)
    assert collectives(lowered.compile(), devices) == []


@pytest.mark.slow
def test_each_microbatch_sums_its_gradients(mesh):
    """On the CPU; the GPU compiler moves the sum behind the loop (`WhileLoopAllReduceCodeMotion`)."""
    state, found = compile_step(supervised(**VIT), mesh(), accumulate=2)
    once = sizes(jax.tree.leaves(state.params))
    assert only_scalars(sent(found, "all-reduce", "data") - (once + once))
