// Compares what `differential --write FOLDER` left with ONNX Runtime: node onnxruntime.js FOLDER.
// It runs them node by node: optimised, its release 1.x moves zeros of a Pad into a MaxPool, which pads
// with less. Networks it refuses are counted, not compared. Exit 1 when an answer differs.
'use strict';
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');

function floats(file) {
  const b = fs.readFileSync(file);
  return new Float32Array(b.buffer.slice(b.byteOffset, b.byteOffset + b.length));
}

// The first element that is further from what is wanted than it may be; null when none is.
function difference(got, want, tolerance) {
  if (got.length !== want.length) return `${got.length} elements instead of ${want.length}`;
  for (let i = 0; i < want.length; i++)
    if (Number.isFinite(want[i]) && !(Math.abs(got[i] - want[i]) <= tolerance))
      return `element ${i} is ${got[i]}, convd's ${want[i]} (tolerance ${tolerance})`;
  return null;
}

async function compare(stem, about) {
  const session = await ort.InferenceSession.create(stem + '.onnx', {
    intraOpNumThreads: 1, executionMode: 'sequential', logSeverityLevel: 4,
    graphOptimizationLevel: 'disabled',
  });
  const x = new ort.Tensor('float32', floats(stem + '.x'), about.shape);
  const answer = await session.run({ x });
  for (const [i, name] of session.outputNames.entries()) {
    const { tolerance } = about.outputs[i];
    const why = difference(answer[name].data, floats(`${stem}.y${i}`), tolerance);
    if (why !== null) return `output ${name}: ${why}`;
  }
  return null;
}

async function main(folder) {
  const count = { passed: 0, failed: 0, refused: 0 };
  for (const file of fs.readdirSync(folder).filter((f) => f.endsWith('.json'))) {
    const stem = path.join(folder, file.slice(0, -5));
    const about = JSON.parse(fs.readFileSync(stem + '.json', 'utf8'));
    let why;
    try {
      why = await compare(stem, about);
    } catch (e) {
      console.log(`${stem}.onnx is refused: ${String(e.message).split('\n')[0].slice(0, 200)}`);
      count.refused++;
      continue;
    }
    if (why === null) {
      count.passed++;
    } else {
      console.log(`${stem}.onnx: ${why}`);
      count.failed++;
    }
  }
  console.log(`${count.refused} refused by ONNX Runtime`);
  console.log(`${count.passed} passed, ${count.failed} failed`);
  process.exitCode = count.failed > 0 ? 1 : 0;
}

main(process.argv[2]);
