//! Where RabbitMQ is: one node, or several of one cluster.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Url, form_urlencoded};

use super::address;

/// The address of one RabbitMQ node; shows host and path only, never user or password.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl(Url);

impl AmqpUrl {
    /// The whole address, credentials included; for the client library only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The address in parts, credentials included; for the client library only.
    #[must_use]
    pub const fn parts(&self) -> &Url {
        &self.0
    }

    /// Whether it means the default user, named or left out, on a host that is not this one.
    fn is_guest_elsewhere(&self) -> bool {
        // Percent-decoded, as it is sent to the broker.
        let user = form_urlencoded::parse(self.0.username().as_bytes()).next();
        let guest = user.is_none_or(|(user, _)| user == "guest");
        // Hosts of schemes a browser does not know stay text: `url` reads no address out of them.
        let host = self.0.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let here = address.eq_ignore_ascii_case("localhost")
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback());
        guest && !here
    }

    /// The virtual host as it stands in the address; the default one has three spellings.
    fn virtual_host(&self) -> String {
        match self.0.path() {
            "" | "/" => "%2f".to_owned(),
            path => path[1..].replace("%2F", "%2f"),
        }
    }
}

impl FromStr for AmqpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself may hold a password, so no message repeats it.
        address::parse(text, &["amqp", "amqps"]).map(Self)
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        address::show(&self.0, f)
    }
}

/// The nodes of one cluster, in the order they were named; at least one. Shows neither users nor passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrls(Vec<AmqpUrl>);

impl AmqpUrls {
    /// The nodes, at least one.
    #[must_use]
    pub fn nodes(&self) -> &[AmqpUrl] {
        &self.0
    }

    /// Whether one of them would be used as the default user although it is on another host.
    pub(super) fn is_guest_elsewhere(&self) -> bool {
        self.0.iter().any(AmqpUrl::is_guest_elsewhere)
    }
}

impl From<AmqpUrl> for AmqpUrls {
    fn from(node: AmqpUrl) -> Self {
        Self(vec![node])
    }
}

impl FromStr for AmqpUrls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nodes: Vec<AmqpUrl> = text
            .split(',')
            .map(|node| node.trim().parse())
            .collect::<Result<_, String>>()
            .map_err(|error| match text.contains(',') {
                true => format!("{error} (commas separate whole URLs; within one write %2C)"),
                false => error,
            })?;
        let first = nodes.first().map(AmqpUrl::virtual_host);
        if nodes.iter().any(|node| Some(node.virtual_host()) != first) {
            return Err("the nodes of one cluster have the same virtual host".to_owned());
        }
        Ok(Self(nodes))
    }
}

impl fmt::Display for AmqpUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.0.iter().map(AmqpUrl::to_string).collect();
        f.write_str(&nodes.join(","))
    }
}

address::debug_as_display!(AmqpUrl, AmqpUrls);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_never_show_their_credentials() {
        let url: AmqpUrl = "amqp://ann:s3cret@mq.example:5672/%2f".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "amqp://mq.example:5672/%2f amqp://mq.example:5672/%2f"
        );
        assert!(url.expose().contains("s3cret"));
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for text in [
            "",
            "mq.example",
            "http://u:s3cret@h",
            "redis://",
            "amqp://u:s3cret@",
            "amqp://u:s3cret@h,",
            "amqp://u:s3cret@h,http://u:s3cret@h",
            "amqp://u:s3c,ret@h",
            "amqp://u:s3cret@h/a,amqp://u:s3cret@g/b",
        ] {
            let error = text.parse::<AmqpUrls>().unwrap_err();
            assert!(!error.contains("s3c"), "{error}");
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_is_refused_without_repeating_it() {
        for text in [
            "amqp://u:12/s3cret@h/%2f",
            "amqp://u:12#s3cret@h",
            "amqp://u:12?s3cret@h",
            "amqp://u:p@s3cret@h",
            "amqp://ann:s3cret@h/,amqp://ann:12/s3cret@g/",
        ] {
            let error = text.parse::<AmqpUrls>().unwrap_err();
            assert!(error.contains("percent-encode"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn commas_separate_the_nodes_of_a_cluster() {
        let text = "amqp://ann:s3cret@mq1, amqps://ann:s3%2Ccret@mq2:5671/%2F";
        let urls: AmqpUrls = text.parse().unwrap();
        assert_eq!(urls.nodes().len(), 2);
        assert_eq!(format!("{urls} {urls:?}"), {
            let shown = "amqp://mq1,amqps://mq2:5671/%2F";
            format!("{shown} {shown}")
        });
    }
}
