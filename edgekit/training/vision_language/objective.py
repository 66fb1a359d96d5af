"""The losses of the tasks, summed: what the engine minimises.

pretrain   hidden words + matching, 1 : 1
vqa        every answer is right or wrong
caption    hidden words, of a caption that is written from left to right; or all of them
cider      sampled captions, weighted by how much better than expected they are
match      right or wrong pair
nlvr2      of two pooled vectors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.minivlm.fusion import Fusion
from edgekit.training.vision_language import losses
from edgekit.training.vision_language.cider import Cider
from edgekit.training.vision_language.masking import IGNORED, every_word, left_to_right
from edgekit.training.vision_language.texts import Part
from edgekit.training.vision_language.writing import Special, likeliest, sampled, words, write

if TYPE_CHECKING:
    from edgekit.training.vision_language.recipe import VlmRecipe

# Heads that a task trains; all others stay as they are, and several processes wait for no gradient
# of theirs.
HEADS: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("cls.", "bert.pooler."),
    "vqa": ("heads.vqa.", "bert.pooler."),
    "caption": ("cls.predictions.",),
    "cider": ("cls.predictions.",),
    "match": ("cls.seq_relationship.", "bert.pooler."),
    "nlvr2": ("heads.nlvr2.", "bert.pooler."),
}
_A_HEAD = ("cls.", "heads.", "bert.pooler.")


class VlmObjective(nn.Module):
    """Parts of a batch -> the sum of their tasks' losses.

    Args:
        fusion: that is trained.
        tasks: of `edgekit.training.vision_language.tasks.TASKS`.
        special: tokens of the vocabulary.
        recipe: dropout, label smoothing and how captions are trained are read.
        cider: of the training captions, in tokens; for task ``cider`` only.
    """

    def __init__(
        self,
        fusion: Fusion,
        tasks: tuple[str, ...],
        special: Special,
        recipe: VlmRecipe,
        cider: Cider | None = None,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.special, self.recipe, self.cider = special, recipe, cider
        trained = tuple(prefix for task in tasks for prefix in HEADS[task])
        for name, parameter in self.fusion.named_parameters():
            parameter.requires_grad = not name.startswith(_A_HEAD) or name.startswith(trained)
        for module in self.fusion.modules():
            if isinstance(module, nn.Dropout):
                module.p = recipe.dropout

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """See the class."""
        return torch.stack([_LOSSES[task](self, part) for task, part in parts.items()]).sum()

    # -- tasks ---------------------------------------------------------------

    def pretrain(self, part: Part) -> Tensor:
        """Hidden words and matching."""
        hidden = self.encode(part)
        match = functional.cross_entropy(self.fusion.match(self._pool(hidden)), part["labels"])
        return self._hidden_words(hidden, part["targets"], 0.0) + match

    def vqa(self, part: Part) -> Tensor:
        """Answers."""
        return losses.answers(self.answer(part), part["scores"])

    def caption(self, part: Part) -> Tensor:
        """Hidden words, or all."""
        smoothing = self.recipe.label_smoothing
        if "targets" in part:
            return self._hidden_words(self.encode(part), part["targets"], smoothing)
        places = int(part["places"])
        said = part["present"][:, 1:places] > 0
        targets = part["tokens"][:, 1:places][said]
        return losses.words(self.every_word(part)[said], targets, smoothing)

    def match(self, part: Part) -> Tensor:
        """Right or wrong pairs."""
        return functional.cross_entropy(self.matches(part), part["labels"])

    def nlvr2(self, part: Part) -> Tensor:
        """True or false statements."""
        return functional.cross_entropy(self.judge(part), part["labels"])

    # -- what the network says ---------------------------------------------------

    def encode(self, part: Part) -> Tensor:
        """Hidden states (B, T + R, width): all see all, or captions from left to right."""
        present = torch.cat([part["present"], part["regions"]], 1)
        places = int(part["places"]) if "places" in part else 0
        seen = left_to_right(present, places) if places else present
        text = self.fusion.embed(part["tokens"], part["types"], part["positions"])
        hidden: Tensor = self.fusion(text, part["visual"], seen)
        return hidden

    def answer(self, part: Part) -> Tensor:
        """Logits of answers (B, answers)."""
        y: Tensor = self.fusion.heads["vqa"](self._dropped(self._pool(self.encode(part))))
        return y

    def matches(self, part: Part) -> Tensor:
        """Logits of wrong and right (B, 2)."""
        return self.fusion.match(self._pool(self.encode(part)))

    def judge(self, part: Part) -> Tensor:
        """Logits of false and true (B, 2), from 2 B rows."""
        both = torch.cat(self._pool(self.encode(part)).chunk(2), 1)
        y: Tensor = self.fusion.heads["nlvr2"](self._dropped(both))
        return y

    def every_word(self, part: Part) -> Tensor:
        """Logits (B, places - 1, vocabulary) of all words behind [CLS], each from those before it.

        They are those that `Fusion.step` gives when the caption is written.
        """
        places = int(part["places"])
        masks = torch.full_like(part["tokens"][:, :places], self.special.mask)
        twice = {
            key: torch.cat([part[key][:, :places], part[key]], 1)
            for key in ("types", "positions", "present")
        }
        tokens = torch.cat([part["tokens"][:, :places], masks, part["tokens"][:, places:]], 1)
        text = self.fusion.embed(tokens, twice["types"], twice["positions"])
        seen = every_word(torch.cat([twice["present"], part["regions"]], 1), places)
        hidden = self.fusion(text, part["visual"], seen)
        return self.fusion.words(hidden[:, places + 1 : 2 * places])

    def _hidden_words(self, hidden: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        chosen = targets != IGNORED
        logits = self.fusion.words(hidden[:, : targets.shape[1]][chosen])
        return losses.words(logits, targets[chosen], smoothing)

    def _pool(self, hidden: Tensor) -> Tensor:
        return self.fusion.bert.pool(hidden)

    def _dropped(self, pooled: Tensor) -> Tensor:
        return functional.dropout(pooled, self.recipe.head_dropout, self.training)

    # -- captions that are rewarded ----------------------------------------------

    def rewarded(self, part: Part) -> Tensor:
        """Self-critical: sampled captions against greedy ones, or against each other."""
        many = self._many(part)
        tokens = self._write(many, sampled)  # (B * samples, T)
        rewards = self._rewards(tokens, many["said"])
        if self.recipe.baseline == "greedy":
            greedy = self._rewards(self._write(part, likeliest), part["said"])
            baseline = greedy.repeat_interleave(self.recipe.samples)
        else:
            baseline = losses.others_mean(rewards.view(-1, self.recipe.samples)).flatten()
        likely, said = self._log_probabilities(many, tokens)
        return losses.self_critical(likely, said, rewards, baseline)

    def _many(self, part: Part) -> Part:
        return {key: each.repeat_interleave(self.recipe.samples, 0) for key, each in part.items()}

    def _write(self, part: Part, choose: Callable[[Tensor], Tensor]) -> Tensor:
        self.fusion.eval()
        try:
            return write(self.fusion, part, self.special, choose)
        finally:
            self.fusion.train(self.training)

    def _rewards(self, tokens: Tensor, said: Tensor) -> Tensor:
        """CIDEr of each caption against what was said of its image (B, references, T)."""
        if self.cider is None:
            raise ValueError("captions are rewarded by a Cider, and none was given")
        found = [
            self.cider.score(own, [line for line in words(theirs, self.special) if line])
            for own, theirs in zip(words(tokens, self.special), said, strict=True)
        ]
        return torch.tensor(found, device=tokens.device)

    def _log_probabilities(self, part: Part, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of each word that was written, and where there is one (B, T)."""
        captions = functional.pad(tokens, (1, 0), value=self.special.cls)
        places = captions.shape[1]
        said = (captions != self.special.pad).float()
        positions = torch.arange(places, device=tokens.device).expand_as(captions)
        first = {
            "tokens": captions, "types": torch.zeros_like(captions), "positions": positions,
            "present": said,
        }  # fmt: skip
        whole = {key: torch.cat([each, part[key]], 1) for key, each in first.items()}
        seen = {"visual": part["visual"], "regions": part["regions"]}
        logits = self.every_word({**whole, **seen, "places": torch.tensor(places)})
        words_only = self.special.say_no(logits)
        return losses.log_probability(words_only, _sayable(tokens, self.special)), said[:, 1:]


def _sayable(tokens: Tensor, special: Special) -> Tensor:
    """With an end in the place of padding, whose probability nobody reads, and is not zero."""
    return tokens.masked_fill(tokens == special.pad, special.sep)


_LOSSES: Mapping[str, Callable[[VlmObjective, Part], Tensor]] = {
    "pretrain": VlmObjective.pretrain,
    "vqa": VlmObjective.vqa,
    "caption": VlmObjective.caption,
    "cider": VlmObjective.rewarded,
    "match": VlmObjective.match,
    "nlvr2": VlmObjective.nlvr2,
}
