"""Correlation of many templates with few maps over a window of shifts, by FFT, in memory that does not grow with them.

What it saves over transforming everything (`matching_reference.py`): two templates share one complex transform, as its
real and its imaginary part, forth and back; channels are summed before the way back; only a portion of the spectra
exists at any time, and training keeps none of them: backward makes them anew, which costs less than to fetch them.

Least work for R templates of C channels: (R C + R) / 2 transforms of N^2 log2 N^2 x 5 operations, and 4 R C N^2 sums of
products of complex numbers (/2 for the pairs), with N the side of the part of the map that the window can touch.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Of spectra at once. A CPU is fastest with what its caches hold, and fresh pages cost time; a GPU wants enough to do.
_PORTION_BYTES = {"cpu": 2**22, "cuda": 2**28}


def correlation(
    templates: Float[Tensor, "b r c h w"], maps: Float[Tensor, "b k c hm wm"], side: int
) -> Float[Tensor, "b k r s s"]:
    """Sum over c, p of template(p) map(p + shift) for shifts 0 .. side - 1 on both axes, every template on every map.

    In float32 whatever comes: half precision would drown the differences between poses.

    Raises:
        ValueError: if a template leaves the map within the window.
    """
    for axis in (-2, -1):
        if maps.shape[axis] < templates.shape[axis] + side - 1:
            raise ValueError(
                f"{side} shifts of {tuple(templates.shape[-2:])} cells do not fit into {tuple(maps.shape[-2:])} cells"
            )
    scores: Tensor = _Correlation.apply(templates.float(), maps.float(), side)  # type: ignore[no-untyped-call]
    return scores


def fast_length(least: int) -> int:
    """The smallest length from `least` on whose only prime factors are 2, 3, 5 and 7: FFTs like it."""
    for length in itertools.count(least):
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
    raise AssertionError("there is always a power of two")


class _Correlation(torch.autograd.Function):
    """With y = t1 + i t2, the scores of both are the real and imaginary part of fft(sum_c fft(y) conj(fft(m))) / N^2.

    The backward pass is a correlation with the map, too (gradient of the templates), and a convolution (of the map).
    """

    @staticmethod
    def forward(ctx: Any, templates: Tensor, maps: Tensor, side: int) -> Tensor:
        """(B, K, R, S, S)."""
        ctx.save_for_backward(templates, maps)
        ctx.side = side
        batch, headings = templates.shape[:2]
        scores = templates.new_empty(batch, maps.shape[1], headings, side, side)
        size = _size(templates, side)
        for b in range(batch):
            backwards = _map_spectrum(maps[b], size)
            for part in _portions(templates, maps.shape[1] + maps.shape[2], size):
                spectrum = _pair_spectrum(templates[b, part], size)
                product = spectrum[:, None, 0] * backwards[:, 0]
                for channel in range(1, maps.shape[2]):
                    product.addcmul_(spectrum[:, None, channel], backwards[:, channel])
                _unpack(torch.fft.fft2(product), scores[b, :, part].movedim(0, 1))
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of templates and maps."""
        templates, maps = ctx.saved_tensors
        size = _size(templates, ctx.side)
        of_templates, of_maps = torch.empty_like(templates), torch.zeros_like(maps)
        turns, channels = maps.shape[1:3]
        for b in range(len(templates)):
            backwards = _map_spectrum(maps[b], size)
            total = backwards.new_zeros(backwards.shape)
            for part in _portions(templates, turns + 2 * channels, size):
                come = gradient[b, :, part].movedim(0, 1)
                spectrum = _pair_spectrum(come, size)
                product = spectrum[:, 0, None] * backwards[0]
                for turn in range(1, turns):
                    product.addcmul_(spectrum[:, turn, None], backwards[turn])
                _unpack(torch.fft.fft2(product), of_templates[b, part])
                flipped = _pair_spectrum(come.flip(-2, -1), size).conj_physical_()
                for pair, template in zip(flipped, _pair_spectrum(templates[b, part], size), strict=True):
                    total.addcmul_(pair[:, None], template[None])
            whole = torch.fft.ifft2(total).real
            # flipped within the window rather than round the origin: as far off as the window is wide
            whole = whole.roll((ctx.side - 1, ctx.side - 1), (-2, -1))
            rows, cols = (min(length, size_) for length, size_ in zip(maps.shape[-2:], size, strict=True))
            of_maps[b, ..., :rows, :cols] = whole[..., :rows, :cols]
        return of_templates, of_maps, None


def _size(templates: Tensor, side: int) -> tuple[int, int]:
    """Of the transforms: what the window can touch, so that nothing wraps round into it."""
    height, width = (fast_length(cells + side - 1) for cells in templates.shape[-2:])
    return height, width


def _portions(templates: Float[Tensor, "b r c h w"], planes: int, size: tuple[int, int]) -> Iterator[slice]:
    """Even numbers of headings at a time; a pair takes so many planes."""
    portion_bytes = _PORTION_BYTES.get(templates.device.type, _PORTION_BYTES["cpu"])
    pairs = max(1, portion_bytes // (8 * planes * size[0] * size[1]))
    headings = templates.shape[1]
    for first in range(0, headings, 2 * pairs):
        yield slice(first, min(first + 2 * pairs, headings))


def _map_spectrum(maps: Float[Tensor, "k c hm wm"], size: tuple[int, int]) -> Tensor:
    """Conjugate spectrum (K, C, N, N) of the part of the maps that the window touches, over N^2."""
    spectrum: Tensor = torch.fft.fft2(maps[..., : size[0], : size[1]], s=size)
    return spectrum.conj_physical_().div_(size[0] * size[1])


def _pair_spectrum(planes: Float[Tensor, "r c h w"], size: tuple[int, int]) -> Tensor:
    """Spectra (ceil(R / 2), C, N, N) of the first plane + i times the second, of the third + i times the fourth, ..."""
    count, channels, height, width = planes.shape
    packed = planes.new_zeros((count + 1) // 2, channels, *size, dtype=torch.complex64)
    parts = torch.view_as_real(packed)[..., :height, :width, :]
    parts[..., 0] = planes[0::2]
    parts[: count // 2, ..., 1] = planes[1::2]
    spectrum: Tensor = torch.fft.fft2(packed)
    return spectrum


def _unpack(packed: Tensor, planes: Float[Tensor, "r c h w"]) -> None:
    """The way back from the pairs of `_pair_spectrum`, cut to the size of the planes."""
    count, _, height, width = planes.shape
    parts = torch.view_as_real(packed)[..., :height, :width, :]
    planes[0::2] = parts[..., 0]
    planes[1::2] = parts[: count // 2, ..., 1]
