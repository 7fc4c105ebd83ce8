"""Make the shipped class images: ``python -m recipes.make_class_images``.

For each class of the illustrated world the moments of the pictures that prior preservation asks for, drawn by the
embedded base itself, so that a first run on a shipped class need not wait for them.
"""

import logging
import shutil
from dataclasses import replace

from pipelines.methods.specs import preset, preset_names
from pipelines.methods.subject import SHIPPED_CLASS_MOMENTS, prior_moments
from pipelines.models.base import load_base
from recipes.world import KINDS

log = logging.getLogger(__name__)


def main() -> None:
    """Draw as many class images of each kind as the largest preset asks for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shutil.rmtree(SHIPPED_CLASS_MOMENTS, ignore_errors=True)
    base = load_base("embedded")
    presets = [preset("dreambooth", "embedded", name) for name in preset_names("dreambooth", "embedded")]
    most = max(presets, key=lambda config: config.class_images)
    for kind in KINDS:
        moments = prior_moments(
            base, replace(most, class_noun=kind, prior_preservation=True), SHIPPED_CLASS_MOMENTS
        )
        log.info("%s: %d pictures", kind, len(moments))


if __name__ == "__main__":
    main()
