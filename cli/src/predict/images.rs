//! The images of a command line: files, and one on standard input.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::console::printable;
use crate::failure::Failure;

/// The name of standard input.
const STDIN: &str = "-";
/// Far above what any server takes; it keeps devices and other endless files out of memory.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// On standard input.
    Stdin,
    /// In a file.
    File(PathBuf),
}

/// The images that are named, before any is sent: what cannot be meant is refused.
pub(super) fn all(named: &[OsString]) -> Result<Vec<Image>, Failure> {
    let images: Vec<Image> = named.iter().map(Image::named).collect();
    for image in &images {
        if let Image::File(path) = image
            && path.is_dir()
        {
            let name = printable(&path.display().to_string());
            let shown = name.trim_end_matches('/');
            return Err(Failure::Usage(format!(
                "{name} is a folder; name the images in it, as with `selvage predict {shown}/*.png`"
            )));
        }
    }
    match images
        .iter()
        .filter(|image| **image == Image::Stdin)
        .count()
    {
        0 => {}
        1 if io::stdin().is_terminal() => {
            let wrong = "standard input is a terminal; give it an image, as with `selvage predict - < photo.jpg`";
            return Err(Failure::Usage(wrong.to_owned()));
        }
        1 => {}
        _ => {
            return Err(Failure::Usage(
                "standard input is one image; name `-` once".to_owned(),
            ));
        }
    }
    Ok(images)
}

impl Image {
    fn named(name: &OsString) -> Self {
        if name == STDIN {
            Self::Stdin
        } else {
            Self::File(name.into())
        }
    }

    /// Its name in results.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdin => STDIN.to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// All of its bytes.
    pub(super) async fn read(&self) -> Result<Bytes, Failure> {
        let read = match self {
            Self::Stdin => whole(tokio::io::stdin()).await,
            Self::File(path) => match File::open(path).await {
                Ok(file) => whole(file).await,
                Err(cause) => Err(cause),
            },
        };
        let bytes = read.map_err(|cause| Failure::Here(format!("cannot be read: {cause}")))?;
        if bytes.len() as u64 > LARGEST {
            let wrong = "is larger than 64 MiB, which no server takes; send a smaller one";
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

    fn refused(named: &[&str]) -> String {
        let named: Vec<OsString> = named.iter().map(OsString::from).collect();
        all(&named).unwrap_err().to_string()
    }

    #[test]
    fn folders_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let error = refused(&["a.png", &path]);
        assert!(
            error.contains(&format!("selvage predict {path}/*.png")),
            "{error}"
        );
    }

    #[test]
    fn standard_input_is_one_image() {
        assert!(refused(&["-", "a.png", "-"]).contains("once"));
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
