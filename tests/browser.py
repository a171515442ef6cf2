"""A page in headless Chromium: what it asks for, what it complains of, what has no words.

Debian: `apt-get install chromium chromium-driver`; without them the tests that open pages skip.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1100,900", "--hide-scrollbars"),
)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver here: apt-get install chromium chromium-driver",
)

# Every picture with its words: images, inline SVG that is not hidden from readers, inputs.
WORDLESS = """
const words = e => (e.alt || e.ariaLabel || "").trim();
return [...document.querySelectorAll("img, svg:not([aria-hidden=true]), input, canvas, button")]
  .filter(e => words(e).length < 4).map(e => e.outerHTML.slice(0, 200));
"""
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"


class Page:
    """An open page."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page, and wait for it."""
        self.driver.get(url)

    def run(self, script: str):
        """The value a piece of JavaScript returns."""
        return self.driver.execute_script(script)

    def show(self, *, dark: bool = False, printed: bool = False) -> None:
        """Choose the colour scheme, and screen or paper."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        media = {"media": "print" if printed else "screen", "features": [scheme]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def complaints(self) -> list[str]:
        """What the console holds, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> set[str]:
        """What was asked for since the last call, as scheme://host:port or data:."""
        events = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        urls = [
            urlsplit(event["params"]["request"]["url"])
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return {f"{url.scheme}://{url.netloc}" if url.netloc else f"{url.scheme}:" for url in urls}

    def wordless(self) -> list[str]:
        """Pictures and controls without a text alternative."""
        return self.run(WORDLESS)

    def picture(self, path: Path) -> None:
        """A screenshot of the whole page."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = {"captureBeyondViewport": True, "clip": clip}
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with a new, empty profile in a folder that is there for it alone."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield Page(driver)
    finally:
        driver.quit()
