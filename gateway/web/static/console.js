// The console: tickets on the left, one thread on the right, both kept up to date by the live events.
// Whatever a customer wrote is put on the page as text, never as markup.
"use strict";

const API = "/api/v1";
const $ = (id) => document.getElementById(id);
const state = {
  key: "", me: null, self: null, ticket: null, tickets: new Map(), next: null, lastEvent: "", stream: null,
  view: "open", views: [], counts: new Map(), fresh: false, people: new Map(), full: false,
  drafts: new Map(), files: [],
};
const hearers = []; // what the other scripts do at an event, when the desk opens, and when the views were shown
const openers = [];
const viewers = [];
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

// Puts entries [key, value, build] into a list in this order. What did not change keeps its element: so the focus stays
// where it is, pictures are not fetched again, and a screen reader hears of what is new only.
function arrange(parent, entries) {
  const known = parent.known || new Map();
  const wanted = new Set(entries.map(([key]) => key));
  let focused = null;
  for (const [key, { element }] of known) {
    if (element.contains(document.activeElement)) focused = key;
    if (!wanted.has(key)) element.remove();
  }
  parent.known = new Map();
  let place = parent.firstElementChild;
  for (const [key, value, build] of entries) {
    const stamp = JSON.stringify(value);
    const old = known.get(key);
    const element = old?.stamp === stamp ? old.element : build();
    if (old && old.element !== element) {
      if (place === old.element) place = element;
      old.element.replaceWith(element);
    }
    if (place === element) place = element.nextElementSibling;
    else parent.insertBefore(element, place);
    parent.known.set(key, { stamp, element });
  }
  const now = parent.known.get(focused)?.element;
  if (now && !now.contains(document.activeElement)) now.querySelector("button")?.focus();
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
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
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
  state.view = "open";
  state.lastEvent = ""; // whoever comes next sees nothing of what was on the page, nor hears what was missed
  state.tickets = new Map();
  state.people = new Map();
  listing += 1;
  closeTicket();
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  $("decide").hidden = true;
  state.drafts = new Map();
  arrange($("tickets"), []);
  $("views").replaceChildren();
  sessionStorage.removeItem("gateway-key");
  state.stream?.abort();
  $("desk").hidden = true;
  $("leave").hidden = true;
  $("door").hidden = false;
  $("door-problem").hidden = !why;
  $("door-problem").textContent = why;
  $("key").value = $("password").value = $("q").value = "";
  $("email").focus();
}

const SILENT = "The gateway does not answer. Try again.";

async function signIn(email, password) {
  const body = JSON.stringify({ email, password });
  const answer = await fetch(`${API}/sessions`, { method: "POST", headers: { "Content-Type": "application/json" }, body })
    .catch(() => null);
  if (!answer) return forget(SILENT);
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
  const answer = await fetch(`${API}/me`).catch(() => null);
  if (!answer) return forget(SILENT);
  if (!answer.ok) return forget(answer.status === 401 ? "" : `The gateway answers ${answer.status}. Try again.`);
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
  openers.forEach((opener) => opener());
  if (!matchMedia("(pointer: coarse)").matches) $("q").focus(); // there it would open a keyboard over the list
  listen();
}

// --- the list ---

const CONVERSATION = { started: "started a new chat", replied: "replied to the conversation" };

const short = () => NOTIFIER.includes(state.view) && !state.full && !$("q").value.trim();

// What is listed: what was searched for, in all tickets; else the view.
function listAddress(rows, cursor) {
  const words = $("q").value.trim();
  const query = new URLSearchParams({ limit: String(short() ? SHORT : rows) });
  if (words) query.set("q", words);
  if (cursor) query.set("cursor", cursor);
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
  arrange($("views"), state.views.map((view) => {
    const { count, exact } = state.counts.get(view.id) || { count: "", exact: true };
    const fresh = view.id === "unassigned" && state.fresh;
    const current = view.id === state.view && !$("q").value.trim();
    return [view.id, [view.title, count, exact, fresh, current], () => make("li", {}, make("button", {
      type: "button", "data-view": view.id, "aria-current": current ? "true" : null, onclick: () => chooseView(view.id),
    }, make("span", { class: fresh ? "dot" : "", title: fresh ? "Something new" : null }, view.title),
      make("span", { class: "count" }, `${count}${exact ? "" : "+"}`)))];
  }));
  viewers.forEach((viewer) => viewer());
}

function chooseView(id, full = false) {
  state.view = id;
  state.full = full;
  state.tickets = new Map();
  if (id === "unassigned") state.fresh = false;
  $("q").value = "";
  showViews().catch(() => {});
  return listTickets().catch((error) => { $("viewing").textContent = error.message; });
}

// The list of a notifier is short; "load more" opens the whole view, which is then read page by page.
function loadMore() {
  loading = short() ? chooseView(state.view, true) : listTickets(true).catch(() => {});
  refreshList();
}
let loading = Promise.resolve();

let listing = 0;
async function listTickets(more = false) {
  const run = ++listing;
  const rows = more ? 50 : Math.max(50, state.tickets.size); // what was loaded stays on the page
  let page = await call(listAddress(Math.min(rows, 200), more && state.next));
  const found = page.items;
  while (!more && !short() && page.next && found.length < rows && run === listing) {
    page = await call(listAddress(200, page.next));
    found.push(...page.items);
  }
  if (run !== listing) return;
  const view = state.views.find((entry) => entry.id === state.view);
  $("viewing").textContent = $("q").value.trim() ? "Found in all tickets" : view ? view.title : "";
  if (!more) state.tickets = new Map();
  for (const ticket of found) state.tickets.set(ticket.id, ticket);
  state.next = page.next;
  showTickets();
}

function showTickets() {
  const rows = [...state.tickets.values()].map((ticket) => [ticket.id, [ticket, ticket.id === state.ticket?.id], () =>
    make("li", {}, make("button", {
      type: "button", "data-ticket": ticket.id, "aria-current": ticket.id === state.ticket?.id ? "true" : null,
      onclick: () => chooseTicket(ticket.id),
    },
      make("span", { class: "top" }, make("span", { class: `badge ${ticket.status}` }, ticket.status), ticket.channel,
        make("time", {}, clock(ticket.updated_at))),
      make("span", { class: "name" }, `#${ticket.number} ${ticket.subject}`),
      make("span", { class: "bottom" }, ticket.contact_name || "somebody", " · ", CONVERSATION[ticket.conversation_state]),
    ))]);
  arrange($("tickets"), rows);
  $("none").hidden = rows.length > 0;
  $("more").hidden = !state.next;
}

// --- one ticket ---

let opening = 0; // the last choice counts, in whatever order the answers come

async function chooseTicket(id) {
  const run = ++opening;
  try {
    await readTicket(id, run);
  } catch (error) {
    if (run === opening && error.status !== 401) $("viewing").textContent = error.message;
    return;
  }
  if (run === opening) $("subject").focus();
}

// The ticket that is open, as it is now. It never takes the place of another one that was chosen meanwhile.
async function refreshTicket() {
  const id = state.ticket?.id;
  if (!id) return;
  try {
    await readTicket(id, opening, true);
  } catch (error) {
    if (error.status === 404 && state.ticket?.id === id) closeTicket("This ticket is no longer there.");
  }
}

function closeTicket(why = "Choose a ticket.") {
  opening += 1;
  keepDraft();
  state.ticket = null;
  takeDraft();
  arrange($("thread"), []);
  for (const id of ["subject", "facts", "windows"]) $(id).textContent = "";
  $("ticket").hidden = true;
  $("nothing").hidden = false;
  $("nothing").textContent = why;
  $("desk").classList.remove("reading");
}

// On a narrow page the list and the ticket take turns.
function backToList() {
  $("desk").classList.remove("reading");
  document.querySelector("#tickets [aria-current]")?.focus();
}

async function readTicket(id, run, again = false) {
  const ticket = await call(`/tickets/${id}`);
  const changed = state.ticket?.id !== id;
  if (run !== opening || (again && (changed || ticket.sequence < state.ticket.sequence))) return;
  if (changed) keepDraft();
  state.ticket = ticket;
  if (changed) takeDraft();
  if (!again) $("desk").classList.add("reading");
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
function showProperties(changed, own = "") {
  const ticket = state.ticket;
  const fields = $("properties").elements;
  const values = { status: ticket.status, priority: ticket.priority, assignee: nameOf(ticket.assignee), group: ticket.group || "", tags: ticket.tags.join(" ") };
  for (const [name, value] of Object.entries(values)) {
    if (changed || name === own || document.activeElement !== fields[name]) fields[name].value = value;
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
  const [own] = Object.keys(changes);
  try {
    await call(`/tickets/${ticket.id}`, { method: "PATCH", body: changes, headers: { "If-Match": `"${ticket.sequence}"` } });
    $("property-problem").textContent = "";
  } catch (error) {
    if (error.status === 412) $("property-problem").textContent = "Somebody else changed it: look, and change it again.";
    else $("property-problem").textContent = error.message;
  }
  if (state.ticket?.id !== ticket.id) return;
  await refreshTicket();
  if (state.ticket?.id === ticket.id) showProperties(false, own);
}

async function showWindows(ticket) {
  const contact = await call(`/contacts/${ticket.contact_id}`);
  if (state.ticket?.id !== ticket.id) return;
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
  const box = scroller();
  const atEnd = toEnd || box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  const entries = [
    ...messages.map((message) => ({ at: message.direction === "inbound" ? message.sent_at || message.created_at : message.created_at, rank: 0, message })),
    ...events.filter((event) => !event.kind.startsWith("message.") && event.kind !== "reply.queued").map((event) => ({ at: event.at, rank: 1, event })),
  ];
  entries.sort((one, other) => (one.at === other.at ? one.rank - other.rank : one.at < other.at ? -1 : 1));
  arrange($("thread"), entries.map(({ message, event }) => message
    ? [message.id, [message, state.ticket.contact_name], () => bubble(message)] : [event.id, event, () => line(event)]));
  if (atEnd) box.scrollTop = box.scrollHeight;
}

// what an agent must know of a message before believing it
const WARNINGS = ["unknown_sender", "unaligned", "several_senders", "sender_guessed", "forwarded_by_user", "incomplete", "encrypted", "html_too_large"];
// What scrolls: the thread, or on a narrow page the whole ticket.
const scroller = () => (getComputedStyle($("thread")).overflowY === "visible" ? $("ticket") : $("thread"));

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
    make("footer", {}, [clock(message.sent_at || message.created_at), status].filter(Boolean).join(" · ")),
    actions(message));
}

// What a person can do about a message of ours, by its status.
const ACTIONS = {
  queued: [["cancel", "Take back"]], held: [["cancel", "Take back"]], failed: [["retry", "Send again"]],
  unknown: [["retry", "Send again, perhaps twice"], ["leave", "Leave it"]],
};

function actions(message) {
  const known = message.direction === "outbound" && message.visibility !== "note" && ACTIONS[message.status];
  if (!known || !state.self?.permissions.includes("messages.write")) return null;
  const problem = make("span", { class: "error", role: "alert" });
  return make("div", { class: "actions" }, ...known.map(([action, title]) => make("button", {
    type: "button", class: "plain", onclick: async (clicked) => {
      clicked.target.disabled = true; // one decision, however often it is clicked
      problem.textContent = "";
      try {
        await call(`/messages/${message.id}/${action}`, { method: "POST" });
        await refreshTicket();
      } catch (error) {
        const remedy = error.problem?.verdicts?.[0]?.remedy;
        problem.textContent = [error instanceof Refused ? error.message : "no answer", remedy].filter(Boolean).join(" · ");
      } finally {
        clicked.target.disabled = false;
      }
    },
  }, title)), problem);
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
    load().then((url) => place.replaceChildren(make("img", { src: url, alt: name, onload: () => URL.revokeObjectURL(url) })),
      () => place.replaceChildren(name));
  } else {
    place.append(make("button", { type: "button", class: "plain", onclick: async () => {
      const url = await load().catch((error) => place.append(make("span", { class: "error" }, ` ${error.message}`)));
      if (!url) return;
      const link = make("a", { href: url, download: name });
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

// Each ticket has a draft of its own: what was half written is still there when one comes back.
function keepDraft() {
  if (!state.ticket) return;
  const kept = { text: $("text").value, visibility: $("visibility").value, then: $("then").value, files: state.files };
  state.drafts.set(state.ticket.id, kept);
}

function takeDraft() {
  const kept = state.drafts.get(state.ticket?.id) || { text: "", visibility: "", then: "", files: [] };
  for (const id of ["text", "visibility", "then"]) $(id).value = kept[id];
  state.files = kept.files;
  pendingKey = "";
  asked += 1;
  $("verdicts").replaceChildren();
  showFiles();
  showKind();
  if (worthSending()) ask();
}

const worthSending = () => $("text").value.trim() !== "" || state.files.length > 0;

// That a note is a note is seen before it is written, and on the button.
function showKind() {
  const note = $("visibility").value === "note";
  $("reply").classList.toggle("note", note);
  $("send").textContent = note ? "Add note" : "Send";
}

function addFiles(list) {
  for (const blob of list) {
    const entry = { name: blob.name, upload: "", problem: "" };
    const form = new FormData();
    form.append("file", blob, blob.name);
    entry.ready = call("/uploads", { method: "POST", body: form }).then((found) => { entry.upload = found.id; })
      .catch((error) => { entry.problem = error instanceof Refused ? error.message : "the upload broke off"; })
      .finally(() => { if (state.files.includes(entry)) touched(); });
    state.files = [...state.files, entry];
  }
  touched();
}

function showFiles() {
  $("attached").replaceChildren(...state.files.map((entry) => make("li", { class: entry.problem ? "deny" : "" },
    entry.name, entry.problem ? `: ${entry.problem}` : entry.upload ? "" : " …",
    make("button", { type: "button", class: "plain", "aria-label": `Remove ${entry.name}`, onclick: () => {
      state.files = state.files.filter((other) => other !== entry);
      touched();
      $("files").focus();
    } }, "✕"))));
}

// Something of the reply changed: it is another one from now on.
function touched() {
  pendingKey = "";
  showFiles();
  showKind();
  ask();
}

function draft() {
  const attachments = state.files.filter((entry) => entry.upload).map(({ upload, name }) => ({ upload, filename: name }));
  const body = { text: $("text").value, ...(attachments.length ? { attachments } : {}), ...(state.me ? {} : { author: { type: "agent", id: "console", name: "Console" } }) };
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
  if (!ticket || !worthSending()) return $("verdicts").replaceChildren();
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
  if (!ticket || !worthSending() || $("send").disabled) return;
  const here = () => state.ticket?.id === ticket.id; // another ticket may be chosen while the answer is on its way
  $("send").disabled = true;
  try {
    await Promise.all(state.files.map((entry) => entry.ready));
    if (!here()) return;
    if (state.files.some((entry) => entry.problem))
      return showVerdicts([{ rule: "attachments", decision: "deny", reason: "a file could not be uploaded", remedy: "remove it, or attach it again" }]);
    pendingKey ||= random(); // the same one again if the answer gets lost
    asked += 1;
    const body = draft();
    const files = state.files;
    await call(`/tickets/${ticket.id}/replies`, { method: "POST", body, headers: { "Idempotency-Key": pendingKey } });
    if (!here()) return sentElsewhere(ticket.id, body.text);
    pendingKey = "";
    if ($("text").value === body.text) $("text").value = "";
    $("then").value = "";
    if (state.files === files) state.files = [];
    showFiles();
    $("verdicts").replaceChildren();
  } catch (error) {
    if (!here()) return;
    if (!(error instanceof Refused)) return showVerdicts([{ rule: "connection", decision: "deny", reason: "no answer; sending again is safe" }]);
    pendingKey = "";
    showVerdicts(error.problem.verdicts || [{ rule: error.problem.code, decision: "deny", reason: error.message }], error.problem.alternatives);
  } finally {
    $("send").disabled = false;
  }
  await refreshTicket();
  if (here()) scroller().scrollTop = scroller().scrollHeight;
}

// What has been sent while another ticket was open is no draft any more.
function sentElsewhere(id, text) {
  if (state.drafts.get(id)?.text === text) state.drafts.delete(id);
}

// --- live events ---

const refreshList = later(150, async () => {
  showViews().catch(() => {});
  await loading; // else the page that was asked for would be passed over
  listTickets().catch(() => {});
});
const refreshSoon = later(100, refreshTicket);

function heard(type, data) {
  hearers.forEach((hearer) => hearer(type, data));
  if (type === "reset" || type.startsWith("ticket.") || type.startsWith("message.received") || type.startsWith("contact.")) refreshList();
  const contact = state.ticket?.contact_id;
  const concerned = contact && (data.ticket_id === state.ticket.id || data.contact_id === contact || data.merged_id === contact);
  if (type === "reset" || concerned) refreshSoon();
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
      if (!state.lastEvent) heard("reset", {}); // nothing tells what happened between the lists and now
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
  if (STEPS.test(lastPressed)) unapplied = changed.target; // an arrow passes values nobody means, "closed" among them
  else apply(changed.target);
});
let unapplied = null;
let lastPressed = "";
const STEPS = /^(Arrow|Page|Home|End|.$)/;

function apply(field) {
  unapplied = null;
  if (state.ticket && field?.name) changeTicket({ [field.name]: typed(field.name, field.value) });
}

$("properties").addEventListener("keydown", (pressed) => {
  lastPressed = pressed.target.tagName === "SELECT" ? pressed.key : "";
  if (pressed.key !== "Enter" || !unapplied) return;
  pressed.preventDefault(); // which would open its list
  apply(unapplied);
});
$("properties").addEventListener("pointerdown", () => { lastPressed = ""; });
$("properties").addEventListener("focusout", () => {
  lastPressed = "";
  if (unapplied) apply(unapplied);
});
$("take").addEventListener("click", () => state.ticket && changeTicket({ assignee: state.self.user_id }));
$("reply").addEventListener("submit", send);
for (const id of ["text", "visibility", "then"]) $(id).addEventListener("input", touched);
$("files").addEventListener("change", () => {
  addFiles($("files").files);
  $("files").value = "";
});
$("text").addEventListener("paste", (pasted) => {
  if (!pasted.clipboardData.files.length) return;
  pasted.preventDefault();
  addFiles(pasted.clipboardData.files);
});
$("back").addEventListener("click", backToList);
$("ticket").addEventListener("keydown", (pressed) => { if (pressed.key === "Escape") backToList(); });
$("text").addEventListener("keydown", (pressed) => {
  if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) $("reply").requestSubmit();
});

document.addEventListener("DOMContentLoaded", () => { // the other scripts are there by then
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) history.replaceState(null, "", location.pathname);
  remember(given || sessionStorage.getItem("gateway-key") || "");
  if (state.key) open();
  else resume();
});
