// The run fitted again to its pins, on the server: begun, watched, cancelled; then what the new run says.
"use strict";

const POLL = 500;  // ms between two looks at how it stands
let fitting = false;

function showFitting(on) {
  fitting = on;
  $("refit").textContent = on ? "Cancel" : "Fit again";
  document.body.dataset.fitting = on;
}

// The button: begin, or cancel what runs
async function refit() {
  try {
    if (fitting) {
      await ask("/fit", { method: "DELETE" });
      return;
    }
    await storing;
    await watchFitting(await ask("/fit", { method: "POST" }));
  } catch (error) {
    showFitting(false);
    tell(error.message, true);
  }
}

// Until what runs now ends, however it does
async function watchFitting(now) {
  if (now.state !== "running") return;
  showFitting(true);
  while (now.state === "running") {
    tell(`Fitting to the pins, ${Math.round(now.seconds)} s: ${now.line}`);
    await new Promise((done) => setTimeout(done, POLL));
    now = await ask("/fit");
  }
  showFitting(false);
  if (now.state === "done") await showNewRun();
  tell(now.line, now.state !== "done");
  document.body.dataset.fitted = now.state;
}

async function showNewRun() {
  Object.assign(scene, await ask("/scene"));
  source.version++;
  images = new Images(source);
  const caption = panes[0].root.querySelector(".caption");
  if (caption) caption.textContent = scene.answers[0].name;
  await Promise.all(state.points.map(follow));
  if (state.grids) await showGrid();
  drawPoints();
}
