"""The rules that hold the repository together: who imports whom, one version, sizes, names, nothing of one machine."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# which of our packages a package may import; a new member starts here
ARROWS: dict[str, set[str]] = {
    "wire": set(),
    "cython_ext": set(),
    "store": {"wire"},
    "client": {"wire"},
    "relay": {"store", "wire", "cython_ext"},
    "mcp_server": {"client"},
    "loadtest": {"wire"},
    "p2p": {"store", "wire"},
}
# the one module that tries the compiled kernels and does without
SOFT = {"wire/src/anporia_wire/kernels.py": {"cython_ext"}}
MAX_LINES = 400

MEMBERS = sorted(path.parent.name for path in ROOT.glob("*/pyproject.toml"))
each_member = pytest.mark.parametrize("member", MEMBERS)


def project(member: str) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    return loaded


def modules(member: str) -> list[Path]:
    return sorted(path for path in (ROOT / member / "src").rglob("*.py*") if path.suffix in {".py", ".pyx", ".pyi"})


def imported_siblings(source: str) -> set[str]:
    roots: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            roots.add((node.module or "").partition(".")[0])
    return {root.removeprefix("anporia_") for root in roots if root.startswith("anporia_")}


def declared_siblings(member: str) -> set[str]:
    found = (re.match(r"anporia-([a-z-]+)", wanted) for wanted in project(member)["dependencies"])
    return {match[1].replace("-", "_") for match in found if match}


@cache
def files() -> list[Path]:
    """Everything that is, or is about to be, in the repository."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    # --cached also names what was deleted and not yet committed
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@each_member
def test_imports_follow_the_arrows(member: str) -> None:
    assert member in ARROWS, "say in ARROWS which members the new one may import"
    for path in modules(member):
        if path.suffix != ".pyx":
            name = path.relative_to(ROOT).as_posix()
            wanted = imported_siblings(path.read_text()) - {member}
            assert wanted <= ARROWS[member] | SOFT.get(name, set()), name


@each_member
def test_what_is_imported_is_declared(member: str) -> None:
    assert declared_siblings(member) <= ARROWS[member]
    firm = [path for path in modules(member) if path.suffix == ".py" and path.relative_to(ROOT).as_posix() not in SOFT]
    wanted = set[str]().union(*(imported_siblings(path.read_text()) for path in firm)) - {member}
    assert wanted <= declared_siblings(member)


def test_one_version() -> None:
    versions = {member: project(member)["version"] for member in MEMBERS}
    assert len(set(versions.values())) == 1, versions
    assert f"## [{versions['wire']}]" in (ROOT / "CHANGELOG.md").read_text()


@each_member
def test_siblings_are_pinned_to_the_one_version(member: str) -> None:
    # exactly, so that no installer pairs ours with a namesake of another version on an index
    about = project(member)
    extras: dict[str, list[str]] = about.get("optional-dependencies", {})
    wanted = [*about["dependencies"], *(requirement for extra in extras.values() for requirement in extra)]
    ours = [requirement for requirement in wanted if requirement.startswith("anporia-")]
    assert [r for r in ours if not r.endswith(f"=={about['version']}")] == []


@each_member
def test_member_says_what_it_is(member: str) -> None:
    about = project(member)
    assert about["name"] == f"anporia-{member.replace('_', '-')}"
    assert about["requires-python"] == ">=3.11"
    assert (ROOT / member / "src" / f"anporia_{member}" / "py.typed").exists()


@each_member
def test_package_comes_from_this_repository(member: str) -> None:
    # the index has packages of others under some of these names
    package = importlib.import_module(f"anporia_{member}")
    assert Path(str(package.__file__)).is_relative_to(ROOT / member / "src")


@each_member
def test_public_names(member: str) -> None:
    package = importlib.import_module(f"anporia_{member}")
    names: list[str] = package.__all__  # ruff holds its order (RUF022)
    assert names and len(names) == len(set(names))
    assert [name for name in names if not hasattr(package, name)] == []


@each_member
def test_modules_are_short_enough_to_read(member: str) -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules(member)}
    assert {name: lines for name, lines in lengths.items() if lines >= MAX_LINES} == {}


def test_every_module_is_named_for_what_it_does() -> None:
    assert [path for path in files() if path.stem.strip("_") in {"utils", "util", "helpers", "common", "misc"}] == []


def test_nothing_names_a_registry_or_a_machine() -> None:
    # put together here, so that this file does not hold what it looks for
    hosts = ["py" + "pi.org", "files." + "pythonhosted", "registry." + "npmjs"]
    places = ["/wo" + "rk/", "/ro" + "ot/", "/opt/" + "pypi", "/opt/" + "wheels"]
    # a path starts there: an address or a folder below another may hold the same letters
    pattern = re.compile("|".join([*map(re.escape, hosts), rf"(?<![\w.~-])({'|'.join(places)})"]).encode())
    found = {path.relative_to(ROOT).as_posix(): pattern.findall(path.read_bytes()) for path in files()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_constraints_are_exact_and_never_ours() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)] == []
    assert [pin for pin in pins if pin.startswith("anporia")] == []
