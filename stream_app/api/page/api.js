// Asks the API, with the token of this tab where one is needed, and follows its events.

import { byId, el } from "./dom.js";

const TOKEN = "token";
let asking = null;

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers ?? {}) });
  if (answer.ok) return answer;
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    detail = (await answer.json()).detail ?? detail;
  } catch { /* no problem+json: of a proxy */ }
  const held = sessionStorage.getItem(TOKEN), isRefused = answer.status === 401 || (answer.status === 403 && held);
  if (isRefused && await signIn(held && detail, options.method === "POST")) return ask(path, options);
  throw new Error(detail);
}

export const get = async (path) => (await ask(path)).json();

export async function post(path, body) {
  const sent = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await ask(path, sent)).json();
}

/** Ask for a token, once for all requests that wait for it; say what is wrong with the one that there was.
 *  Return whether there is another: what changes something may be let be. */
function signIn(why, mayCancel) {
  asking ??= new Promise((resolve) => {
    const field = el("input", { id: "token", type: "password", autocomplete: "off", required: true });
    const form = el("form", { method: "dialog" },
      el("h2", { id: "signing-title" }, "A token is needed"),
      why ? el("p", { class: "wrong", role: "alert" }, why) : null,
      el("p", {}, "This API asks for a bearer token with the scope read, and operate for replays and audits. It stays in this tab."),
      el("label", { for: "token" }, "Token"), field,
      el("p", { class: "buttons" }, mayCancel ? el("button", { type: "button", onclick: () => dialog.close("cancel") }, "Cancel") : null, el("button", { class: "main", value: "token" }, "Go on")));
    const dialog = byId("signing");
    dialog.replaceChildren(form);
    dialog.oncancel = (event) => mayCancel || event.preventDefault();
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      const isGiven = dialog.returnValue === "token";
      if (isGiven) sessionStorage.setItem(TOKEN, field.value.trim());
      asking = null;
      resolve(isGiven || !mayCancel);
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** Call `heard(kind, data)` for each event of a feed until the signal, and `state(live)` when the stream comes and goes.
 *  Begins with all that is still known; comes back where it was. fetch, for EventSource sends no token. */
export async function follow(feed, signal, heard, state) {
  let last = "begin";
  while (!signal.aborted) {
    try {
      const answer = await ask(`api/events?feed=${feed}`, { headers: { "Last-Event-ID": last }, cache: "no-store", signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let held = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        held += value;
        const parts = held.split("\n\n");
        held = parts.pop();
        for (const part of parts) {
          const event = Object.fromEntries(part.split("\n").filter((line) => line.includes(": ") && !line.startsWith(":")).map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
          if (!event.event) continue;
          last = event.id ?? last;
          state(true);
          heard(event.event, JSON.parse(event.data));
        }
      }
    } catch { /* it is away: try again */ }
    if (signal.aborted) return; // another feed is followed
    state(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
