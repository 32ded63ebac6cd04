"""Features of people and of pairs, as one module that training runs and that is exported.

So serving has no second implementation that could differ. Everything is standardised on the people
of the training outcomes; no value is the mean, and who lacks one is a feature of its own.

Shapes: n people or pairs, c columns, f features of a person, g features of a pair. The features of
a person are z numbers and booleans (booleans last), then m members of enums, then missing values.
"""

import torch
from torch import Tensor, nn

from services.trainer.core.ports import Column

CLIP = 3.0
RARE = 0.01
"""Members that fewer people have are left out."""
SELDOM_MISSING = 0.005
EPSILON = 1e-9


class Features(nn.Module):
    """Fitted on some people; then columns [n, c] to features."""

    scaled: Tensor
    mean: Tensor
    deviation: Tensor
    member_columns: Tensor
    member_codes: Tensor
    member_shares: Tensor
    member_enums: Tensor
    missing: Tensor
    missing_shares: Tensor

    def __init__(self, fields: tuple[Column, ...], columns_nc: Tensor) -> None:
        super().__init__()
        booleans = [i for i, field in enumerate(fields) if field.type == "boolean"]
        enums = [i for i, field in enumerate(fields) if field.type == "enum"]
        numbers = [i for i in range(len(fields)) if i not in {*booleans, *enums}]
        self.booleans_count = len(booleans)
        self._keep("scaled", torch.tensor(numbers + booleans, dtype=torch.int64))
        mean, deviation = _moments(columns_nc[:, numbers + booleans])
        self._keep("mean", mean)
        self._keep("deviation", deviation)
        self._fit_members(fields, enums, columns_nc)
        self._fit_missing(~torch.isnan(columns_nc))

    @property
    def width(self) -> int:
        """F."""
        return len(self.scaled) + len(self.member_columns) + len(self.missing)

    @property
    def person_blocks_count(self) -> int:
        """Numbers, booleans, and each enum."""
        return 2 + self.member_enums.shape[1]

    def describe(self, columns_nc: Tensor) -> Tensor:
        """What is known of people: [n, f]."""
        values = torch.index_select(columns_nc, 1, self.scaled)
        scaled = torch.clamp((values - self.mean) / self.deviation, -CLIP, CLIP)
        scaled = torch.where(torch.isnan(values), self.mean * 0.0, scaled)
        codes = torch.index_select(columns_nc, 1, self.member_columns)
        members = torch.eq(codes, self.member_codes).float() - self.member_shares
        lacking = torch.index_select(columns_nc, 1, self.missing)
        missing = torch.isnan(lacking).float() - self.missing_shares
        return torch.cat([scaled, members, missing], 1)

    def compare(self, seekers_nf: Tensor, candidates_nf: Tensor, cosines_n1: Tensor) -> Tensor:
        """What two people have in common: [n, g]; products, equal members, cosine."""
        z, m = len(self.scaled), len(self.member_columns)
        products = torch.narrow(seekers_nf, 1, 0, z) * torch.narrow(candidates_nf, 1, 0, z)
        left = torch.narrow(seekers_nf, 1, z, m) + self.member_shares
        right = torch.narrow(candidates_nf, 1, z, m) + self.member_shares
        equal = torch.matmul(left * right, self.member_enums)
        return torch.cat([products, equal, cosines_n1], 1)

    def blocks(self) -> tuple[Tensor, Tensor]:
        """The block of each feature of a person [f] and of a pair [g]: one ridge a block."""
        z, enums = len(self.scaled), self.member_enums.shape[1]
        # Booleans after numbers, then each enum alone: one that matters must not wait for the rest.
        members = (self.member_enums.argmax(1) + 2).tolist() if enums else []
        person = [0] * (z - self.booleans_count) + [1] * self.booleans_count + members
        person += [0] * len(self.missing)
        pair = [0] * z + [1] * enums + [2]
        device = self.mean.device
        return (
            torch.tensor(person, dtype=torch.int64, device=device),
            torch.tensor(pair, dtype=torch.int64, device=device),
        )

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value)

    def _fit_members(
        self, fields: tuple[Column, ...], enums: list[int], columns_nc: Tensor
    ) -> None:
        """One feature a member that is not rare, centred."""
        kept: list[tuple[int, int, float]] = []
        for enum in enums:
            for code in range(len(fields[enum].members)):
                share = float((columns_nc[:, enum] == code).double().mean())
                if share > RARE:
                    kept.append((enum, code, share))
        self._keep("member_columns", torch.tensor([e for e, _, _ in kept], dtype=torch.int64))
        self._keep("member_codes", torch.tensor([float(code) for _, code, _ in kept]))
        self._keep("member_shares", torch.tensor([share for _, _, share in kept]))
        belongs = [[float(enum == other) for other in enums] for enum, _, _ in kept]
        self._keep("member_enums", torch.tensor(belongs).reshape(len(kept), len(enums)))

    def _fit_missing(self, present_nc: Tensor) -> None:
        """One feature a distinct pattern of who lacks a value, centred."""
        patterns: dict[bytes, int] = {}
        for column in range(present_nc.shape[1]):
            absent = ~present_nc[:, column]
            if float(absent.double().mean()) > SELDOM_MISSING:
                patterns.setdefault(absent.cpu().numpy().tobytes(), column)
        columns = list(patterns.values())
        self._keep("missing", torch.tensor(columns, dtype=torch.int64))
        self._keep("missing_shares", (~present_nc[:, columns]).float().mean(0))


def _moments(columns_nk: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each column over its values; 0 and 1 for one without values."""
    present = ~torch.isnan(columns_nk)
    values = torch.where(present, columns_nk, torch.zeros_like(columns_nk)).double()
    counts = present.double().sum(0).clamp(min=1)
    mean = values.sum(0) / counts
    squares = torch.where(present, (values - mean) ** 2, torch.zeros_like(values)).sum(0)
    deviation = (squares / counts).sqrt()
    deviation = torch.where(deviation > EPSILON, deviation, torch.ones_like(deviation))
    return mean.float(), deviation.float()
