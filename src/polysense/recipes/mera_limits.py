"""What a user should not expect of a MERA stage, from what its recipe says; for the model card."""

from __future__ import annotations

from collections.abc import Sequence

from polysense.recipes.mera_config import MeraRecipe


def limits(recipe: MeraRecipe, senses: Sequence[str]) -> list[str]:
    """Sentences about a stage.

    Args:
        senses: all that it has learned, the last one in this stage.
    """
    known, tests = ", ".join(senses), recipe.evaluation.tests
    found = [f"It answers about files of {known}, and refuses others; answers may be wrong, or made up."]
    if len(senses) > 1:
        replayed = [sense for sense in senses if recipe.named_sources([sense])]
        if recipe.realign is None and not recipe.joint.replay:
            found.append("Earlier senses were not realigned after the language model had changed.")
        elif left := [sense for sense in senses if sense not in replayed]:
            found.append(f"Neither replayed nor realigned, for want of their data: {', '.join(left)}.")
    tested = {test.modality for test in tests.values()}
    if untested := [sense for sense in senses if sense not in tested]:
        found.append(f"Not tested on: {', '.join(untested)}.")
    if tests:
        found.append(f"Tested answers are greedy and end after {recipe.evaluation.max_new_tokens} tokens.")
        if recipe.evaluation.judge.model is None:
            found.append("Answers to questions count as right when their normalised text is a reference's: accuracies "
                         "are no language model's judgement, and below it.")  # fmt: skip
    return found


__all__ = ["limits"]
