//! How deeply JSON of a client may nest: one bound for every body, looked at before anything is built of it.

use crate::http::error::{ApiError, Code};

/// Deepest nesting; what serde_json itself allows where it builds values.
pub const MAX_DEPTH: usize = 128;

/// Refuses JSON that nests deeper than [`MAX_DEPTH`]. What is no JSON is not found out here.
///
/// # Errors
/// `bad_request`.
pub fn check(json: &[u8]) -> Result<(), ApiError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let detail = format!("JSON: nested deeper than {MAX_DEPTH} levels");
                    return Err(ApiError::new(Code::BadRequest, detail));
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_of_texts() {
        let nested = |levels: usize| "[{".repeat(levels / 2) + &"}]".repeat(levels / 2);
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        let refused = check(nested(MAX_DEPTH + 2).as_bytes()).unwrap_err();
        assert_eq!(refused.code(), Code::BadRequest);
        let text = format!(r#"["\"{}"]"#, "[".repeat(1000));
        assert!(check(text.as_bytes()).is_ok());
        let flat = format!("[{}[]]", "[],".repeat(1000));
        assert!(check(flat.as_bytes()).is_ok());
    }
}
