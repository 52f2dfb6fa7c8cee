// What a person must be able to see and name, at the sizes of a phone, a laptop and a desk, light and dark.
// Expects a page on which a gap was told and a pane is cut.

import assert from 'node:assert/strict';

const SIZES = [[390, 844], [1440, 900], [1920, 1080]];
/** WCAG 2.2, 1.4.3: text of ordinary size. */
const CONTRAST_MIN = 4.5;
/** Roles that a person acts on, and therefore must have a name. */
const CONTROLS = new Set(['button', 'textbox', 'combobox', 'link', 'checkbox', 'listbox', 'progressbar']);

/** @param {import('playwright-core').Page} page */
export async function looksRightEverywhere(page) {
  const before = page.viewportSize();
  for (const [width, height] of SIZES) {
    for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
      const where = `${width}x${height} ${colorScheme}`;
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.evaluate(() => scrollTo(0, 0));
      await publishButtonIsInView(page, height, where);
      const { clipped, wide, tall, pale } = await page.evaluate(measure, CONTRAST_MIN);
      assert.deepEqual(clipped, [], `${where}: the headline of a gap is cut`);
      assert.equal(wide, false, `${where}: the page scrolls sideways`);
      assert.ok(!tall || width < 1180, `${where}: the page is higher than the window`);
      assert.deepEqual(pale, [], `${where}: text in a cut pane is too pale`);
    }
  }
  await everyControlHasAName(page);
  if (before) await page.setViewportSize(before);
}

async function publishButtonIsInView(page, height, where) {
  const box = await page.locator('#publish').boundingBox();
  assert.ok(box && box.y >= 0 && box.y + box.height <= height, `${where}: the publish button is out of view: ${JSON.stringify(box)}`);
}

async function everyControlHasAName(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  const controls = nodes.filter((node) => !node.ignored && CONTROLS.has(node.role?.value));
  assert.ok(controls.length > 10, 'the accessibility tree has hardly any controls: it was read wrongly');
  const unnamed = controls.filter((node) => !node.name?.value?.trim()).map((node) => node.role.value);
  assert.deepEqual(unnamed, [], 'controls without a name');
}

/** Runs in the page. @param {number} contrastMin */
function measure(contrastMin) {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = ([r, g, b]) => {
    const [lr, lg, lb] = [r, g, b].map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * lr + 0.7152 * lg + 0.0722 * lb;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const opacity = (element) => {
    let all = 1;
    for (let at = element; at; at = at.parentElement) all *= Number(getComputedStyle(at).opacity);
    return all;
  };
  const contrast = (element) => {
    const ground = behind(element);
    const [r, g, b, a] = rgba(getComputedStyle(element).color);
    const [x, y] = [luminance(over([r, g, b, a * opacity(element)], ground)), luminance(ground)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const speaks = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  const isCut = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const clips = getComputedStyle(at).overflowX !== 'visible' && getComputedStyle(at).display !== 'inline';
      if (clips && at.scrollWidth > at.clientWidth + 1) return true;
    }
    return false;
  };
  const texts = [...document.querySelectorAll('[data-state="cut"] *')].filter(speaks);
  return {
    clipped: [...document.querySelectorAll('.kind-gap .words b, .kind-gap .hole')].filter(isCut).map((each) => each.textContent),
    wide: document.documentElement.scrollWidth > innerWidth,
    tall: document.documentElement.scrollHeight > innerHeight,
    pale: texts.map((each) => [each.className || each.tagName, each.textContent, contrast(each)]).filter(([, , ratio]) => ratio < contrastMin),
  };
}
