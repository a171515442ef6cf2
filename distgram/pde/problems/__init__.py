"""The problems that ship with distgram: one module a partial differential equation."""
