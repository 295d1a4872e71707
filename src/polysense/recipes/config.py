"""Recipe configs: YAML to frozen dataclasses, every unknown key and mistyped value refused with its place."""

from __future__ import annotations

import importlib
import json
import logging
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from polysense.errors import ConfigError, PolysenseError
from polysense.recipes.plain_yaml import read_yaml
from polysense.safety import check_keys
from polysense.storage import write_whole, writing
from polysense.trainer.resume import HARMLESS

logger = logging.getLogger(__name__)

T = TypeVar("T")


def recipe_folder() -> Path:
    """Where the shipped YAML files are: inside the wheel, or `training/` of a checkout."""
    packaged = Path(__file__).parent / "training"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "training"


def config_names(shipped: Path) -> list[str]:
    """Names of the configs in a folder of them."""
    return sorted(path.stem for path in shipped.glob("*.yaml"))


def read_config(
    kind: type[T], system: str, source: str | Path, overrides: Sequence[str] = (), imports: Sequence[str] | None = None
) -> T:
    """A recipe's config.

    Args:
        kind: the dataclass it becomes.
        system: folder of the shipped configs, such as "unialign".
        source: the name of a shipped one ("world"), or else a YAML file. The key `base`, of the whole or of a section,
            names another, beside it or shipped, whose values it refines; null in place of a section drops that.
        overrides: `key.subkey=value`, the value in YAML.
        imports: modules to import, with those that the config names, before its values are looked at: these may name
            what they register. `None` imports none, as for a look at a config.

    Texts that begin with ~/ are paths in the home folder, as a shell has it.

    Raises:
        ConfigError: naming the file and the key.
    """
    shipped = recipe_folder() / system
    path = _locate(str(source), Path(), shipped)
    data = _read(path, shipped, depth=0)
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise ConfigError(f"the override {override!r} has no '='", fix="Write key.subkey=value.")
        _set(data, key.split("."), read_yaml(value, f"override {override}"), override)
    data = _at_home(data)
    if imports is not None:
        own = _build(Sequence[str], data.get("imports", ()), f"{path}: imports")
        import_modules([*own, *imports])
    return build(kind, data, str(path))


def shipped_names(kind: type[Any], system: str) -> list[str]:
    """Names of the shipped configs of a folder that are of this kind."""
    found = []
    for name in config_names(recipe_folder() / system):
        with suppress(ConfigError):
            read_config(kind, system, name)
            found.append(name)
    return found


def write_config(recipe: Any, output: Path) -> None:
    """`config.yaml` in the folder of a run: the recipe, all defaults included; it is made if it is not there.

    A warning tells of each setting by which it differs from the one that is there, but for those of the loop that
    change nothing of what is learned: a stage that was begun goes on with it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    resolved, path = json.loads(json.dumps(asdict(recipe))), output / "config.yaml"
    for key, before, after in differing(_earlier(path) or resolved, resolved):
        logger.warning("%s was last started with %s = %r, which is now %r", output, key, before, after)
    with writing(output):
        write_whole(path, yaml.safe_dump(resolved, sort_keys=False))


def _earlier(path: Path) -> Mapping[str, Any] | None:
    """What a run was last started with; `None` where that is not known."""
    try:
        found = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ConfigError):
        return None
    return found if isinstance(found, Mapping) else None


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Dotted names of the settings that differ, with both values, but for those that change nothing of a training."""
    old, new = dict(leaves(before)), dict(leaves(after))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and not is_harmless(key):
            yield key, old.get(key), new.get(key)


def leaves(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested mappings by their dotted names."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def is_harmless(key: str) -> bool:
    """Whether the dotted name of a setting is that of one of the loop which changes nothing of what is learned."""
    *place, name = key.split(".")
    return "loop" in place and name in HARMLESS


def import_modules(names: Sequence[str]) -> None:
    """Import the user's modules, so that what they register exists.

    Raises:
        ConfigError: a module that cannot be imported; the original error is its cause.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"the module cannot be imported ({type(error).__name__}: {error})", where=f"imports: {name}",
                fix="Give its importable name, and put its folder on PYTHONPATH.",
            ) from error  # fmt: skip


@contextmanager
def place(where: str) -> Iterator[None]:
    """Within this block, what a config's values cause becomes a `ConfigError` that says where they stand."""
    try:
        yield
    except PolysenseError as error:
        inner = error.where or ""
        known = not inner or where.endswith(inner)
        raise ConfigError(error.what, where=where if known else f"{where}: {inner}", fix=error.fix) from error


def check_positive(settings: object, *names: str) -> None:
    """Refuse a field of a dataclass that is neither positive nor `None`.

    Raises:
        ConfigError: naming it.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}", fix="Give a positive number.")


def build(kind: type[T], data: Any, where: str) -> T:
    """`data` as an instance of `kind`, checked all the way down.

    Raises:
        ConfigError: naming the key's whole path.
    """
    return cast(T, _build(kind, data, where))


def _locate(name: str, beside: Path, shipped: Path) -> Path:
    """The YAML file that a config name means: a shipped one without its ending, or else a path from `beside`.

    Raises:
        ConfigError: it could be either.
    """
    path = beside / os.path.expanduser(name)
    if name not in config_names(shipped):
        return path
    if path.is_file():
        raise ConfigError("there is a file of this name, and a shipped config", where=name,
                          fix=f"Write ./{name} for the file; rename it for the shipped config.")  # fmt: skip
    return shipped / f"{name}.yaml"


def _read(path: Path, shipped: Path, depth: int) -> dict[str, Any]:
    if depth > 4:
        raise ConfigError("base files refine one another in a circle", where=path, fix="Break the circle.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(config_names(shipped)) or "none"
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise ConfigError(f"the config cannot be read ({reason})", where=path,
                          fix=f"Give a YAML file, or one of the shipped names: {names}.") from error  # fmt: skip
    data = read_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError("the config is not a mapping of keys", where=path, fix="Write `key: value` lines.")
    return _refined(data, path, shipped, depth)


def _refined(data: dict[str, Any], path: Path, shipped: Path, depth: int) -> dict[str, Any]:
    """The mapping, and every section in it, as a refinement of the config that its `base` names, if it has one."""
    own = {key: _refined(value, path, shipped, depth) if isinstance(value, dict) else value
           for key, value in data.items() if key != "base"}  # fmt: skip
    if "base" not in data:
        return own
    return _merged(_read(_locate(str(data["base"]), path.parent, shipped), shipped, depth + 1), own)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        if value is None and isinstance(old, dict):
            del out[key]
            continue
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _at_home(value: Any) -> Any:
    """The value, in which texts that begin with ~/ lead into the home folder."""
    if isinstance(value, dict):
        return {key: _at_home(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def _set(data: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{key!r} holds a value, not keys", where=override, fix="Override the key itself.")
    data[keys[-1]] = value


def _build(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return _build_dataclass(hint, value, where)
    if origin in (Union, types.UnionType):
        return _build_union(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{value!r} is not a choice", where=where,
                              fix=f"Choose one of {', '.join(map(str, arguments))}.")  # fmt: skip
        return value
    if origin in (list, tuple, Sequence) or (origin is not None and issubclass(origin, Sequence)):
        if not isinstance(value, list | tuple):
            raise _mistyped(value, "a list", where)
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _mistyped(value, "a mapping", where)
        return {str(key): _build(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _mistyped(value, hint.__name__, where)
    return value


def _build_union(kinds: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    for kind in rest[:-1]:
        try:
            return _build(kind, value, where)
        except ConfigError:
            continue
    return _build(rest[-1], value, where)


def _build_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _mistyped(value, "a mapping", where)
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    check_keys(value, known, where)
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in value]:
        raise ConfigError(f"the keys {missing} are missing", where=where, fix="Give a value for each.")
    built = {str(key): _build(hints[str(key)], item, f"{where}: {key}") for key, item in value.items()}
    with place(where):  # what the dataclass itself refuses
        return kind(**built)


def _mistyped(value: Any, expected: str, where: str) -> ConfigError:
    scientific = isinstance(value, str) and expected == "float"
    fix = "YAML reads 2e-4 as text: write 2.0e-4." if scientific else "Correct the value."
    return ConfigError(f"{value!r} is not {expected}", where=where, fix=fix)
