"""Configurations in TOML: read, checked, and turned into the objects that `distgram.solve` takes.

Nothing below this package reads a config.
"""
