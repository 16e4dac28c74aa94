"use strict";
// Everything that is shown goes into text nodes and attributes, never into markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = {};
  data.columns.forEach((column, number) => { at[column.key] = number; });
  const byId = id => document.getElementById(id);
  const PAGE = 50, PRINTED = 2000, NODES = 12, OBJECTS = 24;

  // A text is itself or its number, and nothing where the row ends before. An instant is seconds from the one before in its row, the first from that
  // of the report; from here on all are from that.
  for (const row of data.rows) {
    let before = 0;
    data.columns.forEach((column, number) => {
      row[number] ??= "";
      if (column.time && typeof row[number] === "number") before = row[number] += before;
    });
  }
  // A report without an audit log lacks its columns.
  const has = key => key in at;
  const text = (row, key) => {
    if (!has(key)) return "";
    const cell = row[at[key]];
    if (data.columns[at[key]].time) return typeof cell === "number" ? instant(cell) : cell;
    return typeof cell === "number" ? data.strings[cell] : cell;
  };
  const seconds = (row, key) => { const cell = row[at[key]]; return typeof cell === "number" ? cell : null; };
  const instant = s => new Date((data.at + s) * 1000).toISOString().replace(".000Z", "Z");

  const SHOWN = ["account", "name", "namespace", "state", "risk", "codes", "unused", "requests", "last_request", "from", "until", "ended", "requested_by", "reason"].filter(has);
  const HEADS = {name: "By", codes: "Codes", requested_by: "Requested by"};
  const RISKS = ["Critical", "High", "Medium", "Low", "Unknown"];
  const WAITING = ["New", "Scheduled", "Activating", "NotReady", "PendingApproval"];
  const REFUSED = ["Refused", "ApplyRefused", "Denied", "Unreadable"];
  const isRemoved = row => text(row, "change") === "removed";
  const isLive = row => !isRemoved(row) && ["Active", "Standing"].includes(text(row, "state"));
  const isAttempt = row => text(row, "record") === "attempt";
  const isOver = row => !isLive(row) && !isAttempt(row) && !WAITING.includes(text(row, "state"));
  const isUnused = row => !["", "nothing", "unknown"].includes(text(row, "unused"));
  const VIEWS = [
    ["", "everything", () => true],
    ["live", "what gives rights now", isLive],
    ["grants", "grants that give rights now", row => isLive(row) && text(row, "record") === "grant"],
    ["standing", "standing rights", row => text(row, "record") === "standing" && !isRemoved(row)],
    ["own", "standing rights, not Kubernetes' own", row => text(row, "record") === "standing" && !isRemoved(row) && !text(row, "note").includes("managed by Kubernetes")],
    ["waiting", "requests that wait", row => WAITING.includes(text(row, "state"))],
    ["refused", "requests that were refused", row => REFUSED.includes(text(row, "state"))],
    ["over", "grants that are over", row => text(row, "record") === "grant" && text(row, "ended") !== ""],
    ["residual", "over, and still there", row => text(row, "residual") !== ""],
    ["unused", "rights that were not used", row => isUnused(row) && !isRemoved(row)],
    ["idle", "what was not used at all", row => isUnused(row) && !isRemoved(row) && text(row, "requests") === "0"],
    ["attempts", "what accounts were refused", isAttempt],
    ["changes", "what has changed", row => text(row, "change") !== ""],
  ];

  const element = (name, content, attributes) => {
    const made = document.createElement(name);
    if (content !== undefined) made.textContent = content;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  };
  const drawn = (name, attributes, content) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (content !== undefined) made.textContent = content;
    return made;
  };
  const cut = (content, length) => content.length > length ? content.slice(0, length - 1) + "…" : content;

  // The whole of a row in small letters, made when somebody searches for the first time.
  const searched = new Map();
  const haystack = row => {
    let found = searched.get(row);
    if (found === undefined) {
      found = data.columns.map(column => text(row, column.key)).join("\n").toLowerCase();
      searched.set(row, found);
    }
    return found;
  };

  const state = {rows: data.rows, page: 0, sort: null, down: false};

  const chosen = () => ["search", "show", "namespace", "risk", "account"].map(id => byId(id).value).join("\n");

  const filter = () => {
    state.chosen = chosen();
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(word => word);
    const view = VIEWS.find(([key]) => key === byId("show").value)[2];
    const namespace = byId("namespace").value, risk = byId("risk").value, account = byId("account").value.trim();
    state.rows = data.rows.filter(row =>
      view(row)
      && (namespace === "" || (namespace === "*" ? text(row, "namespace") === "" : text(row, "namespace") === namespace))
      && (risk === "" || text(row, "risk") === risk)
      && text(row, "account").includes(account)
      && words.every(word => haystack(row).includes(word)));
    if (state.sort) {
      const key = state.sort, sign = state.down ? -1 : 1, time = data.columns[at[key]].time;
      // What has no value comes last in either direction.
      const value = row => time ? seconds(row, key) : key === "risk" ? RISKS.indexOf(text(row, key)) : key === "requests" && text(row, key) !== "" ? Number(text(row, key)) : text(row, key);
      const missing = value => value === null || value === "" || value === -1;
      const pairs = state.rows.map(row => [value(row), row]);
      pairs.sort(([a], [b]) => missing(a) || missing(b) ? missing(a) - missing(b) : a < b ? -sign : a > b ? sign : 0);
      state.rows = pairs.map(pair => pair[1]);
    }
    state.page = 0;
    render(PAGE);
  };

  const row = one => {
    const made = element("tr");
    if (isRemoved(one) || isOver(one)) made.className = "over";
    for (const key of SHOWN) {
      const content = text(one, key);
      if (key === "account") {
        const cell = element("th", undefined, {scope: "row"});
        const button = element("button", content || "unknown", {type: "button"});
        button.addEventListener("click", () => choose(one));
        cell.append(button);
        made.append(cell);
        continue;
      }
      const time = data.columns[at[key]].time;
      const cell = element("td", time ? content.replace("T", " ") : content);
      if (key === "name" && isAttempt(one)) cell.textContent = [text(one, "verb"), text(one, "resource"), text(one, "object")].join(" ");
      if (key === "name") cell.append(element("br"), element("small", isAttempt(one) ? "refused" : text(one, "kind")));
      if (key === "unused") cell.textContent = cut(content, 120);
      if (key === "unused" && text(one, "log_covers")) cell.append(element("br"), element("small", "log covers " + text(one, "log_covers")));
      if (time) cell.className = "when";
      if (key === "risk") cell.className = RISKS.includes(content) ? content : "";
      if (key === "state" && text(one, "change")) cell.append(element("br"), element("small", cut(text(one, "change"), 120)));
      if (key === "ended" && text(one, "end_reason")) cell.append(element("br"), element("small", text(one, "end_reason")));
      if (key === "ended" && text(one, "residual")) cell.append(element("br"), element("span", "still there", {class: "residual"}));
      if (key === "reason" && text(one, "ticket")) cell.append(element("br"), element("small", text(one, "ticket")));
      made.append(cell);
    }
    return made;
  };

  const render = size => {
    const all = state.rows.length, first = state.page * PAGE, shown = state.rows.slice(first, first + size);
    byId("count").textContent = all + " of " + data.rows.length + " rows";
    document.querySelector("#rows tbody").replaceChildren(...shown.map(row));
    const last = Math.max(0, Math.ceil(all / PAGE) - 1);
    byId("page").textContent = "Page " + (state.page + 1) + " of " + (last + 1);
    byId("before").disabled = state.page === 0;
    byId("after").disabled = state.page >= last;
    for (const head of document.querySelectorAll("#rows thead th")) {
      const sorted = head.dataset.key === state.sort;
      head.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
    }
    timeline(shown.slice(0, PAGE));
  };

  // One bar for each row that has begun: from its beginning to its end, or to now.
  const timeline = rows => {
    const bars = rows.filter(row => seconds(row, "from") !== null).map(row => {
      const from = seconds(row, "from");
      const end = seconds(row, "ended") ?? seconds(row, "until");
      return {row, from, to: Math.max(from, end ?? 0), open: end === null};
    });
    if (bars.length === 0) return byId("timeline").replaceChildren(element("p", "Nothing here has begun."));
    const low = Math.min(...bars.map(bar => bar.from)), high = Math.max(0, ...bars.map(bar => bar.to));
    const width = 1100, left = 330, height = 14, top = 22, span = Math.max(1, high - low);
    const x = s => left + (s - low) / span * (width - left - 20);
    const svg = drawn("svg", {
      viewBox: "0 0 " + width + " " + (top + bars.length * height + 6), width, role: "img",
      "aria-label": "When the rights of this page began and ended; the table says the same",
    });
    for (let step = 0; step <= 3; step++) {
      const s = low + span * step / 3;
      svg.append(drawn("line", {class: "axis", x1: x(s), x2: x(s), y1: top - 4, y2: top + bars.length * height}));
      svg.append(drawn("text", {class: "faint", x: x(s), y: 12, "text-anchor": step === 3 ? "end" : "start"}, instant(Math.round(s)).slice(0, 16).replace("T", " ")));
    }
    bars.forEach((bar, number) => {
      const y = top + number * height, wide = Math.max(2, x(bar.to) - x(bar.from));
      const kind = isLive(bar.row) ? text(bar.row, "risk") : "ended";
      svg.append(drawn("text", {x: 0, y: y + 10}, cut(text(bar.row, "account") + " · " + text(bar.row, "name"), 50)));
      const rect = drawn("rect", {class: "bar " + (RISKS.includes(kind) || kind === "ended" ? kind : "Unknown"), x: x(bar.from), y: y + 2, width: wide, height: height - 5, rx: 2});
      const until = text(bar.row, "ended") || text(bar.row, "until") || "no end";
      rect.append(drawn("title", {}, text(bar.row, "name") + ": " + text(bar.row, "from") + " to " + until));
      svg.append(rect);
    });
    svg.append(drawn("line", {class: "now", x1: x(0), x2: x(0), y1: top - 6, y2: top + bars.length * height + 6}));
    byId("timeline").replaceChildren(svg);
  };

  // Everything that one account holds or held: account, what gives it, role, objects. Bounded.
  const graph = account => {
    const all = data.rows.filter(row => text(row, "account") === account && !isRemoved(row) && !isAttempt(row));
    all.sort((a, b) => isLive(b) - isLive(a));
    const bounded = (list, most) => list.length > most ? [...list.slice(0, most - 1), null] : list;
    const more = (list, most) => "and " + (list.length - most + 1) + " more";
    const columns = [[], [], [], []], edges = [];
    const node = (column, key, label, gone) => {
      let found = columns[column].find(node => node.key === key);
      if (!found) columns[column].push(found = {key, label, gone, column});
      return found;
    };
    const join = (from, to, gone) => { if (!edges.some(edge => edge.from === from && edge.to === to)) edges.push({from, to, gone}); };
    const self = node(0, account, account, false);
    for (const row of bounded(all, NODES)) {
      if (row === null) { join(self, node(1, " more", more(all, NODES), true), true); continue; }
      const gone = !isLive(row);
      const by = node(1, "by " + all.indexOf(row), text(row, "kind") + " " + text(row, "name") + " (" + text(row, "state") + ")", gone);
      join(self, by, gone);
      const role = text(row, "role") || "rights of its own";
      const given = node(2, text(row, "role") ? "role " + text(row, "namespace") + " " + role : "own " + all.indexOf(row), role, gone);
      join(by, given, gone);
      const objects = text(row, "rights").split("; ").filter(right => right);
      for (const right of objects) {
        if (columns[3].length < OBJECTS || columns[3].some(node => node.key === right)) join(given, node(3, right, right, gone), gone);
        else { join(given, node(3, " more", "and more", true), gone); break; }
      }
    }
    const width = 1180, high = 26, wide = [200, 300, 250, 340], left = [0, 230, 560, 840];
    const height = Math.max(...columns.map(column => column.length)) * high + 24;
    const place = (node, number) => { node.x = left[node.column]; node.y = 22 + number * high; };
    columns.forEach(column => column.forEach(place));
    const svg = drawn("svg", {viewBox: "0 0 " + width + " " + height, width, role: "img", "aria-label": "What " + account + " holds: " + all.length + " grants and bindings; the table says the same"});
    ["Account", "Grant or binding", "Role", "Rights on objects"].forEach((head, column) => svg.append(drawn("text", {class: "faint", x: left[column], y: 12}, head)));
    for (const {from, to, gone} of edges) {
      const x1 = from.x + wide[from.column], y1 = from.y + 10, x2 = to.x, y2 = to.y + 10, middle = (x1 + x2) / 2;
      svg.append(drawn("path", {class: gone ? "edge gone" : "edge", d: "M" + x1 + " " + y1 + "C" + middle + " " + y1 + " " + middle + " " + y2 + " " + x2 + " " + y2}));
    }
    for (const node of columns.flat()) {
      const box = drawn("g", {});
      box.append(drawn("rect", {class: node.gone ? "node gone" : "node", x: node.x, y: node.y, width: wide[node.column], height: 20, rx: 3}));
      box.append(drawn("text", {x: node.x + 6, y: node.y + 14}, cut(node.label, Math.floor(wide[node.column] / 6.6))));
      box.append(drawn("title", {}, node.label));
      svg.append(box);
    }
    byId("graph").replaceChildren(svg);
  };

  const choose = row => {
    const account = text(row, "account");
    const what = isAttempt(row) ? "refused " + text(row, "verb") + " " + text(row, "resource") : text(row, "kind") + " " + text(row, "name");
    byId("chosen-head").textContent = account + ": " + what;
    graph(account);
    const told = data.columns.filter(column => text(row, column.key) !== "");
    byId("details").replaceChildren(...told.flatMap(column => [element("dt", column.head), element("dd", text(row, column.key))]));
    byId("chosen").hidden = false;
    byId("chosen").focus();
  };

  const options = (id, pairs) => byId(id).replaceChildren(...pairs.map(([value, label]) => element("option", label, {value})));
  const distinct = key => [...new Set(data.rows.map(row => text(row, key)))].filter(value => value).sort();
  options("show", VIEWS.filter(([key, , view]) => !["changes", "residual", "unused", "idle", "attempts"].includes(key) || data.rows.some(view)).map(([key, label]) => [key, label]));
  options("namespace", [["", "all"], ["*", "the whole cluster"], ...distinct("namespace").map(name => [name, name])]);
  options("risk", [["", "any"], ...RISKS.map(risk => [risk, risk])]);
  byId("accounts").append(...distinct("account").slice(0, 1000).map(account => element("option", undefined, {value: account})));
  for (const key of SHOWN) {
    const head = element("th", undefined, {scope: "col", "data-key": key, "aria-sort": "none"});
    const button = element("button", HEADS[key] || data.columns[at[key]].head, {type: "button"});
    button.addEventListener("click", () => {
      state.down = state.sort === key && !state.down;
      state.sort = key;
      filter();
    });
    head.append(button);
    document.querySelector("#rows thead tr").append(head);
  }

  const form = document.querySelector(".filters");
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", filter);
  // Of a choice that a program makes, as with assistive technology, this alone may tell. It also comes when a field is left: rows that were made anew
  // then would take the click that left it.
  form.addEventListener("change", () => { if (chosen() !== state.chosen) filter(); });
  form.addEventListener("reset", () => { state.sort = null; setTimeout(filter); });
  byId("close").addEventListener("click", () => { byId("chosen").hidden = true; byId("search").focus(); });
  const turn = by => { state.page += by; render(PAGE); };
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));
  // On paper there is no next page to turn to.
  addEventListener("beforeprint", () => { state.page = 0; render(PRINTED); });
  addEventListener("afterprint", () => render(PAGE));
  filter();
})();
