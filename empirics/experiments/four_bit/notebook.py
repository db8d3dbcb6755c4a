"""The quantities of the notebooks' comparison as the notebooks compute them, errors and all.

The weight error is that of one matrix, the down projection of the middle layer. The logits are compared on one
sentence, or on a few that are padded to one length, the padding averaged in. No standard error comes of either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from empirics import quantizers
from empirics.experiments.degradation import Subject, matrices
from empirics.experiments.four_bit.methods import BLOCKS, Method
from empirics.experiments.four_bit.weights import Law
from empirics.functional import Weights
from empirics.language_model import LanguageModel, replaced
from empirics.store import Store
from empirics.tensors import layer, role
from theory import ggd
from theory.audit import reported_entropy

Rows = list[dict[str, Any]]
SENTENCES = 10
MAX_LENGTH = 128
_SENTENCE = re.compile(r".+?(?:[.!?؟։।]+(?=\s|$)|[。！？]+|$)", re.DOTALL)


def representative(lm: LanguageModel) -> str:
    """The down projection of the middle layer, or the largest matrix of that layer where there is none.

    >>> from empirics.language_model import open_model
    >>> representative(open_model("pocket-llama"))
    'model.layers.3.mlp.down_proj.weight'
    """
    found = lm.linear()
    depths = sorted({d for name in found if (d := layer(name)) is not None})
    middle = [name for name in found if layer(name) == depths[len(depths) // 2]]
    return next((name for name in middle if role(name) == "down"), max(middle, key=lambda n: found[n].numel()))


def sentences(subject: Subject) -> list[str]:
    """The first sentence of each of the first ten texts."""
    return [_SENTENCE.match(text.text).group() for text in islice(subject.texts, SENTENCES)]  # type: ignore[union-attr]


def padded(lm: LanguageModel, lines: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of a batch, as the notebooks' tokenizer makes it: cut to 128 tokens, padded to the longest."""
    tokenizer = lm.tokenizer
    length = min(MAX_LENGTH, lm.context or MAX_LENGTH)
    rows = [tokenizer(line, truncation=True, max_length=length).input_ids for line in lines]
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    pad = next(token for token in known if token is not None)
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.int64)
    for row, own in enumerate(rows):
        where = slice(width - len(own), width) if tokenizer.padding_side == "left" else slice(len(own))
        ids[row, where], mask[row, where] = torch.tensor(own), 1
    return ids.to(lm.device), mask.to(lm.device)


def logits(lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return lm.network(input_ids=ids, attention_mask=mask, use_cache=False).logits.double()


def functional(subject: Subject, weights: Weights) -> dict[str, float]:
    """Logits MSE and loss change as the notebooks have them.

    Returns
    -------
    dict of str to float
        ``logits_mse`` and ``delta_ce`` (nats), of one sentence; ``padded_logits_mse`` of several, padding averaged
        in, ``masked_logits_mse`` of the same without it, and ``pads``, the share of padding.
    """
    lm, lines = subject.lm, sentences(subject)
    batches = [padded(lm, lines[:1]), padded(lm, lines)]
    before = [logits(lm, *batch) for batch in batches]
    with replaced(lm, weights):
        after = [logits(lm, *batch) for batch in batches]
    one, several = ((a - b).square().mean(-1) for a, b in zip(after, before, strict=True))
    ids, mask = batches[0][0], batches[1][1].double()
    losses = [float(cross_entropy(x[0, :-1], ids[0, 1:])) for x in (before[0], after[0])]
    return {
        "logits_mse": float(one.mean()), "delta_ce": losses[1] - losses[0],
        "padded_logits_mse": float(several.mean()),
        "masked_logits_mse": float((several * mask).sum() / mask.sum()), "pads": 1 - float(mask.mean()),
    }  # fmt: skip


def gaps(law: Law, mse: float, bits: float) -> dict[str, float]:
    """Bits to the Gaussian limit and to the GGD's, of whose entropy a part is in nats; at the nominal rate."""
    if not mse > 0:
        return {"gap_bits_vs_gauss": math.nan, "gap_bits_vs_ggd": math.nan}
    entropy = reported_entropy(law.beta, float(ggd.alpha(law.beta, math.sqrt(law.variance))))
    limit = 2 ** (2 * (entropy - bits)) / (2 * math.pi * math.e)
    return {
        "gap_bits_vs_gauss": math.log2(mse / law.variance * 4**bits) / 2,
        "gap_bits_vs_ggd": math.log2(mse / limit) / 2,
    }


def packed(lm: LanguageModel, name: str) -> dict[str, Any]:
    """What reading ``.weight`` of a 4-bit module gives: bytes, two indices in each, in a column.

    Returns
    -------
    dict of str
        ``shape`` of the bytes, and ``refused``: what numpy says to their difference from the weights; None if the
        shapes happen to broadcast, to a difference of numbers that have nothing to do with each other.
    """
    weights = matrices(lm)[name].cpu().float().numpy()
    column = np.zeros((-(-weights.size // 2), 1), dtype=np.float32)
    try:
        np.subtract(weights, column)
    except ValueError as error:
        return {"shape": list(column.shape), "refused": str(error).strip()}
    return {"shape": list(column.shape), "refused": None}


def rows(subject: Subject, chosen: Sequence[Method], fitted: dict[str, Law], store: Store) -> Rows:
    """Every method as the notebooks compute it: nothing here has a standard error, because they have none."""
    lm, made = subject.lm, []
    name = representative(lm)
    grouped = {method: (theirs, size) for method, _, size, theirs in BLOCKS}
    for method in chosen:

        def compute(method: Method = method) -> dict[str, Any]:
            weights = method.quantization.weights(lm)
            before = matrices(lm)[name].detach().float()
            if method.name in grouped:
                quantizer, size = grouped[method.name]
                after = quantizers.get(quantizer).quantize(before.contiguous(), size, name)
            else:
                with replaced(lm, weights):
                    after = matrices(lm)[name].detach().float()
            return functional(subject, weights) | {"weight_mse": float((before - after).square().mean())}

        known = subject.key("four-bit notebook", **method.quantization.settings)
        record = store.remember(known, compute, subject.provenance)
        mse, bits = record["weight_mse"], method.mean_bits(lm).nominal
        amplification = record["logits_mse"] / mse if mse else math.nan
        made.append({"method": method.name, "bits": bits, **record, "amplification": amplification,
                     **gaps(fitted[name], mse, bits)})  # fmt: skip
    return made


def correlation(four: set[str], theirs: Rows) -> dict[str, Any] | None:
    """One matrix's weight MSE against padded logits over the 4-bit methods, and the verdict by the thresholds on it.

    None of fewer than 3 methods.
    """
    mine = [row for row in theirs if row["method"] in four and row["weight_mse"] > 0]
    if len(mine) < 3:
        return None
    x, y = (np.array([row[key] for row in mine]) for key in ("weight_mse", "padded_logits_mse"))
    pearson, spearman = stats.pearsonr(np.log(x), np.log(y)), stats.spearmanr(x, y)
    rho = float(spearman.statistic)
    verdict = "strong" if rho > 0.8 else "moderate" if rho > 0.5 else "weak"
    return {"n": len(mine), "pearson_log_log": float(pearson.statistic), "pearson_p": float(pearson.pvalue),
            "spearman": rho, "spearman_p": float(spearman.pvalue), "verdict": verdict}  # fmt: skip
