"""Voxels to features from above, by sparse convolutions (SECOND, Yan et al., Sensors 2018, https://doi.org/10.3390/s18103337).

    voxels -> submanifold blocks, strided convolutions between them -> layers become channels -> 2D network

Between voxels and 2D network memory and time go with the surface that the scan met, not with the volume around it.
"""

import importlib.util
import logging
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.lidar.sparse_map import Backend, Size, SparseMap, collapsed, halved
from bevfusion.lidar.sparse_reference import ReferenceBackend
from bevfusion.lidar.sparse_spconv import SpconvBackend
from bevfusion.lidar.voxelize import VOXEL_FEATURES
from bevfusion.nn import ConvNormAct, MakeAttention, UNet
from bevfusion.structures import Voxels

log = logging.getLogger(__name__)


def open_backend(name: str) -> Backend:
    """The backend `spconv` or `reference`; `auto` takes spconv where it is installed and there is CUDA.

    Raises:
        ValueError: if there is no such backend.
        ImportError: if it is spconv and not installed.
    """
    if name == "auto":
        fast = torch.cuda.is_available() and importlib.util.find_spec("spconv") is not None
        name = "spconv" if fast else "reference"
    if name not in ("spconv", "reference"):
        raise ValueError(f"expected the backend auto, spconv or reference, got {name!r}")
    log.info("sparse convolutions by %s", "spconv" if name == "spconv" else "the plain-torch reference")
    return SpconvBackend() if name == "spconv" else ReferenceBackend()


class SparseEncoder(nn.Module):
    """Voxels (and what was seen) to features (B, C, H/stride, W/stride) of the BEV grid, in the same frame.

    The scan's density varies a hundredfold with range, and batches of one are normal: every voxel is normalized by
    itself (layer norm), so no sample sees another and evaluation equals training.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        size: Size,
        fine: int,
        stride: int,
        width: int,
        levels: int,
        blocks: int,
        backend: Backend,
        attention: MakeAttention = nn.Identity,
    ) -> None:
        """Make the layers.

        Args:
            out_channels: channels of the output.
            size: layers, rows and columns of the voxels.
            fine: voxels along a BEV cell, a power of two.
            stride: BEV cells along an output cell, a power of two.
            width: channels at the voxels, doubled at the first two coarser levels.
            levels: resolutions of the 2D network, counted from the BEV cells.
            blocks: residual blocks a level.
            backend: what computes the sparse convolutions.
            attention: in every residual block of the 2D network.
        """
        super().__init__()
        self.backend = backend
        self.size = size
        self.stride = stride
        self.trunk = nn.ModuleList([SparseConv(len(VOXEL_FEATURES), width, "level0")])
        channels = width
        for level in range(int(math.log2(fine * stride)) + 1):
            wider = width * 2 ** min(level, 2)
            if level:
                self.trunk.append(SparseConv(channels, wider, None))
            self.trunk.extend(SparseBlock(wider, f"level{level}") for _ in range(blocks))
            channels, size = wider, halved(size) if level else size
        self.join = ConvNormAct(channels * size[0] + 2, channels, kernel=1)
        levels_left = max(1, levels - int(math.log2(stride)))
        self.plan = UNet(channels, out_channels, width=channels, levels=levels_left, blocks=blocks, attention=attention)

    def forward(self, seen: Float[Tensor, "b 2 h w"], voxels: Voxels) -> Float[Tensor, "b c h2 w2"]:
        """Encode; `seen` holds the planes (free, never seen) of the BEV grid. Samples may be without any voxel."""
        # In float32 whatever the precision around: spconv knows no bfloat16.
        with torch.autocast(seen.device.type, enabled=False):
            features = voxels.features.to(next(self.trunk.parameters()).dtype)
            x = SparseMap(features, voxels.cells, self.size, len(seen))
            # spconv refuses to convolve nothing
            backend = self.backend if len(voxels.cells) else ReferenceBackend()
            for layer in self.trunk:
                x = layer(x, backend)
            tall = collapsed(x)
        below = F.avg_pool2d(seen, self.stride).to(tall)
        y: Tensor = self.plan(self.join(torch.cat([tall, below], dim=1)))
        return y


class SparseConv(nn.Module):
    """Sparse convolution, layer norm, ReLU: submanifold with a `key`, with stride 2 without."""

    def __init__(self, in_channels: int, out_channels: int, key: str | None, *, act: bool = True) -> None:
        super().__init__()
        self.key = key
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels))
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (27 * in_channels)))
        self.norm = nn.LayerNorm(out_channels)
        self.act = nn.ReLU() if act else nn.Identity()

    def forward(self, x: SparseMap, backend: Backend) -> SparseMap:
        """Convolve by the backend."""
        strided = self.key is None
        y = backend.strided(x, self.weight) if strided else backend.submanifold(x, self.weight, str(self.key))
        return y.with_features(self.act(self.norm(y.features)))


class SparseBlock(nn.Module):
    """x + two submanifold convolutions of x."""

    def __init__(self, channels: int, key: str) -> None:
        super().__init__()
        self.first = SparseConv(channels, channels, key)
        self.second = SparseConv(channels, channels, key, act=False)

    def forward(self, x: SparseMap, backend: Backend) -> SparseMap:
        """Add what the convolutions find."""
        y: SparseMap = self.second(self.first(x, backend), backend)
        return y.with_features(F.relu(x.features + y.features))
