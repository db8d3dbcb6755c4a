"""Whether a model is the one that a checkpoint was quantized from; and the two in the same coordinates.

Where channels were scaled before quantization (`empirics.checkpoints.equalization`), what is compared is the same
function in the base's coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch

from empirics import tensors
from empirics.checkpoints import equalization
from empirics.checkpoints.stored import Quantized
from empirics.models import Checkpoint
from empirics.tensors import CHUNK, TensorInfo

PREFIXES = ("model.", "transformer.")
"""What some libraries leave out of a name, and some do not."""

COMPUTED = "rotary_emb.inv_freq"
"""The end of the names of tensors that follow from the configuration."""

ROUNDING = 2.0**-8
"""A tensor that is not quantized may have been rounded to bf16, by 2**-9 of itself; doubled."""
SUBNORMAL = 2.0**-24
"""Or to fp16, whose smallest numbers are so far apart."""

COMPENSATED = 16.0
"""A method that compensates errors, as GPTQ does, may have so many times the squared error of rounding to nearest on
the same grid."""
CORRELATION = 0.3
"""Between weights and quantized weights, at least."""
NOT_NEAREST = 0.05
"""Share of weights that a method that only rounds may put at another level than the nearest: ties, rounded scales."""


class WrongBase(ValueError):
    """The model is not the one that was quantized."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A matrix of the base, and what the checkpoint made of it.

    Attributes
    ----------
    weights : tensor of shape (rows, columns)
        The base's, float32.
    dense : tensor
        As stored, in the base's coordinates.
    nearest : tensor
        The base's weights, each rounded to the nearest point of the grid that is stored.
    """

    weights: torch.Tensor
    dense: torch.Tensor
    nearest: torch.Tensor

    @cached_property
    def relative_error(self) -> float:
        """Squared error over squared weights."""
        return self._relative(self.dense)

    @cached_property
    def nearest_error(self) -> float:
        """The same, had every weight been rounded to nearest."""
        return self._relative(self.nearest)

    @cached_property
    def correlation(self) -> float:
        """Between the weights and the quantized weights, about 0."""
        x, y = (values.flatten() for values in (self.weights, self.dense))
        size = _energy(x) * _energy(y)
        return float((x * y).sum(dtype=torch.float64)) / size**0.5 if size else 0.0

    @cached_property
    def not_nearest(self) -> float:
        """Share of weights that are further from their quantized value than they need be."""
        need = (self.nearest - self.weights).abs_() + ROUNDING * self.weights.abs()
        return float(((self.dense - self.weights).abs_() > need).sum()) / need.numel()

    def _relative(self, values: torch.Tensor) -> float:
        energy = _energy(self.weights)
        return _energy(values - self.weights) / energy if energy else 0.0


class Base:
    """A quantized checkpoint and the model that it was made from. `match` makes it.

    Attributes
    ----------
    quantized : Quantized
    checkpoint : Checkpoint
        The base.
    equalized : list of str
        The normalizations whose channels were scaled.
    """

    def __init__(self, quantized: Quantized, checkpoint: Checkpoint, infos: dict[str, TensorInfo]) -> None:
        self.quantized, self.checkpoint = quantized, checkpoint
        self.equalized: list[str] = []
        self._infos = infos
        self._rows: dict[str, torch.Tensor] = {}
        self._columns: dict[str, torch.Tensor] = {}

    def info(self, name: str) -> TensorInfo:
        """The base's tensor of that name in the quantized checkpoint."""
        return self._infos[name]

    def weights(self, name: str) -> torch.Tensor:
        """The base's matrix, float32."""
        return tensors.load(self._infos[name]).float()

    def dense(self, name: str) -> torch.Tensor:
        """The quantized matrix in the base's coordinates: what may take the place of the base's own."""
        return self.quantized.dense(name) / self._scaling(name)

    def pair(self, name: str) -> Pair:
        """Both, compared.

        Raises
        ------
        WrongBase
            If they differ more than quantization explains.
        """
        weights, cells, scaling = self.weights(name), self.quantized.cells(name), self._scaling(name)
        pair = Pair(weights, cells.values / scaling, cells.nearest(weights * scaling) / scaling)
        self._check(name, pair)
        return pair

    def _scaling(self, name: str) -> torch.Tensor:
        """What multiplied the base's matrix before it was quantized."""
        one = torch.ones(1)
        return self._rows.get(name, one)[:, None] * self._columns.get(name, one)

    def _check(self, name: str, pair: Pair) -> None:
        found, least, together = pair.relative_error, pair.nearest_error, pair.correlation
        if together < CORRELATION:
            raise self._wrong(f"{name} has correlation {together:.3f} with it")
        if found > COMPENSATED * least + ROUNDING**2:
            raise self._wrong(
                f"{name} has relative squared error {found:.2e}, and rounding to its own grid explains {least:.2e}"
            )
        if self.quantized.only_rounds and (share := pair.not_nearest) > NOT_NEAREST:
            raise self._wrong(f"{100 * share:.1f} % of {name} are not at the level nearest to it")

    def _wrong(self, evidence: str) -> WrongBase:
        return WrongBase(
            f"{self.checkpoint.name} is not what {self.quantized.name} was quantized from: {evidence}. Give the very"
            " checkpoint that was quantized (that of an Instruct model, if it is one)"
        )

    def _undo_scaling(self, differing: dict[str, str]) -> None:
        """Find the scaled channels behind the normalizations that differ, or refuse with what `differing` says."""
        for norm, evidence in differing.items():
            columns = equalization.behind(norm, self.quantized, self.weights)
            if columns is None:
                raise self._wrong(evidence)
            self.equalized.append(norm)
            self._columns |= columns
        for layer in dict.fromkeys(name.rsplit(".", 2)[0] for name in self.equalized):
            for first, second, factors in equalization.between(layer, self.quantized, self.weights):
                self._rows[first], self._columns[second] = 1 / factors, factors


def match(quantized: Quantized, checkpoint: Checkpoint) -> Base:
    """Find the base's tensor of each tensor, and compare those that are not quantized.

    Parameters
    ----------
    quantized : Quantized
    checkpoint : Checkpoint
        What is said to be its base.

    Raises
    ------
    WrongBase
        If a tensor is missing, is of another shape, or was not quantized and yet differs.
    ValueError
        If the base is itself quantized, or damaged.
    """
    if checkpoint.quantized:
        raise ValueError(f"{checkpoint.name} is itself quantized: a base is the model before that")
    catalogue = {info.name: info for info in tensors.catalogue(checkpoint)}
    found = Base(quantized, checkpoint, _renamed([*quantized.names(), *quantized.others()], catalogue))
    _check_names(found, catalogue)
    differing = {}
    for name in quantized.others():
        if name in found._infos and (evidence := _differs(name, quantized, found.info(name))):
            differing[name] = evidence
    found._undo_scaling(differing)
    return found


def check_base(quantized: Quantized, base: Checkpoint) -> Base:
    """Refuse a model that is not the one that was quantized; every tensor is read and compared.

    Parameters
    ----------
    quantized : Quantized
    base : Checkpoint

    Returns
    -------
    Base
        The two, matched.

    Raises
    ------
    WrongBase
        With the tensor and the number: see `match` and `Base.pair`.
    """
    found = match(quantized, base)
    for name in quantized.names():
        found.pair(name)
    return found


def _renamed(names: Iterable[str], catalogue: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The base's tensor for each name that has one; a head that the base ties is its embedding."""
    found = {}
    for name in names:
        tried = [name, *(p + name for p in PREFIXES), *(name.removeprefix(p) for p in PREFIXES)]
        if tensors.role(name) == "head":
            tried += [other for other in catalogue if tensors.role(other) == "embedding"]
        if match := next((other for other in tried if other in catalogue), None):
            found[name] = catalogue[match]
    return found


def _check_names(base: Base, catalogue: dict[str, TensorInfo]) -> None:
    quantized, infos = base.quantized, base._infos
    ties = base.checkpoint.config.get("tie_word_embeddings", False)
    used = {info.name for info in infos.values()}
    missing = [
        name for name in catalogue
        if name not in used and not name.endswith(COMPUTED) and not (ties and tensors.role(name) == "head")
    ]  # fmt: skip
    if missing:
        raise base._wrong(f"it has {_some(missing)}, and the quantized checkpoint does not")
    unknown = [name for name in quantized.names() if name not in infos]
    unknown += [
        name for name in quantized.others()
        if name not in infos and not name.endswith(COMPUTED)
        and not (name.endswith(".bias") and not quantized.other(name).any())  # AutoGPTQ adds biases of 0
    ]  # fmt: skip
    if unknown:
        raise base._wrong(f"the quantized checkpoint has {_some(unknown)}, and it does not")
    shapes: dict[str, tuple[int, ...]] = {name: quantized.stored(name).shape for name in quantized.names()}
    shapes |= {name: quantized.other_info(name).shape for name in quantized.others() if name in infos}
    for name, shape in shapes.items():
        if shape != infos[name].shape:
            what = " (another vocabulary)" if tensors.role(name) in ("embedding", "head") else ""
            raise base._wrong(f"{name} has shape {infos[name].shape} in it and {shape} as quantized{what}")


def _differs(name: str, quantized: Quantized, info: TensorInfo) -> str | None:
    """How a tensor that is not quantized differs from the base's beyond rounding; None if it does not."""
    ours, theirs = quantized.other(name).flatten(), tensors.load(info).flatten()
    beyond, error, energy = 0, 0.0, 0.0
    for a, b in zip(ours.split(CHUNK), theirs.split(CHUNK), strict=True):
        difference, size = a.double() - b.double(), b.double()
        beyond += int((difference.abs() > ROUNDING * size.abs() + SUBNORMAL).sum())
        error, energy = error + float(difference.square().sum()), energy + float(size.square().sum())
    if not beyond:
        return None
    relative = f"{(error / energy) ** 0.5:.1e}" if energy else "infinite"
    return f"{name}, which is not quantized, differs in {beyond} of {len(ours)} values (relative error {relative})"


def _energy(values: torch.Tensor) -> float:
    return float(values.square().sum(dtype=torch.float64))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
