//! Which addresses may get webhooks: public ones, by HTTPS, unless the operator allows others.
//!
//! An address is looked at twice. A literal one never passes a resolver, so the URL is checked; a name may mean another
//! address at each look-up, so what the resolver says is checked, and only that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Longest address of a webhook.
const MAX_URL_BYTES: usize = 2048;

/// A name that means a forbidden address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name means an address that is not public")]
pub(crate) struct Blocked;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// Private addresses, plain HTTP and any port are allowed.
    pub(crate) allow_private: bool,
}

impl Addresses {
    /// The URL, or what is wrong with it.
    pub(crate) fn check(self, text: &str) -> Result<Url, &'static str> {
        if text.len() > MAX_URL_BYTES {
            return Err("the webhook's URL is longer than 2 KiB");
        }
        let url = Url::parse(text).map_err(|_| "the webhook's URL cannot be read")?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            _ => return Err("the webhook's URL must begin with https://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the webhook's URL must not have a user or a password");
        }
        let port_is_usual = url.port().is_none_or(|port| port == 443 || port >= 1024);
        if !port_is_usual && !self.allow_private {
            return Err("the webhook's port must be 443, or 1024 or above");
        }
        let literal = match url.host() {
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            None => return Err("the webhook's URL has no host"),
        };
        if literal.is_some_and(|address| !self.allows(address)) {
            return Err("the webhook's address is not public");
        }
        Ok(url)
    }

    /// All addresses of a name, if each of them is allowed.
    fn checked(self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Blocked> {
        if found.iter().all(|address| self.allows(address.ip())) {
            Ok(found)
        } else {
            Err(Blocked)
        }
    }

    fn allows(self, address: IpAddr) -> bool {
        self.allow_private || is_public(address)
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let checked = rule.checked(found.collect())?;
            Ok(Box::new(checked.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Not in the registry of special addresses (RFC 6890 and its successors).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

/// Global unicast, and none of the blocks that stand for an IPv4 address or for nothing.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global = (0x2000..0x4000).contains(&a);
    let embeds_v4 = a == 0x2002 || (a == 0x2001 && b == 0);
    let documentation = (a == 0x2001 && b == 0xdb8) || (a == 0x3fff && b < 0x1000);
    global && !embeds_v4 && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Addresses = Addresses {
        allow_private: false,
    };

    #[test]
    fn only_public_addresses_are_allowed() {
        for good in [
            "https://example.org/hook",
            "https://example.org:8443/",
            "https://93.184.215.14/",
            "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
        ] {
            assert!(PUBLIC.check(good).is_ok(), "{good}");
        }
        let long = format!("https://example.org/{}", "x".repeat(8192));
        for bad in [
            "http://example.org/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://0.0.0.0/",
            "https://10.1.2.3/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://192.0.0.1/",
            "https://192.88.99.1/",
            "https://198.18.0.1/",
            "https://203.0.113.1/",
            "https://224.0.0.1/",
            "https://240.0.0.1/",
            "https://255.255.255.255/",
            "https://[::]/",
            "https://[fc00::1]/",
            "https://[fe80::1]/",
            "https://[ff02::1]/",
            "https://[2001:db8::1]/",
            "https://[100::1]/",
            "https://[2002:7f00:1::]/",
            "https://[64:ff9b::a00:1]/",
            "https://user:pass@example.org/",
            "https://example.org:22/",
            "file:///etc/passwd",
            "gopher://example.org/",
            "example.org",
            "https://",
            "",
            &long,
        ] {
            assert!(PUBLIC.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_changes_its_meaning_is_checked_at_each_look_up() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        assert!(PUBLIC.checked(vec![at("93.184.215.14")]).is_ok());
        assert_eq!(PUBLIC.checked(vec![at("10.0.0.1")]), Err(Blocked));
        let mixed = vec![at("93.184.215.14"), at("::ffff:127.0.0.1")];
        assert_eq!(PUBLIC.checked(mixed), Err(Blocked));
    }

    #[tokio::test]
    async fn a_name_for_this_machine_is_blocked_by_the_resolver() {
        let name = || "localhost".parse::<Name>().unwrap();
        let Err(error) = PUBLIC.resolve(name()).await else {
            panic!("this machine is not public");
        };
        assert!(error.downcast_ref::<Blocked>().is_some(), "{error}");
        let anyone = Addresses {
            allow_private: true,
        };
        assert!(anyone.resolve(name()).await.is_ok());
        assert!(anyone.check("http://127.0.0.1:22/").is_ok());
    }
}
