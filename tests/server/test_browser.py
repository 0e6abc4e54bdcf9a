"""The page in a real browser, against a real server with nano: what a person does with a slide, from opening to export.

- The slides are a phantom whose truth is known, a scanned one if it is there, and one whose name is an attack.
- Every test ends with the same two questions: did the console complain, did a request leave this machine.
"""

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from running_server import Running
from server_slides import TOKEN

ROOT = Path(__file__).resolve().parents[2]
WEB, STATIC = ROOT / "web", ROOT / "src" / "hwsi" / "server" / "static"
SCANNED = ROOT.parent / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
ATTACK = "<img src=x onerror=alert(1)>.png"
PATIENCE_MS = 120_000
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-default-browser-check",
    "--disable-dev-shm-usage", "--hide-scrollbars",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium")
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=chromium, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(address without token, folder of the job) of ``hwsi serve`` over the slides, all of them encoded."""
    pytest.importorskip("fastapi", reason="needs the extra serve")
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    from PIL import Image

    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.sampling import draw_plans

    folder = tmp_path_factory.mktemp("slides")
    job = tmp_path_factory.mktemp("job")
    write_phantom(folder / "phantom.svs", draw_plans(1, 0, "demo")[0].spec)
    Image.new("RGB", (300, 200), (240, 200, 220)).save(folder / ATTACK)
    if SCANNED.is_file():
        shutil.copy(SCANNED, folder)
    running = Running(folder, job)
    try:
        started = running.call(f"/api/slides/{running.slide('phantom')['id']}/encode", {})
        running.wait_for(started, lambda now: now["state"] == "done")
        yield running.address, job
    finally:
        running.process.terminate()
        running.process.wait(30)


@pytest.fixture
def open_page(browser, server):
    """``open_page(width=1280, height=800)``: the page with the phantom open and drawn."""
    address, _ = server
    pages, complaints, outside = [], [], []

    def make(width=1280, height=800, fragment=f"#token={TOKEN}"):
        page = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        ours = (address, "data:", "blob:")
        page.on("request", lambda asked: outside.append(asked.url) if not asked.url.startswith(ours) else None)
        page.goto(f"{address}/{fragment}")
        if fragment:
            page.wait_for_selector("[data-slide][data-state=ready]")  # the first that is encoded, whichever that is
            if not page.locator("[data-slide=phantom]").count():
                page.click(".pick")
                page.locator(".slides li", has_text="phantom").get_by_role("button").first.click()
            page.wait_for_selector("[data-slide=phantom][data-state=ready]")
        return page

    make.complaints = complaints
    yield make
    for page in pages:
        page.context.close()
    assert complaints == []
    assert outside == []


def _until(page, script: str) -> None:
    """Until a script says true; ``wait_for_function`` evaluates text in the page, which its policy refuses."""
    for _ in range(PATIENCE_MS // 200):
        if page.evaluate(script):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"never true: {script}")


def _ask(page, question: str, nth: int = 0):
    page.fill("#question", question)
    page.keyboard.press("Enter")
    turn = page.locator(".turn").nth(nth)
    turn.and_(page.locator("[data-state=done]")).wait_for()
    return turn


def _centre_mm(page) -> tuple[float, float]:
    """Where the view says that it is."""
    x, y = re.findall(r"[\d.]+", page.locator(".at .xy").inner_text())
    return float(x), float(y)


def _assert_flew_to(page, chip) -> None:
    x0, y0, x1, y1 = map(float, chip.get_attribute("data-box").split(","))
    mpp = 0.5
    for _ in range(100):
        x, y = _centre_mm(page)
        if abs(x - (x0 + x1) / 2 * mpp / 1000) < 0.02 and abs(y - (y0 + y1) / 2 * mpp / 1000) < 0.02:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the view is at {x}, {y} mm, the box at {x0, y0, x1, y1} px")


def _keep(page, tmp_path, name: str) -> None:
    """A picture to look at; its folder is named by HWSI_SCREENSHOTS, else the test's own."""
    folder = Path(os.environ.get("HWSI_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


@pytest.mark.slow
def test_open_zoom_ask_and_fly_to_the_evidence(open_page, tmp_path):
    page = open_page()
    assert "token" not in page.url
    before = page.locator("[data-testid=magnification]").inner_text()
    page.locator("[data-slide=phantom] .openseadragon-canvas").first.focus()
    page.keyboard.press("4")
    _until(page, "document.querySelector('[data-testid=magnification]').textContent === '10×'")
    assert before != "10×"
    page.keyboard.press("0")
    turn = _ask(page, "What is the diagnosis?")
    assert turn.locator(".cited").inner_text().strip()
    assert turn.locator(".meters").inner_text().count("\n") >= 2
    assert "synthetic tissue" in turn.locator(".warnings").inner_text()
    chip = turn.locator(".chip").first
    chip.hover()
    turn.locator(".sentence.lit").first.wait_for()
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    _assert_flew_to(page, chip)
    _keep(page, tmp_path, "evidence")
    page.click("[aria-label='Back to the former view']")
    page.reload()
    page.locator(".turn[data-state=done]").first.wait_for()  # what was said is remembered


@pytest.mark.slow
def test_draw_a_box_and_ask_about_it(open_page, tmp_path):
    page = open_page()
    page.click("[aria-label^='Draw a box']")
    place = page.locator("[data-slide=phantom]").bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x - 120, y - 100)
    page.mouse.down()
    page.mouse.move(x + 120, y + 100, steps=4)
    page.mouse.up()
    assert "mm²" in page.locator(".composer .is-drawn").inner_text()
    turn = _ask(page, "What tissue is this?")
    assert "in the drawing" in turn.locator("h3").inner_text()
    _keep(page, tmp_path, "drawn")


@pytest.mark.slow
def test_options_stop_and_feedback(open_page, server):
    page = open_page()
    page.check("text=choose among options")
    page.fill(".composer .field input", "benign, malignant")
    turn = _ask(page, "Is this tissue benign or malignant?")
    assert turn.locator(".options li").count() == 2
    turn.locator("[aria-label='This is wrong']").click()
    turn.locator(".better textarea").fill("neither <b>can</b> be said")
    turn.locator("text=Store").click()
    turn.locator("text=stored on this server").wait_for()
    with sqlite3.connect(server[1] / "feedback.sqlite") as store:
        rows = store.execute("SELECT question, verdict, better, choices_json FROM feedback").fetchall()
    assert rows[-1][:3] == ("Is this tissue benign or malignant?", "wrong", "neither <b>can</b> be said")
    assert json.loads(rows[-1][3]) == ["benign", "malignant"]


@pytest.mark.slow
def test_layers_are_drawn_and_hidden(open_page, tmp_path):
    page = open_page()
    sum_of_alpha = """() => { const c = document.querySelector('.over');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"""
    assert page.evaluate(f"({sum_of_alpha})()") == 0
    page.click("[aria-label=Layers]")
    for name in ("Tissue", "Regions", "Cells by type"):
        page.check(f"text={name}")
    with page.expect_response(lambda reply: "/cells?box=" in reply.url):
        page.click("[aria-label='Magnification 20 times']")
    _until(page, f"({sum_of_alpha})() > 500")
    page.wait_for_timeout(800)  # for the picture: cells come after the regions
    _keep(page, tmp_path, "layers")
    page.locator("[data-slide=phantom] .openseadragon-canvas").first.focus()
    page.keyboard.press("h")
    _until(page, f"({sum_of_alpha})() === 0")


@pytest.mark.slow
def test_the_heat_map_colours_every_part_of_the_slide(open_page, tmp_path):
    page = open_page()
    _ask(page, "What is the diagnosis?")
    page.locator(".legend").get_by_text("Heat", exact=True).click()
    page.locator(".legend[data-heat=map]").wait_for()
    assert "worth of regions to the answer, nats" in page.locator(".legend").inner_text()
    page.wait_for_timeout(300)
    _keep(page, tmp_path, "heat")
    page.click("[aria-label='Magnification 10 times']")
    page.locator(".legend", has_text="worth of patches to the answer").wait_for()
    page.wait_for_timeout(1200)
    _keep(page, tmp_path, "heat-near")


@pytest.mark.slow
def test_an_attack_in_an_answer_is_only_text(open_page):
    page = open_page()
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    measures = {"visual_reliance": 1.0, "reliance_words": attack, "confidence": 0.5, "confidence_words": attack}
    place = {
        "scale": "region",
        "label": attack,
        "box": [0, 0, 900, 900],
        "score": 1.0,
        "supports": attack,
        "contours": [],
    }
    answer = {
        "id": "0", "question": "What?", "text": attack, "evidence": [place], **measures, "support_words": attack,
        "choices": [attack], "choice_probs": [1.0], "area": None, "seen": None, "warnings": [attack], "provenance": {},
    }  # fmt: skip
    stream = f"event: token\ndata: {json.dumps({'text': attack})}\n\nevent: answer\ndata: {json.dumps(answer)}\n\n"
    page.route("**/ask", lambda route: route.fulfill(content_type="text/event-stream", body=stream))
    turn = _ask(page, attack)
    assert turn.locator(".cited").inner_text().startswith(attack)
    assert attack in turn.locator("h3").inner_text()
    assert page.locator(".turn script, .turn img[src=x]").count() == 0
    page.wait_for_timeout(300)  # a dialog would be a complaint


@pytest.mark.slow
def test_a_scanned_slide_is_encoded_in_the_page_and_asked_about(open_page, tmp_path):
    if not SCANNED.is_file():
        pytest.skip(f"needs {SCANNED.name}")
    page = open_page()
    page.click(".pick")
    page.locator(".slides li", has_text=SCANNED.stem).get_by_role("button").first.click()
    page.wait_for_selector(f"[data-slide='{SCANNED.stem}'][data-state=ready]")
    start = page.locator("text=Encode this slide")
    if start.count():
        start.click()
        page.locator(".stages, .seen").first.wait_for()
        _keep(page, tmp_path, "encoding")
    page.wait_for_selector("#question")
    _until(page, "!document.querySelector('.seen')")
    turn = _ask(page, "What is the diagnosis?")
    assert "on real tissue its words mean nothing" in turn.locator(".warnings").inner_text()
    if turn.locator(".chip").count():
        turn.locator(".chip").first.click()
        _assert_flew_to(page, turn.locator(".chip").first)
    _keep(page, tmp_path, "scanned")


@pytest.mark.slow
def test_search_lights_patches(open_page, tmp_path):
    page = open_page()
    if not page.locator(".tab-search").count():
        pytest.skip("this server cannot search")
    page.click(".tab-search")
    page.fill("#search", "gland formation")
    page.keyboard.press("Enter")
    page.locator(".matches li, .panel .fault, .panel :text('similar enough')").first.wait_for()
    assert page.locator(".panel .fault").count() == 0
    chips = page.locator(".matches .chip")
    if chips.count():
        chips.first.click()
        _assert_flew_to(page, chips.first)
    _keep(page, tmp_path, "search")


@pytest.mark.slow
def test_report_is_edited_and_exported(open_page, tmp_path):
    page = open_page()
    page.click(".tab-report")
    page.click("text=Write a report")
    page.locator(".report[data-state=done]").wait_for()
    page.locator(".statements textarea").first.fill("A person <i>wrote</i> this.")
    assert page.locator(".statements .badge:text('edited')").count() == 1
    _keep(page, tmp_path, "report")
    for kind in page.locator("[aria-label=Export] .soft").all_inner_texts():
        with page.expect_download() as waiting:
            page.click(f"[aria-label=Export] .soft:text-is('{kind}')")
        data = Path(waiting.value.path()).read_bytes()
        if kind == "PDF":
            assert data.startswith(b"%PDF-")
            continue
        text = data.decode()
        assert "Not a diagnosis" in text or "not a diagnosis" in text
        assert "A person &lt;i&gt;wrote&lt;/i&gt; this." in text if kind == "HTML" else json.loads(text)


@pytest.mark.slow
def test_a_quiz_is_marked(open_page, tmp_path):
    page = open_page()
    page.click(".tab-teach")
    page.click("text=Start a quiz")
    page.locator(".quiz[data-state=asked]").wait_for()
    if page.locator(".quiz .starters button").count():
        page.locator(".quiz .starters button").first.click()
    else:
        place = page.locator("[data-slide=phantom]").bounding_box()
        page.wait_for_timeout(1000)
        page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.click("text=That is it")
    page.locator(".quiz[data-state=marked]").wait_for()
    assert re.search(r"Right\.|Not right\.", page.locator(".quiz").inner_text())
    assert re.search(r"[01] of \d+", page.locator(".quiz .num").inner_text())
    _keep(page, tmp_path, "teach")


@pytest.mark.slow
def test_slides_side_by_side_and_an_attack_in_a_name(open_page, tmp_path):
    page = open_page()
    page.click(".pick")
    assert page.locator(".slides b").get_by_text(ATTACK.removesuffix(".png"), exact=True).count() == 1
    name = SCANNED.stem if SCANNED.is_file() else ATTACK.removesuffix(".png")
    page.locator(".slides li", has_text=name).get_by_text("side by side").click()
    page.keyboard.press("Escape")
    _until(page, "document.querySelectorAll('.view[data-state=ready]').length === 2")
    page.locator(".encode, .composer").first.wait_for()  # if the other one is not encoded, it says so
    _keep(page, tmp_path, "beside")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_widths_and_colours(open_page, tmp_path, width, dark):
    page = open_page(width, 844)
    ground = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    if dark:
        page.click("[aria-label='Dark colours']")
        assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") != ground
    turn = _ask(page, "What is the diagnosis?")
    if turn.locator(".chip").count():
        turn.locator(".chip").first.click()
    page.wait_for_timeout(1200)
    _keep(page, tmp_path, f"{width}-{'dark' if dark else 'light'}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = WEB / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.skip("needs `npm ci` in web/ for axe")
    page.evaluate(axe.read_text())
    # the slide's own canvas is one application; what is in it is described by the evidence list
    found = page.evaluate("axe.run({exclude: ['.osd']}, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found["violations"]] == []


@pytest.mark.slow
def test_without_a_token_there_is_a_door(open_page):
    page = open_page(fragment="")
    page.fill(".door input", "wrong")
    page.click("text=Enter")
    page.locator(".door .fault").wait_for()
    page.fill(".door input", TOKEN)
    page.click("text=Enter")
    page.locator("[data-slide]").wait_for()
    # the browser itself tells of each refusal
    assert all("401" in said for said in open_page.complaints)
    open_page.complaints.clear()
