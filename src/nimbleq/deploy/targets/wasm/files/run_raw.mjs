// Answers observations of the environment in a file, for verification: node run_raw.mjs policy.wasm IN OUT SCREENS
import { readFileSync, writeFileSync } from "node:fs";
import { load } from "./policy.mjs";

const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const [module, from, to, screens] = process.argv.slice(2);
const policy = await load(readFileSync(module));
const given = [...Object.values(policy.given), ...(policy.legal ? [policy.legal] : [])].map(bytes);
const read = bytes(policy.read);
const taken = policy.action ? bytes(policy.action) : new Uint8Array(0);
const data = readFileSync(from), parts = [];
for (let at = 0; at < data.length;) {
  if (screens === "1" && data[at++]) policy.reset();
  for (const entry of given) {
    entry.set(data.subarray(at, at + entry.length));
    at += entry.length;
  }
  parts.push(new Uint8Array(new Int32Array([policy.decide()]).buffer), read.slice(), taken.slice());
}
writeFileSync(to, Buffer.concat(parts));
