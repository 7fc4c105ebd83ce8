"""Training, sampling and evaluation of adapters. This package does not import the user interface.

Letters used in the comments on tensor shapes:

    B  batch              T  tokens of a prompt      C  text embedding width, or a layer's channels
    H W  pixels           h w  latent cells          r  rank of a low-rank update
    k  coordinates        D  flattened weights       N  items of a set

Images are float32 (B, 3, H, W) in [-1, 1] internally and PIL images in public functions.
Masks are (B, 1, h, w) in [0, 1].
"""
