"""What is minimised, as functions of logits; which of them a stage sums is in `objective.py`."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

PRIOR = 0.01  # probability of every answer before training


def prior_bias() -> float:
    """The bias that gives `PRIOR`: Lin et al., "Focal Loss", ICCV 2017, section 3.3."""
    return -math.log((1 - PRIOR) / PRIOR)


def words(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of hidden words, their mean; 0 where none is hidden.

    Args:
        logits: (N, vocabulary), of the hidden ones only.
        targets: (N,).
        smoothing: spread over all words.
    """
    if not len(targets):
        return logits.sum() * 0  # and not a constant: several processes wait for its gradient
    return functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def answers(logits: Tensor, scores: Tensor) -> Tensor:
    """Binary cross-entropy of each answer, in all, over the number of right ones in the batch.

    Args:
        logits: (B, answers).
        scores: (B, answers), how right each is, 0 to 1.
    """
    total = functional.binary_cross_entropy_with_logits(logits, scores, reduction="sum")
    return total / (scores > 0).sum().clamp(min=1)


def self_critical(
    log_probabilities: Tensor, said: Tensor, rewards: Tensor, baseline: Tensor
) -> Tensor:
    """Captions that were better than expected become likelier, the others less likely.

    Rennie et al., "Self-critical Sequence Training", CVPR 2017. The mean over captions, of each the
    mean over its words.

    Args:
        log_probabilities: of each word of each caption (N, T).
        said: 1 for each word up to the end of its caption (N, T).
        rewards: (N,).
        baseline: what was expected (N,).
    """
    gain = (rewards - baseline).detach()
    likely = (log_probabilities * said).sum(1) / said.sum(1).clamp(min=1)
    return -(gain * likely).mean()


def others_mean(rewards: Tensor) -> Tensor:
    """(N, samples) -> for each sample the mean reward of the other ones of its image."""
    count = rewards.shape[1]
    return (rewards.sum(1, keepdim=True) - rewards) / max(1, count - 1)


def log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """(.., vocabulary) and (..) -> log-probability of each target."""
    chosen = torch.gather(logits.log_softmax(-1), -1, targets[..., None])
    return chosen[..., 0]
