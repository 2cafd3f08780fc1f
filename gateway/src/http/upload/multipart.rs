//! `multipart/form-data` (RFC 7578) over a body that is already in memory: parts are slices of it, nothing is copied.
//!
//! Strict on purpose: a body that ends before its closing boundary was cut, and half an image is no image.

use bytes::Bytes;
use memchr::memmem::Finder;

use super::count::MAX_BATCH;
use super::encoded::from_base64;
use crate::http::error::{ApiError, Code};

/// Most parts of a body.
const MAX_PARTS: usize = MAX_BATCH + 32;
/// Longest header block of a part, in bytes.
const MAX_PART_HEADER_BYTES: usize = 8 * 1024;
/// Longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;

/// One part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The field's name.
    pub(super) name: String,
    /// Whether it is a file: it has a file name.
    pub(super) is_file: bool,
    /// Its content, decoded; `bad_base64` if it is not the base64 that it says.
    pub(super) content: Result<Bytes, ApiError>,
}

/// All parts of a body.
///
/// # Errors
/// `bad_request` for anything that is not a complete form.
pub(super) fn parts(content_type: &str, body: &Bytes) -> Result<Vec<Part>, ApiError> {
    let boundary = parameter(content_type, "boundary").unwrap_or_default();
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
        return Err(malformed("the Content-Type has no boundary"));
    }
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = Finder::new(&delimiter);
    let mut at = after_first(body, &delimiter)?;
    let mut parts = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == MAX_PARTS {
            return Err(malformed("too many parts"));
        }
        // Spaces after a boundary are padding of its line (RFC 2046 §5.1.1).
        let padding = rest
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
        let Some(part) = rest[padding..].strip_prefix(b"\r\n") else {
            return Err(malformed("a boundary line is malformed or cut"));
        };
        let start = body.len() - part.len();
        let header = header(part)?;
        let content_start = start + header.length;
        // The line break before a boundary belongs to the boundary, also where the content is empty.
        let search_from = content_start.saturating_sub(2);
        let found = delimiter.find(&body[search_from..]);
        let Some(end) = found.map(|found| search_from + found) else {
            return Err(malformed("the body ends before its closing boundary"));
        };
        let content = body.slice(content_start.min(end)..end);
        parts.push(Part {
            name: header.name,
            is_file: header.is_file,
            content: if header.is_base64 {
                from_base64(&content)
            } else {
                Ok(content)
            },
        });
        at = end + delimiter.needle().len();
    }
}

/// The position after the first boundary; a preamble before it is skipped.
fn after_first(body: &Bytes, delimiter: &Finder<'_>) -> Result<usize, ApiError> {
    let line = &delimiter.needle()[2..];
    if body.starts_with(line) {
        return Ok(line.len());
    }
    let found = delimiter.find(body);
    let found = found.ok_or_else(|| malformed("the boundary does not occur in the body"))?;
    Ok(found + delimiter.needle().len())
}

/// What stands before a part's content.
struct Header {
    name: String,
    is_file: bool,
    is_base64: bool,
    /// In bytes, with the empty line behind it.
    length: usize,
}

fn header(part: &[u8]) -> Result<Header, ApiError> {
    let within = &part[..part.len().min(MAX_PART_HEADER_BYTES)];
    let end = memchr::memmem::find(within, b"\r\n\r\n")
        .ok_or_else(|| malformed("a part's header is too long or cut"))?;
    let text = String::from_utf8_lossy(&part[..end]);
    let field = |wanted: &str| {
        text.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let found = name.trim().eq_ignore_ascii_case(wanted);
            found.then(|| value.trim())
        })
    };
    let disposition = field("content-disposition")
        .filter(|value| kind(value).eq_ignore_ascii_case("form-data"))
        .unwrap_or_default();
    let name = parameter(disposition, "name").ok_or_else(|| malformed("a part has no name"))?;
    let is_file = ["filename", "filename*"]
        .iter()
        .any(|wanted| parameter(disposition, wanted).is_some());
    let encoding = field("content-transfer-encoding").unwrap_or_default();
    Ok(Header {
        name,
        is_file,
        is_base64: encoding.eq_ignore_ascii_case("base64"),
        length: end + 4,
    })
}

fn malformed(detail: &'static str) -> ApiError {
    ApiError::new(Code::BadRequest, format!("multipart: {detail}"))
}

/// What stands before the first semicolon of a header value.
pub(super) fn kind(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// A parameter of a header value, quoted or not.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (text, remaining) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        let name = name.trim_start_matches([';', ' ', '\t']).trim_end();
        if name.eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = remaining;
    }
}

/// The text of a quoted string whose opening quote is already gone, and what follows its closing one.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(characters.next()?.1),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn read(content_type: &str, body: &str) -> Result<Vec<(String, String)>, ApiError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let text = |part: Part| Ok((part.name, String::from_utf8_lossy(&part.content?).into()));
        parts(content_type, &body)?.into_iter().map(text).collect()
    }

    fn field(name: &str, content: &str) -> String {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn forms_are_read_to_their_closing_boundary() {
        let body = [
            field("image", "ab\r\n--X\r\ncd").as_str(),
            &field("top_k", "3"),
            "--XX--\r\n",
        ]
        .concat();
        let expected = pairs(&[("image", "ab\r\n--X\r\ncd"), ("top_k", "3")]);
        assert_eq!(read(TYPE, &body).unwrap(), expected);
    }

    #[test]
    fn preamble_padding_epilogue_and_empty_parts_are_allowed() {
        let body = "hello\r\n--XX \t\r\ncontent-disposition:form-data;name=a\r\n\r\n\r\n--XX--bye";
        assert_eq!(read(TYPE, body).unwrap(), pairs(&[("a", "")]));
        assert_eq!(read(TYPE, "--XX--").unwrap(), pairs(&[]));
    }

    #[test]
    fn quoted_boundaries_and_odd_file_names_are_understood() {
        let content_type = "multipart/form-data; charset=utf-8; boundary=\"X X\"";
        let body = "--X X\r\nContent-Disposition: form-data; filename=\"a;\\\" name=b\"; name=\"file\"\r\n\
                    Content-Type: image/png\r\n\r\nx\r\n--X X--";
        assert_eq!(read(content_type, body).unwrap(), pairs(&[("file", "x")]));
    }

    #[test]
    fn a_part_whose_content_touches_its_header_is_empty() {
        let body = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--";
        assert_eq!(read(TYPE, body).unwrap(), pairs(&[("a", "")]));
    }

    #[test]
    fn parts_say_whether_they_are_files_and_how_they_are_encoded() {
        let body = "--XX\r\nContent-Disposition: form-data; name=a; filename=\"\"\r\n\
                    content-transfer-encoding: BASE64\r\n\r\naGVs\r\nbG8=\r\n\
                    --XX\r\nContent-Disposition: form-data; name=b\r\n\
                    Content-Transfer-Encoding: binary\r\n\r\naGk=\r\n\
                    --XX\r\nContent-Disposition: form-data; filename*=UTF-8''c; name=c\r\n\r\n\r\n--XX--";
        let body = Bytes::copy_from_slice(body.as_bytes());
        let expected = [("a", true, "hello"), ("b", false, "aGk="), ("c", true, "")];
        let parts = parts(TYPE, &body).unwrap();
        assert_eq!(parts.len(), expected.len());
        for (part, (name, is_file, content)) in parts.into_iter().zip(expected) {
            assert_eq!((part.name.as_str(), part.is_file), (name, is_file));
            assert_eq!(part.content.unwrap(), content);
        }
        let wrong = "--XX\r\nContent-Disposition: form-data; name=a\r\n\
                     Content-Transfer-Encoding: base64\r\n\r\n*\r\n--XX--";
        assert_eq!(read(TYPE, wrong).unwrap_err().code(), Code::BadBase64);
    }

    #[test]
    fn broken_forms_are_refused() {
        let good = format!("{}--XX--\r\n", field("image", "abc"));
        for cut in 0..good.len() - 2 {
            let whole = read(TYPE, &good[..cut]);
            assert!(whole.is_err(), "cut at {cut}: {whole:?}");
        }
        let many = format!("{}--XX--", field("a", "").repeat(MAX_PARTS + 1));
        let long = format!(
            "--XX\r\nX: {}\r\n\r\n\r\n--XX--",
            "y".repeat(MAX_PART_HEADER_BYTES)
        );
        let cases = [
            ("multipart/form-data", good.as_str()),
            ("multipart/form-data; boundary=", good.as_str()),
            ("multipart/form-data; boundary=\"XX", good.as_str()),
            ("multipart/form-data; boundary=YY", good.as_str()),
            (TYPE, many.as_str()),
            (TYPE, long.as_str()),
            (TYPE, "--XX\r\n\r\nno header\r\n--XX--"),
            (
                TYPE,
                "--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--",
            ),
            (
                TYPE,
                "--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XX--",
            ),
            (TYPE, "--XXX\r\n\r\n--XX--"),
        ];
        for (content_type, body) in cases {
            assert!(
                read(content_type, body).is_err(),
                "{content_type}: {body:.80}"
            );
        }
        let most = format!("{}--XX--", field("a", "").repeat(MAX_PARTS));
        assert_eq!(read(TYPE, &most).unwrap().len(), MAX_PARTS);
    }
}
