import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.parallel.mesh import shard_batch
from jaxvision.parallel.rules import shardings


def abstract(**shapes):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def specs(tree, mesh, rules, **kwargs):
    placed = shardings(tree, mesh, rules, **kwargs)
    assert jax.tree.structure(placed) == jax.tree.structure(tree)
    return {name: s.spec for name, s in zip(paths.names(tree), jax.tree.leaves(placed))}


def test_replicated(mesh):
    assert specs(abstract(a=(256, 256), step=()), mesh(), "replicated") == {"a": P(), "step": P()}


def test_fsdp_splits_the_largest_dimension_that_divides(mesh):
    tree = abstract(wide=(64, 512), tall=(512, 64), conv=(3, 3, 64, 64), odd=(511, 64))
    tree |= abstract(small=(64,), prime=(257, 257), n=())
    assert specs(tree, mesh(data=2, fsdp=4), "fsdp") == {
        "wide": P(None, "fsdp"),
        "tall": P("fsdp"),
        "conv": P(None, None, "fsdp"),
        "odd": P(None, "fsdp"),
        "small": P(),
        "prime": P(),
        "n": P(),
    }
    assert specs(abstract(small=(64,)), mesh(fsdp=8), "fsdp", min_fsdp_size=1) == {"small": P("fsdp")}
    assert specs(tree, mesh(), "fsdp")["wide"] == P()  # no fsdp axis to split over


def block(heads=4, width=64, hidden=128, layers=()):
    projection = {"kernel": (*layers, width, heads, width // heads), "bias": (*layers, heads, width // heads)}
    out = {"kernel": (*layers, heads, width // heads, width), "bias": (*layers, width)}
    dense_0 = {"kernel": (*layers, width, hidden), "bias": (*layers, hidden)}
    dense_1 = {"kernel": (*layers, hidden, width), "bias": (*layers, width)}
    shapes = {
        "attention": {"query": projection, "key": projection, "value": projection, "out": out},
        "mlp": {"dense_0": dense_0, "dense_1": dense_1},
    }
    return jax.tree.map(lambda s: jnp.zeros(s), shapes, is_leaf=lambda s: isinstance(s, tuple))


def test_tensor_rules_split_heads_and_hidden_units(mesh):
    placed = specs({"encoder": {"block_00": block()}}, mesh(fsdp=2, tensor=2), "tensor")
    prefix = "encoder/block_00"
    for name in ("query", "key", "value"):
        assert placed[f"{prefix}/attention/{name}/kernel"] == P("fsdp", "tensor", None)
        assert placed[f"{prefix}/attention/{name}/bias"] == P("tensor", None)
    assert placed[f"{prefix}/attention/out/kernel"] == P("tensor", None, "fsdp")
    assert placed[f"{prefix}/attention/out/bias"] == P()
    assert placed[f"{prefix}/mlp/dense_0/kernel"] == P("fsdp", "tensor")
    assert placed[f"{prefix}/mlp/dense_0/bias"] == P("tensor")
    assert placed[f"{prefix}/mlp/dense_1/kernel"] == P("tensor", "fsdp")
    assert placed[f"{prefix}/mlp/dense_1/bias"] == P()


def test_tensor_rules_split_the_second_of_a_pair_like_the_first(mesh):
    pair = {f"{name}{suffix}": layer for name, layer in block().items() for suffix in ("", "_2")}
    placed = specs({"block_00": pair}, mesh(fsdp=2, tensor=2), "tensor")
    assert P("fsdp", "tensor", None) in placed.values()
    for name, spec in placed.items():
        assert placed[name.replace("_2/", "/")] == spec


def test_scanned_stacks_keep_their_layer_axis_whole(mesh):
    placed = specs({"blocks": block(layers=(12,))}, mesh(tensor=2), "tensor")
    assert placed["blocks/attention/query/kernel"] == P(None, "fsdp", "tensor", None)
    assert placed["blocks/mlp/dense_0/bias"] == P(None, "tensor")


def test_moments_follow_their_parameter(mesh):
    params = {"block_00": block()}
    placed = specs({"params": params, "opt_state": optax.adamw(1e-3).init(params)}, mesh(fsdp=2, tensor=2), "tensor")
    for where in ("params", "opt_state/0/mu", "opt_state/0/nu"):
        assert placed[f"{where}/block_00/mlp/dense_0/kernel"] == P("fsdp", "tensor")


def test_factored_moments_are_replicated(mesh):
    params = {"block_00": block()}
    state = optax.scale_by_factored_rms(min_dim_size_to_factor=32).init(params)
    placed = specs(state, mesh(fsdp=2, tensor=2), "tensor")
    assert state.v_row["block_00"]["mlp"]["dense_0"]["kernel"].ndim == 1
    assert {placed[f"{v}/block_00/mlp/dense_0/kernel"] for v in ("v_row", "v_col", "v")} == {P()}
    assert placed["v/block_00/mlp/dense_0/bias"] == P("tensor")  # not factored


def test_own_rules(mesh):
    tree = abstract(a=(8, 8), b=(8, 8), c=(3,))
    rules = (("a", ("fsdp", None)), ["b", [["data", "fsdp"], None]], (".*", "replicated"))
    assert specs(tree, mesh(data=4, fsdp=2), rules) == {"a": P("fsdp", None), "b": P(("data", "fsdp"), None), "c": P()}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("fdsp", "unknown sharding rules 'fdsp'; did you mean 'fsdp'"),
        ((("kernel", "fsdp"),), "sharding rules must cover everything; no rule matches bias"),
        ((("kernl", "fsdp"), (".*", "replicated")), "'kernl' decides nothing"),
        (((".*", "split"),), "unknown placement for bias 'split'"),
        (((".*", ("model",)),), "unknown mesh axis 'model'"),
        (((".*", ("fsdp",)),), r"bias \(3,\): 3 does not divide over 'fsdp', which has 2 parts"),
    ],
)
def test_errors(mesh, rules, message):
    with pytest.raises(UserError, match=message):
        shardings(abstract(bias=(3,), kernel=(4, 3)), mesh(fsdp=2), rules)


def mlp_steps(mesh, rules, steps=3):
    """Trains an MLP with Adam on a fixed batch; every array lies where the rules put it."""
    keys = jax.random.split(jax.random.key(0), 3)
    tx = optax.adam(1e-2)

    def init():
        params = {
            "dense_0": {"kernel": jax.random.normal(keys[0], (16, 64)) / 4, "bias": jnp.zeros(64)},
            "dense_1": {"kernel": jax.random.normal(keys[1], (64, 16)) / 8, "bias": jnp.zeros(16)},
        }
        params = {"mlp": params}
        return {"params": params, "opt_state": tx.init(params)}

    def loss(params, batch):
        dense_0, dense_1 = params["mlp"]["dense_0"], params["mlp"]["dense_1"]
        x = jax.nn.relu(batch["x"] @ dense_0["kernel"] + dense_0["bias"])
        return jnp.mean((x @ dense_1["kernel"] + dense_1["bias"] - batch["y"]) ** 2)

    def step(state, batch):
        value, grads = jax.value_and_grad(loss)(state["params"], batch)
        updates, opt_state = tx.update(grads, state["opt_state"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, value

    placed = shardings(jax.eval_shape(init), mesh, rules, min_fsdp_size=1)
    state = jax.jit(init, out_shardings=placed)()
    x = np.asarray(jax.random.normal(keys[2], (16, 16)))
    batch = shard_batch({"x": x, "y": x[::-1]}, mesh)
    step = jax.jit(step, donate_argnums=0, out_shardings=(placed, None))
    values = []
    for _ in range(steps):
        state, value = step(state, batch)
        values.append(float(value))
    return state["params"], values


@pytest.mark.parametrize(
    ("rules", "axes"),
    [("replicated", {}), ("fsdp", {"data": 2, "fsdp": 4}), ("tensor", {"data": 2, "fsdp": 2, "tensor": 2})],
)
def test_eight_devices_equal_one(mesh, rules, axes):
    params, values = mlp_steps(mesh(**axes), rules)
    kernel = params["mlp"]["dense_0"]["kernel"]
    assert len(kernel.addressable_shards) == 8
    assert kernel.addressable_shards[0].data.size == kernel.size // {"replicated": 1, "fsdp": 4, "tensor": 4}[rules]
    expected_params, expected_values = mlp_steps(mesh(devices=1), "replicated")
    np.testing.assert_allclose(values, expected_values, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params, expected_params)
