"""Stable Diffusion 1.x base models: loading, inspection without loading, Hub downloads; rare tokens, CPU threads."""
