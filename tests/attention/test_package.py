"""What it takes to use a mechanism outside of this project: one import, and nothing heavy behind it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bevfusion.attention

ALONE = """
import json, sys
import torch
before = set(sys.modules)
from bevfusion.attention import CBAM
y = CBAM(8)(torch.rand(1, 8, 4, 5))
print(json.dumps([list(y.shape), sorted(set(sys.modules) - before)]))
"""


def test_a_mechanism_alone_imports_torch_and_nothing_heavy():
    package = Path(bevfusion.attention.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, cwd=package, check=True)
    shape, imported = json.loads(done.stdout)
    assert shape == [1, 8, 4, 5]
    own = {name for name in imported if name.split(".")[0] == "bevfusion"}
    assert {name.split(".")[1] for name in own if "." in name} == {"attention", "geometry"}
    # jaxtyping, which shapes in signatures come from, and what it brings; all of it pure Python
    others = {name.split(".")[0] for name in set(imported) - own} - set(sys.stdlib_module_names)
    assert others <= {"torch", "numpy", "jaxtyping", "wadler_lindig", "typing_extensions"}, others


def test_all_that_is_named_is_there():
    for name in bevfusion.attention.__all__:
        assert getattr(bevfusion.attention, name) is not None
    classes = {kind.__name__ for name, kind in bevfusion.attention.ATTENTION.items() if name != "none"}
    assert classes <= set(bevfusion.attention.__all__)


def test_the_example_of_the_readme_loads_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = Path(bevfusion.attention.__file__).with_name("README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?load_reference_state.*?)```", text, flags=re.DOTALL)
    shapes = {"mlp.1.weight": (16, 256), "mlp.1.bias": (16,), "mlp.3.weight": (256, 16), "mlp.3.bias": (256,)}
    state = {f"ChannelGate.{key}": torch.randn(shape) for key, shape in shapes.items()}
    state["SpatialGate.spatial.conv.weight"] = torch.randn(1, 2, 7, 7)
    for part in ("weight", "bias", "running_mean", "running_var"):
        state[f"SpatialGate.spatial.bn.{part}"] = torch.rand(1)
    monkeypatch.chdir(tmp_path)
    torch.save({f"layer1.0.cbam.{key}": value for key, value in state.items()}, "resnet50_cbam.pth")
    loaded = []
    original = bevfusion.attention.load_reference_state
    monkeypatch.setattr(
        bevfusion.attention, "load_reference_state", lambda *told: (loaded.append(told[0]), original(*told))
    )
    exec(example, {})
    assert torch.equal(loaded[0].channel.mlp[0].weight, state["ChannelGate.mlp.1.weight"])
    assert torch.equal(loaded[0].spatial.conv.weight, state["SpatialGate.spatial.conv.weight"].flip(1))
