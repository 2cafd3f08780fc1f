//! What messages are signed with: a secret of each API key, derived from the gateway's. So a receiver can check what is sent to
//! it, and cannot sign what others would believe.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use selvage_core::key_name::KeyName;

/// What a key's secret is the signature of, with the key's name as the message's id and 0 as its time.
const DERIVED: &[u8] = b"selvage webhook secret";

/// A signing secret as the specification has it: `whsec_` and base64. No log shows it.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match standardwebhooks::Webhook::new(text) {
            Ok(_) if text.starts_with("whsec_") && text.len() >= 30 => Ok(Self(text.into())),
            Ok(_) | Err(_) => Err("must be `whsec_` and at least 18 bytes as base64"),
        }
    }
}

impl Secret {
    /// The secret of one API key: HMAC-SHA-256 with this secret of `NAME.0.selvage webhook secret`.
    fn of_key(&self, name: &KeyName) -> Option<Self> {
        let signature = self.sign(name.as_str(), 0, DERIVED)?;
        let (_version, code) = signature.split_once(',')?;
        Some(Self(format!("whsec_{code}").into()))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let signer = standardwebhooks::Webhook::new(&self.0).ok()?;
        signer.sign(id, timestamp, body).ok()
    }
}

/// What a gateway signs with.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    pub(crate) current: Secret,
    /// The one before, while some receivers still have it or what was derived from it.
    pub(crate) previous: Option<Secret>,
}

impl Secrets {
    /// The value of `webhook-signature` for a message about a job of this owner; several signatures stand between spaces.
    /// `None` where the message cannot be signed.
    pub(crate) fn sign(
        &self,
        owner: Option<&KeyName>,
        (id, timestamp): (&str, i64),
        body: &[u8],
    ) -> Option<String> {
        let mut secrets = Vec::new();
        if let Some(owner) = owner {
            secrets.push(self.current.of_key(owner)?);
            if let Some(previous) = &self.previous {
                secrets.push(previous.of_key(owner)?);
            }
        } else {
            secrets.push(self.current.clone());
        }
        secrets.extend(self.previous.clone());
        let signatures = secrets
            .iter()
            .map(|secret| secret.sign(id, timestamp, body));
        let signatures: Option<Vec<String>> = signatures.collect();
        Some(signatures?.join(" "))
    }
}

/// Shows the secret that signs the webhooks of one API key, derived from `--webhook-secret`, for the key's owner.
#[derive(Clone, Debug, Args)]
pub struct ShowSecret {
    /// Name of the client, as in the file of `--api-keys`.
    #[arg(value_name = "NAME")]
    pub name: KeyName,
}

impl ShowSecret {
    /// Writes the secret to `out`.
    ///
    /// # Errors
    /// When there is no secret to derive it from, or `out` cannot be written to.
    pub fn run(&self, secret: Option<&Secret>, mut out: impl Write) -> io::Result<()> {
        let missing = || io::Error::other("there is no webhook secret: set SELVAGE_WEBHOOK_SECRET");
        let secret = secret.and_then(|secret| secret.of_key(&self.name));
        let secret = secret.ok_or_else(missing)?;
        writeln!(out, "{}", secret.0)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use reqwest::header::HeaderMap;
    use selvage_core::clock::UnixMillis;

    use super::*;

    const BODY: &[u8] = b"{}";

    fn secret(byte: u8) -> Secret {
        let text = format!("whsec_{}", BASE64_STANDARD.encode([byte; 32]));
        text.parse().unwrap()
    }

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    /// A message as a receiver gets it.
    fn message(secrets: &Secrets, owner: Option<&KeyName>) -> HeaderMap {
        let timestamp = i64::try_from(UnixMillis::wall().0 / 1000).unwrap();
        let signature = secrets.sign(owner, ("1.succeeded", timestamp), BODY);
        let values = [
            ("webhook-id", "1.succeeded".to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature.unwrap()),
        ];
        let pairs = values.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.into_iter().collect()
    }

    fn accepts(secret: &str, message: &HeaderMap) -> bool {
        let receiver = standardwebhooks::Webhook::new(secret).unwrap();
        receiver.verify(BODY, message).is_ok()
    }

    /// What the command shows.
    fn shown(secret: &Secret, name: &KeyName) -> String {
        let (mut out, name) = (Vec::new(), name.clone());
        ShowSecret { name }.run(Some(secret), &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        line.trim_end().to_owned()
    }

    #[test]
    fn receivers_of_two_keys_cannot_sign_for_each_other() {
        let (ann, bob) = (name("ann"), name("bob"));
        let secrets = Secrets {
            current: secret(1),
            previous: None,
        };
        let anns = message(&secrets, Some(&ann));
        let shared = &secrets.current;
        assert!(accepts(&shown(shared, &ann), &anns));
        assert!(!accepts(&shown(shared, &bob), &anns));
        assert!(!accepts(&shared.0, &anns));
        assert!(accepts(&shared.0, &message(&secrets, None)));
        assert!(shown(shared, &ann).parse::<Secret>().is_ok());
    }

    #[test]
    fn receivers_with_the_previous_secret_go_on_during_a_change() {
        let ann = name("ann");
        let (current, previous) = (secret(1), secret(2));
        let secrets = Secrets {
            current: current.clone(),
            previous: Some(previous.clone()),
        };
        let anns = message(&secrets, Some(&ann));
        for known in [
            shown(&current, &ann),
            shown(&previous, &ann),
            previous.0.to_string(),
        ] {
            assert!(accepts(&known, &anns), "{known}");
        }
        assert!(!accepts(&current.0, &anns));
        assert!(!accepts(&shown(&previous, &name("bob")), &anns));
        let nobodys = message(&secrets, None);
        assert!(accepts(&current.0, &nobodys) && accepts(&previous.0, &nobodys));
    }

    #[test]
    fn a_secret_is_derived_as_documented_and_only_from_one_that_is_set() {
        // printf 'ann.0.selvage webhook secret' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101… -binary | base64
        assert_eq!(
            shown(&secret(1), &name("ann")),
            "whsec_WcScl6iBORmAXw4NWR4GbVNwjbKB1D3c9aIglryNqvc="
        );
        let missing = ShowSecret { name: name("ann") }.run(None, Vec::new());
        let error = missing.unwrap_err().to_string();
        assert!(error.contains("SELVAGE_WEBHOOK_SECRET"), "{error}");
    }
}
