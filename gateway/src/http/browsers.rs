//! What a browser's pages may ask of this gateway: the names it answers to, and the origins it lets in.
//!
//! A page reaches services that only its reader can reach, such as one on the loopback address. It does so under a name
//! of its own that resolves there (DNS rebinding), or by a cross-origin request whose answer it need not read. API keys
//! stop both, because a page has none. Knows no route; `routes/browsers.rs` asks here.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use url::{Origin, Url};

/// Fetch Metadata: how the page that asks relates to what it asks. Pages cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A name that `Host` may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`
    Any,
    /// This one, in lower case, at any port.
    Name(String),
}

/// An origin whose pages may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`
    Any,
    /// This one, as browsers write it in `Origin`.
    Origin(HeaderValue),
}

/// A setting that is no host name.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a host name: give a name without scheme and port, such as gateway.example, or * for any"
)]
pub struct InvalidHost;

/// A setting that is no origin.
#[derive(Debug, thiserror::Error)]
#[error(
    "not an origin: give scheme, host and port alone, such as https://app.example, or * for any"
)]
pub struct InvalidOrigin;

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match host_of(text) {
            Some(host) if text.eq_ignore_ascii_case(&host) => Ok(Self::Name(host)),
            Some(_) | None => Err(InvalidHost),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let url = Url::parse(text).map_err(|_| InvalidOrigin)?;
        let origin = url.origin();
        let alone = url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
        if matches!(origin, Origin::Opaque(_)) || url.path() != "/" || !alone {
            return Err(InvalidOrigin);
        }
        let origin = HeaderValue::try_from(origin.ascii_serialization());
        origin.map(Self::Origin).map_err(|_| InvalidOrigin)
    }
}

/// The rules of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserRules {
    /// Names that `Host` may have besides the loopback ones; `None` for any.
    hosts: Option<Vec<String>>,
    /// Whether unsafe requests of other origins are refused.
    own_origin: bool,
    /// Other origins that are let in.
    origins: Vec<AllowedOrigin>,
}

impl BrowserRules {
    /// The rules by these settings, for a gateway with or without API keys that listens there.
    ///
    /// Names that nobody gave are unknown here: where others than this machine can connect, they come under names of
    /// their DNS (`http://gateway:8000`), so `Host` is looked at only where names are given. On a loopback address
    /// nobody needs another name.
    #[must_use]
    pub fn new(
        hosts: &[AllowedHost],
        origins: &[AllowedOrigin],
        has_keys: bool,
        listen: IpAddr,
    ) -> Self {
        let looks = !hosts.is_empty() || (listen.is_loopback() && !has_keys);
        let names = hosts.iter().map(|host| match host {
            AllowedHost::Any => None,
            AllowedHost::Name(name) => Some(name.clone()),
        });
        Self {
            hosts: looks.then(|| names.collect()).flatten(),
            own_origin: !has_keys,
            origins: origins.to_vec(),
        }
    }

    /// Whether this gateway answers to this authority. An address is no name that could be made to resolve here.
    #[must_use]
    pub fn answers_to(&self, authority: &str) -> bool {
        let Some(hosts) = &self.hosts else {
            return true;
        };
        host_of(authority)
            .is_some_and(|host| host == "localhost" || is_address(&host) || hosts.contains(&host))
    }

    /// Whether a request that changes something may come from where it says it comes from.
    #[must_use]
    pub fn may_change(&self, authority: &str, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN);
        let allowed = |allowed: &AllowedOrigin| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Origin(allowed) => origin == Some(allowed),
        };
        if !self.own_origin || self.origins.iter().any(allowed) {
            return true;
        }
        match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            // A proxy between the two may have changed `Host`; the browser knows better.
            Some(b"same-origin" | b"none") => true,
            Some(_) => false,
            None => origin.is_none_or(|origin| is_of(origin, authority)),
        }
    }

    /// The origins whose pages may read; `None` where there are none.
    #[must_use]
    pub fn origins(&self) -> Option<&[AllowedOrigin]> {
        (!self.origins.is_empty()).then_some(&self.origins)
    }
}

/// Whether an origin has this authority.
fn is_of(origin: &HeaderValue, authority: &str) -> bool {
    let text = origin.to_str().unwrap_or_default();
    text.split_once("://")
        .is_some_and(|(_, own)| own.eq_ignore_ascii_case(authority))
}

/// The host of an authority, in lower case; `None` where it is none, or has a user.
fn host_of(authority: &str) -> Option<String> {
    let parsed: Authority = authority.parse().ok()?;
    let host = parsed.host();
    (!host.is_empty() && !authority.contains('@')).then(|| host.to_ascii_lowercase())
}

fn is_address(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn rules(hosts: &[&str], origins: &[&str], has_keys: bool, listen: IpAddr) -> BrowserRules {
        let hosts: Vec<_> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let origins: Vec<_> = origins.iter().map(|text| text.parse().unwrap()).collect();
        BrowserRules::new(&hosts, &origins, has_keys, listen)
    }

    #[test]
    fn a_loopback_gateway_answers_to_addresses_and_names_it_was_given() {
        let rules = rules(&["Models.example"], &[], false, LOOPBACK);
        for good in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "127.8.8.8",
            "[::1]:8000",
            "192.0.2.7",
            "models.example:80",
        ] {
            assert!(rules.answers_to(good), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8000",
            "localhost@evil.example",
            "evil.example@localhost",
            "",
            ":8000",
            "::1",
        ] {
            assert!(!rules.answers_to(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_looked_at_where_they_are_given_or_nobody_needs_one() {
        let answers = |hosts: &[&str], has_keys, listen| {
            rules(hosts, &[], has_keys, listen).answers_to("gateway:8000")
        };
        assert!(!answers(&[], false, LOOPBACK));
        assert!(answers(&[], true, LOOPBACK));
        assert!(answers(&[], false, EVERYWHERE));
        assert!(!answers(&["other"], false, EVERYWHERE));
        assert!(!answers(&["other"], true, EVERYWHERE));
        assert!(answers(&["other", "*"], false, LOOPBACK));
    }

    #[test]
    fn only_pages_of_this_gateway_and_of_allowed_origins_may_change_anything() {
        let may = |rules: &BrowserRules, given: &[(HeaderName, &str)]| {
            let headers = given
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
                .collect();
            rules.may_change("localhost:8000", &headers)
        };
        let origin = |text: &'static str| (header::ORIGIN, text);
        let site = |text: &'static str| (SEC_FETCH_SITE, text);
        let open = rules(&[], &["https://app.example"], false, LOOPBACK);
        assert!(may(&open, &[]));
        assert!(may(&open, &[origin("http://localhost:8000")]));
        assert!(may(
            &open,
            &[origin("https://app.example"), site("cross-site")]
        ));
        assert!(may(
            &open,
            &[origin("https://proxy.example"), site("same-origin")]
        ));
        assert!(!may(&open, &[origin("http://localhost:3000")]));
        assert!(!may(
            &open,
            &[origin("http://localhost:3000"), site("same-site")]
        ));
        assert!(!may(&open, &[origin("https://evil.example")]));
        assert!(!may(&open, &[origin("null")]));
        assert!(!may(&open, &[site("cross-site")]));
        let evil = [origin("https://evil.example"), site("cross-site")];
        assert!(may(&rules(&[], &["*"], false, LOOPBACK), &evil));
        assert!(may(&rules(&[], &[], true, LOOPBACK), &evil));
    }

    #[test]
    fn settings_are_names_and_origins_and_nothing_more() {
        for bad in ["", "http://h", "h:80", "a b", "u@h", "h/"] {
            bad.parse::<AllowedHost>().unwrap_err();
        }
        for bad in [
            "",
            "app.example",
            "null",
            "file:///x",
            "https://h/p",
            "https://u@h",
            "data:x",
        ] {
            bad.parse::<AllowedOrigin>().unwrap_err();
        }
        let origin: AllowedOrigin = "HTTPS://App.example:443/".parse().unwrap();
        let written = HeaderValue::from_static("https://app.example");
        assert_eq!(origin, AllowedOrigin::Origin(written));
    }
}
