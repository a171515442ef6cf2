"""Where an equation holds: regions, which can be measured and in which points can be drawn.

`region` says what a region, a domain and its charts are, `boundary` what a boundary is made of; the
other files have one kind of them each.
"""

from distgram.geometry.boundary import Boundary
from distgram.geometry.region import Domain, Region
from distgram.geometry.regions import Box, Faces, Sites

__all__ = ["Boundary", "Box", "Domain", "Faces", "Region", "Sites"]
