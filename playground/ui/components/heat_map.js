// A heat map of numbers below and above zero, with axes, a scale, and a readout for the pointer and the arrow keys.
// Rows and columns are counted from 0; what is read on the page counts from 1.

const HEAT_HINT = "Point at a cell, or use the arrow keys, to read its number.";
const HEAT_EDGE = { left: 46, top: 40 }; // of the canvas, for axis titles and numbers
const HEAT_TICK = 34; // at least so many pixels from one number of an axis to the next

// Fills a <figure class="hm">. `show` of what is returned takes a picture:
//   title, about             what the figure is, and what one sees in it
//   across, down             the titles of its axes
//   rows, columns            what each row and column is, as in [0, 4, 8] where only every fourth is shown
//   values, largest          row after row, and the number of the strongest colour
//   tell(row, column, value) what the readout says of a cell
function heatMap(figure) {
  const title = make("figcaption", "hm-title");
  const stage = make("div", "hm-stage look-stage");
  const [cells, light] = [make("canvas", "hm-cells"), make("canvas", "hm-light look-light")];
  const scale = make("div", "hm-scale");
  const readout = make("p", "hm-readout", HEAT_HINT);
  const about = make("p", "hm-about");
  let picture = null;
  let plot = null; // where the cells stand in the canvas: {width, height, x, y} of all, and of one
  let cursor = [0, 0]; // the cell that the keyboard or a click is on
  light.tabIndex = 0;
  light.setAttribute("role", "application");
  readout.setAttribute("role", "status");
  stage.append(cells, light);
  figure.replaceChildren(title, stage, scale, about, readout);

  function show(shown) {
    picture = shown;
    cursor = [0, 0];
    title.textContent = shown.title;
    about.textContent = shown.about;
    light.ariaLabel = `${shown.title}. The arrow keys move the cell.`;
    const ends = [-shown.largest, 0, shown.largest];
    scale.replaceChildren(...ends.map((end) => make("span", "", heatEnd(end))));
    paint();
    tell(null);
  }

  function paint() {
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!picture || !width) return;
    for (const canvas of [cells, light]) prepareCanvas(canvas, width, height);
    plot = { width: width - HEAT_EDGE.left - 1, height: height - HEAT_EDGE.top - 1 };
    plot.x = plot.width / picture.columns.length;
    plot.y = plot.height / picture.rows.length;
    const context = cells.getContext("2d");
    heatCells(context, picture, plot);
    heatAxes(context, picture, plot);
  }

  // The cell that is lit, or null.
  function tell(cell) {
    const context = light.getContext("2d");
    context.clearRect(0, 0, light.width, light.height);
    for (const name of ["row", "column", "value"]) delete readout.dataset[name];
    readout.textContent = HEAT_HINT;
    if (!cell || !plot) return;
    const [row, column] = cell;
    const value = picture.values[row * picture.columns.length + column];
    heatOutline(context, plot, row, column);
    readout.textContent = picture.tell(row, column, value);
    Object.assign(readout.dataset, { row: picture.rows[row], column: picture.columns[column], value });
  }

  function cellUnder(event) {
    if (!plot) return null;
    const box = light.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - HEAT_EDGE.top) / plot.y);
    const column = Math.floor((event.clientX - box.left - HEAT_EDGE.left) / plot.x);
    return picture.rows[row] === undefined || picture.columns[column] === undefined ? null : [row, column];
  }

  const rest = () => tell(document.activeElement === light ? cursor : null);

  light.addEventListener("pointermove", (event) => tell(cellUnder(event)));
  light.addEventListener("pointerdown", (event) => tell((cursor = cellUnder(event) ?? cursor)));
  light.addEventListener("pointerleave", rest);
  light.addEventListener("focus", rest);
  light.addEventListener("blur", rest);
  light.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step || !picture) return;
    event.preventDefault();
    const within = (at, n) => Math.min(Math.max(at, 0), n - 1);
    cursor = [within(cursor[0] + step[0], picture.rows.length), within(cursor[1] + step[1], picture.columns.length)];
    tell(cursor);
  });
  const repaint = () => {
    paint();
    rest();
  };
  onTheme(repaint);
  new ResizeObserver(repaint).observe(stage);
  return { show };
}

const heatEnd = (end) => (Number.isInteger(end) && Math.abs(end) < 10 ? String(end).replace("-", "−") : number(end));

// One pixel a cell, then enlarged; the nearer to zero, the more of the page shows through.
function heatCells(context, { values, largest, rows, columns }, { width, height, x, y }) {
  const [minus, plus] = [rgb("--look-minus"), rgb("--look-plus")];
  const image = new ImageData(columns.length, rows.length);
  values.forEach((value, i) => {
    image.data.set(value < 0 ? minus : plus, 4 * i);
    image.data[4 * i + 3] = (255 * Math.abs(value)) / largest;
  });
  const small = make("canvas");
  [small.width, small.height] = [columns.length, rows.length];
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = Math.min(x, y) * window.devicePixelRatio < 1; // else whole cells would be dropped
  context.drawImage(small, HEAT_EDGE.left, HEAT_EDGE.top, width, height);
  context.strokeStyle = `rgba(${rgb("--body-text-color")}, 0.3)`;
  context.strokeRect(HEAT_EDGE.left - 0.5, HEAT_EDGE.top - 0.5, width + 1, height + 1);
}

function heatAxes(context, { rows, columns, across, down }, { width, height, x, y }) {
  const { left, top } = HEAT_EDGE;
  const every = (size) => [1, 2, 4, 8, 16, 32, 64, 128].find((n) => n * size >= HEAT_TICK) ?? 256;
  const font = getComputedStyle(element).fontFamily;
  context.fillStyle = `rgba(${rgb("--body-text-color")}, 0.75)`;
  Object.assign(context, { font: `11px ${font}`, textBaseline: "middle", textAlign: "center" });
  columns.forEach((column, i) => i % every(x) || context.fillText(column + 1, left + (i + 0.5) * x, top - 10));
  context.textAlign = "right";
  rows.forEach((row, i) => i % every(y) || context.fillText(row + 1, left - 5, top + (i + 0.5) * y));
  context.textAlign = "center";
  context.font = `12px ${font}`;
  context.fillText(across, left + width / 2, 9);
  turned(context, 9, top + height / 2, () => context.fillText(down, 0, 0));
}

// The cell, and lines to the axes; one too small to be seen gets a larger frame.
function heatOutline(context, { width, height, x, y }, row, column) {
  const { left, top } = HEAT_EDGE;
  const [middleX, middleY] = [left + (column + 0.5) * x, top + (row + 0.5) * y];
  const [w, h] = [Math.max(x, 7), Math.max(y, 7)];
  context.fillStyle = context.strokeStyle = `rgb(${rgb("--body-text-color")})`;
  context.globalAlpha = 0.45;
  context.fillRect(left, middleY - 0.5, width, 1);
  context.fillRect(middleX - 0.5, top, 1, height);
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.strokeRect(middleX - w / 2, middleY - h / 2, w, h);
}
