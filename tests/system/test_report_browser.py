"""Tests of the report in a real browser: on a wide screen, on a telephone, and in print."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from playwright.sync_api import Browser, Page, sync_playwright
from typer.testing import CliRunner

from rllib_ext.report_command import report
from tests.rllib_ext.small_runs import write_run

WIDTHS = (1280, 400)  # pixels of the window
PRINTED_WIDTH = 680  # pixels of A4 between its margins
SMALLEST_TEXT = 12  # pixels
SECTIONS = (
    "Results",
    "Learning curves",
    "Bound and log return",
    "Model",
    "Time",
    "Settings",
    "Commands",
)


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two groups, one of two runs, with all its figures and a long name."""
    folder = tmp_path_factory.mktemp("runs")
    long_name = "a-run-" + "with-a-long-name-" * 5
    runs = [
        write_run(folder / long_name, checkpoint=True, stop_return=3.5),
        write_run(folder / "b", [1.0, 2.0, 4.0], seed=1, checkpoint=True, finished=False),
        write_run(folder / "c", algo="mbpo", checkpoint=True, settings={"tau": 0.25}),
    ]
    app = typer.Typer()
    app.command()(report)
    file = folder / "report.html"
    result = CliRunner().invoke(app, [*map(str, runs), "--output", str(file)])
    assert result.exception is None, result.exception
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "chromium is missing: run make test-system, which installs it"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Browser, file: Path, width: int) -> tuple[Page, list[str], list[str]]:
    """The page, what it said on the console, and what it asked for."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    return page, said, asked


def overflow(page: Page) -> int:
    """Pixels that the page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_whole_and_fits(browser: Browser, report_file: Path, width: int) -> None:
    page, said, asked = opened(browser, report_file, width)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report_file.as_uri()]
    assert overflow(page) <= 0
    headings = page.locator("h1, h2")
    assert headings.count() == 1 + len(SECTIONS)
    for heading in headings.all():
        assert heading.is_visible()
    assert tuple(page.locator("h2").all_inner_texts()) == SECTIONS
    figures = page.locator("figure img")
    assert figures.count() == 6
    for figure in figures.all():
        box = figure.bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 100
        # The text of a figure is 12 to 15 pixels high at its own size.
        assert figure.evaluate("image => image.clientWidth / image.naturalWidth") > 0.7
    sizes = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(element => element.innerText)"
        ".map(element => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert min(sizes) >= SMALLEST_TEXT
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_wider_than_the_window_can_be_scrolled_to(
    browser: Browser, report_file: Path, width: int
) -> None:
    page, _, _ = opened(browser, report_file, width)
    for table in page.locator(".scroll").all():
        reached = table.evaluate(
            "box => { box.scrollLeft = 1e6; "
            "return box.querySelector('table').getBoundingClientRect().right "
            "- box.getBoundingClientRect().right }"
        )
        assert reached <= 1
    page.close()


def test_links_lead_to_their_sections(browser: Browser, report_file: Path) -> None:
    page, _, _ = opened(browser, report_file, 400)
    page.get_by_role("link", name="Settings").click()
    top = page.locator("#settings").evaluate("section => section.getBoundingClientRect().top")
    assert abs(top) < 20
    page.close()


def test_the_page_prints_with_all_of_its_tables(browser: Browser, report_file: Path) -> None:
    page, _, _ = opened(browser, report_file, PRINTED_WIDTH)
    page.emulate_media(media="print")
    assert overflow(page) <= 0
    assert not page.locator("nav").is_visible()
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2
    page.close()


def test_the_browser_would_say_what_it_may_not_load(browser: Browser, report_file: Path) -> None:
    page, said, _ = opened(browser, report_file, 400)
    page.evaluate(
        "() => { const image = document.createElement('img'); "
        "image.src = 'https://192.0.2.1/x.png'; document.body.append(image); }"
    )
    page.wait_for_timeout(200)
    assert any("Content Security Policy" in message for message in said)
    page.close()
