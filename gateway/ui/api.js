// Requests to this gateway, and what its refusals mean to people.

/** Codes of problems, as sentences; what stands after the colon is the gateway's own detail. */
const SENTENCES = {
  bad_request: "The request could not be read",
  body_timeout: "The picture came too slowly",
  deadline_exceeded: "No answer came in time",
  draining: "This gateway is shutting down",
  broker_unavailable: "Pictures cannot be queued right now",
  empty_body: "This file is empty",
  forbidden: "This API key may not do that",
  image_too_large: "This picture has too many pixels",
  inference_failed: "The model gave no answer for this picture",
  invalid_image: "This is not a picture that can be read",
  invalid_option: "The gateway does not know an option",
  job_canceled: "The job was canceled",
  job_expired: "The job's record is no longer kept",
  job_not_found: "The gateway does not know this job any more",
  model_gone: "The model is no longer served",
  model_not_found: "There is no such model",
  payload_too_large: "This file is too large",
  poison: "This picture could not be computed",
  queue_full: "The queue is full",
  rate_limited: "Too many requests came from here",
  store_full: "There is no room for another job right now",
  store_unavailable: "Jobs cannot be recorded right now",
  unsupported_media_type: "This kind of file is not taken",
};
/** Answers after which the same request may succeed. */
const PASSING = new Set([429, 503]);
const LIMIT_MS = 90_000;

/** An answer that is an error, or no answer at all. */
export class Problem extends Error {
  constructor(status, body) {
    const { code, title, detail } = body;
    super(sentence(code, title, detail));
    this.status = status;
    this.code = code;
    this.retryAfterMs = body.retry_after_ms ?? 2000;
  }

  /** Whether retrying makes sense. */
  get passes() {
    return PASSING.has(this.status);
  }
}

/** What a page can say better than the gateway, whose detail is for programs. */
const OWN = { unauthenticated: "This gateway wants an API key: type it in above." };

/** A problem's sentence. */
export function sentence(code, title, detail) {
  if (code in OWN) {
    return OWN[code];
  }
  const what = SENTENCES[code] ?? title ?? "Something went wrong";
  return detail ? `${what}: ${detail}.` : `${what}.`;
}

let key = "";
let onLocked = () => {};

/** Sets the API key of all further requests. */
export function useKey(text) {
  key = text;
}

/** Whether requests carry a key. */
export function hasKey() {
  return key !== "";
}

/** Is called when a key is wanted. */
export function whenLocked(call) {
  onLocked = call;
}

/** A response with a good status; otherwise throws a Problem. A stream has no time limit; its reader ends it. */
export async function ask(path, { signal, stream = false, headers = {}, ...options } = {}) {
  const limits = [signal, stream ? null : AbortSignal.timeout(LIMIT_MS)].filter(Boolean);
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers, ...authorization }, signal: AbortSignal.any(limits) });
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    throw new Problem(0, { code: "unreachable", title: "The gateway cannot be reached" });
  }
  if (response.ok) {
    return response;
  }
  if (response.status === 401) {
    onLocked();
  }
  throw await problemOf(response);
}

async function problemOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's error page: its status is all there is.
    body = { title: `The gateway answered with status ${response.status}` };
  }
  const seconds = Number(response.headers.get("retry-after"));
  return new Problem(response.status, { retry_after_ms: seconds > 0 ? seconds * 1000 : undefined, ...body });
}
