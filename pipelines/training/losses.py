"""Loss terms as pure functions on tensors; all reductions are in float32."""

from collections.abc import Mapping

import torch
from torch import Tensor


def denoising_loss(
    noise_pred: Tensor, noise: Tensor, weights: Tensor | None = None, *, cells: Tensor | None = None
) -> Tensor:
    """mean_B w_b · mean ‖ε_θ(x_t, t, c) − ε‖², Ho et al. 2020 eq. 14; w = 1 without ``weights``.

    ``noise_pred`` and ``noise`` are (B, 4, h, w), ``weights`` (B,). ``cells`` (B, 1, h, w) weights the latent cells: the
    inner mean becomes Σ c·e / Σ c, so that small and large subjects have the same weight.
    """
    squared = (noise_pred.float() - noise.float()).square()
    if cells is not None:
        errors = (squared.mean(1, keepdim=True) * cells).flatten(1).sum(1) / cells.flatten(1).sum(1)
    elif weights is None:
        return squared.mean()
    else:
        errors = squared.flatten(1).mean(1)
    return errors.mean() if weights is None else (errors * weights).mean()


def cell_weights(masks: Tensor, background_weight: float) -> Tensor:
    """b + (1 − b)·m for masks m (B, 1, h, w) in [0, 1]: 1 on the subject, b on the background.

    For an empty mask, all cells have the weight 1, so the whole photograph is used.
    """
    covered = masks.flatten(1).sum(1).view(-1, 1, 1, 1) > 0
    return torch.where(covered, background_weight + (1 - background_weight) * masks, torch.ones_like(masks))


def min_snr_weights(alphas_cumprod: Tensor, timesteps: Tensor, gamma: float) -> Tensor:
    """min(SNR, γ) / SNR with SNR = ᾱ_t / (1 − ᾱ_t), for noise prediction (Hang et al. 2023, eq. 9). (B,)"""
    alpha = alphas_cumprod.to(timesteps.device)[timesteps].float()
    snr = alpha / (1 - alpha)
    return snr.clamp(max=gamma) / snr


def prior_preservation_terms(
    noise_pred: Tensor,
    noise: Tensor,
    *,
    groups: Mapping[str, slice],
    prior_weight: float,
    weights: Tensor | None = None,
    cells: Tensor | None = None,
) -> dict[str, Tensor]:
    """DreamBooth's two terms, L = L_instance + λ L_prior (Ruiz et al. 2022, eq. 2): {"instance", "prior"}.

    Each group is averaged separately with the weights of its own timesteps: applying all 2B weights to the B instance
    errors would mix in the class images' weights and leave the prior term unweighted. Without a "prior" group only the
    instance term is returned. The returned prior term includes λ. ``cells`` (B, 1, h, w) are the weights of the latent
    cells, see :func:`denoising_loss`.
    """
    terms = {
        name: denoising_loss(
            noise_pred[part],
            noise[part],
            None if weights is None else weights[part],
            cells=None if cells is None else cells[part],
        )
        for name, part in groups.items()
    }
    if "prior" in terms:
        terms["prior"] = prior_weight * terms["prior"]
    return terms


def add_noise(latents: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
    """x_t = √ᾱ_t z + √(1 − ᾱ_t) ε with one ᾱ_t per item. ``alphas`` is (B,), the rest (B, 4, h, w)."""
    alphas = alphas.view(-1, 1, 1, 1)
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
