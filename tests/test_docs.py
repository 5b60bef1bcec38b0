"""Tests of the documentation: the site builds, links lead somewhere, code runs, commands parse.

A ```python block runs after those before it on its page; one with a title is a module that they
import. One with `<!-- excerpt -->` on the line before it is only compiled.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from markdown.extensions.toc import slugify

from benchmarks.learning.experiments import EXPERIMENTS
from cluster.cli import app
from rllib_ext import MnMConfig
from rllib_ext.health import RULES
from rllib_ext.setting_names import OWN_NAMES, SETTING_NAMES
from tests.rllib_ext.small_configs import LINE, TINY

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^(?P<excerpt><!-- excerpt -->\n)?```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PLACEHOLDERS = {"NAME"}  # in the place of a setting's name or an experiment's
COMMAND_LINE = typer.main.get_command(app)


@dataclass(frozen=True)
class Command:
    """One `mnm ...` of a page; `is_line`: it stands on a line of its own, ready to be typed."""

    page: Path
    words: list[str]
    is_line: bool


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_name(page: Any) -> str:
    return page.name if isinstance(page, Path) else ""


# The site


def test_the_page_of_settings_is_what_the_code_says() -> None:
    told = "run: python docs/settings_page.py > docs/settings.md"
    page = runpy.run_path(str(ROOT / "docs" / "settings_page.py"))["page"]()
    assert text_of(ROOT / "docs" / "settings.md") == page, told
    for name in (*SETTING_NAMES, *OWN_NAMES):
        assert re.search(rf"^\| `{name}` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE), name


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Strictly: every page is in the navigation, every link and anchor leads somewhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {file.stem for file in tmp_path.glob("*.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= pages
    for file in (*tmp_path.glob("*.html"), *tmp_path.rglob("*.css")):
        text = text_of(file)
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//[^>]*", text)
        loaded += [tag for tag in re.findall(r"<link[^>]+>", text) if "//" in tag]
        loaded += re.findall(r"url\([\"']?(?:https?:)?//[^)]*", text)
        assert not loaded, file
    assert "training" in text_of(tmp_path / "api.html")


# Links


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        prose = BLOCK.sub("", text_of(page))
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"https?://|mailto:", target):
                yield page, target


@pytest.mark.parametrize(("page", "target"), [*links()], ids=page_name)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.is_file(), target
    assert file.is_relative_to(ROOT)
    if anchor:
        headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text_of(file)), re.MULTILINE)
        assert anchor in [slugify(heading.replace("`", ""), "-") for heading in headings]


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=page_name)
def test_a_picture_loads_nothing_and_tells_nothing_of_a_machine(file: Path) -> None:
    text = text_of(file)
    assert "@font-face" not in text
    assert not re.search(r"(?:href|src)=|url\([\"']?(?!#)", text)
    assert not re.search(r"/(?:home|root|work|tmp|Users)/", text)


# Code


def python_pages() -> list[Path]:
    return [
        page
        for page in PAGES
        if any(block["language"] == "python" for block in BLOCK.finditer(text_of(page)))
    ]


def test_no_block_goes_unnoticed() -> None:
    for page in PAGES:
        fences = len(re.findall(r"^```", text_of(page), re.MULTILINE))
        assert fences == 2 * len(BLOCK.findall(text_of(page))), page
        languages = {block["language"] for block in BLOCK.finditer(text_of(page))}
        assert languages <= {"python", "yaml", "json", "text"}, page


@pytest.fixture
def small_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page builds is small, and without actors."""
    build = MnMConfig.build_algo

    def build_small(config: MnMConfig, **options: Any) -> Any:
        small: Any = config.copy(copy_frozen=False)
        small.environment(LINE).env_runners(num_env_runners=0).learners(num_learners=0)
        small.training(**TINY, num_rollout_workers=0)
        small.reporting(min_sample_timesteps_per_iteration=40)
        return build(small, **options)

    monkeypatch.setattr(MnMConfig, "build_algo", build_small)


@pytest.mark.parametrize("page", python_pages(), ids=page_name)
@pytest.mark.usefixtures("local_ray", "small_algorithms")
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in BLOCK.finditer(text_of(page)):
        if block["language"] != "python":
            continue
        program = compile(block["code"], f"{page.name}, a block of code", "exec")
        if block["title"]:
            (tmp_path / block["title"]).write_text(block["code"])
        elif not block["excerpt"]:
            exec(program, names)


# Commands


def commands() -> Iterator[Command]:
    for page in PAGES:
        text = BLOCK.sub("", text_of(page)).replace("\\\n", " ")
        for line in re.findall(r"^ {4,}((?:[A-Z_]+=\S+ +)*mnm (?!on ).*)$", text, re.MULTILINE):
            yield from command_of(page, re.sub(r"\s#.*", "", line), is_line=True)
        prose = re.sub(r"^ {4,}.*$", "", text, flags=re.MULTILINE)
        for span in re.findall(r"`(mnm [^`]+)`", prose):
            yield from command_of(page, span, is_line=False)


def command_of(page: Path, text: str, is_line: bool) -> Iterator[Command]:
    words = shlex.split(re.sub(r"\$\w+", "0", re.sub(r"(&&|>).*", "", text)))
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words and words[0] == "mnm":  # FOLDER, N and the like stand for what a person has
        filled = ["1" if re.fullmatch(r"[A-Z_]+", word) else word for word in words[1:]]
        yield Command(page, filled, is_line)


@pytest.mark.parametrize(
    "command", [*commands()], ids=lambda command: f"{command.page.name}: {' '.join(command.words)}"
)
def test_a_command_parses(command: Command) -> None:
    parse(command.words, is_whole=command.is_line)


def parse(words: list[str], is_whole: bool) -> None:
    """Parses as the command line would; of what is quoted in a sentence the rest may be missing."""
    group, names = COMMAND_LINE, []
    while hasattr(group, "commands") and words and words[0][0] not in "-.":
        names.append(words[0])
        assert words[0] in group.commands, f"mnm {' '.join(names)}: there is no such command"
        group, words = group.commands[words[0]], words[1:]
    if hasattr(group, "commands") or "--help" in words:
        return
    try:
        context = group.make_context(" ".join(names), list(words))
    except typer.BadParameter as error:
        if not is_whole and type(error).__name__ == "MissingParameter":
            return
        raise
    for assignment in context.params.get("set_") or []:
        name = assignment.partition("=")[0]
        assert name in {*SETTING_NAMES, *OWN_NAMES, *PLACEHOLDERS}, assignment
    if names == ["submit"]:
        rest = [
            word
            for value in context.params.values()
            if isinstance(value, list | tuple)
            for word in value
        ]
        parse([*rest, *context.args], is_whole)


def test_a_verb_of_make_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = BLOCK.sub("", text_of(page))
        code = [*re.findall(r"`([^`]+)`", text), *re.findall(r"(?m)^ {4}.*$", text)]
        for verb in re.findall(r"\bmake ([a-z][\w-]+)", " ; ".join(code)):
            is_experiment = verb.removeprefix("learn-") in {*EXPERIMENTS, *PLACEHOLDERS}
            rule = "learn-%" if verb.startswith("learn-") and is_experiment else verb
            assert f"\n{rule}:" in makefile, f"{page.name}: make {verb}"


# Tables


def test_the_table_of_warnings_is_the_programs() -> None:
    text = text_of(ROOT / "docs" / "terminal.md")
    rows = [f"| {rule.name} | {rule.when} | {rule.advice} |" for rule in RULES]
    head, separator = "| warning | when | what to try |", "|---|---|---|"
    assert "\n".join([head, separator, *rows]) + "\n\n" in text
