//! The scripts, which `scripts/build-assets` bundles from `assets/` into `assets/dist/`. Each is served under a name with a digest of
//! its content, so that browsers may keep it, and packed if the browser takes that.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::answer::Answer;

/// A script, or a style sheet that belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    /// On all pages: local times, and the live tail.
    Console,
    /// Where a chart is.
    Chart,
    /// What the chart looks like.
    ChartStyle,
    /// Where templates are edited.
    Editor,
}

/// What is embedded of an asset.
struct Content {
    name: &'static str,
    extension: &'static str,
    plain: &'static [u8],
    packed: &'static [u8],
}

macro_rules! content {
    ($name:literal, $extension:literal) => {
        Content {
            name: $name,
            extension: $extension,
            plain: include_bytes!(concat!("assets/dist/", $name, ".", $extension)),
            packed: include_bytes!(concat!("assets/dist/", $name, ".", $extension, ".gz")),
        }
    };
}

impl Asset {
    const ALL: [Asset; 4] = [Asset::Console, Asset::Chart, Asset::ChartStyle, Asset::Editor];

    const fn content(self) -> Content {
        match self {
            Asset::Console => content!("console", "js"),
            Asset::Chart => content!("chart", "js"),
            Asset::ChartStyle => content!("chart", "css"),
            Asset::Editor => content!("editor", "js"),
        }
    }

    /// Its path, with a digest of its content.
    pub(super) fn path(self) -> &'static str {
        static PATHS: LazyLock<[String; 4]> = LazyLock::new(|| {
            Asset::ALL.map(|asset| {
                let Content { name, extension, plain, .. } = asset.content();
                format!("/{name}-{}.{extension}", hex::encode(&Sha256::digest(plain)[..8]))
            })
        });
        &PATHS[self as usize]
    }

    /// The asset with this path.
    pub(super) fn at(path: &str) -> Option<Asset> {
        Asset::ALL.into_iter().find(|asset| asset.path() == path)
    }

    /// The asset, for a browser that sent these headers.
    pub(super) fn answer(self, headers: &HeaderMap) -> Answer {
        let Content { extension, plain, packed, .. } = self.content();
        let kind = if extension == "js" { "text/javascript; charset=utf-8" } else { "text/css; charset=utf-8" };
        let vary = HeaderValue::from_static("accept-encoding");
        if takes_gzip(headers) {
            let gzip = HeaderValue::from_static("gzip");
            Answer::kept(kind, packed).with(header::VARY, vary).with(header::CONTENT_ENCODING, gzip)
        } else {
            Answer::kept(kind, plain).with(header::VARY, vary)
        }
    }
}

/// Whether a browser takes what is packed by gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_asset_has_a_path_of_its_own_that_leads_back_to_it() {
        for asset in Asset::ALL {
            assert_eq!(Asset::at(asset.path()), Some(asset));
        }
        assert_eq!(Asset::at("/console.js"), None);
    }

    #[test]
    fn only_who_takes_gzip_gets_it() {
        let takes = |said: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(said))]))
        };
        for said in ["gzip", "br, GZIP", "deflate, gzip;q=0.5"] {
            assert!(takes(said), "{said}");
        }
        for said in ["", "br", "gzip;q=0", "gzip;q=no", "xgzip"] {
            assert!(!takes(said), "{said}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
