"""A codebook that grows with the senses, and the frozen one before it (COMET, section 3.3; method-facts 3.5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polysense.errors import ConfigError
from polysense.nn.codebook import Codebook, check_spread
from polysense.nn.nearest import nearest
from polysense.nn.starts import named_draws

MAX_CODES = 1_000_000
"""Most codes of a codebook."""


@torch.no_grad()
def grow(codebook: Codebook, rows: int, vectors: Float[Tensor, "vectors _"] | None = None, *, key: str = "") -> None:
    """V1 becomes V2: its codes, to the last bit, and `rows` new ones below them. The old ones are protected now.

    Args:
        vectors: of the first batches of the new stage. New codes are drawn among them, the likelier the farther they
            are from every old code; without them they are uniform in +-1/size, as CMG's are.
        key: keys the draws.

    Raises:
        ConfigError: `rows` is no whole number of at least 1, or too large; nothing is changed.
        FeatureShapeError: vectors of another width, not finite or all the same; nothing is changed.
    """
    old = codebook.embedding
    if type(rows) is not int or not 1 <= rows <= MAX_CODES - len(old):
        raise ConfigError(f"a codebook of {len(old)} codes cannot grow by {rows!r} codes",
                          fix=f"Give a whole number of at least 1, and at most {MAX_CODES} together.")  # fmt: skip
    if vectors is not None:
        check_spread(vectors, old.shape[1])
    codebook.protected = len(old)
    with named_draws(f"{key}/grow"):
        if vectors is None:
            fresh = (torch.rand(rows, old.shape[1]) * 2 - 1) / (len(old) + rows)
        else:
            fresh = _far_rows(vectors.to(old), old, rows).cpu()
    places = torch.arange(len(old), len(old) + rows, device=old.device)
    for name in ("embedding", "ema_sum", "ema_count", "unused_steps"):
        before = getattr(codebook, name)
        setattr(codebook, name, torch.cat([before, before.new_zeros(rows, *before.shape[1:])]))
    codebook.put(places, fresh.to(old))


def _far_rows(vectors: Tensor, codes: Tensor, rows: int) -> Tensor:
    """Vectors drawn by their squared distance to the nearest code, without repetition as far as they last."""
    distance = (vectors - codes[nearest(vectors, codes)]).square().sum(dim=1).double().cpu() + 1e-12
    drawn = torch.multinomial(distance, rows, replacement=len(vectors) < rows)
    noise = (torch.rand(rows, vectors.shape[1]) * 2 - 1) / 1024 * (len(vectors) < rows)
    return vectors[drawn.to(vectors.device)] + noise.to(vectors)


class FrozenCodes(nn.Module):
    """V1: the codes as the stage before left them, whatever becomes of the codebook."""

    embedding: Tensor

    def __init__(self, codebook: Codebook) -> None:
        super().__init__()
        self.register_buffer("embedding", codebook.embedding.detach().clone())

    @torch.no_grad()
    def match(
        self, codebook: Codebook, z: Float[Tensor, "*steps dim"]
    ) -> tuple[Int[Tensor, "*steps"], Float[Tensor, "*steps dim"], Bool[Tensor, "*steps"]]:
        """Nearest over the expanded codebook [V1 | new rows of V2].

        Returns:
            Index, vector, and whether it is one of V1's: then the vector is V1's and not what V2 made of it.

        Raises:
            ConfigError: the codebook is smaller than V1 or of another width.
        """
        size, dim = self.embedding.shape
        if codebook.size < size or codebook.embedding.shape[1] != dim:
            raise ConfigError(
                f"the codebook of shape {tuple(codebook.embedding.shape)} does not continue one of {(size, dim)}",
                fix="Take the frozen codes from this very codebook, before it grows.",
            )
        table = torch.cat([self.embedding, codebook.embedding[size:]])
        index = nearest(z.reshape(-1, dim), table)
        shape = z.shape[:-1]
        return index.view(shape), table[index].view(z.shape), (index < size).view(shape)
