"""Initialisers of kernels by name."""

import flax.linen as nn

KERNEL_INITS = {
    "he": nn.initializers.he_normal(),  # He et al. 2015, arXiv 1502.01852, eq. 10
    "xavier": nn.initializers.glorot_uniform(),  # Glorot & Bengio 2010, eq. 16
    "lecun": nn.initializers.lecun_normal(),  # LeCun et al. 1998, "Efficient backprop", eq. 16
}
