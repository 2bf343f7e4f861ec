// const policy = await load(bytes); const action = policy.act(observation)   (policy.act(observation, mask) where it has one)
// All values of `values` into an array of the module; throws where they are not as many, or not of its type.
function put(array, values, name) {
  if (values.length !== array.length) throw new RangeError(`${name}: ${values.length} values, not ${array.length}`);
  array.set(values);
  if (array instanceof Float32Array || array instanceof Float64Array) return;
  for (let i = 0; i < array.length; ++i) {
    if (array[i] != values[i]) throw new RangeError(`${name}[${i}] is ${values[i]}: not of the type of ${array.constructor.name}`);
  }
}

export async function load(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const exports = instance.exports;
  const { memory, act, q, obs, values, mask } = exports;
  const Numbers = ELEMENT;
  const given = new Numbers(memory.buffer, obs(), SIZE);
  const answer = new Float32Array(memory.buffer, values(), ACTIONS);
  const legal = mask ? new Uint8Array(memory.buffer, mask(), ACTIONS) : null;
RAW_ARRAYS  return {
    act(observation, allowed) {
      put(given, observation, "observation");
      if (legal) put(legal, allowed, "mask");
      return act();
    },
    q(observation) {
      put(given, observation, "observation");
      return q() < 0 ? null : answer.slice();
    },
RAW_MEMBERS  };
}
