import pytest
import torch

from bevfusion.build import build_model
from bevfusion.checkpoint import save_checkpoint
from bevfusion.config import Config


@pytest.fixture(scope="session")
def small_config() -> Config:
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    return base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 16.0}), "model": model})


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory, small_config: Config) -> str:
    torch.manual_seed(0)
    model = build_model(small_config)
    with torch.no_grad():  # fresh weights displace nothing: a head that is wrong would go unseen
        torch.nn.init.normal_(model.pose_check.displacement.weight)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_checkpoint(path, model, small_config, {})
    return str(path)
