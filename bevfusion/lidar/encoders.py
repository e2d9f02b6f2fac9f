"""LiDAR raster to features."""

from bevfusion.nn import UNet


class RasterEncoder(UNet):
    """The planes of `rasterize` (B, C_in, H, W) to features (B, C, H/stride, W/stride) in the same frame."""
