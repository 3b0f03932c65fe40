//! Packs the files below `src/pages/` into the program: placeholders filled in, compressed, hashed.
//!
//! ```text
//! src/pages/…  →  OUT_DIR/pages/…  →  OUT_DIR/pages.rs, which src/pages/mod.rs includes
//! ```
//!
//! A *page* has a fixed path and is listed in [`PAGES`]. An *asset* is what pages load; its path
//! holds a hash of all assets, so it never changes and a browser keeps it for ever. Assets name each
//! other by relative paths, which is why they share one hash. A page names them as
//! `{{assets}}/name.js`. `{{version}}` in a page is the version of the program.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script of its folders by variables; what it writes needs no flush"
)]

#[path = "build/docs.rs"]
mod docs;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

/// The pages: path, and file below `src/pages/`.
const PAGES: &[(&str, &str)] = &[
    ("/", "root.json"),
    ("/asyncapi.json", "asyncapi.json"),
    ("/docs", DOCS),
    ("/llms.txt", "llms.txt"),
    ("/openapi.json", "openapi.json"),
];

/// The page that is made of the two descriptions.
const DOCS: &str = "docs.html";

/// The page that browsers get in the place of `root.json`.
const DASHBOARD: &str = "dashboard/index.html";

/// Folders of assets below `src/pages/`, and whether they are the dashboard's alone.
const ASSETS: &[(&str, bool)] = &[("dashboard", true), ("assets", false)];

/// A page's content type by the ending of its file.
const CONTENT_TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
];

/// A file on its way into the program.
struct Packed {
    path: String,
    file: String,
    content: Vec<u8>,
    is_asset: bool,
    of_dashboard: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("src/pages");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    rerun_if_changed("build.rs");
    rerun_if_changed("build/docs.rs");
    rerun_if_changed("src/pages");
    let mut assets = assets(&source)?;
    let folder = format!("/assets/{}", hash_of_all(&assets));
    for asset in &mut assets {
        asset.path = format!("{folder}/{}", asset.path);
    }
    let mut code = String::from("/// Every page and asset but the dashboard's page.\n");
    code.push_str("pub(crate) static PAGES: &[Page] = &[\n");
    for (path, file) in PAGES {
        let page = page(&source, (path, file), &folder)?;
        writeln!(code, "    {},", pack(&out, &page)?)?;
    }
    for asset in &assets {
        writeln!(code, "    {},", pack(&out, asset)?)?;
    }
    let dashboard = Packed {
        of_dashboard: true,
        ..page(&source, ("/", DASHBOARD), &folder)?
    };
    code.push_str("];\n\n/// The dashboard's page.\n");
    let dashboard = pack(&out, &dashboard)?;
    writeln!(code, "pub(crate) static DASHBOARD: Page = {dashboard};")?;
    fs::write(out.join("pages.rs"), code)?;
    Ok(())
}

fn rerun_if_changed(path: &str) {
    println!("cargo::rerun-if-changed={path}");
}

/// All assets in a fixed order; their paths are only their names yet.
fn assets(source: &Path) -> Result<Vec<Packed>, Box<dyn Error>> {
    let mut assets = Vec::new();
    for (folder, of_dashboard) in ASSETS {
        let path = source.join(folder);
        if !path.exists() {
            continue;
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = format!("{folder}/{name}");
            if file == DASHBOARD || content_type(&name).is_none() {
                continue;
            }
            assets.push(Packed {
                path: name,
                file,
                content: fs::read(entry.path())?,
                is_asset: true,
                of_dashboard: *of_dashboard,
            });
        }
    }
    assets.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(assets)
}

/// A page with its placeholders filled in.
fn page(source: &Path, (path, file): (&str, &str), folder: &str) -> Result<Packed, Box<dyn Error>> {
    let text = if file == DOCS {
        let read = |file: &str| fs::read_to_string(source.join(file));
        docs::page(&read("openapi.json")?, &read("asyncapi.json")?)?
    } else {
        fs::read_to_string(source.join(file))?
    };
    let text = text.replace("{{assets}}", folder);
    let text = text.replace("{{version}}", &env::var("CARGO_PKG_VERSION")?);
    Ok(Packed {
        path: path.into(),
        file: file.into(),
        content: text.into_bytes(),
        is_asset: false,
        of_dashboard: false,
    })
}

/// Writes a file and its compressed form, and gives its row of the table.
fn pack(out: &Path, packed: &Packed) -> Result<String, Box<dyn Error>> {
    let Packed {
        path,
        file,
        content,
        is_asset,
        of_dashboard,
    } = packed;
    let place = out.join("pages").join(file);
    fs::create_dir_all(place.parent().ok_or("a file without a folder")?)?;
    fs::write(&place, content)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    let gzip = encoder.finish()?;
    fs::write(out.join(format!("pages/{file}.gz")), &gzip)?;
    // What a browser unpacks has to save a notable part of a packet.
    let gzip = if gzip.len() + 512 < content.len() {
        format!(r#"Some(include_bytes!("pages/{file}.gz"))"#)
    } else {
        "None".into()
    };
    let content_type = content_type(file).ok_or("a page of no known type")?;
    let tag = hash(&[content]);
    // Paths of included files count from the file that this text is written to.
    Ok(format!(
        r#"Page {{
        path: "{path}",
        content_type: "{content_type}",
        bytes: include_bytes!("pages/{file}"),
        gzip: {gzip},
        tag: "\"{tag}\"",
        gzip_tag: "\"{tag}-gzip\"",
        is_asset: {is_asset},
        of_dashboard: {of_dashboard},
    }}"#
    ))
}

fn content_type(file: &str) -> Option<&'static str> {
    let (_, ending) = file.rsplit_once('.')?;
    let known = CONTENT_TYPES.iter().find(|(known, _)| *known == ending)?;
    Some(known.1)
}

fn hash_of_all(assets: &[Packed]) -> String {
    let parts = assets.iter();
    let parts: Vec<&[u8]> = parts
        .flat_map(|asset| [asset.path.as_bytes(), b"\0", &asset.content, b"\0"])
        .collect();
    hash(&parts)
}

/// Sixteen digits of the SHA-256 of all parts.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let first = digest.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(first))
}
