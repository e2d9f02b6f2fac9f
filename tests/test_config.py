import json
from pathlib import Path

import pytest
import yaml

from bevfusion.config import RENAMED, Config, ConfigError, config_from_dict, load_config, parse_yaml

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_only_what_differs_from_the_defaults(path: Path):
    def differs(given: dict, default: dict) -> None:
        for key, value in given.items():
            if isinstance(value, dict) and isinstance(default[key], dict) and default[key]:
                differs(value, default[key])
            else:
                assert value != default[key], f"{key} is the default"

    given = parse_yaml(path.read_text(), str(path))
    load_config(path)
    differs({k: v for k, v in given.items() if k != "name"}, Config().model_dump(mode="json"))


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load_config(written(tmp_path, "")) == Config()


def test_scientific_notation_is_a_number(tmp_path):
    assert load_config(written(tmp_path, "train: {learning_rate: 1e-3}")).train.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {chanels: 8}", "unknown key 'model.chanels'; did you mean 'model.channels'"),
        ("trian: {steps: 1}", "unknown key 'trian'; did you mean 'train'"),
        ("model: {fusion: {atention: se}}", "did you mean 'model.fusion.attention'"),
        ("train: {steps: 600}\ntrain: {steps: 2}", "'train' is given twice"),
        ("train: {learning_rate: .inf}", "train.learning_rate"),
        ("train: {steps: many}", "train.steps"),
        ("bev: {slices_m: [2.0, 1.0]}", "ascending"),
        ("train: {steps: 500, validate_every: 200}", "multiple"),
        ("train: {blend: 0.5}", "train.blend = 0.5 needs train.weights"),
        ("model: {stride: 4, lidar: {levels: 2}}", "model.lidar.levels"),
        ("simulation: {sensors: []}", "simulation.sensors"),
        ("simulation: {vehicles: []}", "simulation.vehicles"),
        ("[1, 2]", "expected keys and values"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_key(tmp_path, text: str, message: str):
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such"):
        load_config(tmp_path / "nowhere.yaml")


def test_overrides_are_yaml_and_win(tmp_path):
    path = written(tmp_path, "model: {fusion: {attention: se}}")
    config = load_config(path, ["model.fusion.attention=cam", "train.learning_rate=5e-4", "bev.slices_m=[0, 1, 2]"])
    assert config.model.fusion.attention == "cam"
    assert config.train.learning_rate == 5e-4
    assert config.bev.slices_m == (0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [("train.steps", "key.sub=value"), ("train.stesp=3", "train.steps"), ("seed.x=1", "'seed' is a value")],
)
def test_a_wrong_override_is_refused(tmp_path, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, "seed: 1"), [override])


def test_an_alias_bomb_is_harmless(tmp_path):
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 12))
    with pytest.raises(ConfigError, match="grows to more than"):
        load_config(written(tmp_path, bomb))


def value_of(config: Config, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_is_read_as_the_present_one_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str
):
    section, name = old.rsplit(".", 1)
    written_as_before = written(tmp_path, f"{section}: {{{name}: 0.75}}")
    assert value_of(load_config(written_as_before), new) == 0.75
    assert f"the key '{old}' is called '{new}' now" in caplog.text
    caplog.clear()
    for override in (f"{old}=0.5", f"{section}={{{name}: 0.5}}"):
        assert value_of(load_config(written(tmp_path, ""), [override]), new) == 0.5
        assert caplog.text.count(f"'{new}' now") == 1
        caplog.clear()
    # on top of a file, by whatever name either has it
    assert value_of(load_config(written_as_before, [f"{new}=0.25"]), new) == 0.25
    present = new.rsplit(".", 1)
    assert (
        value_of(load_config(written(tmp_path, f"{present[0]}: {{{present[1]}: 0.75}}"), [f"{old}=0.25"]), new) == 0.25
    )
    caplog.clear()
    assert value_of(config_from_dict({section: {name: 0.75}}, "a checkpoint"), new) == 0.75
    assert not caplog.text, "who opens a checkpoint has not written its keys"


def test_a_key_by_both_names_is_refused(tmp_path: Path):
    path = written(tmp_path, "train: {lesson_weight: 0.1, auxiliary_weight: 0.2}")
    with pytest.raises(ConfigError, match=r"'train\.lesson_weight' is the former name of 'train\.auxiliary_weight'"):
        load_config(path)


def test_present_names_are_keys_and_former_names_are_not():
    for old, new in RENAMED.items():
        value_of(Config(), new)
        with pytest.raises(AttributeError):
            value_of(Config(), old)


def test_a_configuration_that_ships_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("fusion_cbam")).name == "fusion_cbam"
    assert load_config(Path("configs/fusion_cbam.yaml")).name == "fusion_cbam"


def test_a_file_of_ones_own_goes_before_one_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fusion_cbam.yaml").write_text("name: mine")
    assert load_config(Path("fusion_cbam.yaml")).name == "mine"


def test_a_name_that_does_not_exist_is_answered_with_those_that_do(tmp_path):
    with pytest.raises(ConfigError, match=r"no such configuration file; those that ship are ablation, .*fusion_cbam"):
        load_config(tmp_path / "fusion_cbma.yaml")


RECORDED = "{drive: a.bag, map: b.osm}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"data: {{train: [{RECORDED}]}}\nsimulation: {{train: ['town:1']}}", "data.train and simulation.train both"),
        ("data: {train: [{drive: a.bag}]}", "data.train.0: the drive a.bag needs a map"),
        ("data: {val: [{}]}", r"data.val.0: expected \{drive: PATH, map: PATH\} or \{simulate: MAP\}"),
        ("data: {val: [{simulate: 'town:1', drive: a.bag, map: b}]}", "data.val.0: expected"),
        ("data: {val: [{simulate: 'town:1', every: 3}]}", "every: of recorded drives, and town:1 is to be simulated"),
        ("data: {val: []}", "data.val: .*at least 1"),
        (
            f"data: {{val: [{RECORDED}, {{drive: a, mpa: b}}]}}",
            "unknown key 'data.val.1.mpa'; did you mean .*val.1.map'",
        ),
        (f"data: {{vall: [{RECORDED}]}}", "unknown key 'data.vall'; did you mean 'data.val'"),
    ],
)
def test_lists_of_drives_that_contradict_or_lack_something_are_refused(tmp_path: Path, text: str, told: str):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        load_config(path)
    assert "\n" not in str(error.value)


def test_a_list_of_drives_stands_in_place_of_the_simulated_ones_of_its_role(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(f"data: {{train: [{RECORDED}, {{simulate: 'town:9'}}]}}\nsimulation: {{val: ['town:5']}}")
    config = load_config(path)
    assert [(s.drive, s.map, s.simulate) for s in config.sources("train")] == [
        ("a.bag", "b.osm", ""),
        ("", "", "town:9"),
    ]
    assert config.simulation.train == ()
    assert [s.simulate for s in config.sources("val")] == ["town:5"]
    assert [s.simulate for s in config.sources("test")] == ["town:201"]
    again = tmp_path / "again.yaml"  # as a run's folder keeps it
    again.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(again) == config
    assert config_from_dict(json.loads(config.model_dump_json()), "checkpoint") == config
