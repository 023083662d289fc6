// A comparison as one SVG file, in the look of the pictures that convd draws itself (server/plot.c):
// a bar for each model and batch, as long as convd is times faster.
'use strict';

const WIDTH = 900, MARGIN = 24, LABEL = 200, ROW = 20, BAR_MAX = 380;
const COLOURS = ['#1f5fbf', '#c76a15', '#1c7a3d'];

const escape = (text) => String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function textAt(x, y, attributes, text) {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escape(text)}</text>\n`;
}

function rect(x, y, width, height, attributes) {
  return `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height}" ${attributes}/>\n`;
}

const milliseconds = (ms) => ms >= 100 ? ms.toFixed(0) : ms.toPrecision(3);

// report: what compare.js writes with --json.
function plot(report) {
  const { rows } = report;
  const batches = [...new Set(rows.map((r) => r.batch))].sort((a, b) => a - b);
  const threads = [...new Set(rows.map((r) => r.threads))];
  const colour = (r) => COLOURS[batches.indexOf(r.batch) % COLOURS.length];
  const left = MARGIN + LABEL;
  const scale = BAR_MAX / Math.max(1, ...rows.map((r) => r.ratio));
  let body = '', y = MARGIN + 14;
  body += textAt(MARGIN, y, 'font-size="18" font-weight="bold"', 'convd and ONNX Runtime: how many times faster');
  y += 22;
  const busy = report.load > report.cores / 2 ? `, beside other programs (load ${report.load.toFixed(0)})` : '';
  body += textAt(MARGIN, y, 'fill="#566072"', `${report.cores} cores of ${report.machine}${busy}; ` +
    `convd ${report.isa} kernels, ONNX Runtime ${report.ort}`);
  y += 18;
  body += textAt(MARGIN, y, 'fill="#566072"', `fp32, medians of ${report.rounds} rounds in turns; milliseconds of a run: ` +
    'convd against ONNX Runtime');
  y += 26;
  batches.forEach((batch, i) => {
    body += rect(left + i * 110, y - 9, 10, 10, `fill="${COLOURS[i % COLOURS.length]}"`);
    body += textAt(left + i * 110 + 15, y, 'fill="#566072"', `batch ${batch}`);
  });
  y += 8;
  for (const t of threads) {
    y += 22;
    body += textAt(MARGIN, y, 'font-size="14" font-weight="bold"', `${t} thread${t === 1 ? '' : 's'}`);
    y += 10;
    const top = y;
    let bars = '', last = null;
    for (const r of rows.filter((each) => each.threads === t)) {
      if (r.model !== last && last !== null)
        y += 6;
      if (r.model !== last)
        bars += textAt(left - 8, y + 14, 'text-anchor="end"', r.model);
      last = r.model;
      const width = r.ratio * scale;
      bars += rect(left, y + 3, width, ROW - 6, `rx="2" fill="${colour(r)}"`);
      bars += textAt(left + width + 6, y + 14, 'fill="#1a1f29"',
                     `${r.ratio.toFixed(2)}×  (${milliseconds(r.convd_ms)} : ${milliseconds(r.ort_ms)})`);
      y += ROW;
    }
    const one = left + scale;
    body += bars + `<path stroke="#1a1f29" stroke-dasharray="3 3" d="M${one.toFixed(1)} ${top}V${y}"/>\n`;
    body += textAt(one, y + 12, 'text-anchor="middle" font-size="10" fill="#566072"', 'level');
    y += 14;
  }
  y += 18;
  body += textAt(MARGIN, y, '', `Geometric mean of all: ${report.geometric_mean.toFixed(2)}×`);
  const height = Math.ceil(y + MARGIN);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
    `viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, DejaVu Sans, sans-serif" ` +
    'font-size="12" fill="#1a1f29">\n<rect width="100%" height="100%" fill="#ffffff"/>\n' +
    `${body}</svg>\n`;
}

module.exports = { plot };
