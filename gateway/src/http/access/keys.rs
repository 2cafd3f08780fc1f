//! The file of API keys: one line per client, with hashes only.
//!
//! ```text
//! # name  SHA-256 of its key in hex; several, divided by commas, while a key is being replaced  what it may do
//! acme    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 rate=600/m
//! ops     60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 admin
//! ```
//! A key has 256 random bits, so its plain hash can be published without harm. No message repeats what a line holds: it
//! might be a key that was pasted by mistake.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvage_core::key::Digest;
use selvage_core::key_name::KeyName;

use super::rate::{Bucket, Rate};

/// Largest file that is read: some thousand keys.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One client.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Who its jobs belong to.
    pub name: KeyName,
    /// It may see and do what concerns all clients.
    pub admin: bool,
    /// How often it may ask; as often as it likes where there is none.
    pub rate: Option<Rate>,
}

/// All clients, by the hashes of their keys.
#[derive(Debug, Default)]
pub struct Keys {
    keys: HashMap<Digest, Arc<Key>>,
    /// What is left to each client that has a rate.
    buckets: HashMap<KeyName, Arc<Bucket>>,
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("{} cannot be read", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Nobody could ask anything.
    #[error("{} has no keys; `selvage-gateway key NAME` makes one", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The first word.
    #[error("the name must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit")]
    Name,
    /// The second word.
    #[error(
        "the second word must be the SHA-256 of the key, 64 hex digits; `selvage-gateway key NAME` makes one"
    )]
    Hash,
    /// A further word.
    #[error("after the hash only `admin` and `rate=` may stand, each once")]
    Word,
    /// What stands after `rate=`.
    #[error("a rate is a number from 1 to 1000000 per s, m or h, as in `rate=600/m`")]
    Rate,
    /// The name was there before.
    #[error("an earlier line has the same name")]
    SameName,
    /// The hash was there before.
    #[error("an earlier line or this one has the same hash")]
    SameHash,
}

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn read(file: &Path) -> Result<Self, KeysError> {
        let unreadable = |source| KeysError::File {
            file: file.to_owned(),
            source,
        };
        let length = fs::metadata(file).map_err(unreadable)?.len();
        if length > MAX_FILE_BYTES {
            return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
        }
        let text = fs::read_to_string(file).map_err(unreadable)?;
        let keys = Self::parse(&text).map_err(|(line, problem)| KeysError::Line {
            file: file.to_owned(),
            line,
            problem,
        })?;
        if keys.is_empty() {
            let file = file.to_owned();
            return Err(KeysError::Empty { file });
        }
        Ok(keys)
    }

    /// Reads a file's text; it may be without keys.
    ///
    /// # Errors
    /// The number of the first wrong line, counted from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, Problem)> {
        let (mut keys, mut names) = (Self::default(), HashSet::new());
        for (number, line) in text.lines().enumerate() {
            let wrong = |problem| (number + 1, problem);
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else { continue };
            let name: KeyName = name.parse().map_err(|_| wrong(Problem::Name))?;
            let listed = words.next().ok_or(wrong(Problem::Hash))?;
            let (mut admin, mut rate) = (false, None);
            for word in words {
                match word.strip_prefix("rate=") {
                    None if word == "admin" && !admin => admin = true,
                    Some(text) if rate.is_none() => {
                        rate = Some(text.parse().map_err(|_| wrong(Problem::Rate))?);
                    }
                    None | Some(_) => return Err(wrong(Problem::Word)),
                }
            }
            if !names.insert(name.clone()) {
                return Err(wrong(Problem::SameName));
            }
            if let Some(rate) = rate {
                let bucket = Arc::new(Bucket::new(rate));
                keys.buckets.insert(name.clone(), bucket);
            }
            let key = Arc::new(Key { name, admin, rate });
            for digits in listed.split(',') {
                let digest: Result<Digest, _> = format!("sha256:{digits}").parse();
                let digest = digest.map_err(|_| wrong(Problem::Hash))?;
                if keys.keys.insert(digest, Arc::clone(&key)).is_some() {
                    return Err(wrong(Problem::SameHash));
                }
            }
        }
        Ok(keys)
    }

    /// Takes over what is left to clients whose rate is the same as before.
    pub(super) fn keep_buckets(&mut self, before: &Self) {
        for (name, bucket) in &mut self.buckets {
            let kept = before.buckets.get(name);
            if let Some(kept) = kept.filter(|kept| kept.rate() == bucket.rate()) {
                *bucket = Arc::clone(kept);
            }
        }
    }

    /// What is left to this client; `None` where it has no rate.
    pub(super) fn bucket(&self, key: &Key) -> Option<Arc<Bucket>> {
        self.buckets.get(&key.name).map(Arc::clone)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whose key this is. What a look-up's time could tell is about the hash of 256 random bits, which says nothing of them.
    #[must_use]
    pub fn find(&self, token: &[u8]) -> Option<Arc<Key>> {
        self.keys.get(&Digest::of(token)).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> String {
        Digest::of(token.as_bytes()).to_hex()
    }

    #[test]
    fn lines_name_clients_their_hashes_and_scopes() {
        let (a, b, c) = (hash("one"), hash("two"), hash("three"));
        let text = format!("# keys\n\nacme {a},{b} # in change\r\n  ops\t{c}  rate=9/s admin\n");
        let keys = Keys::parse(&text).unwrap();
        let who = |token: &str| {
            let key = keys.find(token.as_bytes())?;
            let rate = key.rate.map(|rate| rate.to_string());
            assert_eq!(keys.bucket(&key).is_some(), rate.is_some());
            Some((key.name.to_string(), key.admin, rate))
        };
        let acme = Some(("acme".to_owned(), false, None));
        assert_eq!((who("one"), who("two")), (acme.clone(), acme));
        let ops = Some(("ops".to_owned(), true, Some("9/s".to_owned())));
        assert_eq!(who("three"), ops);
        let hash_of_one = a.as_str();
        for none in ["", "One", "one ", hash_of_one] {
            assert_eq!(who(none), None, "{none}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_and_its_content_is_not_repeated() {
        let (a, b) = (hash("one"), hash("two"));
        let cases = [
            ("a key!".to_owned(), 1, Problem::Hash),
            ("-a s3cret".to_owned(), 1, Problem::Name),
            ("acme".to_owned(), 1, Problem::Hash),
            ("\nacme s3cret".to_owned(), 2, Problem::Hash),
            (format!("acme {a},"), 1, Problem::Hash),
            (format!("acme {a}0"), 1, Problem::Hash),
            (format!("acme {a} s3cret"), 1, Problem::Word),
            (format!("acme {a} admin admin"), 1, Problem::Word),
            (format!("acme {a} rate=1/s rate=1/s"), 1, Problem::Word),
            (format!("acme {a} rate=s3cret"), 1, Problem::Rate),
            (format!("acme {a}\nacme {b}"), 2, Problem::SameName),
            (format!("acme {a}\nops {a}"), 2, Problem::SameHash),
            (format!("acme {a},{a}"), 1, Problem::SameHash),
        ];
        for (text, line, problem) in cases {
            assert_eq!(Keys::parse(&text).unwrap_err(), (line, problem), "{text}");
            assert!(!problem.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn a_file_must_be_there_and_hold_keys() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        assert!(matches!(Keys::read(&absent), Err(KeysError::File { .. })));
        let empty = folder.path().join("empty");
        fs::write(&empty, "# none yet\n").unwrap();
        assert!(matches!(Keys::read(&empty), Err(KeysError::Empty { .. })));
    }
}
