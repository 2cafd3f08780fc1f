//! A request's tensors against its model: one job's bytes for each image in the leading dimension.

use bytes::{Bytes, BytesMut};
use selvage_core::catalog::{Layout, Model, Task};
use selvage_core::output::BOX_VALUES;
use selvage_core::tensor::{self, Datatype};

use super::{DEFAULT_INPUT, Inputs, Request, Tensor, answer, input_name};
use crate::http::error::{ApiError, Code};

/// Most images in one request.
pub const MAX_IMAGES: usize = 64;

/// The input's dimensions after the first, in the order of the model's layout.
#[must_use]
pub fn shape(model: &Model) -> [usize; 3] {
    let input = &model.input;
    let (channels, height, width) = (
        input.channels.count(),
        input.height as usize,
        input.width as usize,
    );
    match input.layout {
        Layout::Nchw => [channels, height, width],
        Layout::Nhwc => [height, width, channels],
    }
}

/// The output's dimensions after the first; -1 stands for any number.
#[must_use]
pub fn output_shape(model: &Model) -> Vec<i64> {
    match model.task {
        Task::Classify | Task::Multilabel => {
            vec![i64::try_from(model.labels.len()).unwrap_or(i64::MAX)]
        }
        Task::Detect => vec![-1, BOX_VALUES as i64],
        Task::Embed => vec![-1],
    }
}

/// What a job carries for each image of the request.
///
/// # Errors
/// `invalid_tensor` where the model does not take it, or has not what is asked for.
pub fn rows(request: &Request, model: &Model) -> Result<Vec<Bytes>, ApiError> {
    answer::check(request, model)?;
    let image: usize = shape(model).iter().product();
    let (datatype, values) = match &request.inputs {
        Inputs::Raw(values) => (Datatype::Fp32, values),
        Inputs::Named(tensors) => {
            let tensor = fitting(tensors, model)?;
            (tensor.datatype, &tensor.values)
        }
    };
    let row = image * datatype.size();
    let images = values.len() / row;
    if !values.len().is_multiple_of(row) || !(1..=MAX_IMAGES).contains(&images) {
        return Err(wrong(format!(
            "a request has 1 to {MAX_IMAGES} whole images of {row} bytes each"
        )));
    }
    if datatype == Datatype::Fp32 && tensor::floats(values).is_none() {
        return Err(wrong(
            "the tensor has values that are no numbers".to_owned(),
        ));
    }
    let job = |values: &[u8]| {
        let mut bytes = BytesMut::new();
        tensor::write(datatype, values, &mut bytes);
        bytes.freeze()
    };
    Ok(values.chunks_exact(row).map(job).collect())
}

/// The only input, if the model takes it.
fn fitting<'t>(tensors: &'t [Tensor], model: &Model) -> Result<&'t Tensor, ApiError> {
    let name = input_name(model);
    let [tensor] = tensors else {
        return Err(wrong(format!(
            "the model has one input, `{name}`; the request has {}",
            tensors.len()
        )));
    };
    if tensor.name != name && tensor.name != DEFAULT_INPUT {
        return Err(wrong(format!("the model's input is called `{name}`")));
    }
    let wanted = shape(model);
    match tensor.shape.as_slice() {
        [1..=MAX_IMAGES, rest @ ..] if *rest == wanted => Ok(tensor),
        _ => {
            let [a, b, c] = wanted;
            Err(wrong(format!(
                "input `{name}`: its shape must be [1 to {MAX_IMAGES}, {a}, {b}, {c}]"
            )))
        }
    }
}

fn wrong(detail: String) -> ApiError {
    ApiError::new(Code::InvalidTensor, detail)
}
