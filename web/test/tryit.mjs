// Drives the try-it page of a running gateway as a person would, and fails with a clear text when it does not behave.
//
//   EDGE_URL=http://127.0.0.1:8080 SCREENSHOT=tryit.png node test/tryit.mjs
//
// The server is best started with `--window-events 500`, so that the overflow takes a moment only.
// CHROMIUM names the browser (default /usr/bin/chromium), COLOR_SCHEME the look of the screenshot (default dark).

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

import { looksRightEverywhere } from './looks.mjs';

const edgeUrl = process.env.EDGE_URL;
if (!edgeUrl) {
  console.error('EDGE_URL is not set: name the edge listener of a gateway in development mode, such as http://127.0.0.1:8080');
  process.exit(2);
}

/** Long enough for a loaded machine; each wait ends as soon as its condition holds. */
const WAIT_MS = 20_000;
/** A default window is overflowed with 256 MiB. */
const OVERFLOW_MS = 180_000;
const PANES = ['sse', 'ws'];
/** Not the page's own first choice, so that choosing is seen to work. */
const USER = 'ada';

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const page = await browser.newPage({
  viewport: { width: 1400, height: 900 },
  colorScheme: process.env.COLOR_SCHEME === 'light' ? 'light' : 'dark',
});
page.setDefaultTimeout(WAIT_MS);

/** What must stay empty: console errors (the Content Security Policy speaks there too) and requests to other origins. */
const complaints = [];
page.on('console', (message) => {
  if (message.type() === 'error') complaints.push(`console: ${message.text()}`);
});
page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
page.on('request', (request) => {
  if (new URL(request.url()).host !== new URL(edgeUrl).host) complaints.push(`request elsewhere: ${request.url()}`);
});

const pane = (key) => page.locator(`[data-pane="${key}"]`);
const rowsOf = (key, id) => pane(key).locator(`.frame[data-event-id="${id}"]`);
const count = async (key, what) => Number((await pane(key).locator(`.${what}`).innerText()).replaceAll(',', ''));

/** @param {string} state */
async function bothReach(state) {
  for (const key of PANES) await page.locator(`[data-pane="${key}"][data-state="${state}"]`).waitFor();
}

async function toggleBoth() {
  for (const key of PANES) await pane(key).locator('.toggle').click();
}

/**
 * Publishes what the form says.
 * @param {number} preset which preset fills the form
 * @returns {Promise<string>} the id of the event
 */
async function publish(preset) {
  await page.locator('.preset').nth(preset).click();
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url().endsWith('/v1/events')),
    page.locator('#publish').click(),
  ]);
  assert.equal(answer.status(), 200, `publish was refused: ${await answer.text()}`);
  const { results } = await answer.json();
  assert.equal(results.length, 1, 'one event was published, so one result is expected');
  assert.equal(results[0].duplicate ?? false, false, 'a new event was called a duplicate');
  await page.locator('.answer:not(.problem)').waitFor();
  return results[0].id;
}

async function arrivesOnce(id) {
  for (const key of PANES) {
    await rowsOf(key, id).first().waitFor();
    assert.equal(await rowsOf(key, id).count(), 1, `${key} shows event ${id} more than once`);
  }
}

async function choosesUser() {
  const user = page.locator('#user');
  await user.fill(USER);
  await user.press('Enter');
  await page.getByText(`user:${USER}, topic:news`).waitFor();
  await bothReach('live');
}

async function publishesAndSees() {
  for (const preset of [0, 1, 2]) await arrivesOnce(await publish(preset));
  for (const key of PANES) {
    const row = pane(key).locator('.frame[data-kind="event"]').first();
    await row.locator('summary').click();
    const json = JSON.parse(await row.locator('pre').innerText());
    assert.equal(json.event.type, 'article.published');
    assert.equal('to' in json.event, false, `${key}: the edge shows recipients to a user`);
    await row.locator('summary').click();
  }
}

async function samePublishCountsOnce() {
  const before = await count('ws', 'events');
  await page.locator('#publish-again').click();
  await page.locator('.answer.duplicate').waitFor();
  await arrivesOnce(await publish(0));
  assert.equal(await count('ws', 'events'), before + 1, 'a duplicate was delivered');
}

async function cutsAndResumes() {
  await toggleBoth();
  await bothReach('cut');
  const missed = await publish(0);
  for (const key of PANES) {
    await pane(key).getByText('1 event published since, 1 for this reader').waitFor();
    assert.equal(await rowsOf(key, missed).count(), 0, `${key} received an event while it was cut`);
  }
  await toggleBoth();
  await bothReach('live');
  await arrivesOnce(missed);
  await arrivesOnce(await publish(1));
  for (const key of PANES) {
    assert.equal(await count(key, 'duplicates'), 0, `${key} counts a duplicate after a resume`);
    assert.equal(await count(key, 'gaps'), 0, `${key} counts a gap though nothing was lost`);
  }
}

async function changesTopicsLive() {
  await page.locator('#topic').fill('sport');
  await page.locator('#topic').press('Enter');
  await pane('ws').locator('.kind-subscribed').first().waitFor();
  await bothReach('live');
  await page.getByRole('button', { name: 'Remove topic sport' }).click();
  await bothReach('live');
}

async function overflowsAndSeesTheGap() {
  await toggleBoth();
  await bothReach('cut');
  await page.locator('#overflow').click();
  await page.getByText('Resume a cut pane to see its gap.').waitFor({ timeout: OVERFLOW_MS });
  await toggleBoth();
  await bothReach('live');
  for (const key of PANES) {
    const gap = pane(key).locator('.frame[data-kind="gap"]');
    await gap.first().waitFor();
    assert.equal(await gap.count(), 1, `${key} shows more than one gap`);
    assert.match(await gap.innerText(), /TRIMMED\s+#\d+ → #\d+/, `${key}: the gap does not say why and from where to where`);
    assert.equal(await count(key, 'gaps'), 1);
    assert.equal(await pane(key).locator('.frame', { hasText: 'try-it.missed' }).count(), 0, `${key} received what the gap calls missed`);
  }
  for (const preset of [0, 2, 0]) await arrivesOnce(await publish(preset));
}

/** A refusal is the server's answer to a person; the browser logs it, so those lines are taken out of the complaints. */
async function showsRefusals() {
  await page.locator('#to').fill('usr:42');
  await page.locator('#publish').click();
  await page.locator('.answer.problem').waitFor();
  assert.match(await page.locator('.answer.problem').innerText(), /400/, 'the refusal does not show its status');
  const expected = complaints.findIndex((text) => text.includes('status of 400'));
  if (expected >= 0) complaints.splice(expected, 1);
  await arrivesOnce(await publish(0));
}

/** With a gap on the page and one pane cut, which is where text was too pale and headlines were cut before. */
async function looksRight() {
  await pane('sse').locator('.toggle').click();
  await page.locator('[data-pane="sse"][data-state="cut"]').waitFor();
  await looksRightEverywhere(page);
  await pane('sse').locator('.toggle').click();
  await bothReach('live');
}

const steps = [choosesUser, publishesAndSees, samePublishCountsOnce, cutsAndResumes, changesTopicsLive, showsRefusals, overflowsAndSeesTheGap, looksRight];
let step = 'opens';
try {
  await page.goto(edgeUrl);
  await bothReach('live');
  for (const run of steps) {
    step = run.name;
    await run();
    console.log(`ok ${step}`);
  }
  step = 'staysSilent';
  assert.deepEqual(complaints, [], 'the page complained');
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
} catch (error) {
  console.error(`FAILED ${step}: ${error.message}`);
  for (const complaint of complaints) console.error(`  ${complaint}`);
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  process.exitCode = 1;
} finally {
  await browser.close();
}
