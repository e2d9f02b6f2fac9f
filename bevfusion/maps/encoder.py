"""Map layers to features: the map's tower, which sees neither scan nor prior."""

from torch import nn

from bevfusion.nn import UNet


class MapEncoder(UNet):
    """The layers of a tile (B, L, H, W), -1 to 1, to features (B, C, H/stride, W/stride) in the same frame.

    What comes out of a cell depends on the `context_cells` about it and on nothing else, so features of a map can be
    computed piece by piece, once, and are the same whatever piece they were computed in. That is why it has batch
    norm, whose statistics are constants after training, where the LiDAR tower has group norm, and no attention.
    """

    def __init__(
        self, layers: int, channels: int, *, width: int, levels: int, blocks: int = 1, stride: int = 1
    ) -> None:
        """`layers` in, `channels` out; the rest as of `UNet`."""
        super().__init__(
            layers, channels, width=width, levels=levels, blocks=blocks, stride=stride, norm=nn.BatchNorm2d
        )
