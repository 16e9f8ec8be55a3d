"""The bundle and the registry's entry: their versions, tools and variables are those that really exist."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from anporia_mcp_server.settings import DEFAULT_TOOLS, TOOLSETS
from tests.peers import ROOT

SERVER = ROOT / "mcp_server"
VERSION: str = tomllib.loads((SERVER / "pyproject.toml").read_text())["project"]["version"]


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def variables() -> set[str]:
    """The names of variables that the client or the server reads."""
    sources = [*(ROOT / "client" / "src").rglob("*.py"), *(SERVER / "src").rglob("*.py")]
    return {name for path in sources for name in re.findall(r'"(ANPORIA_[A-Z_]+)"', path.read_text())}


@pytest.fixture
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_build", SERVER / "bundle" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_registrys_entry() -> None:
    about = loaded(SERVER / "server.json")
    [package] = about["packages"]
    assert about["$schema"].endswith("/2025-12-11/server.schema.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", about["name"])
    assert len(about["description"]) <= 100  # the schema's
    assert about["version"] == package["version"] == VERSION
    assert package["registryType"] == "pypi" and package["identifier"] == "anporia-mcp-server"
    assert package["transport"] == {"type": "stdio"}
    [option] = package["packageArguments"]
    tools = option["variables"]["tools"]
    assert tools["description"].partition(": ")[2].split(", ") == list(TOOLSETS) and tools["default"] == DEFAULT_TOOLS
    named = {one["name"]: one for one in package["environmentVariables"]}
    assert named.keys() <= variables()
    secret = {name for name, one in named.items() if one.get("isSecret")}
    assert secret == {name for name in named if re.search(r"PASSWORD|PASSPHRASE|PRIVATE_KEY", name)}
    assert not any("default" in named[name] or "value" in named[name] for name in secret)


def test_the_bundles_manifest() -> None:
    about = loaded(SERVER / "bundle" / "manifest.json")
    assert about["version"] == VERSION and about["manifest_version"] == "0.4" and about["server"]["type"] == "uv"
    env: dict[str, str] = about["server"]["mcp_config"]["env"]
    assert env.keys() - variables() == {"ANPORIA_BUNDLE_READ_ONLY"}
    asked = {value.removeprefix("${user_config.").removesuffix("}") for value in env.values()}
    assert asked == set(about["user_config"])
    assert [name for name, one in about["user_config"].items() if one.get("sensitive")] == ["relay_password"]


def test_ours_come_from_the_bundle_and_the_rest_in_exact_versions(builder: ModuleType) -> None:
    wheels = [f"anporia_{member}-{VERSION}-py3-none-any.whl" for member in builder.MEMBERS]
    made = tomllib.loads(builder.project(VERSION, wheels, ["mcp==2.3.0"]))
    names = {f"anporia-{member.replace('_', '-')}" for member in builder.MEMBERS}
    assert set(made["project"]["dependencies"]) == {f"{name}=={VERSION}" for name in names}
    assert {name: one["path"] for name, one in made["tool"]["uv"]["sources"].items()} == {
        name: f"wheels/{name.replace('-', '_')}-{VERSION}-py3-none-any.whl" for name in names
    }
    assert made["tool"]["uv"]["constraint-dependencies"] == ["mcp==2.3.0"]
    needed = {need for member in builder.MEMBERS for need in siblings(member)}
    assert needed <= names


def siblings(member: str) -> set[str]:
    about = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    return {need.partition("==")[0] for need in about["dependencies"] if need.startswith("anporia-")}


def test_settings_that_were_left_out_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = runpy.run_path(str(SERVER / "bundle" / "main.py"), run_name="bundle")["settled"]
    monkeypatch.setenv("ANPORIA_RELAY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "${user_config.relay_password}")
    monkeypatch.setenv("ANPORIA_BUNDLE_READ_ONLY", "true")
    assert settled() == ["--read-only"]
    from os import environ

    assert environ["ANPORIA_RELAY_URL"] == "http://127.0.0.1:1" and "ANPORIA_RELAY_PASSWORD" not in environ
    assert settled() == []
    monkeypatch.setenv("ANPORIA_BUNDLE_READ_ONLY", "false")
    assert settled() == []
