"""The mechanisms that compare cells, once more from the papers' equations: NumPy in float64, slow and obvious loops.

Every function takes one sample (C, ...) and a module's parameters by name. Torch appears only in the two helpers that
draw parameters at random and hand them over.
"""

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

Array: TypeAlias = np.ndarray
Params: TypeAlias = dict[str, Array]


def randomized(module: nn.Module, seed: int = 0, spread: float = 0.5) -> nn.Module:
    """The module in float64 and evaluation mode with every parameter drawn anew, zeros at start included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module.eval()


def params(module: nn.Module) -> Params:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def pointwise(x: Array, p: Params, name: str) -> Array:
    """A convolution with a kernel of one: the same matrix in every cell."""
    weight = p[f"{name}.weight"].reshape(len(p[f"{name}.weight"]), -1)
    cells = x.reshape(len(x), -1)
    y = np.stack([weight @ cells[:, i] + p.get(f"{name}.bias", 0.0) for i in range(cells.shape[1])], axis=1)
    return y.reshape(-1, *x.shape[1:])


def softmax(t: Array) -> Array:
    e = np.exp(t - t.max())
    return e / e.sum()


def halved(x: Array, axes: tuple[int, ...]) -> Array:
    """Maximum over neighbouring pairs along each of the axes; what is left over at the end is dropped."""
    for axis in axes:
        size = x.shape[axis] // 2
        even, odd = (np.take(x, [2 * i + k for i in range(size)], axis=axis) for k in (0, 1))
        x = np.maximum(even, odd)
    return x


def gathered(query: Array, key: Array, value: Array, scale: float = 1.0) -> Array:
    """sum_j softmax_j(scale q_i . k_j) v_j for maps (d, ...), (d, ...), (e, ...)."""
    q, k, v = (part.reshape(len(part), -1) for part in (query, key, value))
    out = np.zeros((len(v), q.shape[1]))
    for i in range(q.shape[1]):
        weights = softmax(np.array([scale * sum(q[:, i] * k[:, j]) for j in range(k.shape[1])]))
        for j in range(k.shape[1]):
            out[:, i] += weights[j] * v[:, j]
    return out.reshape(-1, *query.shape[1:])


def position(x: Array, p: Params) -> Array:
    """DANet's position attention, and SAGAN's in its full form."""
    return x + p["gamma"] * gathered(*(pointwise(x, p, f"{part}_conv") for part in ("query", "key", "value")))


def sagan_official(x: Array, p: Params) -> Array:
    query, key, value = (pointwise(x, p, f"{part}_conv") for part in ("query", "key", "value"))
    return x + p["gamma"] * pointwise(gathered(query, halved(key, (1, 2)), halved(value, (1, 2))), p, "out_conv")


def channel(x: Array, p: Params, official: bool, scale: str, temperature: float) -> Array:
    flat = x.reshape(len(x), -1)
    look = flat / np.array([[math.sqrt(sum(row * row))] for row in flat]) if scale == "cosine" else flat
    y = x.copy()
    for j in range(len(x)):
        energy = np.array([sum(look[j] * look[i]) for i in range(len(x))]) / temperature
        if scale == "cells":
            energy = energy / flat.shape[1]
        weights = softmax(energy.max() - energy if official else energy)
        for i in range(len(x)):
            y[j] += p["gamma"] * weights[i] * x[i]
    return y


def non_local(x: Array, p: Params, pairwise: str, subsample: bool, scaled: bool) -> Array:
    axes = tuple(range(2 if x.ndim == 4 else 1, x.ndim)) if subsample else ()
    g = halved(pointwise(x, p, "g"), axes)
    theta, phi = x, halved(x, axes)
    if pairwise != "gaussian":
        theta, phi = pointwise(x, p, "theta"), halved(pointwise(x, p, "phi"), axes)
    scale = 1 / math.sqrt(len(theta)) if scaled else 1.0
    if pairwise.endswith("gaussian"):
        y = gathered(theta, phi, g, scale)
    else:
        q, k, v = (part.reshape(len(part), -1) for part in (theta, phi, g))
        y = np.zeros((len(v), q.shape[1]))
        for i in range(q.shape[1]):
            for j in range(k.shape[1]):
                if pairwise == "dot_product":
                    f = scale * sum(q[:, i] * k[:, j])
                else:
                    f = max(0.0, sum(p["concat_project.weight"].ravel() * np.concatenate([q[:, i], k[:, j]])))
                y[:, i] += f * v[:, j] / k.shape[1]
        y = y.reshape(-1, *x.shape[1:])
    return x + pointwise(y, p, "W.0")


def criss_cross(x: Array, p: Params) -> Array:
    query, key, value = (pointwise(x, p, f"{part}_conv") for part in ("query", "key", "value"))
    _, height, width = x.shape
    y = x.copy()
    for r in range(height):
        for c in range(width):
            cross = [(r, other) for other in range(width)] + [(other, c) for other in range(height) if other != r]
            weights = softmax(np.array([sum(query[:, r, c] * key[:, i, j]) for i, j in cross]))
            for weight, (i, j) in zip(weights, cross, strict=True):
                y[:, r, c] += p["gamma"] * weight * value[:, i, j]
    return y


def warped(x: Array, theta: Array) -> Array:
    """Bilinear sampling at theta (x_t, y_t, 1), both axes from border to border in [-1, 1], zero outside."""
    _, height, width = x.shape
    y = np.zeros_like(x)
    for r in range(height):
        for c in range(width):
            target = np.array([(2 * c + 1) / width - 1, (2 * r + 1) / height - 1, 1.0])
            x_s, y_s = theta @ target
            col, row = ((x_s + 1) * width - 1) / 2, ((y_s + 1) * height - 1) / 2
            for n in range(height):
                for m in range(width):
                    y[:, r, c] += x[:, n, m] * max(0, 1 - abs(row - n)) * max(0, 1 - abs(col - m))
    return y


def convolved(x: Array, p: Params, name: str, padding: int) -> Array:
    """A convolution with a square kernel and zeros around."""
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    size = weight.shape[2]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    height, width = padded.shape[1] - size + 1, padded.shape[2] - size + 1
    y = np.zeros((len(weight), height, width))
    for r in range(height):
        for c in range(width):
            patch = padded[:, r : r + size, c : c + size]
            y[:, r, c] = [(w * patch).sum() + b for w, b in zip(weight, bias, strict=True)]
    return y


def entropy(features: Array, p: Params) -> float:
    """Of the softmax of dynamic capacity's top layers."""
    peaks = np.maximum(convolved(features, p, "top_conv", 1), 0).max(axis=(1, 2))
    probabilities = softmax(p["top_linear.weight"] @ peaks + p["top_linear.bias"])
    return float(-(probabilities * np.log(probabilities)).sum())


def autocorrelation(row: Array, lag: int) -> float:
    return float(sum(row[u] * row[u + lag] for u in range(len(row) - lag)))
