// Lays out a run's report as a page, with the charts of charts.js, which comes before it.

// ---- Pieces of a page ------------------------------------------------------------------------------

const report = JSON.parse(document.getElementById("report").textContent);
const page = document.getElementById("page");
const sum = (counts) => Object.values(counts).reduce((total, value) => total + value, 0);
const largestFirst = (counts) => Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
const words = (code) => code.replaceAll("_", " ");

function card(title, note, ...content) {
  const heading = element("header", {}, element("h2", {}, title), note ? element("span", { class: "soft" }, note) : null);
  return element("section", { class: "card" }, heading, content);
}

/** A table; a column's name starts with `#` where it holds numbers, with `$` where profit and loss. */
function table(columns, rows) {
  const numeric = columns.map((name) => /^[#$]/.test(name));
  const head = columns.map((name, at) => element("th", numeric[at] ? { class: "number" } : {}, name.replace(/^[#$]/, "")));
  const body = rows.map((row) => element("tr", {}, row.map((cell, at) => {
    const loss = columns[at].startsWith("$") && String(cell).startsWith("-");
    return element("td", { class: (numeric[at] ? "number" : "") + (loss ? " loss" : "") }, String(cell));
  })));
  const titles = columns.some((name) => /[^#$]/.test(name)) ? element("thead", {}, element("tr", {}, head)) : null;
  return element("div", { class: "scroll" }, element("table", {}, titles, element("tbody", {}, body)));
}

/** Horizontal bars, largest first. */
function bars(counts, whole, none) {
  const entries = largestFirst(counts).filter((entry) => entry[1] > 0);
  if (entries.length === 0) return element("p", { class: "soft" }, none);
  const most = entries[0][1];
  return element("div", { class: "bars" }, entries.map(([name, value]) => [
    element("span", { class: "name" }, words(name)),
    element("div", {}, element("div", { class: "bar", style: { width: (100 * value) / most + "%" } })),
    element("span", { class: "value" }, count(value)),
    element("span", { class: "value soft" }, percent(value, whole)),
  ]));
}

/** A select box that calls `chosen` with an index, at once for the first. */
function choice(names, label, chosen) {
  const select = element("select", { "aria-label": label }, names.map((name, at) => element("option", { value: at }, name)));
  select.addEventListener("change", () => chosen(Number(select.value)));
  return select;
}

// ---- Sections ----------------------------------------------------------------------------------------

function head() {
  const nodes = report.nodes === 1 ? "1 node" : report.nodes + " nodes";
  const broken = [];
  const rejected = sum(report.ticks_rejected);
  if (report.ticks_in !== report.ticks_clean + rejected) {
    broken.push(`${count(report.ticks_in)} rows came in, but ${count(report.ticks_clean)} clean and ${count(rejected)} rejected do not add up to that`);
  }
  if (report.lost_ticks !== 0) broken.push(`${count(report.lost_ticks)} rows lost`);
  if (report.duplicate_orders !== 0) broken.push(`${count(report.duplicate_orders)} orders placed twice`);
  for (const fault of report.chaos) if (!fault.fired) broken.push(`the fault ${fault.spec} never happened`);
  const time = report.data_from_ns === null || report.data_to_ns === null ? null :
    `Market time ${dateTime(millis(report.data_from_ns))} to ${dateTime(millis(report.data_to_ns))} UTC`;
  page.append(element("header", {},
    element("h1", {}, "Tickwright run report"),
    element("p", { class: "soft" }, [time, nodes, `${grouped(report.duration_seconds, 2)} s`, `seed ${report.seed}`,
      report.resumed ? "resumed" : null, `version ${report.version}`].filter(Boolean).join(" · ")),
    element("p", { class: broken.length > 0 ? "verdict bad" : "verdict" },
      broken.length > 0 ? "Broken: " + broken.join("; ") : "✓ No row lost, no order placed twice")));
}

function tiles() {
  const tile = (value, name) => element("div", { class: "tile" }, element("b", {}, value), element("span", { class: "soft" }, name));
  const rejected = sum(report.ticks_rejected);
  page.append(element("div", { class: "tiles" },
    Object.entries(report.equity).slice(0, 4).map(([currency, { performance }]) => tile(money(performance.net), `net profit, ${currency}`)),
    tile(count(report.ticks_in), "rows in"),
    tile(percent(rejected, report.ticks_in) || "0", "of rows rejected"),
    tile(count(report.signals), "signals"),
    tile(count(report.orders.approved), "orders approved"),
    tile(count(report.fills), "fills"),
    tile(count(report.ticks_per_second), "rows per second"),
    report.latency_us.max > 0 ? tile(latency(report.latency_us.p50), "row to order, p50") : null,
    report.latency_us.max > 0 ? tile(latency(report.latency_us.p99), "row to order, p99") : null));
}

function equity() {
  const currencies = Object.keys(report.equity).filter((currency) => report.equity[currency].samples.length > 0);
  if (currencies.length === 0) return;
  currencies.sort((a, b) => report.equity[b].performance.trades_closed - report.equity[a].performance.trades_closed);
  const [above, below] = [element("div"), element("div")];
  const facts = element("div", { class: "legend" });
  const group = [];
  const curve = { line: "line", area: "area", base: 0, format: money, group };
  const section = card("Equity and drawdown", "after fees · drag to zoom, double click for all");
  page.append(section);
  section.append(above, below, facts);
  const equityChart = new TimeChart(above, { ...curve, height: 260, unit: "", name: "Equity" });
  const fallChart = new TimeChart(below, { ...curve, line: "loss", area: "loss-area", height: 150, unit: "", name: "Drawdown" });
  const chosen = (at) => {
    const currency = currencies[at];
    const { samples, performance } = report.equity[currency];
    const points = samples.map((sample) => ({ x: millis(sample.time_ns), y: Number(sample.equity) }));
    let peak = 0;
    const falls = points.map(({ x, y }) => ({ x, y: y - (peak = Math.max(peak, y)) }));
    equityChart.set(points, [], `Equity, ${currency}`);
    fallChart.set(falls, [], `Drawdown, ${currency}`);
    facts.replaceChildren(...performanceFacts(performance, currency).map((fact) => element("span", {}, fact)));
  };
  if (currencies.length > 1) section.querySelector("h2").after(choice(currencies, "Currency", chosen));
  chosen(0);
}

function performanceFacts(measured, currency) {
  const optional = (value, text) => (value === null ? null : text(value));
  return [
    `Net ${money(measured.net)} ${currency}`,
    `Largest drawdown ${money(measured.drawdown_max)} ${currency}`,
    measured.sharpe_annualised === null
      ? optional(measured.sharpe, (value) => `Sharpe ${grouped(value, 3)} a sample, of ${count(measured.returns)}`)
      : `Sharpe ${grouped(measured.sharpe_annualised, 2)} a year, from ${count(measured.returns)} samples`,
    measured.sortino_annualised === null
      ? optional(measured.sortino, (value) => `Sortino ${grouped(value, 3)} a sample`)
      : `Sortino ${grouped(measured.sortino_annualised, 2)} a year`,
    optional(measured.profit_rate, (value) => `Profit rate ${grouped(100 * value, 2)} % of the most that was held`),
    optional(measured.total_return, (value) => `Total return ${grouped(100 * value, 2)} %`),
    Number(measured.turnover) > 0 ? `Turnover ${money(measured.turnover)} ${currency}` : null,
    optional(measured.win_rate, (value) => `${grouped(100 * value, 1)} % of ${count(measured.trades_closed)} closing trades won`),
    optional(measured.profit_factor, (value) => `Profit factor ${grouped(value, 2)}`),
  ].filter(Boolean);
}

function prices() {
  if (report.charts.length === 0) return;
  const host = element("div");
  const note = element("span", { class: "soft" });
  const section = card("Price and orders", null);
  page.append(section);
  section.querySelector("header").append(note);
  const key = (buy, filled, text) => {
    const sample = element("span", { style: { color: colour(buy ? "buy" : "sell") } }, buy ? (filled ? "▲" : "△") : filled ? "▼" : "▽");
    return element("span", {}, sample, " " + text);
  };
  section.append(host, element("div", { class: "legend" },
    key(true, true, "buy"), key(false, true, "sell"), key(true, false, "hollow: nothing traded"), "the tip is at the order's limit"));
  const chart = new TimeChart(host, { height: 340, unit: "", line: "price", format: price, name: "Price" });
  const chosen = (at) => {
    const { symbol, currency, orders_total, prices, orders } = report.charts[at];
    const marks = orders.map((order) => ({
      x: millis(order.time_ns), y: order.price, buy: order.side === "Buy", filled: order.filled > 0,
      text: `${order.side} ${quantity(order.quantity)} at ${price(order.price)}, ${order.filled > 0 ? quantity(order.filled) + " traded" : "nothing traded"}`,
    }));
    chart.set(prices.map((sample) => ({ x: millis(sample.time_ns), y: sample.price })), marks, `Price of ${symbol}, ${currency}`);
    note.textContent = orders.length < orders_total
      ? `${count(orders.length)} of ${count(orders_total)} orders shown, evenly chosen`
      : `${count(orders_total)} orders`;
  };
  const names = report.charts.map((each) => `${each.symbol} (${count(each.orders_total)} orders)`);
  section.querySelector("h2").after(choice(names, "Symbol", chosen));
  chosen(0);
}

function rejections() {
  const rows = card("Rows rejected by the cleaner", `${count(sum(report.ticks_rejected))} of ${count(report.ticks_in)} rows`,
    bars(report.ticks_rejected, report.ticks_in, "None."));
  const denied = card("Signals denied by risk", `${count(sum(report.orders.rejected))} of ${count(report.signals)} signals`,
    bars(report.orders.rejected, report.signals, "None."));
  for (const section of [rows, denied]) section.classList.add("half");
  page.append(rows, denied);
}

function latencies() {
  if (report.latency_buckets.length === 0) return;
  const host = element("div");
  const total = report.latency_buckets.reduce((all, bucket) => all + bucket.count, 0);
  page.append(card("Latency from row to order", `${count(total)} orders`, host));
  new LatencyChart(host, report.latency_buckets, report.latency_us);
}

function profit() {
  const measure = (currency) => (report.equity[currency] || { performance: null }).performance;
  const or = (value, text) => (value === null || value === undefined ? "–" : text(value));
  const rows = Object.entries(report.pnl).map(([currency, { realised, unrealised }]) => {
    const measured = measure(currency) || {};
    const fees = report.fees[currency] || "0";
    return [currency, money(realised), money(unrealised), money(fees), money(Number(realised) + Number(unrealised) - Number(fees)),
      or(measured.drawdown_max, money), or(measured.sharpe_annualised, (value) => grouped(value, 2)),
      or(measured.win_rate, (value) => grouped(100 * value, 1) + " %"), or(measured.profit_factor, (value) => grouped(value, 2))];
  });
  if (rows.length === 0) return;
  page.append(card("Profit and loss", null, table(["Currency", "$Realised", "$Unrealised", "#Fees", "$Net", "#Drawdown", "#Sharpe a year", "#Wins", "#Profit factor"], rows)));
}

function positions() {
  const held = report.positions.slice().sort((a, b) => Number(b.value) - Number(a.value) || Math.abs(b.realised) - Math.abs(a.realised));
  if (held.length === 0) return;
  const shown = held.slice(0, 100);
  page.append(card("Positions", held.length > 100 ? `the largest 100 of ${count(held.length)}` : null, table(
    ["Symbol", "Account", "#Quantity", "#Average", "#Mark", "#Value", "$Unrealised", "$Realised", "#Fees", "Currency"],
    shown.map((each) => [each.symbol, each.account, quantity(each.quantity), each.average_price === null ? "" : price(each.average_price),
      each.mark === null ? "" : price(each.mark), money(each.value), money(each.unrealised), money(each.realised), money(each.fees), each.currency]))));
}

function summaryTable() {
  const { orders } = report;
  const rows = [
    ["Rows in", count(report.ticks_in)], ["Rows clean", count(report.ticks_clean)], ["Rows rejected", count(sum(report.ticks_rejected))],
    ["Rows lost", count(report.lost_ticks)], ["Factor values", count(report.factors)], ["Signals", count(report.signals)],
    ["Orders denied by risk", count(sum(orders.rejected))], ["Orders approved", count(orders.approved)], ["Orders placed", count(orders.placed)],
    ["Orders filled whole", count(orders.filled)], ["Orders with unknown outcome", count(orders.unknown)], ["Orders placed twice", count(report.duplicate_orders)],
    ["Fills", count(report.fills)], ["Rows per second", count(report.ticks_per_second)],
    ["Memory, at most", bytes(report.peak_rss_bytes)], ["Restarts", count(report.restarts)], ["Failovers", count(report.failovers)],
  ];
  const section = card("Summary", null, table(["", "#"], rows));
  section.classList.add("half");
  page.append(section);
}

function changes() {
  const all = report.parameter_changes ?? [];
  if (all.length === 0) return;
  const time = (nanos) => new Date(millis(nanos)).toISOString().replace("T", " ").replace("Z", "");
  page.append(card("Parameters changed", "event times, UTC", table(["From", "Strategy", "Parameters", "By", "Why"],
    all.map((each) => [time(each.from_ns), each.strategy,
      Object.entries(each.parameters).map(([name, value]) => `${name} ${value}`).join(", "), each.by, each.why]))));
}

function running() {
  const section = card("Nodes, brokers, faults", null);
  section.classList.add("half");
  if (report.brokers.length > 0) {
    section.append(element("h3", {}, "Brokers"), table(["Broker", "#Placed", "#Fills", "#Switched away", "Refused"],
      report.brokers.map((each) => [each.name, count(each.placed), count(each.fills), count(each.failovers),
        largestFirst(each.refused).map(([reason, value]) => `${words(reason)} ${count(value)}`).join(", ")])));
  }
  const nodes = Object.entries(report.rss_by_node);
  if (nodes.length > 0) section.append(element("h3", {}, "Memory by node"), table(["Node", "#At most"], nodes.map(([node, rss]) => [node, bytes(rss)])));
  const restarts = largestFirst(report.restarts_by_actor);
  if (restarts.length > 0) section.append(element("h3", {}, "Restarts by actor"), table(["Actor", "#Restarts"], restarts.map(([actor, value]) => [actor, count(value)])));
  if (report.chaos.length > 0) {
    section.append(element("h3", {}, "Faults injected"), table(["Fault", "Outcome"], report.chaos.map((each) => [each.spec, each.fired ? "fired" : "never happened"])));
  }
  section.append(element("h3", {}, "Order digest"), element("code", {}, report.order_digest || "none"),
    element("h3", {}, "Configuration"), element("code", {}, report.config_fingerprint || "none"));
  page.append(section);
}

function quality() {
  if (report.sources.length === 0 && report.symbols.length === 0) return;
  const section = card("Data quality", null);
  page.append(section);
  section.append(element("h3", {}, "Sources"), table(["Source", "Format", "#Rows", "#Malformed"],
    report.sources.map((each) => [each.name, each.format, count(each.rows), count(each.malformed)])));
  const malformed = report.sources.flatMap((source) => source.malformed_rows.map((row) => [source.name, count(row.line), row.column, row.problem]));
  if (malformed.length > 0) section.append(element("h3", {}, "Rows that could not be read (the first of each source)"), table(["Source", "#Line", "Column", "Problem"], malformed));
  const symbols = report.symbols.slice().sort((a, b) => b.clean + sum(b.rejected) - a.clean - sum(a.rejected));
  if (symbols.length === 0) return;
  const totals = {};
  for (const each of symbols) for (const [reason, value] of Object.entries(each.rejected)) totals[reason] = (totals[reason] || 0) + value;
  const reasons = largestFirst(totals).filter((entry) => entry[1] > 0).map((entry) => entry[0]);
  const shown = symbols.slice(0, 200);
  section.append(element("h3", {}, symbols.length > 200 ? `Rows by symbol, the busiest 200 of ${count(symbols.length)}` : "Rows by symbol"),
    table(["Symbol", "Class", "#Rows", "#Clean", "#Rejected", ...reasons.map((reason) => "#" + words(reason))],
      shown.map((each) => {
        const rejected = sum(each.rejected);
        return [each.symbol, words(each.class), count(each.clean + rejected), count(each.clean), percent(rejected, each.clean + rejected),
          ...reasons.map((reason) => (each.rejected[reason] ? count(each.rejected[reason]) : "·"))];
      })));
}

head();
tiles();
equity();
prices();
rejections();
latencies();
profit();
positions();
summaryTable();
changes();
running();
quality();
page.after(document.getElementById("plain").parentElement);
