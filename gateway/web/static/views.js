// Views of one's own: made, looked at before they are kept, changed and removed. Beside `console.js`, whose tools it uses.
"use strict";

// Field -> its kind, kind -> what may be asked of it: what `gateway/conditions.py` says (a test compares them).
const FIELDS = {
  status: "choice", priority: "ranked", conversation_state: "choice", channel: "name", account: "name", via: "name",
  updated_via: "name", assignee: "user", group: "group", tags: "tags", vip: "flag", messaging: "flag",
  created_at: "moment", updated_at: "moment", solved_at: "moment", closed_at: "moment", subject: "line", text: "words",
};
const EQUALS = ["is", "is_not", "in", "not_in"];
const OPERATORS = {
  choice: EQUALS, ranked: [...EQUALS, "at_least", "at_most"], name: EQUALS, user: EQUALS, group: EQUALS,
  tags: ["has", "has_not"], moment: ["before", "after", "within_days", "older_than_days"], flag: ["is"],
  words: ["matches"], line: ["is", "is_not", "contains"], text: [...EQUALS, "is_set"],
  number: ["is", "is_not", "at_least", "at_most", "is_set"], date: ["is", "before", "after", "is_set"], checkbox: ["is"],
};
const LISTS = ["in", "not_in"];
const NUMBERS = ["within_days", "older_than_days"];
const KNOWN = {
  status: ["new", "open", "pending", "hold", "solved", "closed"], priority: ["low", "normal", "high", "urgent"],
  conversation_state: ["started", "replied"],
};
const editor = { view: null, custom: {} };

const words = (name) => name.replaceAll("_", " ");
const kindOf = (field) => FIELDS[field] || editor.custom[field] || "text";
const isFlag = (field, operator) => operator === "is_set" || ["flag", "checkbox"].includes(kindOf(field));
const choices = (values, chosen) => values.map((value) => make("option", { value, selected: value === chosen }, words(value)));

// What a field takes, for the list under its value.
function suggestions(field) {
  if (KNOWN[field]) return KNOWN[field];
  if (field === "assignee") return ["me", "none", ...state.people.values()];
  if (field === "group") return ["mine", "none", ...[...$("groups").options].map((option) => option.value)];
  return [];
}

function conditionRow({ field = "status", operator = "is", value = "" } = {}) {
  const row = make("li", { class: "condition" });
  const list = `suggested-${random()}`;
  const names = [...Object.keys(FIELDS), ...Object.keys(editor.custom)];
  const fields = make("select", { "aria-label": "Field", name: "field" }, ...choices(names, field));
  const operators = make("select", { "aria-label": "Operator", name: "operator" });
  const place = make("span", {});
  const shown = field === "assignee" ? [].concat(value).map(nameOf) : [].concat(value);
  const fill = (given) => {
    operators.replaceChildren(...choices(OPERATORS[kindOf(fields.value)], operators.value || operator));
    const flag = isFlag(fields.value, operators.value);
    const kind = NUMBERS.includes(operators.value) || kindOf(fields.value) === "number" ? "number" : "text";
    place.replaceChildren(flag
      ? make("select", { "aria-label": "Value", name: "value" }, ...choices(["true", "false"], given || "true"))
      : make("input", { "aria-label": "Value", name: "value", type: kind, step: "any", list, autocomplete: "off",
        placeholder: LISTS.includes(operators.value) ? "one, or several with commas" : null }),
    make("datalist", { id: list }, ...suggestions(fields.value).map((entry) => make("option", { value: entry }))));
    if (!flag) place.firstElementChild.value = given;
  };
  operators.append(...choices(OPERATORS[kindOf(field)], operator));
  fill(shown.join(", "));
  fields.addEventListener("change", () => { operators.replaceChildren(); operator = ""; fill(""); });
  operators.addEventListener("change", () => fill(place.firstElementChild.value));
  row.append(fields, operators, place, make("button", { type: "button", class: "plain", "aria-label": "Remove this condition",
    onclick: () => { const next = row.parentElement.parentElement.querySelector("[data-add]"); row.remove(); next.focus(); } }, "✕"));
  return row;
}

function readCondition(row) {
  const [field, operator, text] = ["field", "operator", "value"].map((name) => row.querySelector(`[name=${name}]`).value);
  const one = (word) => (field === "assignee" ? typed("assignee", word) : word.trim());
  if (isFlag(field, operator)) return { field, operator, value: text === "true" };
  if (NUMBERS.includes(operator) || kindOf(field) === "number") return { field, operator, value: text === "" ? null : Number(text) };
  if (LISTS.includes(operator)) return { field, operator, value: text.split(",").map(one).filter(Boolean) };
  return { field, operator, value: one(text) || "" };
}

const readConditions = () => Object.fromEntries(["all", "any"].map((name) =>
  [name, [...$(`conditions-${name}`).children].map(readCondition)]));

function readView() {
  const fields = $("view-form").elements;
  const sharing = fields.sharing.value;
  return {
    title: fields.title.value.trim(), conditions: readConditions(), sharing,
    sort: { by: fields.by.value, descending: fields.descending.checked },
    group: sharing === "group" ? fields.shared_with.value : null,
  };
}

// What was refused is told, and the condition it is about has the focus.
function viewRefused(error) {
  document.querySelectorAll(".condition").forEach((row) => row.classList.remove("deny"));
  $("view-problem").textContent = error.message;
  const found = /^conditions\.(all|any)\[(\d+)\](?:\.(\w+))?/.exec(error.problem?.field || "");
  const row = found && $(`conditions-${found[1]}`).children[Number(found[2])];
  if (!row) return;
  row.classList.add("deny");
  row.querySelector(`[name=${found[3] || "value"}]`)?.focus();
}

async function attempt(job) {
  $("view-problem").textContent = $("view-found").textContent = "";
  try {
    return await job();
  } catch (error) {
    viewRefused(error);
    return null;
  }
}

async function previewView() {
  const { conditions, sort } = readView();
  const found = await attempt(() => call("/views/preview", { method: "POST", body: { conditions, sort, limit: 5 } }));
  if (!found) return;
  const count = `${found.count}${found.exact ? "" : "+"} ${found.count === 1 ? "ticket" : "tickets"}`;
  $("view-found").textContent = [count, ...found.items.map((ticket) => `#${ticket.number} ${ticket.subject}`)].join(" · ");
}

async function saveView() {
  const path = editor.view ? `/views/${editor.view.id}` : "/views";
  const saved = await attempt(() => call(path, { method: editor.view ? "PATCH" : "POST", body: readView() }));
  if (!saved) return;
  $("view-editor").close();
  await showViews().catch(() => {});
  await chooseView(saved.id);
}

async function removeView() {
  const gone = await attempt(async () => { await call(`/views/${editor.view.id}`, { method: "DELETE" }); return true; });
  if (!gone) return;
  $("view-editor").close();
  await chooseView("open");
}

async function editView(view) {
  editor.view = view;
  const custom = await call("/ticket-fields").catch(() => ({ items: [] }));
  editor.custom = Object.fromEntries(custom.items.map((entry) => [`fields.${entry.name}`, entry.type === "choice" ? "text" : entry.type]));
  const fields = $("view-form").elements;
  $("view-heading").textContent = view ? `Edit “${view.title}”` : "New view";
  fields.title.value = view?.title || "";
  fields.by.value = view?.sort.by || "updated_at";
  fields.descending.checked = view?.sort.descending ?? true;
  fields.sharing.value = view?.sharing || "personal";
  fields.shared_with.replaceChildren(...choices([...$("groups").options].map((option) => option.value), view?.group));
  fields.sharing.disabled = !state.self?.permissions.includes("views.manage");
  shareWith();
  const given = view?.conditions || { all: [{ field: "status", operator: "is", value: "open" }], any: [] };
  for (const name of ["all", "any"]) $(`conditions-${name}`).replaceChildren(...given[name].map(conditionRow));
  $("view-remove").hidden = !view;
  $("view-problem").textContent = $("view-found").textContent = "";
  $("view-editor").showModal();
  fields.title.focus();
}

function shareWith() {
  const { sharing, shared_with: group } = $("view-form").elements;
  group.hidden = sharing.value !== "group";
}

// Whoever may write views makes them; the one that is shown can be edited where it is one's own.
function showEditing() {
  const may = state.self?.permissions.includes("views.write");
  const view = state.views.find((entry) => entry.id === state.view);
  $("view-new").hidden = !may;
  $("view-edit").hidden = !may || !view || view.built_in || !view.mine;
}

viewers.push(showEditing);
$("view-new").addEventListener("click", () => editView(null));
$("view-edit").addEventListener("click", () => editView(state.views.find((entry) => entry.id === state.view)));
$("view-form").elements.sharing.addEventListener("change", shareWith);
for (const button of document.querySelectorAll("[data-add]")) button.addEventListener("click", () => {
  const row = conditionRow();
  $(`conditions-${button.dataset.add}`).append(row);
  row.querySelector("select").focus();
});
$("view-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  saveView();
});
$("view-preview").addEventListener("click", previewView);
$("view-remove").addEventListener("click", removeView);
$("view-cancel").addEventListener("click", () => $("view-editor").close());
