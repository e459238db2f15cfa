"""torch beside JAX: the same weights in both, the same images, and the differences of what comes out."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import OPTIMISED


@pytest.fixture(scope="session")
def torch():
    """torch, ready for the import of torchvision and timm; skips the test where one of the three is missing."""
    torch = pytest.importorskip("torch", reason="parity tests need torch")
    from torchvision_shim import allow_torchvision  # of benchmarks/

    allow_torchvision()
    pytest.importorskip("torchvision", reason="parity tests need torchvision", exc_type=Exception)
    pytest.importorskip("timm", reason="parity tests need timm", exc_type=Exception)
    torch.set_num_threads(2)
    return torch


@pytest.fixture(autouse=True)
def seeded(torch):
    """What a test draws does not follow from those before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def compare(torch):
    """`compare(reference, model, rules, size, train=False, gradient=False)`: logits within 1e-4 of their scale.

    `rules` are substitutions (pattern, replacement) that turn a path of ours into the reference's name.
    With `gradient`, that of the logits' mean square by the images is compared too.
    """

    def run(reference, model, rules, size, train=False, gradient=False):
        put_in_general_position(torch, reference)
        images = torch.randn(2, 3, size, size, requires_grad=gradient)
        # State before the forward pass: in training it moves the running statistics.
        state = {name: value.detach().clone() for name, value in reference.state_dict().items()}
        with torch.set_grad_enabled(gradient):
            want = reference.train(train)(images)
        x = jnp.asarray(images.detach().permute(0, 2, 3, 1).numpy())
        variables = convert(state, jax.eval_shape(model.init, jax.random.key(0), x), rules)

        def logits(x, variables):  # which as constants of the program would take gigabytes
            return model.apply(variables, x, train=train, mutable=["batch_stats"])[0][1]["logits"]

        assert want.abs().max() > 0.1
        assert_close(jax.jit(logits, compiler_options=OPTIMISED)(x, variables), want.detach().numpy())
        if gradient:
            (want**2).mean().backward()
            squares = lambda x, variables: (logits(x, variables) ** 2).mean()
            got = jax.jit(jax.grad(squares), compiler_options=OPTIMISED)(x, variables)
            assert_close(got, images.grad.permute(0, 2, 3, 1).numpy())

    return run


def put_in_general_position(torch, reference):
    """No scale stays 0 or 1, no bias 0."""
    with torch.no_grad():
        for name, value in reference.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                value += 0.3 * torch.rand_like(value)
            elif value.ndim == 2:
                value *= 3  # as small as they start, the two forms of GELU could not be told apart
            elif name.startswith("head") or "token" in name:
                value += 0.02 * torch.randn_like(value)


def convert(state, variables, rules):
    """Fills `variables` from a torch state dict: renamed by `rules`, kernels with their output axis last."""
    state = {name: value.numpy() for name, value in state.items()}
    for name in [n for n in state if ".qkv." in n]:
        parts = np.split(state.pop(name), 3)
        state.update({name.replace("qkv", part): x for part, x in zip(("query", "key", "value"), parts)})
    unused = {name for name in state if not name.endswith("num_batches_tracked")}

    def leaf(path, x):
        name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for pattern, replacement in (*rules, (r"(kernel|scale)$", "weight")):
            name = re.sub(pattern, replacement, name)
        name = name.replace("/", ".")
        unused.remove(name)
        value = state[name]
        axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim if name != "head.pos_embed" else 0, range(value.ndim))
        return jnp.asarray(value.transpose(axes).reshape(x.shape))

    filled = jax.tree.map_with_path(leaf, variables)
    assert not unused
    return filled


def assert_close(got, want):
    """Within 1e-4 of the largest value."""
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max(), rtol=0)


@pytest.fixture(scope="session")
def sensitive(torch):
    """`sensitive(model)`: a torch model in evaluation, with weights that show an epsilon and the form of a GELU."""
    return functools.partial(with_sensitive_weights, torch)


def with_sensitive_weights(torch, model):
    """Weights with which an epsilon and the form of a GELU show: what is normalised is small, what a GELU sees is not.

    Convolutions and branches make numbers of a hundredth, whose variance is not far above an epsilon; norms make ones
    of them, and the layer before a GELU keeps these.
    """
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn_like(value)
            fan_in = max(value[0].numel(), 1) if value.ndim > 1 else 1
            if name.endswith("running_var"):
                value.copy_(1e-4 * (0.5 + torch.rand_like(value)))
            elif name.endswith("running_mean"):
                value.copy_(0.003 * noise)
            elif value.ndim == 1:
                norm = name.endswith("weight")
                value.copy_(1 + 0.2 * noise if norm else 0.003 * noise)
                if "gamma" in name:
                    value.copy_(0.5 + 0.1 * noise)
            elif re.search(r"fc1|mlp_tokens|c_fc|qkv|in_proj|head|^fc|attn_pool.(?:q|kv)", name) and value.ndim > 1:
                value.copy_(1.5 * noise / math.sqrt(fan_in))
            elif re.search(r"fc2|c_proj", name) and value.ndim == 2:
                value.copy_(0.1 * noise / math.sqrt(fan_in))
            elif re.search(r"embed$|token$|embedding$|latent", name):
                value.copy_(0.01 * noise)
            else:
                value.copy_(0.01 * noise / math.sqrt(fan_in))
    return model.eval()
