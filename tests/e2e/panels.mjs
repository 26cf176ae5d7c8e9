// Draws the panels of a dashboard from Prometheus results, close enough to Grafana
// to judge the dashboard. Pure: data in, HTML out.

const NAMED = { green: "#73bf69", red: "#f2495c", orange: "#ff9830", blue: "#5794f2", "light-blue": "#8ab8ff", purple: "#b877d9", yellow: "#fade2a", text: "#d8d9da" };
const PALETTE = ["#73bf69", "#fade2a", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0", "#96d98d", "#ffee52", "#c0d8ff", "#ffb357"];
const FONT = 11;

export const colour = (name) => NAMED[name] ?? name;
export const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

const trimmed = (value, digits = 3) => String(Number(value.toPrecision(digits)));

function duration(seconds) {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${trimmed(seconds * 1e6, 2)} µs`;
  if (size < 1) return `${trimmed(seconds * 1e3)} ms`;
  if (size < 90) return `${trimmed(seconds)} s`;
  if (size < 5400) return `${trimmed(seconds / 60)} min`;
  if (size < 129600) return `${trimmed(seconds / 3600)} h`;
  return `${trimmed(seconds / 86400)} d`;
}

function scaled(value, step, endings) {
  let index = 0;
  while (Math.abs(value) >= step && index < endings.length - 1) { value /= step; index += 1; }
  return trimmed(value) + endings[index];
}

/** A number with its unit, as in Grafana. */
export function shown(value, unit) {
  switch (unit) {
    case "s": return duration(value);
    case "percentunit": return `${trimmed(value * 100)} %`;
    case "bytes": return scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]);
    case "ops": return `${trimmed(value)} ops/s`;
    case "opm": return `${trimmed(value)} ops/m`;
    case "cpm": return `${trimmed(value)} /m`;
    case "reqps": return `${trimmed(value)} req/s`;
    case "bool": return value ? "true" : "false";
    case "bool_yes_no": return value ? "yes" : "no";
    case "dateTimeAsIso": return new Date(value).toISOString().replace("T", " ").slice(0, 19);
    default: return scaled(value, 1000, ["", " K", " Mil"]);
  }
}

function legend(format, labels) {
  if (format !== "__auto") return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");
  return Object.entries(labels).map(([key, value]) => `${key}="${value}"`).join(", ");
}

/** The series of a panel: name, colour, values over time. */
function seriesOf(panel, answers) {
  const all = panel.targets.flatMap((target, index) => answers[index].map(({ metric, values }) => ({
    name: legend(target.legendFormat, metric) || "value", labels: metric, ref: target.refId,
    points: values.map(([at, value]) => [at, Number(value)]).filter(([, value]) => Number.isFinite(value)),
  }))).filter((series) => series.points.length);
  const fixed = Object.fromEntries(panel.fieldConfig.overrides.flatMap(({ matcher, properties }) => properties.filter(({ id }) => id === "color").map(({ value }) => [matcher.options, value.fixedColor])));
  all.forEach((series, index) => { series.colour = colour(fixed[series.name] ?? PALETTE[index % PALETTE.length]); });
  return all;
}

/** Text and colour of a value, by the panel's mappings and thresholds. */
function display(panel, value) {
  const { mappings, thresholds, unit, color } = panel.fieldConfig.defaults;
  const mapped = mappings?.[0]?.options[String(value)];
  if (mapped) return { text: mapped.text, colour: colour(mapped.color) };
  if (color?.mode === "fixed") return { text: shown(value, unit), colour: colour(color.fixedColor) };
  const step = thresholds.steps.findLast(({ value: from }) => from === null || value >= from);
  return { text: shown(value, unit), colour: colour(step.color) };
}

const last = (series) => series.points.at(-1)[1];

function stat(panel, all, frame, width) {
  const { defaults } = panel.fieldConfig;
  if (!all.length) return `<div class="stat"><b style="color:#8e8e8e;font-size:20px">${escape(defaults.noValue ?? "No data")}</b></div>`;
  const { textMode, colorMode } = panel.options;
  const cells = all.map((series) => {
    const { text, colour: shade } = display(panel, last(series));
    const named = textMode === "name";
    const label = !named && all.length > 1 || textMode === "value_and_name" ? `<small>${escape(series.name)}</small>` : "";
    const size = Math.min(34, (width / all.length - 10) / Math.max(4, (named ? series.name : text).length) * 1.7);
    const fill = colorMode === "background" ? `background:${shade};color:#fff` : `color:${shade}`;
    return `<div style="${fill}">${label}<b style="font-size:${size}px">${escape(named ? series.name : text)}</b></div>`;
  });
  return `<div class="stat">${cells.join("")}</div>`;
}

/** Round steps from 0 up to a value. */
function ticks(top, unit) {
  // Bytes use powers of 1024.
  const base = unit === "bytes" ? 1024 ** Math.floor(Math.log(top) / Math.log(1024)) : 1;
  return rounded(top / base, 4).map((mark) => mark * base);
}

function rounded(top, count) {
  const raw = top / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= raw - 1e-12);
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, index) => index * step);
}

function moments(frame, x, y) {
  const text = (at) => new Date(at * 1000).toISOString().slice(11, 19);
  const step = (frame.to - frame.from) / 4;
  return [0, 1, 2, 3, 4].map((n) => `<text x="${x(frame.from + n * step)}" y="${y}" text-anchor="${n === 0 ? "start" : n === 4 ? "end" : "middle"}">${text(frame.from + n * step)}</text>`).join("");
}

/** The parts of a line; a missing sample makes a gap. */
function pieces(points, step) {
  const parts = [[]];
  for (const point of points) {
    const part = parts.at(-1);
    if (part.length && point[0] - part.at(-1)[0] > step * 1.5) parts.push([point]);
    else part.push(point);
  }
  return parts;
}

function timeseries(panel, all, frame, width, height) {
  if (!all.length) return none();
  const { custom, unit, max, thresholds } = panel.fieldConfig.defaults;
  const stacked = custom.stacking.mode === "normal";
  const beside = panel.options.legend.placement === "right";
  const shownIn = Math.min(all.length, beside ? 12 : 5);
  const rows = all.slice(0, shownIn).map((series) => `<tr><td><i style="background:${series.colour}"></i>${escape(series.name)}</td><td>${escape(shown(last(series), unit))}</td><td>${escape(shown(Math.max(...series.points.map(([, v]) => v)), unit))}</td></tr>`);
  const table = `<table class="legend"><tr><th></th><th>last</th><th>max</th></tr>${rows.join("")}</table>`;
  const plot = beside ? height : height - 18 * (shownIn + 1) - 6;
  if (beside) width -= 260;
  const below = new Map();
  const lines = all.map((series) => ({ ...series, points: series.points.map(([at, value]) => {
    const base = stacked ? below.get(at) ?? 0 : 0;
    below.set(at, base + value);
    return [at, base + value, base];
  }) }));
  const highest = Math.max(...lines.flatMap(({ points }) => points.map(([, value]) => value)));
  const marks = ticks(max ?? (highest > 0 ? highest * 1.05 : 1), unit);
  const left = 12 + Math.max(...marks.map((mark) => shown(mark, unit).length)) * 6;
  const x = (at) => left + ((at - frame.from) / (frame.to - frame.from)) * (width - left - 8);
  const y = (value) => 6 + (1 - value / marks.at(-1)) * (plot - 26);
  const stepped = custom.lineInterpolation === "stepAfter";
  const draw = lines.map((series) => pieces(series.points, custom.spanNulls ? Infinity : frame.step).map((part) => {
    const path = (index) => part.map((point, n) => {
      const here = `${x(point[0]).toFixed(1)},${y(point[index]).toFixed(1)}`;
      return stepped && n ? `${x(point[0]).toFixed(1)},${y(part[n - 1][index]).toFixed(1)} ${here}` : here;
    });
    const up = path(1).join(" ");
    const down = (stacked ? path(2) : part.map(([at]) => `${x(at).toFixed(1)},${y(0)}`)).join(" ").split(" ").reverse().join(" ");
    const dot = part.length === 1 ? `<circle cx="${x(part[0][0])}" cy="${y(part[0][1])}" r="2" fill="${series.colour}"/>` : "";
    return `<polygon points="${up} ${down}" fill="${series.colour}" opacity="${custom.fillOpacity / 100}"/><polyline points="${up}" fill="none" stroke="${series.colour}" stroke-width="1.3"/>${dot}`;
  }).join("")).join("");
  const grid = marks.map((mark) => `<line x1="${left}" x2="${width - 8}" y1="${y(mark)}" y2="${y(mark)}" stroke="#2c3235"/><text x="${left - 6}" y="${y(mark) + 4}" text-anchor="end">${escape(shown(mark, unit))}</text>`).join("");
  const limit = custom.thresholdsStyle.mode === "line" ? thresholds.steps.filter(({ value }) => value !== null && value <= marks.at(-1)).map(({ value, color }) => `<line x1="${left}" x2="${width - 8}" y1="${y(value)}" y2="${y(value)}" stroke="${colour(color)}" stroke-dasharray="4 3"/>`).join("") : "";
  const graph = `<svg width="${width}" height="${plot}" font-size="${FONT}">${grid}${draw}${limit}${moments(frame, x, plot - 4)}</svg>`;
  return beside ? `<div class="beside">${graph}<div>${table}</div></div>` : graph + table;
}

function timeline(panel, all, frame, width, height) {
  if (!all.length) return none(panel.fieldConfig.defaults.noValue);
  const names = [...new Set(all.map(({ name }) => name))].sort();
  const left = 14 + Math.max(...names.map((name) => name.length)) * 6.5;
  const plot = height - 24;
  const high = Math.min(34, (plot - 20) / names.length);
  const x = (at) => left + Math.min(1, Math.max(0, (at - frame.from) / (frame.to - frame.from))) * (width - left - 8);
  const rows = names.map((name, row) => {
    const points = all.filter((series) => series.name === name).flatMap((series) => series.points).sort((a, b) => a[0] - b[0]);
    const spans = [];
    for (const [at, value] of points) {
      const before = spans.at(-1);
      if (before && before.value === value && at - before.to <= frame.step * 1.5) before.to = at;
      else if (before && at - before.to <= frame.step * 1.5) spans.push({ from: before.to, to: at, value });
      else spans.push({ from: at, to: at, value });
    }
    const bars = spans.map(({ from, to, value }) => {
      const { text, colour: shade } = display(panel, value);
      const wide = Math.max(2, x(to) - x(from));
      const word = panel.options.showValue !== "never" && wide > text.length * 7 ? `<text x="${x(from) + wide / 2}" y="${row * high + high / 2 + 4}" text-anchor="middle" fill="#fff">${escape(text)}</text>` : "";
      return `<rect x="${x(from)}" y="${row * high + 2}" width="${wide}" height="${high - 4}" fill="${shade}" opacity=".85"/>${word}`;
    });
    return `<text x="${left - 8}" y="${row * high + high / 2 + 4}" text-anchor="end">${escape(name)}</text>${bars.join("")}`;
  });
  const used = new Set(all.flatMap(({ points }) => points.map(([, value]) => value)));
  const key = Object.entries(panel.fieldConfig.defaults.mappings[0]?.options ?? {}).filter(([value]) => used.has(Number(value))).map(([, { text, color }]) => `<span><i style="background:${colour(color)}"></i>${escape(text)}</span>`);
  return `<svg width="${width}" height="${plot}" font-size="${FONT}">${rows.join("")}${moments(frame, x, names.length * high + 14)}</svg><div class="key">${key.join("")}</div>`;
}

function bargauge(panel, all) {
  if (!all.length) return none();
  const top = panel.fieldConfig.defaults.max ?? Math.max(...all.map(last), 1e-9);
  const rows = all.map((series) => {
    const { text, colour: shade } = display(panel, panel.fieldConfig.defaults.decimals === 0 ? Math.round(last(series)) : last(series));
    return `<tr><td>${escape(series.name)}</td><td class="bar"><div style="width:${(last(series) / top) * 100}%;background:${shade}"></div></td><td style="color:${shade}">${escape(text)}</td></tr>`;
  });
  return `<table class="bars">${rows.join("")}</table>`;
}

/** Applies the transformations of the dashboards: merge and organize. */
function table(panel, all) {
  const merged = new Map();
  for (const series of all) {
    const key = [...merged.keys()].find((have) => have === series.labels.name) ?? series.labels.name;
    merged.set(key, { ...merged.get(key), ...series.labels, [`Value #${series.ref}`]: last(series) });
  }
  const { excludeByName, indexByName, renameByName } = panel.transformations.find(({ id }) => id === "organize").options;
  const columns = Object.keys(indexByName).filter((column) => !excludeByName[column]).sort((a, b) => indexByName[a] - indexByName[b]);
  const unit = (column) => panel.fieldConfig.overrides.find(({ matcher }) => matcher.options === renameByName[column])?.properties.find(({ id }) => id === "unit")?.value;
  const cell = (value, column) => value === undefined ? "" : typeof value === "number" ? shown(value, unit(column)) : value;
  const by = columns.find((column) => renameByName[column] === panel.options.sortBy[0].displayName);
  const rows = [...merged.values()].sort((a, b) => (b[by] ?? 0) - (a[by] ?? 0)).map((row) => `<tr>${columns.map((column) => `<td>${escape(cell(row[column], column))}</td>`).join("")}</tr>`);
  return `<table class="cells"><tr>${columns.map((column) => `<th>${escape(renameByName[column])}</th>`).join("")}</tr>${rows.join("")}</table>`;
}

function heatmap(panel, all, frame, width, height) {
  if (!all.length) return none();
  const rows = all.map((series) => ({ ...series, le: series.labels.le === "+Inf" ? Infinity : Number(series.labels.le) })).sort((a, b) => a.le - b.le);
  const cells = rows.map((series, index) => series.points.map(([at, value]) => [at, value - (index ? rows[index - 1].points.find(([moment]) => moment === at)?.[1] ?? 0 : 0)]));
  const top = Math.max(...cells.flat().map(([, value]) => value), 1e-9);
  const left = 66, high = (height - 24) / rows.length;
  const x = (at) => left + ((at - frame.from) / (frame.to - frame.from)) * (width - left - 8);
  const wide = (width - left - 8) * frame.step / (frame.to - frame.from);
  const draw = cells.map((line, row) => line.filter(([, value]) => value > 1e-6).map(([at, value]) => `<rect x="${x(at)}" y="${(rows.length - 1 - row) * high}" width="${wide + 0.3}" height="${high - 1}" fill="#ff9830" opacity="${0.15 + 0.85 * Math.sqrt(value / top)}"/>`).join(""));
  const names = rows.map(({ le }, row) => `<text x="${left - 6}" y="${(rows.length - row) * high - high / 2 + 4}" text-anchor="end">${le === Infinity ? "longer" : escape(duration(le))}</text>`);
  return `<svg width="${width}" height="${height}" font-size="${FONT}">${names.join("")}${draw.join("")}${moments(frame, x, height - 6)}</svg>`;
}

const none = (text = "No data") => `<div class="none">${escape(text)}</div>`;

const KINDS = { stat, timeseries, "state-timeline": timeline, bargauge, table, heatmap };

/** The content of a panel in this size. */
export function drawn(panel, answers, frame, width, height) {
  return KINDS[panel.type](panel, seriesOf(panel, answers), frame, width, height);
}
