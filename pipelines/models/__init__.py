"""Stable Diffusion 1.x: loaded, inspected without loading, fetched from the Hub; rare tokens, threads."""
