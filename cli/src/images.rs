//! The images of a command line: files, folders, patterns, and standard input.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use glob::{MatchOptions, Pattern, glob_with};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::console::printable;
use crate::failure::Failure;

/// The name of standard input.
const STDIN: &str = "-";
/// More than any server accepts; keeps devices and other endless files out of memory.
const LARGEST: u64 = 64 * 1024 * 1024;
/// Which files of a folder are images.
const EXTENSIONS: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];
/// As shells match: hidden files only if they are named.
const HIDDEN_IF_NAMED: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// On standard input.
    Stdin,
    /// In a file.
    File(PathBuf),
}

/// The images that are named, before any is sent.
///
/// # Errors
/// If a folder or pattern has no images, or if standard input cannot be an image.
pub(crate) fn all(named: &[OsString]) -> Result<Vec<Image>, Failure> {
    let mut images = Vec::new();
    for name in named {
        images.extend(of(name)?);
    }
    let wrong = match images
        .iter()
        .filter(|image| **image == Image::Stdin)
        .count()
    {
        0 => return Ok(images),
        1 if !io::stdin().is_terminal() => return Ok(images),
        1 => "standard input is a terminal; redirect a file, as in `selvage predict - < photo.jpg`",
        _ => "standard input is one image; name `-` once",
    };
    Err(Failure::Usage(wrong.to_owned()))
}

fn of(name: &OsString) -> Result<Vec<Image>, Failure> {
    let path = Path::new(name);
    let text = name.to_string_lossy();
    let found = if name == STDIN {
        return Ok(vec![Image::Stdin]);
    } else if path.is_dir() {
        let mut found = matching(&format!("{}/**/*", Pattern::escape(&text)))?;
        found.retain(|path| is_image(path));
        found
    } else if text.contains(['*', '?', '[']) && !path.exists() {
        matching(&text)?
    } else {
        vec![path.to_owned()]
    };
    if found.is_empty() {
        let name = printable(&text);
        return Err(Failure::Usage(format!("no images found: {name}")));
    }
    Ok(found.into_iter().map(Image::File).collect())
}

/// The files that match a pattern, by name.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let wrong = |cause: &dyn std::fmt::Display| Failure::Usage(printable(&cause.to_string()));
    let found = glob_with(pattern, HIDDEN_IF_NAMED).map_err(|cause| wrong(&cause))?;
    let mut files: Vec<PathBuf> = found
        .collect::<Result<_, _>>()
        .map_err(|cause| wrong(&cause))?;
    files.retain(|path| path.is_file());
    Ok(files)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.iter().any(|known| extension == *known)
}

impl Image {
    /// Its name in results.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => STDIN.to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The name of its file, without folders.
    pub(crate) fn file_name(&self) -> Option<String> {
        match self {
            Self::Stdin => None,
            Self::File(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
        }
    }

    /// All of its bytes.
    pub(crate) async fn read(&self) -> Result<Bytes, Failure> {
        let read = match self {
            Self::Stdin => whole(tokio::io::stdin()).await,
            Self::File(path) => match File::open(path).await {
                Ok(file) => whole(file).await,
                Err(cause) => Err(cause),
            },
        };
        let bytes = read.map_err(|cause| Failure::Here(format!("cannot be read: {cause}")))?;
        if bytes.len() as u64 > LARGEST {
            let wrong = "is larger than 64 MiB, more than any server accepts; send a smaller image";
            return Err(Failure::Here(wrong.to_owned()));
        }
        Ok(bytes.into())
    }
}

async fn whole(from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, named: &[&str]) -> Result<Vec<String>, Failure> {
        let named: Vec<OsString> = named.iter().map(|name| folder.join(name).into()).collect();
        let relative = |image: Image| {
            let name = image.name();
            name[folder.to_str().unwrap().len() + 1..].to_owned()
        };
        Ok(all(&named)?.into_iter().map(relative).collect())
    }

    /// With brackets in its name, which mean something in a pattern.
    fn photos() -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("[a]").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["b.png", "a.JPG", "notes.txt", ".hidden.png", "more/c.webp"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_is_all_images_in_it() {
        let folder = photos();
        assert_eq!(
            names(folder.path(), &["."]).unwrap(),
            ["./a.JPG", "./b.png", "./more/c.webp"]
        );
        let both = names(folder.path(), &["more", "b.png"]);
        assert_eq!(both.unwrap(), ["more/c.webp", "b.png"]);
    }

    #[test]
    fn a_pattern_is_all_files_that_match() {
        let folder = photos();
        let escaped = PathBuf::from(Pattern::escape(folder.path().to_str().unwrap()));
        let found = |pattern: &str| of(&escaped.join(pattern).into()).unwrap();
        let file = |name: &str| Image::File(folder.path().join(name));
        assert_eq!(found("*.png"), [file("b.png")]);
        assert_eq!(
            found("**/?.*"),
            [file("a.JPG"), file("b.png"), file("more/c.webp")]
        );
    }

    #[test]
    fn what_has_no_images_is_refused() {
        let folder = photos();
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        for nothing in ["empty", "*.gif"] {
            let error = names(folder.path(), &[nothing]).unwrap_err();
            assert_eq!(error.exit(), crate::failure::Exit::Usage);
            assert!(error.to_string().contains(nothing), "{error}");
        }
    }

    #[test]
    fn standard_input_is_one_image() {
        let named = ["-", "a.png", "-"].map(OsString::from);
        assert!(all(&named).unwrap_err().to_string().contains("once"));
    }

    #[tokio::test]
    async fn what_cannot_be_read_says_why_and_what_has_no_end_is_left() {
        let absent = Image::File("/nowhere/a.png".into())
            .read()
            .await
            .unwrap_err();
        assert!(absent.to_string().contains("No such file"), "{absent}");
        let endless = Image::File("/dev/zero".into()).read().await.unwrap_err();
        assert!(endless.to_string().contains("64 MiB"), "{endless}");
    }
}
