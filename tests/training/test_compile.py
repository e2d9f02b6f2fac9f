import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from bevfusion.config import ConfigError, config_from_dict
from bevfusion.training import run

SCRIPT = Path(__file__).with_name("compiled.py")
HEADER = Path(sysconfig.get_paths()["include"]) / "Python.h"
COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None and HEADER.is_file()


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler and Python's headers on a CPU")
def test_a_compiled_network_has_the_same_loss_and_gradients_and_learns(tmp_path: Path):
    package = str(Path(run.__file__).parents[2])
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["keys_alike"], "checkpoints of both fit each other"
    plain, compiled = found["losses"]
    assert compiled == pytest.approx(plain, abs=1e-5)
    plain_norms, compiled_norms = found["gradients"]
    assert compiled_norms == pytest.approx(plain_norms, rel=1e-3, abs=1e-5)
    assert max(plain_norms) > 0.01
    assert found["gradient_error"] < 1e-4
    assert found["trained"] < plain - 0.1
    assert found["validation_alike"], "validation runs the network itself"


def test_where_nothing_can_be_compiled_it_is_said_before_anything_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def broken(_: object) -> object:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    config = config_from_dict({"train": {"compile": True}}, "test")
    with pytest.raises(ConfigError, match=r"^train\.compile: torch\.compile does not work here: no compiler$"):
        run.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
