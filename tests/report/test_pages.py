"""Every page in headless Chromium: no complaint, nothing fetched, every picture in words."""

from __future__ import annotations

import time

import pytest
from browser import WIDER, needs_chromium, opened
from distgram.report.comparison import compare
from distgram.report.report import report
from matplotlib.figure import Figure
from synthetic_runs import make_run

pytestmark = needs_chromium

# The frames of the film that can be seen.
SHOWN = """return [...document.querySelectorAll(".frame")]
  .flatMap((f, i) => f.getBoundingClientRect().width > 0 ? [i] : []);"""


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Fewer pixels: the same figures, drawn faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distgram.report.report.DPI", 50)
        patch.setattr("distgram.report.comparison.DPI", 50)
        yield


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("profile")) as page:
        page.open("about:blank")
        page.asked()
        yield page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = [make_run(folder / f"a{seed}", seed=seed) for seed in (0, 1)]
    (made[0] / "diagnostics").mkdir()
    Figure((1, 1)).savefig(made[0] / "diagnostics" / "green.png", dpi=10)
    (made[0] / "diagnostics" / "green.json").write_text('{"title": "Green", "alt": "One pixel."}')
    made.append(make_run(folder / "five", dim=5, rule="anagram"))
    report(made[0], [0, 30, 60])
    report(made[2])
    return made


def checked(page, url: str) -> None:
    """Open a page and look for what no page may have."""
    page.open(url)
    for dark, printed in ((False, False), (True, False), (False, True)):
        page.show(dark=dark, printed=printed)
        assert page.run(WIDER) <= 0, "wider than the window"
    assert page.wordless() == []
    assert page.asked() <= {"file:", "data:"}
    assert page.complaints() == []


@pytest.mark.parametrize("which", [0, 2])
def test_report_page(browser, runs, which):
    checked(browser, (runs[which] / "report.html").as_uri())
    shown = browser.run("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(shown) == 6 and all(shown)
    anchors = "return [...document.querySelectorAll('nav a')].map(a => !!document.querySelector"
    assert all(browser.run(anchors + "(a.getAttribute('href')))"))


def test_compare_page(browser, runs, tmp_path):
    checked(browser, compare(runs, tmp_path).as_uri())


def test_pages_change_with_the_colour_scheme_and_print_in_ink(browser, runs):
    browser.open((runs[0] / "report.html").as_uri())
    colours = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor];"

    def brightness() -> list[float]:
        both = browser.run(colours)
        return [sum(map(int, c.strip("rgb()").split(",")[:3])) / 765 for c in both]

    browser.show()
    ink, paper = brightness()
    assert ink < 0.2 and paper > 0.9
    browser.show(dark=True)
    ink, paper = brightness()
    assert ink > 0.8 and paper < 0.2
    browser.show(dark=True, printed=True)
    ink, paper = brightness()
    assert ink < 0.2 and paper > 0.9


def test_film_moves_with_the_slider_and_gives_way_in_print(browser, runs):
    browser.open((runs[0] / "report.html").as_uri())
    browser.show()
    said = "return document.querySelector('.film figcaption').textContent"
    assert browser.run(SHOWN) == [0] and browser.run(said).startswith("Step 0: rank")
    browser.run(
        "const s = document.querySelector('.film input'); s.value = 10;"
        "s.dispatchEvent(new Event('input'));"
    )
    assert browser.run(SHOWN) == [10] and browser.run(said).startswith("Step 30: rank")
    browser.run("document.querySelector('.film button').click()")  # plays on by itself
    until = time.monotonic() + 300
    while (at := browser.run(SHOWN)) in ([10], [11]) and time.monotonic() < until:
        time.sleep(0.1)
    assert at[0] > 11
    browser.show(printed=True)
    assert browser.run(SHOWN) == []
    assert browser.run("return document.querySelectorAll('img')[2].checkVisibility()")
    assert browser.complaints() == []
