"""Map layers to features: the map's tower, which sees neither scan nor prior."""

from collections.abc import Sequence

from jaxtyping import Float, Int8
from torch import Tensor, nn

from bevfusion.maps.schema import LAYER_NAMES, layer_index
from bevfusion.nn import UNet
from bevfusion.structures import DataError

Layers = Float[Tensor, "b l h w"] | Int8[Tensor, "b l h w"]


class MapEncoder(UNet):
    """The layers of a tile (B, L, H, W), -1 to 1 or as drawn, to features (B, C, H/stride, W/stride) in the same frame.

    It takes the layers that it was trained with out of those that tiles have, by name.

    What comes out of a cell depends on the `context_cells` about it and on nothing else, so features of a map can be
    computed piece by piece, once, and are the same whatever piece they were computed in. That is why it has batch
    norm, whose statistics are constants after training, where the LiDAR tower has group norm, and no attention.
    """

    def __init__(
        self, layers: Sequence[str], channels: int, *, width: int, levels: int, blocks: int = 1, stride: int = 1
    ) -> None:
        """`layers` in, in the order of the weights, `channels` out; the rest as of `UNet`.

        Raises:
            DataError: if tiles lack one of the layers.
        """
        missing = [name for name in layers if name not in LAYER_NAMES]
        if missing:
            raise DataError(
                f"the network was trained with map layers that this version does not draw: {', '.join(missing)}"
            )
        super().__init__(
            len(layers), channels, width=width, levels=levels, blocks=blocks, stride=stride, norm=nn.BatchNorm2d
        )
        self.layers = tuple(layers)
        self._taken = None if self.layers == LAYER_NAMES else [layer_index(name) for name in self.layers]

    def forward(self, x: Layers) -> Float[Tensor, "b c h2 w2"]:
        """Features at `stride` times the cell size of a tile with all layers of `LAYERS`.

        Raises:
            ValueError: if the size does not halve often enough.
        """
        return super().forward(layer_values(x if self._taken is None else x[:, self._taken]))


def layer_values(layers: Layers) -> Float[Tensor, "b l h w"]:
    """Layers as the network takes them, 1.0 is there; those that are drawn (int8) have 127 for it."""
    return layers if layers.is_floating_point() else layers.float() / 127.0
