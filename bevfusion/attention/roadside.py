"""Roadside repetition: attention to what stands beside the road at a stable spacing. Ours; no paper.

Lamps, trees, facades and parked-car rows repeat along a road, on both of its sides; traffic and clutter do not. So:

1. Direction. Each sample has one road direction phi, in double angles (a road has no front): the mean of
   (cos 2phi, sin 2phi) over the cells where the map has a road; where it has none, across the mean gradient of the
   features (their structure tensor), with the grid's x axis, along which a vehicle drives, as a weak prior.
2. Aligned frame. A 1 x 1 convolution makes G maps s_g of x; they are turned into a frame (v, u), u along the road, v
   across it and 0 on it. M is 1 where that frame lies inside the map. In every row v the mean is taken off: s~.
3. Autocorrelation of each row, by FFT with zero padding (Wiener-Khinchin), and the same of M, the overlap:
       R_v(t) = sum_g sum_u s~_g(v, u) s~_g(v, u + t),     M_v(t) = sum_u M(v, u) M(v, u + t).
   R and M are pooled over `rows` neighbouring rows and, with weight `mirror`, over the row on the other side of the
   road, R_v + mirror R_{-v}: both sides share their spacing, and a single row of posts that jitter by a cell is not
   enough.
4. Lag. Biased rho_b = R(t) / R(0) picks the fundamental among its multiples, where the unbiased
   rho_u = (R(t) / M(t)) / (R(0) / M(0)) would drift to them; rho_u weighs. For both, the *rise* above half the lag,
       e(t) = rho(t) - max(0, rho(t / 2)),
   is what counts: it is 1 for posts at their spacing, 0 at twice that, and not positive for anything that merely is
   smooth (a wall, a hedge), whose rho falls steadily.
       a_v(t) = softmax_t(sharpness e_b(t)),    c_v = sigmoid(8 (sum_t a_v(t) (e_u(t) - z(t)) / (1 - z(t)) - 1/2))
   with z(t) = 3 / sqrt(G M(t)), what the correlation of white noise may reach. Lags that fit into a row less than
   twice are not judged: two posts are no repetition.
5. Cells. In a row of spacing a_v a cell belongs to the repetition as far as it equals what stands one spacing away,
       n_g(v, u) = mean of s~_g(v, u - t) and s~_g(v, u + t) inside the map, over t by a_v(t)    (one more FFT product)
       w(v, u) = c_v [sum_g s~_g n_g / max(sum_g s~_g^2, floor)]_0..1,    floor = a tenth of the map's mean energy
6. Gate. w is turned back into the grid; with w* its mean over cells, weighted by their energy sum_g s_g^2,
       y = x (1 + tanh(gamma) (w - w*)),     gamma = 0 at start: identity.
   Cells that repeat gain and those that do not lose by the same measure, between 0 and 2. Where nothing repeats (white
   noise) or everything does, w = w* and the gate is 1.

Limits: one direction a sample (a bend or a crossing is seen along its main road only); lags in cells of the feature
map; spacing is taken as constant over the length of the map. Cost O(G D^2 log D) with D the map's diagonal.
"""

import math
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import Need, Needs, check_at_least, check_odd

_PRIOR = 0.02  # of the x axis against a fully coherent gradient
_SMALL = 1e-6
_ENERGY_FLOOR = 0.1  # of the mean energy of a cell
_STEEPNESS = 8.0  # of the confidence
_NOISE = 3.0  # standard deviations of the correlation of white noise
_MIN_OVERLAP = 0.5  # of a row: a spacing must fit in three times, or any two posts would be a repetition


class Repetition(NamedTuple):
    """What repeats along the road."""

    weight: Float[Tensor, "b 1 h w"]  # w, in the grid of the input
    lag: Float[Tensor, "b d"]  # mean lag under a_v of each row of the aligned frame, in cells
    confidence: Float[Tensor, "b d"]  # c_v, 0 to 1
    road: Float[Tensor, "b 2"]  # cos and sin of the direction (not doubled) in the grid's axes


class Roadside(nn.Module):
    """Gates cells by how well their structure repeats along the road; identity at start.

    Args:
        channels: Channels of input and output.
        groups: G, maps in which repetition is looked for.
        min_lag: Shortest spacing, in cells; at least 2.
        max_lag: Longest spacing, in cells; cut at half of the map's diagonal.
        rows: Neighbouring rows pooled; odd.
        mirror: Weight of the other side of the road, 0 to 1.
        sharpness: Of the choice of the lag.

    Raises:
        ValueError: if an option is out of its range.
    """

    needs: ClassVar[Needs] = frozenset({Need.ROAD})

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 8,
        min_lag: int = 4,
        max_lag: int = 64,
        rows: int = 3,
        mirror: float = 0.5,
        sharpness: float = 30.0,
    ) -> None:
        super().__init__()
        for name, value, least in (("channels", channels, 1), ("groups", groups, 1), ("min_lag", min_lag, 2)):
            check_at_least(name, value, least)
        check_at_least("max_lag", max_lag, min_lag)
        check_at_least("sharpness", sharpness, 0.0)
        check_odd("rows", rows)
        if not 0.0 <= mirror <= 1.0:
            raise ValueError(f"mirror must lie between 0 and 1, got {mirror}")
        self.min_lag, self.max_lag = min_lag, max_lag
        self.rows, self.mirror, self.sharpness = rows, mirror, sharpness
        self.project = nn.Conv2d(channels, groups, 1, bias=False)  # a bias would vanish with the mean of the row
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Float[Tensor, "b c h w"], road_cos2_sin2: Float[Tensor, "b 2 h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The gated features; `road_cos2_sin2` as in `gate`."""
        return x * self.gate(x, road_cos2_sin2)

    def gate(
        self, x: Float[Tensor, "b c h w"], road_cos2_sin2: Float[Tensor, "b 2 h w"] | None = None
    ) -> Float[Tensor, "b 1 h w"]:
        """1 + tanh(gamma) (w - w*), in (0, 2).

        Args:
            x: features.
            road_cos2_sin2: cos and sin of twice the road's direction in the grid's axes (x along columns, y along rows,
                counter-clockwise from x), (0, 0) where there is no road; any length says how sure the map is.
        """
        weight = self.repetition(x, road_cos2_sin2).weight
        energy = _wide(self.project(x)).square().sum(1, keepdim=True)
        mean = (weight * energy).sum((2, 3), keepdim=True) / (energy.sum((2, 3), keepdim=True) + _SMALL)
        gate: Tensor = 1.0 + self.gamma.tanh() * (weight - mean)
        return gate.to(x.dtype)

    def repetition(
        self, x: Float[Tensor, "b c h w"], road_cos2_sin2: Float[Tensor, "b 2 h w"] | None = None
    ) -> Repetition:
        """Weights, and the lag and confidence of every row of the aligned frame, for losses and pictures."""
        with torch.autocast(x.device.type, enabled=False):
            maps = _wide(self.project(x))
            road, offset = road_direction(maps, road_cos2_sin2)
            side = math.ceil(math.hypot(*x.shape[2:]))
            aligned, inside = _turned_to_road(maps, road, offset, side)
            inside = (inside > 0.999).to(maps.dtype)
            rows = inside.sum(3, keepdim=True).clamp(min=1)
            centred = (aligned - (aligned * inside).sum(3, keepdim=True) / rows) * inside
            lag_weights, confidence = self._spacing(centred, inside)
            weight = self._belonging(centred, inside, lag_weights) * confidence[:, None, :, None]
            lags = torch.arange(lag_weights.shape[2], dtype=maps.dtype, device=maps.device)
            back = _turned_back(weight, road, offset, x.shape[2], x.shape[3])
            return Repetition(back, (lag_weights * lags).sum(2), confidence, road)

    def _spacing(
        self, centred: Float[Tensor, "b g d d"], inside: Float[Tensor, "b 1 d d"]
    ) -> tuple[Float[Tensor, "b d t"], Float[Tensor, "b d"]]:
        """a_v(t) for t = 0.. (zero outside min_lag .. max_lag) and c_v."""
        last = min(self.max_lag, centred.shape[3] // 2)
        power, overlap = self._pooled(_autocorrelation(centred, last)), self._pooled(_autocorrelation(inside, last))
        if last < self.min_lag:
            return torch.zeros_like(power), power.new_zeros(power.shape[:2])
        scale = power[..., :1] + _SMALL * power.mean((1, 2), keepdim=True).clamp(min=0) + _SMALL**2
        biased = power / scale
        share = overlap / overlap[..., :1].clamp(min=1)
        judged = (share > _MIN_OVERLAP)[..., self.min_lag :]
        unbiased = biased / share.clamp(min=_MIN_OVERLAP)
        score = (self.sharpness * _rise(biased)[..., self.min_lag :]).masked_fill(~judged, -1e4)
        chosen = score.softmax(2) * judged
        noise = _NOISE / (centred.shape[1] * overlap[..., self.min_lag :]).clamp(min=1).sqrt()
        above = (_rise(unbiased)[..., self.min_lag :] - noise) / (1.0 - noise).clamp(min=0.1)
        # Soft at both ends: where nothing repeats yet, the projection must still learn what could.
        confidence = torch.sigmoid(_STEEPNESS * ((chosen * above).sum(2) - 0.5))
        return F.pad(chosen, (self.min_lag, 0)), confidence

    def _pooled(self, of_rows: Float[Tensor, "b d t"]) -> Float[Tensor, "b d t"]:
        """Sums over neighbouring rows and, weighted, over the mirrored row."""
        both = of_rows + self.mirror * of_rows.flip(1)
        return F.avg_pool1d(both.transpose(1, 2), self.rows, 1, self.rows // 2).transpose(1, 2) * self.rows

    def _belonging(
        self, centred: Float[Tensor, "b g d d"], inside: Float[Tensor, "b 1 d d"], lag_weights: Float[Tensor, "b d t"]
    ) -> Float[Tensor, "b 1 d d"]:
        """How well each cell equals its neighbours one spacing away, 0 to 1."""
        either_side = _convolved_both_ways(torch.cat([centred, inside], dim=1), lag_weights)
        neighbour = either_side[:, :-1] / either_side[:, -1:].clamp(min=0.1)
        energy = centred.square().sum(1, keepdim=True)
        mean_energy = energy.sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
        agreement = (centred * neighbour).sum(1, keepdim=True)
        floor = _ENERGY_FLOOR * mean_energy + _SMALL**2
        return (agreement / torch.maximum(energy, floor.expand_as(energy))).clamp(0.0, 1.0)


def road_direction(
    maps: Float[Tensor, "b g h w"], road_cos2_sin2: Float[Tensor, "b 2 h w"] | None
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, " b"]]:
    """Cos and sin of each sample's road direction, and how far to its left the road runs from the centre, in cells."""
    doubled = _across_gradient(maps)
    offset = maps.new_zeros(maps.shape[0])
    if road_cos2_sin2 is not None:
        field = road_cos2_sin2.to(maps.dtype)
        mean = field.mean((2, 3))
        known = torch.linalg.vector_norm(mean, dim=1) > _SMALL
        doubled = torch.where(known[:, None], mean, doubled)
    angle = 0.5 * torch.atan2(doubled[:, 1], doubled[:, 0])
    road = torch.stack([angle.cos(), angle.sin()], dim=1)
    if road_cos2_sin2 is not None:
        strength = torch.linalg.vector_norm(field, dim=1)
        x, y = _centred_cells(maps.shape[2], maps.shape[3], maps)
        left = road[:, 0, None, None] * y - road[:, 1, None, None] * x
        offset = (strength * left).sum((1, 2)) / (strength.sum((1, 2)) + _SMALL)
    return road, offset


def _across_gradient(maps: Float[Tensor, "b g h w"]) -> Float[Tensor, "b 2"]:
    """Doubled direction across the mean gradient: of energy 1 where all gradients agree, plus the prior."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate") if maps.numel() else F.pad(maps, (1, 1, 1, 1))
    # Sobel's: without smoothing across, the differences lean to the grid's axes by three degrees.
    dx = _smooth((padded[..., 2:] - padded[..., :-2]).transpose(2, 3)).transpose(2, 3)
    dy = _smooth(padded[:, :, 2:] - padded[:, :, :-2])
    xx, yy, xy = (part.sum((1, 2, 3)) for part in (dx * dx, dy * dy, dx * dy))
    doubled = -torch.stack([xx - yy, 2.0 * xy], dim=1) / (xx + yy + _SMALL)[:, None]
    doubled = doubled + _PRIOR * doubled.new_tensor([1.0, 0.0])
    # At exactly zero the angle has no derivative.
    lost = torch.linalg.vector_norm(doubled.detach(), dim=1, keepdim=True) < 1e-4
    return torch.where(lost, doubled.new_tensor([1.0, 0.0]), doubled)


def _smooth(x: Float[Tensor, "b g h w"]) -> Float[Tensor, "b g h w2"]:
    """Means along the last axis, weighted 1 : 2 : 1; two cells shorter."""
    return 0.25 * (x[..., :-2] + 2.0 * x[..., 1:-1] + x[..., 2:])


def _rise(rho: Float[Tensor, "b d t"]) -> Float[Tensor, "b d t"]:
    """rho(t) - max(0, rho(t / 2)), between two lags where t is odd."""
    lags = torch.arange(rho.shape[2], device=rho.device)
    half = torch.div(lags, 2, rounding_mode="floor")
    return rho - 0.5 * (rho[..., half] + rho[..., lags - half]).clamp(min=0)


def _autocorrelation(rows: Float[Tensor, "b g d e"], last: int) -> Float[Tensor, "b d t"]:
    """sum_g sum_u r(u) r(u + t) for t = 0 .. last; padded, so nothing wraps around."""
    if not rows.shape[0]:  # the FFT of MKL refuses an empty batch
        return rows.new_zeros(0, rows.shape[2], last + 1)
    spectrum = torch.fft.rfft(rows, 2 * rows.shape[3])
    power = (spectrum.real.square() + spectrum.imag.square()).sum(1)
    correlation: Tensor = torch.fft.irfft(power, 2 * rows.shape[3])
    return correlation[..., : last + 1]


def _convolved_both_ways(
    rows: Float[Tensor, "b g d e"], lag_weights: Float[Tensor, "b d t"]
) -> Float[Tensor, "b g d e"]:
    """sum_t a(t) (r(u - t) + r(u + t))."""
    size = 2 * rows.shape[3]
    if not rows.shape[0]:
        return rows
    # A kernel that is symmetric about 0 has a real spectrum: twice the real part of one side's.
    kernel = 2.0 * torch.fft.rfft(lag_weights, size).real
    convolved: Tensor = torch.fft.irfft(torch.fft.rfft(rows, size) * kernel[:, None], size)
    return convolved[..., : rows.shape[3]]


def _turned_to_road(
    maps: Float[Tensor, "b g h w"], road: Float[Tensor, "b 2"], offset: Float[Tensor, " b"], side: int
) -> tuple[Float[Tensor, "b g d d"], Float[Tensor, "b 1 d d"]]:
    """The maps in the aligned frame, and how much of each of its cells lies inside the map."""
    height, width = maps.shape[2:]
    u, v = _centred_cells(side, side, maps)
    cos, sin = road[:, 0, None, None], road[:, 1, None, None]
    v = v + offset[:, None, None]
    points = torch.stack([(cos * u - sin * v) * (2.0 / width), (sin * u + cos * v) * (2.0 / height)], dim=3)
    both = F.grid_sample(torch.cat([maps, torch.ones_like(maps[:, :1])], dim=1), points, align_corners=False)
    return both[:, :-1], both[:, -1:].detach()


def _turned_back(
    weight: Float[Tensor, "b 1 d d"], road: Float[Tensor, "b 2"], offset: Float[Tensor, " b"], height: int, width: int
) -> Float[Tensor, "b 1 h w"]:
    x, y = _centred_cells(height, width, weight)
    cos, sin = road[:, 0, None, None], road[:, 1, None, None]
    points = torch.stack([cos * x + sin * y, cos * y - sin * x - offset[:, None, None]], dim=3)
    return F.grid_sample(weight, points * (2.0 / weight.shape[3]), align_corners=False)


def _centred_cells(height: int, width: int, like: Tensor) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Both coordinates (x, y) of the cell centres, in cells from the centre of the map."""
    y, x = (torch.arange(size, dtype=like.dtype, device=like.device) - 0.5 * (size - 1) for size in (height, width))
    return x.expand(height, width), y[:, None].expand(height, width)


def _wide(x: Tensor) -> Tensor:
    """At least float32: half precision has no FFT to speak of."""
    return x if x.dtype == torch.float64 else x.float()
