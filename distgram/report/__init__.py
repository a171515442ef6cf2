"""A run on a page: what it found, how it converged, what its cutoff did, and how to repeat it.

`curves` and `maps` draw, `html` makes a page of blocks and escapes every text, `page` says what
stands on the page of one run and `compare` on that of several. `kernels` has the mathematics of a
run's kernels, `sections` their pictures.
"""

from distgram.report.page import figures, report, write

__all__ = ["figures", "report", "write"]
