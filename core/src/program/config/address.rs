//! URLs that may hold a password: read without repeating it, shown without it.

use std::fmt;

use url::Url;

/// A URL of one of these schemes with a host. The text may hold a password, so no message repeats it.
pub(super) fn parse(text: &str, schemes: &[&str]) -> Result<Url, String> {
    check_at_signs(text)?;
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("the scheme must be one of {}", schemes.join(", ")));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL names no host".to_owned());
    }
    Ok(url)
}

/// Refuses a URL in which a part of the password may be read as host or path, which logs show.
pub(super) fn check_at_signs(text: &str) -> Result<(), String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let credentials = rest
        .split_once('@')
        .filter(|(before, after)| before.contains(['/', '?', '#']) || after.contains('@'));
    match credentials {
        None => Ok(()),
        Some(_) => Err(
            "an `@` stands where none may be; percent-encode `@`, `/`, `?` and `#` in the user, the password and what \
             follows the host (%40, %2F, %3F, %23)"
                .to_owned(),
        ),
    }
}

/// Shows a URL without user, password and parameters.
pub(super) fn show(url: &Url, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{}://{}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )?;
    if let Some(port) = url.port() {
        write!(f, ":{port}")?;
    }
    f.write_str(url.path())
}

/// Debug output as display output, which has no credentials.
macro_rules! debug_as_display {
    ($($address:ty),+) => {
        $(impl std::fmt::Debug for $address {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        })+
    };
}
pub(super) use debug_as_display;
