"""The training loop, shared by all methods, and its losses."""
