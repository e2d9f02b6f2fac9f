import copy
import importlib.util
import itertools
import logging

import pytest
import torch
from torch.nn import functional as F

from bevfusion.build import build_model
from bevfusion.config import ConfigError, config_from_dict
from bevfusion.lidar.sparse import SparseEncoder, open_backend
from bevfusion.lidar.sparse_map import Backend, SparseMap, collapsed, halved
from bevfusion.lidar.sparse_reference import ReferenceBackend, neighbours
from bevfusion.lidar.voxelize import VOXEL_FEATURES
from bevfusion.structures import Voxels

NO_SPCONV = importlib.util.find_spec("spconv") is None
needs_spconv = pytest.mark.skipif(NO_SPCONV, reason="spconv is not installed (pip install 'bevfusion[gpu]')")
BACKENDS = ["reference", pytest.param("spconv", marks=needs_spconv)]
SIZES = [(4, 6, 8), (5, 7, 3), (1, 9, 2)]


def random_map(count: int, size: tuple[int, int, int], channels: int, batch: int = 2, seed: int = 0) -> SparseMap:
    """Occupied cells in random order."""
    generator = torch.Generator().manual_seed(seed)
    every = list(itertools.product(range(batch), *map(range, size)))
    chosen = torch.randperm(len(every), generator=generator)[:count].tolist()
    cells = torch.tensor([every[i] for i in chosen], dtype=torch.int32).reshape(-1, 4)
    return SparseMap(torch.randn(count, channels, generator=generator), cells, size, batch)


def random_weight(out_channels: int, in_channels: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out_channels, 3, 3, 3, in_channels, generator=generator) / 5


def dense(x: SparseMap) -> torch.Tensor:
    """(B, C, D, H, W)."""
    maps = collapsed(x)
    return maps.view(x.batch, -1, *x.size)


def occupied(x: SparseMap) -> torch.Tensor:
    return dense(x.with_features(torch.ones(len(x.cells), 1)))


def dense_convolution(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    return F.conv3d(x, weight.permute(0, 4, 1, 2, 3), stride=stride, padding=1)


def apply(backend: Backend, x: SparseMap, weight: torch.Tensor, stride: int) -> SparseMap:
    return backend.strided(x, weight) if stride == 2 else backend.submanifold(x, weight, "key")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 17])
def test_values_and_gradients_equal_a_dense_convolution(name: str, stride: int, size: tuple, count: int):
    x = random_map(count, size, 3)
    x.features.requires_grad_()
    weight = random_weight(5, 3).requires_grad_()
    y = dense(apply(open_backend(name), x, weight, stride))
    expected = dense_convolution(dense(x), weight, stride)
    if stride == 1:
        expected = expected * occupied(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    fast = torch.autograd.grad((y * upstream).sum(), [x.features, weight])
    slow = torch.autograd.grad((expected * upstream).sum(), [x.features, weight])
    for got, wanted in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_strided_convolution_reaches_the_cells_that_the_kernel_meets_and_no_other(name: str):
    x = random_map(9, (5, 7, 3), 3)
    y = open_backend(name).strided(x, random_weight(5, 3))
    meets = F.conv3d(occupied(x), torch.ones(1, 1, 3, 3, 3), stride=2, padding=1) > 0
    assert y.size == halved(x.size)
    torch.testing.assert_close(occupied(y) > 0, meets)
    assert len(y.cells) == int(meets.sum())  # none twice


@pytest.mark.parametrize("name", BACKENDS)
def test_layers_of_one_key_share_their_rulebook(name: str):
    backend, x, weight = open_backend(name), random_map(20, (4, 6, 8), 3), random_weight(3, 3)
    once = backend.submanifold(x, weight, "key")
    assert list(once.rulebooks) == ["key"]
    book = once.rulebooks["key"]
    twice = backend.submanifold(once, weight, "key")
    assert twice.rulebooks["key"] is book
    expected = dense_convolution(dense(once), weight, 1) * occupied(x)
    torch.testing.assert_close(dense(twice), expected, atol=1e-5, rtol=1e-5)


def test_neighbours_equal_a_loop_over_pairs():
    x = random_map(25, (3, 5, 4), 1)
    taps = list(itertools.product(range(3), repeat=3))
    for tap, (source, target) in zip(taps, neighbours(x), strict=True):
        expected = {
            (i, o)
            for i, o in itertools.product(range(25), repeat=2)
            if x.cells[i, 0] == x.cells[o, 0] and (x.cells[o, 1:] + torch.tensor(tap) - 1 == x.cells[i, 1:]).all()
        }
        assert set(zip(source.tolist(), target.tolist(), strict=True)) == expected
        assert len(source) == len(expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_reference_passes_gradcheck(stride: int):
    x = random_map(7, (3, 4, 3), 2)
    weight = random_weight(3, 2).double().requires_grad_()
    features = x.features.double().requires_grad_()
    backend = ReferenceBackend()

    def run(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return apply(backend, x.with_features(features), weight, stride).features

    assert torch.autograd.gradcheck(run, (features, weight))


def test_the_reference_takes_nothing():
    x = random_map(0, (4, 4, 4), 3)
    weight = random_weight(5, 3).requires_grad_()
    for stride, size in ((1, (4, 4, 4)), (2, (2, 2, 2))):
        y = apply(ReferenceBackend(), x, weight, stride)
        assert (y.features.shape, y.size) == ((0, 5), size)
        (gradient,) = torch.autograd.grad(y.features.sum(), weight)
        assert gradient.abs().max() == 0.0


def test_memory_grows_with_voxels_not_with_the_volume():
    corners = torch.tensor([[0, 0, 0, 0], [0, 2997, 2997, 2997]], dtype=torch.int32)
    x = SparseMap(torch.randn(2, 3), corners, (3000, 3000, 3000), 1)
    backend = ReferenceBackend()
    assert len(backend.submanifold(x, random_weight(2, 3), "key").cells) == 2
    assert len(backend.strided(x, random_weight(2, 3)).cells) == 9  # even reaches one output, odd eight


# The encoder


def encoder(name: str = "reference", blocks: int = 1) -> SparseEncoder:
    torch.manual_seed(0)
    return SparseEncoder(
        8, size=(4, 32, 32), fine=2, stride=2, width=8, levels=2, blocks=blocks, backend=open_backend(name)
    )


def voxels_of(*counts: int) -> Voxels:
    parts = [random_map(count, (4, 32, 32), len(VOXEL_FEATURES), 1, seed) for seed, count in enumerate(counts)]
    return Voxels.together([Voxels(part.features, part.cells) for part in parts])


SEEN = torch.rand(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_shape_is_the_raster_encoder_s():
    assert encoder()(SEEN, voxels_of(200, 0, 1)).shape == (3, 8, 8, 8)


def test_samples_do_not_see_each_other():
    model = encoder()
    together = model(SEEN, voxels_of(200, 0, 50))
    alone = model(SEEN[:1], voxels_of(200))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)
    nothing = model(SEEN[1:2], voxels_of(0))
    torch.testing.assert_close(together[1:2], nothing, atol=1e-5, rtol=1e-4)


def test_the_order_of_voxels_does_not_matter():
    model, voxels = encoder(), voxels_of(200, 10, 50)
    order = torch.randperm(260, generator=torch.Generator().manual_seed(1))
    shuffled = Voxels(voxels.features[order], voxels.cells[order])
    torch.testing.assert_close(model(SEEN, voxels), model(SEEN, shuffled), atol=1e-5, rtol=1e-4)


def test_a_voxel_shows_where_it_stands_and_nowhere_else():
    model, joined = encoder(), []
    model.join.register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    one = Voxels(torch.ones(1, len(VOXEL_FEATURES)), torch.tensor([[0, 1, 28, 4]], dtype=torch.int32))
    model(SEEN[:1], one)
    (both,) = joined
    torch.testing.assert_close(both[:, -2:], F.avg_pool2d(SEEN[:1], 2))
    rows, columns = both[0, :-2].abs().sum(0).nonzero().unbind(1)
    assert (rows.tolist(), columns.tolist()) == ([7], [1])  # four voxels a cell; both even, so one output each time


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("counts", [(0, 0, 0), (1, 0, 0), (150, 3, 80)])
@pytest.mark.parametrize("training", [True, False])
def test_every_weight_gets_a_finite_gradient(name: str, counts: tuple[int, ...], training: bool):
    model = encoder(name).train(training)
    model(SEEN, voxels_of(*counts)).square().sum().backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert bool(torch.isfinite(parameter.grad).all()), label


def test_half_precision_around_it_changes_little():
    model, voxels = encoder(), voxels_of(150, 3, 80)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(SEEN, voxels)
    exact = model(SEEN, voxels)
    assert (rough - exact).abs().max() < 0.1 * exact.std()


def test_the_log_says_which_backend(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        backend = open_backend("auto")
    assert backend.name == ("reference" if NO_SPCONV or not torch.cuda.is_available() else "spconv")
    assert backend.name in caplog.text


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="auto, spconv or reference, got 'torchsparse'"):
        open_backend("torchsparse")


@pytest.mark.skipif(not NO_SPCONV, reason="spconv is installed")
def test_without_spconv_the_message_says_what_to_install():
    with pytest.raises(ImportError, match=r"bevfusion\[gpu\]"):
        open_backend("spconv")


@pytest.mark.skipif(not NO_SPCONV, reason="spconv is installed")
def test_a_configuration_that_asks_for_spconv_where_there_is_none_is_one_line():
    config = config_from_dict({"model": {"encoder": "sparse", "sparse": {"backend": "spconv"}}}, "test")
    with pytest.raises(ConfigError, match=r"model\.sparse\.backend: .*pip install.*or choose auto"):
        build_model(config)


@pytest.mark.parametrize("voxel_m", [0.3, 1.0, 0.1])
def test_voxels_that_do_not_divide_the_cells_are_refused(voxel_m: float):
    with pytest.raises(ConfigError, match=r"model\.sparse\.voxel_m"):
        config_from_dict({"model": {"encoder": "sparse", "sparse": {"voxel_m": voxel_m}}}, "test")


@needs_spconv
def test_both_backends_give_the_same_features_and_gradients_from_the_same_weights():
    reference, fast = encoder("reference", 2), encoder("spconv", 2)
    assert list(reference.state_dict()) == list(fast.state_dict())
    fast.load_state_dict(reference.state_dict())
    fast = copy.deepcopy(fast)
    voxels = voxels_of(300, 1, 120)
    wanted, got = reference(SEEN, voxels), fast(SEEN, voxels)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    upstream = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    (wanted * upstream).sum().backward()
    (got * upstream).sum().backward()
    theirs = dict(fast.named_parameters())
    for label, parameter in reference.named_parameters():
        torch.testing.assert_close(theirs[label].grad, parameter.grad, atol=1e-3, rtol=1e-3, msg=label)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", BACKENDS)
def test_on_a_gpu(name: str):
    slow, fast = encoder("reference"), encoder(name).cuda()
    voxels = voxels_of(300, 1, 120)
    got = fast(SEEN.cuda(), voxels.to("cuda"))
    torch.testing.assert_close(got.cpu(), slow(SEEN, voxels), atol=2e-2, rtol=2e-2)
    got.square().sum().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())
