"""Cut-Mix-Unmix (SVDiff, Han et al. 2023, 2303.11305, section 3.3): several subjects in one picture without mixing.

With probability 0.6 an update uses pictures of two subjects side by side, and the prompt may state their positions;
otherwise it uses pictures of one subject. The Unmix loss term penalizes attention of one subject's words to the other
subject's half.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.adapters.core import Adapter
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.svd_cache import Spectra, cache_folder
from pipelines.config import CutMixUnmixConfig
from pipelines.data.cut_mix import Mix, middles, plan_mixes, regions
from pipelines.data.photographs import Moments, to_images
from pipelines.data.subject import Subject
from pipelines.methods import dreambooth, svdiff
from pipelines.methods.core import View
from pipelines.methods.leakage import leakage, leakage_views, word_masks
from pipelines.methods.subject import cells_of, deal, photo_prompts
from pipelines.methods.subject import loss as denoising_terms
from pipelines.runs.store import Run
from pipelines.training.attention import unmix_loss
from pipelines.training.loop import Batch, Batches, Denoising

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "attention_layers", "batches", "loss", "observer", "prepare", "views"]

SHOWN = 6  # number of mixed pictures saved in the run
EXAMPLES = "mixed"
CROSS_ATTENTION = {
    "In0": ("down_blocks.0", 2), "In1": ("down_blocks.1", 2), "In2": ("down_blocks.2", 2),
    "Out1": ("up_blocks.1", 3), "Out2": ("up_blocks.2", 3), "Out3": ("up_blocks.3", 3),
}  # fmt: skip


def adapter(base: "Base", config: CutMixUnmixConfig, parents: Sequence[Run]) -> Adapter:
    """Return the adapter to train: spectral shifts, a LoRA, or all weights of the UNet; not injected."""
    if config.weights == "full":
        return Full(text_encoder=config.text_encoder)
    if config.weights == "lora":
        text_rank = config.text_encoder_rank if config.text_encoder else 0
        return LoRA(rank=config.rank, targets=config.targets, text_encoder_rank=text_rank, seed=config.seed)
    return Spectral(
        subset="UNet",
        text_encoder=config.text_encoder,
        batch=config.pictures_per_forward,
        norm_rate=config.norm_learning_rate / config.learning_rate,
    )


def prepare(adapter: Adapter, base: "Base", on_progress: Callable[[int, int], None]) -> None:
    """Compute the SVD of the base's weights for spectral shifts, cached per base; other adapters need no preparation."""
    if isinstance(adapter, Spectral):
        Spectra(base, cache_folder()).prepare(adapter.weights(base), on_progress)


def is_mixed(config: CutMixUnmixConfig, update: int) -> bool:
    """Return whether an update (from 0) uses mixes; depends only on the config and the update, so a resumed run agrees."""
    if update < config.alone_first * config.steps:
        return False
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + update) % 2**63)
    return bool(torch.rand((), generator=generator) < config.mix_probability)


def attention_layers(config: CutMixUnmixConfig, update: int) -> Collection[str]:
    """Return the layers whose attention maps an update needs; () for updates without the Unmix term."""
    return unmix_layers(config.unmix_layers) if config.unmix_weight and is_mixed(config, update) else ()


def watched_layers(config: Mapping[str, Any]) -> list[str]:
    """Return the layers of the Unmix term of a run's stored settings; [] for a run of another method."""
    blocks = config.get("unmix_layers")
    return unmix_layers(blocks) if blocks else []


def unmix_layers(blocks: str) -> list[str]:
    """Return the cross-attention layers of blocks such as "In1+Out2"."""
    chosen = [CROSS_ATTENTION[label] for label in blocks.split("+")]
    return [
        f"{place}.attentions.{index}.transformer_blocks.0.attn2"
        for place, count in chosen
        for index in range(count)
    ]


def batches(base: "Base", subjects: Sequence[Subject], config: CutMixUnmixConfig) -> Batches:
    """Return the batch of each update: mixes of two subjects or single subjects, then class images, mixed the same way.

    Mixes are composed in pixel space and encoded once, so a step costs as much as DreamBooth's.
    """
    alone, mixed = _Alone(base, subjects, config), _Mixed(base, subjects, config)
    return lambda index, generator: (mixed if is_mixed(config, index) else alone).draw(index, generator)


def loss(denoising: Denoising, adapter: Adapter, config: CutMixUnmixConfig) -> dict[str, Tensor]:
    """Return DreamBooth's loss terms and, for updates with mixes, the Unmix term."""
    terms = denoising_terms(denoising, adapter, config)
    if denoising.attention:
        penalty = unmix_loss(
            denoising.attention, regions=denoising.extra["regions"], tokens=denoising.extra["tokens"]
        )
        terms["unmix"] = config.unmix_weight * penalty
    return terms


class _Alone:
    """Batches with one subject per picture."""

    def __init__(self, base: "Base", subjects: Sequence[Subject], config: CutMixUnmixConfig) -> None:
        self.config, self.scaling = config, base.scaling_factor
        self.subjects = list(subjects)
        self.offsets = [sum(len(one.names) for one in subjects[:place]) for place in range(len(subjects))]
        self.moments = _joined([one.moments for one in subjects])
        self.priors = [one.class_moments for one in subjects]
        photos = [prompt for one in subjects for prompt in photo_prompts(one, config)]
        self.prompts = _table(base, [*photos, *(one.words(config.class_prompt) for one in subjects)], config)
        self.cells = _cells(subjects, config)

    def draw(self, index: int, generator: torch.Generator) -> Batch:
        count, seed = self.config.batch_size * self.config.accumulation, self.config.seed
        turns = deal(len(self.subjects), start=index * count, count=count, seed=seed)
        rows, prior_rows = [], []
        for place, turn in enumerate(turns):
            deck = self.subjects[turn].deck
            (card,) = deal(len(deck), start=index * count + place, count=1, seed=seed + 1)
            rows.append(self.offsets[turn] + deck[card])
            prior_rows.append(len(self.moments) + turn)
        latents = self.moments.sample(generator, rows)
        extra = {"cells": self.cells[rows]} if self.cells is not None else {}
        if not self.config.class_images_needed:
            return _batch(latents * self.scaling, self.prompts[rows], extra)
        drawn = []
        for place, turn in enumerate(turns):
            prior = self.priors[turn]
            assert prior is not None, "class images go with prior preservation"
            chosen = deal(len(prior), start=index * count + place, count=1, seed=seed + 2)
            drawn.append(prior.sample(generator, chosen))
        prior_latents = torch.cat(drawn)
        return _batch(
            latents * self.scaling,
            self.prompts[rows],
            extra,
            prior=(prior_latents * self.scaling, self.prompts[prior_rows]),
        )


class _Mixed:
    """Batches with two subjects per picture; prompts with and without positions alternate, in random word order."""

    def __init__(self, base: "Base", subjects: Sequence[Subject], config: CutMixUnmixConfig) -> None:
        self.config, self.scaling = config, base.scaling_factor
        self.mixes, _ = plan(subjects, config)
        self.moments = _encoded(base, self.mixes, [_pixels(one) for one in subjects])
        named = [one.words("{identifier} {class_noun}") for one in subjects]
        self.wordings = [_wordings(mix, named) for mix in self.mixes]
        texts = sorted({text for wordings in self.wordings for text in wordings})
        classes = [one.class_noun for one in subjects]
        self.prior_mixes, self.prior_moments = _mixed_class_images(base, subjects, config)
        self.prior_wordings = [_wordings(mix, classes) for mix in self.prior_mixes]
        texts += sorted({text for wordings in self.prior_wordings for text in wordings})
        self.places = {text: place for place, text in enumerate(texts)}
        self.prompts = _table(base, texts, config)
        self.tokens = {
            (mix.subjects, text): word_masks(base, text, [named[one] for one in mix.subjects])
            for mix, wordings in zip(self.mixes, self.wordings, strict=True)
            for text in wordings
        }
        self.regions = regions(*self.moments.mean.shape[-2:])
        masks = _masks(subjects)
        mixed = torch.stack([mix.picture(masks) for mix in self.mixes]) if masks else None
        self.cells = cells_of(mixed, self.moments, config)

    def draw(self, index: int, generator: torch.Generator) -> Batch:
        count, seed = self.config.batch_size * self.config.accumulation, self.config.seed
        rows = deal(len(self.mixes), start=index * count, count=count, seed=seed)
        turned = torch.randint(2, (count,), generator=generator).tolist()
        styles = [2 * ((index + place) % 2) + turn for place, turn in enumerate(turned)]
        texts = [self.wordings[row][style] for row, style in zip(rows, styles, strict=True)]
        tokens = [self.tokens[self.mixes[row].subjects, text] for row, text in zip(rows, texts, strict=True)]
        extra = {"regions": self.regions.expand(count, -1, -1, -1), "tokens": torch.stack(tokens)}
        extra |= {"cells": self.cells[rows]} if self.cells is not None else {}
        latents, prompts = self.moments.sample(generator, rows), self._embedded(texts)
        if self.prior_moments is None:
            return _batch(latents * self.scaling, prompts, extra)
        chosen = deal(len(self.prior_mixes), start=index * count, count=count, seed=seed + 2)
        of_class = [self.prior_wordings[row][style] for row, style in zip(chosen, styles, strict=True)]
        prior = self.prior_moments.sample(generator, chosen) * self.scaling
        return _batch(latents * self.scaling, prompts, extra, prior=(prior, self._embedded(of_class)))

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        return self.prompts[[self.places[text] for text in texts]]


def plan(subjects: Sequence[Subject], config: CutMixUnmixConfig) -> tuple[list[Mix], list[Mix]]:
    """Return the training mixes of a run's photographs and the held-out mixes; deterministic for the config's seed."""
    return plan_mixes(
        [one.deck for one in subjects],
        [middles(one.masks, len(one.names)) for one in subjects],
        side_px=_pixels(subjects[0]).shape[-1],
        generator=torch.Generator().manual_seed(config.seed),
    )


def _wordings(mix: Mix, words: Sequence[str]) -> list[str]:
    """Return the four prompts of a mix: with positions, the same in reverse order, without positions, the same reversed."""
    return [
        mix.prompt(words, explicit=explicit, turned=turned)
        for explicit in (True, False)
        for turned in (False, True)
    ]


def _mixed_class_images(
    base: "Base", subjects: Sequence[Subject], config: CutMixUnmixConfig
) -> tuple[list[Mix], Moments | None]:
    """Return mixes of the class images and their moments; decodes the first (at most 24) images of each class."""
    if not config.class_images_needed:
        return [], None
    pixels = []
    for one in subjects:
        assert one.class_moments is not None, "class images go with prior preservation"
        used = one.class_moments.mean[: config.class_images_needed].split(1)[:24]
        pixels.append(torch.cat([base.decode(mean * base.scaling_factor) for mean in used]).clamp(-1, 1))
    learned, _ = plan_mixes(
        [range(len(pictures)) for pictures in pixels],
        [[0.5] * len(pictures) for pictures in pixels],
        side_px=pixels[0].shape[-1],
        generator=torch.Generator().manual_seed(config.seed + 1),
    )
    return learned, _encoded(base, learned, pixels)


def _encoded(base: "Base", mixes: Sequence[Mix], pixels: Sequence[Tensor]) -> Moments:
    return _joined([base.encode_images(mix.picture(pixels).unsqueeze(0)) for mix in mixes])


def _joined(parts: Sequence[Moments]) -> Moments:
    return Moments(
        mean=torch.cat([one.mean for one in parts]), logvar=torch.cat([one.logvar for one in parts])
    )


def _pixels(subject: Subject) -> Tensor:
    assert subject.pixels is not None, "the method's spec asks for pixels"
    return subject.pixels


def _masks(subjects: Sequence[Subject]) -> list[Tensor]:
    """Return each subject's masks (N, 1, H, W), all ones if it has none; [] if no subject has masks."""
    if all(one.masks is None for one in subjects):
        return []
    return [one.masks if one.masks is not None else torch.ones_like(_pixels(one)[:, :1]) for one in subjects]


def _cells(subjects: Sequence[Subject], config: CutMixUnmixConfig) -> Tensor | None:
    masks = _masks(subjects)
    return cells_of(torch.cat(masks) if masks else None, subjects[0].moments, config)


def _table(base: "Base", prompts: list[str], config: CutMixUnmixConfig) -> Tensor:
    """Return the embeddings of the prompts, or their token ids if the text encoder is trained."""
    return base.token_ids(prompts) if config.text_encoder_is_live else base.encode_prompts(prompts)


def _batch(
    latents: Tensor,
    prompts: Tensor,
    extra: dict[str, Tensor],
    *,
    prior: tuple[Tensor, Tensor] | None = None,
) -> Batch:
    """Return a batch, followed by its class images. Their loss weights ("cells") are 1; their other extras are 0."""
    count = len(latents)
    if prior is None:
        return Batch(latents, prompts, {"instance": slice(0, count)}, extra=extra)
    fill = {name: torch.ones_like if name == "cells" else torch.zeros_like for name in extra}
    return Batch(
        torch.cat([latents, prior[0]]),
        torch.cat([prompts, prior[1]]),
        {"instance": slice(0, count), "prior": slice(count, 2 * count)},
        extra={name: torch.cat([rows, fill[name](rows)]) for name, rows in extra.items()},
    )


# Leakage and charts of a run


def observer(
    base: "Base", subjects: Sequence[Subject], config: CutMixUnmixConfig, run: Run
) -> Callable[[int, Adapter], None]:
    """Save a few of the mixed pictures in the run; return the callback that records the leakage after a step.

    After each row of samples the callback appends an event "leakage", measured on held-out mixes (if there are enough
    photographs): ``matrix``, the share of the attention of subject i's words inside subject j's half, and ``own``,
    their mean attention in their own half.
    """
    pixels = [_pixels(one) for one in subjects]
    learned, held_out = plan(subjects, config)
    named = [one.words("{identifier} {class_noun}") for one in subjects]
    _write_examples(run, learned, pixels, named)
    moments, layers = _encoded(base, held_out, pixels), unmix_layers(config.unmix_layers)

    def observe(step: int, adapter: Adapter) -> None:
        adapter.materialise()
        matrix, own = leakage(base, held_out, moments, named, layers=layers)
        run.append("leakage", step=step, subjects=named, matrix=matrix, own=own)

    return observe


def _write_examples(run: Run, mixes: Sequence[Mix], pixels: Sequence[Tensor], words: Sequence[str]) -> None:
    if run.file(f"{EXAMPLES}.json").is_file():
        return
    (run.path / EXAMPLES).mkdir(exist_ok=True)
    told: list[dict[str, Any]] = []
    step = max(1, len(mixes) // SHOWN)
    for place, mix in enumerate(mixes[::step][:SHOWN]):
        name = f"{EXAMPLES}/{place:02d}.png"
        to_images(mix.picture(pixels).unsqueeze(0))[0].save(run.file(name))
        prompt = mix.prompt(words, explicit=place % 2 == 0, turned=place % 4 > 1)
        left, right = (words[one] for one in mix.subjects)
        told.append({"file": name, "prompt": prompt, "left": left, "right": right})
    run.write_json(f"{EXAMPLES}.json", told)


def views(run: Run) -> list[View]:
    """Return the first and the latest leakage matrix, the leakage over the steps, and the views of the adapter."""
    told = [event for event in run.events() if event["kind"] == "leakage"]
    adapter_views = svdiff.views(run) or dreambooth.views(run)
    if not told:
        return adapter_views
    return [*leakage_views(told), *adapter_views]
