#!/usr/bin/env node
// Loading: convd against ONNX Runtime, each in a process of its own, in turns: how long it takes,
// what memory it leaves resident, and how the first run compares with later ones.
//
//   node tests/compare/load.js [--convd build/convd] [--batch 8] [--threads 1] [--rounds 5]
//        [--seconds 0.3] [--json FILE] MODEL.onnx...
//
// Times are medians of the rounds. Memory is what the process has more than before it loaded, so that
// neither node nor a binary's own size counts: after loading, and after the first run of the batch.
// convd's load includes its session, which makes all memory that runs will use. Ends with status 1
// where convd is slower, larger, or has a first run of more than 1.2 times the median one.
'use strict';

const fs = require('fs');
const path = require('path');
const { execFileSync } = require('child_process');

const SLOW_FIRST = 1.2;

function usage(message) {
  console.error(message);
  console.error('usage: load.js [--convd FILE] [--batch N] [--threads N] [--rounds N] [--seconds S] ' +
    '[--json FILE] MODEL.onnx...');
  process.exit(2);
}

function options(argv) {
  const o = { convd: 'build/convd', batch: 8, threads: 1, rounds: 5, seconds: 0.3, json: null,
    models: [] };
  for (let i = 0; i < argv.length; i++) {
    const value = () => argv[++i] ?? usage(`${argv[i - 1]} needs a value`);
    switch (argv[i]) {
      case '--convd': o.convd = value(); break;
      case '--batch': o.batch = Number(value()); break;
      case '--threads': o.threads = Number(value()); break;
      case '--rounds': o.rounds = Number(value()); break;
      case '--seconds': o.seconds = Number(value()); break;
      case '--json': o.json = value(); break;
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

const resident = () => Number(fs.readFileSync('/proc/self/statm', 'latin1').split(' ')[1]) * 4096;

// In a process of its own: loads a model with ONNX Runtime and prints what it measured.
async function child(model, batch, threads) {
  const ort = require('onnxruntime-node');
  const before = resident(), start = process.hrtime.bigint();
  const session = await ort.InferenceSession.create(model,
    { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: 'all',
      logSeverityLevel: 3 });
  const load = Number(process.hrtime.bigint() - start) / 1e9, loaded = resident() - before;
  const feed = {};
  for (const meta of session.inputMetadata) {
    const dims = meta.shape.map((d, i) => i === 0 ? batch : typeof d === 'number' && d > 0 ? d : 224);
    const data = new Float32Array(dims.reduce((a, b) => a * b, 1)).map((_, i) => Math.sin(i));
    feed[meta.name] = new ort.Tensor('float32', data, dims);
  }
  const first = process.hrtime.bigint();
  await session.run(feed);
  const firstRun = Number(process.hrtime.bigint() - first) / 1e9, run = resident() - before;
  process.stdout.write(JSON.stringify({ load, loaded, run, firstRun }));
}

function ortOnce(o, model) {
  return JSON.parse(execFileSync(process.execPath,
    [__filename, '--child', model, String(o.batch), String(o.threads)], { encoding: 'utf8' }));
}

function convdOnce(o, model) {
  const text = execFileSync(o.convd, ['bench', model, '--batch', String(o.batch), '--threads',
    String(o.threads), '--seconds', String(o.seconds), '--json'], { encoding: 'utf8' });
  const [r] = JSON.parse(text).results;
  return { load: r.load_seconds, loaded: r.resident_bytes_loaded - r.resident_bytes_before,
    run: r.resident_bytes_run - r.resident_bytes_before,
    first: r.first_run_seconds / r.median_seconds };
}

function main() {
  const o = options(process.argv.slice(2));
  const rows = [], columns = [22, 10, 10, 8, 10, 10, 10, 10, 11];
  const print = (cells) =>
    console.log(cells.map((c, i) => i ? String(c).padStart(columns[i]) : c.padEnd(columns[i])).join(''));
  console.log(`milliseconds and MiB (loaded; after a run of ${o.batch}), ${o.threads} thread(s)`);
  print(['model', 'ORT load', 'convd', 'ratio', 'ORT mem', 'convd', 'ORT run', 'convd', 'first run']);
  let bad = 0;
  for (const model of o.models) {
    const theirs = [], ours = [];
    for (let i = 0; i < o.rounds; i++) {
      theirs.push(ortOnce(o, model));
      ours.push(convdOnce(o, model));
    }
    const mid = (list, key) => median(list.map((x) => x[key]));
    const row = { model: path.basename(model) === 'model.onnx'
        ? path.basename(path.dirname(model)) : path.basename(model, '.onnx'),
      ort_load: mid(theirs, 'load'), convd_load: mid(ours, 'load'),
      ort_loaded: mid(theirs, 'loaded'), convd_loaded: mid(ours, 'loaded'),
      ort_run: mid(theirs, 'run'), convd_run: mid(ours, 'run'), first: mid(ours, 'first') };
    rows.push(row);
    const worse = [row.convd_load >= row.ort_load && 'load', row.convd_loaded >= row.ort_loaded && 'loaded',
      row.convd_run >= row.ort_run && 'run', row.first > SLOW_FIRST && 'first run'].filter(Boolean);
    bad += worse.length > 0;
    const ms = (s) => (s * 1e3).toFixed(1), mib = (b) => (b / 1048576).toFixed(1);
    print([row.model, ms(row.ort_load), ms(row.convd_load),
      (row.ort_load / row.convd_load).toFixed(2), mib(row.ort_loaded), mib(row.convd_loaded),
      mib(row.ort_run), mib(row.convd_run), row.first.toFixed(2),
      worse.length ? `   behind: ${worse.join(', ')}` : '']);
  }
  if (o.json) fs.writeFileSync(o.json, JSON.stringify({ batch: o.batch, threads: o.threads, rows }, null, 1));
  console.log(bad ? `${bad} of ${rows.length} behind` : `none of ${rows.length} behind`);
  process.exit(bad ? 1 : 0);
}

if (process.argv[2] === '--child')
  child(process.argv[3], Number(process.argv[4]), Number(process.argv[5]));
else
  main();
