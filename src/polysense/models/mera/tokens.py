"""What a MERA model needs of its language model's tokenizer: a padding token, and placeholders."""

from __future__ import annotations

import re
from typing import Any

from polysense.errors import ConfigError

# tokens that language models keep free for their users (Llama 3, Gemma, BERT), and the unknown token, as LLaVA pads
_RESERVED = re.compile(r"<\|finetune_right_pad_id\|>|<\|reserved_special_token_\d+\|>|<unused\d+>|\[unused\d+\]")


def pad_token_id(tokenizer: Any) -> int:
    """Id of the padding token; a reserved token where the tokenizer names none, never the end of a text.

    Llama 3 has no padding token (method-facts 4.9); padding with the end token would hide real ends from the loss.

    Raises:
        ConfigError: no padding token and none to take its place.
    """
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    vocabulary = tokenizer.get_vocab()
    reserved = sorted((token for token in vocabulary if _RESERVED.fullmatch(token)), key=vocabulary.__getitem__)
    free = [token for token in reserved if vocabulary[token] != tokenizer.eos_token_id]
    if free:
        return int(vocabulary[free[0]])
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id:
        return int(tokenizer.unk_token_id)
    raise ConfigError("the tokenizer has neither a padding token nor a reserved one", where="tokenizer",
                      fix="Set tokenizer.pad_token to a token that no text contains.")  # fmt: skip
