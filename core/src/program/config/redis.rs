//! Where Redis is: one server, or whichever one its sentinels name.

use std::fmt;
use std::str::FromStr;

use url::{Url, form_urlencoded};

use super::address;

/// The port sentinels listen on by default.
const SENTINEL_PORT: u16 = 26_379;
/// What is written in the place of the server's host, which only the sentinels know. RFC 2606 §2: nobody has this name.
const SOME_SERVER: &str = "primary.invalid";

/// The address of a Redis; shows hosts and path only, never user or password.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisUrl {
    /// That server.
    Server(Url),
    /// The server that is the primary of a service at the time.
    Sentinels(Sentinels),
}

/// The sentinels of a service, and how its servers are signed in at.
#[derive(Clone, PartialEq, Eq)]
pub struct Sentinels {
    nodes: Vec<Url>,
    service: String,
    server: Url,
}

impl Sentinels {
    /// The sentinels' addresses, at least one, credentials included; for the client library only.
    #[must_use]
    pub fn nodes(&self) -> &[Url] {
        &self.nodes
    }

    /// The name under which they watch the servers.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Credentials, database and scheme of the servers; its host stands for whichever is the primary. For the client library
    /// only.
    #[must_use]
    pub const fn server(&self) -> &Url {
        &self.server
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for (prefix, scheme) in [
            ("redis+sentinel://", "redis"),
            ("rediss+sentinel://", "rediss"),
        ] {
            if let Some(rest) = text.strip_prefix(prefix) {
                address::check_at_signs(rest)?;
                return sentinels(scheme, rest).map(Self::Sentinels);
            }
        }
        let schemes = ["redis", "rediss", "redis+sentinel", "rediss+sentinel"];
        address::parse(text, &schemes).map(Self::Server)
    }
}

/// Reads `user:password@host1:port,host2:port/service/db?sentinel_username=…&sentinel_password=…`. No message repeats it.
fn sentinels(scheme: &str, text: &str) -> Result<Sentinels, String> {
    const SHAPE: &str = "what follows the hosts must be /service or /service/db";
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, rest) = text.split_at(end);
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (service, database) = match path.strip_prefix('/').map(|path| path.split_once('/')) {
        Some(Some(parts)) => parts,
        Some(None) => (&path[1..], ""),
        None => return Err(SHAPE.to_owned()),
    };
    // As Redis itself has it: `sentinel.c`, "Only the characters A-z 0-9 and the three .-_".
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    if service.is_empty() || !service.bytes().all(allowed) {
        return Err(SHAPE.to_owned());
    }
    let server = format!("{scheme}://{credentials}@{SOME_SERVER}/{database}");
    let (user, password) = sentinel_login(query)?;
    let node = |host: &str| {
        let mut url = address::parse(&format!("{scheme}://{host}"), &[scheme])?;
        if url.path().len() > 1 || url.query().is_some() {
            return Err("a sentinel is a host and a port".to_owned());
        }
        let port = url.port().unwrap_or(SENTINEL_PORT);
        let set = url
            .set_port(Some(port))
            .and_then(|()| url.set_username(&user))
            .and_then(|()| url.set_password(password.as_deref()));
        set.map_err(|()| "a sentinel is a host and a port".to_owned())?;
        Ok(url)
    };
    Ok(Sentinels {
        nodes: hosts.split(',').map(node).collect::<Result<_, String>>()?,
        service: service.to_owned(),
        server: address::parse(&server, &[scheme])?,
    })
}

/// User and password for the sentinels themselves, which need not be those of the servers.
fn sentinel_login(query: &str) -> Result<(String, Option<String>), String> {
    let (mut user, mut password) = (String::new(), None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "sentinel_username" => user = value.into_owned(),
            "sentinel_password" => password = Some(value.into_owned()),
            _ => return Err("parameters are sentinel_username and sentinel_password".to_owned()),
        }
    }
    Ok((user, password))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sentinels {
            nodes,
            service,
            server,
        } = match self {
            Self::Server(url) => return address::show(url, f),
            Self::Sentinels(sentinels) => sentinels,
        };
        // What follows the credentials is host and port.
        let hosts = nodes
            .iter()
            .filter_map(|node| node.authority().rsplit('@').next());
        let (scheme, nodes) = (server.scheme(), hosts.collect::<Vec<_>>().join(","));
        let database = server.path().trim_end_matches('/');
        write!(f, "{scheme}+sentinel://{nodes}/{service}{database}")
    }
}

address::debug_as_display!(RedisUrl);

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Sentinels {
        match text.parse().unwrap() {
            RedisUrl::Sentinels(sentinels) => sentinels,
            RedisUrl::Server(url) => panic!("a server: {url}"),
        }
    }

    #[test]
    fn sentinels_are_named_in_one_url() {
        let url =
            "redis+sentinel://ann:s3%40cret@s1:26379,s2,[::1]:7/main/2?sentinel_password=0ther%2F";
        let sentinels = parsed(url);
        let nodes: Vec<&str> = sentinels.nodes().iter().map(Url::as_str).collect();
        assert_eq!(
            nodes,
            [
                "redis://:0ther%2F@s1:26379",
                "redis://:0ther%2F@s2:26379",
                "redis://:0ther%2F@[::1]:7"
            ]
        );
        assert_eq!(sentinels.service(), "main");
        let server = sentinels.server().as_str();
        assert_eq!(server, "redis://ann:s3%40cret@primary.invalid/2");
        let sentinels = parsed("rediss+sentinel://s1/main");
        assert_eq!(sentinels.nodes()[0].as_str(), "rediss://s1:26379");
        assert_eq!(sentinels.server().as_str(), "rediss://primary.invalid/");
    }

    #[test]
    fn addresses_never_show_their_credentials() {
        for (text, shown) in [
            ("redis://ann:s3cret@h:7/1", "redis://h:7/1"),
            (
                "redis+sentinel://ann:s3cret@s1,s2:7/main/2?sentinel_password=s3cret",
                "redis+sentinel://s1:26379,s2:7/main/2",
            ),
            (
                "rediss+sentinel://:s3cret@s1/main",
                "rediss+sentinel://s1:26379/main",
            ),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(format!("{url} {url:?}"), format!("{shown} {shown}"));
        }
        assert_eq!(
            format!("{:?}", parsed("redis+sentinel://:s3cret@s/main")),
            "main"
        );
    }

    #[test]
    fn a_password_that_is_not_encoded_is_refused_without_repeating_it() {
        for text in [
            "redis://u:12/s3cret@h:6379/0",
            "redis://u:12#s3cret@h",
            "redis://u:12?s3cret@h",
            "redis://u:p@s3cret@h",
            "redis+sentinel://u:12/s3cret@s1/main",
            "redis+sentinel://u:p@s3cret@s1/main",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(error.contains("percent-encode"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_without_repeating_it() {
        for text in [
            "s3cret",
            "amqp://u:s3cret@h",
            "redis+sentinel://u:s3cret@s1",
            "redis+sentinel://u:s3cret@s1/",
            "redis+sentinel://u:s3cret@s1/ma%20in",
            "redis+sentinel://u:s3cret@/main",
            "redis+sentinel://u:s3cret@s1,/main",
            "redis+sentinel://u:s3cret@s1:port/main",
            "redis+sentinel://u:s3cret@s1/main?password=s3cret",
            "redis+sentinel:u:s3cret@s1/main",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
