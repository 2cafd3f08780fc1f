//! The pages and what they are made of, as `build.rs` has packed them: which form of a file a client gets, and for how long
//! it may keep it. Which address means which page is the route table's affair.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use selvage_core::key::Digest;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Only what this gateway serves itself, and pictures the page has just been given. Markup is never made of strings.
pub(crate) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);
/// Asked again each time: a page's address outlives its content.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
/// A path that names its content means the same for ever.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Room for all headers of an answer, those of layers and server too, so that they are never moved.
const MOST_HEADERS: usize = 16;

/// A file that is part of the program.
#[derive(Debug)]
pub(crate) struct File {
    kind: &'static str,
    tag: HeaderValue,
    /// Empty for a file that is only there compressed by gzip, which every browser can read.
    plain: Bytes,
    gzip: Option<Bytes>,
}

/// What stands at a path below `/ui/`.
pub(crate) fn asset(path: &str, headers: &HeaderMap) -> Option<Response> {
    let at = ASSETS.binary_search_by_key(&path, |(path, _)| path).ok()?;
    let (_, file) = ASSETS.get(at)?;
    Some(file.answer(headers, FOR_EVER))
}

impl File {
    /// JSON that was made at the start.
    pub(crate) fn json(content: Vec<u8>) -> Self {
        let tag = format!("\"{}\"", &Digest::of(&content).to_hex()[..16]);
        Self {
            kind: "application/json",
            tag: HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"0\"")),
            plain: content.into(),
            gzip: None,
        }
    }

    /// The file as a page with that `Content-Security-Policy`.
    pub(crate) fn page(&self, headers: &HeaderMap, policy: HeaderValue) -> Response {
        let mut response = self.answer(headers, ASK_AGAIN);
        let to = response.headers_mut();
        to.insert(header::CONTENT_SECURITY_POLICY, policy);
        to.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        response
    }

    /// The file in the smallest form the client can read, or 304 where it has it already.
    fn answer(&self, headers: &HeaderMap, keep: HeaderValue) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tags| {
            tags.as_bytes()
                .windows(self.tag.len())
                .any(|tag| tag == self.tag.as_bytes())
        });
        let (encoding, content) = self.form(headers);
        let mut response = Response::new(if known {
            Body::empty()
        } else {
            Body::from(content.clone())
        });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let to = response.headers_mut();
        to.reserve(MOST_HEADERS);
        to.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        to.insert(header::ETAG, self.tag.clone());
        to.insert(header::CACHE_CONTROL, keep);
        to.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        to.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if let Some(encoding) = encoding
            && !known
        {
            to.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }

    fn form(&self, headers: &HeaderMap) -> (Option<&'static str>, &Bytes) {
        match &self.gzip {
            Some(gzip) if self.plain.is_empty() || takes_gzip(headers) => (Some("gzip"), gzip),
            _ => (None, &self.plain),
        }
    }
}

/// Whether `Accept-Encoding` names gzip and does not rule it out by `q=0` (RFC 9110 §12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut entries = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','));
    entries.any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        named && weight != Some(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page, all it is made of and all samples, compressed.
    const BUDGET: usize = 150_000;

    fn accepting(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))])
    }

    #[test]
    fn the_smallest_form_a_client_reads_is_chosen() {
        let encoding = |text| HOME.form(&accepting(text)).0;
        assert_eq!(encoding("deflate, gzip;q=0.9, br"), Some("gzip"));
        assert_eq!(encoding("GZIP"), Some("gzip"));
        assert_eq!(encoding("br, gzip;q=0"), None);
        assert_eq!(encoding("br, x-gzip"), None);
        assert_eq!(HOME.form(&HeaderMap::new()).1, &HOME.plain);
    }

    #[test]
    fn all_of_it_is_small() {
        let least = |file: &File| file.gzip.as_ref().unwrap_or(&file.plain).len();
        let all: usize = ASSETS.iter().map(|(_, file)| least(file)).sum();
        let all = all + least(&HOME) + least(&FLEET);
        assert!(all < BUDGET, "{all} bytes");
        assert!(ASSETS.is_sorted_by_key(|(path, _)| path));
    }

    #[test]
    fn nothing_of_it_is_fetched_from_elsewhere() {
        let files = ASSETS.iter().map(|(path, file)| (*path, file));
        for (path, file) in files.chain([("/", &HOME), ("/fleet", &FLEET)]) {
            let text = String::from_utf8_lossy(&file.plain);
            // The name of SVG's namespace is no address that anything is fetched from.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{path}"
            );
        }
    }
}
