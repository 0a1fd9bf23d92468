// What the check and the recording share: the server, the browser, and doing a lesson.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_MODULES);
const { chromium } = require("playwright-core");
export const AXE = require.resolve("axe-core");
export const COMMAND = process.argv.slice(2);

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

// Waits until `test` says something true, and returns it.
export async function until(what, test, seconds = 20) {
  for (const end = Date.now() + seconds * 1000; ; await pause(40)) {
    const found = await test();
    if (found) return found;
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
  }
}

const running = new Set();
export async function startServer(port = 0) {
  const child = spawn(COMMAND[0], [...COMMAND.slice(1), `127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "inherit"], detached: true });
  running.add(child);
  let said = "";
  child.stdout.on("data", data => said += data);
  const found = await until("the server listens", () => /listening on (http:\S+:(\d+))/.exec(said), 60);
  return {
    url: found[1], port: Number(found[2]), child,
    async stop() {
      if (!running.delete(child)) return;
      const ended = child.exitCode !== null ? null : new Promise(resolve => child.once("exit", resolve));
      // With all that a runner has started.
      process.kill(-child.pid, "SIGKILL");
      await ended;
    },
  };
}
process.on("exit", () => running.forEach(child => process.kill(-child.pid, "SIGKILL")));

// No connection goes to the outside: without these Chromium asks its maker's hosts for this and that.
export const startBrowser = () => chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

// Does what the lesson asks for, as a person would: presses what it points at, and waits otherwise.
export async function doLesson(page, number) {
  await page.locator("#steps button").nth(number).click();
  // How far it is, and what it points at: one answer, for all of it may change at any moment.
  const look = () => page.evaluate(() => {
    const hint = document.querySelector(".hint:not([aria-disabled=true], #next)");
    return {
      done: document.querySelector("#lesson-why").open,
      steps: document.querySelectorAll("#lesson-steps .done").length,
      hint: hint && (hint.id ? "#" + hint.id : hint.dataset.do ? `[data-do="${hint.dataset.do}"]` : `[data-open="${hint.dataset.open}"]`),
    };
  });
  let seen = await look();
  while (!seen.done) {
    const { hint, steps } = seen;
    if (hint) await page.locator(hint).click();
    // The same again would be once too often.
    seen = await until(`lesson ${number} goes on after step ${steps}, ${hint}`, async () => {
      const next = await look();
      return (next.done || next.steps !== steps || next.hint !== hint) && next;
    });
  }
}
