// The last two minutes of a number, as a line.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 120, HEIGHT = 20;

export class Spark {
  #svg;
  #values = [];

  constructor(svg) {
    this.#svg = svg;
    svg.append(document.createElementNS(SVG, "polygon"), document.createElementNS(SVG, "polyline"));
  }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
    const most = Math.max(1, ...this.#values);
    const first = POINTS - this.#values.length;
    const points = this.#values.map((one, index) => {
      const y = HEIGHT - 1 - (one / most) * (HEIGHT - 2);
      return `${first + index},${y.toFixed(1)}`;
    });
    const [area, line] = this.#svg.children;
    line.setAttribute("points", points.join(" "));
    area.setAttribute("points", [`${first},${HEIGHT}`, ...points, `${POINTS - 1},${HEIGHT}`].join(" "));
  }
}
