#!/usr/bin/env node
// What a web team would write instead: fastify takes a picture, sharp decodes and scales it,
// onnxruntime-node runs the network. Same preprocessing and answer as convd's classify.
//
//   node tests/compare/fastify_server.js MODEL.onnx PORT THREADS
'use strict';

const fastify = require('fastify');
const ort = require('onnxruntime-node');
const sharp = require('sharp');

const [, , model, port, threads] = process.argv;
const SIDE = 224;
const RESIZE = 256;
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

async function pixels(body) {
  const { width, height } = await sharp(body).metadata();
  const scale = RESIZE / Math.min(width, height);
  const size = [Math.round(width * scale), Math.round(height * scale)];
  const { data } = await sharp(body)
    .resize(size[0], size[1], { fit: 'fill', kernel: 'linear' })
    .extract({ left: (size[0] - SIDE) >> 1, top: (size[1] - SIDE) >> 1, width: SIDE, height: SIDE })
    .removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const x = new Float32Array(3 * SIDE * SIDE);
  for (let c = 0; c < 3; c++) {
    const a = 1 / (255 * STD[c]);
    const b = -MEAN[c] / STD[c];
    for (let i = 0, at = c * SIDE * SIDE; i < SIDE * SIDE; i++) x[at + i] = data[3 * i + c] * a + b;
  }
  return x;
}

function best(scores, n) {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const e = scores.map((v) => Math.exp(v - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return Array.from(e, (v, index) => ({ index, score: v / sum }))
    .sort((a, b) => b.score - a.score).slice(0, n);
}

async function main() {
  sharp.cache(false);
  sharp.concurrency(1);
  const session = await ort.InferenceSession.create(model,
    { intraOpNumThreads: Number(threads), graphOptimizationLevel: 'all' });
  const app = fastify({ bodyLimit: 64 << 20 });
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (req, body, done) => done(null, body));
  app.post('*', async (req) => {
    const x = new ort.Tensor('float32', await pixels(req.body), [1, 3, SIDE, SIDE]);
    const out = await session.run({ [session.inputNames[0]]: x });
    return { predictions: [{ image: 0, classes: best(out[session.outputNames[0]].data, 5) }] };
  });
  await app.listen({ host: '127.0.0.1', port: Number(port) });
  console.log('ready');
}

main();
