"""What the tangent space of a model can represent: its kernels, and figures of them."""
