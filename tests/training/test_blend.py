import pytest
import torch
from torch import nn

from bevfusion.training.run import blend


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    for _ in range(seed + 1):
        model(torch.randn(2, 3, 8, 8))  # statistics of its own
    return model.eval()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_every_weight_and_statistic_goes_the_same_part_of_the_way_back(share: float):
    begun, trained = network(0), network(1)
    expected = {
        name: share * weights + (1.0 - share) * begun.state_dict()[name]
        for name, weights in trained.state_dict().items()
        if weights.is_floating_point()
    }
    count = trained.state_dict()["1.num_batches_tracked"].clone()
    blend(trained, begun.state_dict(), share)
    for name, weights in expected.items():
        torch.testing.assert_close(trained.state_dict()[name], weights)
    assert trained.state_dict()["1.num_batches_tracked"] == count


def test_all_the_way_back_is_the_network_that_was():
    begun, trained = network(0), network(1)
    blend(trained, begun.state_dict(), 0.0)
    points = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(trained(points), begun(points))
