#!/usr/bin/env node
// convd against ONNX Runtime: the same models, inputs, batch and threads, in turns within one run.
//
//   node tests/compare/compare.js [--convd build/convd] [--batch 1,8] [--threads 1,2] [--rounds 5]
//        [--seconds 1] [--json FILE] [--plot FILE.svg] MODEL.onnx...
//
// Each round times both sides for the given seconds, one after the other, so that whatever else the
// machine does meets both. A side's figure is the median of its rounds' medians. Outputs are
// compared on the same random input; the table's last line is the geometric mean of the ratios.
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const { execFileSync } = require('child_process');
const { plot } = require('./plot.js');

function usage(message) {
  console.error(message);
  console.error('usage: compare.js [--convd FILE] [--batch 1,8] [--threads 1,2] [--rounds N] ' +
    '[--seconds S] [--json FILE] [--plot FILE.svg] MODEL.onnx...');
  process.exit(2);
}

function options(argv) {
  const o = { convd: 'build/convd', batch: [1], threads: [1], rounds: 5, seconds: 1, json: null,
    plot: null, models: [] };
  for (let i = 0; i < argv.length; i++) {
    const value = () => argv[++i] ?? usage(`${argv[i - 1]} needs a value`);
    const numbers = () => value().split(',').map(Number);
    switch (argv[i]) {
      case '--convd': o.convd = value(); break;
      case '--batch': o.batch = numbers(); break;
      case '--threads': o.threads = numbers(); break;
      case '--rounds': [o.rounds] = numbers(); break;
      case '--seconds': [o.seconds] = numbers(); break;
      case '--json': o.json = value(); break;
      case '--plot': o.plot = value(); break;
      default:
        if (argv[i].startsWith('-')) usage(`there is no option ${argv[i]}`);
        o.models.push(argv[i]);
    }
  }
  if (o.models.length === 0) usage('no model was named');
  return o;
}

const median = (x) => {
  const s = [...x].sort((a, b) => a - b);
  return s.length % 2 ? s[(s.length - 1) / 2] : (s[s.length / 2 - 1] + s[s.length / 2]) / 2;
};

// The same numbers on every run: xorshift32, in -1 .. 1.
function randomFloats(n) {
  const x = new Float32Array(n);
  let s = 2463534242;
  for (let i = 0; i < n; i++) {
    s ^= s << 13; s ^= s >>> 17; s ^= s << 5;
    x[i] = (s >>> 0) / 2147483648 - 1;
  }
  return x;
}

// Element types: numpy's name, and how many random numbers of -1 .. 1 become elements.
const types = {
  float32: { descr: '<f4', Array: Float32Array, from: (x) => x },
  uint8: { descr: '|u1', Array: Uint8Array, from: (x) => Uint8Array.from(x, (v) => 127.5 * (v + 1)) },
  int8: { descr: '|i1', Array: Int8Array, from: (x) => Int8Array.from(x, (v) => 127 * v) },
};

function npy(dims, data, type) {
  const shape = `(${dims.join(', ')}${dims.length === 1 ? ',' : ''})`;
  let header = `{'descr': '${types[type].descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  header += ' '.repeat(63 - (10 + header.length) % 64) + '\n';
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(header.length, 8);
  return Buffer.concat([head, Buffer.from(header, 'latin1'),
    Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

function readNpy(file) {
  const b = fs.readFileSync(file);
  const at = 10 + b.readUInt16LE(8);
  const descr = /'descr': '([^']*)'/.exec(b.toString('latin1', 10, at))[1];
  const type = Object.values(types).find((t) => t.descr === descr);
  if (!type) throw new Error(`${file} has elements of type ${descr}`);
  const copy = Uint8Array.prototype.slice.call(b, at);
  return new type.Array(copy.buffer, 0, copy.byteLength / type.Array.BYTES_PER_ELEMENT);
}

// Declared sizes, with the batch in front and 224 where a height or width is free.
function feedFor(ort, session, batch) {
  const feed = {};
  for (const meta of session.inputMetadata) {
    const type = types[meta.type];
    if (!type) throw new Error(`input ${meta.name} is ${meta.type}`);
    const dims = meta.shape.map((d, i) =>
      typeof d === 'number' && d > 0 && !(i === 0) ? d : i === 0 ? batch : 224);
    const n = dims.reduce((a, b) => a * b, 1);
    feed[meta.name] = new ort.Tensor(meta.type, type.from(randomFloats(n)), dims);
  }
  return feed;
}

async function timeOrt(session, feed, seconds) {
  const times = [];
  const end = process.hrtime.bigint() + BigInt(Math.round(seconds * 1e9));
  do {
    const start = process.hrtime.bigint();
    await session.run(feed);
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
  } while (process.hrtime.bigint() < end);
  return median(times);
}

function timeConvd(o, model, batch, threads) {
  const text = execFileSync(o.convd, ['bench', model, '--batch', String(batch), '--threads',
    String(threads), '--seconds', String(o.seconds), '--json'], { encoding: 'utf8' });
  const report = JSON.parse(text);
  return { ms: report.results[0].median_seconds * 1e3, isa: report.isa };
}

// Largest difference as a share of the output's range.
async function difference(o, model, session, feed) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'compare-'));
  try {
    const args = ['run', model];
    for (const [name, t] of Object.entries(feed)) {
      const file = path.join(folder, `in${args.length}.npy`);
      fs.writeFileSync(file, npy(t.dims, t.data, t.type));
      args.push('--input', `${name}=${file}`);
    }
    const out = path.join(folder, 'out');
    execFileSync(o.convd, [...args, '--output', out], { stdio: ['ignore', 'ignore', 'inherit'] });
    const answers = await session.run(feed);
    let worst = 0;
    for (const name of session.outputNames) {
      const file = path.join(out, `${name.replace(/[^A-Za-z0-9._-]/g, '_')}.npy`);
      const ours = readNpy(file), theirs = answers[name].data;
      if (ours.length !== theirs.length) throw new Error(`${name}: sizes differ`);
      let lo = Infinity, hi = -Infinity, most = 0;
      for (let i = 0; i < theirs.length; i++) {
        lo = Math.min(lo, theirs[i]);
        hi = Math.max(hi, theirs[i]);
        most = Math.max(most, Math.abs(ours[i] - theirs[i]));
      }
      worst = Math.max(worst, hi > lo ? most / (hi - lo) : most);
    }
    return worst;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function main() {
  const o = options(process.argv.slice(2));
  const ort = require('onnxruntime-node');
  const rows = [];
  let isa = null;
  const [load] = os.loadavg(), cores = os.cpus().length; // of others: nothing runs here yet
  const columns = [24, 6, 8, 11, 11, 7, 9];
  const print = (cells) =>
    console.log(cells.map((c, i) => i ? String(c).padStart(columns[i]) : c.padEnd(columns[i])).join(''));
  print(['model', 'batch', 'threads', 'ORT ms', 'convd ms', 'ratio', 'diff']);
  for (const threads of o.threads) {
    for (const model of o.models) {
      const session = await ort.InferenceSession.create(model,
        { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: 'all', logSeverityLevel: 3 });
      for (const batch of o.batch) {
        const feed = feedFor(ort, session, batch);
        const diff = await difference(o, model, session, feed);
        await timeOrt(session, feed, o.seconds / 2);
        const theirs = [], ours = [];
        for (let round = 0; round < o.rounds; round++) {
          theirs.push(await timeOrt(session, feed, o.seconds));
          const timed = timeConvd(o, model, batch, threads);
          ours.push(timed.ms);
          isa = timed.isa;
        }
        const row = { model: path.basename(path.dirname(model)) === '.' ||
            path.basename(model) !== 'model.onnx' ? path.basename(model, '.onnx')
          : path.basename(path.dirname(model)),
          batch, threads, ort_ms: median(theirs), convd_ms: median(ours), diff };
        row.ratio = row.ort_ms / row.convd_ms;
        rows.push(row);
        print([row.model, batch, threads, row.ort_ms.toFixed(3), row.convd_ms.toFixed(3),
          row.ratio.toFixed(2), diff.toExponential(1)]);
      }
      await session.release();
    }
  }
  const mean = Math.exp(rows.reduce((s, r) => s + Math.log(r.ratio), 0) / rows.length);
  print(['geometric mean', '', '', '', '', mean.toFixed(2), '']);
  const report = { machine: os.cpus()[0].model.trim(), cores, load, isa, ort: ort.env.versions.common,
    rounds: o.rounds, seconds: o.seconds, rows, geometric_mean: mean };
  if (o.json) fs.writeFileSync(o.json, JSON.stringify(report, null, 1));
  if (o.plot) fs.writeFileSync(o.plot, plot(report));
}

main().catch((e) => {
  console.error(`compare.js: ${e.message}`);
  process.exit(1);
});
