// Conflicts: contacts that match and contradict each other, for a person to decide. Beside `console.js`, whose tools it uses.
"use strict";

const conflicts = { items: [], more: false, busy: false };

const mayDecide = () => state.self?.permissions.includes("contacts.write");

// How many wait stands in the header. Whoever sees some of the accounts only is not asked.
async function countConflicts() {
  const seesAll = state.self && state.self.accounts.length === 0 && state.self.permissions.includes("contacts.read");
  if (!seesAll) return void ($("decide").hidden = true);
  const page = await call("/conflicts?limit=50");
  conflicts.items = page.items;
  conflicts.more = page.next !== null;
  $("decide").hidden = conflicts.items.length === 0 && !$("conflicts").open;
  $("decide").textContent = `Conflicts ${conflicts.items.length}${conflicts.more ? "+" : ""}`;
  if ($("conflicts").open) await showConflicts();
}

async function showConflicts() {
  const people = new Map();
  const wanted = [...new Set(conflicts.items.flatMap((conflict) => conflict.contact_ids))];
  await Promise.all(wanted.map(async (id) => {
    people.set(id, await call(`/contacts/${id}`).catch(() => ({ id, name: "", identities: [], attributes: {} })));
  }));
  arrange($("conflict-list"), conflicts.items.map((conflict) => {
    const both = conflict.contact_ids.map((id) => people.get(id));
    return [conflict.id, [conflict, both], () => asked(conflict, both)];
  }));
  $("conflict-none").hidden = conflicts.items.length > 0;

  function asked(conflict, both) {
    return make("li", { "data-conflict": conflict.id },
      make("p", {}, `Both have the ${conflict.attribute} ${conflict.value}. ${conflict.reason}`),
      make("div", { class: "pair" }, ...both.map(person)),
      mayDecide() ? make("div", { class: "row" }, ...both.map((contact) => make("button", {
        type: "button", onclick: () => decide(conflict, "merge", { into: contact.id }),
      }, `One person: ${called(contact)}${called(both[0]) === called(both[1]) ? `, ${way(contact)}` : ""}`)), make("button", {
        type: "button", class: "plain", onclick: () => decide(conflict, "keep_apart"),
      }, "Two persons")) : null);
  }
}

const called = (contact) => contact.name || contact.identities[0]?.handle || contact.identities[0]?.external_id || "somebody";

const way = ({ identities: [first] }) => (first ? `${first.channel} ${first.handle || first.external_id}` : "without an address");

function person(contact) {
  const facts = Object.entries(contact.attributes).map(([name, value]) => `${name}: ${[].concat(value).join(", ")}`);
  const ways = contact.identities.map((identity) => `${identity.channel} ${identity.handle || identity.external_id}`);
  const since = contact.created_at ? [`since ${clock(contact.created_at)}`] : [];
  return make("section", {}, make("h3", {}, called(contact)),
    make("ul", {}, ...[...ways, ...facts, ...since].map((fact) => make("li", {}, fact))));
}

async function decide(conflict, how, body) {
  if (conflicts.busy) return;
  conflicts.busy = true;
  $("conflict-problem").textContent = "";
  try {
    await call(`/conflicts/${conflict.id}/${how}`, { method: "POST", body });
    $("conflict-done").textContent = how === "merge" ? "They are one person now." : "They stay two persons.";
  } catch (error) {
    $("conflict-problem").textContent = error.message; // somebody else was faster, perhaps: the list says what is left
  } finally {
    conflicts.busy = false;
  }
  await countConflicts().catch(() => {});
  if (!$("conflicts").contains(document.activeElement)) $("conflicts-close").focus();
}

const countSoon = later(200, () => countConflicts().catch(() => {}));
hearers.push((type) => { if (type === "reset" || type.startsWith("contact.")) countSoon(); });
openers.push(countSoon);
$("decide").addEventListener("click", () => {
  $("conflict-problem").textContent = $("conflict-done").textContent = "";
  $("conflicts").showModal();
  showConflicts();
});
$("conflicts-close").addEventListener("click", () => $("conflicts").close());
$("conflicts").addEventListener("close", countSoon);
