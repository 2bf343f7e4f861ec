// Acrobot-v1 as Gymnasium steps it (Sutton and Barto 1998): one step of Runge and Kutta's fourth order, 0.2 s.
const G = 9.8, TAU = 0.2, HALF = 0.5;
const wrapped = (angle) => {
  while (angle > Math.PI) angle -= 2 * Math.PI;
  while (angle < -Math.PI) angle += 2 * Math.PI;
  return angle;
};
const bound = (value, end) => Math.min(Math.max(value, -end), end);
function slope([first, second, spin, turn], torque) {
  const cos = Math.cos(second), sin = Math.sin(second);
  const d1 = HALF ** 2 + (1 + HALF ** 2 + 2 * HALF * cos) + 2, d2 = HALF ** 2 + HALF * cos + 1;
  const phi2 = HALF * G * Math.cos(first + second - Math.PI / 2);
  const phi1 = -HALF * turn ** 2 * sin - 2 * HALF * turn * spin * sin + (HALF + 1) * G * Math.cos(first - Math.PI / 2) + phi2;
  const faster = (torque + (d2 / d1) * phi1 - HALF * spin ** 2 * sin - phi2) / (HALF ** 2 + 1 - d2 ** 2 / d1);
  return [spin, turn, -(d2 * faster + phi1) / d1, faster];
}
const moved = (state, along, by) => state.map((value, at) => value + by * along[at]);
const environment = {
  title: "Acrobot", limit: 500, fps: 15, actions: ["−1", "0", "+1"],
  fresh: () => Array.from({ length: 4 }, () => (Math.random() - 0.5) / 5),
  next(state, action) {
    const torque = action - 1, k1 = slope(state, torque), k2 = slope(moved(state, k1, TAU / 2), torque);
    const k3 = slope(moved(state, k2, TAU / 2), torque), k4 = slope(moved(state, k3, TAU), torque);
    const [first, second, spin, turn] = state.map((value, at) => value + (TAU / 6) * (k1[at] + 2 * k2[at] + 2 * k3[at] + k4[at]));
    const after = [wrapped(first), wrapped(second), bound(spin, 4 * Math.PI), bound(turn, 9 * Math.PI)];
    const over = -Math.cos(after[0]) - Math.cos(after[1] + after[0]) > 1;
    return { state: after, reward: over ? 0 : -1, over };
  },
  observe: ([first, second, spin, turn]) =>
    [Math.cos(first), Math.sin(first), Math.cos(second), Math.sin(second), spin, turn],
  draw(pen, [first, second]) {
    const unit = 60, x = 320, y = 130, elbow = [x + unit * Math.sin(first), y + unit * Math.cos(first)];
    const end = [elbow[0] + unit * Math.sin(first + second), elbow[1] + unit * Math.cos(first + second)];
    pen.strokeStyle = "#999"; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(0, y - unit); pen.lineTo(640, y - unit); pen.stroke();
    pen.strokeStyle = "#c63"; pen.lineWidth = 9; pen.lineCap = "round"; pen.lineJoin = "round";
    pen.beginPath(); pen.moveTo(x, y); pen.lineTo(...elbow); pen.lineTo(...end); pen.stroke();
    pen.fillStyle = "#345";
    for (const joint of [[x, y], elbow]) { pen.beginPath(); pen.arc(...joint, 7, 0, 2 * Math.PI); pen.fill(); }
  },
};
