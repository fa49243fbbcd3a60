// The editor of an action's templates. The form's own fields stay the truth: what is typed here is written into them at
// once, so that the form sends what it would send without a script.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { json } from "@codemirror/lang-json";
import { bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { classHighlighter } from "@lezer/highlight";

/** How long nobody must have typed before the action is checked. */
const PAUSE_MS = 400;
const nonce = document.currentScript instanceof HTMLElement ? document.currentScript.nonce : "";

/**
 * The place in a text behind so many characters. The server counts characters, and a browser counts units of UTF-16.
 * @param {string} text @param {number} characters
 */
function unit(text, characters) {
  let at = 0;
  for (let left = characters; left > 0 && at < text.length; left--) at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  return at;
}

/** An element with a text. @param {string} name @param {string} kind @param {string} content */
function text(name, kind, content) {
  const element = document.createElement(name);
  element.className = kind;
  element.textContent = content;
  return element;
}

/** Completes what stands in an open placeholder. @param {string[]} variables */
const completing = (variables) => (context) => {
  const open = context.matchBefore(/\$\{[^}\n]*/);
  if (!open) return null;
  const close = context.state.sliceDoc(context.pos, context.pos + 1) === "}" ? "" : "}";
  const options = variables.map((name) => ({ label: name, type: "variable", apply: name + close }));
  return { from: open.from + 2, options, validFor: /^[^}\n]*$/ };
};

/** What only an editor of JSON has: a URL is one line without a language of its own. */
const ofJson = () => [lineNumbers(), bracketMatching(), json(), syntaxHighlighting(classHighlighter), lintGutter()];

/** An editor in place of a text area. @param {HTMLTextAreaElement} area @param {string[]} variables @param {() => void} changed */
function edit(area, variables, changed) {
  const label = document.querySelector(`label[for="${CSS.escape(area.id)}"]`);
  const described = area.getAttribute("aria-describedby");
  const view = new EditorView({
    state: EditorState.create({
      doc: area.value,
      extensions: [
        EditorView.cspNonce.of(nonce),
        area.name === "url" ? EditorView.editorAttributes.of({ class: "of-url" }) : ofJson(),
        highlightSpecialChars(),
        history(),
        drawSelection(),
        closeBrackets(),
        autocompletion({ override: [completing(variables)], activateOnTyping: true }),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({
          "aria-label": label?.textContent?.trim() ?? area.name,
          ...(described ? { "aria-describedby": described } : {}),
        }),
        // Tab leaves the editor, as it leaves any other field.
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap]),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          area.value = update.state.doc.toString();
          changed();
        }),
      ],
    }),
  });
  area.after(view.dom);
  area.hidden = true;
  // A browser refuses to send a form for a field that nobody can see; the server says as well that it is empty.
  area.required = false;
  label?.addEventListener("click", () => view.focus());
  return view;
}

/** @param {HTMLFormElement} form */
function attach(form) {
  const report = form.querySelector("[data-check-result]");
  const place = form.querySelector("[data-check-result-place]");
  if (place instanceof HTMLElement) place.hidden = false;
  const variables = (form.dataset.variables ?? "").split("\n").filter(Boolean);
  /** @type {Map<string, EditorView>} */
  const views = new Map();
  /** @type {AbortController | undefined} */
  let running;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** Whether the last check was refused, or had no answer. */
  let isRefused = false;

  /** Sends the form to an address; the answer is JSON. @param {string} address */
  async function ask(address) {
    running?.abort();
    running = new AbortController();
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (typeof value === "string") body.append(name, value);
    const headers = { accept: "application/json" };
    return fetch(address, { method: "POST", body, headers, signal: running.signal, credentials: "same-origin" });
  }

  /** @param {{problems: {severity: "error" | "warning", field: string, message: string, hint: string | null, range: {start: number, end: number} | null}[]}} found */
  function show({ problems }) {
    isRefused = false;
    for (const [field, view] of views) {
      const text = view.state.doc.toString();
      const own = problems.filter((one) => one.field === field);
      const diagnostics = own.map(({ severity, message, hint, range }) => ({
        severity,
        message: hint ? `${message}: ${hint}` : message,
        from: range ? unit(text, range.start) : 0,
        to: range ? unit(text, range.end) : 0,
      }));
      view.dispatch(setDiagnostics(view.state, diagnostics));
    }
    if (!report) return;
    const items = problems.map(({ severity, field, message, hint }) => {
      const item = document.createElement("li");
      item.className = severity === "error" ? "trouble" : "doubt";
      item.textContent = `${severity === "error" ? "✕ error" : "⚠ warning"}: ${field}: ${message}${hint ? `: ${hint}` : ""}`;
      return item;
    });
    if (items.length === 0) {
      const item = document.createElement("li");
      item.className = "well";
      item.textContent = "✓ Nothing is wrong with it.";
      items.push(item);
    }
    report.replaceChildren(...items);
  }

  /** Says why there is no check. What an earlier one has found is not of what is typed now, and goes. @param {string} why */
  function unchecked(why) {
    isRefused = true;
    for (const view of views.values()) view.dispatch(setDiagnostics(view.state, []));
    report?.replaceChildren(text("li", "doubt", `⚠ Not checked: ${why}`));
  }

  async function check() {
    try {
      const answer = await ask(form.dataset.check ?? "");
      if (answer.ok) return show(await answer.json());
      // Others check, too: once more in a moment.
      if (answer.status === 503) {
        clearTimeout(timer);
        timer = setTimeout(check, 2000);
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      unchecked(page.querySelector(".lead")?.textContent?.trim() || `the console answers ${answer.status}.`);
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) unchecked("the console gives no answer.");
    }
  }
  /** Shows the request beside the form: that part of the page which the same button gives without a script. @param {HTMLButtonElement} button */
  async function preview(button) {
    const place = document.getElementById("preview");
    if (!place) return;
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form, button)) if (typeof value === "string") body.append(name, value);
    button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body, credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const shown = answer.status === 422 ? null : page.getElementById("preview");
      if (shown) place.replaceChildren(...shown.childNodes);
      else place.lastElementChild?.replaceWith(text("p", "notice", answer.status === 422 ? "There is none as long as something is wrong with the action." : page.querySelector("main")?.textContent ?? ""));
    } catch {
      place.lastElementChild?.replaceWith(text("p", "notice", "The console gives no answer."));
    } finally {
      button.disabled = false;
    }
  }
  const changed = () => {
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE_MS);
  };
  for (const name of ["url", "headers", "body"]) {
    const area = form.elements.namedItem(name);
    if (area instanceof HTMLTextAreaElement) views.set(name, edit(area, variables, changed));
  }
  /** Takes over what stands in the form's own fields. */
  function takeOver() {
    for (const [name, view] of views) {
      const area = form.elements.namedItem(name);
      if (!(area instanceof HTMLTextAreaElement) || area.value === view.state.doc.toString()) continue;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: area.value } });
    }
  }
  // Whoever comes back to the page finds in its fields what they had typed. Browsers put it there when the script has read them
  // already, and tell nobody; they have done so when the page is shown.
  window.addEventListener("pageshow", takeOver);
  form.addEventListener("reset", () => setTimeout(takeOver));
  // Somebody may have logged in on another page meanwhile.
  window.addEventListener("focus", () => {
    if (isRefused) check();
  });
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!(button instanceof HTMLButtonElement) || button.value !== "preview") return;
    event.preventDefault();
    preview(button);
  });
  check();
}

for (const form of document.querySelectorAll("form[data-check]")) if (form instanceof HTMLFormElement) attach(form);
