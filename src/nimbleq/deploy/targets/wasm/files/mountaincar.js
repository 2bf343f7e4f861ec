// MountainCar-v0 as Gymnasium steps it (Moore 1990).
const clipped = (value, low, high) => Math.min(Math.max(value, low), high);
const environment = {
  title: "MountainCar", limit: 200, fps: 30, actions: ["push left", "coast", "push right"],
  fresh: () => [-0.6 + 0.2 * Math.random(), 0],
  next([place, speed], action) {
    speed = clipped(speed + (action - 1) * 0.001 + Math.cos(3 * place) * -0.0025, -0.07, 0.07);
    place = clipped(place + speed, -1.2, 0.6);
    if (place === -1.2 && speed < 0) speed = 0;
    return { state: [place, speed], reward: -1, over: place >= 0.5 && speed >= 0 };
  },
  observe: (state) => state,
  draw(pen, [place]) {
    const height = (at) => Math.sin(3 * at) * 0.45 + 0.55, x = (at) => (at + 1.2) * (640 / 1.8);
    const y = (at) => 240 - height(at) * 190;
    pen.strokeStyle = "#999"; pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(0, y(-1.2));
    for (let at = -1.2; at <= 0.6; at += 0.02) pen.lineTo(x(at), y(at));
    pen.stroke();
    pen.fillStyle = "#c63"; pen.fillRect(x(0.5) - 1, y(0.5) - 46, 3, 46); pen.fillRect(x(0.5), y(0.5) - 46, 20, 12);
    pen.save(); pen.translate(x(place), y(place)); pen.rotate(-Math.atan(3 * Math.cos(3 * place) * 0.45 * (190 * 1.8) / 640));
    pen.fillStyle = "#345"; pen.fillRect(-20, -24, 40, 16);
    for (const wheel of [-12, 12]) { pen.beginPath(); pen.arc(wheel, -7, 7, 0, 2 * Math.PI); pen.fill(); }
    pen.restore();
  },
};
