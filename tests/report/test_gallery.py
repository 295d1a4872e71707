"""Queries of one sense or several find the nearest of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from polysense.errors import ConfigError
from polysense.report import Pool, Query, draw_gallery, retrieve, to_png

_RAW = {"grid": np.full((4, 4, 1), 0.5), "points": np.random.default_rng(0).normal(size=(20, 6))}


def pool(modality: str, vectors: Sequence[Sequence[float]], kind: str = "grid") -> Pool:
    embeddings = torch.nn.functional.normalize(torch.tensor(vectors), dim=-1)
    labels = [f"{modality} {i}" for i in range(len(vectors))]
    return Pool(modality=modality, kind=kind, embeddings=embeddings, load=lambda i: _RAW[kind], labels=labels)


def test_the_nearest_of_every_target_come_first_with_their_marks() -> None:
    query = pool("depth", [[1.0, 0.0, 0.0]])
    images = pool("image", [[0.0, 1.0, 0.0], [1.0, 0.1, 0.0], [1.0, 1.0, 0.0]])
    row = retrieve(Query(parts=[(query, 0)], relevant=lambda target, i: i == 1), [images], k=2)
    assert [(found.number, found.right) for found in row.found[0]] == [(1, True), (2, False)]


def test_composed_queries_lie_between_their_parts() -> None:
    first, second = pool("audio", [[1.0, 0.0, 0.0]]), pool("text", [[0.0, 1.0, 0.0]])
    images = pool("image", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    row = retrieve(Query(parts=[(first, 0), (second, 0)], relevant=lambda target, i: True), [images], k=1)
    assert [found.number for found in row.found[0]] == [2]


def test_a_query_does_not_find_itself_and_changes_no_embedding() -> None:
    images = pool("image", [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    before = images.embeddings.clone()
    row = retrieve(Query(parts=[(images, 0)], relevant=lambda target, i: False), [images], k=5)
    assert [found.number for found in row.found[0]] == [1, 2]
    assert torch.equal(images.embeddings, before)


def test_a_query_without_parts_and_a_gallery_without_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="a query needs at least one sample"):
        retrieve(Query(parts=[], relevant=lambda target, i: True), [])
    with pytest.raises(ConfigError, match="a gallery needs at least one query"):
        draw_gallery([])


def test_the_gallery_shows_every_sample_with_label_and_mark() -> None:
    depth, cloud = pool("depth", [[1.0, 0.0]]), pool("point_cloud", [[1.0, 0.0], [0.0, 1.0]], "points")
    single = retrieve(Query(parts=[(depth, 0)], relevant=lambda target, i: i == 0), [cloud], k=2)
    double = retrieve(Query(parts=[(depth, 0), (cloud, 1)], relevant=lambda target, i: i == 0), [cloud], k=2)
    figure = draw_gallery([single, double], "Retrieval")
    assert len(figure.axes) == (1 + 2) + (2 + 1), "the query itself is not among what it finds"
    marks = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert marks == ["✓", "✗", "✓"]
    assert to_png(figure, dpi=30).startswith(b"\x89PNG")
