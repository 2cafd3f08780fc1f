//! Which server to ask, and the key to show it. Keys never come from the command line, which other users can read.

use std::env;
use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use reqwest::header::HeaderValue;
use url::Url;

use crate::failure::Failure;

/// The variable that holds the key itself.
const KEY_VARIABLE: &str = "SELVAGE_API_KEY";
/// Keys are some fifty bytes; a file beyond this is another file.
const LONGEST_KEY: usize = 4096;

/// Which server to ask.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The server's address.
    #[arg(long, env = "SELVAGE_URL", value_name = "URL", default_value = "http://127.0.0.1:8000",
          value_parser = address, value_hint = ValueHint::Url)]
    pub(crate) url: Url,
    /// File with the API key; without it, the key is taken from the variable SELVAGE_API_KEY.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key_file: Option<PathBuf>,
    /// How often a call is tried while the server cannot be reached or is busy.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) tries: u32,
}

impl Server {
    /// The header that shows the key, if there is one.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let (key, source) = match &self.key_file {
            Some(file) => {
                let read = fs::read_to_string(file);
                let key = read.map_err(|cause| {
                    Failure::Usage(format!("--key-file {}: {cause}", file.display()))
                })?;
                (key, "--key-file")
            }
            None => match env::var(KEY_VARIABLE) {
                Ok(key) => (key, KEY_VARIABLE),
                Err(env::VarError::NotPresent) => return Ok(None),
                Err(env::VarError::NotUnicode(_)) => (String::from("\u{fffd}"), KEY_VARIABLE),
            },
        };
        header(key.trim()).map(Some).ok_or_else(|| {
            let wrong = "holds no API key: it is one line, as `selvage-gateway key` shows it";
            Failure::Usage(format!("{source} {wrong}"))
        })
    }
}

fn header(key: &str) -> Option<HeaderValue> {
    let can_be_one = !key.is_empty() && key.len() <= LONGEST_KEY && key.is_ascii();
    let value = can_be_one.then(|| HeaderValue::try_from(format!("Bearer {key}")).ok());
    let mut value = value.flatten()?;
    value.set_sensitive(true);
    Some(value)
}

/// An address under which the API's paths are; the reason names no part of it, which might be a password.
fn address(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("a server's address begins with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "an address holds no password: put a key into {KEY_VARIABLE}"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a server's address has no query".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_a_path_and_nothing_secret() {
        for (text, path) in [
            ("http://127.0.0.1:8000", "/"),
            ("https://example/selvage/", "/selvage"),
        ] {
            assert_eq!(address(text).unwrap().path(), path);
        }
        for text in [
            "127.0.0.1:8000",
            "localhost:8000",
            "ftp://h/",
            "http://ann:s3cret@h/",
            "http://s3cret@h/",
            "http://h/?token=s3cret",
        ] {
            let error = address(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_key_is_one_printable_line_and_is_never_shown() {
        let value = header("selvage_s3cret").unwrap();
        assert_eq!(value.as_bytes(), b"Bearer selvage_s3cret");
        assert!(!format!("{value:?}").contains("s3cret"));
        for wrong in ["", "two\nlines", "é", &"x".repeat(LONGEST_KEY + 1)] {
            assert!(header(wrong).is_none(), "{wrong:?}");
        }
    }
}
