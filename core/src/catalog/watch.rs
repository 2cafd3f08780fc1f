//! Sees that models of a folder have changed, without asking the kernel for events: those do not come from network file
//! systems, and say nothing about whether a writer is done. A look costs a few `stat` calls; only what looked the same twice
//! in a row is read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::package::is_model;
use super::{CatalogError, Model, Package, model_folders};

/// The models of a folder as they were last looked at. Blocks on the disk.
#[derive(Debug)]
pub(super) struct Watch {
    folder: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
    unreadable: bool,
}

/// What became of one model's folder.
#[derive(Debug)]
pub(super) struct Finding {
    /// The model's folder, or the folder of all models.
    pub(super) folder: PathBuf,
    /// The model that lies there now.
    pub(super) found: Result<Arc<Model>, CatalogError>,
}

/// One model's folder: how it looked, and whether that was read.
#[derive(Debug)]
struct Seen {
    /// `None` where it was not there.
    looks: Option<Looks>,
    read: bool,
}

/// Whatever changes when a file is written, replaced or touched; following links, as a mounted configuration consists of
/// them.
type Looks = Vec<(PathBuf, [i128; 4])>;

impl Watch {
    /// A watch that has seen nothing yet, so that whatever changed since the folder was read is found.
    #[must_use]
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            seen: BTreeMap::new(),
            unreadable: false,
        }
    }

    /// Has everything read again by the next look that finds it as it is now.
    pub(super) fn forget(&mut self) {
        self.unreadable = false;
        self.seen.values_mut().for_each(|seen| seen.read = false);
    }

    /// Whether something has changed, or was forgotten, and was not read since.
    #[must_use]
    pub(super) fn has_unread(&self) -> bool {
        self.seen.values().any(|seen| !seen.read)
    }

    /// Looks once. A model is read when its folder looks as it did the last time and was not read since it changed.
    #[must_use]
    pub(super) fn look(&mut self) -> Vec<Finding> {
        let folders = match model_folders(&self.folder) {
            Ok((folders, _)) => folders,
            Err(error) => return self.unreadable(error),
        };
        self.unreadable = false;
        for folder in folders {
            let unseen = Seen {
                looks: None,
                read: true,
            };
            self.seen.entry(folder).or_insert(unseen);
        }
        let seen = self.seen.iter_mut();
        seen.filter_map(|(folder, seen)| seen.look(folder))
            .collect()
    }

    fn unreadable(&mut self, error: CatalogError) -> Vec<Finding> {
        if std::mem::replace(&mut self.unreadable, true) {
            return Vec::new();
        }
        let folder = self.folder.clone();
        vec![Finding {
            folder,
            found: Err(error),
        }]
    }
}

impl Seen {
    fn look(&mut self, folder: &Path) -> Option<Finding> {
        let looks = looks(folder);
        if looks != self.looks {
            (self.looks, self.read) = (looks, false);
            return None;
        }
        if self.read {
            return None;
        }
        let found = Package::read(folder).map(|package| Arc::new(package.model));
        // Written while it was read: the next look says when it is still.
        let after = self::looks(folder);
        if after != self.looks {
            self.looks = after;
            return None;
        }
        self.read = true;
        Some(Finding {
            folder: folder.to_owned(),
            found,
        })
    }
}

/// How a folder and those directly below look; `None` where it is no model's any more.
fn looks(folder: &Path) -> Option<Looks> {
    let mut looks = Looks::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            looks.extend(below.filter_map(|entry| look(entry.path())));
        } else {
            looks.extend(look(path));
        }
    }
    looks.sort();
    is_model(folder).then_some(looks)
}

fn look(path: PathBuf) -> Option<(PathBuf, [i128; 4])> {
    let data = fs::metadata(&path).ok()?;
    let number = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let facts = [
        i128::from(data.ino()),
        i128::from(data.len()),
        number(data.mtime(), data.mtime_nsec()),
        number(data.ctime(), data.ctime_nsec()),
    ];
    data.is_file().then_some((path, facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::DESCRIPTION;
    use crate::catalog::tests::{GOOD, folder_with, folder_with_external_data};
    use crate::key::Digest;

    fn digests(findings: &[Finding]) -> Vec<Digest> {
        let digest = |finding: &Finding| finding.found.as_ref().unwrap().digest;
        findings.iter().map(digest).collect()
    }

    #[test]
    fn a_model_is_read_once_it_has_been_still_for_a_look() {
        let folder = folder_with(GOOD);
        let file = folder.path().join("tiny/model.onnx");
        let mut watch = Watch::new(folder.path().to_owned());
        assert!(watch.look().is_empty());
        assert_eq!(digests(&watch.look()), [Digest::of(b"weights")]);
        assert!(watch.look().is_empty(), "nothing has changed");
        for half in [&b"new we"[..], b"new weights, so", b"new weights"] {
            fs::write(&file, half).unwrap();
            assert!(watch.look().is_empty(), "it was written to just now");
        }
        assert_eq!(digests(&watch.look()), [Digest::of(b"new weights")]);
        assert!(watch.look().is_empty());
    }

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_seen() {
        let folder = folder_with(GOOD);
        let file = folder.path().join("tiny/model.onnx");
        let mut watch = Watch::new(folder.path().to_owned());
        let _settled = (watch.look(), watch.look());
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, b"weighty").unwrap();
        let opened = fs::File::options().write(true).open(&other).unwrap();
        opened.set_modified(time).unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(watch.look().is_empty());
        assert_eq!(digests(&watch.look()), [Digest::of(b"weighty")]);
    }

    #[test]
    fn a_change_of_external_data_is_seen() {
        let folder = folder_with_external_data();
        let mut watch = Watch::new(folder.path().to_owned());
        let settled = (watch.look(), watch.look()).1;
        fs::write(folder.path().join("tiny/model.onnx.data"), [0; 36]).unwrap();
        assert!(watch.look().is_empty());
        assert_ne!(digests(&watch.look()), digests(&settled));
    }

    #[test]
    fn what_cannot_be_used_is_reported_once() {
        let folder = folder_with(GOOD);
        let tiny = folder.path().join("tiny");
        let mut watch = Watch::new(folder.path().to_owned());
        let _settled = (watch.look(), watch.look());
        fs::write(tiny.join(DESCRIPTION), "name = \"tiny\"").unwrap();
        assert!(watch.look().is_empty());
        let reported = watch.look();
        assert!(matches!(
            reported[0].found,
            Err(CatalogError::Invalid { .. })
        ));
        assert!(watch.look().is_empty());
        fs::remove_dir_all(&tiny).unwrap();
        assert!(watch.look().is_empty());
        let reported = watch.look();
        assert!(matches!(
            reported[0].found,
            Err(CatalogError::Unreadable { .. })
        ));
        fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!((watch.look().len(), watch.look().len()), (1, 0));
    }

    #[test]
    fn what_is_forgotten_is_read_again() {
        let folder = folder_with(GOOD);
        let mut watch = Watch::new(folder.path().to_owned());
        let _settled = (watch.look(), watch.look());
        watch.forget();
        assert_eq!(digests(&watch.look()), [Digest::of(b"weights")]);
        assert!(watch.look().is_empty());
    }
}
