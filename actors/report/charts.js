// Draws a run's report: small canvas charts without a library, so that the page is one file and needs
// no network. Text from the report only ever becomes text nodes or canvas text, never markup.
"use strict";

// ---- Numbers, times and elements -------------------------------------------------------------

const grouped = (value, decimals, decimalsMost = decimals) =>
  value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimalsMost });
const count = (value) => grouped(value, 0);
const percent = (part, whole) =>
  whole > 0 ? (part > 0 && part / whole < 0.0005 ? "< 0.1 %" : grouped((100 * part) / whole, 1) + " %") : "";

/** Money: cents for ordinary amounts, more decimals for fractions of a coin. */
function money(value) {
  const size = Math.abs(Number(value));
  return grouped(Number(value), 2, size === 0 || size >= 10 ? 2 : size >= 0.01 ? 4 : 8);
}

/** A quantity, whole. */
const quantity = (value) => Number(value).toLocaleString("en-US", { maximumSignificantDigits: 15 });

/** A price with seven or so significant digits. */
const price = (value) =>
  Number(value).toLocaleString("en-US", { maximumSignificantDigits: Math.abs(value) >= 1e5 ? 9 : 7 });

function latency(us) {
  if (us >= 1e6) return grouped(us / 1e6, 2) + " s";
  if (us >= 1e3) return grouped(us / 1e3, us >= 1e5 ? 0 : us >= 1e4 ? 1 : 2) + " ms";
  return grouped(us, us >= 100 ? 0 : us >= 10 ? 1 : 2) + " µs";
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return grouped(value, unit === 0 ? 0 : 1) + " " + units[unit];
}

const iso = (ms) => {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "?" : date.toISOString();
};
/** `2024-08-08 23:54:14`, with milliseconds if wanted. */
const dateTime = (ms, withMillis) => iso(ms).slice(0, withMillis ? 23 : 19).replace("T", " ");
const millis = (nanos) => nanos / 1e6;

/** An element with attributes and children; strings become text. */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") made.className = value;
    else if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// ---- Axes --------------------------------------------------------------------------------------

/** Round steps of 1, 2 or 5 between two values, about `wanted` of them. */
function valueTicks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  if (!(rough > 0) || !Number.isFinite(rough)) return { ticks: [low], decimals: 2 };
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) || 10);
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) ticks.push(at * step || 0);
  return { ticks, decimals: Math.min(10, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))) };
}

const TIME_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500]
  .concat([1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map((seconds) => seconds * 1e3))
  .concat([1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760].map((hours) => hours * 3.6e6));

/** Round instants of the UTC clock between two, `step` apart, with their labels. */
function timeTicks(low, high, step) {
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) ticks.push(timeTick(at, step));
  return ticks;
}

function timeTick(at, step) {
  const [from, to] = step >= 8.64e7 ? [5, 10] : step >= 6e4 ? [11, 16] : step >= 1e3 ? [11, 19] : [11, 23];
  return { at, label: iso(at).slice(from, to), day: iso(at).slice(0, 10) };
}

/**
 * Time with its long empty stretches folded away, so that days of trading stand side by side without
 * the nights, and recordings of different years fit on one axis. What is long is told by the times
 * themselves: more than half an hour, and twenty times what is usual.
 */
class FoldedTime {
  constructor(times) {
    const gaps = [];
    for (let at = 1; at < times.length; at++) gaps.push(times[at] - times[at - 1]);
    const usual = gaps.slice().sort((a, b) => a - b)[gaps.length >> 1] || 0;
    const long = Math.max(1.8e6, 20 * usual);
    const active = gaps.reduce((sum, gap) => sum + (gap > long ? 0 : gap), 0);
    /** Width left of each fold. */
    this.left = Math.max(1, active * 0.015);
    /** Each {from, to, at}: a stretch of time with something in it, and where it begins, folded. */
    this.stretches = [];
    if (times.length === 0) return;
    let [from, at] = [times[0], 0];
    gaps.forEach((gap, index) => {
      if (gap <= long) return;
      const to = times[index];
      this.stretches.push({ from, to, at });
      at += to - from + this.left;
      from = times[index + 1];
    });
    this.stretches.push({ from, to: times[times.length - 1], at });
  }

  /** The place of `time` on the axis. */
  fold(time) {
    let place = null;
    for (const { from, to, at } of this.stretches) {
      if (time < from && place !== null) break;
      place = at + (time <= to || at === this.stretches[this.stretches.length - 1].at ? time - from : to - from);
    }
    return place === null ? time : place;
  }

  /** The time at a place on the axis; inside a fold, the end of what came before. */
  unfold(place) {
    let time = place;
    this.stretches.forEach(({ from, to, at }, index) => {
      const isLast = index === this.stretches.length - 1;
      if (index === 0 || place >= at) time = isLast ? from + place - at : Math.min(to, from + place - at);
    });
    return time;
  }
}

// ---- A canvas that follows its size and the colour scheme ---------------------------------------

class Chart {
  constructor(host, height) {
    this.height = height;
    this.canvas = element("canvas", { role: "img" });
    this.tip = element("div", { class: "tip", hidden: "" });
    host.classList.add("chart");
    host.append(this.canvas, this.tip);
    this.host = host;
    this.canvas.style.height = height + "px";
    new ResizeObserver(() => this.draw()).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Clears and scales the canvas; returns what to draw with, or null when there is no room. */
  begin() {
    this.width = this.host.clientWidth;
    if (this.width < 60) return null;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = '12px system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';
    pen.lineJoin = "round";
    return pen;
  }

  /** Grid lines and labels of the value axis; sets the plot's box by the widest label. */
  valueAxis(pen, low, high, unit, bottom) {
    const { ticks, decimals } = valueTicks(low, high, this.height / 55);
    const labels = ticks.map((tick) => grouped(tick, decimals));
    const widest = Math.max(...labels.map((label) => pen.measureText(label).width));
    this.box = { left: this.margin(Math.ceil(widest) + 10), top: 20, right: this.width - 8, bottom: this.height - bottom };
    this.y = (value) => this.box.bottom - ((value - low) / (high - low || 1)) * (this.box.bottom - this.box.top);
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    ticks.forEach((tick, at) => {
      const y = Math.round(this.y(tick)) + 0.5;
      pen.strokeStyle = colour("grid");
      line(pen, this.box.left, y, this.box.right, y);
      pen.fillStyle = colour("soft");
      pen.fillText(labels[at], this.box.left - 7, y);
    });
    pen.textAlign = "left";
    pen.fillText(unit, 0, 7);
  }

  /** How far right the plot begins when its labels need `wanted`. */
  margin(wanted) {
    return wanted;
  }

  /** Shows `text` beside (x, y), inside the chart. */
  say(text, x, y) {
    this.tip.hidden = text === null;
    if (text === null) return;
    this.tip.textContent = text;
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const left = x + 14 + width > this.width ? x - 14 - width : x + 14;
    this.tip.style.left = Math.max(0, left) + "px";
    this.tip.style.top = Math.max(0, Math.min(this.height - height, y - height - 8)) + "px";
  }
}

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

// ---- Values over time ----------------------------------------------------------------------------

/** Index of the last of `points` at or before `x`; -1 when all are later. */
function lastAtOrBefore(points, x) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].x <= x) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * A line over UTC time with marks on it. Drag to zoom, double click to see all again. Charts in one
 * `group` (an array) share their range of time and the crosshair.
 */
class TimeChart extends Chart {
  constructor(host, { height, unit, line, area, base, format, name, group }) {
    super(host, height);
    Object.assign(this, { unit, lineColour: line, areaColour: area, base, format, name });
    this.group = group || [];
    this.group.push(this);
    this.points = [];
    this.marks = [];
    const at = (event) => event.clientX - this.canvas.getBoundingClientRect().left;
    this.canvas.addEventListener("pointerdown", (event) => (this.dragFrom = at(event)));
    this.canvas.addEventListener("pointermove", (event) => {
      this.dragTo = this.dragFrom === undefined ? undefined : at(event);
      this.hover(at(event), event.offsetY);
    });
    this.canvas.addEventListener("pointerup", (event) => this.zoom(at(event)));
    this.canvas.addEventListener("pointerleave", () => {
      this.dragFrom = this.dragTo = undefined;
      this.hover(null);
    });
    this.canvas.addEventListener("dblclick", () => this.show(null));
  }

  /** Takes in points {x, y} and marks {x, y, buy, filled, text}, both in time order. */
  set(points, marks, unit) {
    this.points = points;
    this.marks = marks || [];
    this.unit = unit || this.unit;
    const times = this.points.concat(this.marks).map((point) => point.x);
    this.axis = new FoldedTime(times.sort((a, b) => a - b));
    this.range = null;
    this.cross = null;
    this.canvas.setAttribute("aria-label", `${this.name} over time, ${this.unit}`);
    this.draw();
  }

  /** The whole range of time. */
  all() {
    const ends = [this.points, this.marks].filter((list) => list.length > 0);
    if (ends.length === 0) return [0, 1];
    const low = Math.min(...ends.map((list) => list[0].x));
    const high = Math.max(...ends.map((list) => list[list.length - 1].x));
    return high > low ? [low, high] : [low - 500, low + 500];
  }

  /** Charts of a group begin at the same place, so that what is simultaneous stands in one column. */
  margin(wanted) {
    const before = Math.max(0, ...this.group.map((chart) => chart.wanted || 0));
    this.wanted = wanted;
    const after = Math.max(...this.group.map((chart) => chart.wanted || 0));
    if (after !== before) for (const chart of this.group) if (chart !== this) chart.draw();
    return after;
  }

  show(range) {
    for (const chart of this.group) {
      chart.range = range;
      chart.draw();
    }
  }

  zoom(x) {
    const from = this.dragFrom;
    this.dragFrom = this.dragTo = undefined;
    if (from === undefined || Math.abs(x - from) < 6) return this.draw();
    const inside = (edge) => Math.min(this.box.right, Math.max(this.box.left, edge));
    const [low, high] = [Math.min(from, x), Math.max(from, x)].map((edge) => this.time(inside(edge)));
    if (high - low >= 2) this.show([low, high]);
  }

  hover(x, y) {
    const inside = x !== null && this.box && x >= this.box.left && x <= this.box.right;
    const time = inside ? this.time(x) : null;
    for (const chart of this.group) {
      chart.cross = time;
      chart.pointer = chart === this ? y : undefined;
      chart.draw();
    }
  }

  draw() {
    const pen = this.begin();
    if (!pen) return;
    const [from, to] = this.range || this.all();
    const first = Math.max(0, lastAtOrBefore(this.points, from));
    const seen = this.points.slice(first, lastAtOrBefore(this.points, to) + 2);
    const marks = this.marks.filter((mark) => mark.x >= from && mark.x <= to);
    if (seen.length + marks.length === 0) {
      pen.fillStyle = colour("soft");
      pen.fillText("Nothing to draw.", 8, 30);
      return;
    }
    const values = seen.concat(marks).map((point) => point.y);
    if (this.base !== undefined) values.push(this.base);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) * 0.06 || Math.abs(high) * 0.001 || 1;
    low -= low === this.base ? 0 : margin;
    high += high === this.base ? 0 : margin;
    this.valueAxis(pen, low, high, this.unit, 34);
    const { left, top, right, bottom } = this.box;
    const [start, end] = [this.axis.fold(from), this.axis.fold(to)];
    this.x = (time) => left + ((this.axis.fold(time) - start) / (end - start)) * (right - left);
    this.time = (x) => this.axis.unfold(start + ((x - left) / (right - left)) * (end - start));
    this.timeAxis(pen, from, to);

    pen.save();
    pen.beginPath();
    pen.rect(left, top - 6, right - left, bottom - top + 12);
    pen.clip();
    this.trace(pen, seen);
    for (const mark of marks) drawMark(pen, this.x(mark.x), this.y(mark.y), mark);
    this.overlay(pen);
    pen.restore();
  }

  timeAxis(pen, from, to) {
    const { left, top, right, bottom } = this.box;
    const span = this.axis.fold(to) - this.axis.fold(from);
    const rough = span / Math.max(1, (right - left) / 105);
    const step = TIME_STEPS.find((candidate) => candidate >= rough) || TIME_STEPS[TIME_STEPS.length - 1];
    pen.textBaseline = "top";
    let [day, free, dayFree] = [null, left, left];
    const stretches = this.axis.stretches.filter((stretch) => stretch.to >= from && stretch.from <= to);
    stretches.forEach((stretch, index) => {
      const [low, high] = [index === 0 ? from : stretch.from, index === stretches.length - 1 ? to : stretch.to];
      const ticks = timeTicks(low, high, step);
      if (index > 0) {
        this.foldMark(pen, stretch);
        ticks.unshift(timeTick(stretch.from, step));
      }
      for (const tick of ticks) {
        const x = Math.round(this.x(tick.at)) + 0.5;
        pen.strokeStyle = colour("grid");
        line(pen, x, top, x, bottom);
        pen.fillStyle = colour("soft");
        pen.textAlign = "left";
        const width = pen.measureText(tick.label).width;
        const at = Math.min(Math.max(left, x - width / 2), right - width);
        if (at >= free && step < 8.64e7) {
          pen.fillText(tick.label, at, bottom + 5);
          free = at + width + 14;
        }
        if (tick.day !== day && x >= dayFree && x < right - 110) {
          pen.fillText(tick.day, Math.max(left, x - 32), bottom + 19);
          dayFree = x + 78;
          day = tick.day;
        }
      }
    });
    pen.textAlign = "right";
    pen.fillStyle = colour("soft");
    pen.fillText("UTC", right, bottom + 19);
    pen.strokeStyle = colour("edge");
    line(pen, left, bottom + 0.5, right, bottom + 0.5);
  }

  /** A band where time was folded away before `stretch`. */
  foldMark(pen, stretch) {
    const place = this.axis.fold(stretch.from);
    const start = this.axis.fold(this.range ? this.range[0] : this.all()[0]);
    const scale = (this.x(stretch.from) - this.box.left) / (place - start || 1);
    const width = Math.min(this.axis.left * scale, this.x(stretch.from) - this.box.left);
    pen.fillStyle = colour("page");
    pen.fillRect(this.x(stretch.from) - width, this.box.top, width, this.box.bottom - this.box.top);
  }

  /** The line itself: each value holds until the next. */
  trace(pen, points) {
    if (points.length === 0) return;
    pen.beginPath();
    points.forEach((point, at) => {
      const [x, y] = [this.x(point.x), this.y(point.y)];
      if (at === 0) pen.moveTo(x, y);
      else {
        pen.lineTo(x, this.y(points[at - 1].y));
        pen.lineTo(x, y);
      }
    });
    pen.lineWidth = 1.5;
    pen.strokeStyle = colour(this.lineColour);
    pen.stroke();
    if (this.areaColour) {
      const base = this.y(this.base);
      pen.lineTo(this.x(points[points.length - 1].x), base);
      pen.lineTo(this.x(points[0].x), base);
      pen.closePath();
      pen.fillStyle = colour(this.areaColour);
      pen.fill();
      pen.strokeStyle = colour("soft");
      pen.lineWidth = 1;
      line(pen, this.box.left, Math.round(base) + 0.5, this.box.right, Math.round(base) + 0.5);
    }
  }

  /** The crosshair, what is under it, and the stretch being selected. */
  overlay(pen) {
    const { top, bottom } = this.box;
    if (this.dragTo !== undefined) {
      pen.fillStyle = colour("area");
      pen.fillRect(Math.min(this.dragFrom, this.dragTo), top, Math.abs(this.dragTo - this.dragFrom), bottom - top);
    }
    if (this.cross === null || this.cross === undefined) return this.say(null);
    const x = this.x(this.cross);
    pen.strokeStyle = colour("soft");
    pen.setLineDash([3, 3]);
    line(pen, x, top, x, bottom);
    pen.setLineDash([]);
    const near = this.nearestMark(x);
    const point = this.points[Math.max(0, lastAtOrBefore(this.points, near ? near.x : this.cross))];
    if (!point && !near) return this.say(null);
    const y = this.y(near ? near.y : point.y);
    pen.fillStyle = colour(this.lineColour);
    pen.beginPath();
    pen.arc(near ? this.x(near.x) : x, y, near ? 8 : 3.5, 0, 7);
    if (near) {
      pen.strokeStyle = colour("text");
      pen.stroke();
    } else pen.fill();
    const value = point ? `${this.name} ${this.format(point.y)}\n` : "";
    const order = near ? near.text + "\n" : "";
    this.say(order + value + dateTime(near ? near.x : this.cross, true) + " UTC", x, y);
  }

  nearestMark(x) {
    let [best, distance] = [null, 10];
    for (const mark of this.marks) {
      const dy = this.pointer === undefined ? 0 : Math.abs(this.y(mark.y) - this.pointer) / 6;
      const away = Math.abs(this.x(mark.x) - x) + dy;
      if (away < distance) [best, distance] = [mark, away];
    }
    return best;
  }
}

/** A triangle with its tip at the price: up for a buy, down for a sale, hollow if nothing traded. */
function drawMark(pen, x, y, mark) {
  const height = mark.buy ? 9 : -9;
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x - 5, y + height);
  pen.lineTo(x + 5, y + height);
  pen.closePath();
  const own = colour(mark.buy ? "buy" : "sell");
  pen.lineWidth = mark.filled ? 1 : 1.5;
  pen.fillStyle = mark.filled ? own : colour("card");
  pen.fill();
  pen.strokeStyle = mark.filled ? colour("card") : own;
  pen.stroke();
}

// ---- Latency: a histogram over powers of ten --------------------------------------------------------

class LatencyChart extends Chart {
  constructor(host, buckets, quantiles) {
    super(host, 250);
    this.buckets = buckets.filter((bucket) => bucket.to_us > 0);
    this.quantiles = quantiles;
    this.total = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
    this.canvas.setAttribute("aria-label", "Latency from row to order, share of orders");
    this.canvas.addEventListener("pointermove", (event) => this.hover(event.offsetX, event.offsetY));
    this.canvas.addEventListener("pointerleave", () => this.say(null));
    this.draw();
  }

  draw() {
    const pen = this.begin();
    if (!pen || this.buckets.length === 0) return;
    // A tenth of a microsecond is the least that can be told from nothing.
    const start = (bucket) => Math.max(bucket.from_us, 0.1);
    const end = (bucket) => Math.max(bucket.to_us, 0.11);
    // Per doubling, so that areas compare: buckets are not equally wide on this axis.
    const share = (bucket) => (100 * bucket.count) / this.total / Math.log2(end(bucket) / start(bucket));
    const from = Math.log10(start(this.buckets[0])) - 0.08;
    const to = Math.log10(Math.max(end(this.buckets[this.buckets.length - 1]), this.quantiles.max)) + 0.08;
    const highest = Math.max(...this.buckets.map(share));
    this.valueAxis(pen, 0, highest * 1.16, "% of orders per doubling of latency", 22);
    const { left, top, right, bottom } = this.box;
    const x = (us) => left + ((Math.log10(us) - from) / (to - from)) * (right - left);
    this.us = (at) => 10 ** (from + ((at - left) / (right - left)) * (to - from));
    this.decades(pen, from, to, x);
    pen.fillStyle = colour("bar");
    for (const bucket of this.buckets) {
      // What is there at all can be seen.
      const height = Math.max(1.5, bottom - this.y(share(bucket)));
      const [x1, x2] = [x(start(bucket)), x(end(bucket))];
      pen.fillRect(x1, bottom - height, Math.max(1, x2 - x1 - 0.75), height);
    }
    pen.strokeStyle = colour("edge");
    line(pen, left, bottom + 0.5, right, bottom + 0.5);
    this.markQuantiles(pen, x, top, right, bottom);
  }

  decades(pen, from, to, x) {
    const { top, bottom } = this.box;
    const steps = to - from > 2.5 ? [1] : [1, 2, 5];
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (let power = Math.floor(from); power <= to; power++) {
      for (const step of steps) {
        const us = step * 10 ** power;
        if (Math.log10(us) < from || Math.log10(us) > to) continue;
        const at = Math.round(x(us)) + 0.5;
        pen.strokeStyle = colour("grid");
        line(pen, at, top, at, bottom);
        pen.fillStyle = colour("soft");
        const label = us >= 1e6 ? us / 1e6 + " s" : us >= 1e3 ? us / 1e3 + " ms" : Number(us.toPrecision(2)) + " µs";
        pen.fillText(label, Math.min(at, this.width - pen.measureText(label).width / 2), bottom + 5);
      }
    }
  }

  /** Dashed lines at the quantiles, labels on as many rows as they need. */
  markQuantiles(pen, x, top, right, bottom) {
    pen.textBaseline = "top";
    let row = 0;
    for (const [name, us] of [["p50", this.quantiles.p50], ["p99", this.quantiles.p99], ["p99.9", this.quantiles.p999], ["max", this.quantiles.max]]) {
      if (!(us > 0)) continue;
      const at = Math.round(x(us)) + 0.5;
      const label = `${name} ${latency(us)}`;
      pen.strokeStyle = colour("sell");
      pen.setLineDash([4, 3]);
      line(pen, at, top + row * 15, at, bottom);
      pen.setLineDash([]);
      const { width } = pen.measureText(label);
      const start = at + 6 + width > right ? at - 4 - width : at + 4;
      pen.fillStyle = colour("card");
      pen.fillRect(start, top + row * 15, width, 14);
      pen.textAlign = "left";
      pen.fillStyle = colour("text");
      pen.fillText(label, start, top + row * 15);
      row++;
    }
  }

  hover(x, y) {
    const us = this.us && this.us(x);
    const bucket = this.buckets.find((candidate) => us >= candidate.from_us && us < candidate.to_us);
    if (!bucket) return this.say(null);
    this.say(
      `${latency(bucket.from_us)} to ${latency(bucket.to_us)}\n${count(bucket.count)} orders, ${percent(bucket.count, this.total)}`,
      x, y);
  }
}
