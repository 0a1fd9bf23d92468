// Makes the recording of the dashboard that the README shows: an SVG that plays what the page showed during one lesson. Each
// text and each box is where the browser had it; what stays the same from one moment to the next is written once.
import { readFileSync, writeFileSync } from "node:fs";
import { pause, startBrowser, startServer, until } from "./browser.mjs";

const WIDTH = 940, HEIGHT = 672, STEP = 500;
const LESSON = 1;
// The colors of both themes, as the page has them.
const [DARK, LIGHT] = readFileSync(new URL("../../examples/dashboard/page.css", import.meta.url), "utf8")
  .match(/:root \{[^}]*\}/g).map(theme => theme.replace(/\s+/g, " ").replace(/ color-scheme: \w+;/, ""));

const server = await startServer();
const browser = await startBrowser();
try {
  const page = await browser.newPage({ colorScheme: "dark", viewport: { width: WIDTH, height: HEIGHT }, reducedMotion: "reduce" });
  await page.addInitScript(keepDrawing);
  await page.goto(server.url);
  // Fonts with the measures of Arial and Courier, which every system has.
  await page.addStyleTag({ content: `body, button { font-family: "Liberation Sans" !important } code { font-family: "Liberation Mono" !important }
    main { gap: 10px !important } .column { gap: 10px !important }` });
  await until("the tab is live", () => page.locator("html.live").count());
  await pause(300);

  const frames = [];
  const film = async times => {
    for (; times > 0; times--) {
      frames.push(await page.evaluate(takePicture));
      await pause(STEP);
    }
  };
  // Not with the mouse, which would scroll the page.
  const press = selector => page.evaluate(selector => document.querySelector(selector).click(), selector);
  const doIt = () => press("#lesson-steps .now .do");
  await press(`#steps button:nth-child(${LESSON + 1})`);
  await press("#reader-me");
  await film(4);
  await doIt(); // open
  await film(4);
  await doIt(); // send
  await film(7);
  await doIt(); // read
  await film(10);
  const path = new URL("../../.github/dashboard.svg", import.meta.url).pathname;
  const svg = animate(frames);
  writeFileSync(path, svg);
  console.log(`${path}: ${frames.length} moments, ${svg.length} bytes`);
} finally {
  await browser.close();
  await server.stop();
}

// In the page: keeps what is drawn on a canvas, as boxes, dots and texts.
function keepDrawing() {
  const getContext = HTMLCanvasElement.prototype.getContext;
  const pens = new WeakMap();
  HTMLCanvasElement.prototype.getContext = function (kind) {
    const canvas = this, real = getContext.call(canvas, kind);
    canvas.drawn = canvas.drawn || [];
    let arc = null;
    if (!pens.has(canvas)) pens.set(canvas, new Proxy(real, {
      get(_, name) {
        if (typeof real[name] !== "function") return real[name];
        return (...values) => {
          if (name === "clearRect") canvas.drawn = [];
          if (name === "fillRect") canvas.drawn.push({ kind: "box", color: real.fillStyle, at: values });
          if (name === "fillText") canvas.drawn.push({ kind: "text", color: real.fillStyle, text: values[0], at: values.slice(1), align: real.textAlign });
          if (name === "arc") arc = values;
          if (name === "fill") canvas.drawn.push({ kind: "dot", color: real.fillStyle, at: arc });
          if (name === "stroke") canvas.drawn.push({ kind: "ring", color: real.strokeStyle, at: arc });
          return real[name](...values);
        };
      },
      set(_, name, value) { real[name] = value; return true; },
    }));
    return pens.get(canvas);
  };
}

// In the page: all that is to be seen now, as pieces of SVG. Boxes lie below texts.
function takePicture() {
  const probe = document.createElement("canvas").getContext("2d");
  const names = {};
  for (const name of ["page", "card", "inset", "line", "text", "soft", "sleep", "awake", "paused", "accent", "on-accent", "readable", "writable", "closed", "error"]) {
    probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--" + name);
    names[probe.fillStyle] = names[probe.fillStyle] || `var(--${name})`;
  }
  const paint = color => {
    if (/^color/.test(color)) return "var(--line)";
    probe.fillStyle = color;
    return names[probe.fillStyle] || probe.fillStyle;
  };
  const round = number => Math.round(number * 2) / 2;
  const layers = [];
  let depth = 0;
  const put = (layer, piece) => (layers[layer] = layers[layer] || []).push(piece);
  // A box lies on those that it is in; texts lie on top.
  const box = (x, y, width, height, radius, style) => put(depth, { style,
    body: `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"${radius ? ` rx="${Math.min(radius, round(height / 2))}"` : ""}` });
  const text = (words, x, y, style, align) => put(9, { style: style + (align || ""),
    body: `<text x="${round(x)}" y="${round(y)}"`, inner: words.replace(/&/g, "&amp;").replace(/</g, "&lt;") });

  const seen = (rect, clip) => rect.width > 0 && rect.height > 0 && rect.bottom > clip.top + 3 && rect.top < clip.bottom - 3 && rect.right > clip.left && rect.left < clip.right;
  const cut = (a, b) => ({ left: Math.max(a.left, b.left), top: Math.max(a.top, b.top), right: Math.min(a.right, b.right), bottom: Math.min(a.bottom, b.bottom) });

  function visit(node, clip) {
    const outside = depth;
    visitHere(node, clip);
    depth = outside;
  }
  function visitHere(node, clip) {
    if (node.nodeType === 3) return visitText(node, clip);
    if (node.nodeType !== 1) return;
    const style = getComputedStyle(node), rect = node.getBoundingClientRect();
    if (style.display === "none" || style.visibility === "hidden" || node.classList.contains("unseen") || node.classList.contains("skip")) return;
    if (style.display !== "contents" && rect.width && seen(rect, clip)) {
      const shown = cut(rect, clip), filled = !/, 0\)$|^transparent/.test(style.backgroundColor);
      const around = ["Top", "Right", "Bottom", "Left"].map(side => parseFloat(style[`border${side}Width`]));
      const framed = around.every(width => width > 0);
      if (filled || framed) {
        const inset = framed ? around[0] / 2 : 0;
        box(shown.left + inset, shown.top + inset, shown.right - shown.left - 2 * inset, shown.bottom - shown.top - 2 * inset, parseFloat(style.borderTopLeftRadius),
          `fill:${!filled ? "none" : node.classList.contains("badge") ? style.backgroundColor : paint(style.backgroundColor)}${framed ? `;stroke:${paint(style.borderTopColor)}` : ""}`);
        depth = Math.min(8, depth + 1);
      } else {
        if (around[0] > 0) box(shown.left, rect.top, shown.right - shown.left, 1, 0, `fill:${paint(style.borderTopColor)}`);
        if (around[3] > 0) box(rect.left, shown.top, around[3], shown.bottom - shown.top, 0, `fill:${paint(style.borderLeftColor)}`);
      }
      if (style.outlineStyle === "solid" && node.classList.contains("hint"))
        box(rect.left - 3, rect.top - 3, rect.width + 6, rect.height + 6, parseFloat(style.borderTopLeftRadius) + 3, `fill:none;stroke-width:2;stroke:${paint(style.outlineColor)}`);
    }
    if (node.tagName === "INPUT") {
      const { left, top, width } = rect;
      if (seen(rect, clip)) box(left + 1, top + 1, width - 2, width - 2, 99, "fill:none;stroke:var(--soft)");
      if (seen(rect, clip) && node.checked) box(left + 4, top + 4, width - 8, width - 8, 99, "fill:var(--accent)");
      return;
    }
    if (node.tagName === "CANVAS") return visitCanvas(node, rect, clip);
    if (/auto|hidden|scroll/.test(style.overflowY)) clip = cut(clip, rect);
    // What style sheets put before and after.
    const mono = paint(style.color), middle = rect.top + 5 + 10;
    if (node.id === "link") box(rect.left + 13, rect.top + rect.height / 2 - 4, 8, 8, 4, "fill:var(--readable)");
    if (node.tagName === "LI" && seen(rect, clip)) {
      const done = node.classList.contains("done"), number = [...node.parentNode.children].indexOf(node) + 1;
      text(done ? "✓" : number + ".", rect.left + parseFloat(style.paddingLeft), middle + 6, `font-size:15px;fill:${done ? "var(--readable)" : mono}`);
    }
    if (node.tagName === "SUMMARY" && seen(rect, clip)) text(node.parentNode.open ? "▾" : "▸", rect.left, rect.top + 15, "font-size:14px;fill:var(--accent)");
    if (node.classList.contains("list") && !node.childNodes.length && seen(rect, clip))
      text(node.dataset.empty, rect.left + rect.width / 2, rect.top + rect.height / 2 + 4, "font-size:12px;fill:var(--soft)", ";text-anchor:middle");
    node.childNodes.forEach(child => visit(child, clip));
  }

  function visitText(node, clip) {
    if (!node.data.trim()) return;
    const style = getComputedStyle(node.parentElement), range = document.createRange();
    const lines = [];
    for (const word of node.data.matchAll(/\S+\s*/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].trimEnd().length);
      const rect = range.getBoundingClientRect(), line = lines[lines.length - 1];
      if (line && Math.abs(line.rect.top - rect.top) < 3) line.words += word[0];
      else lines.push({ rect, words: word[0] });
    }
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 600 ? ";font-weight:700" : "", code = /Mono/.test(style.fontFamily) ? ";font-family:var(--code)" : "";
    for (const { rect, words } of lines) {
      if (!seen(rect, clip) || rect.bottom > clip.bottom + 4 || rect.top < clip.top - 4) continue;
      text(words.trim(), rect.left, rect.top + rect.height / 2 + size * .34, `font-size:${size}px;fill:${node.parentElement.classList.contains("badge") ? "#0e1218" : paint(style.color)}${bold}${code}`);
    }
  }

  // Dots of one color are one path, and so are boxes.
  function visitCanvas(node, rect, clip) {
    if (!seen(rect, clip)) return;
    const paths = new Map();
    const add = (style, d) => paths.set(style, (paths.get(style) || "") + d);
    for (const { kind, color, at, text: words, align } of node.drawn) {
      const x = round(rect.left + at[0]), y = round(rect.top + at[1]);
      if (y > clip.bottom) continue;
      if (kind === "box") add(`fill:${paint(color)}`, `M${x} ${y}h${round(at[2])}v${round(at[3])}H${x}z`);
      if (kind === "dot") add(`fill:none;stroke:${paint(color)};stroke-width:${at[2] * 2};stroke-linecap:round`, `M${x} ${y}h0`);
      if (kind === "text") text(words, x, y + 4, `font-size:12px;fill:${paint(color)}`, { center: ";text-anchor:middle", right: ";text-anchor:end" }[align]);
    }
    const awake = "fill:var(--awake)", last = paths.get(awake);
    if (last && paths.delete(awake)) paths.set(awake, last);
    for (const [style, d] of paths) put(8, { style, body: `<path d="${d}"` });
  }

  visit(document.querySelector("header"), { left: 0, top: 0, right: innerWidth, bottom: innerHeight });
  visit(document.querySelector("main"), { left: 0, top: 0, right: innerWidth, bottom: innerHeight });
  return layers;
}

// The moments as one picture: for each piece in which of them it is seen.
function animate(frames) {
  const styles = new Map(), layers = Array.from({ length: 10 }, () => new Map());
  frames.forEach((frame, number) => {
    for (const [layer, pieces] of frame.entries()) for (const { style, body, inner } of pieces || []) {
      if (!styles.has(style)) styles.set(style, "s" + styles.size);
      const piece = `${body} class="${styles.get(style)}"${inner === undefined ? "/>" : `>${inner}</text>`}`;
      if (!layers[layer].has(piece)) layers[layer].set(piece, new Set());
      layers[layer].get(piece).add(number);
    }
  });
  const patterns = new Map();
  const body = layers.map(pieces => {
    const groups = new Map();
    for (const [piece, moments] of pieces) {
      const pattern = frames.map((_, number) => (moments.has(number) ? 1 : 0)).join("");
      if (!groups.has(pattern)) groups.set(pattern, []);
      groups.get(pattern).push(piece);
    }
    // What is always there comes first.
    return [...groups].sort(([a], [b]) => b.includes("0") - a.includes("0") ? a.includes("0") - b.includes("0") : 0).map(([pattern, pieces]) => {
      if (!pattern.includes("0")) return pieces.join("\n");
      if (!patterns.has(pattern)) patterns.set(pattern, "p" + patterns.size);
      return `<g class="${patterns.get(pattern)}">${pieces.join("\n")}</g>`;
    }).join("\n");
  });
  const keyframes = [...patterns].map(([pattern, name]) => {
    let rules = "";
    [...pattern].forEach((bit, number) => {
      if (bit !== pattern[number - 1]) rules += `${+(100 * number / frames.length).toFixed(2)}%{visibility:${bit === "1" ? "visible" : "hidden"}}`;
    });
    return `@keyframes ${name}{${rules}}.${name}{animation-name:${name}}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="The dashboard during a lesson: a level-triggered connection that is not read is reported by one poll after the other">
<style>
svg{--code:Menlo,Consolas,'Liberation Mono',monospace;font-family:Arial,Helvetica,'Liberation Sans',sans-serif}
${DARK}
@media (prefers-color-scheme:light){${LIGHT}}
g{animation:${frames.length * STEP / 1000}s step-end infinite}
@media (prefers-reduced-motion:reduce){g{animation-delay:-${(frames.length * .55 * STEP / 1000).toFixed(1)}s!important;animation-play-state:paused!important}}
${[...styles].map(([style, name]) => `.${name}{${style}}`).join("")}
${keyframes.join("\n")}
</style>
<rect width="${WIDTH}" height="${HEIGHT}" rx="10" style="fill:var(--page)"/>
${body.join("\n")}
</svg>
`;
}
