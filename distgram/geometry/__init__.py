"""Where an equation holds: regions, which can be measured and in which points can be drawn."""

from distgram.geometry.regions import Box, Faces, Region, Sites

__all__ = ["Box", "Faces", "Region", "Sites"]
