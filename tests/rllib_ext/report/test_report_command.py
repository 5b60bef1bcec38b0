"""Tests of `mnm report` on small runs: its page, its tables, and the commands it gives."""

from __future__ import annotations

import base64
import json
import shlex
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from distributed.storage import Location
from mnm import Settings
from rllib_ext.report.command import train_command
from rllib_ext.report.figures import PARTS
from rllib_ext.report.runs import load_runs
from rllib_ext.report_command import report
from rllib_ext.run_plan import PLAN_FILE, RunPlan
from rllib_ext.train_command import new_plan, train
from rllib_ext.tuned import tuned_settings
from tests.rllib_ext.small_runs import PLAN, write_run

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, *first: str) -> list[str]:
        """The row of a table that begins with these cells."""
        (row,) = [row for row in self.rows if row[: len(first)] == list(first)]
        return row

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


def run_report(*words: str | Path) -> Any:
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(word) for word in words])


def page_of(tmp_path: Path, *words: str | Path) -> Page:
    result = run_report(*words, "--output", tmp_path / "report.html")
    assert result.exception is None, result.exception
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_a_report_on_two_algorithms_has_all_its_parts(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", seed=0, checkpoint=True),
        write_run(tmp_path / "b", [1.0, 2.0, 3.0, 8.0], seed=1, checkpoint=True),
        write_run(tmp_path / "c", algo="mbpo", settings={"tau": 0.25}, checkpoint=True),
        write_run(tmp_path / "d", algo="sac", checkpoint=True),
    ]
    tables = tmp_path / "tables"
    page = page_of(tmp_path, *runs, "--tables", tables, "--threshold", "3.5")
    env = PLAN["env"]
    assert page.row(env, "mnm")[2:] == ["2", "6.50", "4.50 to 8.50", "3.50", "2 of 2", "40"]
    assert page.row(env, "sac")[2:5] == ["1", "4.50", "–"]
    assert page.row(str(runs[1]))[1:] == ["mnm", "1", "40", "8.50", "40", "0.27", "finished"]
    assert page.row("tau ≠")[1:] == ["0.02", "0.25", "0.005"]
    assert page.row("num_env_runners")[1:] == ["1", "1", "1"]
    assert page.row("mnm, seed 1")[1:] == ["12", "0", "0", "0", "0", "4"]
    shown = [picture["alt"] for picture in page.all("img")]
    # Curves, the bound of mnm, errors, trajectories of mnm and mbpo, time: sac has no model.
    begins = ["Evaluation", "Bound", "Error of", "Real and", "Real and", "Shares"]
    assert [str(alt).startswith(begin) for alt, begin in zip(shown, begins, strict=True)]
    assert "mnm ends at 6 after 40" in str(shown[0])
    assert "bound is 4 nats and the log return 5 nats" in str(shown[1])
    assert "Not checked" not in page.text
    assert set(page.row("mnm")[1:]).isdisjoint({"–", "not reached"})  # its errors by horizon

    curves = pd.read_csv(tables / "curves.csv")
    mnm = curves[(curves["group"] == "mnm") & (curves["quantity"] == "return")]
    assert mnm["iqm"].tolist() == [1, 2, 3, 6]
    assert pd.read_csv(tables / "runs.csv")["seed"].tolist() == [0, 1, 0, 0]
    assert pd.read_csv(tables / "groups.csv")["reached"].tolist() == [2, 1, 1]
    errors = pd.read_csv(tables / "model_error.csv")
    assert set(errors["group"]) == {"mnm", "mbpo"}
    assert (errors["iqm"] > 0).all()


def test_the_page_needs_nothing_but_itself_and_can_be_read_aloud(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", checkpoint=True)
    page, first = page_of(tmp_path, folder), (tmp_path / "report.html").read_bytes()
    run_report(folder, "--output", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == first  # equal runs give equal pages
    for _, attributes in page.attributes:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), target
    assert not page.all("script")
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    links = {str(link["href"]).removeprefix("#") for link in page.all("a")}
    assert links <= set(ids)
    assert {str(part["aria-labelledby"]) for part in page.all("section")} <= set(ids)
    assert all(heading["scope"] in ("row", "col") for heading in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    for picture in page.all("img"):
        assert len(str(picture["alt"])) > 20
        content = base64.b64decode(str(picture["src"]).partition(",")[2])
        svg = ElementTree.fromstring(content)
        assert svg.tag.endswith("svg")
        assert b"<text" in content


@pytest.mark.parametrize(
    ("run", "sentences"),
    [
        ({"returns": [], "finished": False}, ["no run has an evaluation yet", "No run has a"]),
        ({"returns": [1.0], "finished": False}, ["unfinished: 10 of 40 steps", "estimate of the"]),
        ({"algo": "sac", "checkpoint": True}, ["No model was checked", "None of these runs has"]),
        ({}, ["No model was checked", "no whole checkpoint"]),
    ],
)
def test_what_is_not_there_is_said(
    tmp_path: Path, run: dict[str, Any], sentences: list[str]
) -> None:
    page = page_of(tmp_path, write_run(tmp_path / "run", **run))
    text = " ".join(page.text.split())
    for sentence in sentences:
        assert sentence in text


def test_several_tasks_stand_side_by_side(tmp_path: Path) -> None:
    twin = "tests.line_tasks:Twin-v0"
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", [7.0], finished=False, env=twin)]
    page = page_of(tmp_path, *runs, "--episodes", "0")
    assert page.row(twin, "mnm")[2:4] == ["1", "7"]
    assert len([p for p in page.all("img") if str(p["alt"]).startswith("Evaluation")]) == 2
    assert page.row(f"mnm, seed 0, {twin}")


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "<script>alert(1)</script>", settings={"bound": "<b>&"})
    result = run_report(folder, "--output", tmp_path / "report.html", "--episodes", "0")
    assert result.exception is None, result.exception
    page = Page((tmp_path / "report.html").read_text())
    assert not page.all("script")
    assert page.row("bound")[1] == "<b>&"


def test_an_environment_that_is_gone_is_noted_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", checkpoint=True)
    task = folder / "checkpoint" / "task.json"
    task.write_text(task.read_text().replace("Line-v0", "NoSuch-v0"))
    page = page_of(tmp_path, folder)
    assert "Cannot make the environment" in page.text
    assert page.row(PLAN["env"], "mnm")[3] == "4.50"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--episodes", "-1"], "--episodes -1 is not valid"),
        (["--threshold", "nan"], "--threshold nan is not valid"),
        (["--output", "."], "is a folder: name a file in it"),
        (["--output", "no/such/folder/report.html"], "its folder does not exist"),
        (["--tables", "run/run.json"], "is a file: name a folder"),
    ],
)
def test_a_mistake_gets_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    result = run_report("run", *words)
    assert sentence in str(result.exception)
    assert not (tmp_path / "report.html").exists()


PLANS: list[dict[str, Any]] = [
    {},
    {"algo": "sac", "seed": 7, "num_env_runners": 3, "max_env_runners": 4},
    {"stop_return": 2.5, "log_transitions": True, "num_gpus": 0.5},
    {"offline_data": ["a b.parquet", "minari:x"], "offline_updates": 5, "mlflow": "mine"},
    {"settings": {"gamma": 0.9, "alpha_lr": 1e-05, "hidden_sizes": [8, 8], "bound": "fixed"}},
    {"settings": {"target_entropy": "auto", "terminal_reward": None, "termination": "a:b"}},
    {"env": "Hopper-v5", "settings": tuned_settings("Hopper-v5")},
    # Made before these settings were tuned: the presets are asked for by name.
    {"env": "Hopper-v5", "settings": {}},
]


@pytest.mark.parametrize("changes", PLANS)
def test_the_command_of_a_run_makes_its_plan_again(changes: dict[str, Any]) -> None:
    plan = RunPlan(**{**PLAN, **changes})
    app = typer.Typer()
    app.command()(train)
    words = shlex.split(train_command(plan))
    assert words[:2] == ["mnm", "train"]
    with typer.main.get_command(app).make_context("mnm", words[2:]) as context:
        again = new_plan(context.params)

    def whole(of: RunPlan) -> Settings:
        own = {name: value for name, value in of.settings.items() if name != "termination"}
        return Settings.preset(of.algo, **own)

    assert whole(again) == whole(plan)
    assert again.settings.get("termination") == plan.settings.get("termination")
    for name in PLAN.keys() - {"settings"} | changes.keys() - {"settings"}:
        assert getattr(again, name) == getattr(plan, name), name


def test_a_key_of_offline_data_is_not_published(tmp_path: Path) -> None:
    given = ["s3://KEY:SECRET@bucket/log?region=a"]
    folder = write_run(tmp_path / "a")
    plan = RunPlan.load(Location.of(folder))
    file = folder / PLAN_FILE  # as older versions wrote it
    file.write_text(json.dumps({**json.loads(file.read_text()), "offline_data": given}))
    page = page_of(tmp_path, folder, "--tables", tmp_path / "tables")
    assert "s3://bucket/log?region=a" in page.text
    written = [tmp_path / "report.html", *(tmp_path / "tables").iterdir()]
    assert not [file for file in written if "SECRET" in file.read_text(encoding="utf-8")]
    command = train_command(replace(plan, offline_data=given))
    assert "--offline-data 's3://bucket/log?region=a'" in command


def test_every_part_of_the_learners_time_is_shown(tmp_path: Path) -> None:
    (run,) = load_runs([write_run(tmp_path / "a")])
    assert set(run.seconds()) == set(PARTS)
