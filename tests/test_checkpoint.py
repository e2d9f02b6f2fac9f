import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import bevfusion
from bevfusion.build import build_model
from bevfusion.checkpoint import load_weights, read_checkpoint, save_checkpoint
from bevfusion.config import Config
from bevfusion.structures import DataError


def test_what_was_saved_is_read_back(tmp_path):
    torch.manual_seed(0)
    model, config = nn.Linear(3, 2), Config(name="mine", seed=7)
    save_checkpoint(tmp_path / "run" / "m.safetensors", model, config, {"commit": "abc"})
    loaded = read_checkpoint(tmp_path / "run" / "m.safetensors")
    assert loaded.config == config
    assert loaded.provenance == {"commit": "abc"}
    assert len(loaded.sha256) == 64
    other = nn.Linear(3, 2)
    load_weights(other, loaded.weights, "m")
    torch.testing.assert_close(other.weight, model.weight)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["m.safetensors"]


def test_another_architecture_is_named(tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", nn.Linear(3, 2), Config(), {})
    weights = read_checkpoint(tmp_path / "m.safetensors").weights
    with pytest.raises(DataError, match=r"another architecture: 'weight' is \(2, 3\) there and \(2, 4\) here"):
        load_weights(nn.Linear(4, 2), weights, "m.safetensors")
    with pytest.raises(DataError, match=r"'bias' is .* absent here"):
        load_weights(nn.Linear(3, 2, bias=False), weights, "m.safetensors")


def test_one_from_before_the_contrast_of_the_ground_answers_as_it_did():
    model = build_model(Config())
    weights = {name: value for name, value in model.state_dict().items() if name != "road_contrast.weight"}
    assert float(model.road_contrast.weight) == Config().model.heads.road_contrast > 0.0
    load_weights(model, weights, "m.safetensors")
    assert float(model.road_contrast.weight) == 0.0


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95pickle", b"\xff" * 64])
def test_a_file_that_is_none_of_ours_is_one_line(tmp_path, content: bytes):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"m\.safetensors") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(DataError, match="not a bevfusion checkpoint"):
        read_checkpoint(tmp_path / "m.safetensors")


def test_a_pickle_is_never_opened(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "m.ckpt")
    with pytest.raises(DataError, match="not a readable safetensors"):
        read_checkpoint(tmp_path / "m.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "m.safetensors")


def test_a_checkpoint_with_former_keys_is_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    values = Config().model_dump(mode="json")
    values["train"]["lesson_weight"] = 0.5
    del values["train"]["auxiliary_weight"]
    metadata = {"format": "bevfusion-2", "config": json.dumps(values), "provenance": "{}"}
    save_file({"weight": torch.zeros(1)}, tmp_path / "m.safetensors", metadata=metadata)
    assert read_checkpoint(tmp_path / "m.safetensors").config.train.auxiliary_weight == 0.5
    assert not caplog.text


SHIPPED = sorted((Path(bevfusion.__file__).parent / "weights").glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_checkpoint_that_ships_is_read_without_a_word(path: Path, caplog: pytest.LogCaptureFixture):
    loaded = read_checkpoint(path)
    assert not caplog.text
    with safe_open(path, framework="pt") as file:
        written = json.loads(file.metadata()["config"])
    assert loaded.config.model.channels == written["model"]["channels"]
    assert loaded.config.train.steps == written["train"]["steps"]


def test_a_value_that_changed_is_noticed(tmp_path):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, nn.Linear(16, 8), Config(), {"commit": "abc"})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    for at in range(8 + length, len(content), 97):  # in the middle of the tensors, where no structure is hurt
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DataError, match="damaged: its content is not what was written"):
            read_checkpoint(path)
    path.write_bytes(content.replace(b"abc", b"abd", 1))
    with pytest.raises(DataError, match="damaged"):
        read_checkpoint(path)
    path.write_bytes(content)
    assert read_checkpoint(path).provenance == {"commit": "abc"}


def test_one_without_a_digest_is_read_with_a_note(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "m.safetensors"
    metadata = {"format": "bevfusion-2", "config": Config().model_dump_json(), "provenance": "{}"}
    save_file({"weight": torch.ones(2)}, path, metadata=metadata)
    assert read_checkpoint(path).weights["weight"].tolist() == [1.0, 1.0]
    assert "wrote no digest" in caplog.text
    save_file({"weight": torch.ones(2)}, path, metadata=metadata | {"format": "bevfusion-3"})
    with pytest.raises(DataError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("words", ["[" * 2000 + "]" * 2000, "[1]", '{"seed": ' + "9" * 4500 + "}", "{"])
def test_words_that_cannot_be_read_are_one_line(tmp_path, words: str):
    path = tmp_path / "m.safetensors"
    for key in ("config", "provenance"):
        metadata = {"format": "bevfusion-2", "config": Config().model_dump_json(), "provenance": "{}"} | {key: words}
        save_file({"weight": torch.ones(2)}, path, metadata=metadata)
        with pytest.raises(DataError, match="cannot be read by this version") as refused:
            read_checkpoint(path)
        assert "\n" not in str(refused.value)
