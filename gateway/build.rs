//! Packs the pages: the files of `ui/` and the sample pictures, each also compressed by gzip, under paths that name their content.
//!
//! The files' folder is named by the digest of all of them, so that modules can import each other by their plain names and
//! every path may be kept for ever. The pages themselves keep their addresses and get the folder's name. Needs no Node.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

/// Folders whose files are served, beside this script.
const FOLDERS: [&str; 2] = ["ui", "../models/fashion-mnist/samples"];
/// Pages, by the name of their constant.
const PAGES: [(&str, &str, &str); 2] = [
    ("HOME", "index.html", "home.js"),
    ("FLEET", "fleet.html", "fleet.js"),
];
/// Files of `/docs`, by the name of their constant.
const VIEWER: [(&str, &str); 4] = [
    ("DOCS", "viewer/index.html"),
    ("DOCS_START", "viewer/start.js"),
    ("DOCS_SCRIPT", "viewer/swagger-ui/swagger-ui-bundle.js.gz"),
    ("DOCS_STYLE", "viewer/swagger-ui/swagger-ui.css.gz"),
];
struct File {
    name: String,
    content: Vec<u8>,
}

fn main() -> Result<()> {
    let out = folder("OUT_DIR")?;
    let here = folder("CARGO_MANIFEST_DIR")?;
    let files = read(&here)?;
    let mut hasher = Sha256::new();
    for file in &files {
        hasher.update(file.name.as_bytes());
        hasher.update(file.content.len().to_le_bytes());
        hasher.update(&file.content);
    }
    let digest = hex(&hasher.finalize());
    let folder = format!("/ui/{}", &digest[..16]);
    let mut code = String::new();
    for (constant, name, entry) in PAGES {
        let text = std::str::from_utf8(&find(&files, name)?.content)?;
        let text = text
            .replace("{preload}", &preloads(&files, entry)?)
            .replace("{ui}", &folder);
        let page = pack(&out, name, text.as_bytes())?;
        write_constant(&mut code, (constant, name), &page)?;
    }
    for (constant, path) in VIEWER {
        println!("cargo::rerun-if-changed={path}");
        let content = fs::read(here.join(path)).with_context(|| path.to_owned())?;
        let file = match path.strip_suffix(".gz") {
            Some(name) => pack_compressed(&here.join(path), name, &content)?,
            None => pack(&out, &path.replace('/', "-"), &content)?,
        };
        write_constant(&mut code, (constant, path), &file)?;
    }
    let assets = files.iter().filter(|file| !file.name.ends_with(".html"));
    let count = assets.clone().count();
    writeln!(
        code,
        "/// What the pages are made of, by path, in order.\nstatic ASSETS: [(&str, File); {count}] = ["
    )?;
    for file in assets {
        let packed = pack(&out, &file.name, &file.content)?;
        writeln!(code, "    (\"{folder}/{}\", {packed}),", file.name)?;
    }
    code.push_str("];\n");
    fs::write(out.join("pages.rs"), code)?;
    Ok(())
}

/// A folder that cargo names.
fn folder(variable: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(variable).with_context(|| format!("{variable} is not set"))?;
    Ok(PathBuf::from(folder))
}

/// All files in the order of their names.
fn read(here: &Path) -> Result<Vec<File>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        for entry in fs::read_dir(here.join(folder)).with_context(|| folder.to_owned())? {
            let entry = entry?;
            let path = entry.path();
            files.push(File {
                name: entry.file_name().to_string_lossy().into_owned(),
                content: fs::read(&path).with_context(|| path.display().to_string())?,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn find<'a>(files: &'a [File], name: &str) -> Result<&'a File> {
    let file = files.iter().find(|file| file.name == name);
    file.with_context(|| format!("ui/{name} is needed and missing"))
}

/// `<link>`s for the modules that `entry` needs, so that they are fetched at once and not one after another.
fn preloads(files: &[File], entry: &str) -> Result<String> {
    let mut needed = vec![entry.to_owned()];
    let mut next = 0;
    while let Some(name) = needed.get(next).cloned() {
        next += 1;
        for line in std::str::from_utf8(&find(files, &name)?.content)?.lines() {
            let import = line.strip_prefix("import ");
            let imported =
                import.and_then(|line| Some(line.split_once("\"./")?.1.split_once('"')?.0));
            if let Some(imported) = imported
                && !needed.iter().any(|known| known == imported)
            {
                needed.push(imported.to_owned());
            }
        }
    }
    let link = |name: &String| format!("<link rel=\"modulepreload\" href=\"{{ui}}/{name}\">");
    Ok(needed
        .iter()
        .skip(1)
        .map(link)
        .collect::<Vec<_>>()
        .join("\n"))
}

fn write_constant(code: &mut String, (constant, path): (&str, &str), file: &str) -> Result<()> {
    let line = format!("/// `{path}`.\npub(crate) static {constant}: File = {file};");
    Ok(writeln!(code, "{line}")?)
}

/// Writes a file and its compressed forms; the code of its `File`.
fn pack(out: &Path, name: &str, content: &[u8]) -> Result<String> {
    let write = |suffix: &str, bytes: &[u8]| {
        let path = out.join(format!("{name}{suffix}"));
        fs::write(&path, bytes)?;
        anyhow::Ok(included(&path))
    };
    let compressed = gzip(content)?;
    let gzip = if compressed.len() < content.len() {
        format!("Some({})", write(".gz", &compressed)?)
    } else {
        "None".to_owned()
    };
    file(name, content, (write("", content)?, gzip))
}

/// The code of the `File` of one that is there only compressed by gzip.
fn pack_compressed(path: &Path, name: &str, content: &[u8]) -> Result<String> {
    let gzip = format!("Some({})", included(path));
    file(name, content, ("Bytes::new()".into(), gzip))
}

fn file(name: &str, content: &[u8], forms: (String, String)) -> Result<String> {
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => bail!("{name}: no media type is known for it"),
    };
    let (plain, gzip) = forms;
    let tag = format!("\"{}\"", &hex(&Sha256::digest(content))[..16]);
    let tag = format!("HeaderValue::from_static({tag:?})");
    Ok(format!(
        "File {{ kind: {kind:?}, tag: {tag}, plain: {plain}, gzip: {gzip} }}"
    ))
}

fn included(path: &Path) -> String {
    format!("Bytes::from_static(include_bytes!({path:?}))")
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
