"""Pixels of a map picture -> the layers that show there, as its legend says, strip by strip."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Num, Shaped, UInt8

from bevfusion.maps.legend import PLANES, Legend
from bevfusion.summary import InputSummary

_SAMPLES = 20_000  # pixels a strip that are looked at to name examples of what no class fits
_NEAR = 48  # colours that differ from a class by less than this in every plane look like it to people
_MANY_ROADS = 0.5


@dataclass(frozen=True, slots=True)
class PixelKind:
    """What the pixels of a picture are.

    Args:
        bands: planes that hold pixels; alpha is not counted.
        dtype: of the pixels.
        colour: whether the first three bands are red, green and blue.
        palette: red, green, blue, alpha of each value, if the picture has a table of colours.
        white: the value that is shown white.
        lossy: how the picture was compressed with loss, in a word; empty if it was not.
    """

    bands: int
    dtype: np.dtype
    colour: bool = False
    palette: UInt8[np.ndarray, "n 4"] | None = None
    white: int = 255
    lossy: str = ""


@dataclass(frozen=True, slots=True)
class ClassPicture:
    """Which layers show on each pixel: bit i of a pixel stands for layers[i]; row 0 is the picture's first."""

    bits: Shaped[np.ndarray, "h w"]  # unsigned, of as few bytes as hold the layers
    layers: tuple[str, ...]

    def mask(self, layer: str) -> Bool[np.ndarray, "h w"]:
        """Where a layer shows."""
        shown: np.ndarray = (self.bits & self.bits.dtype.type(1 << self.layers.index(layer))) != 0
        return shown


class Classifier(ABC):
    """Knows what the pixels of one picture mean, and counts what it could not tell."""

    def __init__(self, layers: tuple[str, ...], bands: tuple[int, ...]) -> None:
        """What bits stand for, and which bands of the picture, from 0, it wants to see."""
        self.layers = layers
        self.bands = bands

    @abstractmethod
    def classify(self, pixels: Num[np.ndarray, "h w c"], seen: Bool[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w"]:
        """Bits of a strip, see `ClassPicture`; nothing where no plane is seen.

        Raises:
            ValueError: if the pixels are of another kind than the legend.
        """

    @abstractmethod
    def tell(self, summary: InputSummary) -> None:
        """Note, when all strips are done, what was assumed and what no class fits."""


def bits_type(layers: int) -> np.dtype:
    """The smallest unsigned type with a bit for each layer."""
    return np.dtype(next(t for t in (np.uint8, np.uint16, np.uint32) if layers <= np.iinfo(t).bits))


def classifier(legend: Legend | None, kind: PixelKind, brightest: int | None = None) -> Classifier:
    """What reads a picture of this kind by this legend.

    Args:
        legend: None: what is not black is road.
        kind: of the pixels.
        brightest: the highest value of a picture in more than 8 bits, where colours are asked for; see
            `needs_brightest`.

    Raises:
        ValueError: if they do not fit.
    """
    if legend is None:
        return _NotBlack(kind)
    if legend.of_planes:
        return _ByPlane(legend, kind)
    if kind.palette is not None:
        return _ByPalette(legend, kind, kind.palette)
    if kind.bands >= 3 and legend.colours and not legend.values:
        return _ByColour(legend, kind, brightest)
    return _ByValue(legend, kind)


def needs_brightest(legend: Legend | None, kind: PixelKind) -> bool:
    """Whether colours of a picture in more than 8 bits are asked for: they may count to 255 or to 65535 there."""
    return legend is not None and bool(legend.colours) and kind.bands >= 3 and kind.dtype.itemsize > 1


def _bits_of(named: Mapping[int, str], layers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(codes ascending, their bits)."""
    codes = np.array(sorted(named), np.int64)
    bits = np.array([1 << layers.index(named[int(code)]) for code in codes], bits_type(len(layers)))
    return codes, bits


def _looked_up(
    pixels: Num[np.ndarray, "*shape"], codes: np.ndarray, bits: np.ndarray
) -> tuple[Shaped[np.ndarray, "*shape"], Bool[np.ndarray, "*shape"]]:
    """(bits of each pixel, whether it is among the codes)."""
    if pixels.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        size = np.iinfo(pixels.dtype).max + 1
        fits = (codes >= 0) & (codes < size)
        table = np.zeros(size, bits.dtype)
        table[codes[fits]] = bits[fits]
        shown = table[pixels]
        return shown, shown != 0
    at = np.minimum(np.searchsorted(codes, pixels), len(codes) - 1)
    known = codes[at] == pixels
    return np.where(known, bits[at], bits.dtype.type(0)), known


class _Unnamed:
    """Counts pixels that no class fits."""

    def __init__(self, background: int) -> None:
        self._background = background
        self.seen = self.unnamed = 0
        self.samples: list[np.ndarray] = []
        self.shown = 0

    def count(self, codes: np.ndarray, seen: np.ndarray, known: np.ndarray, bits: np.ndarray) -> None:
        self.seen += int(np.count_nonzero(seen))
        left = codes[seen & ~known & (codes != self._background)]
        self.unnamed += len(left)
        self.samples.append(left[:: 1 + len(left) // _SAMPLES].copy())  # a view would keep all of them
        self.shown |= int(np.bitwise_or.reduce(bits, axis=None))

    def most_common(self) -> tuple[np.ndarray, np.ndarray]:
        """(codes, their share among what no class fits), the most common first; of a sample."""
        codes, counts = np.unique(np.concatenate([*self.samples, np.zeros(0, np.int64)]), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return codes[order], counts[order] / max(1, counts.sum())

    def tell_unshown(self, layers: Sequence[str], summary: InputSummary) -> None:
        missing = [layer for i, layer in enumerate(layers) if not self.shown >> i & 1]
        if missing and len(missing) < len(layers):
            summary.add("warning", "legend", f"no pixel shows {', '.join(missing)}", count=len(missing))


class _ByValue(Classifier):
    """Pixels of one plane, by value."""

    def __init__(self, legend: Legend, kind: PixelKind) -> None:
        grey = {colour: layer for colour, layer in legend.colours.items() if len(set(colour)) == 1}
        odd = [colour for colour in legend.colours if colour not in grey]
        if odd:
            raise ValueError(f"'#{bytes(odd[0]).hex()}' does not fit a picture {_shape(kind)}")
        if legend.values and kind.colour and legend.colours:
            raise ValueError("it holds values and colours; a picture in colour has colours alone")
        values = dict(legend.values)
        self._scaled: list[int] = []
        if kind.white < 255 and values and max(values) > kind.white:  # meant as the grey that viewers show
            values = {round(value * kind.white / 255): layer for value, layer in values.items()}
            self._scaled = [*legend.values]
        values |= {round(colour[0] * kind.white / 255): layer for colour, layer in grey.items()}
        super().__init__(legend.layers, (0, 1, 2) if kind.colour else (0,))
        self._codes, self._bits = _bits_of(values, self.layers)
        self._kind = kind
        self._unnamed = _Unnamed(legend.background)

    def classify(self, pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
        values = pixels[..., 0]
        if pixels.shape[-1] > 1 and not (pixels == pixels[..., :1]).all():
            raise ValueError('its values do not fit a picture in colour; name colours, as "#ff0000"')
        seen_here = np.asarray(seen.any(axis=-1))
        bits, known = _looked_up(values, self._codes, self._bits)
        self._unnamed.count(values, seen_here, known, bits[seen_here])
        bits[~seen_here] = 0
        return bits

    def tell(self, summary: InputSummary) -> None:
        if self._scaled:
            summary.add("assumed", "legend", f"values beyond {self._kind.white} are shades of grey, white at 255")
        self._unnamed.tell_unshown(self.layers, summary)
        if not self._unnamed.unnamed:
            return
        codes, _ = self._unnamed.most_common()
        share = self._unnamed.unnamed / self._unnamed.seen
        examples = ", ".join(f"{code:g}" for code in codes[:3])
        _tell_share(summary, self._kind, share, f"values that no class fits, most of them {examples}", self._unnamed)


class _ByPalette(Classifier):
    """Pixels with a table of colours: keys of the legend name places in the table, or its colours."""

    def __init__(self, legend: Legend, kind: PixelKind, palette: np.ndarray) -> None:
        named = {value: layer for value, layer in legend.values.items() if 0 <= value < len(palette)}
        for colour, layer in legend.colours.items():
            for value in np.flatnonzero((palette[:, :3] == colour).all(axis=1)):
                if named.setdefault(int(value), layer) != layer:
                    raise ValueError(f"value {value} and its colour '#{bytes(colour).hex()}' have different classes")
        super().__init__(legend.layers, (0,))
        if named:
            self._codes, self._bits = _bits_of(named, self.layers)
        else:
            self._codes, self._bits = np.array([-1]), np.zeros(1, bits_type(len(self.layers)))
        self._kind, self._palette = kind, palette
        self._background = legend.background
        self._unnamed = _Unnamed(legend.background if legend.values else -1)

    def classify(self, pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
        values = pixels[..., 0]
        seen_here = seen[..., 0]
        bits, known = _looked_up(values, self._codes, self._bits)
        self._unnamed.count(values, seen_here, known, bits[seen_here])
        bits[~seen_here] = 0
        return bits

    def tell(self, summary: InputSummary) -> None:
        self._unnamed.tell_unshown(self.layers, summary)
        codes, shares = self._unnamed.most_common()
        black = (self._palette[np.minimum(codes.astype(np.int64), len(self._palette) - 1), :3] == 0).all(axis=1)
        kept = ~black
        share = float(shares[kept].sum()) * self._unnamed.unnamed / max(1, self._unnamed.seen)
        if share > 0.0:
            examples = ", ".join(
                f"{int(code)} (#{self._palette[int(code), :3].tobytes().hex()})" for code in codes[kept][:3]
            )
            _tell_share(
                summary, self._kind, share, f"values that no class fits, most of them {examples}", self._unnamed
            )


class _ByColour(Classifier):
    """Pixels of three planes, by colour."""

    def __init__(self, legend: Legend, kind: PixelKind, brightest: int | None) -> None:
        super().__init__(legend.layers, (0, 1, 2))
        self._scale = 257 if brightest is not None and brightest > 255 else 1
        self._kind = kind
        self._colours = np.array(sorted(legend.colours))
        named = {self._code(colour): layer for colour, layer in legend.colours.items()}
        self._codes, self._bits = _bits_of(named, self.layers)
        self._unnamed = _Unnamed(self._code((legend.background,) * 3))

    def _code(self, colour: tuple[int, ...]) -> int:
        red, green, blue = (int(plane) * self._scale for plane in colour)
        return (red << 32) + (green << 16) + blue

    def classify(self, pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("a picture in colour holds values of 0 to 255, or to 65535")
        codes = pixels[..., 0].astype(np.int64)
        for plane in (1, 2):
            codes <<= 16
            codes += pixels[..., plane].astype(np.int64)
        seen_here = np.asarray(seen.any(axis=-1))
        bits, known = _looked_up(codes, self._codes, self._bits)
        self._unnamed.count(codes, seen_here, known, bits[seen_here])
        bits[~seen_here] = 0
        return bits

    def tell(self, summary: InputSummary) -> None:
        if self._scale > 1:
            summary.add("assumed", "colours", "16 bits a plane, white at 65535")
        if not self._kind.colour:
            summary.add("assumed", "colours", "bands 1, 2 and 3 are red, green and blue; the file does not say so")
        self._unnamed.tell_unshown(self.layers, summary)
        if not self._unnamed.unnamed:
            return
        codes, shares = self._unnamed.most_common()
        planes = np.stack([codes >> 32, codes >> 16 & 0xFFFF, codes & 0xFFFF], axis=1) // self._scale
        near = (np.abs(planes[:, None] - self._colours[None]).max(axis=-1) <= _NEAR).any(axis=1)
        share = self._unnamed.unnamed / self._unnamed.seen
        examples = ", ".join("#" + bytes(colour).hex() for colour in planes[:3].astype(np.uint8).tolist())
        what = f"colours that no class fits, most of them {examples}"
        if near.any():
            what += f"; {_percent(share * float(shares[near].sum()))} lie near a class"
        _tell_share(summary, self._kind, share, what, self._unnamed, blurred=int(near.sum()) > 3)


class _ByPlane(Classifier):
    """Pixels with a class in every plane."""

    def __init__(self, legend: Legend, kind: PixelKind) -> None:
        self._planes = [(i, plane) for i, plane in enumerate(legend.planes) if plane]
        needed = self._planes[-1][0] + 1
        self._palette = kind.palette
        if kind.palette is None and (kind.bands == 1 or needed > kind.bands):
            names = ", ".join(PLANES[i] for i, _ in self._planes)
            raise ValueError(
                f"it gives classes to the planes {names}, and the picture has {_count(kind.bands, 'plane')}; "
                'give "legend": {"1": "road"} in place of "classes"'
            )
        super().__init__(legend.layers, (0,) if kind.palette is not None else tuple(range(min(3, kind.bands))))
        self._kind = kind
        self._tables = [(i, *_bits_of(plane, self.layers)) for i, plane in self._planes]

    def classify(self, pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
        if self._palette is not None:
            pixels, seen = _shown_colours(pixels, self._palette), np.repeat(seen, 3, axis=-1)
        bits = np.zeros(pixels.shape[:2], bits_type(len(self.layers)))
        for plane, codes, code_bits in self._tables:
            shown, _ = _looked_up(pixels[..., plane], codes, code_bits)
            bits |= np.where(seen[..., plane], shown, shown.dtype.type(0))
        return bits

    def tell(self, summary: InputSummary) -> None:
        if not self._kind.colour and self._palette is None:
            summary.add("assumed", "planes", "bands 1, 2 and 3 are red, green and blue; the file does not say so")
        if self._kind.lossy:
            summary.add(
                "warning", "classes", f"the picture is compressed with loss ({self._kind.lossy}): classes change"
            )


class _NotBlack(Classifier):
    """Without any legend: what is not black is road."""

    def __init__(self, kind: PixelKind) -> None:
        super().__init__(("road",), (0,) if kind.palette is not None or kind.bands < 3 else (0, 1, 2))
        self._kind = kind
        self._values: set[float] = set()
        self._seen = self._road = 0

    def classify(self, pixels: np.ndarray, seen: np.ndarray) -> np.ndarray:
        if self._kind.palette is not None:
            pixels, seen = _shown_colours(pixels, self._kind.palette), np.repeat(seen, 3, axis=-1)
        seen_here = np.asarray(seen.any(axis=-1))
        if pixels.shape[-1] > 1 and not (pixels == pixels[..., :1]).all(axis=-1)[seen_here].all():
            raise ValueError('it is in colour: say what they mean, as "legend": {"#ff0000": "road"}')
        road = seen_here & (pixels[..., 0] != 0)
        if pixels.dtype != np.uint8:
            self._values.update(np.unique(pixels[..., 0][road])[:3].tolist())
            if len(self._values) > 1:
                low, high = min(self._values), pixels[..., 0][road].max()
                raise ValueError(
                    f"it holds {pixels.dtype} values such as {low:g} and {high:g}: a map picture has classes or "
                    'colours; say what they mean, as "legend": {"1": "road"}'
                )
        self._seen += int(np.count_nonzero(seen_here))
        self._road += int(np.count_nonzero(road))
        bits: np.ndarray = road.astype(np.uint8)
        return bits

    def tell(self, summary: InputSummary) -> None:
        share = self._road / max(1, self._seen)
        text = f"there is none: what is not black is road, {_percent(share)} of the picture"
        if share > _MANY_ROADS:
            summary.add("warning", "legend", f'{text}; if roads are the black part, name them: {{"0": "road"}}')
        else:
            summary.add("assumed", "legend", text)


def _shown_colours(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    shown: np.ndarray = palette[np.clip(pixels[..., 0], 0, len(palette) - 1).astype(np.int64), :3]
    return shown


def _tell_share(
    summary: InputSummary, kind: PixelKind, share: float, what: str, counted: _Unnamed, *, blurred: bool = False
) -> None:
    text = f"{_percent(share)} of the pixels hold {what}"
    if kind.lossy or blurred:
        cause = f"compressed with loss ({kind.lossy})" if kind.lossy else "blurred or once compressed with loss"
        text += f". The picture was {cause}: export it as PNG, or as TIFF with DEFLATE, without smoothing"
    summary.add(
        "lost" if kind.lossy or blurred else "ignored", "legend", text, count=counted.unnamed, total=counted.seen
    )


def _shape(kind: PixelKind) -> str:
    return "in grey" if kind.bands == 1 else f"of {kind.bands} bands" if not kind.colour else "in colour"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %" if share >= 0.0005 else "under 0.1 %"
