import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { AXE, doLesson, pause, startBrowser, startServer, until } from "./browser.mjs";

const pictures = new URL("../../target/dashboard/", import.meta.url).pathname;
mkdirSync(pictures, { recursive: true });
const began = Date.now();
const done = what => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s: ${what}`);

let server = await startServer();
const browser = await startBrowser();

// Nothing may go wrong in any page, but for what the check itself provokes: the browser complains about a server that is gone.
const errors = [];
let expected = /^$/;
async function open(context, path = "/") {
  const page = await context.newPage();
  const note = text => expected.test(text) || errors.push(text);
  page.on("console", message => /error|warning/.test(message.type()) && note(message.text()));
  page.on("pageerror", error => note(String(error)));
  page.on("request", request => assert.ok(request.url().startsWith(server.url) || request.url().startsWith("data:"), request.url()));
  await page.goto(server.url + path);
  return page;
}
const live = page => until("the tab is live", () => page.locator("html.live").count());
const text = (page, selector) => page.locator(selector).textContent();

async function axe(page, where) {
  // A notice that fades in is half transparent for a moment.
  await pause(700);
  await page.addScriptTag({ path: AXE });
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(" ; ")}`);
  assert.deepEqual(found, [], where);
}

try {
  // All lessons.
  const dark = await browser.newContext({ colorScheme: "dark", viewport: { width: 1280, height: 900 }, reducedMotion: "reduce" });
  let page = await open(dark);
  await live(page);
  await page.screenshot({ path: pictures + "first-step.png" });
  assert.equal(await page.locator("#steps button").count(), 11);
  const chapters = new Set();
  for (let number = 0; number < 11; number++) {
    await doLesson(page, number);
    await page.screenshot({ path: `${pictures}lesson-${String(number).padStart(2, "0")}.png` });
    const chapter = page.locator("#lesson-why a");
    chapters.add(await chapter.getAttribute("href"));
  }
  assert.equal(await page.locator("#steps button.done").count(), 11);
  await page.reload();
  await live(page);
  assert.equal(await page.locator("#steps button.done").count(), 11, "what was done is remembered");
  done("all lessons");

  // The chapters that they lead to.
  for (const path of chapters) {
    const chapter = await open(dark, path);
    await until(`${path} is there`, () => chapter.locator("h2").count());
    const broken = await chapter.locator("img").evaluateAll(images => Promise.all(images.map(image => image.decode().then(() => "", () => image.src))));
    assert.deepEqual(broken.filter(src => src), [], path);
    assert.doesNotMatch(await chapter.locator("main").innerText(), /\]\[|^#+ /m, `${path} is read to the end`);
    await axe(chapter, path);
    await chapter.screenshot({ path: pictures + path.slice(7) + ".png", fullPage: true });
    await chapter.close();
  }
  done("the chapters");

  // The comparison: all read the same in the end.
  await page.locator("#compare").click();
  await until("the comparison is over", async () => await page.locator("#compared td.deed:last-child").count() === 3 &&
    await page.locator("#compare[aria-disabled=false]").count());
  const rows = await page.locator("#compared tbody tr").evaluateAll(rows => rows.map(row => ({
    events: row.querySelectorAll(".dot").length, read: row.lastChild.textContent })));
  assert.ok(rows.every(row => row.read === "10 bytes"), JSON.stringify(rows));
  assert.ok(rows[0].events >= 4 && rows[1].events <= 2 && rows[2].events === 2, JSON.stringify(rows));

  // Many connections change nothing about where the rest of the page is; one more is refused in words.
  const place = () => page.locator("#time").evaluate(node => node.getBoundingClientRect().top + scrollY);
  const before = await place();
  for (const mode of ["edge", "level", "oneshot"]) for (let n = 0; n < 4; n++) await page.locator(`[data-open=${mode}]`).click();
  await until("twelve connections", async () => await page.locator(".connection").count() === 12);
  expected = /409/;
  await page.locator("[data-open=edge]").click();
  await until("the thirteenth is refused", async () => /enough/.test(await text(page, "#toast")));
  expected = /^$/;
  assert.ok(Math.abs(await place() - before) < 80, "the timeline stays in sight");
  await page.locator("#words summary").click();
  await axe(page, "dark, full");
  await page.locator(".word").first().scrollIntoViewIfNeeded();
  await pause(100);
  await page.locator(".word").first().hover();
  await until("a word is explained", () => page.locator("#tip:visible").count());
  await page.evaluate(() => scrollTo(0, 0));
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is too wide");
  await page.screenshot({ path: pictures + "dark-full.png", fullPage: true });
  done("comparison, many connections, axe");

  // The timeline stops, zooms and follows again.
  const picture = () => page.locator("#time").evaluate(canvas => canvas.toDataURL());
  await page.locator("#last").click();
  await page.locator("#in").click();
  assert.equal(await text(page, "#pause"), "Paused");
  await pause(100);
  const still = await picture();
  await pause(200);
  assert.equal(await picture(), still);
  await page.locator("#in").click();
  await pause(100);
  assert.notEqual(await picture(), still);
  await page.screenshot({ path: pictures + "timeline.png", clip: await page.locator("#time").boundingBox() });
  await page.locator("#pause").click();
  assert.equal(await text(page, "#pause"), "Pause");
  await page.locator("#close-all").click();
  await until("all are closed", async () => await page.locator(".connection").count() === 0);

  // With the keyboard alone; the focus stays where it was.
  await page.locator("[data-open=edge]").focus();
  await page.keyboard.press("Enter");
  const send = page.getByRole("button", { name: /^Send, connection/ });
  await send.focus();
  await page.keyboard.press("Enter");
  await until("it is told", async () => /connection \d+ readable/.test(await text(page, "#announce")));
  await page.keyboard.press("Space");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Send");
  await page.locator("#log").focus();
  assert.equal(await page.evaluate(() => document.activeElement.id), "log");
  await page.locator("#close-all, [aria-label^='Close, connection']").last().click();
  done("timeline, keyboard");

  // Six tabs: a browser has six connections for all of them, and each must still be able to press a button.
  const tabs = [page];
  while (tabs.length < 6) tabs.push(await open(dark));
  for (const tab of [...tabs, ...tabs]) {
    await tab.bringToFront();
    if (!await tab.locator("html.live").count()) await tab.evaluate(() => dispatchEvent(new Event("focus")));
    await live(tab);
    const wakes = Number(await text(tab, "#polls"));
    await tab.locator('[data-do="/wake"]').click();
    await until("the tab's wake is seen", async () => Number(await text(tab, "#polls")) >= wakes + 2, 5);
  }
  assert.ok((await Promise.all(tabs.map(tab => tab.locator("html.live").count()))).filter(is => is).length <= 4);
  // A tab that is not looked at lets go of its stream.
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  assert.equal(await text(page, "#link"), "paused");
  await page.evaluate(() => {
    delete document.hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await live(page);
  for (const tab of tabs.slice(1)) await tab.close();
  done("six tabs");

  // The server goes, and the page says so; it comes back, and the page goes on.
  expected = /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY/;
  await server.stop();
  await until("the loss is noticed", () => page.locator("html.lost").count(), 5);
  assert.equal(await text(page, "#state"), "unknown");
  const frozen = [await text(page, "#share"), await picture()];
  await page.locator('[data-do="/wake"]').click();
  assert.match(await text(page, "#toast"), /gone/);
  await pause(1200);
  assert.deepEqual([await text(page, "#share"), await picture()], frozen);
  await page.screenshot({ path: pictures + "lost.png" });
  server = await startServer(server.port);
  await live(page);
  expected = /^$/;
  assert.ok(Number(await text(page, "#polls")) < 20, "it tells of the new server");
  await doLesson(page, 9);
  await dark.close();
  done("the server stopped and started again");

  // Every width, in the other theme; nothing is wider than the window.
  const light = await browser.newContext({ colorScheme: "light", reducedMotion: "reduce" });
  page = await open(light);
  await live(page);
  for (const number of [1, 3]) await doLesson(page, number);
  for (const mode of ["edge", "level"]) await page.locator(`[data-open=${mode}]`).click();
  for (const [width, height] of [[320, 640], [390, 844], [768, 1024], [1024, 768], [1280, 800], [1920, 1080]]) {
    await page.setViewportSize({ width, height });
    await pause(150);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels are enough`);
    const cut = await page.locator("button:visible").evaluateAll(nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.outerHTML));
    assert.deepEqual(cut, [], `no button is cut off at ${width} pixels`);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: `${pictures}light-${width}.png`, fullPage: true });
    if (width === 320 || width === 1280) await axe(page, `light, ${width}`);
  }
  await light.close();
  done("widths, light");

  const plain = await browser.newContext({ javaScriptEnabled: false });
  page = await open(plain);
  await page.screenshot({ path: pictures + "noscript.png" });
  assert.ok(await page.locator("noscript .banner").isVisible());
  await plain.close();
  assert.deepEqual(errors, []);
} finally {
  await browser.close();
  await server.stop();
}
done(`all of it; pictures are in ${pictures}`);
