"""The gates once more, from the papers' equations: NumPy in float64, one value at a time, slow and obvious.

Nothing here calls torch. `p` holds a module's parameters by name. Every function takes one sample X (C, H, W).
"""

import math
from typing import TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
Params: TypeAlias = dict[str, Array]


def sigmoid(t: Array) -> Array:
    return (1 + np.tanh(t / 2)) / 2  # the same as 1 / (1 + exp(-t)), without its overflow


def relu(t: Array) -> Array:
    return np.maximum(t, 0)


def softmax(t: Array) -> Array:
    """Over the first axis."""
    e = np.exp(t - t.max(axis=0))
    return e / e.sum(axis=0)


def layer(v: Array, p: Params, name: str) -> Array:
    """W v + b, the bias where there is one; weights of convolutions with a kernel of one count as matrices."""
    weight = p[f"{name}.weight"]
    weight = weight.reshape(weight.shape[0], weight.shape[1])
    return np.array([sum(weight[o, i] * v[i] for i in range(len(v))) for o in range(len(weight))]) + bias(p, name)


def bias(p: Params, name: str) -> Array | float:
    return p.get(f"{name}.bias", 0.0)


def norm(t: Array, p: Params, name: str) -> Array:
    """Batch normalization by running statistics, channels first; none where the module has none."""
    if f"{name}.running_mean" not in p:
        return t
    y = np.empty_like(t)
    for c in range(len(t)):
        spread = math.sqrt(p[f"{name}.running_var"][c] + 1e-5)
        y[c] = (t[c] - p[f"{name}.running_mean"][c]) / spread * p[f"{name}.weight"][c] + p[f"{name}.bias"][c]
    return y


def conv(x: Array, p: Params, name: str, dilation: int = 1, groups: int = 1, edge: bool = False) -> Array:
    """Cross-correlation that keeps the size; zeros outside, or with `edge` the nearest cell."""
    weight = p[f"{name}.weight"]
    out_channels, per_group, side, _ = weight.shape
    _, height, width = x.shape
    y = np.zeros((out_channels, height, width))
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for i in range(height):
            for j in range(width):
                for u in range(side):
                    for v in range(side):
                        a, b = i + (u - side // 2) * dilation, j + (v - side // 2) * dilation
                        if edge:
                            a, b = min(max(a, 0), height - 1), min(max(b, 0), width - 1)
                        if 0 <= a < height and 0 <= b < width:
                            y[o, i, j] += weight[o, :, u, v] @ x[first : first + per_group, a, b]
    shift = bias(p, name)
    return y + (np.reshape(shift, (-1, 1, 1)))


def cells(x: Array, seen: Array | None) -> list[tuple[int, int]]:
    """The cells to pool over."""
    return [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2]) if seen is None or seen[i, j]]


def mean_cells(x: Array, seen: Array | None = None) -> Array:
    pooled = cells(x, seen)
    return sum(x[:, i, j] for i, j in pooled) / len(pooled)


def max_cells(x: Array, seen: Array | None = None) -> Array:
    return np.array([max(x[c, i, j] for i, j in cells(x, seen)) for c in range(len(x))])


def strips(x: Array, seen: Array | None) -> tuple[Array, Array]:
    """Mean of every row (C, H) and of every column (C, W); zero where nothing was seen."""
    valid = np.ones(x.shape[1:]) if seen is None else seen.astype(float)
    rows = (x * valid).sum(axis=2) / np.maximum(valid.sum(axis=1), 1)
    columns = (x * valid).sum(axis=1) / np.maximum(valid.sum(axis=0), 1)
    return rows, columns


def se(x: Array, p: Params, seen: Array | None = None) -> Array:
    s = sigmoid(layer(relu(layer(mean_cells(x, seen), p, "squeeze")), p, "excite"))
    return s[:, None, None]


def ghost_se(x: Array, p: Params, seen: Array | None = None) -> Array:
    t = layer(relu(layer(mean_cells(x, seen), p, "squeeze")), p, "excite")
    return np.array([min(max(value + 3, 0), 6) / 6 for value in t])[:, None, None]


def cam(x: Array, p: Params, seen: Array | None = None, at: str = "mlp") -> Array:
    def mlp(z: Array) -> Array:
        return layer(relu(layer(z, p, f"{at}.0")), p, f"{at}.2")

    return sigmoid(mlp(mean_cells(x, seen)) + mlp(max_cells(x, seen)))[:, None, None]


def sam(x: Array, p: Params, seen: Array | None = None, at: str = "", edge: bool = False) -> Array:
    planes = np.stack([x.mean(axis=0), x.max(axis=0)])
    if seen is not None:
        planes = planes * seen
    return sigmoid(norm(conv(planes, p, f"{at}conv", edge=edge), p, f"{at}norm"))


def cbam(x: Array, p: Params, seen: Array | None = None, parallel: bool = False) -> Array:
    of_channels = cam(x, p, seen, "channel.mlp")
    return of_channels * sam(x if parallel else of_channels * x, p, seen, "spatial.")


def bam(x: Array, p: Params, dilation: int, product: bool = False) -> Array:
    z = layer(relu(norm(layer(mean_cells(x), p, "channel.0"), p, "channel.1")), p, "channel.3")
    of_channels = norm(z, p, "channel.4")[:, None, None]
    f = x
    for stage, spread in enumerate((1, dilation, dilation)):
        f = relu(norm(conv(f, p, f"spatial.{stage}.0", spread), p, f"spatial.{stage}.1"))
    of_cells = norm(conv(f, p, "spatial_out.0"), p, "spatial_out.1")
    return 1 + sigmoid(of_channels * of_cells if product else of_channels + of_cells)


def sk(x: Array, p: Params, branches: int, groups: int) -> Array:
    """The result, not a gate."""
    u = []
    for m in range(branches):
        u.append(relu(norm(conv(x, p, f"kernels.{m}.0", m + 1, groups), p, f"kernels.{m}.1")))
    z = relu(norm(layer(mean_cells(sum(u)), p, "fuse.0"), p, "fuse.1"))
    weights = softmax(layer(z, p, "select").reshape(branches, len(x)))
    return sum(weights[m][:, None, None] * u[m] for m in range(branches))


def sca(x: Array, p: Params, spatial_first: bool = False, rescale: bool = True) -> Array:
    def of_channels(y: Array) -> Array:
        logits = [layer(np.tanh(layer(np.array([v]), p, "channel.0")), p, "channel.2")[0] for v in mean_cells(y)]
        return softmax(np.array(logits))[:, None, None] * (len(y) if rescale else 1)

    def of_cells(y: Array) -> Array:
        logits = [layer(np.tanh(layer(y[:, i, j], p, "spatial.0")), p, "spatial.2")[0] for i, j in cells(y, None)]
        return softmax(np.array(logits)).reshape(1, *y.shape[1:]) * (len(logits) if rescale else 1)

    if spatial_first:
        alpha = of_cells(x)
        return alpha * of_channels(alpha * x)
    beta = of_channels(x)
    return beta * of_cells(beta * x)


def eca(x: Array, p: Params, seen: Array | None = None) -> Array:
    z, kernel = mean_cells(x, seen), p["conv.weight"][0, 0]
    half, t = len(kernel) // 2, np.zeros(len(x))
    for c in range(len(x)):
        for u in range(len(kernel)):
            if 0 <= c + u - half < len(x):
                t[c] += kernel[u] * z[c + u - half]
    return sigmoid(t)[:, None, None]


def simam(x: Array, p: Params, regularizer: float = 1e-4) -> Array:
    gate = np.empty_like(x)
    for c, plane in enumerate(x):
        squared = (plane - plane.mean()) ** 2
        variance = squared.sum() / (plane.size - 1)
        gate[c] = sigmoid(squared / (4 * (variance + regularizer)) + 0.5)
    return gate


def gam(x: Array, p: Params, groups: int = 1, with_sigmoid: bool = True) -> Array:
    of_channels = np.empty_like(x)
    for i, j in cells(x, None):
        t = layer(relu(layer(x[:, i, j], p, "mlp.0")), p, "mlp.2")
        of_channels[:, i, j] = sigmoid(t) if with_sigmoid else t
    hidden = relu(norm(conv(of_channels * x, p, "spatial.0", groups=groups), p, "spatial.1"))
    # Channel k of group g goes to place k * groups + g, so that each group gets a share of every group.
    per_group = len(hidden) // groups
    shuffled = np.empty_like(hidden)
    for g in range(groups):
        for k in range(per_group):
            shuffled[k * groups + g] = hidden[g * per_group + k]
    return of_channels * sigmoid(norm(conv(shuffled, p, "spatial.4", groups=groups), p, "spatial.5"))


def triplet(x: Array, p: Params, spatial: bool = True) -> Array:
    """Three rotated copies of X, each scaled and rotated back, as in the paper's figure; here of a copy of ones."""

    def scaled(axes: tuple[int, int, int], name: str) -> Array:
        turned = x.transpose(axes)  # the pooled axis first
        z = np.stack([turned.max(axis=0), turned.mean(axis=0)])
        plane = sigmoid(norm(conv(z, p, f"{name}.conv"), p, f"{name}.norm"))
        return np.broadcast_to(plane, turned.shape).transpose(np.argsort(axes))

    parts = [scaled((1, 0, 2), "cw"), scaled((2, 1, 0), "hc")]
    if spatial:
        parts.append(scaled((0, 1, 2), "hw"))
    return sum(parts) / len(parts)


def coordinate(x: Array, p: Params, seen: Array | None = None) -> Array:
    def hswish(t: Array) -> Array:
        return t * np.clip(t + 3, 0, 6) / 6

    def gates(z: Array, name: str) -> Array:
        columns = [hswish(norm(layer(z[:, k], p, "squeeze.0"), p, "squeeze.1")) for k in range(z.shape[1])]
        return sigmoid(np.stack([layer(f, p, name) for f in columns], axis=1))

    z_rows, z_columns = strips(x, seen)
    return gates(z_rows, "rows")[:, :, None] * gates(z_columns, "columns")[:, None, :]


def strip(x: Array, p: Params, seen: Array | None = None) -> Array:
    def conv1d(z: Array, name: str) -> Array:
        weight, y = p[f"{name}.weight"], np.zeros_like(z)
        side = weight.shape[2]
        for k in range(z.shape[1]):
            for u in range(side):
                if 0 <= k + u - side // 2 < z.shape[1]:
                    y[:, k] += weight[:, :, u] @ z[:, k + u - side // 2]
        return y

    z_rows, z_columns = strips(x, seen)
    of_rows, of_columns = (
        norm(conv1d(z_rows, "rows"), p, "rows_norm"),
        norm(conv1d(z_columns, "columns"), p, "columns_norm"),
    )
    y = of_rows[:, :, None] + of_columns[:, None, :]
    y = relu(y) if "rows_norm.weight" in p else y
    gate = np.empty_like(x)
    for i, j in cells(x, None):
        gate[:, i, j] = sigmoid(layer(y[:, i, j], p, "mix"))
    return gate


def gc(x: Array, p: Params, seen: Array | None = None) -> Array:
    """The result, not a gate."""
    pooled = cells(x, seen)
    weights = softmax(np.array([p["key.weight"][0, :, 0, 0] @ x[:, i, j] for i, j in pooled]))
    context = sum(weight * x[:, i, j] for weight, (i, j) in zip(weights, pooled, strict=True))
    t = layer(context, p, "transform.0")
    t = (t - t.mean()) / math.sqrt(t.var() + 1e-5) * p["transform.1.weight"] + p["transform.1.bias"]
    return x + layer(relu(t), p, "transform.3")[:, None, None]
