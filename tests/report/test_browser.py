"""Every page in headless Chromium: no complaint, nothing fetched, every picture in words."""

from __future__ import annotations

import pytest
from browser import WIDER, needs_chromium, opened
from matplotlib.figure import Figure
from synthetic_runs import make_run

from distgram.report import report
from distgram.report.compare import compare

pytestmark = needs_chromium


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
    assert len(shown) == 7 and all(shown)
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


def test_a_page_runs_no_script(browser, tmp_path):
    """Not even one that got past the escaping: the page's own policy forbids it."""
    path = report(make_run(tmp_path / "run"))
    bad = "<script>document.title = 'run'</script><img src=x: onerror=\"document.title = 'run'\">"
    path.write_text(path.read_text().replace("</main>", f"{bad}</main>"))
    browser.open(path.as_uri())
    assert browser.run("return document.title") == "heat, amstramgram"
    assert len(browser.complaints()) >= 2
