"""Loss terms as pure functions on tensors; every reduction is in float32."""

from collections.abc import Mapping

from torch import Tensor


def denoising_loss(noise_pred: Tensor, noise: Tensor, weights: Tensor | None = None) -> Tensor:
    """mean_B w_b · mean ‖ε_θ(x_t, t, c) − ε‖², Ho et al. 2020 eq. 14; w = 1 without ``weights``.

    ``noise_pred`` and ``noise`` are (B, 4, h, w), ``weights`` (B,).
    """
    squared = (noise_pred.float() - noise.float()).square()
    if weights is None:
        return squared.mean()
    return (squared.flatten(1).mean(1) * weights).mean()


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
) -> dict[str, Tensor]:
    """DreamBooth's two terms, L = L_instance + λ L_prior (Ruiz et al. 2022, eq. 2): {"instance", "prior"}.

    Each half is a mean of its own and keeps the weights of its own timesteps: multiplying all 2B weights into the
    B instance errors would average the class images' weights into them and leave the prior half unweighted.
    Without a "prior" group only the instance term is there. The returned prior term holds λ already.
    """
    terms = {
        name: denoising_loss(noise_pred[part], noise[part], None if weights is None else weights[part])
        for name, part in groups.items()
    }
    if "prior" in terms:
        terms["prior"] = prior_weight * terms["prior"]
    return terms


def add_noise(latents: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
    """x_t = √ᾱ_t z + √(1 − ᾱ_t) ε with one ᾱ_t per item. ``alphas`` is (B,), the rest (B, 4, h, w)."""
    alphas = alphas.view(-1, 1, 1, 1)
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
