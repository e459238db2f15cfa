"""The two sides of the benchmark of training steps are the same networks, by their number of parameters."""

import jax
import pytest
import step_models  # of benchmarks/


@pytest.mark.parametrize("name", step_models.NETWORKS)
def test_both_sides_have_the_same_number_of_parameters(torch, name):
    network = step_models.NETWORKS[name]
    if network.texts:
        pytest.importorskip("open_clip")
    training = step_models.training_of(network, step_models.batch_of(network, 1))
    ours = sum(x.size for x in jax.tree.leaves(jax.eval_shape(training.init).params))
    with torch.device("cpu" if network.texts else "meta"):  # open_clip moves its model
        net, _ = network.torch()
    assert ours == sum(p.numel() for p in net.parameters())
