"""Tokenizers: features of one sense to tokens of the shared encoder (UniAlign, section 3.1; method-facts 1.5).

A kind of sense is one class and one registration. Every tokenizer returns `batch steps space dim` with its positions
already added; a still has one step. The class token is not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.errors import ConfigError, FeatureShapeError
from polysense.modality import Modality

Tokens = Float[Tensor, "batch steps space dim"]

_TOKENIZERS: dict[str, type[Tokenizer]] = {}


class Tokenizer(nn.Module):
    """Base of all tokenizers.

    Args:
        modality: the sense; `modality.tokenizer` holds the options of its kind.
        dim: width of the encoder.
        size: height and width in pixels that the base encoder was trained on.
        patch_size: patch of the base encoder, used unless the modality's options name another.
    """

    layout: ClassVar[str]
    """Axes of the features, batch first, for error messages and documentation."""

    grid: tuple[int, int, int]
    """(time, height, width) of one sample, with time as configured; it may differ from batch to batch."""

    tubelet: int = 1
    """Time steps of the features that share one of the tokens' time steps."""

    starts_from_image: bool = False
    """Whether a new sense of this kind begins with the base encoder's image patches and positions (`adopt`)."""

    def __init__(self, modality: Modality, dim: int, size: int, patch_size: int) -> None:
        super().__init__()
        self.modality, self.dim = modality.name, dim

    def check(self, values: Tensor, *sizes: int | None) -> None:
        """Raise `FeatureShapeError` unless `values` has the layout's rank and `sizes` (`None`: any) as last axes."""
        axes = self.layout.split()
        wanted = [None] * (len(axes) - len(sizes)) + list(sizes)
        if values.ndim != len(axes) or any(
            n not in (None, have) for n, have in zip(wanted, values.shape, strict=True)
        ):
            listing = ", ".join(str(n or axis) for n, axis in zip(wanted, axes, strict=True))
            raise FeatureShapeError(
                f"{self.modality} features have shape {tuple(values.shape)}, expected ({listing})",
                fix="Prepare them with the processor that was saved with this model.",
            )

    def adopt(self, patch_weight: Tensor, positions: Tensor) -> None:
        """Start from the base encoder's image tokenizer where that makes sense; the default keeps the random start."""

    def forward(self, values: Tensor) -> Tokens:
        """Tokens with their positions added, for the encoder. A subclass defines this, and may begin with `check`.

        Args:
            values: features in the axes of `layout`, as the processor gives them, in 32 bits: a model in half
                precision needs them cast to the type of its weights.

        Raises:
            FeatureShapeError: features of another shape.
        """
        raise ConfigError(f"tokenizer kind of {self.modality!r} does not define forward", fix="Define it.")


def register_tokenizer(kind: str) -> Callable[[type[Tokenizer]], type[Tokenizer]]:
    """Class decorator that makes a tokenizer available to every `Modality` of this `kind`.

    Raises:
        ConfigError: the kind is taken by another class.
    """

    def register(tokenizer: type[Tokenizer]) -> type[Tokenizer]:
        if _TOKENIZERS.setdefault(kind, tokenizer) is not tokenizer:
            raise ConfigError(f"tokenizer kind {kind!r} is already registered", fix="Choose another name.")
        return tokenizer

    return register


def build_tokenizer(modality: Modality, dim: int, size: int, patch_size: int) -> Tokenizer:
    """The tokenizer of a modality's kind.

    Raises:
        ConfigError: unknown kind, or an option that the kind does not have.
    """
    if modality.kind not in _TOKENIZERS:
        raise ConfigError(
            f"modality {modality.name!r} has the unknown tokenizer kind {modality.kind!r}",
            fix=f"Known kinds: {', '.join(_TOKENIZERS)}; import the code that adds it with "
            "polysense.nn.register_tokenizer (--imports on the command line).",
        )
    try:
        return _TOKENIZERS[modality.kind](modality, dim, size, **{"patch_size": patch_size, **modality.tokenizer})
    except ConfigError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"tokenizer options {dict(modality.tokenizer)} do not fit kind {modality.kind!r} ({error})",
            where=modality.name,
            fix="See the class's arguments in polysense.nn.patch_embed.",
        ) from error


class RasterTokenizer(Tokenizer):
    """Patches of pictures along a time axis, by one convolution; positions over space, shared by all time steps.

    Args:
        stride: distance between patches, the patch size by default; a smaller one overlaps them, as AST does.
        tubelet: time steps that share one patch.
        from_image: begin with the base encoder's image patches and positions, fitted to these sizes and channels, as
            AST does for sound; by default frames do and the other kinds do not.

    Raises:
        ConfigError: a patch larger than the picture, or strides that are not positive.
    """

    layout = "batch time channels height width"
    time = 1

    def __init__(
        self, modality: Modality, dim: int, size: int, patch_size: int, *, stride: int | None = None, tubelet: int = 1,
        from_image: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(modality, dim, size, patch_size)
        stride = stride or patch_size
        if not 0 < patch_size <= size or stride < 1 or tubelet < 1:
            raise ConfigError(
                f"patch {patch_size}, stride {stride} and tubelet {tubelet} do not fit pictures of {size} pixels",
                where=modality.name,
                fix="Use a patch no larger than the picture, and positive strides.",
            )
        self.size, self.channels, self.tubelet = size, modality.channels, tubelet
        if from_image is not None:
            self.starts_from_image = from_image
        side = (size - patch_size) // stride + 1
        self.grid = (self.time, side, side)
        kernel, steps = (tubelet, patch_size, patch_size), (tubelet, stride, stride)
        self.projection = nn.Conv3d(modality.channels, dim, kernel, steps, bias=False)
        self.position = nn.Parameter(torch.empty(side * side, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Positions normal with standard deviation dim^-0.5 (method-facts 1.5, depth), patches as torch's default."""
        nn.init.normal_(self.position, std=self.dim**-0.5)
        self.projection.reset_parameters()

    @torch.no_grad()
    def adopt(
        self, patch_weight: Float[Tensor, "dim colours side side"], positions: Float[Tensor, "places dim"]
    ) -> None:
        """Take CLIP's patches and positions: resized where the grids differ, each tubelet step an equal share.

        Senses of another number of channels take the sum over the colours, shared equally: what a grey picture gives.
        """
        _, channels, steps, patch, _ = self.projection.weight.shape
        if patch_weight.shape[1] != channels:
            patch_weight = patch_weight.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels
        shrink = patch_weight.shape[-1] / patch
        patches = _resized(patch_weight, patch) * shrink**2  # a uniform picture keeps its response
        self.projection.weight.copy_(patches.unsqueeze(2).expand_as(self.projection.weight) / steps)
        side = round(len(positions) ** 0.5)
        places = _resized(positions.t().unflatten(1, (side, side)).unsqueeze(0), self.grid[1])
        self.position.copy_(places[0].flatten(1).t())

    def forward(self, values: Tensor) -> Tokens:
        self.check(values, self.channels, self.size, self.size)
        return self.patches(values)

    def patches(self, values: Float[Tensor, "batch time channels height width"]) -> Tokens:
        """Tokens of features whose sizes are known to fit.

        Raises:
            FeatureShapeError: time steps that do not divide into tubelets.
        """
        if values.shape[1] % self.tubelet:
            raise FeatureShapeError(
                f"{values.shape[1]} time steps of {self.modality} do not divide into tubelets of {self.tubelet}",
                fix="Let the processor sample a multiple of the tubelet.",
            )
        patches = self.projection(values.to(self.projection.weight.dtype).transpose(1, 2))
        return cast(Tokens, patches.flatten(3).permute(0, 2, 3, 1) + self.position)


def _resized(pictures: Float[Tensor, "batch channels old old"], side: int) -> Float[Tensor, "batch channels new new"]:
    if pictures.shape[-1] == side:
        return pictures
    return F.interpolate(pictures.float(), size=(side, side), mode="bicubic", antialias=True).to(pictures.dtype)


@register_tokenizer("grid")
class GridTokenizer(RasterTokenizer):
    """One still picture of any number of channels: depth, thermal, or an image with experts of its own."""

    layout = "batch channels height width"

    def forward(self, values: Tensor) -> Tokens:
        self.check(values, self.channels, self.size, self.size)
        return self.patches(values.unsqueeze(1))


@register_tokenizer("frames")
class FramesTokenizer(RasterTokenizer):
    """Video frames, each a picture, or pairs of frames with `tubelet=2`; starts from CLIP's image patches."""

    starts_from_image = True


@register_tokenizer("spectrogram")
class SpectrogramTokenizer(RasterTokenizer):
    """Log-mel pictures, one per window; a whole clip as one 224 x 224 picture gives 196 tokens (method-facts 1.5)."""

    layout = "batch time channels mel frames"


@register_tokenizer("points")
class PointTokenizer(Tokenizer):
    """Groups of neighbouring points by a mini-PointNet (Point-BERT's, as ULIP and ViT-Lens use it).

    Neighbour 0 of every group is its centre. 3 -> 128 -> 256, max, concatenated global, 512 -> 256, max, linear to the
    encoder's width; positions by a two-layer perceptron of the centre.

    Args:
        groups: groups per cloud (196 keeps the sequence length of a 224-pixel image).
        width: width of the first layer; the others are 2, 4 and 2 times as wide.
        norm: "layer" (default: independent of the other samples, hence of processes and accumulation) or "batch".

    Raises:
        ConfigError: an unknown norm, no number of groups, or points without three coordinates.
    """

    layout = "batch groups neighbours channels"

    def __init__(
        self, modality: Modality, dim: int, size: int, patch_size: int, *, groups: int = 196, width: int = 128,
        norm: str = "layer",
    ) -> None:  # fmt: skip
        super().__init__(modality, dim, size, patch_size)
        norms: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": _BatchNorm}
        if norm not in norms or modality.channels < 3:
            raise ConfigError(
                f"norm {norm!r} with {modality.channels} channels cannot tokenize points",
                where=modality.name,
                fix="Use norm layer or batch, and at least the three coordinates.",
            )
        if type(groups) is not int or groups < 1:
            raise ConfigError(f"there are {groups!r} groups", where=modality.name, fix="Give a positive whole number.")
        self.channels, self.groups, self.grid = modality.channels, groups, (1, 1, groups)
        normal, wide = norms[norm], 2 * width
        self.local = nn.Sequential(
            nn.Linear(modality.channels, width), normal(width), nn.ReLU(), nn.Linear(width, wide)
        )
        self.joint = nn.Sequential(
            nn.Linear(2 * wide, 2 * wide), normal(2 * wide), nn.ReLU(), nn.Linear(2 * wide, wide)
        )
        self.projection = nn.Linear(wide, dim)
        self.position = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, values: Tensor) -> Tokens:
        self.check(values, self.groups, None, self.channels)
        tokens, positions = self.parts(values)
        return (tokens + positions).unsqueeze(1)

    def parts(
        self, values: Float[Tensor, "batch groups neighbours channels"]
    ) -> tuple[Float[Tensor, "batch groups dim"], Float[Tensor, "batch groups dim"]]:
        """Tokens without their positions, and the positions."""
        values = values.to(self.projection.weight.dtype)
        centres = values[:, :, 0, :3]
        offsets = torch.cat([values[..., :3] - centres.unsqueeze(2), values[..., 3:]], dim=-1)
        local = self.local(offsets)
        shared = local.amax(dim=2, keepdim=True).expand_as(local)
        joint = self.joint(torch.cat([shared, local], dim=-1)).amax(dim=2)
        return self.projection(joint), self.position(centres)


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of `batch groups neighbours channels`, as the published mini-PointNet has it."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.flatten(0, -2)).view_as(values)


@register_tokenizer("text")
class TextTokenizer(Tokenizer):
    """Token ids through the base model's frozen word vectors, for the optional unified text path (method-facts 1.4).

    Args:
        length: longest text in tokens.
        width: width of the word vectors.
    """

    layout = "batch length"

    def __init__(
        self, modality: Modality, dim: int, size: int, patch_size: int, *, length: int = 77, width: int = 512
    ) -> None:
        super().__init__(modality, dim, size, patch_size)
        self.grid = (1, 1, length)
        self.projection = nn.Linear(width, dim)
        self.position = nn.Parameter(torch.empty(length, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        nn.init.normal_(self.position, std=self.dim**-0.5)

    def forward(self, ids: Tensor, vectors: Float[Tensor, "vocabulary width"]) -> Tokens:  # type: ignore[override]
        self.check(ids)
        if ids.shape[1] > len(self.position):
            raise FeatureShapeError(
                f"a text has {ids.shape[1]} tokens, the longest allowed is {len(self.position)}",
                fix="Truncate in the tokenizer call.",
            )
        return cast(Tokens, (self.projection(F.embedding(ids, vectors)) + self.position[: ids.shape[1]]).unsqueeze(1))


def tokenizer_kinds() -> tuple[str, ...]:
    """Registered kinds, in order of registration."""
    return tuple(_TOKENIZERS)
