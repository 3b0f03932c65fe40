//! Static pages in the program: the dashboard, and what names and describes the API.
//!
//! `build.rs` packs the files below this folder: it fills in placeholders, compresses each once,
//! and gives it a hash. Nothing is read from a disk when the server runs. A page has a fixed path
//! and is asked for again each time, by its tag; an asset has a path that names its content, and is
//! kept for ever. The pages know neither a route's meaning nor a socket: `api` finds them by path,
//! and `front` sends them.
//!
//! A new page is a file here and a row in `build.rs`; a new asset is a file in `dashboard/`, or in
//! `assets/` if other pages need it.
//!
//! - `root.json`: what `GET /` says to programs.
//! - `openapi.json`, `asyncapi.json`: the descriptions of the API, written by hand and held against
//!   the server by its tests. `build/docs.rs` makes the page `/docs` of the first.
//! - `llms.txt`: what Flux is and how to use it, for agents.
//! - `dashboard/`: the dashboard, which is `index.html`, and the modules and styles that it loads.

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// A page or an asset.
pub struct Page {
    /// Its path, exactly.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// As it was written.
    pub bytes: &'static [u8],
    /// Compressed, if that makes it notably shorter.
    pub gzip: Option<&'static [u8]>,
    /// Its entity tag, quotes included.
    pub tag: &'static str,
    /// The entity tag of its compressed form, which is another representation (RFC 9110 §8.8.3.3).
    pub gzip_tag: &'static str,
    /// Its path names its content.
    pub is_asset: bool,
    /// There without the dashboard too, unless this is true.
    pub of_dashboard: bool,
}

impl Page {
    /// True if a browser takes it for a document.
    pub fn is_document(&self) -> bool {
        self.content_type.starts_with("text/html")
    }
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        (self.path, self.tag) == (other.path, other.tag)
    }
}

impl Eq for Page {}

impl fmt::Debug for Page {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Page({} {})", self.path, self.tag)
    }
}

/// True if an `If-None-Match` field names the form of a page with this tag (RFC 9110 §13.1.2).
pub fn is_named_by(tag: &str, if_none_match: &[u8]) -> bool {
    let field = if_none_match.trim_ascii();
    field == b"*"
        || field.split(|byte| *byte == b',').any(|named| {
            let named = named.trim_ascii();
            named.strip_prefix(b"W/").unwrap_or(named) == tag.as_bytes()
        })
}

/// The page or asset with this path. `/` is [`DASHBOARD`]'s path too, which is not found here.
pub fn find(path: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_names_assets_that_exist() {
        let text = str::from_utf8(DASHBOARD.bytes).unwrap();
        assert!(!text.contains("{{"), "a placeholder is left");
        let assets: Vec<&str> = text
            .split('"')
            .filter(|part| part.starts_with("/assets/"))
            .collect();
        assert!(!assets.is_empty());
        for asset in assets {
            let page = find(asset).unwrap_or_else(|| panic!("no {asset}"));
            assert!(page.is_asset, "{asset}");
        }
    }

    #[test]
    fn the_dashboard_is_no_larger_than_it_may_be() {
        let assets = PAGES.iter().filter(|page| page.of_dashboard);
        let bytes: usize = assets.map(|page| page.bytes.len()).sum();
        assert!(bytes + DASHBOARD.bytes.len() <= 120 * 1024, "{bytes}");
    }

    #[test]
    fn a_tag_names_its_form_of_a_page_and_no_other() {
        let check = |field: &str, expected| {
            let found = is_named_by(DASHBOARD.tag, field.as_bytes());
            assert_eq!(found, expected, "{field}");
        };
        check(DASHBOARD.tag, true);
        check(DASHBOARD.gzip_tag, false);
        check(&format!("\"x\", W/{}", DASHBOARD.tag), true);
        check("*", true);
        check("\"x\"", false);
        check("", false);
    }
}
