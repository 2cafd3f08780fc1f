//! Values to an inference response: JSON, or JSON with binary values behind it.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::catalog::{Model, Task};
use selvage_core::outcome::Scores;
use selvage_core::output::{BOX_VALUES, Ranked};
use serde::Serialize;
use utoipa::ToSchema;

use super::{DEFAULT_OUTPUT, JSON_LENGTH, Request, RequestedOutput, output_name};
use crate::http::error::{ApiError, Code};

/// The answers to one request, image by image.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The model that was asked.
    pub model: &'a Model,
    /// What was asked.
    pub request: &'a Request,
    /// What it answered.
    pub values: &'a [Scores],
}

/// The JSON of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceResponse)]
pub struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Shown<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceOutput)]
struct Shown<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BinaryData)]
struct Binary {
    binary_data_size: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = InferenceData)]
enum Data {
    Values(Vec<f32>),
    Classes(Vec<String>),
}

impl Data {
    fn of(images: &[Scores], model: &Model, classes: Option<usize>) -> Self {
        let images = images.iter().map(Scores::as_slice);
        if model.task == Task::Detect {
            return Self::Values(padded(images.map(boxes).collect()));
        }
        let Some(classes) = classes else {
            return Self::Values(images.flatten().copied().collect());
        };
        let meaning = model.meaning();
        let best = images.flat_map(|scores| meaning.rank(scores, classes));
        let text = |ranked: Ranked| format!("{}:{}:{}", ranked.score, ranked.index, ranked.label);
        Self::Classes(best.map(text).collect())
    }

    const fn datatype(&self) -> &'static str {
        match self {
            Self::Values(_) => "FP32",
            Self::Classes(_) => "BYTES",
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Classes(classes) => classes.len(),
        }
    }

    /// Little-endian floats, or texts each behind its length in four bytes.
    fn append(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Values(values) => values
                .iter()
                .for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::Classes(classes) => {
                for class in classes {
                    bytes.extend(u32::try_from(class.len()).unwrap_or(u32::MAX).to_le_bytes());
                    bytes.extend(class.as_bytes());
                }
            }
        }
    }
}

/// The boxes of a detector's values, without the size of the picture.
fn boxes(values: &[f32]) -> Vec<f32> {
    values.get(2..).unwrap_or_default().to_vec()
}

/// Images have different numbers of boxes: rows of zeros, whose score is 0, fill them up to one box at least.
fn padded(mut images: Vec<Vec<f32>>) -> Vec<f32> {
    let longest = images.iter().map(Vec::len).max().unwrap_or_default();
    let longest = longest.max(BOX_VALUES);
    images
        .iter_mut()
        .for_each(|boxes| boxes.resize(longest, 0.0));
    images.concat()
}

/// Refuses outputs the model does not have, before any work is done for them.
///
/// # Errors
/// `invalid_tensor`.
pub(super) fn check(request: &Request, model: &Model) -> Result<(), ApiError> {
    let name = output_name(model);
    let is_known =
        |wanted: &RequestedOutput| [name, DEFAULT_OUTPUT].contains(&wanted.name.as_str());
    if request.outputs.len() > 1 || !request.outputs.iter().all(is_known) {
        let detail = format!("the model has one output, called `{name}`");
        return Err(ApiError::new(Code::InvalidTensor, detail));
    }
    let ranks = request
        .outputs
        .iter()
        .any(|wanted| wanted.classes.is_some());
    if ranks && !matches!(model.task, Task::Classify | Task::Multilabel) {
        let detail = "parameters.classification: the model's values are no scores of labels";
        return Err(ApiError::new(Code::InvalidTensor, detail));
    }
    Ok(())
}

/// Images, then the values of each; a detector's are rows of one box each.
fn shape(model: &Model, images: usize, values: usize) -> Vec<usize> {
    let each = values / images.max(1);
    match model.task {
        Task::Detect => vec![images, each / BOX_VALUES, BOX_VALUES],
        Task::Classify | Task::Multilabel | Task::Embed => vec![images, each],
    }
}

/// The response, complete but for headers every answer has.
///
/// # Errors
/// `invalid_tensor` for outputs the model does not have.
pub fn respond(answer: Answer<'_>) -> Result<Response, ApiError> {
    let Answer {
        model,
        request,
        values: images,
    } = answer;
    check(request, model)?;
    let wanted = request.outputs.first();
    let binary = wanted
        .and_then(|wanted| wanted.binary)
        .unwrap_or(request.binary);
    let data = Data::of(images, model, wanted.and_then(|wanted| wanted.classes));
    let mut values = Vec::new();
    if binary {
        data.append(&mut values);
    }
    let shown = Shown {
        name: wanted.map_or(output_name(model), |wanted| &wanted.name),
        datatype: data.datatype(),
        shape: shape(model, images.len(), data.len()),
        parameters: binary.then_some(Binary {
            binary_data_size: values.len(),
        }),
        data: (!binary).then_some(data),
    };
    let body = Body {
        model_name: model.name.as_str(),
        model_version: &model.version,
        id: request.id.as_deref(),
        outputs: vec![shown],
    };
    let mut bytes = serde_json::to_vec(&body).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    let kind = if binary {
        "application/octet-stream"
    } else {
        "application/json"
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if binary {
        headers.insert(
            HeaderName::from_static(JSON_LENGTH),
            HeaderValue::from(bytes.len()),
        );
        bytes.extend(values);
    }
    Ok((headers, bytes).into_response())
}
