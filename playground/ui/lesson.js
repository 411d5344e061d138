// What the slider of a head's life needs of the page around it, where there is neither a server nor a run that goes on.
// It stands before the shared scripts and head_life.js; lesson.py calls `start` after them.

const data = JSON.parse(document.getElementById("data").textContent);
const element = document.getElementById("life");
const server = { life: () => data.life };
const putIntoAddress = () => {};

const darkness = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => document.body.classList.toggle("dark", darkness.matches);
darkness.addEventListener("change", followTheme);
followTheme();

function start() {
  document.addEventListener(STEP_SHOWN, ({ detail }) => showSample(detail.step));
  document.dispatchEvent(new CustomEvent(RUN_SHOWN, { detail: { run: "lesson", step: 0, state: "finished" } }));
}

// What the model wrote at a step, or at the last one before it that it wrote something at; null is the newest.
function showSample(step) {
  const sample = data.samples.findLast((sample) => step === null || sample.step <= step);
  const place = document.getElementById("then");
  place.hidden = !sample;
  if (!sample) return;
  place.querySelector("h4").textContent = `What it wrote at step ${sample.step.toLocaleString("en")}`;
  place.querySelector("pre").textContent = sample.text;
}
