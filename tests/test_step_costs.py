"""The FLOPs of a step, as its MFU and the estimates count them."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from jaxvision import experiment, step_costs
from jaxvision.config import override


def test_flops_of_a_matrix_product():
    a = jax.ShapeDtypeStruct((32, 64), jnp.float32)
    b = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    assert step_costs.flops_of(jax.jit(jnp.matmul).trace(a, b)) == 2 * 32 * 64 * 16


def test_layers_of_a_scan_count_as_often_as_they_run():
    """XLA counts the body of a loop once, so the MFU of a scanned model would be several times too low."""
    x = jax.ShapeDtypeStruct((8, 64), jnp.float32)
    layers = jax.ShapeDtypeStruct((6, 64, 64), jnp.float32)

    def scanned(x, layers):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, layers)[0]

    def unrolled(x, layers):
        for i in range(6):
            x = x @ layers[i]
        return x

    counts = [step_costs.flops_of(jax.jit(f).trace(x, layers)) for f in (scanned, unrolled)]
    assert counts[0] == 6 * 2 * 8 * 64 * 64
    assert counts[0] == pytest.approx(counts[1], rel=0.05)


@pytest.fixture
def small():
    c = ConfigDict()
    c.data = dict(name="absent", split="train", batch_size=8, classes=10, examples=100, image_size=16)
    c.model = dict(name="vit", variant="Ti/4", width=8, depth=1, mlp_dim=16, num_heads=2, pool="gap")
    c.augment = "normalize(0.5, 0.5)"
    c.task = dict(name="supervised")
    c.optimizer = dict(name="adamw", learning_rate=1e-3, weight_decay=0.1)
    c.train = dict(total="10 steps")
    return c


def test_configs_have_one_key_if_their_steps_are_one_program(small):
    small.seed = 0
    small.optimizer.schedule = "cosine"
    program = lambda built: built.trace(built.step()).lower().as_text()
    changes = [{}, {"seed": 3}, {"optimizer.learning_rate": 0.1}, {"train.total": "20 steps"}]
    configs = [override(small, change) for change in changes]
    texts = [program(experiment.build(config, training_data="ignored")) for config in configs]
    keys = [step_costs.step_key(config) for config in configs]
    assert [text == texts[0] for text in texts] == [key == keys[0] for key in keys] == [True, True, False, False]
    assert len({step_costs.program_key(config) for config in configs}) == 1


def test_frozen_parameters_are_not_counted(small):
    head = 8 * 10 + 10
    every = step_costs.step_cost(small).parameters
    rules, part = small.copy_and_resolve_references(), small.copy_and_resolve_references()
    rules.optimizer.freeze = (("head/.*", True), (".*", False))
    part.init = dict(weights="nowhere", freeze="backbone")
    assert step_costs.step_cost(rules).parameters == every - head
    assert step_costs.step_cost(part).parameters == head
    assert step_costs.step_cost(part).state_bytes < step_costs.step_cost(small).state_bytes  # no moments of the others
