#!/usr/bin/env node
// Loading: convd against ONNX Runtime, each in a process of its own, in turns: how long it takes,
// what memory it uses, and how the first run compares with later ones.
//
//   node tests/compare/load.js [--convd build/convd] [--batch 8] [--threads 1] [--rounds 5]
//        [--seconds 0.3] [--json FILE] MODEL.onnx...
//
// All are medians of the rounds, in which the two take turns at being first, so that neither always
// gets the memory that the other has just given back: a virtual machine's can take a second and more a
// GB to be had again from its host. Memory is what the process has more than before it loaded, so that
// neither node nor a binary's own size counts: after loading, after a run of the batch, and the most
// there was until then, pages of the mapped file included: what there is to be had, whatever it costs
// on this machine. convd's load includes its session, which makes all memory that runs will use, and
// its memory after a run what it then settles in (rt_session_settle). Ends with status 1 where convd
// is slower, larger, or has a first run of more than 1.2 times the median one.
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

const PAGE = 4096;
const resident = () => Number(fs.readFileSync('/proc/self/statm', 'latin1').split(' ')[1]) * PAGE;
const peak = () => Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'))[1]) * 1024;

// In a process of its own: loads a model with ONNX Runtime and prints what it measured.
async function child(model, batch, threads) {
  const ort = require('onnxruntime-node');
  fs.writeFileSync('/proc/self/clear_refs', '5'); // the peak begins here
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
  await session.run(feed);
  process.stdout.write(JSON.stringify({ load, loaded, run: resident() - before, peak: peak() - before }));
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
    peak: r.resident_bytes_peak - r.resident_bytes_before,
    first: r.first_run_seconds / r.median_seconds };
}

const MEASURES = ['load', 'loaded', 'run', 'peak'];

function compare(o, model) {
  const theirs = [], ours = [];
  for (let i = 0; i < o.rounds; i++) {
    if (i % 2 === 0) theirs.push(ortOnce(o, model));
    ours.push(convdOnce(o, model));
    if (i % 2 === 1) theirs.push(ortOnce(o, model));
  }
  const mid = (list, key) => median(list.map((x) => x[key]));
  const row = { model: path.basename(model) === 'model.onnx'
      ? path.basename(path.dirname(model)) : path.basename(model, '.onnx') };
  for (const m of MEASURES) {
    row[`ort_${m}`] = mid(theirs, m);
    row[`convd_${m}`] = mid(ours, m);
  }
  row.first = mid(ours, 'first');
  row.behind = MEASURES.filter((m) => row[`convd_${m}`] >= row[`ort_${m}`]);
  if (row.first > SLOW_FIRST) row.behind.push('first run');
  return row;
}

function main() {
  const o = options(process.argv.slice(2));
  const columns = [20, 9, 8, 6, 9, 8, 9, 8, 9, 8, 6, 0];
  const print = (cells) =>
    console.log(cells.map((c, i) => i ? c.padStart(columns[i]) : c.padEnd(columns[i])).join(''));
  console.log(`milliseconds and MiB (after loading; after a run of ${o.batch}; peak), ` +
    `${o.threads} thread(s)`);
  print(['model', 'ORT load', 'convd', 'ratio', 'ORT mem', 'convd', 'ORT run', 'convd', 'ORT peak', 'convd',
    'first']);
  const rows = [];
  for (const model of o.models) {
    const row = compare(o, model);
    rows.push(row);
    const ms = (s) => (s * 1e3).toFixed(1), mib = (b) => (b / 1048576).toFixed(1);
    print([row.model, ms(row.ort_load), ms(row.convd_load), (row.ort_load / row.convd_load).toFixed(2),
      ...MEASURES.slice(1).flatMap((m) => [mib(row[`ort_${m}`]), mib(row[`convd_${m}`])]),
      row.first.toFixed(2), row.behind.length ? `   behind: ${row.behind.join(', ')}` : '']);
  }
  if (o.json) fs.writeFileSync(o.json, JSON.stringify({ batch: o.batch, threads: o.threads, rows }, null, 1));
  const bad = rows.filter((row) => row.behind.length > 0).length;
  console.log(bad ? `${bad} of ${rows.length} behind` : `none of ${rows.length} behind`);
  process.exit(bad ? 1 : 0);
}

if (process.argv[2] === '--child')
  child(process.argv[3], Number(process.argv[4]), Number(process.argv[5]));
else
  main();
