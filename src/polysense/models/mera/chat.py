"""Conversations as text: content parts to placeholders, templates, and which pieces are answers."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError

Message = Mapping[str, Any]
Conversation = Sequence[Message]

# Llama 3's, with the end token that the tokenizer itself names, so that generation stops where answers end
DEFAULT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)

_LOOPS_OVER_PARTS = re.compile(r"\bin\s+message(\.content|\[['\"]content['\"]\])")
_SOURCES = ("path", "source", "url")
_AS_COUNTED = "Give every item of a sense its number of tokens, such as {'image': [576, 576]}."


@dataclass
class Parts:
    """A conversation's content as a template takes it, and what its parts referred to.

    Attributes:
        messages: with contents of text alone, or of text and image parts where the template has a place for them.
        sources: sense to the sources of its parts, in order; `None` where a part names none.
        facts: sense to what is known of each of them.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, list[Any]] = field(default_factory=dict)
    facts: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)


def take_apart(conversation: Conversation, tokens: Mapping[str, str], template: str, *, where: str) -> Parts:
    """Split a conversation into what its template renders and what its placeholders stand for.

    Args:
        conversation: messages `{"role", "content"}`; a content is a text, or a list of texts and parts
            `{"type": "text", "text": ...}` and `{"type": sense, "path" or "url" or sense: source, "facts": {...}}`.
        tokens: sense to its placeholder.

    Raises:
        UnknownModalityError: a part of a sense that the processor lacks.
        ConfigError: a message or part that is none.
    """
    if not conversation or not isinstance(conversation, Sequence):
        raise ConfigError("the conversation has no messages", where=where, fix="Give it at least one.")
    parts = Parts()
    lists, knows_images = bool(_LOOPS_OVER_PARTS.search(template)), "image" in template
    for message in conversation:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ConfigError(f"a message is {message!r}", where=where, fix="Give it a role and a content.")
        content = message["content"]
        if not isinstance(content, Sequence):
            raise ConfigError(f"the content of a message is {content!r}", where=where, fix="Give a text, or parts.")
        content = [content] if isinstance(content, str) else content
        out: list[dict[str, str]] = []
        for part in content:
            part = {"type": "text", "text": part} if isinstance(part, str) else part
            if not isinstance(part, Mapping) or "type" not in part:
                raise ConfigError(f"a part is {part!r}", where=where, fix="Give it a type: text, or a sense.")
            kind = part["type"]
            if kind == "text":
                out.append({"type": "text", "text": str(part.get("text", ""))})
            elif kind in tokens:
                _note(parts, str(kind), part)
                own = lists and knows_images and kind == "image"
                out.append({"type": "image"} if own else {"type": "text", "text": tokens[str(kind)]})
            else:
                raise UnknownModalityError(str(kind), ["text", *tokens], where=where)
        whole: Any = out if lists else "".join(part["text"] for part in out)
        parts.messages.append({**message, "content": whole})
    return parts


def _note(parts: Parts, kind: str, part: Mapping[str, Any]) -> None:
    source = next((part[key] for key in (kind, *_SOURCES) if key in part), None)
    parts.sources.setdefault(kind, []).append(source)
    parts.facts.setdefault(kind, []).append(part.get("facts") or {})


def answer_pieces(render: Any, messages: Sequence[Message], *, where: str) -> list[tuple[str, bool]]:
    """A conversation's text in pieces: prompts, and answers with the tokens that end them (true).

    Prompts end where generation would begin, so that a model is trained on what it will be asked.

    Args:
        render: messages and whether to add a generation prompt, to text.

    Raises:
        ConfigError: no answer, or a template that renders a beginning otherwise than the whole.
    """
    pieces: list[tuple[str, bool]] = []
    done = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt, answered = render(messages[:index], True), render(messages[: index + 1], False)
        if not (prompt.startswith(done) and answered.startswith(prompt)):
            raise ConfigError("the chat template does not continue its own prompts", where=where,
                              fix="Use a template that renders every message by itself.")  # fmt: skip
        pieces += [(prompt[len(done) :], False), (answered[len(prompt) :], True)]
        done = answered
    if not pieces:
        raise ConfigError("the conversation has no answer of the assistant", where=where, fix="Add one to learn from.")
    return pieces


def joined(parts: Sequence[Parts]) -> tuple[dict[str, list[Any]], dict[str, list[Mapping[str, Any]]]]:
    """Sources and facts of several conversations by sense, in order; senses whose parts name no source are left out.

    Raises:
        FeatureShapeError: some parts of a sense name a source and others do not.
    """
    sources: dict[str, list[Any]] = {}
    facts: dict[str, list[Mapping[str, Any]]] = {}
    for sense in {name: None for each in parts for name in each.sources}:
        found = [(sample, source) for sample, each in enumerate(parts) for source in each.sources.get(sense, ())]
        lacking = [sample for sample, source in found if source is None]
        if lacking and len(lacking) < len(found):
            raise misplaced(sense, lacking[0], "a part names no source, and others do")
        if not lacking:
            sources[sense] = [source for _, source in found]
            facts[sense] = [each for one in parts for each in one.facts.get(sense, ())]
    return sources, facts


def in_order(sense: str, items: Any, places: Sequence[int] | None = None, *, lists: bool = False) -> list[Any]:
    """Items of one sense over all prompts, from one item, a list of items, or a list of items for every prompt.

    Args:
        places: placeholders of this sense in every prompt, if there are prompts.
        lists: whether an item may itself be a list, as a video of frames may; the placeholders then tell whether a
            list of lists holds the items of every prompt.

    Raises:
        FeatureShapeError: another number of items than of placeholders; the message names sample and sense.
    """
    listed = list(items) if isinstance(items, list | tuple) else [items]
    nested = bool(listed) and all(isinstance(each, list | tuple) for each in listed)
    if places is None:
        return [item for own in listed for item in own] if nested and not lists else listed
    fits = nested and [len(each) for each in listed] == list(places)
    if len(listed) == sum(places) and (not nested or (lists and not fits)):
        return listed
    if nested and len(listed) == len(places):
        for sample, (own, wanted) in enumerate(zip(listed, places, strict=True)):
            if len(own) != wanted:
                raise misplaced(sense, sample, f"{len(own)} items came for {wanted} placeholders")
        return [item for own in listed for item in own]
    sample = next((index for index in range(len(places)) if sum(places[: index + 1]) > len(listed)), len(places) - 1)
    raise misplaced(sense, sample, f"{len(listed)} items came for {sum(places)} placeholders in {len(places)} prompts")


def checked_counts(counts: Any, senses: Iterable[str]) -> dict[str, list[int]]:
    """Feature tokens of every item by sense, as they were given, or none.

    Raises:
        ConfigError: they are no mapping of senses to lists of positive integers; the message names the sense.
        UnknownModalityError: a sense is none of `senses`.
    """
    if counts is None:
        return {}
    if not isinstance(counts, Mapping):
        raise ConfigError(f"{counts!r} is no mapping of senses to numbers of tokens", where="counts", fix=_AS_COUNTED)
    if unknown := [name for name in counts if name not in senses]:
        raise UnknownModalityError(str(unknown[0]), senses, where="counts")
    return {name: _positive(name, each) for name, each in counts.items()}


def _positive(sense: str, counts: Any) -> list[int]:
    try:
        listed = [operator.index(each) for each in counts]
    except TypeError:
        listed = [0]
    if any(each < 1 for each in listed):
        raise ConfigError(f"{counts!r} is no list of positive integers", where=f"counts of {sense}", fix=_AS_COUNTED)
    return listed


class Expansion:
    """Placeholders repeated once per feature token, across all texts of a batch, and every disagreement named.

    Args:
        tokens: sense to its placeholder.
        counts: sense to the number of feature tokens of every item of the batch, in order.
    """

    def __init__(self, tokens: Mapping[str, str], counts: Mapping[str, Iterable[int]]) -> None:
        self.senses = {token: sense for sense, token in tokens.items()}
        self.left: dict[str, Iterator[int]] = {sense: iter(each) for sense, each in counts.items()}
        longest_first = sorted(self.senses, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def places(self, text: str) -> dict[str, int]:
        """Sense to its number of placeholders in `text`."""
        found = dict.fromkeys(self.senses.values(), 0)
        for match in self.pattern.finditer(text):
            found[self.senses[match[0]]] += 1
        return found

    def __call__(self, text: str, *, sample: int) -> str:
        """`text` with its placeholders repeated.

        Raises:
            FeatureShapeError: more placeholders than items; the message names sample and sense.
        """

        def repeated(match: re.Match[str]) -> str:
            sense = self.senses[match[0]]
            count = next(self.left.get(sense, iter(())), None)
            if count is None:
                raise misplaced(sense, sample, f"there is a placeholder {match[0]} and no item for it")
            return match[0] * count

        return self.pattern.sub(repeated, text)

    def finish(self, samples: int) -> None:
        """Refuse items that no placeholder asked for."""
        for sense, items in self.left.items():
            if (spare := len(list(items))) > 0:
                raise misplaced(sense, samples - 1, f"{spare} items more came than there are placeholders")


def misplaced(sense: str, sample: int, what: str) -> FeatureShapeError:
    """The error of a sample whose placeholders and items of one sense do not agree."""
    return FeatureShapeError(what, where=f"{sense} of sample {sample}", fix="Write one placeholder for every item.")
