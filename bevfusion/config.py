"""What can be set, its defaults, and reading it from YAML. Only `build.py` and `training/run.py` read the sections."""

import copy
import difflib
import itertools
import logging
import math
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from bevfusion import parsing
from bevfusion.choices import meant
from bevfusion.filters.settings import FilterConfig
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

Option = bool | int | float | str

# Former names of keys, from the root, which stay readable: one line a name.
RENAMED = {
    "simulation.drawn_m": "simulation.map_noise_m",
    "simulation.swerve_m": "simulation.map_warp_m",
    "train.lesson_weight": "train.auxiliary_weight",
}


SHIPPED_CONFIGS = Path(str(files("bevfusion") / "configs"))


class ConfigError(ValueError):
    """A configuration that cannot be used: one line that names the key and the remedy."""


class Section(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error, never a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class BevConfig(Section):
    """The raster of a scan, centred on the LiDAR."""

    range_m: float = Field(40.0, gt=0, description="half the side of the square that is seen")
    cell_m: float = Field(0.5, gt=0)
    slices_m: tuple[float, ...] = Field((0.3, 1.0, 2.0, 3.5, 6.0), description="borders of height slices above ground")


class EncoderConfig(Section):
    """A convolutional encoder; both branches end with the same number of channels and the same cell size."""

    width: int = Field(24, ge=4, description="channels at the finest level; doubled at each coarser one")
    levels: int = Field(3, ge=1, description="resolutions inside the encoder, each half the one before")
    blocks: int = Field(1, ge=1, description="residual blocks a level")


class SparseConfig(Section):
    """The sparse encoder's voxels and what convolves them."""

    voxel_m: float = Field(0.25, gt=0, description="side of a voxel: bev.cell_m, or its half, quarter, ...")
    layer_m: float = Field(0.5, gt=0, description="height of a voxel")
    low_m: float = Field(-0.5, description="height above ground where the lowest layer begins")
    layers: int = Field(16, ge=1)
    backend: Literal["auto", "spconv", "reference"] = Field(
        "auto", description="auto: spconv where it is installed and there is CUDA, else plain torch"
    )


class AttentionConfig(Section):
    """One attention mechanism of `bevfusion.attention`, by name, and its options."""

    attention: str = "none"
    options: dict[str, Option] = {}


class HeadConfig(Section):
    """Matching and read-out."""

    match_channels: int = Field(8, ge=1, description="channels that templates and map are compared in")
    yaw_step_deg: float = Field(2.0, gt=0, le=30)
    confidence: bool = Field(True, description="cells of the template are weighted by a learned confidence")
    road_contrast: float = Field(
        0.5, ge=0, description="weight of what dark, smooth ground says of the map's roads, added when training is over"
    )
    direction: bool = Field(False, description="a head that learns which way the road goes; without it the map says it")


class ModelConfig(Section):
    """The network."""

    channels: int = Field(32, ge=4, description="channels of both branches where they meet")
    stride: Literal[1, 2, 4] = Field(2, description="feature cells are this many BEV cells wide")
    encoder: Literal["raster", "sparse"] = Field("raster", description="how the scan is encoded")
    sparse: SparseConfig = SparseConfig()
    lidar: EncoderConfig = EncoderConfig()
    map: EncoderConfig = EncoderConfig()
    blocks: AttentionConfig = Field(
        AttentionConfig(), description="inside every residual block of the LiDAR encoder; the map's has none"
    )
    scan: AttentionConfig = Field(
        AttentionConfig(attention="coordinate"), description="on the features of the scan alone, before the matching"
    )
    fusion: AttentionConfig = Field(
        AttentionConfig(attention="cbam"), description="channel attention where scan and map lie on each other"
    )
    refine: AttentionConfig = Field(
        AttentionConfig(attention="coordinate"), description="spatial attention on what fusion makes of both"
    )
    heads: HeadConfig = HeadConfig()


class SearchConfig(Section):
    """How far the prior may be off; training draws priors from this window, evaluation may choose its own."""

    offset_m: float = Field(20.0, gt=0)
    offset_deg: float = Field(10.0, gt=0, le=180)


class SensorConfig(Section):
    """A spinning LiDAR that does not ship: its beams and how it measures. Scans are simulated as taken at once."""

    name: str = Field("own", pattern="^[A-Za-z0-9_-]+$", description="of folders and messages")
    elevations_deg: tuple[Annotated[float, Field(gt=-90, lt=90)], ...] = Field((), description="of the beams")
    azimuths_deg: tuple[Annotated[float, Field(ge=-180, le=180)], ...] = Field(
        (), description="where beams of one firing point, counter-clockwise, as many as elevations; none: all ahead"
    )
    beams: str = Field("", description="in place of both: a CSV file with columns elevation and perhaps azimuth")
    columns: int | None = Field(None, ge=16, description="firings a turn")
    points_per_s: float = Field(0.0, ge=0, description="in place of columns, with rate_hz: as data sheets have it")
    rate_hz: float = Field(0.0, ge=0, description="turns a second")
    max_range_m: float = Field(100.0, gt=0)
    range_noise_m: float = Field(0.02, ge=0, le=1, description="standard deviation")
    height_m: float = Field(1.8, gt=0, description="above the road, as mounted")
    dropout: float = Field(0.03, ge=0, lt=1, description="share of good returns that are lost")

    @model_validator(mode="after")
    def _complete(self) -> "SensorConfig":
        if bool(self.elevations_deg) == bool(self.beams) or (self.beams and self.azimuths_deg):
            raise ValueError("expected the beams by elevations_deg, or by a file of beams")
        if self.azimuths_deg and len(self.azimuths_deg) != len(self.elevations_deg):
            raise ValueError(
                f"expected an azimuth for each of {len(self.elevations_deg)} beams, got {len(self.azimuths_deg)}"
            )
        if (self.columns is None) != bool(self.points_per_s and self.rate_hz) or (
            self.columns is not None and (self.points_per_s or self.rate_hz)
        ):
            raise ValueError("expected columns (firings a turn), or points_per_s and rate_hz")
        return self

    @property
    def beams_deg(self) -> tuple[tuple[float, float], ...]:
        """Elevation and azimuth of the beams that are given here."""
        azimuths = self.azimuths_deg or (0.0,) * len(self.elevations_deg)
        return tuple(zip(self.elevations_deg, azimuths, strict=True))


_NAMED, _DESCRIBED = "<name>", "<section>"  # what a sensor is given by, in the paths of pydantic's errors


def _given_by(value: Any) -> str:
    return _NAMED if isinstance(value, str) else _DESCRIBED


SensorChoice = Annotated[
    Annotated[str, Tag(_NAMED)] | Annotated[SensorConfig, Tag(_DESCRIBED)], Discriminator(_given_by)
]


class SimulationConfig(Section):
    """Simulated drives: which maps, how many frames, by which sensors, and how wrong the maps are."""

    train: tuple[str, ...] = Field(("town:1", "town:2", "town:3", "town:4"), description="town:SEED or a map file")
    val: tuple[str, ...] = ("town:101",)
    test: tuple[str, ...] = ("town:201",)
    val_seed: int | None = Field(
        None, ge=0, description="of validation drives, so that maps that train can serve; null: as all else"
    )
    frames: int = Field(300, ge=1, description="frames a training map")
    eval_frames: int = Field(100, ge=1, description="frames a validation or test map")
    spacing_m: float = Field(5.0, gt=0, description="distance between frames")
    sensors: tuple[SensorChoice, ...] = Field(
        ("hdl64e",), min_length=1, description="by name, by a YAML file, or described here; maps take them in turn"
    )
    columns: int = Field(1024, ge=64, description="firings a turn of sensors by name; others have their own")
    missing: float = Field(0.05, ge=0, le=1, description="share of mapped buildings that are not there")
    shifted: float = Field(0.10, ge=0, le=1, description="share of mapped buildings that stand elsewhere")
    new: float = Field(0.05, ge=0, le=1, description="share of buildings that the map lacks")
    map_noise_m: float = Field(
        0.25,
        ge=0,
        description="of houses and single things from their place on the map: standard deviation along each axis",
    )
    map_warp_m: float = Field(
        0.0, ge=0, description="the same of streets, and of houses, but smooth: what is near is off alike"
    )
    vehicles: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="density of traffic, 1 is usual; maps take them in turn"
    )
    hills: tuple[Annotated[float, Field(ge=0, le=0.12)], ...] = Field(
        (0.007, 0.03, 0.007, 0.06, 0.015, 0.09, 0.007),
        min_length=1,
        description="root mean square of the land's slope; maps take them in turn",
    )
    cache: str = Field("data/cache", description="folder of finished drives, made once")


class DriveSource(Section):
    """One drive to learn from: a recorded one on its map, or a simulated one. Paths are relative to where one works."""

    simulate: str = Field("", description="town:SEED or a map file; how is in the section simulation")
    drive: str = Field("", description="a recorded drive, any that `evaluate` takes")
    map: str = Field("", description="of the recorded drive")
    poses: str = Field(
        "", description="its true poses, in place of its own: as --truth of `evaluate`, e.g. the poses.csv of `track`"
    )
    start: int = Field(0, ge=0, description="first frame")
    frames: int | None = Field(None, ge=1, description="so many at most; null: all")
    every: int = Field(1, ge=1, description="every so many frames only")
    topics: tuple[str, ...] = Field((), description="of a bag: PART=NAME each, as --topic of `evaluate`")
    extrinsics: tuple[float, ...] = Field((), description="of a bag: the LiDAR on the vehicle, as --extrinsics")
    columns: tuple[str, ...] = Field((), description="of bare scan files, as --columns")

    @model_validator(mode="after")
    def _one_of_both(self) -> "DriveSource":
        if bool(self.simulate) == bool(self.drive):
            raise ValueError("expected {drive: PATH, map: PATH} or {simulate: MAP}")
        if self.drive and not self.map:
            raise ValueError(f"the drive {self.drive} needs a map: {{drive: {self.drive}, map: PATH}}")
        fields = type(self).model_fields
        others = [name for name in fields if name != "simulate" and getattr(self, name) != fields[name].default]
        if self.simulate and others:
            raise ValueError(f"{', '.join(others)}: of recorded drives, and {self.simulate} is to be simulated")
        return self


Role = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("train", "val", "test")
_Sources = Annotated[tuple[DriveSource, ...], Field(min_length=1)]


class DataConfig(Section):
    """Which drives, recorded and simulated ones at will; each list stands in place of the one in `simulation`."""

    train: _Sources | None = Field(None, description="null: the maps of simulation.train, simulated")
    val: _Sources | None = None
    test: _Sources | None = None


class AugmentConfig(Section):
    """How a training sample is varied; all off gives the drive as it is."""

    turn: bool = Field(True, description="tile axes turned by any angle")
    mirror: bool = True
    point_dropout: float = Field(0.5, ge=0, lt=1, description="largest share of points dropped")
    beam_dropout: float = Field(0.3, ge=0, lt=1, description="largest share of elevation rings dropped")
    intensity_dropout: float = Field(0.3, ge=0, le=1, description="chance that the scan comes without reflectance")
    vehicles: int = Field(12, ge=0, description="most vehicles inserted")
    vehicle_removal: float = Field(0.3, ge=0, le=1, description="chance that labelled vehicles are taken out")
    map_dropout: float = Field(
        0.0, ge=0, le=1, description="largest share of kinds of things (houses, greenery, ...) that the map lacks"
    )
    scans: int = Field(1, ge=1, description="most scans put together by odometry; every other sample has a single one")


Part = Literal["scan", "map", "match", "fusion", "check", "direction"]
"""Parts of the network that training may leave as they are."""


class TrainConfig(Section):
    """Optimization."""

    weights: str = Field("", description="what to begin with, in place of chance: as CHECKPOINT of `evaluate`")
    blend: float = Field(
        1.0, ge=0, le=1, description="share of the way from these weights to the trained ones, at the end"
    )
    steps: int = Field(600, ge=1)
    batch_size: int = Field(4, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warmup_steps: int = Field(30, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    check_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the losses where scan and map are fused; no gradient of these goes into the towers",
    )
    direction_weight: float = Field(1.0, ge=0, description="weight of the direction head's loss, where there is one")
    freeze: tuple[Part, ...] = Field((), description="parts that stay as they begin: the towers of scan and map, ...")
    auxiliary_weight: float = Field(0.1, ge=0, description="weight of losses that a mechanism brings along")
    validate_every: int = Field(200, ge=1, description="steps between validations")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="processes that prepare samples; auto: with CUDA all cores but one, else 1"
    )
    devices: int | Literal["auto"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = Field(
        ("csv", "tensorboard"), description="where losses and rates go, by Lightning's names"
    )
    compile: bool = Field(False, description="training steps by torch.compile; for GPUs: no faster on a CPU")


_LISTS_OF_DRIVES = ("data", "simulation")  # the sections that have one for each role


class Config(Section):
    """Everything that makes a run."""

    name: str = "fusion"
    seed: int = Field(0, ge=0)
    bev: BevConfig = BevConfig()
    model: ModelConfig = ModelConfig()
    search: SearchConfig = SearchConfig()
    simulation: SimulationConfig = SimulationConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    filter: FilterConfig = FilterConfig()

    @model_validator(mode="before")
    @classmethod
    def _one_list_of_drives(cls, values: Any) -> Any:
        """Leave simulation.ROLE empty where data.ROLE is given; both at once are refused."""
        data, simulation = (values.get(name, {}) if isinstance(values, dict) else None for name in _LISTS_OF_DRIVES)
        if not isinstance(data, dict) or not isinstance(simulation, dict):
            return values
        given = [role for role in ROLES if data.get(role) is not None]
        for role in given:
            if simulation.get(role):
                raise ValueError(
                    f"data.{role} and simulation.{role} both say which drives: put the maps into data.{role}, as "
                    "{simulate: MAP}"
                )
        return {**values, "simulation": simulation | dict.fromkeys(given, ())} if given else values

    def sources(self, role: Role) -> tuple[DriveSource, ...]:
        """The drives that are to train, validate or test, in order."""
        given: tuple[DriveSource, ...] | None = getattr(self.data, role)
        maps: tuple[str, ...] = getattr(self.simulation, role)
        return tuple(DriveSource(simulate=spec) for spec in maps) if given is None else given

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        slices = self.bev.slices_m
        if len(slices) < 2 or any(a >= b for a, b in itertools.pairwise(slices)):
            raise ValueError(f"bev.slices_m must be at least two ascending heights, got {slices}")
        if self.train.steps % self.train.validate_every:
            raise ValueError(
                f"train.steps = {self.train.steps} must be a multiple of train.validate_every = "
                f"{self.train.validate_every}: a run ends with a validation"
            )
        if self.train.blend < 1.0 and not self.train.weights:
            raise ValueError(f"train.blend = {self.train.blend} needs train.weights to lead back to")
        for branch, encoder in (("lidar", self.model.lidar), ("map", self.model.map)):
            if encoder.levels < int(math.log2(self.model.stride)) + 1:
                raise ValueError(
                    f"model.{branch}.levels = {encoder.levels} cannot reach model.stride = {self.model.stride}: "
                    f"it takes at least {int(math.log2(self.model.stride)) + 1}"
                )
        fine = self.bev.cell_m / self.model.sparse.voxel_m
        if self.model.encoder == "sparse" and not (fine >= 1.0 and math.isclose(fine, 2.0 ** round(math.log2(fine)))):
            raise ValueError(
                f"model.sparse.voxel_m = {self.model.sparse.voxel_m} must be bev.cell_m = {self.bev.cell_m} or its "
                "half, quarter, ..."
            )
        return self


def parse_yaml(text: str, origin: str) -> Any:
    """Any value as safe YAML, see `parsing.parse_yaml`.

    Raises:
        ConfigError: if the text is no YAML that is read, in one line that starts with `origin`.
    """
    try:
        return parsing.parse_yaml(text, origin)
    except DataError as error:
        raise ConfigError(str(error)) from error


def shipped_configs() -> list[str]:
    """Names of the configurations that ship."""
    return sorted(path.stem for path in SHIPPED_CONFIGS.glob("*.yaml"))


def find_config(path: Path) -> Path:
    """The configuration file at a path or, where none is, the one that ships under its name."""
    shipped = SHIPPED_CONFIGS / f"{path.name.removesuffix('.yaml')}.yaml"
    return shipped if not path.exists() and shipped.is_file() else path


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and put `key.sub=value` overrides on top (values are YAML).

    Args:
        path: a YAML file, or a name as of `find_config`.
        overrides: as `--set` takes them.

    Keys by a former name (`RENAMED`) are read as what they are called now, with a warning.

    Raises:
        ConfigError: if the file is missing or wrong; one line, naming the key and the nearest known one.
    """
    path = find_config(Path(path))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        names = shipped_configs()
        raise ConfigError(
            f"{path}: no such configuration file; those that ship are {', '.join(names)}{meant(path.stem, names)}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    values = parse_yaml(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(values).__name__}")
    values, former = _renamed(values, str(path))
    for override in overrides:
        former += _apply_override(values, override)
    values, former_inside = _renamed(values, "--set")
    for key in dict.fromkeys(former + former_inside):
        log.warning("%s: the key '%s' is called '%s' now", path, key, RENAMED[key])
    return config_from_dict(values, str(path))


def overridden(config: Config, overrides: Sequence[str], within: str | None = None) -> Config:
    """A configuration with `key.sub=value` overrides on top (values are YAML).

    Args:
        config: as it is.
        overrides: later ones win.
        within: a section; keys outside it are refused.

    Raises:
        ConfigError: in one line that names the key, and the nearest known one.
    """
    values = config.model_dump(mode="json")
    for override in overrides:
        if within is not None and not override.startswith(f"{within}."):
            raise ConfigError(f"--set {override}: expected {within}.SECTION.KEY=VALUE")
        _apply_override(values, override)
    return config_from_dict(values, "--set") if overrides else config


def config_from_dict(values: dict[Any, Any], origin: str) -> Config:
    """Validate plain values; keys may have their former names, as in checkpoints of earlier versions.

    Raises:
        ConfigError: in one line that starts with `origin`.
    """
    values, _ = _renamed(values, origin)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(explain(error, Config))) from error


def _renamed(values: dict[Any, Any], origin: str) -> tuple[dict[Any, Any], list[str]]:
    """The values with every key by its present name, and the former names that were among them.

    Raises:
        ConfigError: if a key is there by both names.
    """
    values, former = copy.deepcopy(values), []
    for old, new in RENAMED.items():
        (old_section, old_name), (new_section, new_name) = old.rsplit(".", 1), new.rsplit(".", 1)
        source = _section(values, old_section)
        if source is None or old_name not in source:
            continue
        target = _section(values, new_section, made=True)
        if target is None:
            continue  # a value in the place of a section: validation says so
        if new_name in target:
            raise ConfigError(f"{origin}: '{old}' is the former name of '{new}': give one of them")
        target[new_name] = source.pop(old_name)
        former.append(old)
    return values, former


def _section(values: dict[Any, Any], path: str, made: bool = False) -> dict[Any, Any] | None:
    """The section at a path, an empty one if it is to be made; None where there is none."""
    section = values
    for name in path.split("."):
        inner = section.setdefault(name, {}) if made else section.get(name)
        if not isinstance(inner, dict):
            return None
        section = inner
    return section


def _apply_override(values: dict[str, Any], override: str) -> list[str]:
    """Set one key; the result is its former name, if it was given by that."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key.sub=value")
    former = [old for old in RENAMED if old == key.strip()]
    *path, last = (RENAMED[former[0]] if former else key.strip()).split(".")
    section = values
    for name in path:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {override}: '{name}' is a value, not a section")
    section[last] = parse_yaml(text, f"--set {override}")
    return former


def explain(error: ValidationError, root: type[Section]) -> Iterator[str]:
    """What is wrong with values of a section, an item a fault, with the nearest name for an unknown key.

    Args:
        error: of the validation.
        root: the section that was validated.
    """
    for item in error.errors():
        path = [str(part) for part in item["loc"] if part not in (_NAMED, _DESCRIBED)]
        if item["type"] != "extra_forbidden":
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "literal_error":
                near = difflib.get_close_matches(str(item["input"]), re.findall("'([^']*)'", message), n=1)
                message += f"; did you mean {near[0]!r}?" if near else ""
            yield f"{'.'.join(path)}: {message} (got {item['input']!r})" if path else message
            continue
        known = _known_keys(path[:-1], root)
        nearest = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.0)
        yield f"unknown key '{'.'.join(path)}'; did you mean '{'.'.join([*path[:-1], *nearest])}'?"


def _known_keys(path: Sequence[str], root: type[Section]) -> list[str]:
    """The keys of the section at a path, which may lead through lists (by number) and kinds of values (by name)."""
    section: type[BaseModel] = root
    for name in path:
        if name in section.model_fields:
            inner = _section_in(section.model_fields[name].annotation)
            if inner is None:
                return []
            section = inner
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key's type is, or holds: itself, in a list, or as one of several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part)) is not None), None)
