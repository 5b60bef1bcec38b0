"""The results file keeps what was not run again, and the table shows what the file holds."""

from __future__ import annotations

import importlib
import json

import pytest

from benchmarks.__main__ import SUITES
from benchmarks.learning.tables import version
from benchmarks.measure import summarise
from benchmarks.results import (
    DOCUMENT,
    TABLE_END,
    TABLE_START,
    machine,
    markdown,
    merge,
    number,
    save,
    write_table,
)

HERE = {"run": "full", "processor": "p"}


CODE = "0.1.0-abc"


def row(name: str, value: float = 1.0):
    return summarise(name, "u", [value])


def names(content):
    return [line["name"] for line in content["rows"]]


def test_a_suites_rows_are_replaced_where_they_stood():
    old = merge(None, HERE, "a", [row("a: 1"), row("a: 2")], CODE)
    old = merge(old, HERE, "b", [row("b: 1")], CODE)
    old = merge(old, HERE, "ab", [row("ab: 1")], CODE)
    new = merge(old, HERE, "a", [row("a: 3", 5.0)], CODE)
    assert names(new) == ["a: 3", "b: 1", "ab: 1"]
    assert new["rows"][0]["ours"] == 5.0
    assert names(merge(new, HERE, "b", [row("b: 2"), row("b: 3")], CODE)) == [
        "a: 3",
        "b: 2",
        "b: 3",
        "ab: 1",
    ]


@pytest.mark.parametrize("change", [{"run": "quick"}, {"processor": "q"}])
def test_rows_of_another_machine_or_length_are_dropped(change):
    old = merge(None, HERE, "a", [row("a: 1")], CODE)
    assert names(merge(old, {**HERE, **change}, "b", [row("b: 1")], CODE)) == ["b: 1"]


def test_each_suite_keeps_the_code_that_it_was_taken_with():
    old = merge(merge(None, HERE, "a", [row("a: 1")], "1"), HERE, "b", [row("b: 1")], "2")
    assert old["code"] == {"a": "1", "b": "2"}
    assert merge(old, HERE, "a", [row("a: 1")], "3")["code"] == {"a": "3", "b": "2"}
    assert merge(old, {**HERE, "run": "quick"}, "a", [row("a: 1")], "3")["code"] == {"a": "3"}


def test_rows_must_carry_their_suites_name():
    with pytest.raises(AssertionError):
        merge(None, HERE, "a", [row("b: 1")], CODE)


def test_the_file_is_made_and_updated(tmp_path):
    file = tmp_path / "results" / "latest.json"
    save(file, HERE, "a", [row("a: 1")])
    save(file, HERE, "b", [row("b: 1")])
    content = json.loads(file.read_text())
    assert content["machine"] == HERE
    assert names(content) == ["a: 1", "b: 1"]
    assert content["code"] == {"a": version(), "b": version()}


def test_the_machine_is_described_in_words():
    here = machine(quick=False)
    assert {"run", "processor", "cores", "memory", "python", "torch", "ray", "gymnasium"} <= set(
        here
    )
    assert all(isinstance(value, str) and value for value in here.values())
    assert machine(quick=True)["run"] == "quick"


def test_the_table_shows_every_row_and_leaves_empty_what_does_not_apply():
    rows = [row("a: plain", 1234.5), summarise("a: full", "ms", [0.5], [2.0], "peer", limit=1.0)]
    text = markdown(merge(None, HERE, "a", rows, CODE))
    assert "| a: plain | 1,234 | u |  |  |  |  | 0% |" in text
    assert "| a: full | 0.5 | ms | 2 (peer) | 0.25 | 1 | 50% | 0% |" in text
    assert "processor p" in text
    assert text.endswith("With the code of: a 0.1.0-abc")


def test_numbers_keep_three_digits():
    assert [number(value) for value in (123456.7, 99.94, 0.023456)] == ["123,457", "99.9", "0.0235"]


def test_the_table_goes_between_the_markers_and_nothing_else_changes(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{TABLE_START}\nold\n{TABLE_END}\nafter\n")
    content = merge(None, HERE, "a", [row("a: 1")], CODE)
    write_table(document, content)
    write_table(document, content)
    text = document.read_text()
    assert "old" not in text
    assert text.startswith(f"before\n{TABLE_START}\n")
    assert text.endswith(f"{TABLE_END}\nafter\n")
    assert text.count("a: 1") == 1


def test_a_document_without_markers_is_refused(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"performance\.md"):
        write_table(document, merge(None, HERE, "a", [row("a: 1")], CODE))


def test_the_document_has_the_markers_and_says_how_every_suite_measures():
    text = DOCUMENT.read_text()
    assert text.count(TABLE_START) == text.count(TABLE_END) == 1
    assert [suite for suite in SUITES if f"**{suite}.**" not in text] == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_rows(suite):
    assert callable(importlib.import_module(f"benchmarks.{suite}").rows)
