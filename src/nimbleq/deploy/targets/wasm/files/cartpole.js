// CartPole-v1 as Gymnasium steps it: Euler, 0.02 s.
const GRAVITY = 9.8, CART = 1.0, POLE = 0.1, HALF = 0.5, FORCE = 10.0, TAU = 0.02, X_END = 2.4;
const TILT_END = (12 * 2 * Math.PI) / 360;
const environment = {
  title: "CartPole", limit: 500, fps: 50, actions: ["left", "right"],
  fresh: () => Array.from({ length: 4 }, () => (Math.random() - 0.5) / 10),
  next([x, v, tilt, spin], action) {
    const force = action === 1 ? FORCE : -FORCE, cos = Math.cos(tilt), sin = Math.sin(tilt), mass = CART + POLE;
    const push = (force + POLE * HALF * spin * spin * sin) / mass;
    const turn = (GRAVITY * sin - cos * push) / (HALF * (4 / 3 - (POLE * cos * cos) / mass));
    const speed = push - (POLE * HALF * turn * cos) / mass;
    const state = [x + TAU * v, v + TAU * speed, tilt + TAU * spin, spin + TAU * turn];
    return { state, reward: 1, over: Math.abs(state[0]) > X_END || Math.abs(state[2]) > TILT_END };
  },
  observe: (state) => state,
  draw(pen, [place, , tilt]) {
    const ground = 210, x = 320 + place * 110;
    pen.strokeStyle = "#999"; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(0, ground); pen.lineTo(640, ground); pen.stroke();
    pen.fillStyle = "#345"; pen.fillRect(x - 36, ground - 22, 72, 22);
    pen.strokeStyle = "#c63"; pen.lineWidth = 9; pen.lineCap = "round";
    pen.beginPath(); pen.moveTo(x, ground - 22);
    pen.lineTo(x + 150 * Math.sin(tilt), ground - 22 - 150 * Math.cos(tilt)); pen.stroke();
  },
};
