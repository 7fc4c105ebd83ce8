"""Spaces of adapter weights (weights2weights, Dravid et al. 2024, 2406.09413).

index       what a space is on disk: its manifest, its files and the list of spaces; needs no torch
space       the tensors of a space: coordinates to weights and back, directions of attributes
"""
