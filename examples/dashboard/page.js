"use strict";
// Times are in microseconds, as the server counts them since its start.
const get = id => document.getElementById(id);
const state = {
  link: "connecting", // or "live", "lost", "moved"
  born: 0, // which server this is
  system: "epoll",
  polls: [], // the newest last
  rows: [], // what is registered
  clock: 0, // the difference between the browser's time and the server's
  stopped: 0, // while the link is not live: the last moment that is known of
};

// Text is always set as text: nothing that comes from outside is read as HTML.
function make(tag, kind, ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}
function time(us) {
  if (us < 1000) return Math.round(us) + " µs";
  if (us < 1e6) return (us / 1e3).toFixed(us < 1e4 ? 1 : 0) + " ms";
  return us < 6e7 ? (us / 1e6).toFixed(1) + " s" : Math.floor(us / 6e7) + " min " + Math.floor(us % 6e7 / 1e6) + " s";
}
function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
// No red and no amber among them: those mean something.
const HUES = [212, 268, 172, 312, 96, 190, 240, 142];
const color = token => `hsl(${HUES[token % HUES.length]} ${token % 16 < 8 ? 72 : 48}% 70%)`;
function badge(token, practice = true) {
  const node = make("span", "badge", String(token));
  if (practice) node.style.background = color(token);
  return node;
}
const isPractice = who => /^(connection|attempt|waker)$/.test(who);
const rowOf = token => state.rows.find(row => row.token === token);
const now = () => (state.link === "live" ? performance.now() * 1000 - state.clock : state.stopped);

// ---- What the server tells ----

let stream = null, retry = 0;

function listen() {
  clearTimeout(retry);
  if (stream) stream.close();
  stream = new EventSource("/events");
  stream.addEventListener("hello", message => {
    const hello = JSON.parse(message.data);
    if (state.born !== hello.born) lesson.restart();
    Object.assign(state, { born: hello.born, system: hello.system, polls: [], rows: hello.rows });
    state.clock = performance.now() * 1000 - hello.now;
    get("log").replaceChildren();
    hello.polls.forEach(addPoll);
    showKernelWords();
    showRows();
    showKernel();
    setLink("live");
    lesson.show();
  });
  stream.addEventListener("poll", message => {
    const news = JSON.parse(message.data);
    state.rows = news.rows;
    addPoll(news.poll);
    showRows();
    showKernel(news.poll);
    for (const item of items(news.poll)) {
      lesson.sees(item);
      comparison.sees(item);
    }
    lesson.show();
  });
  // A browser opens few connections to one server. Our server tells only so many tabs at a time.
  stream.addEventListener("moved", () => letGo("moved"));
  stream.onerror = () => {
    if (state.link !== "moved") setLink("lost");
    // The browser tries again by itself, unless the server refused.
    if (stream.readyState === EventSource.CLOSED) retry = setTimeout(listen, 1000);
  };
}

function letGo(why) {
  clearTimeout(retry);
  if (stream) stream.close();
  setLink(why);
}

function setLink(link) {
  if (link === state.link) return;
  if (state.link === "live") state.stopped = now();
  state.link = link;
  document.documentElement.className = link;
  tell(get("link"), { live: "live", lost: "connection lost", moved: "paused", connecting: "connecting" }[link]);
  const text = {
    lost: `The server is gone, since ${new Date().toLocaleTimeString()}. What you see is the last that is known. This page tries again every second.`,
    moved: "Other tabs show the queue now, and a browser has connections for only a few of them.",
  }[link];
  get("banner").hidden = !text;
  get("resume").hidden = link !== "moved";
  tell(get("banner").firstElementChild, text || "");
  showState();
  showTime();
}

// A tab that nobody looks at needs no stream.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) letGo("moved");
  else if (state.link === "moved") listen();
});
addEventListener("focus", () => state.link === "moved" && listen());
get("resume").addEventListener("click", listen);

// All that a poll tells, one thing after the other: its events, then what the loop did.
function items(poll) {
  const common = { poll: poll.poll, events: poll.events.length };
  return [
    ...poll.events.map(event => ({ kind: "event", ...event, ...common })),
    ...poll.did.map(did => ({ kind: "did", ...did, ...common })),
  ];
}

function addPoll(poll) {
  state.polls.push(poll);
  if (state.polls.length > 2000) state.polls.shift();
  const log = get("log"), scrolled = log.scrollTop > 4 ? log.scrollHeight : 0;
  log.prepend(makePoll(poll));
  while (log.childElementCount > 100) log.lastChild.remove();
  // Whoever reads further down keeps the place.
  if (scrolled) log.scrollTop += log.scrollHeight - scrolled;
  announce(poll);
}

function makePoll(poll) {
  const count = poll.events.length;
  const head = make("div", "head", make("b", "", "#" + poll.poll), "slept " + time(poll.asleep),
    make("b", "", count === 0 ? "no event: time is up" : count === 1 ? "1 event" : count + " events"), "awake " + time(poll.awake));
  const node = make("div", "poll", head);
  // What concerns only the browsers, in short.
  if (count > 0 && poll.events.every(event => !isPractice(event.who) && event.who !== "practice listener")) {
    node.classList.add("minor");
    const requests = poll.did.filter(did => did.what === "request" || did.what === "refused").map(did => did.line);
    head.append(make("span", "", requests.join(", ") || (poll.did.some(did => did.what === "left") ? "a browser closes a connection" : "browsers")));
    const deeds = poll.did.filter(did => !/request|refused|register|left|browser/.test(did.what));
    node.append(...deeds.map(did => make("code", "", did.line)));
    return node;
  }
  for (const event of poll.events) {
    const line = make("div", "event", badge(event.token, isPractice(event.who)), event.who);
    for (const word of event.words) {
      const tag = make("span", "word " + word, word);
      tag.dataset.tip = word;
      line.append(tag);
    }
    node.append(line);
  }
  node.append(...poll.did.map(did => make("code", "", did.line)));
  if (poll.pause) node.append(make("code", "", "slow motion: the loop pauses for a quarter of a second"));
  return node;
}

// For screen readers: the practice connections only, and not more than one sentence each second.
function announce(poll) {
  const events = poll.events.filter(event => isPractice(event.who));
  if (state.link !== "live" || events.length === 0 || announce.timer) return;
  const said = events.map(event => `${event.who} ${event.token} ${event.words.join(", ")}`);
  const did = poll.did.filter(did => /^(read|end|failed|room|not-connected)$/.test(did.what)).map(did => did.line);
  get("announce").textContent = `Poll ${poll.poll}: ${[...said, ...did].join("; ")}`;
  announce.timer = setTimeout(() => announce.timer = 0, 1000);
}

// ---- Your connections; a row is changed, never made anew, or buttons would vanish under the finger ----

const shown = new Map();
function showRows() {
  const practice = state.rows.filter(row => row.who === "connection");
  for (const row of practice) {
    if (!shown.has(row.token)) {
      shown.set(row.token, makeRow(row));
      get("rows").prepend(shown.get(row.token).node);
    }
    shown.get(row.token).update(row);
  }
  for (const [token, line] of shown) {
    if (practice.every(row => row.token !== token)) {
      if (line.node.contains(document.activeElement)) get("rows").focus();
      line.node.remove();
      shown.delete(token);
    }
  }
  get("rows-none").hidden = practice.length > 0;
  get("buttons").hidden = practice.length === 0;
  get("rows").hidden = practice.length === 0;
  get("close-all").hidden = practice.length < 2;
}

const MODES = { level: "level", edge: "edge", oneshot: "one-shot" };
function makeRow(row) {
  const count = make("span", "count"), armed = make("span", "off", "disarmed");
  const head = make("div", "head", badge(row.token), `${MODES[row.mode]}, ${row.byHand ? "you read" : "the loop reads"}`, armed, count);
  const buttons = {};
  const button = (text, action) => {
    const node = buttons[action] = make("button", "", text);
    node.dataset.do = `/${action}/${row.token}`;
    node.dataset.tip = action;
    node.setAttribute("aria-label", `${text}, connection ${row.token}`);
    return node;
  };
  const loop = [button("Write", "write"), button("Fill", "fill"), button("Close", "close")];
  if (row.byHand && row.mode === "oneshot") loop.unshift(button("Re-arm", "arm"));
  if (row.byHand) loop.unshift(button("Read", "read"));
  const ends = make("div", "ends",
    make("span", "", "your end"),
    make("div", "row", button("Send", "send"), button("Half-close", "half"), buttons.close2 = button("Close", "hangup"),
      button("Reset", "reset"), button("Read 64 KB", "sip"), button("Read all", "drain")),
    make("span", "", "loop’s end"), make("div", "row", ...loop));
  return {
    node: make("div", "connection", head, ends),
    update(row) {
      tell(count, row.events + (row.events === 1 ? " event" : " events"));
      armed.hidden = row.armed;
      const works = { send: row.yours === "open", half: row.yours === "open" };
      for (const action of ["hangup", "reset", "sip", "drain"]) works[action] = row.yours !== "closed";
      for (const [action, node] of Object.entries(buttons)) node.setAttribute("aria-disabled", works[action] === false);
    },
  };
}

// ---- The kernel's lists, drawn from what the loop registered and what the polls brought ----

const FLAGS = [["EPOLLIN", 1], ["EPOLLOUT", 4], ["EPOLLRDHUP", 1 << 13], ["EPOLLONESHOT", 1 << 30], ["EPOLLET", 1 << 31]];
function words(row) {
  if (row.mask !== null) {
    // Linux has told. A disarmed entry keeps its mode and nothing else.
    return FLAGS.filter(([, bit]) => row.mask & bit).map(([name]) => name).join(" | ") || "0";
  }
  const kernel = KERNEL[state.system].words, asked = row.interests.split(" | ");
  const mode = /LEVEL|EDGE/.test(row.interests) ? [] : ["oneshot"];
  return [...asked, ...mode].map(word => kernel[word]).filter(word => word).join(" | ");
}

function showKernelWords() {
  const kernel = KERNEL[state.system];
  tell(get("queue-title"), kernel.title);
  for (const side of ["left", "right"]) {
    tell(get(side + "-title"), kernel[side][0]);
    get(side + "-title").dataset.tip = side;
  }
  get("left").dataset.empty = "no connection of yours yet";
  get("right").dataset.empty = kernel.empty;
}

const entries = new Map(), chips = new Map();
function showKernel(poll) {
  const practice = state.rows.filter(row => row.who === "connection" || row.who === "attempt");
  for (const row of practice) {
    let entry = entries.get(row.token);
    if (!entry) {
      entry = { code: make("code"), off: make("span", "off", "disarmed") };
      entry.node = make("div", "entry", badge(row.token), entry.code, entry.off);
      entries.set(row.token, entry);
      get("left").append(entry.node);
    }
    tell(entry.code, words(row));
    entry.off.hidden = row.armed !== false;
    entry.node.classList.toggle("disarmed", row.armed === false);
  }
  for (const [token, entry] of entries) {
    if (practice.every(row => row.token !== token)) {
      entry.node.remove();
      entries.delete(token);
    }
  }
  if (!get("others").childElementCount) {
    const others = [1, 2, 3, 4].map(rowOf).filter(row => row);
    get("others").append(...others.map(row => make("span", "", badge(row.token, row.who === "waker"), row.who)), make("span"));
  }
  const browsers = state.rows.filter(row => /browser|tab/.test(row.who)).length;
  tell(get("others").lastChild, browsers === 1 ? "and a browser’s connection" : `and ${browsers} connections of browsers`);
  if (poll) showReady(poll);
}

function showReady(poll) {
  const events = poll.events.filter(event => isPractice(event.who));
  if (events.length === 0) return;
  const texts = events.map(event => {
    showChip(event);
    return outcome(event);
  });
  get("outcome").replaceChildren(make("b", "", `Poll #${poll.poll} `), `brought ${events.length === 1 ? "1 event" : events.length + " events"}. `, texts.slice(0, 3).join(" "));
}

function showChip(event) {
  let chip = chips.get(event.token);
  if (!chip) {
    chip = { node: make("div", "chip", badge(event.token), make("span")) };
    chips.set(event.token, chip);
    get("right").append(chip.node);
    fly(entries.get(event.token), chip.node);
  } else {
    // Back to the end of the list.
    get("right").append(chip.node);
    if (calm()) chip.node.animate([{ transform: "translateY(-10px)", opacity: .4 }, {}], 200);
  }
  tell(chip.node.lastChild, event.words.join(", "));
  clearTimeout(chip.timer);
  const row = rowOf(event.token), stays = row && row.ready;
  chip.node.classList.toggle("stays", !!stays);
  // The event has been handed out long ago; we leave the chip for a moment to be seen.
  chip.timer = setTimeout(function leave() {
    const row = rowOf(event.token);
    if (row && row.ready && state.link === "live") return chip.timer = setTimeout(leave, 300);
    chips.delete(event.token);
    const gone = calm() ? chip.node.animate([{}, { transform: "translateY(14px)", opacity: 0 }], 300).finished : Promise.resolve();
    gone.then(() => chip.node.remove());
  }, 1300);
}

const calm = () => !matchMedia("(prefers-reduced-motion: reduce)").matches;
function fly(entry, chip) {
  if (!entry || !calm()) return;
  const from = entry.node.getBoundingClientRect(), to = chip.getBoundingClientRect();
  chip.animate([{ transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)`, opacity: .3 }, {}], { duration: 450, easing: "ease-out" });
}

// What became of an entry after the wait.
function outcome(event) {
  const row = rowOf(event.token);
  if (event.who === "waker") return `${event.token} is the waker: however often it was rung, one event.`;
  if (!row) return `${event.token} was closed, and so left both lists by itself.`;
  if (!row.mode) return "";
  return `${event.token} ${KERNEL[state.system].done[row.mode][row.unread ? 1 : 0]}.`;
}

// ---- Buttons ----

function toast(text) {
  get("toast").textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => get("toast").textContent = "", 3000);
}
async function press(path) {
  if (state.link === "lost") return toast("The server is gone.");
  try {
    const answer = await fetch(path, { method: "POST" });
    if (!answer.ok) toast(await answer.text());
    return answer.ok;
  } catch {
    toast("The server does not answer.");
  }
}
document.addEventListener("click", click => {
  const button = click.target.closest("button");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  if (button.dataset.open) press(`/open/${button.dataset.open}${get("reader-me").checked ? "/byhand" : ""}`);
  if (button.dataset.do) press(button.dataset.do);
});
get("close-all").addEventListener("click", () => press("/close/" + [...shown.keys()].join()));
for (const radio of [get("reader-me"), get("reader-loop")]) radio.addEventListener("change", () => lesson.show());

// ---- Explanations, where a word stands: under the mouse, or with the keyboard's focus ----

const explain = key => (key === "left" || key === "right" ? KERNEL[state.system][key][1] : BUTTONS[key] || WORDS[key]);
function showTip(event) {
  const node = event.target.closest && event.target.closest("[data-tip]"), tip = get("tip");
  if (showTip.node && showTip.node !== node) {
    showTip.node.removeAttribute("aria-describedby");
    tip.hidden = true;
  }
  showTip.node = node;
  if (!node) return;
  tip.textContent = explain(node.dataset.tip);
  tip.hidden = false;
  node.setAttribute("aria-describedby", "tip");
  const box = node.getBoundingClientRect(), width = tip.offsetWidth, height = tip.offsetHeight;
  tip.style.left = Math.max(12, Math.min(box.left, innerWidth - width - 12)) + "px";
  tip.style.top = (box.bottom + height + 10 < innerHeight ? box.bottom + 6 : box.top - height - 6) + "px";
}
function hideTip() { showTip({ target: document }); }
document.addEventListener("mouseover", showTip);
document.addEventListener("focusin", event => event.target.matches(":focus-visible") ? showTip(event) : hideTip());
document.addEventListener("keydown", event => event.key === "Escape" && hideTip());
// Under a finger a word explains itself when it is touched; a button does what it says.
document.addEventListener("click", event => (event.target.matches("[data-tip]:not(button)") ? showTip(event) : hideTip()));
addEventListener("scroll", hideTip, true);
function glossary(place, words) {
  for (const [word, text] of Object.entries(words)) get(place).lastElementChild.append(make("dt", "", word), make("dd", "", text));
}
glossary("words", WORDS);
glossary("buttons", {
  "Send": BUTTONS.send, "Half-close": BUTTONS.half, "Close, your end": BUTTONS.hangup, "Reset": BUTTONS.reset, "Read 64 KB": BUTTONS.sip,
  "Read all": BUTTONS.drain, "Read": BUTTONS.read, "Re-arm": BUTTONS.arm, "Write": BUTTONS.write, "Fill": BUTTONS.fill, "Close, loop’s end": BUTTONS.close,
});

// ---- The lessons ----

const lesson = {
  number: 0,
  it: {},
  done: new Set(),

  start(number) {
    // What the last lesson was about is in the way now.
    if (this.it.token && shown.has(this.it.token)) press("/close/" + this.it.token);
    this.number = number;
    this.restart();
    const { title, intro, steps, look, why, chapter } = LESSONS[number];
    get("lesson-kind").textContent = number === 0 ? "First step" : `Lesson ${number} of ${LESSONS.length - 1}`;
    get("lesson-title").textContent = title;
    // The lessons are our own text, with <b> in it.
    get("lesson-intro").innerHTML = intro;
    get("lesson-steps").replaceChildren(...steps.map(step => {
      const node = make("li", "", make("span"), make("button", "do", "Do it"));
      node.firstChild.innerHTML = step.text;
      node.lastChild.addEventListener("click", () => this.wanted && this.wanted.click());
      return node;
    }));
    get("lesson-look").innerHTML = "Look for: " + look;
    const [answer, more] = get("lesson-why").querySelectorAll("p");
    answer.innerHTML = why;
    more.firstChild.href = "/guide/" + chapter[0];
    more.firstChild.textContent = "The guide: " + chapter[1];
    get("lesson-why").open = false;
    this.show();
  },
  restart() {
    this.step = 0;
    this.it = { token: null, count: 0, seen: new Set(), system: state.system };
  },
  // One thing that the server reported.
  sees(item) {
    const { steps } = LESSONS[this.number], it = this.it;
    if (this.step >= steps.length) return;
    if (item.token === it.token && item.what) it.seen.add(item.what);
    const step = steps[this.step];
    if (step.kind === "open" ? this.opened(step, item) : step.when(item, it)) this.advance();
    else if (item.what === "close" && item.token === it.token) {
      toast(`Connection ${it.token} is closed. Start the lesson again.`);
      this.restart();
    }
  },
  opened(step, item) {
    const row = item.what === "open" && rowOf(item.token);
    if (!row || row.mode !== step.mode || row.byHand !== step.byHand) return false;
    this.it.token = item.token;
    return true;
  },
  advance() {
    const { steps } = LESSONS[this.number];
    this.step++;
    this.it.count = 0;
    while (this.step < steps.length && steps[this.step].or && steps[this.step].or(this.it)) this.step++;
    if (this.step < steps.length) return;
    this.done.add(this.number);
    get("lesson-why").open = true;
    // Where the lesson is taller than the window.
    get("lesson").scrollTop = get("lesson").scrollHeight;
    try { localStorage.setItem("minimio-lessons", [...this.done].join(" ")); } catch { /* then it is forgotten */ }
  },
  // Shows how far it is, and points at what to press.
  show() {
    const { steps } = LESSONS[this.number], step = steps[this.step];
    [...get("lesson-steps").children].forEach((node, number) => {
      node.className = number < this.step ? "done" : number === this.step ? "now" : "";
      if (number === this.step) node.setAttribute("aria-current", "step"); else node.removeAttribute("aria-current");
      node.lastChild.hidden = number !== this.step || !(step.press || step.kind === "open");
    });
    [...get("steps").children].forEach((node, number) => {
      node.classList.toggle("done", this.done.has(number));
      if (number === this.number) node.setAttribute("aria-current", "true"); else node.removeAttribute("aria-current");
      node.setAttribute("aria-label", `${node.textContent}: ${LESSONS[number].title}${this.done.has(number) ? ", done" : ""}`);
    });
    const finished = !step;
    get("next").hidden = !finished || this.number === LESSONS.length - 1;
    let wanted = null;
    if (step && step.kind === "open") {
      const reader = get(step.byHand ? "reader-me" : "reader-loop");
      wanted = reader.checked ? document.querySelector(`[data-open="${step.mode}"]`) : reader;
    } else if (step && step.press) wanted = document.querySelector(step.press(this.it));
    else if (finished && !get("next").hidden) wanted = get("next");
    if (wanted === this.wanted && (!wanted || wanted.classList.contains("hint"))) return;
    if (this.wanted) this.wanted.classList.remove("hint");
    this.wanted = wanted;
    if (wanted) wanted.classList.add("hint");
  },
};

LESSONS.forEach((_, number) => {
  const node = make("button", "", number === 0 ? "start" : String(number));
  node.addEventListener("click", () => lesson.start(number));
  get("steps").append(node);
});
get("next").addEventListener("click", () => {
  lesson.start(lesson.number + 1);
  get("lesson").focus({ preventScroll: true });
  get("lesson").scrollIntoView({ block: "nearest" });
});
get("again").addEventListener("click", () => { lesson.restart(); get("lesson-why").open = false; lesson.show(); });
try {
  (localStorage.getItem("minimio-lessons") || "").split(" ").filter(word => word).forEach(word => lesson.done.add(Number(word)));
} catch { /* nothing is remembered then */ }

// ---- The comparison: the page presses the buttons, and the picture is what the polls said ----

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const comparison = {
  tokens: null, // of the mode: the token
  columns: [],

  async run() {
    if (this.running) return;
    this.running = true;
    get("compare").setAttribute("aria-disabled", "true");
    this.tokens = {};
    this.columns = [];
    this.opening = true;
    lesson.sees({ what: "comparing" });
    lesson.show();
    try {
      for (const mode of ["oneshot", "level", "edge"]) if (!await press(`/open/${mode}/byhand`)) return;
      for (let tries = 0; Object.keys(this.tokens).length < 3; tries++) {
        if (tries > 100) return;
        await pause(50);
      }
      this.opening = false;
      const { oneshot, level, edge } = this.tokens, all = [level, edge, oneshot].join();
      this.show();
      for (const [path, ms] of [[`/send/${all}`, 480], [`/send/${all}`, 480], [`/arm/${oneshot}`, 380], [`/read/${all}`, 700], [`/close/${all}`, 0]]) {
        if (!await press(path)) return;
        await pause(ms);
      }
      lesson.sees({ what: "compared" });
      lesson.show();
    } finally {
      this.running = false;
      get("compare").setAttribute("aria-disabled", "false");
    }
  },
  sees(item) {
    if (!this.running) return;
    if (this.opening) {
      const row = item.what === "open" && rowOf(item.token);
      if (row && row.byHand) this.tokens[row.mode] = item.token;
      return;
    }
    if (!Object.values(this.tokens).includes(item.token)) return;
    const kind = item.kind === "event" ? "event" : item.what;
    if (!/^(event|send|arm|read)$/.test(kind)) return;
    // What belongs to one poll, or to one press, is one column.
    let column = this.columns[this.columns.length - 1];
    if (!column || column.kind !== kind || column.poll !== item.poll) {
      column = { kind, poll: item.poll, cells: new Map() };
      this.columns.push(column);
    }
    column.cells.set(item.token, item);
    this.show();
  },
  show() {
    const heads = { event: column => "#" + column.poll, send: () => "send", arm: () => "re-arm", read: () => "read" };
    const head = make("tr", "", make("th", "", "poll"));
    for (const column of this.columns) head.append(make("th", column.kind === "event" ? "" : "deed", heads[column.kind](column)));
    const body = make("tbody");
    for (const mode of ["level", "edge", "oneshot"]) {
      const token = this.tokens[mode], name = make("th", "", badge(token), " " + MODES[mode]);
      name.scope = "row";
      const line = make("tr", "", name);
      for (const column of this.columns) line.append(this.cell(column, column.cells.get(token), token));
      body.append(line);
    }
    get("compared").replaceChildren(make("table", "", make("thead", "", head), body));
    get("compared").hidden = false;
    get("compare-none").hidden = true;
    get("compared").scrollLeft = 1e6;
  },
  cell(column, item, token) {
    const node = make("td", column.kind === "event" ? "" : "deed");
    if (column.kind === "event") {
      if (!item) node.append(make("span", "none", "–"), make("span", "unseen", "no event"));
      else {
        const dot = make("span", "dot");
        dot.style.background = color(token);
        node.append(dot, make("span", "unseen", "event: " + item.words.join(", ")));
      }
    } else if (item) node.append({ send: "5 bytes", arm: "✓", read: (/= (\d+ bytes)/.exec(item.line) || [])[1] || item.line }[column.kind]);
    return node;
  },
};
get("compare").addEventListener("click", () => comparison.run());

// ---- The timeline ----

const SPANS = [6e7, 2e7, 5e6, 1e6, 2e5, 5e4, 1e4, 2e3, 500];
const view = { zoom: 1, end: null }; // `end`: where it is stopped, or null while it follows the time
const spanOf = () => SPANS[view.zoom];
const endOf = () => (view.end === null ? now() : view.end);

function stop(end) {
  view.end = end;
  get("pause").setAttribute("aria-pressed", "true");
  tell(get("pause"), "Paused");
}
function follow() {
  view.end = null;
  if (spanOf() < 1e6) view.zoom = 1;
  get("pause").setAttribute("aria-pressed", "false");
  tell(get("pause"), "Pause");
}
function zoom(by, at = endOf() - spanOf() / 2) {
  const next = Math.max(0, Math.min(SPANS.length - 1, view.zoom + by));
  const share = (endOf() - at) / spanOf(), live = view.end === null;
  view.zoom = next;
  // Below a second everything would rush by.
  if (!live) stop(at + share * spanOf());
  else if (spanOf() < 1e6) lastEvent();
}
function move(by) { stop(Math.min(now(), endOf() + by * spanOf() / 3)); }
function lastEvent() {
  const last = [...state.polls].reverse().find(poll => poll.events.some(event => isPractice(event.who)));
  if (!last) return follow();
  if (spanOf() > 1e6) view.zoom = SPANS.indexOf(1e6);
  stop(last.at + spanOf() / 2);
}
get("pause").addEventListener("click", () => (view.end === null ? stop(now()) : follow()));
get("in").addEventListener("click", () => zoom(1));
get("out").addEventListener("click", () => zoom(-1));
get("earlier").addEventListener("click", () => move(-1));
get("later").addEventListener("click", () => move(1));
get("last").addEventListener("click", lastEvent);

// With the mouse: drag, or turn the wheel with Ctrl.
const LEFT = 134;
get("time").addEventListener("pointerdown", event => {
  let x = event.clientX;
  const drag = event => {
    stop(Math.min(now(), endOf() - (event.clientX - x) * spanOf() / (get("time").clientWidth - LEFT - 10)));
    x = event.clientX;
  };
  const end = () => { removeEventListener("pointermove", drag); removeEventListener("pointerup", end); };
  addEventListener("pointermove", drag);
  addEventListener("pointerup", end);
});
get("time").addEventListener("wheel", event => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  const box = get("time").getBoundingClientRect(), share = (event.clientX - box.left - LEFT) / (box.width - LEFT - 10);
  zoom(event.deltaY < 0 ? 1 : -1, endOf() - spanOf() * (1 - share));
}, { passive: false });

// The browsers share one line; of the rest, those that fit.
function lanesOf(polls) {
  const lanes = new Map(), last = new Map();
  const lane = (token, who) => (isPractice(who) ? String(token) : who === "practice listener" ? "2" : "browsers");
  for (const row of state.rows) if (isPractice(row.who)) lanes.set(lane(row.token, row.who), `${row.token} ${row.who}`);
  for (const poll of polls) for (const event of poll.events) {
    const key = lane(event.token, event.who);
    last.set(key, poll.at);
    if (key !== "browsers") lanes.set(key, `${event.token} ${event.who}`);
  }
  const keys = [...lanes.keys()].sort((a, b) => a - b);
  // Those without an event go first, then those whose event is the oldest.
  const spare = [...keys].sort((a, b) => (last.get(a) || 0) - (last.get(b) || 0));
  const hidden = new Set(spare.slice(0, Math.max(0, keys.length - 7)));
  const names = new Map([["browsers", "browsers"]]);
  for (const key of keys) if (!hidden.has(key)) names.set(key, lanes.get(key));
  return { names, lane, hidden: hidden.size };
}

function draw(pen, width, height) {
  const style = getComputedStyle(document.documentElement), paint = name => style.getPropertyValue(name);
  const end = endOf(), span = spanOf(), right = width - 10;
  const x = when => LEFT + (right - LEFT) * (1 - (end - when) / span);
  const clamp = when => Math.max(LEFT, Math.min(right, x(when)));
  const polls = state.polls.filter(poll => poll.at + poll.awake + poll.pause > end - span && poll.at <= end);
  const { names, lane, hidden } = lanesOf(polls);
  const keys = [...names.keys()], top = 32, room = Math.min(24, (height - top - 24) / Math.max(1, keys.length));
  const middle = key => top + (keys.indexOf(key) + .5) * room;
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";

  // The loop itself: asleep is the rule, awake the exception.
  pen.fillStyle = paint("--soft");
  pen.fillText("the loop", 0, 12);
  pen.fillStyle = paint("--sleep");
  const from = clamp(0), until = clamp(now());
  if (until > from) pen.fillRect(from, 4, until - from, 16);
  for (const poll of polls) {
    if (poll.pause) {
      pen.fillStyle = paint("--paused");
      pen.fillRect(clamp(poll.at), 4, clamp(poll.at + poll.awake + poll.pause) - clamp(poll.at), 16);
    }
    pen.fillStyle = paint("--awake");
    const left = clamp(poll.at);
    pen.fillRect(left, 2, Math.max(2, clamp(poll.at + poll.awake) - left), 20);
  }
  for (const key of keys) {
    const y = middle(key);
    pen.fillStyle = key === "browsers" ? paint("--soft") : color(Number(key));
    pen.beginPath();
    pen.arc(5, y, 4, 0, 7);
    pen.fill();
    pen.fillStyle = paint("--soft");
    pen.fillText(names.get(key), 15, y + 1);
    pen.fillStyle = paint("--line");
    pen.fillRect(LEFT, y, right - LEFT, 1);
  }
  for (const poll of polls) for (const event of poll.events) {
    const key = lane(event.token, event.who), px = x(poll.at);
    if (!names.has(key) || px < LEFT) continue;
    const y = middle(key), failed = event.words.includes("error");
    pen.fillStyle = failed ? paint("--error") : key === "browsers" ? paint("--soft") : color(Number(key));
    pen.beginPath();
    pen.arc(px, y, key === "browsers" ? 3 : 5, 0, 7);
    pen.fill();
    if (event.words.some(word => /closed|error/.test(word)) && key !== "browsers") {
      // The end of something: a ring around the dot.
      pen.strokeStyle = pen.fillStyle;
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(px, y, 8, 0, 7);
      pen.stroke();
    }
  }

  pen.fillStyle = paint("--soft");
  if (hidden) pen.fillText(`and ${hidden} more`, 0, height - 9);
  // Round steps that leave each label some 80 pixels.
  let step = 10 ** Math.floor(Math.log10(span * 80 / (right - LEFT)));
  for (const times of [2, 2.5, 2]) if (step < span * 80 / (right - LEFT)) step *= times;
  pen.textAlign = "center";
  const live = view.end === null, first = live ? step : Math.ceil((end - span) / step) * step;
  for (let mark = first; mark < (live ? span : end); mark += step) {
    const px = x(live ? end - mark : mark);
    if (px < LEFT + 24 || px > right - 30) continue;
    pen.fillText(live ? `−${time(mark).replace(/\.0/, "")}` : (mark / 1e6).toFixed(Math.max(0, Math.ceil(-Math.log10(step / 1e6) - 1e-9))) + " s", px, height - 9);
  }
  pen.textAlign = "right";
  if (live) pen.fillText(state.link === "live" ? "now" : "then", right + 6, height - 9);
  pen.textAlign = "left";
}

function showTime() {
  const canvas = get("time"), scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  draw(pen, width, height);
  tell(get("span"), time(spanOf()).replace(/\.0/, ""));
}

function showState() {
  const last = state.polls[state.polls.length - 1];
  if (!last) return;
  const at = now(), { total } = last, since = at - last.at - last.awake;
  const asleep = Math.max(0, since - last.pause);
  if (state.link === "lost") {
    tell(get("state"), "unknown");
    tell(get("stateof"), `last heard of in poll #${last.poll + 1}`);
  } else if (since < last.pause) {
    tell(get("state"), "slow motion");
    tell(get("stateof"), `before poll #${last.poll + 1}`);
  } else {
    tell(get("state"), asleep < 1e6 ? (Math.floor(asleep / 1e5) / 10).toFixed(1) + " s" : time(asleep));
    tell(get("stateof"), `asleep in poll #${last.poll + 1}`);
  }
  tell(get("share"), (100 * (total.asleep + asleep) / Math.max(1, total.elapsed + Math.max(0, since))).toFixed(2) + " %");
  tell(get("polls"), String(last.poll));
  tell(get("events"), String(total.events));
  tell(get("sources"), String(state.rows.length));
}

function frame() {
  requestAnimationFrame(frame);
  showState();
  showTime();
}
lesson.start(lesson.done.size === 0 ? 0 : Math.min(LESSONS.length - 1, Math.max(...lesson.done) + 1));
listen();
frame();
