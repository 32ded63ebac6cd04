"""The exporter: same function, same bytes, and a clear word about what it cannot write."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from services.trainer.learning.export import UnsupportedOperatorError, export_onnx


class Everything(nn.Module):
    """Uses every operator that has a translation."""

    index: Tensor
    codes: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("index", torch.tensor([2, 0]))
        self.register_buffer("codes", torch.tensor([0.0, 1.0]))
        self.register_buffer("scale", torch.tensor([1.5, 0.5]))
        self.weight = nn.Parameter(torch.randn(4, 3, generator=generator))
        self.mix = nn.Parameter(torch.randn(3, 2, generator=generator))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns [n, 4]."""
        picked = torch.index_select(a, 1, self.index)
        picked = torch.where(torch.isnan(picked), self.scale * 0.0, picked)
        same = torch.eq(picked, self.codes).float()
        mixed = torch.matmul(torch.cat([picked, same], 1), self.weight)
        hidden = torch.relu(torch.matmul(mixed, self.mix))
        length = torch.sqrt(torch.sum(hidden * hidden, 1, keepdim=True)) + 1.0
        gate = torch.sigmoid(self.scale * torch.narrow(b, 1, 1, 2) - 0.5)
        scaled = torch.clamp(hidden / length, -0.5, 0.5)
        return torch.cat([1.0 - gate, scaled + self.scale], 1)


INPUTS: dict[str, list[str | int]] = {"a": ["n", 3], "b": ["n", 3]}


def exported(module: nn.Module) -> bytes:
    """The module as ONNX."""
    return export_onnx(module, INPUTS, "y", ["n", 4])


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_an_exported_module_computes_the_same(rows: int) -> None:
    module = Everything()
    session = onnxruntime.InferenceSession(exported(module), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(rows)
    a = random.integers(0, 3, (rows, 3)).astype(np.float32)
    a[random.random(a.shape) < 0.3] = np.nan
    b = random.normal(size=(rows, 3)).astype(np.float32)
    (found,) = session.run(None, {"a": a, "b": b})
    with torch.no_grad():
        expected = module(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert np.allclose(found, expected, atol=1e-6)


def test_the_same_module_gives_the_same_bytes() -> None:
    module = Everything()
    assert exported(module) == exported(module)


def test_the_file_holds_nothing_but_the_function() -> None:
    model = onnx.load_from_string(exported(Everything()))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert model.producer_name == "trine"
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)


def test_an_operator_without_translation_is_named() -> None:
    class Sine(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.sin(a) + b

    with pytest.raises(UnsupportedOperatorError, match="sin"):
        exported(Sine())


def test_a_layer_without_translation_is_named() -> None:
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LayerNorm(3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            normal: Tensor = self.layer(a) + b
            return normal

    with pytest.raises(UnsupportedOperatorError, match="layer"):
        exported(Normalising())
