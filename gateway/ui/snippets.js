// The call that was just made, as code to take away.

import { hasKey } from "./api.js";
import { $, h } from "./dom.js";

const LANGUAGES = { curl, Python: python, JavaScript: javascript };
let chosen = "curl";
let current = null;

/** Prepares tabs and button. */
export function start(say) {
  const tabs = Object.keys(LANGUAGES).map((name) => h("button", { id: `tab-${name}`, type: "button", role: "tab", "aria-controls": "snippet", onclick: () => choose(name), text: name }));
  $("languages").replaceChildren(...tabs);
  $("languages").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const names = Object.keys(LANGUAGES);
      choose(names.at((names.indexOf(chosen) + step) % names.length));
      $(`tab-${chosen}`).focus();
    }
  });
  $("copy").addEventListener("click", async () => {
    say((await copy($("snippet").textContent)) ? "Copied." : "The browser does not let the page copy; select the text instead.");
  });
  choose(chosen);
}

/** Shows the call of this picture. */
export function show(item) {
  current = item;
  $("code").hidden = item === null;
  if (item !== null) {
    $("snippet").textContent = LANGUAGES[chosen](item);
  }
}

function choose(name) {
  chosen = name;
  for (const other of Object.keys(LANGUAGES)) {
    const is = other === name;
    $(`tab-${other}`).setAttribute("aria-selected", String(is));
    $(`tab-${other}`).tabIndex = is ? 0 : -1;
  }
  $("snippet").setAttribute("aria-labelledby", `tab-${name}`);
  show(current);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine there is no clipboard; this older way still works there.
    const range = document.createRange();
    range.selectNodeContents($("snippet"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}

const url = ({ call }) => `${location.origin}${call.path}${call.query ? `?${call.query}` : ""}`;
const asynchronous = ({ call }) => call.path === "/jobs";
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const quoted = (text) => JSON.stringify(text);

function headers(item, authorization) {
  return { ...item.call.headers, ...(hasKey() ? { authorization } : {}) };
}

function curl(item) {
  const given = Object.entries(headers(item, "Bearer $SELVAGE_KEY")).map(([name, value]) =>
    // Double quotes let the shell put the key in.
    name === "authorization" ? ` -H "${name}: ${value}"` : ` -H ${shell(`${name}: ${value}`)}`,
  );
  const call = `curl --data-binary ${shell(`@${item.name}`)}${given.join("")} ${shell(url(item))}`;
  return asynchronous(item) ? `${call}\n# then, with "urls"."events" of the answer:\ncurl -N ${location.origin}/jobs/ID/events` : call;
}

function python(item) {
  const given = Object.entries(headers(item, "")).map(([name, value]) => `${quoted(name)}: ${name === "authorization" ? '"Bearer " + os.environ["SELVAGE_KEY"]' : quoted(value)}`);
  const lines = [
    `import json${hasKey() ? ", os" : ""}`,
    "import urllib.request",
    "",
    `with open(${quoted(item.name)}, "rb") as file:`,
    "    picture = file.read()",
    `request = urllib.request.Request(${quoted(url(item))}, data=picture, headers={${given.join(", ")}})`,
    "with urllib.request.urlopen(request, timeout=70) as answer:",
    "    job = json.load(answer)",
  ];
  if (asynchronous(item)) {
    lines.push(
      'while job["status"] in ("queued", "running"):',
      `    request = urllib.request.Request(${quoted(location.origin)} + job["urls"]["self"] + "?wait=30", headers=request.headers)`,
      "    with urllib.request.urlopen(request, timeout=70) as answer:",
      "        job = json.load(answer)",
    );
  }
  return [...lines, 'print(json.dumps(job["output"], indent=2))'].join("\n");
}

function javascript(item) {
  const given = Object.entries(headers(item, "")).map(([name, value]) => `${quoted(name)}: ${name === "authorization" ? "`Bearer ${process.env.SELVAGE_KEY}`" : quoted(value)}`);
  const lines = [
    'import { readFile } from "node:fs/promises";',
    "",
    `const headers = { ${given.join(", ")} };`,
    `const body = await readFile(${quoted(item.name)});`,
    `const answer = await fetch(${quoted(url(item))}, { method: "POST", headers, body });`,
    `${asynchronous(item) ? "let" : "const"} job = await answer.json();`,
  ];
  if (asynchronous(item)) {
    lines.push(
      'while (job.status === "queued" || job.status === "running") {',
      `  const polled = await fetch(${quoted(location.origin)} + job.urls.self + "?wait=30", { headers });`,
      "  job = await polled.json();",
      "}",
    );
  }
  return [...lines, "console.log(job.output);"].join("\n");
}
