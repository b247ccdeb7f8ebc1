"""The explorer in a browser: it shows, tells and does what it promises, and fetches nothing."""

import io
import re
import shutil

import numpy as np
import pytest
from explorer_entries import HOSTILE, entry_of, quarters, random_hierarchy
from PIL import Image

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import explorer


@pytest.fixture(scope="module")
def hierarchy():
  return quarters()


@pytest.fixture(scope="module")
def browser():
  api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
  paths = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
  path = next(filter(None, paths), None)
  if path is None:
    pytest.skip("no Chromium on the path")
  with api.sync_playwright() as playwright:
    running = playwright.chromium.launch(executable_path=path)
    yield running
    running.close()


@pytest.fixture
def visit(browser, tmp_path):
  """Opens a page of entries from the file system; nothing may be fetched, and nothing may fail."""
  contexts, troubles = [], []

  def visit(entries, width=1200, height=900, title="Hierarchies", **options):
    path = explorer.write(
      tmp_path / "page.html", [explorer.pack(entry) for entry in entries], title=title
    )
    size = {"width": width, "height": height}
    contexts.append(browser.new_context(viewport=size, offline=True, **options))
    page = contexts[-1].new_page()
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or troubles.append(r.url))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    page.goto(path.as_uri())
    settle(page)
    return page

  yield visit
  for context in contexts:
    context.close()
  assert troubles == []


def settle(page):
  """Waits until the page shows what was asked for: a frame after its first picture."""
  page.wait_for_function("Boolean(current)")
  page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def spot(page, x, y):
  """Where a place of the picture, in shares of its width and height, lies in the window."""
  box = page.locator("canvas").bounding_box()
  return box["x"] + x * box["width"], box["y"] + y * box["height"]


def told(page, section):
  """The areas that a section of the page names, in percent; none where it is hidden."""
  settle(page)
  element = page.locator(section)
  text = element.inner_text() if element.is_visible() else ""
  return [float(value) for value in re.findall(r"([\d.]+) %", text)]


def regions_shown(page):
  settle(page)
  return int(page.locator("output b").inner_text())


def color_at(page, x, y):
  """RGB that the window shows at shares of the picture's width and height, mean of 2x2 pixels."""
  settle(page)
  left, top = spot(page, x, y)
  file = page.screenshot(clip={"x": left - 1, "y": top - 1, "width": 2, "height": 2})
  return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).mean(axis=(0, 1))


@pytest.mark.parametrize("features", [True, False])
def test_every_cut_is_that_of_the_hierarchy(visit, features):
  hierarchy = random_hierarchy(1, features=features)
  page = visit([entry_of(hierarchy)])
  maps = page.evaluate(
    "tree.sizes.concat(Array.from({length: tree.sizes[0]}, (_, i) => i + 1)).map((count) =>"
    " [count, cut(tree, count).regionOf])"
  )
  segments = np.reshape(page.evaluate("[...tree.labels]"), hierarchy.segments.shape)
  assert len(maps) == hierarchy.sizes[0] + hierarchy.num_levels
  for count, regions in maps:
    np.testing.assert_array_equal(np.array(regions)[segments], hierarchy.cut(count))


def test_pointing_tells_and_outlines_a_region_with_its_relatives(visit, hierarchy):
  page = visit([entry_of(hierarchy)])
  page.get_by_label("4", exact=True).check()
  page.get_by_label("Photo").check()
  before = color_at(page, 0.86, 0.25)
  assert page.locator("#hint").is_visible() and told(page, "#own") == []
  page.mouse.move(*spot(page, 0.1, 0.1))
  assert told(page, "#own") == [25.0] and told(page, "#parent") == [50.0]
  assert told(page, "#children") == [6.3] * 4
  assert "576 pixels" in page.locator("#own").inner_text()
  # Lines around it and between its children; what lies outside its parent is dimmed.
  assert color_at(page, 0.5, 0.2).min() > 240 and color_at(page, 0.25, 0.2).min() > 120
  assert color_at(page, 0.86, 0.25).max() < 0.8 * before.max()
  page.mouse.move(5, 5)
  assert told(page, "#own") == []
  np.testing.assert_array_equal(color_at(page, 0.86, 0.25), before)


def test_a_click_keeps_a_region_through_all_cuts(visit, hierarchy):
  page = visit([entry_of(hierarchy)])
  page.get_by_label("4", exact=True).check()
  page.mouse.click(*spot(page, 0.9, 0.9))
  page.mouse.move(*spot(page, 0.1, 0.1))
  assert told(page, "#own") == [25.0] and page.locator("#own h3").inner_text() == "Kept region"
  page.get_by_label("2", exact=True).check()
  assert told(page, "#own") == [50.0]
  page.get_by_label("16", exact=True).check()
  assert told(page, "#own")[0] == pytest.approx(6.25, abs=0.06)
  assert page.evaluate("kept") == 15
  page.keyboard.press("Escape")
  assert page.evaluate("kept") is None
  page.mouse.click(*spot(page, 0.9, 0.9))
  page.mouse.click(*spot(page, 0.9, 0.9))
  assert page.evaluate("kept") is None
  page.mouse.click(*spot(page, 0.9, 0.9))
  page.get_by_role("button", name="Let go").click()
  assert page.evaluate("kept") is None


def test_relatives_lead_to_their_levels(visit, hierarchy):
  page = visit([entry_of(hierarchy)])
  page.get_by_label("4", exact=True).check()
  page.mouse.click(*spot(page, 0.9, 0.9))
  settle(page)
  page.locator("#parent button").click()
  assert (
    regions_shown(page) == 2 and told(page, "#own") == [50.0] and told(page, "#parent") == [100]
  )
  assert told(page, "#children") == [25.0, 25.0]
  page.locator("#children button").first.click()
  assert regions_shown(page) == 4 and told(page, "#own") == [25.0]
  assert page.evaluate("kept") in (2, 3, 6, 7)  # the upper right, as the equals keep their order
  page.get_by_label("16", exact=True).check()
  assert told(page, "#children") == []
  page.locator("#fewer").click()
  for _ in range(14):
    page.locator("#fewer").click()
  assert regions_shown(page) == 1 and told(page, "#own") == [100] and told(page, "#parent") == []
  assert page.locator("#fewer").is_disabled()


def test_keys_do_everything(visit, hierarchy):
  page = visit([entry_of(hierarchy, "first"), entry_of(random_hierarchy(2), "second")])
  press = page.keyboard.press
  page.locator("#slider").focus()
  shown = []
  for key in ("Home", "ArrowRight", "ArrowUp", "PageUp", "PageUp", "ArrowLeft", "PageDown", "End"):
    press(key)
    shown.append(regions_shown(page))
  assert shown == [1, 2, 3, 4, 16, 15, 4, 16]
  press("Shift+Tab")  # to the button for fewer; that for more is disabled
  press("Shift+Tab")
  assert page.evaluate("document.activeElement === stage")
  press("PageDown")
  press("-")
  press("+")
  assert regions_shown(page) == 4
  press("ArrowRight")
  press("ArrowUp")
  press("ArrowLeft")
  press("ArrowUp")
  assert told(page, "#own") == [25.0] and page.evaluate("hovered") == 0
  press("Enter")
  assert page.evaluate("kept") == 0
  assert page.locator("[role=status]").inner_text() == "25.0 % of the picture, kept"
  press("ArrowDown")
  assert page.evaluate("kept") == 8
  press("Escape")
  assert told(page, "#own") == []
  press("Shift+Tab")
  press("ArrowRight")
  page.get_by_role("heading", name="second").wait_for()
  assert page.get_by_role("radio", name="second").is_checked()


def test_the_slider_reaches_every_number(visit):
  hierarchy = random_hierarchy(3, counts=(20, 9, 4))
  page = visit([entry_of(hierarchy)])
  slider = page.locator("#slider").bounding_box()
  middle = slider["y"] + slider["height"] / 2
  page.mouse.move(slider["x"] + slider["width"] - 9, middle)
  page.mouse.down()
  seen = {regions_shown(page)}
  for share in np.linspace(1, 0, 120):
    page.mouse.move(slider["x"] + share * slider["width"], middle)
    seen.add(int(page.locator("output b").inner_text()))
  page.mouse.up()
  assert seen == set(range(1, hierarchy.sizes[0] + 1))


def test_touch_and_a_narrow_screen(visit, hierarchy):
  names = ["cat", "a very long name of a class without any need for it"]
  classified = Hierarchy(
    hierarchy.segments, hierarchy.parents, probabilities=np.array([0.25, 0.75], np.float32)
  )
  entries = [entry_of(classified, f"{'long' * 20}{i}.jpg", class_names=names) for i in range(20)]
  page = visit(entries, 360, 740, has_touch=True, is_mobile=True, device_scale_factor=2)
  assert page.evaluate("document.documentElement.scrollWidth") == 360
  page.touchscreen.tap(*spot(page, 0.1, 0.1))
  assert told(page, "#own") == [50.0] and page.evaluate("kept") == 0
  page.touchscreen.tap(*spot(page, 0.9, 0.1))
  assert page.evaluate("kept") == 3
  page.locator("#more").tap()
  assert regions_shown(page) == 3
  page.touchscreen.tap(*spot(page, 0.9, 0.1))
  assert told(page, "#own") == [] and page.evaluate("kept") is None
  page.locator("#images label").nth(3).tap()
  page.get_by_role("heading", name="long3.jpg").wait_for()
  targets = page.locator("button:visible, #slider, .chips label:visible span, summary").all()
  assert min(target.bounding_box()["height"] for target in targets) >= 40
  assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_names_are_shown_as_they_are_and_run_nothing(visit, hierarchy):
  classes = tuple([f"{HOSTILE}{i}" for i in range(size)] for size in hierarchy.sizes)
  entry = entry_of(hierarchy, HOSTILE, region_classes=classes)
  page = visit([entry, entry], title=HOSTILE)
  assert page.title() == HOSTILE == page.locator("h1").inner_text()
  assert page.locator("h2").inner_text() == HOSTILE
  assert page.locator("#images img").first.get_attribute("alt") == HOSTILE
  page.get_by_label("4", exact=True).check()
  page.mouse.click(*spot(page, 0.9, 0.1))
  settle(page)
  assert f"{HOSTILE}1" in page.locator("#own").inner_text()
  assert f"{HOSTILE}7" in page.locator("#children").inner_text()
  # A union of some of a level's regions was not classified.
  page.locator("#fewer").click()
  page.keyboard.press("Escape")
  page.mouse.click(*spot(page, 0.9, 0.1))
  settle(page)
  assert "owned" in page.locator("#own").inner_text()


def test_is_light_or_dark_as_the_reader_likes(visit, hierarchy):
  papers = []
  for scheme in ("light", "dark"):
    page = visit([entry_of(hierarchy)], color_scheme=scheme)
    colors = page.evaluate(
      "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"
    )
    values = [sum(map(int, re.findall(r"\d+", color))) / 765 for color in colors]
    assert abs(values[0] - values[1]) > 0.7
    papers.append(values[0])
  assert papers[0] > 0.9 > 0.2 > papers[1]
