//! Where a program answers its operator.

use std::net::SocketAddr;
use std::str::FromStr;

/// Where /livez, /readyz and /metrics have a listener of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpsListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for OpsListen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_| "an address and a port, as 127.0.0.1:9100, or `off`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_listener_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(OpsListen::Off));
        let at = OpsListen::At(([127, 0, 0, 1], 9100).into());
        assert_eq!("127.0.0.1:9100".parse(), Ok(at));
        assert!("9100".parse::<OpsListen>().is_err());
        assert!("localhost".parse::<OpsListen>().is_err());
    }
}
