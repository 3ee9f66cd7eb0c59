// The live view in the browser. It puts html from the kernel into named places and sends the user's actions to the kernel.
// A piece is one element with a key, so that the kernel sends only changed pieces.

const QUIET_MS = 800; // Without an answer for this time, the kernel counts as busy.
const READ_MS = 3000; // An answer stays visible for at least this time.
const PREVIEW_MS = 150; // Shortest interval between two previews while a slider moves.

// --- shared state, once per model ---

class Shown {
  constructor(whole) {
    this.views = new Set();
    this.load(whole);
  }

  load({ n = 0, set = {}, order = {} }) {
    this.number = n;
    this.parts = new Map(Object.entries(set));
    this.orders = new Map(Object.entries(order));
  }

  // Return whether the message directly follows the last one.
  take({ n, set, order }) {
    if (n !== this.number + 1) return false;
    this.number = n;
    for (const [key, html] of Object.entries(set)) this.parts.set(key, html);
    for (const [name, keys] of Object.entries(order)) {
      for (const key of this.orders.get(name) ?? []) if (!keys.includes(key)) this.parts.delete(key);
      this.orders.set(name, keys);
    }
    return true;
  }
}

const all = new Map();

function initialize({ model }) {
  const shown = new Shown(model.get("whole") ?? {});
  all.set(model.get("ident"), shown);
  model.on("msg:custom", (message) => hear(model, shown, message));
  // Messages sent while this module was loading are lost, so request the whole page.
  model.send({ do: "hello" });
  return () => all.delete(model.get("ident"));
}

function hear(model, shown, message) {
  if ("n" in message) {
    const whole = message.whole === true;
    if (whole) shown.load(message);
    else if (!shown.take(message)) {
      if (message.n > shown.number) model.send({ do: "hello" }); // A message was lost.
      return;
    }
    const changed = whole ? null : message;
    const drawn = () => {
      for (const view of shown.views) view.draw(changed);
      model.send({ do: "drawn", n: message.n });
    };
    // A page in the background draws nothing, and must not delay other pages.
    if (document.visibilityState === "visible") requestAnimationFrame(drawn);
    else drawn();
    return;
  }
  for (const view of shown.views) view.told(message);
}

// --- one view ---

class View {
  constructor(model, el, shown) {
    this.model = model;
    this.shown = shown;
    this.asked = 0;
    this.answered = -Infinity; // performance.now() at the last answer
    this.waiting = new Map();
    this.sort = null;
    this.touched = new Set(); // Limits that were moved but not sent yet.
    this.root = document.createElement("section");
    this.root.className = "seer-study seer-live";
    this.root.setAttribute("aria-label", model.get("label"));
    this.root.dataset.model = model.get("ident");
    this.root.innerHTML = model.get("skeleton");
    el.append(this.root);
    this.places = new Map();
    this.lists = new Map();
    for (const place of this.root.querySelectorAll("[data-part]")) this.places.set(place.dataset.part, place);
    for (const list of this.root.querySelectorAll("[data-list]"))
      this.lists.set(list.dataset.list, { list, pieces: new Map() });
    this.listen();
    this.draw(null);
    this.select(model.get("selected"));
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  // --- drawing ---

  draw(changed) {
    const parts = changed ? Object.keys(changed.set) : [...this.shown.parts.keys()];
    for (const key of parts) {
      const place = this.places.get(key);
      if (key === "limits") this.limits(JSON.parse(this.shown.parts.get(key)));
      else if (place) this.put(place, this.shown.parts.get(key));
    }
    const touched = new Set(parts.map((key) => key.split("/", 1)[0]));
    const lists = changed ? [...Object.keys(changed.order), ...touched] : [...this.shown.orders.keys()];
    for (const name of new Set(lists)) if (this.lists.has(name)) this.arrange(name);
    this.mark();
  }

  // Keep the focus when a place is filled again.
  put(place, html) {
    if (place.innerHTML === html) return;
    const focus = place.contains(document.activeElement) ? key(document.activeElement) : null;
    place.innerHTML = html;
    if (focus) place.querySelector(focus)?.focus();
    if (place.dataset.part === "columns") this.showSort();
  }

  arrange(name) {
    const { list, pieces } = this.lists.get(name);
    const held = list.contains(document.activeElement);
    const keys = this.shown.orders.get(name) ?? [];
    const wanted = new Set(keys);
    for (const [key, { node }] of pieces)
      if (!wanted.has(key)) {
        node.remove();
        pieces.delete(key);
      }
    const nodes = keys.map((key) => this.piece(list, pieces, key)).filter(Boolean);
    const active = list.contains(document.activeElement) ? document.activeElement : null;
    const order = name === "rows" ? this.sorted(nodes) : nodes;
    let at = list.firstElementChild;
    for (const node of order) {
      if (node === at) at = at.nextElementSibling;
      else list.insertBefore(node, at);
    }
    if (!held || list.contains(document.activeElement)) return;
    // Keep the focus in a moved piece; move it to a neighbour of a removed piece.
    (active ?? list.closest("[tabindex]"))?.focus({ preventScroll: true });
  }

  piece(list, pieces, name) {
    const html = this.shown.parts.get(name);
    const known = pieces.get(name);
    if (known && known.html === html) return known.node;
    const holder = list.cloneNode(false);
    holder.innerHTML = html ?? "";
    const node = holder.firstElementChild;
    if (!node) return null;
    if (known) {
      const focus = known.node.contains(document.activeElement) ? key(document.activeElement) : null;
      known.node.replaceWith(node);
      if (focus) (node.matches(focus) ? node : node.querySelector(focus))?.focus();
    }
    pieces.set(name, { node, html });
    return node;
  }

  // --- the table ---

  sorted(rows) {
    if (!this.sort) return rows;
    const { key, down } = this.sort;
    const heads = [...this.places.get("columns").children].map((cell) => cell.dataset.key);
    const column = heads.indexOf(key);
    if (column < 0) return rows;
    const value = (row) => row.children[column].dataset.v ?? row.children[column].textContent;
    return [...rows].sort((a, b) => compare(value(a), value(b), down));
  }

  sortBy(key) {
    if (this.sort?.key !== key) this.sort = { key, down: false };
    else if (!this.sort.down) this.sort = { key, down: true };
    else this.sort = null;
    this.showSort();
    this.arrange("rows");
  }

  showSort() {
    for (const cell of this.places.get("columns").children) {
      if (this.sort && cell.dataset.key === this.sort.key)
        cell.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  // --- selection ---

  select(trial) {
    this.selected = trial ?? null;
    this.mark();
  }

  choose(trial) {
    const next = trial === this.selected ? null : trial;
    this.select(next);
    this.model.set("selected", next);
    this.model.save_changes();
    this.say(next === null ? "no trial is selected" : `trial ${next} is selected`);
  }

  mark() {
    const chosen = this.selected === null ? null : String(this.selected);
    this.root.classList.toggle("seer-choosing", chosen !== null);
    for (const node of this.root.querySelectorAll("[data-trial]")) {
      if (node.matches("button")) continue;
      node.classList.toggle("seer-chosen", node.dataset.trial === chosen);
      if (node.getAttribute("role") === "button")
        node.setAttribute("aria-pressed", String(node.dataset.trial === chosen));
    }
    for (const line of this.root.querySelectorAll(".seer-log li"))
      line.hidden = chosen !== null && line.dataset.trial !== chosen;
  }

  // --- controls ---

  limits(limits) {
    this.limit = limits;
    for (const [name, may] of Object.entries(limits.can)) {
      const button = this.find(`.seer-life [data-do=${name}]`);
      if (button) button.hidden = !may;
    }
    if (!limits.can.stop) this.really(false);
    this.find(".seer-kept").textContent = limits.kept;
    for (const name of ["budget", "deadline"]) {
      const { value, low, high } = limits[name];
      for (const input of this.root.querySelectorAll(`.seer-limits input[name=${name}]`)) {
        input.min = round(low, true);
        if (input.type === "range") input.max = high;
        if (!this.touched.has(name) && document.activeElement !== input) input.value = short(value);
        input.disabled = !limits.can.adjust;
      }
    }
    this.tellTime();
    this.buttons();
    this.root.classList.toggle("seer-late", limits.late);
    this.tellLate(limits.late);
  }

  tellLate(late) {
    // Do not replace an answer before it could be read; a later update shows the notice if it still applies.
    if (late && performance.now() - this.answered < READ_MS) return;
    if (late && !this.isLate) this.say("the notebook is computing: actions wait until the running cell is done");
    this.isLate = late;
  }

  buttons() {
    const moved = this.touched.size > 0;
    this.find("[data-do=apply]").disabled = !moved;
    const undo = this.find("[data-do=undo]");
    undo.disabled = !moved && !this.limit?.can.undo;
    undo.title = moved ? "reset the moved limits" : (this.limit?.undo ?? "");
  }

  moved(input) {
    const { name, value } = input;
    for (const other of this.root.querySelectorAll(`.seer-limits input[name=${name}]`))
      if (other !== input) other.value = input.type === "range" ? short(Number(value)) : value;
    if (input.type === "range") input.setAttribute("aria-valuetext", short(Number(value)));
    this.touched.add(name);
    this.tellTime();
    this.buttons();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.preview(), PREVIEW_MS);
  }

  // Show long deadlines in larger units.
  tellTime() {
    const seconds = Number(this.find(".seer-limits input[type=number][name=deadline]").value);
    this.find("output[data-of=deadline]").textContent = seconds >= 60 ? `= ${duration(seconds)}` : "";
  }

  wanted() {
    const value = (name) => Number(this.find(`.seer-limits input[type=number][name=${name}]`).value);
    // Send only moved limits, because sending a wall-clock deadline would turn it into seconds.
    return Object.fromEntries([...this.touched].map((name) => [name, value(name)]));
  }

  preview() {
    if (!this.touched.size) return;
    this.find(".seer-preview").textContent = "…";
    this.ask({ do: "preview", ...this.wanted() });
  }

  untouch() {
    clearTimeout(this.timer);
    this.touched.clear();
    this.find(".seer-preview").textContent = "";
    if (this.limit) this.limits(this.limit);
  }

  really(asked) {
    this.find(".seer-really").hidden = !asked;
    if (asked) this.find("[data-do=really]").focus();
  }

  // --- to and from the kernel ---

  ask(content) {
    const id = ++this.asked;
    this.model.send({ ...content, id });
    const timer = setTimeout(
      () => this.say("sent; the notebook is computing, so the action waits until the running cell is done"),
      QUIET_MS,
    );
    this.waiting.set(id, { timer, content });
  }

  told(message) {
    if ("preview" in message) {
      if (this.touched.size) this.find(".seer-preview").innerHTML = message.preview;
      return;
    }
    const sent = this.waiting.get(message.re);
    if (!sent) return;
    clearTimeout(sent.timer);
    this.waiting.delete(message.re);
    if (sent.content.do === "preview" && message.wrong) this.find(".seer-preview").textContent = message.said;
    else if (message.said) {
      this.answered = performance.now();
      this.say(message.said, message.wrong);
    }
    if (!message.wrong && (sent.content.do === "apply" || sent.content.do === "undo")) this.untouch();
  }

  say(text, wrong = false) {
    const line = this.find(".seer-said");
    line.textContent = wrong ? `⚠ ${text}` : text;
  }

  // --- user actions ---

  listen() {
    this.root.addEventListener("click", (event) => this.clicked(event));
    this.root.addEventListener("input", (event) => {
      if (event.target.closest(".seer-limits")) this.moved(event.target);
      if (event.target.name === "all_trials") {
        this.model.set("all_trials", event.target.checked);
        this.model.save_changes();
      }
    });
    this.root.addEventListener("keydown", (event) => {
      // The notebook's own keyboard shortcuts must not fire while the focus is in the live view.
      if (event.target.closest("button, input, select, summary, [tabindex]")) event.stopPropagation();
      if (event.target.matches("g[data-trial]") && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        this.choose(Number(event.target.dataset.trial));
      }
      if (event.key === "Escape" && this.selected !== null) this.choose(this.selected);
    });
    hover(this.root);
  }

  clicked(event) {
    const sort = event.target.closest("[data-sort]");
    if (sort) return this.sortBy(sort.closest("th").dataset.key);
    const button = event.target.closest("button[data-do]");
    if (button) return this.pressed(button);
    const trial = event.target.closest("[data-trial]");
    if (trial) this.choose(Number(trial.dataset.trial));
  }

  pressed(button) {
    const what = button.dataset.do;
    const trial = "trial" in button.dataset ? Number(button.dataset.trial) : undefined;
    if (what === "stop") return this.really(true);
    if (what === "go_on") return this.really(false);
    if (what === "select") return this.choose(trial);
    if (what === "why") return this.why(trial);
    if (what === "undo" && this.touched.size) return this.untouch();
    if (what === "really") {
      this.really(false);
      return this.ask({ do: "stop" });
    }
    if (what === "apply") return this.ask({ do: "apply", ...this.wanted() });
    if (what === "pin") return this.ask({ do: "pin", trial, pinned: button.getAttribute("aria-pressed") !== "true" });
    if (what === "export")
      return this.ask({ do: "export", table: this.find("[name=table]").value, format: this.find("[name=format]").value });
    this.ask(trial === undefined ? { do: what } : { do: what, trial });
  }

  why(trial) {
    if (this.selected !== trial) this.choose(trial);
    const log = this.find(".seer-log");
    log.open = true;
    log.querySelector("ol").focus();
  }

  gone() {
    this.shown.views.delete(this);
    clearTimeout(this.timer);
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
  }
}

// --- helpers ---

// Return a selector that finds the same control in a replaced element.
function key(node) {
  if (node.dataset.sort !== undefined) return `th[data-key="${node.closest("th").dataset.key}"] button`;
  const trial = node.dataset.trial === undefined ? "" : `[data-trial="${node.dataset.trial}"]`;
  if (node.dataset.do !== undefined) return `[data-do="${node.dataset.do}"]${trial}`;
  return trial ? `${node.tagName.toLowerCase()}${trial}` : null;
}

function compare(a, b, down) {
  if (a === "" || b === "") return (a === "") - (b === ""); // Missing values come last in either order.
  const [x, y] = [Number(a), Number(b)];
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  return down ? -order : order;
}

// Format a duration in its two largest units.
function duration(seconds) {
  const sizes = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = sizes.findIndex(([, size]) => seconds >= size);
  let left = Math.round(seconds);
  const words = [];
  for (const [word, size] of sizes.slice(Math.max(0, first), first + 2)) {
    if (left >= size) words.push(`${Math.floor(left / size)} ${word}`);
    left %= size;
  }
  return words.join(" ");
}

function short(value) {
  return String(Number(value.toPrecision(4)));
}

// Round to four digits, upwards.
function round(value) {
  const size = 10 ** (Math.floor(Math.log10(Math.max(value, 1e-9))) - 3);
  return String(Number((Math.ceil(value / size) * size).toPrecision(6)));
}

// Show the name of the curve under the pointer at once, because svg titles appear late.
function hover(root) {
  const tip = document.createElement("div");
  tip.className = "seer-tip";
  tip.hidden = true;
  root.append(tip);
  root.addEventListener("pointermove", (event) => {
    const curve = event.target.closest?.("svg g[data-trial]");
    tip.hidden = !curve;
    if (!curve) return;
    tip.textContent = curve.getAttribute("aria-label")?.replace("select ", "") ?? `trial ${curve.dataset.trial}`;
    const box = root.getBoundingClientRect();
    tip.style.left = `${event.clientX - box.left + 12}px`;
    tip.style.top = `${event.clientY - box.top + 12}px`;
  });
  root.addEventListener("pointerleave", () => (tip.hidden = true));
}

function render({ model, el }) {
  const shown = all.get(model.get("ident"));
  const view = new View(model, el, shown);
  shown.views.add(view);
  const selected = () => view.select(model.get("selected"));
  const every = () => (view.find("[name=all_trials]").checked = model.get("all_trials"));
  model.on("change:selected", selected);
  model.on("change:all_trials", every);
  every();
  return () => {
    model.off("change:selected", selected);
    model.off("change:all_trials", every);
    view.gone();
  };
}

export default { initialize, render };
