"""Everything that starts a run: the command line, and this machine's devices."""
