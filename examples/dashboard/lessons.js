"use strict";
// The lessons, and the words they use. A step is done when `when` says so of something that the server reported: an event
// ({ kind: "event", token, words, events }) or a deed of the loop ({ kind: "did", what, token, line }). `press` names what to press.

const opening = mode => ({
  kind: "open", mode, byHand: true,
  text: `Choose <b>I do, with a button</b>, then open a connection: <b>${{ level: "Level", edge: "Edge", oneshot: "One-shot" }[mode]}</b>.`,
});
const pressing = (action, text) => ({
  text, press: it => `[data-do="/${action}/${it.token}"]`, when: (now, it) => now.what === action && now.token === it.token,
});
const hearing = (text, words = []) => ({
  text, when: (now, it) => now.kind === "event" && now.token === it.token && words.every(word => now.words.includes(word)),
});
const reading = text => ({ ...pressing("read", text), when: (now, it) => /^(read|end|failed)$/.test(now.what) && now.token === it.token });

const LESSONS = [
  {
    title: "One connection, one event",
    intro: "A program with one thread serves this page. Most of the time that thread sleeps inside <b>poll</b>, until the kernel has news for it. Give it some.",
    steps: [
      { kind: "open", mode: "level", byHand: false, text: "Let <b>the loop</b> read, and open a connection: <b>Level</b>. It gets a number, its token." },
      pressing("send", "Press <b>Send</b> in its row. Your end sends 5 bytes."),
      hearing("The thread wakes up with one event.", ["readable"]),
      { text: "The loop reads the 5 bytes and goes back to sleep.", when: (now, it) => now.what === "read" && now.token === it.token },
    ],
    look: "In the list of polls: how long the thread slept, and how briefly it was awake.",
    why: "Nobody asked the connection again and again whether it had something. The kernel noticed when the bytes came, and woke the thread. The event carries the token, a number the program chose when it registered the connection, so it knows which one to read. One thread can watch a hundred thousand connections like that.",
    chapter: ["ch03_readiness_completion", "Readiness and completion"],
  },
  {
    title: "Level-triggered: why do the polls not stop?",
    intro: "This time you do the reading, and you take your time.",
    steps: [
      opening("level"),
      pressing("send", "Press <b>Send</b> once. Do not read yet."),
      { text: "Poll after poll reports the same 5 bytes. Wait for four.", when: (now, it) => now.kind === "event" && now.token === it.token && ++it.count >= 4 },
      reading("Press <b>Read</b>, and the loop sleeps again."),
    ],
    look: "Inside the kernel: the entry stays on the right. The loop pauses a quarter of a second between these polls so that you can watch; a real one would make several hundred thousand of them each second.",
    why: "Level-triggered means: an event from every poll for as long as the source is ready. Unread bytes keep it ready. That is forgiving. Read only a part, and the next poll reminds you of the rest. But whatever you leave unread, or writable without having anything to write, keeps your loop awake.",
    chapter: ["ch09_modes", "One-shot, level, edge"],
  },
  {
    title: "Edge-triggered: the same bytes, one event",
    intro: "An edge is a change: from “nothing new” to “something new”.",
    steps: [
      opening("edge"),
      pressing("send", "Press <b>Send</b>. Do not read."),
      hearing("One event, then silence, although the bytes are still there."),
      pressing("send", "Press <b>Send</b> again."),
      { ...hearing("Something new came, so there is a second event. (On Windows not before you have read.)"), or: it => it.system === "iocp" },
      reading("Press <b>Read</b>. All 10 bytes are there."),
    ],
    look: "Inside the kernel: the entry leaves the right side although nothing was read.",
    why: "Edge-triggered means: an event each time something new comes. It is told once, so read until the read says <b>WouldBlock</b>. If you stop earlier and nothing more comes, nobody reminds you of the rest. In return a busy connection costs fewer system calls.",
    chapter: ["ch09_modes", "One-shot, level, edge"],
  },
  {
    title: "One-shot: arm it late. Was anything lost?",
    intro: "The default of minimio. One event, and the registration is switched off until you arm it again.",
    steps: [
      opening("oneshot"),
      pressing("send", "Press <b>Send</b>."),
      hearing("One event. The registration is now disarmed."),
      pressing("send", "Press <b>Send</b> again. No event this time."),
      pressing("arm", "Press <b>Re-arm</b>, as late as you like."),
      hearing("The event comes at once."),
      reading("Press <b>Read</b>: 10 bytes. Nothing was lost."),
    ],
    look: "Between the second Send and Re-arm no poll reports this connection.",
    why: "Bytes wait in the socket, not in the event. Arming looks at the socket anew, so whatever came in between is reported then. Because a disarmed source is silent, the thread that got its event owns it alone. That is what you want when several threads share the work.",
    chapter: ["ch09_modes", "One-shot, level, edge"],
  },
  {
    title: "Three modes side by side",
    intro: "The same bytes at the same moment, to one connection in each mode. Which poll reports which connection?",
    steps: [
      { text: "Press <b>Run the comparison</b>. It takes two seconds.", press: () => "#compare", when: now => now.what === "comparing" },
      { text: "Watch how the rows fill. Nobody reads until the last column.", when: now => now.what === "compared" },
    ],
    look: "Follow each row from left to right. All three read the same number of bytes in the end.",
    why: "No mode loses data; they differ in how often they tell you. <b>Level</b> repeats itself until you have read. <b>Edge</b> speaks once for each arrival. <b>One-shot</b> speaks once, and waits until you arm it.",
    chapter: ["ch09_modes", "One-shot, level, edge"],
  },
  {
    title: "Half-close: can you still answer?",
    intro: "TCP has two directions, and they end one at a time.",
    steps: [
      opening("edge"),
      pressing("half", "Press <b>Half-close</b>: your end says that it will send no more."),
      hearing("Which words does the event have?", ["readable", "read-closed"]),
      reading("Press <b>Read</b>. It returns 0, which means: the end."),
      pressing("write", "Press <b>Write</b> at the loop’s end. It works."),
      pressing("drain", "Press <b>Read all</b> at your end. The 3 bytes arrived."),
      pressing("close", "Press <b>Close</b> at the loop’s end. It leaves the kernel’s list by itself."),
    ],
    look: "<b>read-closed</b> without <b>write-closed</b>. Only one direction has ended.",
    why: "A client that has sent its whole request may half-close and then wait for the answer. If you take that for “the client is gone”, you drop its answer. The end of the stream counts as readable, because a read will not block: it returns 0.",
    chapter: ["ch11_hard_parts", "The hard parts"],
  },
  {
    title: "Reset: what does an error look like?",
    intro: "Your end closes although there are bytes it has never read. The kernel then sends a reset instead of a polite end.",
    steps: [
      opening("edge"),
      pressing("reset", "Press <b>Reset</b>."),
      hearing("Compare the words with those of a half-close.", ["read-closed"]),
      reading("Press <b>Read</b>. The error comes out of the read."),
    ],
    look: "The word <b>error</b>, and both directions closed. (macOS and the BSDs send this reset only in answer to the next write.)",
    why: "A reset is final: what was on its way is lost, in both directions. It still counts as readable, and as writable if you asked for that, so that nobody sleeps through it. The event is only the hint. The read or write tells you what happened.",
    chapter: ["ch11_hard_parts", "The hard parts"],
  },
  {
    title: "Refused: a connection that fails later",
    intro: "A non-blocking connect returns before it knows the answer. Who tells you how it went?",
    steps: [
      { text: "Press <b>Connect to nobody</b>.", press: () => '[data-do="/refused"]',
        when: (now, it) => now.what === "attempt" && ((it.token = now.token), true) },
      { text: "The attempt is over, and <b>take_error</b> has the reason.", when: (now, it) => now.what === "not-connected" && now.token === it.token },
    ],
    look: "The words of the event: <b>writable</b>, and <b>error</b>. Windows tries for two seconds before it gives up.",
    why: "Register for <b>WRITABLE</b> and wait. The event comes when the connection stands or has failed, and <b>take_error</b> says which. The connect itself is not called again.",
    chapter: ["ch11_hard_parts", "The hard parts"],
  },
  {
    title: "A slow reader: when is there room again?",
    intro: "The loop can write only as fast as the other end reads.",
    steps: [
      opening("edge"),
      pressing("fill", "Press <b>Fill</b> at the loop’s end: it writes until the kernel takes no more."),
      pressing("sip", "Press <b>Read 64 KB</b> at your end. Is it writable again?"),
      { ...pressing("drain", "Press <b>Read all</b> at your end."), or: it => it.seen.has("room") },
      { text: "The connection is writable again.", when: (now, it) => now.what === "room" && now.token === it.token, or: it => it.seen.has("room") },
    ],
    look: "How many bytes fit, and that <b>WRITABLE</b> is on the interest list only while the loop waits for room.",
    why: "A full buffer says <b>WouldBlock</b>. You keep the rest, register for <b>WRITABLE</b> and go on with other work. The kernel waits until there is a good deal of room, so you are not woken for every byte. When nothing is left to write, drop <b>WRITABLE</b>: an idle connection is always writable, and would keep the loop awake.",
    chapter: ["ch11_hard_parts", "The hard parts"],
  },
  {
    title: "Three wakes, one event",
    intro: "A thread that sleeps in poll can be reached from any other thread, by a waker.",
    steps: [
      { text: "Press <b>Wake 3 times</b>.", press: () => '[data-do="/wake"]', when: now => now.what === "wake" },
      { text: "One event, with the waker’s token.", when: now => now.kind === "event" && now.who === "waker" },
    ],
    look: "Three calls of <b>wake()</b>, but a single event.",
    why: "A wake means “look, there is news”, not “here is one piece of news”. Wakes between two polls become one event, and none is lost. So put the work into a queue, wake, and let the loop empty the whole queue.",
    chapter: ["ch10_threads", "Other threads, wakers, closing"],
  },
  {
    title: "A poll without an event",
    intro: "Sometimes the loop must go on although nothing happens: a timer has run out.",
    steps: [
      { text: "Press <b>Wait 1 s at most</b>, then keep your hands off.", press: () => '[data-do="/timer"]', when: now => now.what === "timer" },
      { text: "After a second the poll returns with nothing.", when: now => now.what === "time-is-up" && now.events === 0 },
    ],
    look: "“no event: time is up”, and how exactly the second was kept.",
    why: "The queue has no timers, but a poll takes a timeout, and that is enough. Sleep until the nearest of your timers, and look at the clock afterwards. A timeout is rounded up, never down, or the loop would spin for the last fraction of a millisecond.",
    chapter: ["ch10_threads", "Other threads, wakers, closing"],
  },
];

// ---- Words ----

const WORDS = {
  token: "A number the program chooses when it registers a source. Each event carries it, and so the program knows what the event is about.",
  poll: "The call in which the thread sleeps until the kernel has news, or until a timeout. It returns with a list of events.",
  event: "The kernel’s answer: a token, and what is possible now.",
  register: "To tell the queue which source to watch, under which token, for what, and in which mode.",
  "re-arm": "To switch a one-shot registration on again (reregister). Whatever came in the meantime is reported at once.",
  readable: "A read will not block. It may bring bytes, the end of the stream, or an error.",
  writable: "A write will not block: there is room for more bytes.",
  "read-closed": "The other end will send no more. What has arrived can still be read.",
  "write-closed": "Nothing more can be sent.",
  error: "The connection has failed, or an error waits to be picked up.",
  WouldBlock: "The answer of a non-blocking read when there is nothing to read (or of a write when there is no room): come back after the next event.",
  "your end": "The end of a practice connection that your buttons move. In real life it is another program: a browser, say.",
  "loop’s end": "The end that is registered with the queue. In real life it is all that a server has.",
  waker: "Something that other threads hold to make a sleeping poll return.",
};

// What the buttons do.
const BUTTONS = {
  send: "Your end sends 5 bytes.",
  half: "Your end says that it sends no more. It still reads.",
  hangup: "Your end reads what is there and closes both directions.",
  reset: "Your end closes with bytes unread, which resets the connection.",
  sip: "Your end reads at most 64 KB of what the loop has written.",
  drain: "Your end reads all that has arrived so far.",
  read: "The loop reads until WouldBlock, the end, or an error.",
  arm: "reregister: watch it again, and report what is there already.",
  write: "The loop writes 3 bytes.",
  fill: "The loop writes until the kernel takes no more, and then asks for WRITABLE.",
  close: "The loop closes its end. A closed source leaves the queue by itself.",
  last: "Stops at the last event of your connections, zoomed in.",
};

// ---- The kernel's two lists, by the names each system has for them ----

const KERNEL = {
  epoll: {
    title: "Inside the kernel: epoll’s two lists",
    left: ["Interest list", "What the loop asked about. epoll_ctl adds, changes and removes entries. On Linux these masks are read off the kernel itself."],
    right: ["Ready list", "Entries with news. When it is not empty, epoll_wait copies it out and the thread wakes up. The page leaves each entry here for a second, so that you can see it."],
    empty: "empty: the thread sleeps in epoll_wait",
    words: { READABLE: "EPOLLIN EPOLLRDHUP", WRITABLE: "EPOLLOUT", LEVEL: "", EDGE: "EPOLLET", oneshot: "EPOLLONESHOT" },
    done: {
      level: ["went back to the end of the ready list, as level-triggered entries do. The next wait looks again, finds nothing to read and drops it",
        "goes back on the ready list after each wait, for as long as something is unread"],
      edge: ["left the ready list. It comes back when something new arrives", "left the ready list, although bytes are unread. Only something new brings it back"],
      oneshot: ["left the ready list, was switched off, and was armed again by reregister", "left the ready list and is switched off: its mask is empty until reregister"],
    },
  },
  kqueue: {
    title: "Inside the kernel: knotes and the active list",
    left: ["Knotes", "One for each descriptor and direction that the loop asked about. kevent adds, enables and deletes them."],
    right: ["Active knotes", "Those whose condition holds. When there are some, kevent copies them out and the thread wakes up. The page leaves each here for a second, so that you can see it."],
    empty: "none: the thread sleeps in kevent",
    words: { READABLE: "EVFILT_READ", WRITABLE: "EVFILT_WRITE", LEVEL: "", EDGE: "EV_CLEAR", oneshot: "EV_DISPATCH" },
    done: {
      level: ["stayed active. The next wait asks its filter again, finds nothing to read and drops it", "stays active for as long as something is unread"],
      edge: ["was cleared (EV_CLEAR). Something new makes it active again", "was cleared (EV_CLEAR), although bytes are unread. Only something new makes it active again"],
      oneshot: ["was disabled (EV_DISPATCH), and enabled again by reregister", "is disabled (EV_DISPATCH) until reregister"],
    },
  },
  iocp: {
    title: "Inside the kernel: requests and the completion port",
    left: ["Requests to AFD", "One for each registered socket: “tell me when it is readable”. A request is answered once."],
    right: ["The completion port", "Answered requests, as packets. GetQueuedCompletionStatusEx takes them out and the thread wakes up. The page leaves each here for a second, so that you can see it."],
    empty: "no packet: the thread sleeps at the port",
    words: { READABLE: "AFD_POLL_RECEIVE", WRITABLE: "AFD_POLL_SEND", LEVEL: "(asked again by each poll)", EDGE: "(asked again after WouldBlock)", oneshot: "(asked once)" },
    done: {
      level: ["was answered; the next poll asks again, and the request waits", "is asked again by each poll, and answered at once while something is unread"],
      edge: ["was answered. The read met WouldBlock and so asked again", "was answered. It is asked again after a read has met WouldBlock"],
      oneshot: ["was answered, and asked again by reregister", "was answered. No request is pending until reregister"],
    },
  },
};
