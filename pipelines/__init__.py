"""The engine: photographs in, adapters and pictures out. It does not import the page.

Letters used in the comments on tensor shapes:

    B  batch              T  tokens of a prompt      C  text width (or channels, where a layer is meant)
    H W  pixels           h w  latent cells          r  rank of a low-rank change
    k  coordinates        D  flattened weights       N  items of a set

Images inside are float32 (B, 3, H, W) in [-1, 1]; at the edges they are PIL.
Masks are (B, 1, h, w) in [0, 1].
"""
