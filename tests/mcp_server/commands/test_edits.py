"""Edits of JSON and TOML: what was meant is there, and every other byte is as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_mcp_server.commands import json_edits, toml_edits

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_DOCUMENTS = st.dictionaries(st.text(max_size=5), _VALUES, max_size=4)


@given(_DOCUMENTS, _DOCUMENTS, st.sampled_from([None, 2, 4, "\t"]), st.booleans(), _VALUES)
def test_any_document_gets_the_member_and_gives_it_back(
    around: dict[str, Any], servers: dict[str, Any], indent: int | str | None, windows: bool, value: Any
) -> None:
    servers.pop("ours", None)
    text = json.dumps({**around, "servers": servers}, indent=indent, ensure_ascii=False)
    if windows:
        text = text.replace("\n", "\r\n")
    changed = json_edits.with_member(text, ["servers"], "ours", value)
    assert json.loads(changed) == {**around, "servers": {**servers, "ours": value}}
    assert list(json.loads(changed)) == list(json.loads(text))
    again = json_edits.with_member(changed, ["servers"], "ours", [value])
    assert json.loads(again) == {**around, "servers": {**servers, "ours": [value]}}
    assert "\r\n" not in text or "\n" not in changed.replace("\r\n", "")
    back = json_edits.without_member(again, ["servers"], "ours")
    assert back == text if servers else json.loads(back) == json.loads(text)


def test_the_style_of_the_neighbours_is_taken_on() -> None:
    text = '{\n\t"a": [1,2,  3],\n\t"mcpServers": {\n\t\t"x": {"command": "y"}\n\t},\n\t"b": 1.0e2\n}\n'
    assert json_edits.with_member(text, ["mcpServers"], "z", {"k": [1]}) == (
        '{\n\t"a": [1,2,  3],\n\t"mcpServers": {\n\t\t"x": {"command": "y"},\n'
        '\t\t"z": {\n\t\t\t"k": [\n\t\t\t\t1\n\t\t\t]\n\t\t}\n\t},\n\t"b": 1.0e2\n}\n'
    )
    assert json_edits.with_member('{"s": {"a": 1}}', ["s"], "b", 2) == '{"s": {"a": 1, "b": 2}}'


def test_from_nothing() -> None:
    assert json_edits.with_member("", ["s"], "a", 1) == '{\n  "s": {\n    "a": 1\n  }\n}\n'
    assert json_edits.with_item("", ["s"], 1) == '{\n  "s": [\n    1\n  ]\n}\n'
    assert json_edits.without_member("", ["s"], "a") == ""


@pytest.mark.parametrize(
    "text", ["// a comment\n{}", '{"a": 1,}', "[]", '{"a": 1, "a": 2}', '{"s": 5}', '{"s": []}{', "{"]
)
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json_edits.with_member(text, ["s"], "a", 1)


@pytest.mark.parametrize("found", ["{}", '{"a": 1}', "true", "null", "1", '"x"'])
def test_items_of_what_is_no_list_are_refused(found: str) -> None:
    text = f'{{"inputs": {found}}}'
    with pytest.raises(ValueError, match="'inputs' in it is no list"):
        json_edits.with_item(text, ["inputs"], 1)
    with pytest.raises(ValueError, match="'inputs' in it is no list"):
        json_edits.without_item(text, ["inputs"], lambda _: True)


@pytest.mark.parametrize("found", ["[]", "[1]", "true", "null", "1", '"x"'])
def test_members_of_what_is_no_object_are_refused(found: str) -> None:
    text = f'{{"a": {found}}}'
    for path in (["a"], ["a", "b"]):
        with pytest.raises(ValueError, match="'a' in it is no object"):
            json_edits.with_member(text, path, "x", 1)
    with pytest.raises(ValueError, match="'a' in it is no object"):
        json_edits.without_member(text, ["a"], "x")


def test_what_came_of_an_edit_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"s": {"a": 1}, "l": [1]}'
    monkeypatch.setattr(json_edits, "_inserted", lambda *_: text)
    monkeypatch.setattr(json_edits, "_without", lambda *_: "{,}")
    edits: list[Callable[[], str]] = [
        lambda: json_edits.with_member(text, ["s"], "b", 2),
        lambda: json_edits.with_item(text, ["l"], 2),
        lambda: json_edits.without_member(text, ["s"], "a"),
        lambda: json_edits.without_item(text, ["l"], lambda _: True),
    ]
    for edit in edits:
        with pytest.raises(ValueError, match="not changed by itself"):
            edit()


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        json_edits.with_member('{"a": NaN}', ["s"], "b", 2)


def test_items_come_and_go() -> None:
    text = '{"inputs": [{"id": "a"}, {"id": "b"}]}'
    added = json_edits.with_item(text, ["inputs"], {"id": "c"})
    assert [one["id"] for one in json.loads(added)["inputs"]] == ["a", "b", "c"]
    assert json_edits.without_item(added, ["inputs"], lambda one: one == {"id": "c"}) == text
    assert json.loads(json_edits.without_item(text, ["inputs"], lambda one: one == {"id": "a"})) == {
        "inputs": [{"id": "b"}]
    }
    assert json_edits.without_item(text, ["inputs"], lambda _: False) == text


_TOML = """# mine
model = "gpt"  # the best

[mcp_servers.other]
command = "x"
args = ["a",
  "[b]"]

# of the profile
[profiles.one]
model = 'y'
"""


def test_a_table_comes_and_goes() -> None:
    table = {"command": "C:\\a b", "args": ["--x", 'q"\x7f'], "env": {"A.B": "1", "C": "2"}, "n": 3, "on": True}
    changed = toml_edits.with_table(_TOML, "anporia", table)
    assert changed.startswith(_TOML) and toml_edits.parsed(changed)["mcp_servers"]["anporia"] == table
    assert toml_edits.with_table(changed, "anporia", {"command": "z"}) == (
        f'{_TOML}\n[mcp_servers.anporia]\ncommand = "z"\n'
    )
    assert toml_edits.without_table(changed, "anporia") == _TOML
    assert toml_edits.without_table(_TOML, "anporia") == _TOML


def test_a_table_amid_others_with_tables_of_its_own() -> None:
    ours = '[mcp_servers."anporia"]\ncommand = "c"\n[mcp_servers.anporia.env]\nA = "1"\n\n'
    text = _TOML.replace("# of the", f"{ours}# of the")
    assert toml_edits.without_table(text, "anporia") == _TOML
    changed = toml_edits.with_table(text, "anporia", {"command": "d"})
    assert toml_edits.parsed(changed)["mcp_servers"]["anporia"] == {"command": "d"} and "# of the profile" in changed


@pytest.mark.parametrize(
    "text", ["[", 'mcp_servers = {anporia = {command = "c"}}', "mcp_servers = 1", 'mcp_servers.anporia.command = "c"']
)
def test_tables_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        toml_edits.with_table(text, "anporia", {"command": "d"})
