"""The identity space: new people, edits, inversion of a photograph, and walks, as points of a weight space."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from struct import pack, unpack
from typing import TYPE_CHECKING, Any

from pipelines.config import SampleConfig, W2WInversionConfig, clean_text, from_dict, to_dict
from pipelines.jobs.worker import Job
from pipelines.methods.specs import preset
from pipelines.models.inspection import describe_base
from pipelines.runs.library import check_finished, kind_of
from pipelines.runs.store import IMPORTED
from pipelines.sampling.image_metadata import Layer, picture_facts, read_png_settings, save_png
from pipelines.sampling.stack import asked_stack
from pipelines.services.resources import Resources
from pipelines.services.training import TrainingService
from pipelines.weightspace.index import Manifest, find_space, listed, read_manifest

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from pipelines.adapters.core import Adapter
    from pipelines.jobs.model_cache import ModelCache
    from pipelines.models.base import Base
    from pipelines.sampling.delayed import EarlySteps
    from pipelines.unet_blocks import Strength

METHOD = "w2w_inversion"
CHOSEN = "chosen"  # the sampler that draws several people and keeps the most consistent one
CANDIDATES, CANDIDATE_STEPS, CANDIDATE_SEED = 4, 8, 1_000
FROM_SPACE = "space"  # the source of a run that was saved from the explorer
NO_DELAY = 1000  # the start noise of an edit that takes part in every step
MOST_PACKED = 12_000  # characters of packed coordinates that a picture stores
LINES = {"interpolate": (2, 2), "add": (2, 2), "analogy": (3, 3)}  # operations on points: fewest and most
FIRST, FIRST_SAMPLER = 1, "blended"  # the person shown first: its seed, and how it is sampled
FIRST_PICTURE = "first.png"  # of this person, in the folder of a space
BUILD = "python -m recipes.build_space --home population --out weights_index"
CONSENT = "Please confirm that you may use this photograph: it is yours, or the person in it has agreed."


@dataclass(frozen=True)
class Point:
    """An identity: its coordinates in a space, and how it came about."""

    space: str
    coordinates: tuple[float, ...]
    origin: str

    def packed(self) -> str:
        """Return the coordinates as base64 of little-endian float32."""
        return base64.b64encode(pack(f"<{len(self.coordinates)}f", *self.coordinates)).decode()

    @classmethod
    def unpacked(cls, space: str, packed: str, origin: str) -> Point:
        """Return the point of :meth:`packed` coordinates. Raises ValueError for a damaged text."""
        try:
            raw = base64.b64decode(packed, validate=True)
            return cls(space, unpack(f"<{len(raw) // 4}f", raw), origin)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError("The coordinates in this file are damaged; choose another one.") from error


@dataclass(frozen=True)
class Edit:
    """Amounts by attribute in standard deviations. ``start_noise`` is the timestep from which on they take part."""

    amounts: Mapping[str, float]
    debias: bool = False
    start_noise: int = NO_DELAY

    @property
    def moved(self) -> dict[str, float]:
        """The amounts that are not 0."""
        return {name: float(amount) for name, amount in self.amounts.items() if amount}


@dataclass(frozen=True)
class Drawing:
    """A picture of an identity, and how many denoising steps were computed for it."""

    path: Path
    steps: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a point lies: its place on the map of the first two components, its distance, and its nearest members.

    ``neighbours`` are (name, cosine, x, y). ``novelty`` is 1 − the largest cosine.
    """

    x: float
    y: float
    distance: float
    novelty: float
    neighbours: tuple[tuple[str, float, float, float], ...]


@dataclass(frozen=True)
class Scenes:
    """One identity in several scenes; ``alike`` is the identity encoder's mean cosine among them, None without one."""

    paths: tuple[Path, ...]
    prompts: tuple[str, ...]
    alike: float | None


@dataclass(frozen=True)
class Moved:
    """How far a parameter of the reader differs between two pictures: −1 to 1 for scales, 0 or 1 for choices."""

    name: str
    change: float
    told: str  # such as "0.31 → 0.72" or "none → full beard"


class _Opened:
    """A space in memory with what drawing needs; used by the worker thread only."""

    def __init__(self, folder: Path) -> None:
        from pipelines.weightspace.explore import Sliders
        from pipelines.weightspace.space import Space

        self.space = Space.open(folder)
        self._sliders: dict[bool, Sliders] = {}
        self._adapters: dict[tuple[str, str, str], Any] = {}
        self._theta: tuple[Point, Tensor] | None = None
        self.early: EarlySteps | None = None
        self.fits: set[str] = set()  # hashes of the bases that were checked

    def sliders(self, debias: bool) -> Any:
        """Return the sliders, un-projected on first use."""
        from pipelines.weightspace.explore import Sliders

        if debias not in self._sliders:
            self._sliders[debias] = Sliders(self.space, debias=debias)
        return self._sliders[debias]

    def theta(self, point: Point) -> Tensor:
        """Return the weights (d,) of a point; those of the last one are kept."""
        if self._theta is None or self._theta[0] != point:
            self._theta = point, self.space.theta(coordinates(point))
        return self._theta[1]

    def adapter(self, base: Base, theta: Tensor, *, role: str = "") -> Any:
        """Return an adapter with the weights θ; it is built once per base and role."""
        from pipelines.adapters.subspace import Subspace

        key = (base.hash, str(base.device), role)
        if key not in self._adapters:
            told = self.space.manifest
            self._adapters[key] = Subspace(
                space=told.name, ranks=told.ranks(), alpha=told.alpha, components=told.components
            )
        self._adapters[key].use(theta)
        return self._adapters[key]


def coordinates(point: Point) -> Tensor:
    """Return the coordinates as a tensor (m,) float32."""
    import torch

    return torch.tensor(point.coordinates, dtype=torch.float32)


class IdentityService:
    """Points of weight spaces: sampled, edited, inverted from a photograph, drawn, saved."""

    def __init__(self, resources: Resources, *, training: TrainingService) -> None:
        self.resources = resources
        self.training = training

    # ---- spaces and points ------------------------------------------------------------------------------------------

    def spaces(self) -> list[Manifest]:
        """Return the installed spaces for this kind of base, the user's own first; reads only their manifests."""
        family = describe_base(self.resources.base).family
        found = [read_manifest(entry.folder) for entry in listed()]
        return [told for told in found if told.family == family]

    def preview_of(self, space: str) -> Path | None:
        """Return the picture of a space's first person that ships with it, or None."""
        path = find_space(space) / FIRST_PICTURE
        return path if path.is_file() else None

    def sample(self, space: str, *, seed: int, factor: float = 1.0, sampler: str = "plain") -> Point:
        """Return a new identity; ``sampler`` is one of :data:`pipelines.weightspace.explore.SAMPLERS`, or "chosen".

        "chosen" draws ``CANDIDATES`` blended people in two scenes each, in a few steps, and takes the one whose pictures
        the identity encoder finds most alike.
        """
        if sampler == CHOSEN:
            return self._chosen(space, seed=int(seed), factor=factor)

        def work(opened: _Opened) -> Point:
            from pipelines.weightspace.explore import sample

            beta = sample(opened.space, seed=int(seed), factor=float(factor), sampler=sampler)
            return _point(space, beta, f"New person {seed}")

        return self._with_space(space, work)

    def _chosen(self, space: str, *, seed: int, factor: float) -> Point:
        told = read_manifest(find_space(space))
        candidates = [
            self.sample(space, seed=CANDIDATES * seed + index, factor=factor, sampler="blended")
            for index in range(CANDIDATES)
        ]
        config = SampleConfig(prompt=told.prompt, steps=CANDIDATE_STEPS, seed=CANDIDATE_SEED)
        prompts = (told.prompt, f"{told.prompt} on the beach")
        found = [self.scenes(each, Edit({}), config, prompts).alike for each in candidates]
        if found[0] is None:
            raise ValueError(
                "The identity encoder is not on this machine, so nobody can be chosen by likeness; sample another way."
            )
        best = max(range(CANDIDATES), key=lambda index: found[index] or 0.0)
        return replace(candidates[best], origin=f"New person {seed}")

    def member(self, space: str, name: str) -> Point:
        """Return a member of the population by its name."""

        def work(opened: _Opened) -> Point:
            told = opened.space.manifest
            names = list(told.members) or [str(row) for row in range(told.population)]
            if name not in names:
                raise ValueError(f"The population of {space!r} has no member {name[:40]!r}; choose another.")
            return _point(space, opened.space.scores[names.index(name)], f"Member {name}")

        return self._with_space(space, work)

    def of_run(self, run_id: str) -> Point:
        """Return the identity of an inverted photograph or a saved person. Raises ValueError for another run."""
        from pipelines.adapters.core import read_tensors

        run = self.resources.library.find(run_id)
        check_finished(run)
        if kind_of(run) != "subspace":
            raise ValueError(f"The run {run.name!r} is no identity of a weight space; choose one that is.")
        tensors, header = read_tensors(run.file("adapter.safetensors"))
        return Point(header["space"], tuple(tensors["coordinates"].tolist()), run.name)

    def edited(self, point: Point, edit: Edit) -> Point:
        """Return the point after an edit, as coordinates."""
        if not edit.moved:
            return point

        def work(opened: _Opened) -> Point:
            beta = opened.sliders(edit.debias).edited(coordinates(point), edit.moved)
            told = ", ".join(f"{name} {amount:+g}" for name, amount in edit.moved.items())
            return _point(point.space, beta, f"{point.origin} ({told})")

        return self._with_space(point.space, work)

    def combined(self, how: str, points: Sequence[Point], *, share: float = 0.5) -> Point:
        """Return a point from others: "interpolate" (a to b by ``share``), "add" (a + b), "analogy" (a − b + c)."""
        if how not in LINES:
            raise ValueError(
                f"People are combined by {', '.join(LINES)}, not by {str(how)[:40]!r}; choose one."
            )
        fewest, most = LINES[how]
        if not fewest <= len(points) <= most:
            raise ValueError(f"To {how} takes {fewest} people, not {len(points)}; choose the others.")
        if len({point.space for point in points}) > 1:
            raise ValueError("These people are points of different weight spaces; choose people of one.")

        def work(opened: _Opened) -> Point:
            from pipelines.weightspace.explore import combined

            weights = {"interpolate": (1 - share, share), "add": (1.0, 1.0), "analogy": (1.0, -1.0, 1.0)}[how]
            beta = combined(list(zip(map(coordinates, points), weights, strict=True)))
            return _point(points[0].space, beta, f"{how}: {', '.join(point.origin for point in points)}")

        return self._with_space(points[0].space, work)

    def moved_to(self, point: Point, x: float, y: float) -> Point:
        """Return the point at a place of the map; its further coordinates stay."""

        def work(opened: _Opened) -> Point:
            from pipelines.weightspace.explore import at_place

            beta = at_place(opened.space, coordinates(point), x, y)
            return _point(point.space, beta, point.origin)

        return self._with_space(point.space, work)

    def place(self, point: Point) -> Place:
        """Return where a point lies in its space."""

        def work(opened: _Opened) -> Place:
            from pipelines.weightspace import explore

            beta = coordinates(point)
            x, y = explore.plane(opened.space, beta).tolist()
            near = explore.nearest(opened.space, beta)
            spots = [explore.plane(opened.space, opened.space.scores[each.row]).tolist() for each in near]
            return Place(
                x=x,
                y=y,
                distance=explore.distance(opened.space, beta),
                novelty=1.0 - near[0].cosine if near else 0.0,
                neighbours=tuple(
                    (each.name, each.cosine, *spot) for each, spot in zip(near, spots, strict=True)
                ),
            )

        return self._with_space(point.space, work)

    def map(self, space: str, *, most: int = 400) -> list[tuple[float, float]]:
        """Return the places of up to ``most`` members on the plane of the first two components."""

        def work(opened: _Opened) -> list[tuple[float, float]]:
            from pipelines.weightspace.explore import plane

            spots = plane(opened.space, opened.space.scores[:most]).tolist()
            return [(x, y) for x, y in spots]

        return self._with_space(space, work)

    def recall(self, path: Path) -> tuple[Point, Edit, SampleConfig]:
        """Return the person, the edits and the settings of a picture from this page. Raises ValueError for another."""
        told = read_png_settings(Path(path))
        identity = told.get("identity")
        if not isinstance(identity, dict):
            raise ValueError(
                f"{path.name} shows no person of the identity space; choose a picture from this page."
            )
        try:
            point = Point.unpacked(
                str(identity["space"]), str(identity["coordinates"]), clean_text(str(identity["origin"]))
            )
            amounts = {str(name): float(amount) for name, amount in dict(identity["amounts"]).items()}
            edit = Edit(amounts, bool(identity["debias"]), int(identity["start_noise"]))
            names = {item.name for item in fields(SampleConfig)}
            sample = from_dict(SampleConfig, {name: value for name, value in told.items() if name in names})
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path.name} holds a person that cannot be read ({error!r}); choose another picture."
            ) from error
        find_space(point.space)
        return point, edit, sample

    # ---- pictures ---------------------------------------------------------------------------------------------------

    def draw(
        self,
        point: Point,
        edit: Edit,
        config: SampleConfig,
        *,
        beside: Sequence[Mapping[str, Any]] = (),
    ) -> Drawing:
        """Generate one picture of an identity; ``beside`` are further runs, such as a style, as for ``generate``.

        With a ``start_noise`` below 1000, the steps before the edit are those of the last picture if they fit.
        """
        if not config.prompt:
            raise ValueError("The prompt is empty; describe the picture.")
        layers = asked_stack(list(beside))

        def work(job: Job) -> Drawing:
            cache = self.resources.model_cache(job)
            base, opened = self._opened(point.space, cache)
            others = [self._other(layer, base, cache) for layer in layers]
            theta = opened.theta(point)
            adapter = opened.adapter(base, opened.sliders(edit.debias).moved(theta, edit.moved))
            stack = [(adapter, 1.0), *others]
            if edit.moved and edit.start_noise < NO_DELAY:
                before = [(opened.adapter(base, theta, role="before"), 1.0), *others]
                drawn, steps = self._delayed(opened, cache, base, before, stack, config, point, edit, layers)
            else:
                drawn = cache.draw(base, stack, config, stop=lambda: job.stop_requested)
                steps = config.steps * len(drawn.images)
            if not drawn.images:
                raise ValueError("The picture was interrupted before it was finished; try again.")
            path = self.resources.outbox / f"identity-{config.seed}-{secrets.token_hex(4)}.png"
            facts = self._facts(point, edit, config, base=base, layers=layers)
            save_png(drawn.images[0], path, facts)
            return Drawing(path=path, steps=steps, seconds=drawn.seconds, notes=drawn.notes)

        return self.resources.run_short("identity", work)

    def _delayed(
        self, opened: _Opened, cache: ModelCache, base: Base, before: Any, stack: Any,
        config: SampleConfig, point: Point, edit: Edit, layers: Sequence[Layer],
    ) -> Any:  # fmt: skip
        from pipelines.sampling.delayed import EarlySteps, sample_delayed

        of = (base.hash, point, tuple(layers), config)
        if opened.early is None or opened.early.of != of:
            opened.early = EarlySteps(of)
        with cache.aside(base):
            return sample_delayed(
                base, before, stack, config, start_noise=edit.start_noise, early=opened.early
            )

    def scenes(
        self,
        point: Point,
        edit: Edit,
        config: SampleConfig,
        prompts: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scenes:
        """Generate the identity once for each prompt, with another seed each, and measure how alike the pictures are."""
        paths = []
        for index, prompt in enumerate(prompts):
            if progress is not None:
                progress(index, len(prompts))
            paths.append(
                self.draw(point, edit, replace(config, prompt=prompt, seed=config.seed + index)).path
            )
        return Scenes(tuple(paths), tuple(prompts), self.alike(paths))

    def alike(self, paths: Sequence[Path]) -> float | None:
        """Return the identity encoder's mean cosine among pictures; None if it is not on this machine."""

        def work(job: Job) -> float | None:
            from pipelines.evaluation.metrics import among

            family = describe_base(self.resources.base).family
            encoders = self.resources.model_cache(job).encoders(family)
            if encoders is None:
                return None
            return float(
                among(encoders.identity.image_features([_opened_picture(path) for path in paths])).mean()
            )

        return self.resources.run_short("compare identities", work)

    def moved(self, before: Path, after: Path) -> list[Moved]:
        """Return what the parameter reader sees differ between two pictures, the largest change first.

        [] for bases without a parameter reader.
        """
        if describe_base(self.resources.base).family != "embedded":
            return []

        def work(job: Job) -> list[Moved]:
            from pipelines.data.photographs import to_tensor
            from pipelines.evaluation.embedded_encoders import Instruments

            pixels = to_tensor([_opened_picture(before), _opened_picture(after)])
            one, other = Instruments().read(pixels, "person")
            found = [_difference(name, one[name], other[name]) for name in one]
            return sorted(found, key=lambda each: -abs(each.change))

        return self.resources.run_short("read parameters", work)

    # ---- saving and inverting ---------------------------------------------------------------------------------------

    def save(self, point: Point, edit: Edit, *, name: str = "", picture: Path | None = None) -> str:
        """Save an identity with its edits to the Library as a finished run; return its id."""
        kept = self.edited(point, edit)

        def work(job: Job) -> str:
            from pipelines.adapters.subspace import Subspace

            cache = self.resources.model_cache(job)
            base, opened = self._opened(point.space, cache)
            adapter = Subspace.of(opened.space, beta=coordinates(kept))
            with cache.aside(base):
                adapter.low_rank(base)
            told = opened.space.manifest
            config = {
                "identifier": told.identifier,
                "class_noun": told.class_noun,
                "source": FROM_SPACE,
                "space": point.space,
                "file": clean_text(kept.origin[:200]),
            }
            title = clean_text(name) or clean_text(kept.origin[:120])
            run_id = self.resources.store.keep_adapter(adapter, base, config=config, name=title)
            if picture is not None:
                self.resources.store.get(run_id).keep_sample(picture, prompt=told.prompt, seed=0)
            return run_id

        return self.resources.run_short("save an identity", work)

    def invert(
        self,
        space: str,
        photo: Path,
        *,
        mask: Path | None = None,
        preset_name: str = "Quick",
        consent: bool,
        settings: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a run that turns one photograph into a point of a space, and return its id.

        ``mask`` is white on the face. Raises ValueError without ``consent``.
        """
        if not consent:
            raise ValueError(CONSENT)
        told = read_manifest(find_space(space))
        chosen = to_dict(preset(METHOD, told.family, preset_name)) | {
            "space": space,
            "identifier": told.identifier,
            "class_noun": told.class_noun,
            "instance_prompt": told.prompt,
            "sample_prompts": [told.prompt],
        }
        config = from_dict(W2WInversionConfig, chosen | dict(settings or {}))
        masks = {photo.name: mask} if mask is not None else None
        return self.training.start(METHOD, config, [photo], masks=masks)

    # ---- shared -----------------------------------------------------------------------------------------------------

    def _with_space(self, space: str, work: Callable[[_Opened], Any]) -> Any:
        return self.resources.run_short("identity space", lambda job: work(self._space(space)))

    def _space(self, name: str) -> _Opened:
        """Return a space in memory; it is read again when its manifest changed. For the worker's thread."""
        folder = find_space(name)
        key = (str(folder), (folder / "space.json").stat().st_mtime_ns)
        held = self.resources.opened_spaces
        if name not in held or held[name][0] != key:
            held[name] = key, _Opened(folder)
        return held[name][1]

    def _opened(self, name: str, cache: ModelCache) -> tuple[Base, _Opened]:
        base, opened = cache.base(self.resources.base), self._space(name)
        if base.hash not in opened.fits:
            opened.space.check_base(base)
            opened.fits.add(base.hash)
        return base, opened

    def _other(self, layer: Layer, base: Base, cache: ModelCache) -> tuple[Adapter, Strength]:
        run = self.resources.library.find(layer.run)
        check_finished(run)
        return cache.adapter(run.file("adapter.safetensors"), base), layer.applied

    def _facts(
        self, point: Point, edit: Edit, config: SampleConfig, *, base: Base, layers: Sequence[Layer]
    ) -> dict[str, Any]:
        """Return a picture's metadata; the identity is a layer without a run, with its coordinates beside it."""
        own = Layer(run="", name=point.origin[:120], strength=1.0)
        facts = picture_facts(config, index=0, stack=[own, *layers], base=base)
        packed = point.packed()
        if len(packed) > MOST_PACKED:
            return facts
        told = {"space": point.space, "coordinates": packed, "origin": point.origin[:120]}
        edits = {"amounts": edit.moved, "debias": edit.debias, "start_noise": edit.start_noise}
        return facts | {"identity": told | edits}


def is_identity(run: Any) -> bool:
    """Return whether a card of the Library is a point of a weight space."""
    return run.kind == "subspace" and run.method in (METHOD, IMPORTED)


def _point(space: str, beta: Tensor, origin: str) -> Point:
    return Point(space, tuple(beta.tolist()), origin)


def _opened_picture(path: Path) -> Image.Image:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.convert("RGB")


def _difference(name: str, before: float | str, after: float | str) -> Moved:
    if isinstance(before, str) or isinstance(after, str):
        told = f"{before} → {after}" if before != after else str(before)
        return Moved(name, float(before != after), told)
    return Moved(name, after - before, f"{before:.2f} → {after:.2f}")
