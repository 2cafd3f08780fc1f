//! `selvage-gateway key NAME`: makes a key, and the line of the keys file that lets it in.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use rand::RngCore as _;
use selvage_core::key::Digest;
use selvage_core::key_name::KeyName;

use super::rate::Rate;

/// What keys begin with, so that scanners for leaked secrets can know them.
const PREFIX: &str = "selvage_";

/// Makes an API key: its line for the file of `--api-keys` goes to standard output, the key itself, which is kept nowhere,
/// to standard error. So `selvage-gateway key acme >> keys` adds it to the file and shows it once.
#[derive(Clone, Debug, Args)]
pub struct MakeKey {
    /// Name of the client; its jobs belong to it, whatever its key.
    #[arg(value_name = "NAME")]
    pub name: KeyName,
    /// May also see and replay dead letters.
    #[arg(long)]
    pub admin: bool,
    /// Most requests, such as 600/m; each gateway counts for itself.
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
}

impl MakeKey {
    /// Writes the line to `line` and the key to `secret`.
    ///
    /// # Errors
    /// When either cannot be written to.
    pub fn run(&self, mut line: impl Write, mut secret: impl Write) -> io::Result<()> {
        let key = fresh();
        let hash = Digest::of(key.as_bytes()).to_hex();
        let admin = if self.admin { " admin" } else { "" };
        let rate = self.rate.map(|rate| format!(" rate={rate}"));
        let rate = rate.unwrap_or_default();
        writeln!(line, "{} {hash}{admin}{rate}", self.name)?;
        line.flush()?;
        writeln!(secret, "The key of {}, shown only now: {key}", self.name)
    }
}

/// 256 random bits.
fn fresh() -> String {
    let mut bits = [0_u8; 32];
    rand::rng().fill_bytes(&mut bits);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::http::access::Access;

    #[test]
    fn a_made_key_is_let_in_by_its_line_and_kept_out_of_it() {
        let (mut line, mut secret) = (Vec::new(), Vec::new());
        let make = MakeKey {
            name: "acme".parse().unwrap(),
            admin: true,
            rate: Some("600/m".parse().unwrap()),
        };
        make.run(&mut line, &mut secret).unwrap();
        let secret = String::from_utf8(secret).unwrap();
        let key = secret.trim().rsplit(' ').next().unwrap();
        assert!(key.starts_with(PREFIX) && key.len() == PREFIX.len() + 43);
        assert!(!String::from_utf8(line.clone()).unwrap().contains(key));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, line).unwrap();
        let access = Access::from_file(&file).unwrap();
        let caller = access.caller(Some(key.as_bytes()), None).unwrap();
        assert_eq!(caller.owner().unwrap().as_str(), "acme");
        assert!(caller.must_be_admin().is_ok());
        assert!(caller.rate_headers().is_some());
        assert_ne!(fresh(), fresh());
    }
}
