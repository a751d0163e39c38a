// Lays out the report of a search: what was found, and how it was found.
const report = JSON.parse(document.getElementById("report").textContent);
const page = document.getElementById("page");

const card = (title, note, ...children) =>
  element("section", { class: "card" },
    element("header", {}, element("h2", {}, title), note ? element("span", { class: "soft" }, note) : null), ...children);
const tile = (value, name) => element("div", { class: "tile" }, element("b", {}, value), element("span", { class: "soft" }, name));
const share = (value) => (value === null || value === undefined ? "-" : grouped(100 * value, 2) + " %");
const figure = (value) => Number(value).toLocaleString("en-US", { maximumSignificantDigits: 6 });
const named = (parameters) => parameters.map(([name, value]) => `${name} ${figure(value)}`).join(", ");
const byNumber = report.scores.slice().sort((a, b) => a.number - b.number);

/** A colour between bad and good; `place` is from 0 to 1. */
const between = (place) => `hsl(${Math.round(10 + 130 * Math.max(0, Math.min(1, place)))} 65% 45%)`;

/** Scores over trials, and the best so far. */
class ScoreChart extends Chart {
  draw() {
    const pen = this.begin();
    if (!pen || byNumber.length === 0) return;
    const values = byNumber.map((trial) => trial.score);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) * 0.06 || 0.01;
    this.valueAxis(pen, low - margin, high + margin, "score", 30);
    const { left, right, bottom } = this.box;
    const last = byNumber[byNumber.length - 1].number || 1;
    const x = (number) => left + ((right - left) * number) / last;
    pen.fillStyle = colour("soft");
    pen.textBaseline = "top";
    pen.fillText("trial 0", left, bottom + 8);
    pen.textAlign = "right";
    pen.fillText(String(last), right, bottom + 8);
    pen.fillStyle = colour("bar");
    for (const { number, score } of byNumber) {
      pen.beginPath();
      pen.arc(x(number), this.y(score), 2.5, 0, 7);
      pen.fill();
    }
    pen.strokeStyle = colour("good");
    pen.lineWidth = 2;
    pen.beginPath();
    let best = -Infinity;
    byNumber.forEach(({ number, score }, at) => {
      const before = best;
      best = Math.max(best, score);
      if (at === 0) pen.moveTo(x(number), this.y(best));
      else if (best > before) {
        pen.lineTo(x(number), this.y(before));
        pen.lineTo(x(number), this.y(best));
      }
    });
    pen.lineTo(right, this.y(best));
    pen.stroke();
  }
}

/** One line for each trial across one axis for each parameter, the best on top. */
class ParallelChart extends Chart {
  draw() {
    const pen = this.begin();
    if (!pen || byNumber.length === 0 || report.best.length === 0) return;
    const names = report.best[0].parameters.map(([name]) => name).concat("score");
    const rows = byNumber.map(({ values, score }) => values.concat(score)).filter((row) => row.length === names.length);
    rows.sort((a, b) => a[a.length - 1] - b[b.length - 1]);
    const [left, right, top, bottom] = [50, this.width - 60, 26, this.height - 24];
    const axes = names.map((name, at) => {
      const values = rows.map((row) => row[at]);
      return { name, low: Math.min(...values), high: Math.max(...values), x: left + ((right - left) * at) / (names.length - 1) };
    });
    const y = ({ low, high }, value) => bottom - ((bottom - top) * (value - low)) / (high - low || 1);
    rows.forEach((row, rank) => {
      const place = rank / Math.max(1, rows.length - 1);
      pen.strokeStyle = between(place);
      pen.globalAlpha = 0.15 + 0.75 * place * place;
      pen.lineWidth = rank === rows.length - 1 ? 3 : 1;
      pen.beginPath();
      axes.forEach((axis, at) => (at === 0 ? pen.moveTo(axis.x, y(axis, row[at])) : pen.lineTo(axis.x, y(axis, row[at]))));
      pen.stroke();
    });
    pen.globalAlpha = 1;
    pen.textAlign = "center";
    for (const axis of axes) {
      pen.strokeStyle = colour("soft");
      pen.lineWidth = 1;
      line(pen, axis.x, top, axis.x, bottom);
      pen.fillStyle = colour("text");
      pen.fillText(axis.name, axis.x, 8);
      pen.fillStyle = colour("soft");
      pen.fillText(figure(axis.high), axis.x, top - 4);
      pen.fillText(figure(axis.low), axis.x, bottom + 12);
    }
  }
}

function head() {
  const { doubts } = report.overfitting;
  page.append(element("header", {},
    element("h1", {}, `Search for ${report.name}`),
    element("p", { class: "soft" }, `${report.strategy} by ${report.search}: ${count(report.trials)} trials over ${count(report.rows_in_sample)} of ${count(report.rows)} rows, ended by ${report.stopped}`),
    element("span", { class: doubts.length > 0 ? "verdict bad" : "verdict" },
      doubts.length > 0 ? "To be doubted: " + doubts.join("; ") : "Nothing speaks against the best")));
  const best = report.best[0];
  const after = best && best.out_of_sample;
  page.append(element("div", { class: "tiles" },
    best ? tile(grouped(best.in_sample.score, 4), "score where it was chosen") : null,
    after ? tile(grouped(after.score, 4), "score afterwards") : null,
    after ? tile(share(after.metrics.profit_rate), "profit rate afterwards") : null,
    tile(report.overfitting.deflated_sharpe === null ? "-" : grouped(report.overfitting.deflated_sharpe, 3), "deflated Sharpe ratio"),
    tile(grouped(report.trials_per_second, 1), "trials per second")));
}

function judged(list, note, title) {
  if (list.length === 0) return;
  const number = (text) => element("td", { class: "number" }, text);
  const row = (it, name) => {
    const [before, after] = [it.in_sample, it.out_of_sample];
    const of = (outcome) => (outcome
      ? [grouped(outcome.score, 4), share(outcome.metrics.profit_rate), grouped(outcome.metrics.sharpe, 2), grouped(outcome.metrics.risk_adjusted, 2), share(outcome.metrics.drawdown_rate), count(outcome.metrics.trades)]
      : ["-", "-", "-", "-", "-", "-"]).map(number);
    return element("tr", {}, element("td", {}, name + named(it.parameters)), of(before), of(after));
  };
  const heads = ["score", "profit", "Sharpe", "risk-adjusted", "drawdown", "trades"];
  const both = heads.concat(heads.map((name) => name + " after")).map((name) => element("th", { class: "number" }, name));
  const rows = list.map((it) => row(it, ""));
  if (note && report.configured) rows.push(row(report.configured, "as configured: "));
  page.append(card(title, note, element("div", { class: "scroll" },
    element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "parameters"), both)), element("tbody", {}, rows)))));
}

function charts() {
  const [scores, parallel] = [element("div"), element("div")];
  page.append(card("Score over trials", "the line is the best so far", scores));
  new ScoreChart(scores, 240).draw();
  page.append(card("Parameters of all trials", "one line for each trial, green are the better ones", parallel));
  new ParallelChart(parallel, 320).draw();
}

function equity() {
  const currencies = Object.keys(report.equity).filter((currency) => report.equity[currency].samples.length > 0);
  currencies.slice(0, 8).forEach((currency) => {
    const host = element("div");
    const from = report.out_of_sample_from_ns;
    const note = from === null ? null : `chosen before ${dateTime(millis(from))} UTC · drag to zoom, double click for all`;
    page.append(card(`Equity of the best, ${currency}`, note, host));
    const chart = new TimeChart(host, { height: 240, unit: "", line: "line", area: "area", base: 0, format: money, name: "Equity" });
    chart.set(report.equity[currency].samples.map((sample) => ({ x: millis(sample.time_ns), y: Number(sample.equity) })), [], `Equity, ${currency}`);
  });
}

function importance() {
  const rows = report.importance.flatMap(({ name, share: part }) => [
    element("span", { class: "name" }, name),
    element("span", { class: "bar", style: { width: `${Math.max(0.5, 100 * part)}%` } }),
    element("span", { class: "value" }, share(part)), element("span", {})]);
  page.append(card("What each parameter explains by itself", "share of the variance of the scores", element("div", { class: "bars" }, rows)));
}

head();
judged(report.best, "chosen on the first rows, judged on those after them", "The best");
charts();
equity();
importance();
judged(report.walk_forward.map((fold) => fold.judged), null, "Chosen anew before each stretch, and judged on it");
judged(report.front, null, "Best in profit, Sharpe ratio or drawdown");
