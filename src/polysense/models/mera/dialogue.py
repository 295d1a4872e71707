"""Talking with a MERA model about files: what was shown and said stays in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polysense.errors import ConfigError, UnknownModalityError
from polysense.models.mera.chat import Message


class Dialogue:
    """A chat, answered greedily; a question that fails changes nothing.

    Args:
        model: a `MeraForConditionalGeneration`; it is left in evaluation mode.
        processor: its processor.
        max_new_tokens: length at which an answer is cut off.

    Raises:
        ConfigError: `max_new_tokens` below 1.
    """

    def __init__(self, model: Any, processor: Any, *, max_new_tokens: int = 64) -> None:
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}", fix="Give a positive number.")
        self.model, self.processor, self.max_new_tokens = model.eval(), processor, max_new_tokens
        self.messages: list[Message] = []
        self._shown: list[dict[str, Any]] = []

    @property
    def senses(self) -> tuple[str, ...]:
        """What files can be shown of."""
        return tuple(self.model.modalities)

    def show(self, sense: str, source: Any, facts: Mapping[str, Any] | None = None) -> None:
        """Add an item, which the next question is about; it is looked at now, so that a bad file is named at once.

        Args:
            facts: what is known of it, such as a depth map's camera.

        Raises:
            UnknownModalityError: the model lacks the sense.
            MediaError: the source cannot be used; the message names it.
        """
        if sense not in self.senses:
            raise UnknownModalityError(sense, self.senses, where=str(source))
        known = dict(facts or {})
        self.processor.features(sense, [source], facts=[known])
        self._shown.append({"type": sense, "source": source, "facts": known})

    def ask(self, question: str) -> str:
        """The answer to a question about what was shown, given all that was said before.

        Raises:
            ConfigError: the conversation no longer fits the language model.
            FeatureShapeError: the question holds a placeholder.
        """
        text = {"type": "text", "text": f"\n{question}" if self._shown else question}  # as in training
        chat = [*self.messages, {"role": "user", "content": [*self._shown, text]}]
        inputs = self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True
        ).to(self.model.device)  # fmt: skip
        length, most = inputs["input_ids"].shape[1], getattr(self.model.config.llm, "max_position_embeddings", None)
        if most is not None and length + self.max_new_tokens > most:
            raise ConfigError(
                f"{length} tokens so far and {self.max_new_tokens} of an answer exceed the {most} of the model",
                where="the conversation", fix="Begin a new one, show fewer files or ask for shorter answers.",
            )  # fmt: skip
        out = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        answer = str(self.processor.tokenizer.decode(out[0, length:], skip_special_tokens=True)).strip()
        self.messages, self._shown = [*chat, {"role": "assistant", "content": answer}], []
        return answer

    def reset(self) -> None:
        """Forget what was shown and said."""
        self.messages, self._shown = [], []


__all__ = ["Dialogue"]
