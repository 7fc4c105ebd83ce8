"""Several subjects learn to stand in one picture."""
