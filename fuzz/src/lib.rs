//! What the fuzz targets share.

use std::path::Path;
use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use selvage_core::catalog::{Catalog, Model};
use selvage_gateway::http::options::Query;
use selvage_gateway::http::upload::{Count, check, parse};
use selvage_worker::image::decode::Limits;
use selvage_worker::image::{ImageError, Prepared, Preparer};

/// Most pixels: enough for every path through a decoder, few enough for thousands of images a second.
pub const PIXELS: u64 = 250_000;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    Catalog::read(&models).expect("the repository's models can be read")
});

/// The repository's models: what images and tensors are prepared for.
pub fn models() -> impl Iterator<Item = &'static Model> {
    CATALOG.models().iter().map(AsRef::as_ref)
}

/// Prepares an image or a tensor for a model, as a worker does. A panic inside, contained or not, is a finding.
///
/// # Errors
/// What the worker would say of it.
pub fn prepare(bytes: &[u8], model: &Model) -> Result<Prepared, ImageError> {
    let input = model.input.clone();
    let size = input.width as usize * input.height as usize * input.channels.count();
    let prepared = Preparer::new(input, Limits::with_pixels(PIXELS)).prepare(bytes);
    if let Ok(prepared) = &prepared {
        assert_eq!(prepared.len(), size, "every value is there");
    }
    prepared
}

/// Prepares an image of the format that begins like that. One that can be prepared must have passed the gateway's look
/// at its header.
pub fn image(magic: &[u8], data: &[u8]) {
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().max(magic.len()), 0);
    for (at, byte) in magic.iter().enumerate() {
        // The length of a RIFF is not part of what makes it one.
        if *byte != 0 {
            bytes[at] = *byte;
        }
    }
    for model in models() {
        if prepare(&bytes, model).is_ok() {
            let looked = check(&bytes, PIXELS);
            assert!(looked.is_ok(), "the gateway refuses what decodes: {looked:?}");
        }
    }
}

/// Takes a request's body apart, for one image and for several.
pub fn body(kind: &[u8], body: &[u8]) {
    let Ok(kind) = HeaderValue::from_bytes(kind) else {
        return;
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime can be made");
    for count in [Count::One, Count::Batch] {
        let body = body.to_vec().into();
        let _ = runtime.block_on(parse(&headers, &Query::default(), body, count));
    }
}
