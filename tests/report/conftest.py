"""Fewer pixels: the same figures, drawn faster."""

import pytest


@pytest.fixture(scope="package", autouse=True)
def coarse():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distgram.report.html.DPI", 50)
        yield
