//! The server's address and the API key. Keys never come from the command line, which other users can read.

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

/// The server and how it is called.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The server's address.
    #[arg(long, env = "SELVAGE_URL", value_name = "URL", default_value = "http://127.0.0.1:8000",
          value_parser = address, value_hint = ValueHint::Url)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) key: Key,
    /// Attempts for each request while the server is overloaded or the connection breaks. Default: 5, but only one if the server
    /// has never been reached.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) attempts: Option<u32>,
}

/// Where the API key is.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// File with the API key; otherwise the key is read from the variable SELVAGE_API_KEY.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key_file: Option<PathBuf>,
}

impl Key {
    /// The header with the key, if there is one.
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

/// A server's address; without a scheme it is `http://`. An error quotes no part of it, because it might be a password.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let has_scheme = text.contains("://");
    let text = if has_scheme {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let mut url = Url::parse(&text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("expected http://HOST:PORT or https://HOST:PORT".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "an address has no password; put the API key into {KEY_VARIABLE}"
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
    fn addresses_may_have_a_path_no_scheme_and_nothing_secret() {
        for (text, url) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
            ("https://example/selvage/", "https://example/selvage"),
            ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
            ("localhost:8000", "http://localhost:8000/"),
            ("[::1]:8000/selvage", "http://[::1]:8000/selvage"),
            ("example", "http://example/"),
        ] {
            assert_eq!(address(text).unwrap().as_str(), url);
        }
        for text in [
            "ftp://h/",
            "ann:s3cret@h:8000",
            "",
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
