"""Takes a picture of an HTML file, as those in docs/images: python docs/screenshot.py FILE PNG.

It needs Chromium (Debian's package chromium) and playwright, which `make install` brings.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright


def screenshot(page: Path, picture: Path, width: int, height: int | None) -> None:
    """Writes a PNG of a page.

    Args:
        page: HTML file.
        picture: file to write.
        width: of the window, in pixels.
        height: of what is shown, in pixels from the top; None: all of it.
    """
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium was not found: install it (on Debian: apt install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": width, "height": height or 900})
        window.goto(page.resolve().as_uri())
        window.screenshot(path=picture, full_page=height is None)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int)
    screenshot(**vars(parser.parse_args()))
