// Answers the observations in a file, for verification: node run.mjs policy.wasm IN OUT MASKED
import { readFileSync, writeFileSync } from "node:fs";
import { load } from "./policy.mjs";

const [module, from, to, masked] = process.argv.slice(2);
const policy = await load(readFileSync(module));
const data = readFileSync(from);
const bytes = SIZE * ELEMENT.BYTES_PER_ELEMENT;
const step = bytes + (masked === "1" ? ACTIONS : 0);
const rows = data.length / step;
const out = new DataView(new ArrayBuffer(rows * 4 * (1 + ACTIONS)));
for (let row = 0, at = 0; row < rows; ++row) {
  const own = data.buffer.slice(data.byteOffset + row * step, data.byteOffset + (row + 1) * step);
  const obs = new ELEMENT(own.slice(0, bytes));
  out.setInt32(at, policy.act(obs, new Uint8Array(own.slice(bytes))), true);
  policy.q(obs).forEach((value, a) => out.setFloat32(at + 4 * (1 + a), value, true));
  at += 4 * (1 + ACTIONS);
}
writeFileSync(to, out);
