"""The reports and the gallery in a real browser, on a wide screen and on a phone: nothing fails, nothing sticks out."""

import json
import shutil
from dataclasses import replace

import pytest

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
EVIL = '<script>window.hit = 1</script>"><img src="nowhere" onerror="window.hit = 1">'

FINDINGS = """async () => {
  const width = innerWidth, problems = [];
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect();
    if (!e.closest(".frames > *") && box.width && (box.right > width + 1 || box.left < -1))
      problems.push(`${e.tagName} ${e.className.baseVal ?? e.className} from ${box.left} to ${box.right}`);
  }
  if (document.documentElement.scrollWidth > width) problems.push("the page scrolls sideways");
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(error => problems.push(`picture ${image.alt}: ${error}`));
  }
  for (const video of document.querySelectorAll("video"))
    if (video.readyState < 2 && !video.error)
      await new Promise(done => { video.onloadeddata = video.onerror = done; video.load(); });
  for (const video of document.querySelectorAll("video"))
    if (video.error || !video.videoWidth) problems.push(`video ${video.ariaLabel}: ${video.error?.message}`);
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
    const [r, g, b] = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const text of document.querySelectorAll("svg text")) {
    const style = getComputedStyle(text), svg = text.ownerSVGElement, card = text.closest(".card");
    const size = parseFloat(style.fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    if (size < 9) problems.push(`${text.textContent} is ${size} pixels high`);
    const [a, b] = [light(style.fill), light(getComputedStyle(card).backgroundColor)].sort((a, b) => a - b);
    if ((b + 0.05) / (a + 0.05) < 4.5) problems.push(`${text.textContent} is ${style.fill}: too pale`);
  }
  if (window.hit || document.querySelector("script, [onerror]")) problems.push("a text became markup");
  return {problems, images: document.images.length, videos: document.querySelectorAll("video").length};
}"""


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """name -> page: the demo's report with the shipped results in both columns, `vipa report` of them all with names
    from elsewhere, and a gallery."""
    from vipa import cli
    from vipa.benchmarks.report.contenders import Media
    from vipa.clips.clip import Text
    from vipa.clips.example import example_clip
    from vipa.hand3d.dataset.reader import Hand3D
    from vipa.hand3d.export.gallery import write_gallery
    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.nano.demo import DemoRun, report_path, write_report
    from vipa.nano.pictures import save_steps, tabletop_steps
    from vipa.nano.shipped import NANO
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TEST

    out = tmp_path_factory.mktemp("pages")
    run = DemoRun(out=out / "demo")
    film = film_clip(TEST[0])
    annotate([film], run.out / "hand3d")
    steps = tabletop_steps(Hand3D(run.out / "hand3d"), f"{film.source}/{film.id}", TEST[0], run.out / "pictures")
    last = steps[-1]
    steps += (replace(last, text=EVIL, question=EVIL, media=Media(last.media.path, EVIL)),)
    save_steps(steps, run.out / "pictures" / "steps.json")
    shutil.copytree(NANO / "results", run.out / "results")
    captions = run.out / "results" / "drawings" / "captions.json"
    captions.write_text(json.dumps(dict.fromkeys(json.loads(captions.read_text()), EVIL)))
    write_report(run, f"still at {EVIL}", reload=False)

    clips = [replace(example_clip(i), texts=(Text(EVIL, 0.0, 5.9),)) for i in range(2)]
    annotate([film, *clips], out / "hand3d")
    report = json.loads((out / "hand3d" / "report.json").read_text())
    report["refused"] = [["a/very_long_name_of_a_clip_" + "0" * 60, f"it is broken {EVIL}"]]
    (out / "hand3d" / "report.json").write_text(json.dumps(report))
    results = [f"{EVIL.replace('=', ' ')}={path}" for path in sorted((NANO / "results").glob("hand3d_[bc]*.json"))]
    results += [
        str(NANO / "results" / name) for name in ("hand3d_stage1.json", "tabletop_policy", "tabletop_blank")
    ]
    results += [str(path) for path in sorted((NANO / "results").glob("tra*.json"))]
    cli.main(["report", *results, "--out", str(out / "runs.html"), "--title", EVIL])
    return {
        "report": report_path(run),
        "runs": out / "runs.html",
        "gallery": write_gallery(out / "hand3d", out / "gallery.html"),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["report", "runs", "gallery"])
def test_a_page_opens_whole_and_inside_its_width(browser, pages, name, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url[:80]))
    page.goto(pages[name].as_uri())
    if name != "gallery" and not page.evaluate("document.createElement('video').canPlayType('video/mp4')"):
        pytest.skip("this Chromium plays no H.264")
    found = page.evaluate(FINDINGS)
    assert EVIL in page.inner_text("body")
    assert (found["problems"], said) == ([], [])
    assert found["images"] > 6 or name == "runs"
    assert found["videos"] > {"report": 4, "runs": 3, "gallery": -1}[name]
    page.close()
