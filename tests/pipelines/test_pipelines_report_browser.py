"""The report in a real browser: charts drawn, nothing logged, nothing asked for, on a desk and on a phone, by day and by night."""

import pytest
from chromium import CHROMIUM, Page
from report_runs import hostile_lake, real_run

from pipelines.report import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")

DRAWN = "document.querySelectorAll('.chart svg').length"
KINDS = "svg .mark-rect path, svg .mark-symbol path, svg .mark-line path"
MARKS = f"[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('{KINDS}').length)"


@pytest.fixture(scope="module")
def desk():
    with Page() as page:
        page.open(real_run() / "report.html")
        yield page


def test_every_chart_is_drawn_with_marks(desk):
    charts = desk.run("document.querySelectorAll('.chart').length")
    assert charts >= 10
    assert desk.run(DRAWN) == charts
    assert desk.run("document.documentElement.dataset.charts") == f"{charts} drawn, 0 failed"
    assert min(desk.run(MARKS)) > 0


def test_nothing_is_logged_and_nothing_is_asked_for(desk):
    assert desk.complaints() == []
    assert [url for url in desk.requests() if url != "data:,"] == [(real_run() / "report.html").resolve().as_uri()]


def test_the_policy_keeps_what_slipped_past_the_escaping_from_running_or_asking(desk):
    before = len(desk.requests())
    desk.run("document.body.insertAdjacentHTML('beforeend', `<p id=slipped><img src='http://127.0.0.1:9/x' onerror='window.owned = 1'></p>`)")
    desk.run("new Promise(done => setTimeout(done, 300))")
    assert desk.run("window.owned === undefined")
    assert any("Content Security Policy" in text for text in desk.complaints())
    assert [url for url in desk.requests()[before:] if not url.startswith("http://127.0.0.1:9/x")] == []
    desk.run("document.getElementById('slipped').remove()")
    desk.events.clear()


def test_the_theme_follows_the_system_and_the_button(desk):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = desk.run(ground)
    line = "getComputedStyle(document.querySelector('.chart svg .mark-line path')).stroke"
    blue = desk.run(line)
    desk.run("document.getElementById('theme').click()")
    assert desk.run(ground) != light and desk.run(line) != blue  # the charts follow without being drawn anew
    desk.run("document.getElementById('theme').click()")
    assert (desk.run(ground), desk.run(line)) == (light, blue)
    with Page(dark=True) as night:
        night.open(real_run() / "report.html")
        assert night.run(ground) != light
        assert night.complaints() == []


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_nothing_sticks_out(width):
    with Page(width=width, height=780, mobile=True) as phone:
        phone.open(real_run() / "report.html")
        phone.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert phone.run("document.documentElement.scrollWidth") == width
        widest = phone.run("Math.max(...[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().right))")
        assert widest <= width
        assert phone.complaints() == []


def test_hostile_texts_do_nothing(tmp_path):
    hostile_lake(tmp_path / "run")
    with Page() as page:
        page.open(write_report(tmp_path / "run"))
        page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.run("window.owned === undefined")
        assert page.run("document.querySelectorAll('img, iframe, base, main script, main style').length") == 0
        assert page.run("document.documentElement.dataset.charts").endswith(" 0 failed")
        assert page.run(DRAWN) > 0
        assert page.complaints() == []
        assert [url for url in page.requests() if not url.startswith(("file:", "data:"))] == []
        assert page.run("document.documentElement.scrollWidth") <= 1280


def test_copy_buttons_copy(desk):
    desk.run("document.querySelector('#recipe details').open = true")
    desk.run("document.querySelector('button[data-copy=recipe-text]').click()")
    desk.run("new Promise(done => setTimeout(done, 300))")
    assert desk.run("document.querySelector('button[data-copy=recipe-text]').textContent") == "Copied"


def test_it_prints_light_and_whole(desk):
    desk.send("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    try:
        assert desk.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert desk.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert len(desk.send("Page.printToPDF")["data"]) > 50_000
    finally:
        desk.send("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": "light"}])
