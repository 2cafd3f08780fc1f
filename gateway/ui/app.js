// The home page: sends a picture to POST /predict and shows what comes back.
"use strict";

const $ = (id) => document.getElementById(id);
let turn = 0;

// With the key that was typed in, if any; asks for one where it is needed.
async function ask(url, options = {}) {
  const headers = { ...options.headers };
  const key = $("key").value.trim();
  if (key) {
    headers.authorization = `Bearer ${key}`;
  }
  const response = await fetch(url, { ...options, headers });
  if (response.status === 401) {
    $("locked").hidden = false;
  }
  return response;
}

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

function showPicture(file) {
  const picture = $("picture");
  if (picture.src) {
    URL.revokeObjectURL(picture.src);
  }
  picture.onload = () => picture.classList.toggle("large", picture.naturalWidth > 128);
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name || "the picture";
  picture.hidden = false;
  $("hint").hidden = true;
}

function clearAnswer() {
  $("label").textContent = "";
  $("bars").replaceChildren();
  $("facts").replaceChildren();
}

function bar({ label, score }) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  const progress = document.createElement("progress");
  const percent = document.createElement("output");
  name.textContent = label;
  progress.max = 1;
  progress.value = score;
  percent.textContent = `${(score * 100).toFixed(1)} %`;
  item.append(name, progress, percent);
  return item;
}

function fact(name, value) {
  const term = document.createElement("dt");
  const text = document.createElement("dd");
  term.textContent = name;
  text.textContent = value;
  return [term, text];
}

function showJob(job, cacheStatus) {
  const ms = (value) => `${value.toFixed(1)} ms`;
  const { timings } = job;
  say(job.cached ? "Answered from the cache." : "Computed.");
  $("label").textContent = `${job.output.label} (${(job.output.score * 100).toFixed(1)} %)`;
  $("bars").replaceChildren(...job.output.top.map(bar));
  $("facts").replaceChildren(
    ...fact("total", ms(timings.total_ms)),
    ...fact("waiting", ms(timings.queue_ms)),
    ...fact("decoding", ms(timings.decode_ms)),
    ...fact("inference", `${ms(timings.inference_ms)}, batch of ${timings.batch_size}`),
    ...fact("cache", cacheStatus || "none"),
    ...fact("model", `${job.model.name} ${job.model.version}`),
    ...fact("image", job.image_hash),
  );
}

// The job's final state: the answer itself, or what long polls of an unfinished job end with.
async function finish(response, isCurrent) {
  let job = await response.json();
  while (response.ok && (job.status === "queued" || job.status === "running") && isCurrent()) {
    const where = job.queue ? `, place ${job.queue.position}` : "";
    say(`The job is ${job.status}${where} …`);
    response = await ask(`${job.urls.self}?wait=30`);
    job = await response.json();
  }
  if (!response.ok) {
    throw new Error(job.detail || job.title);
  }
  if (job.status !== "succeeded") {
    throw new Error(job.error ? job.error.detail : `the job is ${job.status}`);
  }
  return job;
}

async function classify(file) {
  const mine = ++turn;
  const isCurrent = () => mine === turn;
  showPicture(file);
  clearAnswer();
  say("Asking …");
  const query = new URLSearchParams({ top_k: "10", model: $("model").value });
  const headers = { "content-type": file.type || "application/octet-stream" };
  if ($("anew").checked) {
    headers["cache-control"] = "no-cache";
  }
  try {
    const response = await ask(`/predict?${query}`, { method: "POST", headers, body: file });
    const cacheStatus = response.headers.get("cache-status");
    const job = await finish(response, isCurrent);
    if (isCurrent()) {
      showJob(job, cacheStatus);
    }
  } catch (error) {
    if (isCurrent()) {
      say(error.message, true);
    }
  }
}

function classifyFirst(files) {
  if (files && files.length > 0) {
    classify(files[0]);
  }
}

async function listModels() {
  const response = await ask("/models");
  const list = await response.json();
  if (!response.ok) {
    say(list.detail, true);
    return;
  }
  const options = list.models.map((model) => {
    const option = new Option(model.name, model.name, model.default, model.default);
    option.title = model.description;
    return option;
  });
  $("model").replaceChildren(...options);
  say("No picture yet.");
}

function showModels() {
  $("key").addEventListener("change", showModels);
showModels();
}

const drop = $("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.remove("over");
  });
}
drop.addEventListener("drop", (event) => classifyFirst(event.dataTransfer.files));
document.addEventListener("paste", (event) => classifyFirst(event.clipboardData.files));
$("file").addEventListener("change", () => {
  classifyFirst($("file").files);
  $("file").value = "";
});
listModels().catch((error) => say(`The models cannot be listed: ${error.message}`, true));
