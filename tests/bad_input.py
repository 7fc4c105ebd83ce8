"""All known kinds of invalid input, each with the expected error message.

docs/errors.md is generated from this list with ``python -m tests.bad_input``. A test runs every entry and checks that
the page is up to date.
"""

import errno
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from pipelines.config import (
    CLoRAConfig,
    DreamBoothConfig,
    EditConfig,
    SampleConfig,
    TextualInversionConfig,
    from_dict,
    to_dict,
)
from pipelines.data.photographs import MAX_PHOTOS
from pipelines.data.subject import SubjectPhotos
from pipelines.files import prepare_data_root
from pipelines.methods.specs import preset
from pipelines.runs.store import Run
from pipelines.sampling.image_metadata import Layer, picture_facts, save_png
from pipelines.services.identity_space import Edit, Point
from pipelines.services.presets import PresetRow
from pipelines.studio import Studio
from pipelines.weightspace.shards import Population
from pipelines.weightspace.space import Space
from recipes.convert_w2w import converted
from ui.server import allowed_hosts

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
GOOD = DreamBoothConfig(steps=2, identifier="zwx", class_noun="dog")
PICTURE = SampleConfig(prompt="a dog", steps=2)
BASE = {"spec": "embedded", "family": "embedded", "hash": "", "name": "Embedded base"}
ONE_LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
NO_RUN = "20200101-000000-0123456789ab"
CHECKPOINT: dict[str, list[int]] = {
    "model.diffusion_model.input_blocks.0.0.weight": [4, 4, 3, 3],
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [4, 768],
    "cond_stage_model.transformer.text_model.x": [1],
    "first_stage_model.x": [1],
}


@dataclass
class Door:
    """What a case needs to submit invalid input: a Studio, a folder for files, and an API client."""

    studio: Studio
    folder: Path
    client: Any = None
    made: dict[str, str] = field(default_factory=dict)

    def file(self, name: str, content: bytes | str = b"") -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def photo(self, name: str = "photo.png", *, size: tuple[int, int] = (96, 96)) -> Path:
        """Write a valid photograph."""
        Image.effect_noise(size, 60).convert("RGB").save(self.folder / name)
        return self.folder / name

    def start(self, *paths: Path, **settings: Any) -> str:
        """Start a run; without ``photos``, use a valid photograph."""
        more = {
            key: settings.pop(key)
            for key in ("method", "base", "captions", "crops", "after", "masks", "parents", "subjects")
            if key in settings
        }
        method = more.pop("method", "dreambooth")
        return self.studio.training.start(
            method, to_dict(GOOD) | settings, list(paths or [self.photo()]), **more
        )

    def together(self, *words: tuple[str, str]) -> str:
        """Start a multi-subject run with one valid photograph per subject."""
        subjects = [SubjectPhotos(*each, [self.photo()]) for each in words]
        return self.studio.training.start("cut_mix_unmix", {"steps": 2}, subjects=subjects)

    def learn_one(self, *paths: Path, caption: str = "a photo of a dog") -> str:
        """Start a run that learns one photograph to edit it."""
        return self.studio.training.start("image_edit", {"steps": 2, "caption": caption}, list(paths))

    def concept(self) -> str:
        """Return the id of a finished concept "Rex" with the trigger word "zwx"."""
        run = self.studio.resources.store.create("c_lora", {"identifier": "zwx"}, BASE, name="Rex")
        header = {"kind": "continual", "concepts": '[{"word": "zwx", "name": ""}]'}
        content = self.tensors("concept.safetensors", {"1.token.delta": [1, 2]}, **header).read_bytes()
        run.file("adapter.safetensors").write_bytes(content)
        run.append("state", state="done", message="")
        return run.id

    def append(self, word: str, parent: str) -> str:
        """Add a concept with this trigger word to the sequence of a run."""
        return self.studio.training.start("c_lora", {"identifier": word}, [self.photo()], parents=[parent])

    def run(self, name: str = "Rex", *, state: str = "failed") -> Run:
        """Return a finished run that has no adapter."""
        run = self.studio.resources.store.create("dreambooth", to_dict(GOOD), BASE, name=name)
        run.append("state", state=state, message="")
        return run

    def finished(self, name: str = "Rex") -> Run:
        """Return a finished run whose adapter file has arbitrary content."""
        run = self.run(name, state="done")
        run.file("adapter.safetensors").write_bytes(self.tensors("x.safetensors", {}).read_bytes())
        return run

    def tensors(
        self, name: str, shapes: dict[str, list[int]], *, dtype: str = "F32", **metadata: str
    ) -> Path:
        """Write a safetensors file of zeros."""
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        end = 0
        for key, shape in shapes.items():
            size = 4
            for side in shape:
                size *= side
            header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        raw = json.dumps(header).encode()
        return self.file(name, len(raw).to_bytes(8, "little") + raw + bytes(end))

    def zipped(self, name: str, members: dict[str, bytes]) -> Path:
        """Write a zip file."""
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return self.folder / name

    def bomb_zip(self, name: str) -> Path:
        """Write a 100 kB zip file that unpacks to 100 MB."""
        with zipfile.ZipFile(self.folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("adapter_model.safetensors", bytes(100 * 2**20))
        return self.folder / name

    def overlapping(self, name: str) -> Path:
        """Write a zip file in which two entries share the same bytes."""
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            archive.writestr("unet/adapter_model.safetensors", bytes(2000))
            archive.writestr("text_encoder/adapter_model.safetensors", bytes(2000))
            archive.filelist[1].header_offset = archive.filelist[0].header_offset
        return self.folder / name

    def misnamed(self, name: str) -> Path:
        """Write a zip file with an entry name that is flagged as UTF-8 but is not valid UTF-8."""
        content = self.zipped(name, {"\u00e9.txt": b"x"}).read_bytes()
        return self.file(name, content.replace("\u00e9".encode(), b"\xff\xfe"))

    def cut_short(self) -> Run:
        """Return a run whose adapter file is truncated."""
        run = self.run(state="done")
        content = self.tensors("x.safetensors", {"a": [4]}).read_bytes()
        run.file("adapter.safetensors").write_bytes(content[:-4])
        return run

    def picture(self, name: str, **changed: Any) -> Path:
        """Write one of Atelier's pictures after its settings were changed by hand."""
        told = picture_facts(PICTURE, index=0, stack=[], base=type("B", (), dict(BASE))()) | changed
        save_png(Image.new("RGB", (8, 8)), self.folder / name, told)
        return self.folder / name

    def experiment(
        self, kind: str = "methods", *, photos: list[Path] | None = None, config: Any = None, **more: Any
    ) -> str:
        """Start an experiment; without photographs, use a valid one."""
        paths = [self.photo()] if photos is None else photos
        return self.studio.experiments.start(
            kind, config or {}, paths, class_noun="dog", identifier="zwx", **more
        )

    def ask(self, endpoint: str, **values: Any) -> Any:
        """Call a named endpoint as an API client does."""
        return self.client.predict(**values, api_name=f"/{endpoint}")


@dataclass(frozen=True)
class Bad:
    """One kind of invalid input: a description, the call, and the message. A message that ends in "..." is a prefix."""

    part: str
    what: str
    ask: Callable[[Door], Any]
    says: str


def settings(**changed: Any) -> str:
    return json.dumps({"atelier": 1, "method": "dreambooth", "config": to_dict(GOOD)} | changed)


def damaged_preset(door: Door, **changes: Any) -> Any:
    """Read a preset whose file was damaged, or whose entries were changed."""
    row = door.studio.presets.save("dreambooth", "embedded", "Mine", GOOD)
    (path,) = (door.studio.resources.root / "presets").iterdir()
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | changes) if changes else "{", encoding="utf-8")
    try:
        return door.studio.presets.read("dreambooth", "embedded", row)
    finally:
        path.unlink()


def too_many(door: Door) -> list[Path]:
    return [door.photo(f"{index}.png", size=(64, 64)) for index in range(MAX_PHOTOS + 1)]


def bomb(door: Door) -> Path:
    """Write a small PNG whose header declares 400 megapixels."""
    content = bytearray(door.photo("bomb.png").read_bytes())
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return door.file("bomb.png", bytes(content))


def animation(door: Door) -> Path:
    frames = [Image.new("RGB", (80, 80), colour) for colour in ("red", "blue")]
    frames[0].save(door.folder / "moving.png", save_all=True, append_images=frames[1:])
    return door.folder / "moving.png"


def huge(door: Door) -> Path:
    path = door.photo("huge.png")
    with path.open("r+b") as stream:
        stream.truncate(41 * 2**20)
    return path


def torn_zip(door: Door) -> Path:
    path = door.zipped("photos.zip", {"a.png": door.photo().read_bytes()})
    content = bytearray(path.read_bytes())
    content[60:160] = bytes(100)
    return door.file("photos.zip", bytes(content))


def saved_at(door: Door, number: int) -> None:
    """Save a picture while the operating system returns an error number."""
    with patch("os.replace", side_effect=OSError(number, "refused")):
        door.picture("picture.png")


def unwritable_home(door: Door) -> None:
    with patch.object(Path, "mkdir", side_effect=OSError(errno.EROFS, "refused")):
        prepare_data_root(Path("/srv/atelier"))


@contextmanager
def held(run: Run) -> Iterator[str]:
    with run.hold():
        yield run.id


def broken(door: Door, told: str) -> None:
    """Read a run whose run.json has this content."""
    folder = door.studio.resources.store.folder / "20200101-000000-00000000dead"
    folder.mkdir(parents=True)
    try:
        (folder / "run.json").write_text(told, encoding="utf-8")
        (card,) = [each for each in door.studio.library.list_runs() if each.id == folder.name]
        assert card.state == "broken", card
        door.studio.training.status(folder.name)
    finally:
        shutil.rmtree(folder)


def delete_at_work(door: Door) -> None:
    with held(door.run()) as run_id:
        door.studio.library.delete(run_id)


def gone_picture(door: Door) -> Path:
    layer = Layer(run=NO_RUN, name="Rex", strength=0.5)
    return door.picture("gone.png", stack=[layer.told()])


def told_picture(door: Door, **layer: Any) -> Path:
    return door.picture("x.png", stack=[{"run": NO_RUN, "name": "Rex", "strength": 1.0} | layer])


def settings_png(door: Door, told: Any) -> Path:
    save_png(Image.new("RGB", (8, 8)), door.folder / "x.png", told)
    return door.folder / "x.png"


PHOTOS = "Photographs"
SETTINGS = "Settings of a run"
BASES = "Bases"
RUNS = "Runs"
PICTURES = "Pictures"
FILES = "LoRA files"
MOVED = "Settings from elsewhere"
PRESETS = "Presets"
TABLE = "Comparisons"
EXPERIMENTS = "Experiments"
API = "Over the API"
SPACE = "The identity space"
SERVER = "The server"
DISK = "The disk"
EXAMPLE = "example-ada"
POINT = Point("faces", (0.0, 1.0), "New person 1")

BAD = (
    Bad(PHOTOS, "no photograph at all", lambda d: d.studio.training.start("dreambooth", GOOD, []),
        "There is no photograph here; please choose 1 to 60 JPEG, PNG or WebP files."),
    Bad(PHOTOS, "a text file called .png", lambda d: d.start(d.file("words.png", "no picture")),
        "words.png is not a JPEG, PNG or WebP picture; please convert it or leave it out."),
    Bad(PHOTOS, "an empty file", lambda d: d.start(d.file("empty.jpg")),
        "empty.jpg is not a JPEG, PNG or WebP picture; please convert it or leave it out."),
    Bad(PHOTOS, "a picture cut short", lambda d: d.start(d.file("cut.png", d.photo().read_bytes()[:300])),
        "cut.png is damaged or cut short; please choose another copy."),
    Bad(PHOTOS, "a picture of 20 x 20 pixels", lambda d: d.start(d.photo("small.png", size=(20, 20))),
        "small.png is only 20 x 20 pixels; please choose a larger picture."),
    Bad(PHOTOS, "a decompression bomb", lambda d: d.start(bomb(d)),
        "bomb.png has more than 50 megapixels; please make it smaller."),
    Bad(PHOTOS, "an animation", lambda d: d.start(animation(d)),
        "moving.png is an animation; please choose a still picture."),
    Bad(PHOTOS, "a file over 40 MB", lambda d: d.start(huge(d)),
        "huge.png is larger than 40 MB; please make it smaller."),
    Bad(PHOTOS, "a file that is not there", lambda d: d.start(d.folder / "gone.png"),
        "gone.png cannot be opened; please upload it again."),
    Bad(PHOTOS, "61 photographs", lambda d: d.start(*too_many(d)),
        "More than 60 photographs were chosen; please keep the best 60."),
    Bad(PHOTOS, "a damaged zip", lambda d: d.start(torn_zip(d)),
        "photos.zip is a zip that is damaged or protected by a password; please pack it again."),
    Bad(PHOTOS, "a zip without pictures", lambda d: d.start(d.zipped("empty.zip", {})),
        "There is no photograph here; please choose 1 to 60 JPEG, PNG or WebP files."),
    Bad(PHOTOS, "a caption file of 301 letters", lambda d: d.start(d.photo(), d.file("photo.txt", "a" * 301)),
        "photo.txt is too long for a caption; please keep it under 300 characters."),
    Bad(PHOTOS, "a caption file that is no text", lambda d: d.start(d.photo(), d.file("photo.txt", b"\xff\xfe\xfd")),
        "photo.txt is not plain text in UTF-8; please save it again as text."),
    Bad(PHOTOS, "a typed caption of 301 letters", lambda d: d.start(captions={"photo.png": "a" * 301}),
        "A text of 301 characters is too long; please keep it under 301."),
    Bad(PHOTOS, "a crop that is no pair of numbers", lambda d: d.start(crops={"photo.png": ("x", 0.0)}),
        "The crop of photo.png must be two numbers from -1 to 1; move it again."),
    Bad(PHOTOS, "a mask of another size", lambda d: d.start(masks={"photo.png": d.photo("mask.png", size=(99, 120))}),
        "The mask of photo.png has another size than the photograph; draw it again."),
    Bad(PHOTOS, "a mask for no photograph", lambda d: d.start(masks={"other.png": d.photo("mask.png")}),
        "There is a mask for 'other.png', but no such photograph; take it out."),
    Bad(PHOTOS, "a mask that has gone", lambda d: d.start(masks={"photo.png": d.folder / "gone.png"}),
        "The mask of photo.png is no longer there; draw it again."),
    Bad(PHOTOS, "a mask with nothing left of it",
        lambda d: d.studio.inspection.mask_painted(d.studio.inspection.masks([d.photo()])[0], []),
        "Nothing is left of the mask of photo.png; brush over the subject, or take the whole photo."),

    Bad(SETTINGS, "a setting that does not exist", lambda d: d.start(stepz=1), "Unknown setting 'stepz'; known ones are ..."),
    Bad(SETTINGS, "more steps than allowed", lambda d: d.start(steps=10**6), "Steps is 1000000; the largest allowed is 20000."),
    Bad(SETTINGS, "half a step", lambda d: d.start(steps=1.5), "Steps must be a whole number, not 1.5."),
    Bad(SETTINGS, "a word for a number", lambda d: d.start(learning_rate="fast"),
        "Learning rate must be a number, not 'fast'."),
    Bad(SETTINGS, "a number that is none", lambda d: d.start(learning_rate=float("nan")),
        "Learning rate must be a number, not nan."),
    Bad(SETTINGS, "a rank of 0", lambda d: d.start(rank=0), "Rank is 0; the smallest allowed is 1."),
    Bad(SETTINGS, "a word for a switch", lambda d: d.start(prior_preservation="yes"),
        "Prior preservation must be on or off, not 'yes'."),
    Bad(SETTINGS, "a choice that is not offered", lambda d: d.start(weights="half"),
        "What is trained must be one of lora, full, not 'half'."),
    Bad(SETTINGS, "a size between two", lambda d: d.start(size_px=100), "Training size is 100; it must be a multiple of 64."),
    Bad(SETTINGS, "one prompt where a list belongs", lambda d: d.start(sample_prompts="a dog"),
        "Sample prompts must be a list, not 'a dog'."),
    Bad(SETTINGS, "a longer warm-up than the run", lambda d: d.start(warmup_steps=3),
        "Warm-up takes 3 steps but the run has only 2; use fewer warm-up steps."),
    Bad(SETTINGS, "markup in the rare word", lambda d: d.start(identifier="<img src=x>"),
        "The trigger word may have up to 40 letters, digits, spaces and hyphens, not '<img src=x>'."),
    Bad(SETTINGS, "neither a rare word nor a class word", lambda d: d.start(identifier="", class_noun=""),
        "Trigger word and class word are both empty; enter at least one of them."),
    Bad(SETTINGS, "prior preservation without a class word", lambda d: d.start(class_noun="", prior_preservation=True),
        "Prior preservation needs a class word; enter one, or switch prior preservation off."),
    Bad(SETTINGS, "a method that does not exist", lambda d: d.start(method="magic"),
        "There is no method 'magic'; choose one of ..."),
    Bad(SETTINGS, "a setting that a method does not have", lambda d: from_dict(TextualInversionConfig, {"prior_weight": 1, "text_encoder": False}),
        "Unknown setting 'text_encoder'; known ones are ..."),
    Bad(SETTINGS, "two subjects for a method of one", lambda d: d.start(subjects=[SubjectPhotos("zwx", "dog", [d.photo()])] * 2),
        "DreamBooth learns from one subject; 2 subjects were given, take some out."),
    Bad(SETTINGS, "one subject for a method of several", lambda d: d.together(("zwx", "dog")),
        "Cut-Mix-Unmix learns from at least 2 subjects; add them."),
    Bad(SETTINGS, "four subjects for one picture", lambda d: d.together(*((word, "dog") for word in ("zwx", "qev", "pll", "ktn"))),
        "Cut-Mix-Unmix learns from at most 3 subjects; 4 subjects were given, take some out."),
    Bad(SETTINGS, "two photographs to be edited as one", lambda d: d.learn_one(d.photo(), d.photo("other.png")),
        "Image editing learns from one image, not 2; keep one."),
    Bad(SETTINGS, "a photograph to be edited without a caption", lambda d: d.learn_one(d.photo(), caption=" "),
        "The caption is empty; describe the photograph in plain words, then train again."),
    Bad(SETTINGS, "the same trigger word for two subjects", lambda d: d.together(("zwx", "dog"), ("Zwx", "cat")),
        "Two subjects have the trigger word 'zwx'; give each its own."),
    Bad(SETTINGS, "a subject among several without a class word", lambda d: d.together(("zwx", "dog"), ("qev", " ")),
        "Subject 2 has no class word; in one picture each subject needs its own."),
    Bad(SETTINGS, "a subject among several without a trigger word", lambda d: d.together(("", "dog"), ("qev", "cat")),
        "Subject 1 has no trigger word; in one picture each subject needs its own."),
    Bad(SETTINGS, "a run to build on, for a method that builds on none", lambda d: d.start(parents=[d.finished().id]),
        "DreamBooth does not build on other runs; leave the parents out."),
    Bad(SETTINGS, "a concept without a trigger word", lambda d: d.append("", d.concept()),
        "A concept needs a trigger word; enter one."),
    Bad(SETTINGS, "a trigger word that the sequence has already", lambda d: d.append("ZWX", d.concept()),
        "The trigger word 'zwx' already names 'Rex' in this sequence; choose another."),
    Bad(RUNS, "a concept on top of a run that holds none", lambda d: d.append("qev", d.finished().id),
        "The run 'Rex' holds no concepts; choose a run of C-LoRA to build on."),
    Bad(RUNS, "one concept compared without self-regularization", lambda d: d.studio.sequences.start_counterpart(d.concept()),
        "Without self-regularization this sequence would be the same; add a second concept with it first."),
    Bad(SETTINGS, "a concept that trains every entry of every layer",
        lambda d: from_dict(CLoRAConfig, {"weights": "full", "targets": "attention+conv"}),
        "Every entry of all attention and convolution layers is too much for each concept; train fewer layers, or a LoRA."),
    Bad(RUNS, "one concept to merge", lambda d: d.studio.library.merge_concepts([d.finished().id]),
        "A single concept cannot be merged; choose at least two runs."),
    Bad(RUNS, "concepts to merge that are none", lambda d: d.studio.library.merge_concepts([d.finished().id] * 2),
        "The run 'Rex' is not a concept; choose runs of C-LoRA."),
    Bad(SETTINGS, "settings of something else", lambda d: d.studio.training.start("dreambooth", PICTURE, [d.photo()]),  # type: ignore[arg-type]
        "The settings are not those of dreambooth; reset them to a preset."),
    Bad(SETTINGS, "a preset that does not exist", lambda d: preset("dreambooth", "embedded", "Fastest"),
        "There is no preset 'Fastest'; choose one of ..."),

    Bad(BASES, "an empty base", lambda d: d.start(base=" "),
        "The base model is empty; give a diffusers folder, a .safetensors checkpoint, or a Hub id such as owner/name."),
    Bad(BASES, "a Hub id while downloads are off", lambda d: d.start(base="someone/model"),
        "someone/model is not on this machine (a download of about 4.3 GB), and downloads are off; start Atelier with "
        "ATELIER_HUB=1 to allow them, or give a folder or a .safetensors file."),
    Bad(BASES, "a base that is nowhere", lambda d: d.start(base="nowhere at all"),
        "There is no base 'nowhere at all': give a diffusers folder, a .safetensors checkpoint, or a Hub id such as "
        "owner/name."),
    Bad(BASES, "a pickled checkpoint", lambda d: d.start(base=str(d.file("model.ckpt"))),
        "model.ckpt is a pickle, which can run any program on this machine while it is being opened; please use the "
        ".safetensors version of the same model."),
    Bad(BASES, "a folder that is no model", lambda d: d.start(base=str(d.folder)), "...is missing; the model folder is not complete."),
    Bad(BASES, "a LoRA in the place of a base", lambda d: d.start(base=str(d.tensors("lora.safetensors", {f"{ONE_LAYER}.lora_A.weight": [1, 2]}))),
        "lora.safetensors is a LoRA or another adapter, not a base model; please choose the base model that it was made for."),

    Bad(BASES, "a checkpoint without cross-attention",
        lambda d: d.start(base=str(d.tensors("bare.safetensors", {key: CHECKPOINT[key] for key in CHECKPOINT if "attn2" not in key}))),
        "bare.safetensors has no cross-attention in it; please choose a whole checkpoint."),
    Bad(BASES, "a checkpoint that predicts the clean sample",
        lambda d: d.start(base=str(d.tensors("x0.safetensors", CHECKPOINT, **{"modelspec.prediction_type": "sample"}))),
        "x0.safetensors is a model that predicts the clean sample; Atelier works with Stable Diffusion 1.4, 1.5 and models "
        "derived from them."),

    Bad(RUNS, "a run.json that is a list", lambda d: broken(d, "[]"),
        "The run 20200101-000000-00000000dead cannot be read; its run.json holds no table."),
    Bad(RUNS, "a run.json without a name", lambda d: broken(d, '{"format": 1, "method": "dreambooth"}'),
        "The run 20200101-000000-00000000dead cannot be read; its run.json has no usable 'name'."),
    Bad(RUNS, "a run.json that is cut short", lambda d: broken(d, '{"format": 1, '),
        "The run 20200101-000000-00000000dead cannot be read; its run.json is damaged (..."),
    Bad(RUNS, "a run that does not exist", lambda d: d.studio.training.status(NO_RUN),
        f"There is no run '{NO_RUN}'; it may have been deleted."),
    Bad(RUNS, "a path in the place of a run", lambda d: d.studio.import_export.export("../../etc/passwd"),
        "There is no run '../../etc/passwd'; it may have been deleted."),
    Bad(RUNS, "an example that does not exist", lambda d: d.studio.training.status("example-nobody"),
        "There is no example 'example-nobody'."),
    Bad(RUNS, "an empty name", lambda d: d.studio.library.rename(d.run().id, " \x00 "), "The new name of 'Rex' is empty; type one."),
    Bad(RUNS, "a name of 301 letters", lambda d: d.studio.library.rename(d.run().id, "a" * 301),
        "A text of 301 characters is too long; please keep it under 301."),
    Bad(RUNS, "a note of 301 letters", lambda d: d.studio.library.note(d.run().id, "a" * 301),
        "A text of 301 characters is too long; please keep it under 301."),
    Bad(RUNS, "a shipped example to be deleted", lambda d: d.studio.library.delete(EXAMPLE),
        "A shipped example cannot be changed; start your own run from it."),
    Bad(RUNS, "a run at work to be deleted", delete_at_work,
        "The run 'Rex' is still running; stop it before deleting it."),
    Bad(RUNS, "a finished run to be stopped", lambda d: d.studio.training.stop(d.run().id),
        "The run 'Rex' is not running, so it cannot be stopped."),
    Bad(RUNS, "a way to stop that does not exist", lambda d: d.studio.training.stop(d.run().id, when="soon"),
        "A run is stopped now or at the next checkpoint, not 'soon'; choose one."),
    Bad(RUNS, "a finished run to be resumed", lambda d: d.studio.training.resume(d.finished().id),
        "The run 'Rex' is finished; use “Train more” to continue it."),
    Bad(RUNS, "more steps without a checkpoint", lambda d: d.studio.training.train_more(d.finished().id, 5),
        "The run 'Rex' has no checkpoint to continue from; start a new one."),
    Bad(RUNS, "samples of a run that does not work", lambda d: d.studio.training.sample_now(d.run().id),
        "The run 'Rex' is not running; use the playground instead."),
    Bad(RUNS, "a run that does not wait to be moved", lambda d: d.studio.training.move(d.run().id, 1),
        "The run 'Rex' is not in the queue, so it cannot be moved."),
    Bad(RUNS, "a run to start after one that failed", lambda d: d.start(after=[d.run(state="failed").id]),
        "The run 'Rex' is failed, so no run can be started after it; finish it first, or leave it out."),
    Bad(RUNS, "place 0 in the queue", lambda d: d.studio.training.move(d.run().id, 0),
        "The place in the queue is 0; 1 is the next run, larger ones come later."),

    Bad(PICTURES, "no prompt", lambda d: d.studio.generation.generate(SampleConfig()),
        "The prompt is empty; describe the picture."),
    Bad(PICTURES, "a prompt of 301 letters", lambda d: SampleConfig(prompt="a" * 301),
        "A text of 301 characters is too long; please keep it under 301."),
    Bad(PICTURES, "a strength of 3", lambda d: d.studio.generation.generate(PICTURE, strength=3.0),
        "Strength is 3; it must lie between 0 and 2."),
    Bad(PICTURES, "a strength that is no number", lambda d: d.studio.generation.generate(PICTURE, strength=float("nan")),
        "Strength must be a number, not nan."),
    Bad(PICTURES, "a list of 2 block weights", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": EXAMPLE, "blocks": "1,0"}]),
        "2 block weights fit no list; write 9 (In0 to Out3), 17 or 26 (A1111) or 25 (kohya) values."),
    Bad(PICTURES, "block weights for SDXL", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": EXAMPLE, "blocks": "1" + ",1" * 11}]),
        "A list of 12 block weights is one for SDXL; for this base write 9, 17, 25 or 26 values."),
    Bad(PICTURES, "a block weight that is a letter", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": EXAMPLE, "blocks": "R" + ",1" * 16}]),
        "The block weight 'R' is not a number between -2 and 2; correct it."),
    Bad(PICTURES, "a run twice in a stack", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": EXAMPLE}] * 2),
        "The same run is in the stack twice; give it one strength."),
    Bad(PICTURES, "five runs in a stack", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": NO_RUN}] * 5),
        "5 runs are too many for one picture; stack at most 4."),
    Bad(PICTURES, "step -1 of a run in a stack", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": EXAMPLE, "step": -1}]),
        "-1 is no step of a run; give one that it has done."),
    Bad(PICTURES, "a step that a run keeps no state of", lambda d: d.studio.generation.generate(PICTURE, stack=[{"run": d.finished().id, "step": 7}]),
        "The run 'Rex' keeps no state after step 7; leave the step out to draw with its adapter."),
    Bad(PICTURES, "a recalled strength of null", lambda d: d.studio.generation.recall(told_picture(d, strength=None)),
        "x.png holds settings that cannot be used (Strength must be a number, not None.); choose a picture that was made here."),
    Bad(PICTURES, "a recalled step that is infinite", lambda d: d.studio.generation.recall(told_picture(d, step=float("inf"))),
        "x.png holds settings that cannot be used (Step must be a number, not inf.); choose a picture that was made here."),
    Bad(PICTURES, "a recalled base of 5,000 characters",
        lambda d: d.studio.generation.recall(d.picture("x.png", base={"spec": "x/" + "y" * 5000, "name": "mine"})),
        "x.png was made on the base 'mine', which is not known here; start Atelier with that base, or use its settings "
        "with another one."),
    Bad(PICTURES, "recalled settings that are a list", lambda d: d.studio.generation.recall(settings_png(d, [1])),
        "x.png holds no settings of Atelier; choose a picture that was made here."),
    Bad(PICTURES, "a sampler that does not exist", lambda d: from_dict(SampleConfig, {"scheduler": "magic"}),
        "Sampler must be one of DPM++ 2M Karras, DDIM, Euler a, UniPC, not 'magic'."),
    Bad(PICTURES, "a negative seed", lambda d: replace(PICTURE, seed=-1), "Seed is -1; the smallest allowed is 0."),
    Bad(PICTURES, "17 pictures at once", lambda d: replace(PICTURE, count=17), "Pictures is 17; the largest allowed is 16."),
    Bad(PICTURES, "an edit without words", lambda d: d.studio.editing.edit(EXAMPLE, EditConfig()),
        "The edited caption is empty; write what the picture should show."),
    Bad(PICTURES, "an edit with a run of several photographs", lambda d: d.studio.editing.edit(EXAMPLE, EditConfig(prompt="a dog")),
        "The run 'Ada' did not learn one photograph; train one on the page Edit."),
    Bad(PICTURES, "an edit that changes more than all", lambda d: EditConfig(change=1.5),
        "Keep or change is 1.5; the largest allowed is 1."),
    Bad(PICTURES, "a picture that left the history", lambda d: d.studio.generation.history.find("0" * 32, "0" * 16),
        "This picture is no longer in the history, which keeps the latest 24; choose another one."),
    Bad(PICTURES, "an invalid key of the history", lambda d: d.studio.generation.history.find("../..", "0" * 16),
        "The key of the picture history is invalid; reload the page."),
    Bad(PICTURES, "a picture without settings, dropped", lambda d: d.studio.generation.recall(d.photo("plain.png")),
        "plain.png holds no settings of Atelier; choose a picture that was made here."),
    Bad(PICTURES, "a picture whose run is gone, dropped", lambda d: d.studio.generation.recall(gone_picture(d)),
        "gone.png was made with 'Rex' at strength 0.5, which is not in the library any more; its other settings can be "
        "used with another run."),
    Bad(PICTURES, "a picture with changed settings, dropped", lambda d: d.studio.generation.recall(d.picture("x.png", steps=10**6)),
        "x.png holds settings that cannot be used (Steps is 1000000; the largest allowed is 150.); choose a picture that was "
        "made here."),
    Bad(PICTURES, "a picture of a base that is not here, dropped",
        lambda d: d.studio.generation.recall(d.picture("x.png", base={"spec": "", "name": "my base"})),
        "x.png was made on the base 'my base', which is not known here; start Atelier with that base, or use its settings "
        "with another one."),

    Bad(FILES, "a pickle", lambda d: d.studio.import_export.inspect_lora(d.file("lora.pt")),
        "lora.pt is a pickle, which can run any program on this machine while it is being opened; please use the "
        ".safetensors version of the same model."),
    Bad(FILES, "a pickle under another name", lambda d: d.studio.import_export.inspect_lora(d.file("lora.safetensors", b"\x80\x04" + bytes(98))),
        "lora.safetensors is a pickle, which can run any program on this machine while it is being opened; please use the "
        ".safetensors version of the same model."),
    Bad(FILES, "half a download",
        lambda d: d.studio.import_export.inspect_lora(d.file("lora.safetensors", d.tensors("x", {"a": [9]}).read_bytes()[:-5])),
        "lora.safetensors is cut short or has extra bytes; please download it again."),
    Bad(FILES, "a web page in the place of a file", lambda d: d.studio.import_export.inspect_lora(d.file("lora.safetensors", "<html>")),
        "lora.safetensors is not a safetensors file, or it is cut short; please download it again."),
    Bad(FILES, "a LoRA for SDXL", lambda d: d.studio.import_export.inspect_lora(d.tensors("xl.safetensors", {"lora_te2_x.lora_down.weight": [1, 2]})),
        "xl.safetensors is a LoRA for SDXL, which cannot be read here; choose a LoRA or LoCon made for SD 1.x."),
    Bad(FILES, "something else in safetensors", lambda d: d.studio.import_export.inspect_lora(d.tensors("x.safetensors", {"a.b": [2]})),
        "x.safetensors is not a LoRA for SD 1.x: 1 of its keys are unknown, the first is 'a.b'; choose another."),
    Bad(FILES, "a LoRA of whole numbers",
        lambda d: d.studio.import_export.inspect_lora(d.tensors("x.safetensors", {f"{ONE_LAYER}.lora_A.weight": [1]}, dtype="I32")),
        f"x.safetensors stores '{ONE_LAYER}.lora_A.weight' as 'I32', but a LoRA is stored in F16, BF16, F32, F64; save it "
        "again in one of these."),
    Bad(FILES, "an embedding of another width", lambda d: d.studio.import_export.import_lora(d.tensors("cat.safetensors", {"<cat>": [1024]})),
        "The embedding in cat.safetensors has width 1024 (as for Stable Diffusion 2), and this base model needs 128; "
        "load the base model it was made for."),
    Bad(FILES, "an embedding for SDXL",
        lambda d: d.studio.import_export.import_lora(d.tensors("cat.safetensors", {"clip_l": [2, 768], "clip_g": [2, 1280]})),
        "cat.safetensors is an embedding for Stable Diffusion XL; choose one made for Stable Diffusion 1.x."),
    Bad(FILES, "a zip without an adapter", lambda d: d.studio.import_export.inspect_lora(d.zipped("x.zip", {"a.txt": b"a"})),
        "x.zip holds no adapter_model.safetensors, so it is not a PEFT folder; ..."),
    Bad(FILES, "a small zip that unpacks to much", lambda d: d.studio.import_export.inspect_lora(d.bomb_zip("x.zip")),
        "x.zip unpacks to more than 64 MB; choose a smaller one."),
    Bad(FILES, "a zip whose files overlap", lambda d: d.studio.import_export.inspect_lora(d.overlapping("x.zip")),
        "x.zip contains overlapping files; pack it again."),
    Bad(FILES, "a zip with a name that is no text", lambda d: d.studio.import_export.inspect_lora(d.misnamed("x.zip")),
        "x.zip is damaged or protected by a password; pack the PEFT folder again."),
    Bad(FILES, "a run whose adapter was cut short, exported", lambda d: d.studio.import_export.export(d.cut_short().id),
        "The adapter of 'Rex' is damaged or truncated, so it cannot be exported; resume the run from its checkpoint, "
        "or train it again."),
    Bad(FILES, "a name that no Hub repository has", lambda d: d.studio.import_export.load_from_hub("../../etc"),
        "'../../etc' is not a valid Hub repository; write it as owner/name."),
    Bad(FILES, "a Hub repository while downloads are off", lambda d: d.studio.import_export.load_from_hub("someone/rex"),
        "Downloads are off, so someone/rex was not downloaded; start Atelier with ATELIER_HUB=1 to allow them, or download "
        "the .safetensors file yourself and import it."),
    Bad(FILES, "a format that is not written", lambda d: d.studio.import_export.export(d.run().id, "docx"),
        "There is no export format 'docx'; choose one of safetensors, diffusers, peft, kohya, svdiff."),
    Bad(FILES, "a run without an adapter, exported", lambda d: d.studio.import_export.export(d.run().id),
        "The run 'Rex' has no finished adapter yet; wait for it, or stop and keep it."),

    Bad(FILES, "a base in a format that is not written", lambda d: d.studio.import_export.merge_into_base(d.run().id, "docx"),
        "A base model cannot be written as 'docx'; choose one of diffusers, checkpoint."),
    Bad(FILES, "a run without an adapter, merged", lambda d: d.studio.import_export.merge_into_base(d.run().id),
        "The run 'Rex' has no finished adapter yet; wait for it, or stop and keep it."),
    Bad(FILES, "a merge at strength 0", lambda d: d.studio.import_export.merge_into_base(EXAMPLE, strength=0),
        "At strength 0 the base model would be unchanged; choose a strength up to 2."),
    Bad(FILES, "the embedded base as one checkpoint", lambda d: d.studio.import_export.merge_into_base(EXAMPLE, "checkpoint"),
        "A single checkpoint file is for a full-size Stable Diffusion 1.x model, which the embedded base model is not; "
        "save it as a diffusers folder."),

    Bad(PRESETS, "a name that is a path", lambda d: d.studio.presets.save("dreambooth", "embedded", "../up", GOOD),
        "A preset's name has 1 to 40 letters, digits, spaces or .,()+-_ and begins with a letter or digit; enter such a "
        "name."),
    Bad(PRESETS, "a name that is taken", lambda d: d.studio.presets.save("dreambooth", "embedded", "quick", GOOD),
        "There is already a preset 'Quick' of this method; choose another name."),
    Bad(PRESETS, "settings of another method", lambda d: d.studio.presets.save("svdiff", "embedded", "Mine", GOOD),
        "These settings are not those of SVDiff; choose its preset first."),
    Bad(PRESETS, "a preset that has gone",
        lambda d: d.studio.presets.read("dreambooth", "embedded", PresetRow("Mine", own=True)),
        "There is no preset 'Mine' any more; choose another."),
    Bad(PRESETS, "a damaged preset file", damaged_preset,
        "The preset file dreambooth.embedded.mine-... is damaged; delete it and save the preset again."),
    Bad(PRESETS, "a preset with an unknown setting", lambda d: damaged_preset(d, settings={"speed": 1}),
        "The preset 'Mine' cannot be used: Unknown setting 'speed'; known ones are ... Delete it and save it again."),
    Bad(PRESETS, "a preset of a later version", lambda d: damaged_preset(d, format=9),
        "The preset file dreambooth.embedded.mine-... has format 9 and this version reads 1; use the version of Atelier that "
        "wrote it."),
    Bad(PRESETS, "a shipped preset, deleted",
        lambda d: d.studio.presets.delete("dreambooth", "embedded", PresetRow("Quick")),
        "The preset 'Quick' is shipped with Atelier and stays; delete one of your own."),

    Bad(MOVED, "text that is not JSON", lambda d: d.studio.library.read_settings("steps: 5"),
        "These settings are not JSON; choose the file that Atelier wrote, unchanged."),
    Bad(MOVED, "another program's settings", lambda d: d.studio.library.read_settings('{"network_dim": 8}'),
        "These are not Atelier settings (atelier or method or config is missing); choose a file written by Atelier."),
    Bad(MOVED, "settings of a later version", lambda d: d.studio.library.read_settings(settings(atelier=9)),
        "These settings have format '9' and this program reads 1; use the version of Atelier that wrote them."),
    Bad(MOVED, "settings with something added", lambda d: d.studio.library.read_settings(settings(mood="good")),
        "These settings contain the unknown entry 'mood'; remove it."),
    Bad(MOVED, "a list for the config", lambda d: d.studio.library.read_settings(settings(config=[])),
        "In these settings, method must be a name and config a table; use the file as Atelier wrote it."),

    Bad(TABLE, "nothing to compare", lambda d: d.studio.generation.compare([], across="seeds", values=[1], config=PICTURE),
        "0 runs were chosen to compare; choose 1 to 8."),
    Bad(TABLE, "the same run twice", lambda d: d.studio.generation.compare([None, None], across="seeds", values=[1], config=PICTURE),
        "The same row was chosen twice; choose each only once."),
    Bad(TABLE, "a run without an adapter", lambda d: d.studio.generation.compare([d.run().id], across="seeds", values=[1], config=PICTURE),
        "The run 'Rex' has no finished adapter yet; wait for it, or leave it out."),
    Bad(TABLE, "no column", lambda d: d.studio.generation.compare([None], across="seeds", values=[], config=PICTURE),
        "0 seeds were given to compare; give 1 to 8."),
    Bad(TABLE, "an empty prompt among several", lambda d: d.studio.generation.compare([None], across="prompts", values=["a", " "], config=PICTURE),
        "A prompt to compare is ' '; enter a prompt for each column."),
    Bad(TABLE, "a kind of column that does not exist", lambda d: d.studio.generation.compare([None], across="moods", values=[1], config=PICTURE),
        "There is no comparison across 'moods'; choose prompts, seeds, strengths, second."),
    Bad(TABLE, "strengths of a second run where no row has one", lambda d: d.studio.generation.compare([None], across="second", values=[1], config=PICTURE),
        "No row has a second run whose strength could change; add a stack of two runs."),
    Bad(TABLE, "a row that is neither a run nor a stack", lambda d: d.studio.generation.compare([5], across="seeds", values=[1], config=PICTURE),
        'A stack is a list of tables such as {"run": id, "strength": 1}; correct it.'),

    Bad(EXPERIMENTS, "a kind that does not exist", lambda d: d.experiment("magic"),
        "There is no experiment 'magic'; choose one of methods, blocks."),
    Bad(EXPERIMENTS, "an unknown setting", lambda d: d.experiment(config={"speed": 1}),
        "Unknown setting 'speed'; known ones are ..."),
    Bad(EXPERIMENTS, "a method that does not exist", lambda d: d.experiment(config={"methods": ["hypernetwork"]}),
        "There is no method 'hypernetwork'; choose among ..."),
    Bad(EXPERIMENTS, "a prompt without its subject", lambda d: d.experiment(config={"prompts": ["a dog on the beach"]}),
        "The prompt 'a dog on the beach' does not contain {subject}, so it cannot show the subject; add it."),
    Bad(EXPERIMENTS, "no photograph", lambda d: d.experiment(photos=[]),
        "There is no photograph here; please choose 1 to 60 JPEG, PNG or WebP files."),
    Bad(EXPERIMENTS, "no pictures of the style", lambda d: d.experiment("blocks"),
        "There are no pictures of the style yet; choose a style, or add 1 to 60 pictures."),
    Bad(EXPERIMENTS, "one rare word for character and style",
        lambda d: d.experiment("blocks", style_paths=[d.photo("style.png")], style_captions={"style.png": "a"}, style_word="zwx"),
        "Character and style have the same trigger word, 'zwx'; choose another one for the style."),
    Bad(EXPERIMENTS, "an unfinished run to stand in", lambda d: d.experiment(runs={"svdiff": d.run().id}),
        "The run 'Rex' cannot replace 'svdiff'; give a finished run on the same base, under one of ..."),
    Bad(EXPERIMENTS, "deleting a recorded experiment", lambda d: d.studio.experiments.delete("example-methods"),
        "A recorded experiment cannot be changed; run your own, on the same photographs if you like."),
    Bad(EXPERIMENTS, "an experiment that does not exist", lambda d: d.studio.experiments.status(NO_RUN),
        f"There is no experiment '{NO_RUN}'; it may have been deleted."),
    Bad(EXPERIMENTS, "a path in the place of an experiment", lambda d: d.studio.experiments.delete("../../etc"),
        "There is no experiment '../../etc'; it may have been deleted."),

    Bad(API, "train_start: a setting out of bounds",
        lambda d: d.ask("train_start", photos=[], class_noun="dog", identifier="zwx", method="dreambooth",
                        preset_name="Quick", settings={"steps": 10**6}),
        "Steps is 1000000; the largest allowed is 20000."),
    Bad(API, "train_start: no photograph",
        lambda d: d.ask("train_start", photos=[], class_noun="dog", identifier="zwx", method="dreambooth",
                        preset_name="Quick", settings={}),
        "There is no photograph here; please choose 1 to 60 JPEG, PNG or WebP files."),
    Bad(API, "train_start: an unknown preset",
        lambda d: d.ask("train_start", photos=[], class_noun="dog", identifier="zwx", method="dreambooth",
                        preset_name="Fastest", settings={}),
        "There is no preset 'Fastest'; choose one of ..."),
    Bad(API, "train_start: an unknown method",
        lambda d: d.ask("train_start", photos=[], class_noun="dog", identifier="zwx", method="magic",
                        preset_name="Quick", settings={}),
        "There is no method 'magic'; choose one of ..."),
    Bad(API, "generate: no prompt", lambda d: d.ask("generate", prompt="", run_id="", strength=1.0, settings={}),
        "The prompt is empty; describe the picture."),
    Bad(API, "generate: an unknown field",
        lambda d: d.ask("generate", prompt="a dog", run_id="", strength=1.0, settings={"sampler": "DDIM"}),
        "Unknown setting 'sampler'; known ones are ..."),
    Bad(API, "generate: a strength of 9", lambda d: d.ask("generate", prompt="a dog", run_id="", strength=9.0, settings={}),
        "Strength is 9; it must lie between 0 and 2."),
    Bad(API, "generate: a run that is a path",
        lambda d: d.ask("generate", prompt="a dog", run_id="../../etc/passwd", strength=1.0, settings={}),
        "There is no run '../../etc/passwd'; it may have been deleted."),
    Bad(API, "generate_stack: an entry without a run",
        lambda d: d.ask("generate_stack", prompt="a dog", stack=[{"strength": 1.0}], settings={}),
        "An entry of the stack names no run; an entry has run, strength, blocks and step."),
    Bad(API, "generate_stack: a run that is a path",
        lambda d: d.ask("generate_stack", prompt="a dog", stack=[{"run": "../../etc/passwd"}], settings={}),
        "There is no run '../../etc/passwd'; it may have been deleted."),
    Bad(API, "train_status: an unknown run", lambda d: d.ask("train_status", run_id=NO_RUN, since=0),
        f"There is no run '{NO_RUN}'; it may have been deleted."),
    Bad(API, "train_baseline: a baseline that does not exist",
        lambda d: d.ask("train_baseline", run_id=d.run(state="done").id, baseline="ewc"),
        "There is no baseline 'ewc'; choose one of sequential, custom, merged, separate, replay, inversion, noun, word, joint."),
    Bad(API, "train_stop: a run that is not at work", lambda d: d.ask("train_stop", run_id=d.run().id, keep=True),
        "The run 'Rex' is not running, so it cannot be stopped."),
    Bad(API, "export_run: an unknown format", lambda d: d.ask("export_run", run_id=EXAMPLE, file_format="docx"),
        "There is no export format 'docx'; choose one of safetensors, diffusers, peft, kohya, svdiff."),
    Bad(API, "w2w_edit: no person", lambda d: d.ask("w2w_edit", person={}, amounts={"beard": 1}, settings={}),
        "A person is a table with space and coordinates, as w2w_sample returns it; pass that table."),
    Bad(SPACE, "a photograph without consent", lambda d: d.studio.identities.invert("faces", d.photo(), consent=False),
        "Please confirm that you may use this photograph: it is yours, or the person in it has agreed."),
    Bad(SPACE, "an empty prompt", lambda d: d.studio.identities.draw(POINT, Edit({}), SampleConfig()),
        "The prompt is empty; describe the picture."),
    Bad(SPACE, "an unknown way to combine people", lambda d: d.studio.identities.combined("multiply", [POINT, POINT]),
        "People are combined by interpolate, add, analogy, not by 'multiply'; choose one."),
    Bad(SPACE, "a point between one person", lambda d: d.studio.identities.combined("interpolate", [POINT]),
        "To interpolate takes 2 people, not 1; choose the others."),
    Bad(SPACE, "people of two spaces", lambda d: d.studio.identities.combined("add", [POINT, replace(POINT, space="cars")]),
        "These people are points of different weight spaces; choose people of one."),
    Bad(SPACE, "damaged coordinates", lambda d: Point.unpacked("faces", "###", ""),
        "The coordinates in this file are damaged; choose another one."),
    Bad(SPACE, "a run that is no point of a space", lambda d: d.studio.identities.of_run(EXAMPLE),
        "The run 'Ada' is no identity of a weight space; choose one that is."),
    Bad(SPACE, "a folder that holds no weight space", lambda d: Space.open(d.folder),
        "There is no weight space in '...': space.json is missing; choose the folder that holds it."),
    Bad(SPACE, "a weight space of a later version", lambda d: Space.open(d.file("space.json", '{"format": 9}').parent),
        "The weight space '...' has format 9 and this version reads format 1; update Atelier or build the space again."),
    Bad(SPACE, "a weight space whose manifest is cut short", lambda d: Space.open(d.file("space.json", '{"format"').parent),
        "space.json of the weight space '...' is not readable JSON; copy or build the space again."),
    Bad(SPACE, "a population that is not there", lambda d: Population.open(d.folder / "people"),
        "There is no population in 'people': population.json is missing; build one first."),
    Bad(SPACE, "the authors' files without one of them",
        lambda d: converted(d.folder, name="w2w", components=10, table=False),
        "mean.pt is missing; the source needs mean.pt, std.pt, V.pt, proj_1000pc.pt, weight_dimensions.pt of "
        "snap-research/weights2weights."),
    Bad(SERVER, "an allowed host that is an address of a page", lambda d: allowed_hosts({}, hosts=["https://me.example"]),
        "The allowed host 'https://me.example' is not a host name; write it like atelier.example.org, without https:// and without a port."),

    Bad(DISK, "a full disk", lambda d: saved_at(d, errno.ENOSPC),
        "The disk is full, so this could not be saved; free some space (delete runs, for example), then try again."),
    Bad(DISK, "a quota of the system that is used up", lambda d: saved_at(d, errno.EDQUOT),
        "Your quota on this disk is used up, so this could not be saved; free some space (delete runs, for example), then "
        "try again."),
    Bad(DISK, "a read-only disk", lambda d: saved_at(d, errno.EROFS),
        "The disk is read-only, so this could not be saved; make it writable, or set ATELIER_HOME to a folder where your "
        "user may write, then start Atelier again."),
    Bad(DISK, "missing rights", lambda d: saved_at(d, errno.EACCES),
        "The system refused access to a file or folder; allow it for your user, or set ATELIER_HOME to a folder where your "
        "user may write, then start Atelier again."),
    Bad(DISK, "a data folder that cannot be written, at the start", unwritable_home,
        "The data folder /srv/atelier cannot be used: the disk is read-only, so this could not be saved; make it "
        "writable, or set ATELIER_HOME to a folder where your user may write, then start Atelier again."),
)  # fmt: skip


def page() -> str:
    """Return the text of docs/errors.md."""
    lines = [
        "# What can be wrong, and what Atelier says",
        "",
        f"{len(BAD)} kinds of bad input, each tried by `tests/ui/test_bad_input.py`. A sentence says what happened, why, and",
        "what to do; over the API it is the error's message. Nothing is made or changed when one appears. Written by",
        "`python -m tests.bad_input`; change the list in `tests/bad_input.py`, not this page.",
    ]
    for part in dict.fromkeys(bad.part for bad in BAD):
        lines += ["", f"## {part}", "", "| given | answer |", "|---|---|"]
        for bad in BAD:
            if bad.part == part:
                says = bad.says.replace("|", "\\|").replace("<", "&lt;")
                lines.append(f"| {bad.what} | {says} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{len(BAD)} kinds in {PAGE.name}\n")
