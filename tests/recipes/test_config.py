"""Configs from YAML: what is read, and what is refused with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from polysense.errors import ConfigError, MediaError
from polysense.nn.alignment import ALIGNMENTS
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.config import build, import_modules, is_harmless, place, read_config, write_config
from polysense.recipes.unialign import UniAlignRecipe


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ConfigError(f"rate is {self.rate}", where="inner", fix="Give 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    names: Sequence[str] = ()
    table: Mapping[str, Inner] = field(default_factory=dict)
    count: int | None = None
    wide: bool = False


def read(folder: Path, text: str, *overrides: str) -> Outer:
    (folder / "x.yaml").write_text(text)
    return read_config(Outer, "unialign", folder / "x.yaml", overrides)


def test_nested_values_become_dataclasses(tmp_path: Path) -> None:
    config = read(tmp_path, "inner: {rate: 1}\nnames: [x]\ntable: {t: {rate: 0.5, kind: b}}\ncount: null\n")
    assert config == Outer(inner=Inner(rate=1.0), names=("x",), table={"t": Inner(rate=0.5, kind="b")})
    assert isinstance(config.inner.rate, float)


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_config(Outer(inner=Inner(rate=1.0)), tmp_path / "run")
    assert read_config(Outer, "unialign", tmp_path / "run/config.yaml").inner.rate == 1.0
    for folder in (Path("/proc/nope"), tmp_path / "run/config.yaml"):
        with pytest.raises(ConfigError, match=f"{folder}: it cannot be written"):
            write_config(Outer(inner=Inner(rate=1.0)), folder)


def test_a_config_that_differs_from_the_last_start_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_config(Outer(inner=Inner(rate=1.0), names=("a",)), tmp_path)
    write_config(Outer(inner=Inner(rate=1.0), names=("a",)), tmp_path)
    assert not caplog.messages
    write_config(Outer(inner=Inner(rate=2.0), names=("a",), table={"t": Inner(rate=1.0)}), tmp_path)
    assert caplog.messages == [
        f"{tmp_path} was last started with inner.rate = 1.0, which is now 2.0",
        f"{tmp_path} was last started with table.t.kind = None, which is now 'a'",
        f"{tmp_path} was last started with table.t.rate = None, which is now 1.0",
    ]
    (tmp_path / "config.yaml").write_text("{no yaml")
    write_config(Outer(inner=Inner(rate=3.0)), tmp_path)
    assert read_config(Outer, "unialign", tmp_path / "config.yaml").inner.rate == 3.0


@pytest.mark.parametrize(
    ("key", "harmless"),
    [
        ("loop.log_every", True),
        ("hyperparameters.loop.prefetch", True),
        ("loop.learning_rate", False),
        ("prefetch", False),
    ],
)
def test_some_settings_of_the_loop_change_nothing(key: str, harmless: bool) -> None:
    assert is_harmless(key) is harmless


def test_overrides_reach_into_sections_and_are_yaml(tmp_path: Path) -> None:
    config = read(tmp_path, "inner: {rate: 1}", "inner.rate=2.5", "table.t={rate: 3}", "names=[a, b]", "count=4")
    assert config == Outer(inner=Inner(rate=2.5), table={"t": Inner(rate=3.0)}, names=("a", "b"), count=4)


def test_a_base_is_refined_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("inner: {rate: 1, kind: b}\ncount: 7\n")
    assert read(tmp_path, "base: base.yaml\ninner: {rate: 2}") == Outer(inner=Inner(rate=2.0, kind="b"), count=7)


def test_a_text_that_begins_with_a_tilde_leads_into_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("inner: {rate: 1}\nnames: [~/data, a~/b, ~c]\n")
    assert read_config(Outer, "unialign", "~/mine.yaml").names == (f"{tmp_path}/data", "a~/b", "~c")
    assert read_config(Outer, "unialign", "~/mine.yaml", ["names=[~/more]"]).names == (f"{tmp_path}/more",)


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in a circle"):
        read(tmp_path, "base: x.yaml")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("innr: {rate: 1}", (), r"x\.yaml: unknown key 'innr'\. Did you mean 'inner'"),
        ("inner: {rate: 1, zzz: 1}", (), r"x\.yaml: inner: unknown key 'zzz'\. Known keys: rate, kind"),
        ("inner: {rate: 2e-4}", (), r"inner: rate: '2e-4' is not float\. YAML reads 2e-4 as text"),
        ("inner: {rate: true}", (), r"inner: rate: True is not float"),
        ("inner: {rate: 1, kind: c}", (), r"inner: kind: 'c' is not a choice\. Choose one of a, b"),
        ("inner: {rate: -1}", (), r"x\.yaml: inner: rate is -1\.0\. Give 0 or more"),
        ("inner: {kind: a}", (), r"inner: the keys \['rate'\] are missing"),
        ("inner: 3", (), r"inner: 3 is not a mapping"),
        ("inner: {rate: 1}\nnames: x", (), r"names: 'x' is not a list"),
        ("inner: {rate: 1}\nnames: [1]", (), r"names\[0\]: 1 is not str"),
        ("inner: {rate: 1}\ntable: {t: {rate: x}}", (), r"table: t: rate: 'x' is not float"),
        ("inner: {rate: 1}\ncount: x", (), r"count: 'x' is not int"),
        ("inner: {rate: 1}\nwide: 1", (), r"wide: 1 is not bool"),
        ("- 1", (), r"x\.yaml: the config is not a mapping"),
        ("inner: {", (), r"x\.yaml: the text is not YAML"),
        ("inner: {rate: 1}", ("count",), r"the override 'count' has no '='"),
        ("inner: {rate: 1}", ("count=[",), r"override count=\[: the text is not YAML"),
        ("inner: {rate: 1}\ncount: 1", ("count.x=1",), r"count\.x=1: 'count' holds a value"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    text: str, overrides: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text, *overrides)


def test_a_missing_config_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^none: the config cannot be read .*names: .*paper, .*world"):
        read_config(Outer, "unialign", "none")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is not a text"):
        read_config(Outer, "unialign", tmp_path / "x.yaml")


def test_a_name_is_that_of_a_shipped_config_or_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("inner: {rate: 1}")
    assert read_config(Outer, "unialign", "mine").inner.rate == 1.0
    (tmp_path / "demo").mkdir()  # a folder is no config
    assert len(read_config(UniAlignRecipe, "unialign", "demo").stages) > 1


def test_a_file_and_a_shipped_config_of_one_name_are_not_confused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world").write_text("inner: {rate: 1}")
    (tmp_path / "refined.yaml").write_text("base: world")
    for source in ("world", "refined.yaml"):
        with pytest.raises(ConfigError, match=r"^world: there is a file of this name, .* Write \./world for the file"):
            read_config(Outer, "unialign", source)
    assert read_config(Outer, "unialign", "./world").inner.rate == 1.0


def test_modules_are_imported_and_failures_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_sense.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    import_modules(["json"])
    with pytest.raises(ConfigError, match=r"imports: my_broken_sense: .*ZeroDivisionError"):
        import_modules(["my_broken_sense"])


def test_a_config_that_is_run_may_name_what_its_imports_register(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_alignment.py").write_text(
        "from polysense.nn.alignment import ALIGNMENTS, same_step\nALIGNMENTS['mine'] = same_step\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    told = ["model.mixing=mine", "imports=[my_alignment]"]
    with pytest.raises(ConfigError, match="mixing"):
        read_config(CometRecipe, "comet", "world", told)
    try:
        assert read_config(CometRecipe, "comet", "world", told, imports=()).model["mixing"] == "mine"
    finally:
        ALIGNMENTS.pop("mine", None)
    with pytest.raises(ConfigError, match=r"imports: 'my_alignment' is not a list"):
        read_config(CometRecipe, "comet", "world", ["imports=my_alignment"], imports=())


def test_a_look_at_a_config_imports_nothing() -> None:
    assert tuple(read_config(CometRecipe, "comet", "world-long").imports) == ("thermal",)


def test_a_place_names_what_goes_wrong_in_it_once() -> None:
    with pytest.raises(ConfigError, match=r"^a: b: broken\. Mend it\.$"), place("a"):
        raise MediaError("broken", where="b", fix="Mend it.")
    with pytest.raises(ConfigError, match=r"^x: loop: broken\.$"), place("x: loop"):
        raise ConfigError("broken", where="loop")
    assert build(Inner, {"rate": 1}, "here") == Inner(rate=1.0)


def test_a_section_can_refine_another_config_and_drop_parts_of_it(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text("a: {x: 1, y: {z: 2}}\nb: {w: 3}\n")
    (tmp_path / "outer.yaml").write_text("parts: {first: {base: inner.yaml, a: {x: 5}, b: null}}\n")

    @dataclass(frozen=True)
    class Outer:
        parts: dict[str, Any]

    read = read_config(Outer, "comet", tmp_path / "outer.yaml")
    assert read.parts == {"first": {"a": {"x": 5, "y": {"z": 2}}}}
