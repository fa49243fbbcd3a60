// On all pages: times as they are where the reader is, and the live tail. Every page works without this.

/** Where the choice of times is remembered. */
const CHOICE = "postcall-times";
/** The most rows that the live tail keeps on the page. */
const MOST_ROWS = 50;

/** What each element `time` held when it came. @type {WeakMap<Element, Node[]>} */
const written = new WeakMap();

/** Whether local times are wanted. Storage may be forbidden: then it is asked for on each page. */
function wantsLocal() {
  try {
    return localStorage.getItem(CHOICE) === "local";
  } catch {
    return false;
  }
}

/** @param {boolean} local */
function remember(local) {
  try {
    localStorage.setItem(CHOICE, local ? "local" : "utc");
  } catch {
    // It holds for this page.
  }
}

let local = wantsLocal();

/** @param {number} number @param {number} digits */
const padded = (number, digits = 2) => String(number).padStart(digits, "0");

/**
 * A moment as clocks show it here, with its distance from UTC, which also tells it apart from what is in UTC.
 * @param {Date} at @param {boolean} isPrecise
 */
function here(at, isPrecise) {
  const ahead = -at.getTimezoneOffset();
  const distance = `${ahead < 0 ? "-" : "+"}${padded(Math.floor(Math.abs(ahead) / 60))}:${padded(Math.abs(ahead) % 60)}`;
  const day = `${at.getFullYear()}-${padded(at.getMonth() + 1)}-${padded(at.getDate())}`;
  const time = `${padded(at.getHours())}:${padded(at.getMinutes())}:${padded(at.getSeconds())}`;
  return `${day} ${time}${isPrecise ? `.${padded(at.getMilliseconds(), 3)}` : ""} ${distance}`;
}

/** Writes all times below an element as they are wanted. @param {ParentNode} root */
function writeTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const own = written.get(time) ?? [...time.childNodes];
    written.set(time, own);
    const at = new Date(time.getAttribute("datetime") ?? "");
    const isKnown = local && !Number.isNaN(at.getTime());
    // Only a precise time has a part in an element of its own.
    const isPrecise = own.some((node) => node.nodeType === Node.ELEMENT_NODE);
    time.replaceChildren(...(isKnown ? [here(at, isPrecise)] : own));
  }
}

/** The switch between the two, at the foot of the page. */
function offerTimes() {
  const place = document.querySelector("[data-times]");
  if (!place) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  const show = () => {
    place.firstChild?.replaceWith(local ? "times are local, with their distance from UTC " : "all times are UTC ");
    button.textContent = local ? "Show UTC" : "Show local times";
    writeTimes(document);
  };
  button.addEventListener("click", () => {
    local = !local;
    remember(local);
    show();
  });
  place.append(" ", button);
  show();
}

/** What has come to an end, as it comes. The server writes the rows, by the template that also writes the page's. */
function follow() {
  const section = document.querySelector("[data-live]");
  const rows = section?.querySelector("tbody");
  const state = section?.querySelector("[data-live-state]");
  const button = section?.querySelector("button");
  if (!section || !rows || !state || !button) return;
  /** @type {EventSource | undefined} */
  let source;
  /** @param {string} text */
  const say = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };
  const stop = () => {
    source?.close();
    source = undefined;
    button.textContent = "Follow";
  };
  const start = () => {
    source = new EventSource(section.getAttribute("data-live") ?? "");
    button.textContent = "Stop";
    say("Connecting …");
    source.addEventListener("open", () => say("Live: what comes to an end appears here."));
    source.addEventListener("ended", ({ data }) => {
      const template = document.createElement("template");
      // Escaped by the server as on every page, and the page's policy lets nothing in it run.
      template.innerHTML = data;
      const row = template.content.querySelector("tr");
      if (!row) return;
      rows.querySelector(`tr[data-id="${CSS.escape(row.dataset.id ?? "")}"]`)?.remove();
      writeTimes(template.content);
      rows.prepend(row);
      while (rows.children.length > MOST_ROWS) rows.lastElementChild?.remove();
      section.querySelector("[data-live-empty]")?.remove();
    });
    source.addEventListener("told", ({ data }) => say(data));
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return say("The connection is being made again …");
      stop();
      say("The live tail was refused: too many follow it already, or you may not read this. Reload the page to see what is newer.");
    });
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (!source) return start();
    stop();
    say("Stopped.");
  });
  // A page that nobody looks at takes no place from those who look.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) {
      stop();
      section.setAttribute("data-hidden", "");
    } else if (!document.hidden && section.hasAttribute("data-hidden")) {
      section.removeAttribute("data-hidden");
      start();
    }
  });
  start();
}

offerTimes();
follow();
