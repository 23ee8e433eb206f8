// The console: tickets on the left, one thread on the right, both kept up to date by the live events.
// Whatever a customer wrote is put on the page as text, never as markup.
"use strict";

const API = "/api/v1";
const $ = (id) => document.getElementById(id);
const state = {
  key: "", me: null, self: null, ticket: null, tickets: new Map(), next: null, lastEvent: "", stream: null,
  view: "open", views: [], counts: new Map(), fresh: false, people: new Map(), full: false,
};
const NOTIFIER = ["mine", "unassigned"]; // the two lists that are kept short: 20 rows, then the full view
const SHORT = 20;

// --- small tools ---

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

// What a request proves itself by: the key, or the cookie of a session and its token.
function standing(method = "GET") {
  if (state.key) return { Authorization: `Bearer ${state.key}` };
  return method === "GET" || !state.me ? {} : { "X-CSRF-Token": state.me.csrf };
}

async function call(path, { method = "GET", body, headers = {} } = {}) {
  const options = { method, headers: { ...standing(method), ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(API + path, options);
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) forget(state.key ? "This key is not valid, or no longer." : problem.title);
    throw new Refused(answer.status, problem);
  }
  return answer.status === 204 ? null : answer.json();
}

function later(wait, job) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => job(...values), wait);
  };
}

function clock(text) {
  if (!text) return "";
  const moment = new Date(text);
  const today = moment.toDateString() === new Date().toDateString();
  return moment.toLocaleString([], today ? { hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- the key ---

function remember(key) {
  state.key = key;
  sessionStorage.setItem("gateway-key", key);
}

function forget(why = "") {
  state.key = "";
  state.me = state.self = null;
  state.ticket = null;
  state.view = "open";
  sessionStorage.removeItem("gateway-key");
  state.stream?.abort();
  $("desk").hidden = true;
  $("leave").hidden = true;
  $("door").hidden = false;
  $("door-problem").hidden = !why;
  $("door-problem").textContent = why;
  $("key").value = $("password").value = "";
  $("email").focus();
}

async function signIn(email, password) {
  const body = JSON.stringify({ email, password });
  const answer = await fetch(`${API}/sessions`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) return forget(found.detail || found.title || `status ${answer.status}`);
  state.me = found;
  open();
}

async function signOut() {
  if (!state.key && state.me) await call("/sessions", { method: "DELETE" }).catch(() => {});
  forget();
}

// A session may be open already: its cookie tells, and the page asks who that is.
async function resume() {
  const answer = await fetch(`${API}/me`);
  if (!answer.ok) return forget();
  state.me = await answer.json();
  open();
}

async function open() {
  try {
    state.self = state.me || (await call("/me")); // a key, too, may stand for a user
    await showViews();
    await listTickets();
  } catch (error) {
    if (error.status !== 401) forget(error.message);
    return;
  }
  loadNames().catch(() => {});
  $("door").hidden = true;
  $("desk").hidden = false;
  $("leave").hidden = false;
  listen();
}

// --- the list ---

const CONVERSATION = { started: "started a new chat", replied: "replied to the conversation" };

const short = () => NOTIFIER.includes(state.view) && !state.full && !$("q").value.trim();

// What is listed: what was searched for, in all tickets; else the view.
function listAddress(more) {
  const words = $("q").value.trim();
  const query = new URLSearchParams({ limit: String(short() ? SHORT : 50) });
  if (words) query.set("q", words);
  if (more && state.next) query.set("cursor", state.next);
  return words ? `/tickets?${query}` : `/views/${encodeURIComponent(state.view)}/tickets?${query}`;
}

async function showViews() {
  const [views, counts] = await Promise.all([call("/views?active=true"), call("/views/counts")]);
  const before = state.counts.get("unassigned")?.count;
  state.views = views.items;
  state.counts = new Map(counts.items.map((entry) => [entry.id, entry]));
  const now = state.counts.get("unassigned")?.count;
  if (before !== undefined && now > before && state.view !== "unassigned") state.fresh = true;
  if (!state.views.some((view) => view.id === state.view)) state.view = "open";
  $("views").replaceChildren(...state.views.map((view) => {
    const { count, exact } = state.counts.get(view.id) || { count: "", exact: true };
    const fresh = view.id === "unassigned" && state.fresh;
    return make("li", {}, make("button", {
      type: "button", "data-view": view.id, "aria-current": view.id === state.view && !$("q").value.trim() ? "true" : null,
      onclick: () => chooseView(view.id),
    }, make("span", { class: fresh ? "dot" : "", title: fresh ? "Something new" : null }, view.title),
      make("span", { class: "count" }, `${count}${exact ? "" : "+"}`)));
  }));
}

function chooseView(id, full = false) {
  state.view = id;
  state.full = full;
  if (id === "unassigned") state.fresh = false;
  $("q").value = "";
  showViews().catch(() => {});
  return listTickets().catch((error) => { $("viewing").textContent = error.message; });
}

// The list of a notifier is short; "load more" opens the whole view, which is then read page by page.
function loadMore() {
  return short() ? chooseView(state.view, true) : listTickets(true).catch(() => {});
}

let listing = 0;
async function listTickets(more = false) {
  const run = ++listing;
  const page = await call(listAddress(more));
  if (run !== listing) return;
  const view = state.views.find((entry) => entry.id === state.view);
  $("viewing").textContent = $("q").value.trim() ? "Found in all tickets" : view ? view.title : "";
  if (!more) state.tickets = new Map();
  for (const ticket of page.items) state.tickets.set(ticket.id, ticket);
  state.next = page.next;
  showTickets();
}

function showTickets() {
  const rows = [...state.tickets.values()].map((ticket) =>
    make("li", {}, make("button", {
      type: "button", "data-ticket": ticket.id, "aria-current": ticket.id === state.ticket?.id ? "true" : null,
      onclick: () => openTicket(ticket.id),
    },
      make("span", { class: "top" }, make("span", { class: `badge ${ticket.status}` }, ticket.status), ticket.channel,
        make("time", {}, clock(ticket.updated_at))),
      make("span", { class: "name" }, `#${ticket.number} ${ticket.subject}`),
      make("span", { class: "bottom" }, ticket.contact_name || "somebody", " · ", CONVERSATION[ticket.conversation_state]),
    )));
  $("tickets").replaceChildren(...rows);
  $("none").hidden = rows.length > 0;
  $("more").hidden = !state.next;
}

// --- one ticket ---

async function openTicket(id) {
  const ticket = await call(`/tickets/${id}`);
  const changed = state.ticket?.id !== id;
  state.ticket = ticket;
  if (changed) {
    $("text").value = "";
    $("verdicts").replaceChildren();
  }
  $("nothing").hidden = true;
  $("ticket").hidden = false;
  $("subject").textContent = `#${ticket.number} ${ticket.subject}`;
  $("facts").textContent = [ticket.contact_name, ticket.channel, ticket.account, ticket.status, ticket.priority,
    CONVERSATION[ticket.conversation_state], ticket.via === ticket.channel ? "" : `via ${ticket.via}`,
    ticket.tags.join(" ")].filter(Boolean).join(" · ");
  showProperties(changed);
  showTickets();
  showWindows(ticket).catch(() => $("windows").replaceChildren());
  await showThread(changed);
}

// --- its properties ---

const nameOf = (id) => state.people.get(id) || id || "";

async function loadNames() {
  const [users, groups] = await Promise.all([all("/users"), call("/groups")]);
  state.people = new Map(users.filter((user) => user.active).map((user) => [user.id, user.name || user.email]));
  $("people").replaceChildren(...[...state.people.values()].map((name) => make("option", { value: name })));
  $("groups").replaceChildren(...groups.items.map((group) => make("option", { value: group.name })));
  if (state.ticket) showProperties(false);
}

// What is being typed at the moment stays.
function showProperties(changed) {
  const ticket = state.ticket;
  const fields = $("properties").elements;
  const values = { status: ticket.status, priority: ticket.priority, assignee: nameOf(ticket.assignee), group: ticket.group || "", tags: ticket.tags.join(" ") };
  for (const [name, value] of Object.entries(values)) {
    if (changed || document.activeElement !== fields[name]) fields[name].value = value;
    fields[name].disabled = ticket.status === "closed";
  }
  $("take").hidden = !state.self?.user_id || ticket.assignee === state.self.user_id || ticket.status === "closed";
  if (changed) $("property-problem").textContent = "";
}

function typed(name, value) {
  const text = value.trim();
  if (name === "tags") return text.split(/[\s,]+/).filter(Boolean);
  if (name === "assignee") return [...state.people].find(([, known]) => known === text)?.[0] || text || null;
  return name === "group" ? text || null : value;
}

// Only what was changed is sent, and only on the ticket as it was seen.
async function changeTicket(changes) {
  const ticket = state.ticket;
  try {
    await call(`/tickets/${ticket.id}`, { method: "PATCH", body: changes, headers: { "If-Match": `"${ticket.sequence}"` } });
    $("property-problem").textContent = "";
  } catch (error) {
    if (error.status === 412) $("property-problem").textContent = "Somebody else changed it: look, and change it again.";
    else $("property-problem").textContent = error.message;
    if (state.ticket?.id === ticket.id) showProperties(false);
  }
  if (state.ticket?.id !== ticket.id) return;
  document.activeElement?.blur?.();
  await openTicket(ticket.id);
}

async function showWindows(ticket) {
  const contact = await call(`/contacts/${ticket.contact_id}`);
  const words = contact.identities.map((identity) => {
    const { open, until, remaining, tag_until: tag } = identity.window;
    const more = remaining === null ? "" : `, ${remaining} left`;
    const closed = tag && new Date(tag) > new Date() ? `closed, for a person open until ${clock(tag)}` : "closed";
    const left = open ? (until ? `open until ${clock(until)}${more}` : "open") : closed;
    const consent = identity.state === "active" ? "" : ` (${identity.state.replace("_", " ")})`;
    return `${identity.channel}: ${left}${consent}`;
  });
  $("windows").textContent = `${contact.vip ? "VIP · " : ""}${words.join(" · ")}`;
}

async function all(path) {
  const found = [];
  let cursor = "";
  do {
    const page = await call(`${path}?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    found.push(...page.items);
    cursor = page.next;
  } while (cursor && found.length < 5000);
  return found;
}

async function showThread(toEnd) {
  const id = state.ticket.id;
  const [messages, events] = await Promise.all([all(`/tickets/${id}/messages`), all(`/tickets/${id}/events`)]);
  if (state.ticket?.id !== id) return;
  const thread = $("thread");
  const atEnd = toEnd || thread.scrollHeight - thread.scrollTop - thread.clientHeight < 60;
  const entries = [
    ...messages.map((message) => [message.direction === "inbound" ? message.sent_at || message.created_at : message.created_at, 0, bubble(message)]),
    ...events.filter((event) => !event.kind.startsWith("message.") && event.kind !== "reply.queued").map((event) => [event.at, 1, line(event)]),
  ];
  entries.sort((one, other) => (one[0] === other[0] ? one[1] - other[1] : one[0] < other[0] ? -1 : 1));
  thread.replaceChildren(...entries.map((entry) => entry[2]));
  if (atEnd) thread.scrollTop = thread.scrollHeight;
}

// what an agent must know of a message before believing it
const WARNINGS = ["unknown_sender", "unaligned", "several_senders", "sender_guessed", "incomplete", "encrypted", "html_too_large"];

function bubble(message) {
  const kind = message.visibility === "note" ? "outbound note" : message.direction;
  const words = message.deleted_at ? "(deleted)" : message.text || (message.attachments.length ? "" : `[${message.kind}]`);
  const flags = [message.kind === "text" ? "" : message.kind, message.visibility === "private" ? "" : message.visibility,
    message.edited_at ? "edited" : "", ...message.flags.filter((flag) => WARNINGS.includes(flag)).map((flag) => flag.replaceAll("_", " ")),
    ...message.reactions.map((reaction) => reaction.emoji)].filter(Boolean);
  const status = message.direction === "outbound" ? message.status : "";
  // the contact's name, where it is the contact: many platforms tell it only after the first message
  const { author } = message;
  const name = message.direction === "inbound" && author.id === state.ticket.contact_id && state.ticket.contact_name;
  return make("li", { class: `bubble ${kind}`, "data-message": message.id },
    make("div", { class: "who" }, [name || author.name || author.type, ...flags].join(" · ")),
    words ? make("p", {}, words) : null,
    message.full_text ? make("details", {}, make("summary", {}, "Whole message"), make("p", {}, message.full_text)) : null,
    ...message.attachments.map(file),
    message.error ? make("div", { class: "error" }, `${message.error.class} ${message.error.code} ${message.error.detail}`.trim()) : null,
    make("footer", {}, [clock(message.sent_at || message.created_at), status].filter(Boolean).join(" · ")));
}

const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

function file(attachment) {
  const name = attachment.filename || attachment.kind;
  if (attachment.state !== "stored") return make("p", {}, `${name} (${attachment.state}${attachment.reason ? `: ${attachment.reason}` : ""})`);
  const place = make("div", {});
  const load = async () => {
    const answer = await fetch(attachment.url, { headers: standing() });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return URL.createObjectURL(await answer.blob());
  };
  if (PICTURES.includes(attachment.media_type)) {
    load().then((url) => place.replaceChildren(make("img", { src: url, alt: name })), () => place.replaceChildren(name));
  } else {
    place.append(make("button", { type: "button", class: "plain", onclick: async () => {
      const link = make("a", { href: await load(), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } }, `Save ${name}`));
  }
  return place;
}

function line(event) {
  const { kind, data, actor } = event;
  const who = actor.name || actor.type;
  if (kind.includes("refused") || kind.includes("failed")) {
    const verdicts = Array.isArray(data.verdicts) ? data.verdicts : [data];
    const reasons = verdicts.map((verdict) => [verdict.rule || verdict.code, verdict.reason || verdict.detail, verdict.remedy].filter(Boolean).join(": "));
    return make("li", { class: "event refused" }, `${kind.replaceAll(".", " ")} · ${reasons.join(" / ")} · ${clock(event.at)}`);
  }
  const change = "to" in data ? ` ${String(data.from ?? "") || "nothing"} → ${String(data.to ?? "") || "nothing"}` : data.reason ? `: ${data.reason}` : "";
  const { went_to: to } = data;
  const away = to && to.number !== state.ticket.number ? ` on #${to.number}` : "";
  const detour = to ? `; went by ${to.template ? `template ${to.template}` : to.channel}${away}` : "";
  const other = "number" in data ? ` #${data.number}` : ""; // of a ticket linked with this one
  return make("li", { class: "event" }, `${kind.replaceAll(".", " ").replaceAll("_", " ")}${other}${change}${detour} · ${who} · ${clock(event.at)}`);
}

// --- replying ---

function draft() {
  const body = { text: $("text").value, ...(state.me ? {} : { author: { type: "agent", id: "console", name: "Console" } }) };
  if ($("visibility").value) body.visibility = $("visibility").value;
  if ($("then").value) body.status = $("then").value;
  return body;
}

function showVerdicts(verdicts, alternatives) {
  const rows = verdicts.map((verdict) =>
    make("li", { class: verdict.decision, "data-rule": verdict.rule },
      make("b", {}, `${verdict.rule} (${verdict.decision})`), " ",
      [verdict.reason, verdict.until ? `${verdict.decision === "deny" ? "the limit was" : "until"} ${clock(verdict.until)}` : "", verdict.remedy].filter(Boolean).join(" · ")));
  if (alternatives?.length)
    rows.push(make("li", { class: "change", "data-rule": "alternatives" }, make("b", {}, "also open"), " ",
      alternatives.map((other) => `${other.channel} (${other.account})${other.until ? ` until ${clock(other.until)}` : ""}`).join(" · ")));
  $("verdicts").replaceChildren(...rows);
}

const asVerdict = (wait) => ({ rule: wait.code, decision: "defer", reason: wait.reason, until: wait.until });

let asked = 0;
const ask = later(350, async () => {
  const run = ++asked;
  const ticket = state.ticket;
  if (!ticket || !$("text").value.trim()) return $("verdicts").replaceChildren();
  try {
    const answer = await call(`/tickets/${ticket.id}/replies?dry_run=true`, { method: "POST", body: draft() });
    if (run === asked && state.ticket?.id === ticket.id) showVerdicts([...answer.verdicts, ...answer.waits.map(asVerdict)], answer.alternatives);
  } catch (error) {
    if (run === asked && error instanceof Refused) showVerdicts([{ rule: error.problem.code, decision: "deny", reason: error.message }]);
  }
});

let pendingKey = "";
async function send(submitted) {
  submitted.preventDefault();
  const ticket = state.ticket;
  if (!ticket || !$("text").value.trim()) return;
  pendingKey ||= random(); // the same one again if the answer gets lost
  $("send").disabled = true;
  asked += 1;
  try {
    await call(`/tickets/${ticket.id}/replies`, { method: "POST", body: draft(), headers: { "Idempotency-Key": pendingKey } });
    pendingKey = "";
    $("text").value = "";
    $("verdicts").replaceChildren();
  } catch (error) {
    if (!(error instanceof Refused)) return showVerdicts([{ rule: "connection", decision: "deny", reason: "no answer; sending again is safe" }]);
    pendingKey = "";
    showVerdicts(error.problem.verdicts || [{ rule: error.problem.code, decision: "deny", reason: error.message }], error.problem.alternatives);
  } finally {
    $("send").disabled = false;
  }
  await openTicket(ticket.id);
  $("thread").scrollTop = $("thread").scrollHeight;
}

// --- live events ---

const refreshList = later(150, () => {
  showViews().catch(() => {});
  listTickets().catch(() => {});
});
const refreshTicket = later(100, () => state.ticket && openTicket(state.ticket.id).catch(() => {}));

function heard(type, data) {
  if (type === "reset" || type.startsWith("ticket.") || type.startsWith("message.received") || type.startsWith("contact.")) refreshList();
  if (type === "reset" || (state.ticket && (data.ticket_id === state.ticket.id || data.contact_id === state.ticket.contact_id))) refreshTicket();
}

function block(text) {
  let type = "message";
  let data = "";
  for (const row of text.split("\n")) {
    if (row.startsWith("event: ")) type = row.slice(7);
    else if (row.startsWith("data: ")) data += row.slice(6);
    else if (row.startsWith("id: ")) state.lastEvent = row.slice(4);
  }
  if (data) heard(type, JSON.parse(data));
}

async function listen() {
  state.stream?.abort();
  const stream = (state.stream = new AbortController());
  let wait = 1000;
  while ((state.key || state.me) && !stream.signal.aborted) {
    try {
      const headers = standing();
      if (state.lastEvent) headers["Last-Event-ID"] = state.lastEvent;
      const answer = await fetch(`${API}/events`, { headers, signal: stream.signal });
      if (answer.status === 401) return forget("No longer signed in.");
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      $("live").className = "live on";
      $("live").textContent = "live";
      wait = 1000;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach(block);
      }
    } catch (error) {
      if (stream.signal.aborted) return;
    }
    $("live").className = "live";
    $("live").textContent = "offline";
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, 15000);
  }
}

// --- start ---

$("door").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const key = $("key").value.trim();
  if (!key) return signIn($("email").value.trim(), $("password").value);
  remember(key);
  open();
});
$("leave").addEventListener("click", signOut);
$("filter").addEventListener("submit", (submitted) => submitted.preventDefault());
$("q").addEventListener("input", later(250, () => {
  showViews().catch(() => {});
  listTickets().catch(() => {});
}));
$("more").addEventListener("click", loadMore);
$("properties").addEventListener("submit", (submitted) => submitted.preventDefault());
$("properties").addEventListener("change", (changed) => {
  const { name, value } = changed.target;
  if (state.ticket && name) changeTicket({ [name]: typed(name, value) });
});
$("take").addEventListener("click", () => state.ticket && changeTicket({ assignee: state.self.user_id }));
$("reply").addEventListener("submit", send);
for (const id of ["text", "visibility", "then"]) {
  $(id).addEventListener("input", () => {
    pendingKey = ""; // another reply from now on
    ask();
  });
}
$("text").addEventListener("keydown", (pressed) => {
  if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) $("reply").requestSubmit();
});

const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) history.replaceState(null, "", location.pathname);
remember(given || sessionStorage.getItem("gateway-key") || "");
if (state.key) open();
else resume();
