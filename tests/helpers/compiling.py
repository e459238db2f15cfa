"""How programs of tests are compiled."""

# For `jax.jit(..., compiler_options=OPTIMISED)`: the suite compiles at level 0, whose rounding is too much for a
# comparison of gradients through many ReLUs.
OPTIMISED = {"xla_backend_optimization_level": 1}
