"""Diagnostics of a run, from its folder: what its solution does where it was not asked, what its
tangent space can represent."""
