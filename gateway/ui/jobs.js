// Jobs this tab follows, kept across a reload: their ids, and a small picture of each.

const PLACE = "selvage.jobs";
const MOST = 200;
const THUMB_SIDE = 96;

/** What was kept. */
export function kept() {
  try {
    const list = JSON.parse(sessionStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(list) ? list.filter((entry) => typeof entry?.url === "string" && entry.url.startsWith("/jobs/")) : [];
  } catch {
    return [];
  }
}

function write(list) {
  try {
    sessionStorage.setItem(PLACE, JSON.stringify(list.slice(-MOST)));
  } catch {
    // Full or forbidden: the job itself is safe, only this tab will not find it again.
  }
}

/** Keeps a job. */
export async function keep(item) {
  const entry = { url: item.job.urls.self, name: item.name, call: item.call, thumb: await small(item.blob) };
  write([...kept().filter(({ url }) => url !== entry.url), entry]);
}

/** Forgets a job. */
export function forget(item) {
  const url = item.job?.urls?.self;
  write(kept().filter((entry) => entry.url !== url));
}

/** A small picture as a data URL; nothing where the browser cannot read it. */
async function small(blob) {
  try {
    const picture = await createImageBitmap(blob);
    const scale = Math.min(1, THUMB_SIDE / Math.max(picture.width, picture.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/png");
  } catch {
    return null;
  }
}
