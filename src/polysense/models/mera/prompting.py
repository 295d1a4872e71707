"""Placeholders of a processor's senses: their tokens, and how often each is repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import AddedToken

from polysense.errors import ConfigError, UnknownModalityError
from polysense.modality import JsonValue, Modality, get_modality
from polysense.models.mera.chat import Expansion, checked_counts
from polysense.models.mera.layout import TokenLayout
from polysense.models.processor import SensesProcessor

Side = Literal["left", "right"]

_KEY = "tokens"  # beside the options of a sense's own processor: its placeholder and its token layout


class PlaceholderProcessor(SensesProcessor):
    """A processor whose senses have placeholders in a text.

    `senses` maps a name to the options of that sense's own processor and to the entry "tokens": the placeholder
    (`token`) with the fields of the sense's `TokenLayout`.
    """

    def add_modality(
        self,
        modality: str | Modality,
        layout: TokenLayout | Mapping[str, Any],
        *,
        token: str | None = None,
        size: int | None = None,
        **options: Any,
    ) -> None:
        """Add a registered sense.

        Args:
            modality: name, or a spec that differs from the registered one in options only.
            layout: what `MeraForConditionalGeneration.token_layout` says of it.
            token: placeholder, `<name>` by default; added to the tokenizer if it is not there.
            size: side of its encoder's pictures, if it is not the image processor's.
            options: options of the sense's processor that replace those of its spec.

        Raises:
            UnregisteredModalityError: a name that no one registered.
            ConfigError: the sense or its placeholder is there already, or an option does not exist.
        """
        spec = modality if isinstance(modality, Modality) else get_modality(modality)
        layout = layout if isinstance(layout, TokenLayout) else TokenLayout.from_dict(layout)
        token = token or f"<{spec.name}>"
        own = self._new_options(spec, size or self.size, **options)
        if token in self._placeholders.values():
            raise ConfigError(f"the placeholder {token!r} is another sense's", where=spec.name, fix="Choose another.")
        if spec.name == "image":  # size and statistics are the image processor's
            own = {key: value for key, value in own.items() if key in options}
        self._claim(token)
        self.senses[spec.name] = {**own, _KEY: {"token": token, **layout.to_dict()}}

    def _claim(self, token: str) -> None:
        """Make a placeholder one token that no text can be split into or merged with."""
        self.tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)], special_tokens=True)

    def token(self, modality: str) -> str:
        """The placeholder of a sense.

        Raises:
            UnknownModalityError: this processor lacks the sense.
            ConfigError: the processor's file has no placeholder for it.
        """
        if modality not in self.senses:
            raise UnknownModalityError(modality, self.senses, where="processor")
        values = self.senses[modality].get(_KEY)
        token = values.get("token") if isinstance(values, Mapping) else None
        if not isinstance(token, str) or not token:
            raise ConfigError("the sense has no placeholder", where=f"{modality}.tokens",
                              fix="Use the processor that was saved with the model.")  # fmt: skip
        return token

    def token_id(self, modality: str) -> int:
        """The placeholder among `input_ids`."""
        return int(self.tokenizer.convert_tokens_to_ids(self.token(modality)))

    def layout(self, modality: str) -> TokenLayout:
        """How many tokens an item of a sense becomes."""
        self.token(modality)
        return TokenLayout.from_dict({k: v for k, v in self.senses[modality][_KEY].items() if k != "token"})

    def counts(self, modality: str, features: Mapping[str, Tensor]) -> list[int]:
        """Feature tokens of every item of a batch of features, as `features` returns it."""
        part, layout = self.part(modality), self.layout(modality)
        values = features[part.spec.values_key]
        mask = features.get(part.spec.mask_key)
        steps = [values.shape[1] if part.time_axis else 1] * len(values) if mask is None else mask.sum(dim=1).tolist()
        return [layout.count(each) for each in steps]

    @property
    def _placeholders(self) -> dict[str, str]:
        return {name: self.token(name) for name in self.senses}

    def _options(self, modality: str) -> dict[str, JsonValue]:
        return {key: value for key, value in self.senses[modality].items() if key != _KEY}

    def expand(self, texts: Sequence[str], counts: Mapping[str, Iterable[int]]) -> list[str]:
        """Texts with every placeholder repeated once per feature token.

        Args:
            counts: sense to the feature tokens of each of its items, over all texts in order; see `counts`, or the
                shape of cached tokens.

        Raises:
            FeatureShapeError: placeholders and items do not agree; the message names sample and sense.
            ConfigError, UnknownModalityError: see `checked_counts`.
        """
        expansion = Expansion(self._placeholders, checked_counts(counts, self.senses))
        out = [expansion(text, sample=index) for index, text in enumerate(texts)]
        expansion.finish(len(texts))
        return out

    def _padded(self, rows: Sequence[Sequence[int]], side: Side) -> dict[str, Tensor]:
        if side not in get_args(Side):
            raise ConfigError(f"{side!r} is no side", where="padding_side",
                              fix="Give 'left' to generate, or 'right' to train.")  # fmt: skip
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            place = slice(length - len(row), None) if side == "left" else slice(0, len(row))
            ids[index, place], mask[index, place] = torch.tensor(row, dtype=torch.long), 1
        return {"input_ids": ids, "attention_mask": mask}
