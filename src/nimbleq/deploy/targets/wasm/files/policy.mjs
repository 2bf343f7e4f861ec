// const policy = await load(bytes); const action = policy.act(observation)   (policy.act(observation, mask) where it has one)
export async function load(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const { memory, act, q, obs, values, mask } = instance.exports;
  const Numbers = ELEMENT;
  const given = new Numbers(memory.buffer, obs(), SIZE);
  const answer = new Float32Array(memory.buffer, values(), ACTIONS);
  const legal = mask ? new Uint8Array(memory.buffer, mask(), ACTIONS) : null;
  return {
    act(observation, allowed) {
      given.set(observation);
      if (legal) legal.set(allowed);
      return act();
    },
    q(observation) {
      given.set(observation);
      return q() < 0 ? null : answer.slice();
    },
  };
}
