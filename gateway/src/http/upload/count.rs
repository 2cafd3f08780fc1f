//! How many images a request may have.

use crate::http::error::{ApiError, Code};

/// Most images of one request.
pub const MAX_BATCH: usize = 64;
/// How many images a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Exactly one: the body, part `image`, `file` or any file of a form, or field `image` of JSON.
    One,
    /// 1 to [`MAX_BATCH`]: parts `image` or `file` and files of a form, or field `images` of JSON. One that cannot be read does not
    /// spoil the others.
    Batch,
}

/// Refuses what is more than a request may have.
pub(super) fn within(count: Count, images: usize) -> Result<(), ApiError> {
    match count {
        Count::One if images > 1 => Err(ApiError::new(
            Code::BadRequest,
            "the form has more than one image; /predict takes one, /predict/batch up to 64",
        )),
        Count::Batch if images > MAX_BATCH => {
            Err(ApiError::option("#/images", "must be 1 to 64 images"))
        }
        Count::One | Count::Batch => Ok(()),
    }
}
