"""Map layers to features."""

from bevfusion.nn import UNet


class MapEncoder(UNet):
    """The layers of a tile (B, L, H, W), -1 to 1, to features (B, C, H/stride, W/stride) in the same frame."""
