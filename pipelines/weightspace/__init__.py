"""Spaces of adapter weights (weights2weights, Dravid et al. 2024, 2406.09413): from a population to directions.

index        what a space is on disk: its manifest, its files and the list of spaces; needs no torch
space        the tensors of a space: coordinates to weights and back, directions of attributes
batched      several LoRAs in one forward pass
population   how the identities of a population are trained, many at a time
shards       a population on disk: independent pieces of work that can be repeated and continued
engines      where the shards are trained: in this process or on Ray
components   principal components of a population's weights
directions   directions and classifiers of attributes in a space's coordinates
explore      what the page does with a space: sample, edit, compare
"""
