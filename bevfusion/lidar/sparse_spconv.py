"""Sparse convolutions by spconv 2 (https://github.com/traveller59/spconv): the fast way on CUDA.

Our weights are handed to its layers at every call, so a checkpoint knows nothing of the backend.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from bevfusion.lidar.sparse_map import SparseMap

_INSTALL = "pip install 'bevfusion[gpu]'"


class SpconvBackend:
    """CUDA, or spconv's native algorithm on the CPU; float32 (spconv has no bfloat16).

    Raises:
        ImportError: if spconv is not installed; the message names what to install.
    """

    name = "spconv"

    def __init__(self) -> None:
        _spconv()
        self._layers: dict[tuple[object, ...], nn.Module] = {}

    def submanifold(self, x: SparseMap, weight: Tensor, key: str) -> SparseMap:
        """Output at the cells of the input."""
        return self._convolved(x, weight, key)

    def strided(self, x: SparseMap, weight: Tensor) -> SparseMap:
        """Output at every cell that an input reaches, in an order of spconv's own."""
        return self._convolved(x, weight, None)

    def _convolved(self, x: SparseMap, weight: Tensor, key: str | None) -> SparseMap:
        layer = self._layer(weight, key, x.features.device.type)
        given = _spconv().pytorch.SparseConvTensor(x.features, x.cells, list(x.size), x.batch, indice_dict=x.rulebooks)
        y = torch.func.functional_call(layer, {"weight": weight}, (given,))
        if key is not None:
            x.rulebooks.update(y.indice_dict)
            return x.with_features(y.features)
        layers, rows, columns = y.spatial_shape
        return SparseMap(y.features, y.indices, (layers, rows, columns), x.batch)

    def _layer(self, weight: Tensor, key: str | None, device: str) -> nn.Module:
        """A layer of spconv to lend weights to, without any of its own in memory."""
        channels, wanted = (weight.shape[-1], weight.shape[0]), (weight.shape, key, device)
        if wanted not in self._layers:
            spconv = _spconv()
            # Only the native algorithm runs on a CPU; None lets spconv choose.
            algorithm = spconv.core.ConvAlgo.Native if device == "cpu" else None
            with torch.device("meta"):
                if key is not None:
                    made = spconv.pytorch.SubMConv3d(*channels, 3, bias=False, indice_key=key, algo=algorithm)
                else:
                    made = spconv.pytorch.SparseConv3d(*channels, 3, stride=2, padding=1, bias=False, algo=algorithm)
            # Training mode for good: out of it spconv takes a path without gradients.
            self._layers[wanted] = made.train()
        return self._layers[wanted]


def _spconv() -> Any:
    """The package; imported late, since that takes seconds."""
    try:
        with warnings.catch_warnings():
            # spconv still uses the old names of torch.cuda.amp
            warnings.simplefilter("ignore", FutureWarning)
            import spconv.core
            import spconv.pytorch
    except ImportError as error:
        raise ImportError(f"the sparse encoder's backend 'spconv' is not installed here: {_INSTALL}") from error
    return spconv
