// onnxruntime-web under Node: `node ask.cjs PACKAGE FILE` with the inputs as JSON on stdin; it prints the outputs.
// Both are {name: {dtype, dims, data}}.
const { readFileSync } = require("node:fs");

const KINDS = { float32: Float32Array, uint8: Uint8Array };

async function main([library, file]) {
  const ort = require(library);
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(readFileSync(file), { executionProviders: ["wasm"] });
  const given = {};
  for (const [name, { dtype, dims, data }] of Object.entries(JSON.parse(readFileSync(0, "utf-8")))) {
    given[name] = new ort.Tensor(dtype, dtype === "string" ? data : KINDS[dtype].from(data), dims);
  }
  const answers = {};
  for (const [name, { dims, data }] of Object.entries(await session.run(given))) {
    answers[name] = { dims, data: Array.from(data) };
  }
  console.log(JSON.stringify(answers));
}

main(process.argv.slice(2));
