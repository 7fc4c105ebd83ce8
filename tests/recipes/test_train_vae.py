"""The VAE decoder can be trained further without changing the latents."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.config import ASSETS
from recipes.dataset import Pictures, picture_of
from recipes.train_base import adopt
from recipes.train_vae import as_images, load_vae, train_decoder
from recipes.world import draw


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    np.save(tmp_path / "pictures" / "0000.npy", np.stack([np.asarray(draw(picture_of(i))) for i in range(4)]))
    adopt(ASSETS / "base", tmp_path, vae_steps=1)
    return tmp_path


def test_only_the_decoder_changes_and_the_next_load_has_it(work: Path):
    pictures, before = Pictures(work / "pictures"), load_vae(work)
    with torch.no_grad():
        latents = before.encode(as_images(pictures.pixels([0, 1, 2, 3]))).latent_dist.mean
    train_decoder(pictures, latents, work, steps=1, batch=2)
    train_decoder(pictures, latents, work, steps=2, batch=2)
    after = load_vae(work)
    changed = {
        name.split(".")[0]
        for (name, old), new in zip(before.state_dict().items(), after.state_dict().values(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed == {"decoder", "post_quant_conv"}


def test_an_adopted_base_gives_its_vocabulary_and_scale(work: Path):
    shipped = json.loads((ASSETS / "base" / "vae" / "config.json").read_text())
    assert json.loads((work / "scaling.json").read_text()) == {"scaling_factor": shipped["scaling_factor"]}
    name = Path("tokenizer") / "tokenizer.json"
    assert (work / name).read_bytes() == (ASSETS / "base" / name).read_bytes()
