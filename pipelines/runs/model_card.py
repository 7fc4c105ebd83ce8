"""Metadata of a finished adapter: the model card for users and the file header for other programs."""

from pathlib import Path

from pipelines.config import from_dict
from pipelines.data.subject import trigger_words
from pipelines.methods.specs import method_config
from pipelines.models.inspection import EMBEDDED
from pipelines.runs.store import Run

FITS_EMBEDDED = (
    "Made with Atelier; fits Atelier's embedded base only, not Stable Diffusion's full-size models."
)


def card(run: Run, *, step: int) -> str:
    """Return a run's model card in Markdown: method, base, prompt and versions, without markup from users."""
    config = from_dict(method_config(run.method), run.config)
    libraries = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        "# An adapter made with Atelier",
        "",
        "    name    " + run.name,
        "    method  " + run.method,
        f"    base    {run.base['name']} (hash {run.base['hash'][:16]})",
        "    prompt  " + config.usage_prompt,
        f"    step    {step}, seed {config.seed}",
        "    with    " + libraries,
        "",
        "Pictures made with it are AI-generated. It belongs to whoever holds the rights in the photographs.",
        "",
    ]
    return "\n".join(lines)


def modelspec(run: Run, *, kind: str, description: str) -> dict[str, str]:
    """Return the ModelSpec metadata of a file; ``kind`` is appended to the architecture, such as "/lora"."""
    embedded = run.base["family"] == EMBEDDED
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": ("atelier-embedded" if embedded else "stable-diffusion-v1") + kind,
        "modelspec.implementation": "diffusers",
        "modelspec.title": run.name,
        "modelspec.trigger_phrase": trigger_words(run.path, run.config),
        "modelspec.description": description,
    }


def file_facts(run: Run) -> dict[str, str]:
    """Return the metadata of a LoRA file, with the keys that ComfyUI, A1111 and kohya's scripts display."""
    base = run.base.get("name") or Path(run.base["spec"]).name
    fits = FITS_EMBEDDED if run.base["family"] == EMBEDDED else f"Made with Atelier for {base}."
    return {
        **modelspec(run, kind="/lora", description=fits),
        "ss_output_name": run.name,
        "ss_sd_model_name": base,
    }
